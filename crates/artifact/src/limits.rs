//! How much a file may ask for.

use std::time::Duration;

use modelark_graph::engine::RunOptions;

/// Bounds on what reading a file, and running what it holds, may use, set by the caller and checked before anything is allocated.
///
/// The defaults are safe for files from strangers and generous for real models.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that one tensor may take in memory.
    pub tensor_bytes: u64,
    /// Bytes that something compressed may expand to, in all.
    pub expanded_bytes: u64,
    /// Bytes that a text (a config, a vocabulary, a header) may have.
    pub text_bytes: u64,
    /// How deep configs, protocol buffers and groups may nest.
    pub depth: usize,
    /// How many tensors, objects, nodes or entries a file may list.
    pub items: usize,
    /// Whether checksums are compared while reading.
    pub verify: bool,
    /// Bytes that the values of one run of a function may take at any one time, variables not counted.
    pub run_bytes: u64,
    /// How long one run of a function may take.
    pub run_time: Option<Duration>,
    /// How many loop iterations and calls of functions one run may make.
    pub run_steps: Option<u64>,
    /// Whether graphs run as they are written, with no passes that make them faster: to settle a doubt.
    pub run_as_written: bool,
}

impl Limits {
    /// The bounds on a run.
    pub fn run_options(&self) -> RunOptions {
        RunOptions {
            max_bytes: usize::try_from(self.run_bytes).unwrap_or(usize::MAX),
            time: self.run_time,
            max_steps: self.run_steps,
            ..RunOptions::default()
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            tensor_bytes: 64 << 30,
            expanded_bytes: 64 << 30,
            text_bytes: 256 << 20,
            depth: 128,
            items: 10_000_000,
            verify: true,
            run_bytes: 16 << 30,
            run_time: None,
            run_steps: None,
            run_as_written: false,
        }
    }
}
