//! Every recurring task of the workspace, as a table of verbs.
fn main() {}
