//! Pickles as data: a reader that can build arrays, numbers, strings, lists, tuples and dicts, and nothing else; and
//! a writer of lists of arrays.
//!
//! A pickle is a program for a machine that may call anything. [`read`] runs that machine, but knows only the few
//! globals that NumPy's arrays consist of; any other global or opcode is an error that names it and its offset. What a
//! pickle of anything else spells out is found by [`constants`], which runs nothing.

mod constants;
mod globals;
mod machine;
mod opcode;
mod spelling;
mod value;
mod writer;

pub use constants::{Constant, constants};
pub use machine::read;
pub use value::Value;
pub use writer::{Item, write, write_object_array};
