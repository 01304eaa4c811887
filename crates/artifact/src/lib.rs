//! The format-neutral model: object tree, lazy variables, configs, and what a format is.
