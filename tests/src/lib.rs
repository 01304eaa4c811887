//! The cross-format matrix and the fixtures.
