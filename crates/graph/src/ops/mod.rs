//! The ops: one file a family, each op its signature and its kernel.
//!
//! A family's file declares `pub(super) const OPS: &[Op]`. The list below is the only one: it declares the module and
//! registers its ops.

use std::collections::HashMap;
use std::sync::{LazyLock, OnceLock};

use crate::engine::Kernel;
use crate::{Attr, Attrs, Builder, Error, Node, OpSignature, Result, Sym};

macro_rules! families {
    ($($module:ident)*) => {
        $(mod $module;)*
        const FAMILIES: &[&[Op]] = &[$($module::OPS),*];
    };
}

families! {
    basic
}

/// What an op is: its signature as text, what makes a kernel from a node's attributes, and, for a composite op of our
/// own, how TensorFlow's ops say it.
pub struct Op {
    /// As [`OpSignature::parse`] reads it.
    pub signature: &'static str,
    /// Makes the kernel for a node with these attributes.
    pub kernel: fn(&NodeAttrs<'_>) -> Result<Box<dyn Kernel>>,
    /// Traces TensorFlow's own ops in place of this one, for saving; `None` for TensorFlow's ops.
    pub expand: Option<Expand>,
}

/// Traces what a composite op means with TensorFlow's ops: from its attributes and inputs to its outputs.
pub type Expand = fn(&mut Builder, &NodeAttrs<'_>, &[Sym]) -> Result<Vec<Sym>>;

impl Op {
    /// An op of TensorFlow's.
    pub const fn new(signature: &'static str, kernel: fn(&NodeAttrs<'_>) -> Result<Box<dyn Kernel>>) -> Self {
        Op { signature, kernel, expand: None }
    }

    /// The op's name.
    pub fn name(&self) -> &'static str {
        self.signature.split('(').next().unwrap_or_default()
    }
}

struct Entry {
    op: &'static Op,
    signature: OnceLock<Result<OpSignature>>,
}

static INDEX: LazyLock<HashMap<&'static str, Entry>> = LazyLock::new(|| {
    let ops = FAMILIES.iter().flat_map(|f| f.iter());
    ops.map(|op| (op.name(), Entry { op, signature: OnceLock::new() })).collect()
});

/// The op of this name, if there is one.
pub fn find(name: &str) -> Option<&'static Op> {
    INDEX.get(name).map(|e| e.op)
}

/// The signature of the op of this name.
///
/// # Errors
/// When there is no such op.
pub fn signature(name: &str) -> Result<&'static OpSignature> {
    let entry = INDEX.get(name).ok_or_else(|| Error::unsupported(format!("there is no op {name:?}")))?;
    entry.signature.get_or_init(|| OpSignature::parse(entry.op.signature)).as_ref().map_err(Clone::clone)
}

/// The names of all ops, sorted.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = INDEX.keys().copied().collect();
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
        for name in names() {
            assert_eq!(signature(name).expect("signature").name, name);
        }
    }
}
