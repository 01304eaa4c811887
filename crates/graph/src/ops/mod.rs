//! The ops: one file a family, each op its signature and its kernel.
//!
//! A family's file declares `pub(super) const OPS: &[Op]`. The list below is the only one: it declares the module and
//! registers its ops.

use std::sync::{LazyLock, OnceLock};

use foldhash::HashMap;

pub use dtypes::dtypes;
pub use tables::table_entries;

use crate::engine::Kernel;
use crate::{Attr, Attrs, Builder, Error, Node, OpSignature, Result, Sym};

macro_rules! families {
    ($($module:ident)*) => {
        $(mod $module;)*
        const FAMILIES: &[&[Op]] = &[$($module::OPS),*];
    };
}

mod args;
mod coordinates;
mod dtypes;
mod kept;
mod ranks;
mod shared;
mod wire;

families! {
    accumulators
    activations
    arithmetic
    arrays
    attention
    barriers
    basic
    batches
    block_gradients
    blocks
    boxes
    branches
    calls
    checkpoint
    colours
    compare
    composites
    counts
    crops
    crosses
    cudnn
    diagonals
    distinct
    einsum
    encodings
    examples
    fake_quant
    fractional
    functions
    fused
    gather
    gradients
    hashes
    hlo
    householder
    images
    json_examples
    keyed_maps
    layouts
    linalg
    lists
    loops
    losses
    messages
    moves
    mutexes
    normalise
    numbers
    pictures
    prints
    products
    protos
    quantize
    quantized
    quantized_fusions
    quantized_images
    queues
    ragged
    random
    recurrent
    reductions
    regex
    sampling
    segments
    sequences
    sets
    shapes
    signal
    slices
    sobol
    sparse
    sparse_math
    sparse_wire
    staging
    statistics
    strings
    tables
    texts
    training
    unicode
    uniform
    updates
    variables
    warps
    window_fusions
    window_gradients
    windows
    xla_call_module
}

pub(crate) use fused::follows;
pub(crate) use variables::{ANONYMOUS, AS_LOADED};
pub(crate) use xla_call_module::MODULE_OF_VARIABLES;
pub use xla_call_module::{HeldModule, NAME as XLA_CALL_MODULE, held_module};

/// What an op is: its signature as text, what makes a kernel from a node's attributes, and, for a composite op of our
/// own, how TensorFlow's ops say it.
pub struct Op {
    /// As [`OpSignature::parse`] reads it.
    pub signature: &'static str,
    /// Makes the kernel for a node with these attributes.
    pub kernel: fn(&NodeAttrs<'_>) -> Result<Box<dyn Kernel>>,
    /// Traces TensorFlow's own ops in place of this one, for saving; `None` for TensorFlow's ops.
    pub expand: Option<Expand>,
    /// Whether its outputs are its inputs, so that no kernel need run.
    pub(crate) passes: bool,
    /// What shapes its inputs have to have, as [`ranks::checked`] reads it; empty where the kernel looks itself.
    ranks: &'static str,
}

/// Traces what a composite op means with TensorFlow's ops: from its attributes and inputs to its outputs.
pub type Expand = fn(&mut Builder, &NodeAttrs<'_>, &[Sym]) -> Result<Vec<Sym>>;

impl Op {
    /// An op of TensorFlow's.
    pub const fn new(signature: &'static str, kernel: fn(&NodeAttrs<'_>) -> Result<Box<dyn Kernel>>) -> Self {
        Op { signature, kernel, expand: None, passes: false, ranks: "" }
    }

    /// An op of TensorFlow's that passes its inputs on as they are.
    pub(crate) const fn passing(signature: &'static str) -> Self {
        Op {
            signature,
            kernel: |_| Ok(crate::engine::kernel(|_, inputs| Ok(inputs))),
            expand: None,
            passes: true,
            ranks: "",
        }
    }

    /// The same op, which refuses inputs of other ranks: see [`ranks::checked`].
    const fn ranks(self, ranks: &'static str) -> Self {
        Op { ranks, ..self }
    }

    /// The kernel for a node with these attributes.
    ///
    /// # Errors
    /// When an attribute is missing or isn't what the op takes.
    pub fn make(&self, attrs: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
        let made = (self.kernel)(attrs)?;
        Ok(if self.ranks.is_empty() { made } else { ranks::checked(made, self.ranks) })
    }

    /// The op's name.
    pub fn name(&self) -> &'static str {
        name_of(self.signature)
    }
}

/// A signature that is parsed when it is first asked for. It is small, since there are many of which few are.
struct Text {
    text: &'static str,
    signature: OnceLock<Box<Result<OpSignature>>>,
}

impl Text {
    fn new(text: &'static str) -> Text {
        Text { text, signature: OnceLock::new() }
    }

    fn parsed(&self) -> Result<&OpSignature> {
        let signature = self.signature.get_or_init(|| Box::new(OpSignature::parse(self.text)));
        (**signature).as_ref().map_err(Clone::clone)
    }
}

/// The ops that can run.
static RUN: LazyLock<HashMap<&'static str, (&'static Op, Text)>> = LazyLock::new(|| {
    let ops = FAMILIES.iter().flat_map(|f| f.iter());
    ops.map(|op| (name_of(op.signature), (op, Text::new(op.signature)))).collect()
});

/// TensorFlow's ops that have no kernel here, one a line, so that graphs that use them can be read and written.
static DECLARED: LazyLock<HashMap<&'static str, Text>> =
    LazyLock::new(|| declared().map(|line| (name_of(line), Text::new(line))).collect());

fn declared() -> impl Iterator<Item = &'static str> {
    include_str!("declared.txt").lines().filter(|l| !l.starts_with('#'))
}

fn name_of(signature: &str) -> &str {
    signature.split('(').next().unwrap_or_default()
}

/// The op of this name, if there is one that can run.
pub fn find(name: &str) -> Option<&'static Op> {
    RUN.get(name).map(|(op, _)| *op)
}

/// The signature of the op of this name, also of TensorFlow's ops that can't run here.
///
/// # Errors
/// When there is no such op.
pub fn signature(name: &str) -> Result<&'static OpSignature> {
    // Most graphs have none of those that are only declared.
    let text = RUN.get(name).map(|(_, text)| text).or_else(|| DECLARED.get(name));
    text.ok_or_else(|| Error::unsupported(format!("there is no op {name:?}")))?.parsed()
}

/// What a node needs and isn't here: its op, or operations of the StableHLO module that it holds.
pub fn missing(node: &Node) -> Vec<String> {
    if find(&node.op).is_none() {
        return vec![node.op.clone()];
    }
    if node.op == xla_call_module::NAME { xla_call_module::missing(node) } else { Vec::new() }
}

/// The names of all ops that can run, sorted.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = RUN.keys().copied().collect();
    names.sort_unstable();
    names
}

/// The attributes of a node, with its op's defaults behind them.
pub struct NodeAttrs<'a> {
    /// The op's signature.
    pub signature: &'a OpSignature,
    /// What the node itself says.
    pub attrs: &'a Attrs,
}

impl<'a> NodeAttrs<'a> {
    /// The attributes of `node`, whose op has `signature`.
    pub fn of(signature: &'a OpSignature, node: &'a Node) -> Self {
        NodeAttrs { signature, attrs: &node.attrs }
    }

    /// The attribute, if the node or the op's defaults have it.
    pub fn get(&self, name: &str) -> Option<&'a Attr> {
        self.signature.attr(self.attrs, name)
    }

    fn need<T>(&self, name: &str, what: &str, as_: impl Fn(&'a Attr) -> Option<T>) -> Result<T> {
        let attr = self.get(name).ok_or_else(|| Error::graph(format!("attribute {name:?} is missing")))?;
        as_(attr).ok_or_else(|| Error::graph(format!("attribute {name:?} must be {what}, got {attr:?}")))
    }

    /// An integer.
    ///
    /// # Errors
    /// When it is missing or something else; likewise below.
    pub fn int(&self, name: &str) -> Result<i64> {
        self.need(name, "an integer", Attr::as_int)
    }

    /// A float.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn float(&self, name: &str) -> Result<f32> {
        self.need(name, "a float", Attr::as_float)
    }

    /// A boolean.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn bool(&self, name: &str) -> Result<bool> {
        self.need(name, "a boolean", Attr::as_bool)
    }

    /// Text.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn str(&self, name: &str) -> Result<&'a str> {
        self.need(name, "text", Attr::as_str)
    }

    /// A dtype.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn dtype(&self, name: &str) -> Result<crate::tensor::DType> {
        self.need(name, "a dtype", Attr::as_type)
    }

    /// A function.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn func(&self, name: &str) -> Result<&'a crate::FuncRef> {
        self.need(name, "a function", Attr::as_func)
    }

    /// A list of integers.
    ///
    /// # Errors
    /// When it is missing or something else.
    pub fn ints(&self, name: &str) -> Result<Vec<i64>> {
        self.need(name, "a list of integers", |a| a.as_list()?.iter().map(Attr::as_int).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_parses_and_every_name_is_unique() {
        let all: usize = FAMILIES.iter().map(|f| f.len()).sum();
        assert_eq!(all, names().len());
        assert_eq!(declared().count(), DECLARED.len());
        assert!(DECLARED.keys().all(|name| find(name).is_none()), "an op is declared and has a kernel");
        for name in RUN.keys().chain(DECLARED.keys()) {
            assert_eq!(signature(name).expect("signature").name, *name);
        }
    }
}
