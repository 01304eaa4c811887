//! Recurrent layers over whole sequences.
//!
//! What the inputs contribute is one matrix product over all steps; then the steps follow one another, each adding
//! what the state contributes. Batches are shared by threads. Weights, gate order and masks are Keras's.

mod gru;
mod lstm;
mod sequence;
mod simple;
mod state;

pub use gru::{Gru, gru};
pub use lstm::{Lstm, lstm};
pub use sequence::{Recurrence, Sequence};
pub use simple::simple_rnn;
