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
    applications
    attention
    bidirectional
    categories
    cell_wrappers
    contrast
    conv_lstm
    convolution
    convolution_transpose
    dense
    dense_features
    depthwise
    dropout
    einsum_dense
    embedding
    foreign
    grouped_query_attention
    gru
    images
    input
    keras1
    leaky
    linear_model
    locally_connected
    lookup
    lstm
    merge
    multi_head_attention
    normalization
    operation
    padding
    pipeline
    pooling
    random_features
    rescaling
    reshape
    rnn
    simple_rnn
    spectral_normalization
    spectrogram
    stacked_cells
    standardization
    text
    time_distributed
    upsampling
}

/// Where Keras's layers are.
const LAYERS_MODULE: &str = "keras.layers";

/// A class of layers: its names and its constructor.
#[derive(Debug)]
pub struct Entry {
    /// The class's name, then names that older versions have for it.
    pub names: &'static [&'static str],
    /// Makes a layer as the constructor does, before a config is read into it.
    pub new: fn() -> Box<dyn Layer>,
    /// What Keras 1 called the options of this class alone.
    pub former: &'static [Former],
    /// Where Python finds the class.
    pub module: &'static str,
    /// The name under which Keras 2 has the class registered, where it isn't one of `keras.layers`.
    pub registered: Option<&'static str>,
    /// Whether Keras 2 doesn't find the class when it loads a SavedModel, and needs its functions.
    pub revived: bool,
}

impl Entry {
    /// A class under these names.
    pub const fn of<L: Layer + Default>(names: &'static [&'static str]) -> Self {
        Entry::made(names, || Box::new(L::default()))
    }

    /// A class under these names, made so.
    pub const fn made(names: &'static [&'static str], new: fn() -> Box<dyn Layer>) -> Self {
        Entry { names, new, former: &[], module: LAYERS_MODULE, registered: None, revived: false }
    }

    /// The same class with what Keras 1 called its options.
    pub const fn formerly(self, former: &'static [Former]) -> Self {
        Entry { former, ..self }
    }

    /// The same class in another module than `keras.layers`.
    pub const fn within(self, module: &'static str) -> Self {
        Entry { module, ..self }
    }

    /// The same class as Keras 2 has it registered.
    pub const fn registered(self, name: &'static str) -> Self {
        Entry { registered: Some(name), ..self }
    }

    /// The same class, which Keras 2 doesn't find when it loads a SavedModel.
    pub const fn revived(self) -> Self {
        Entry { revived: true, ..self }
    }

    /// Whether the class isn't among `keras.layers`.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.module != LAYERS_MODULE
    }

    /// The name that says where the class is, for one that isn't among `keras.layers`.
    pub(crate) fn registered_name(&self) -> Option<&'static str> {
        let own =
            (self.revived || self.is_elsewhere()).then(|| self.names.first().copied().unwrap_or_default());
        self.registered.or(own)
    }
}

/// All classes.
pub fn entries() -> impl Iterator<Item = &'static Entry> {
    FAMILIES.iter().flat_map(|f| f.iter())
}
