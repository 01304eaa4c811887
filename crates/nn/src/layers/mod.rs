//! The layers: one file a class, or a family of near relations.
//!
//! A file declares `pub(super) const LAYERS: &[Entry]`. The list below is the only one: it declares the module and
//! registers its classes.

use crate::Layer;
use crate::former::Former;

// What relations share; no class is in them.
mod cell;
mod sliding;

macro_rules! layers {
    ($($module:ident)*) => {
        $(mod $module; pub use $module::*;)*
        const FAMILIES: &[&[Entry]] = &[$($module::LAYERS),*];
    };
}

layers! {
    activation
    attention
    bidirectional
    categories
    conv_lstm
    convolution
    convolution_transpose
    dense
    depthwise
    dropout
    einsum_dense
    embedding
    foreign
    grouped_query_attention
    gru
    images
    input
    leaky
    locally_connected
    lookup
    lstm
    merge
    multi_head_attention
    normalization
    operation
    padding
    pooling
    rescaling
    reshape
    rnn
    simple_rnn
    spectral_normalization
    stacked_cells
    standardization
    text
    time_distributed
    upsampling
}

/// A class of layers: its names and its constructor.
#[derive(Debug)]
pub struct Entry {
    /// The class's name, then names that older versions have for it.
    pub names: &'static [&'static str],
    /// Makes a layer as the constructor does, before a config is read into it.
    pub new: fn() -> Box<dyn Layer>,
    /// What Keras 1 called the options of this class alone.
    pub former: &'static [Former],
}

impl Entry {
    /// A class under these names.
    pub const fn of<L: Layer + Default>(names: &'static [&'static str]) -> Self {
        Entry { names, new: || Box::new(L::default()), former: &[] }
    }

    /// A class under these names, made so.
    pub const fn made(names: &'static [&'static str], new: fn() -> Box<dyn Layer>) -> Self {
        Entry { names, new, former: &[] }
    }

    /// The same class with what Keras 1 called its options.
    pub const fn formerly(self, former: &'static [Former]) -> Self {
        Entry { former, ..self }
    }
}

/// All classes.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    FAMILIES.iter().flat_map(|f| f.iter())
}
