//! The modelark program.
fn main() {}
