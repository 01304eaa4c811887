//! How much a file may ask for.

/// Bounds on what reading a file may use, set by the caller and checked before anything is allocated.
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
        }
    }
}
