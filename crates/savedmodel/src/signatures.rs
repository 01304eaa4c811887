//! How a function's references name the outputs of its nodes: `node:argument:index`, by the op's signature.
//!
//! An op's signature is the registry's; for ops that it doesn't have, what the file itself says of them
//! (`stripped_op_list`); for functions called as ops, the function's own.

use std::collections::HashMap;
use std::iter;
use std::ops::Range;
use std::sync::OnceLock;

use modelark_artifact::Limits;
use modelark_checkpoint::wire;
use modelark_graph::{ArgDef, ArgType, Attr, AttrDef, Attrs, OpSignature, ops};
use modelark_proto::{FunctionDef, Message, OpDef, bytes::Bytes, op_def};

use crate::attr::attr_from_proto;

/// The signatures that one MetaGraph's functions are read and written with.
#[derive(Debug, Default)]
pub(crate) struct Signatures {
    own: HashMap<String, OpSignature>,
    /// Functions by name, encoded: few are called as ops.
    functions: HashMap<String, (Bytes, OnceLock<Option<OpSignature>>)>,
}

impl Signatures {
    /// The signatures of these op definitions, beside the registry's.
    pub(crate) fn new<'a>(definitions: impl IntoIterator<Item = &'a OpDef>, limits: &Limits) -> Self {
        let own = definitions.into_iter().map(|d| (d.name.clone(), from_proto(d, limits))).collect();
        Signatures { own, functions: HashMap::new() }
    }

    /// Adds a function that may be called as an op: its encoded message.
    pub(crate) fn encoded_function(&mut self, name: String, message: Bytes) {
        self.functions.insert(name, (message, OnceLock::new()));
    }

    /// Adds a function that is called as an op: each result is one output.
    pub(crate) fn function(&mut self, function: &modelark_graph::Function) {
        let outputs = function
            .results
            .iter()
            .map(|r| ArgDef { name: r.name.clone(), ty: ArgType::Fixed(r.dtype), is_ref: false })
            .collect();
        let signature = OpSignature {
            name: function.name.clone(),
            inputs: Vec::new(),
            outputs,
            attrs: Vec::new(),
            stateful: function.stateful,
        };
        self.own.insert(function.name.clone(), signature);
    }

    /// Whether anybody knows this op.
    pub(crate) fn knows(&self, op: &str) -> bool {
        self.candidates(op).next().is_some()
    }

    /// The flat indexes of output argument `argument` of a node: all of it, or tensor `index` of it alone.
    pub(crate) fn outputs(
        &self,
        op: &str,
        attrs: &Attrs,
        argument: &str,
        index: Option<usize>,
    ) -> Option<Range<usize>> {
        self.candidates(op).find_map(|signature| {
            let mut start = 0usize;
            for output in &signature.outputs {
                let count = count(signature, &output.ty, attrs)?;
                if output.name == argument {
                    return match index {
                        None => Some(start..start + count),
                        Some(i) if i < count => Some(start + i..start + i + 1),
                        Some(_) => None,
                    };
                }
                start = start.checked_add(count)?;
            }
            None
        })
    }

    /// The output argument's name and the index within it of a node's flat output: the inverse of [`Self::outputs`].
    pub(crate) fn name(&self, op: &str, attrs: &Attrs, flat: usize) -> Option<(String, usize)> {
        self.candidates(op).find_map(|signature| {
            let mut rest = flat;
            for output in &signature.outputs {
                let count = count(signature, &output.ty, attrs)?;
                if rest < count {
                    return Some((output.name.clone(), rest));
                }
                rest -= count;
            }
            None
        })
    }

    fn candidates<'a>(&'a self, op: &'a str) -> impl Iterator<Item = &'a OpSignature> {
        let function = move || {
            let (message, read) = self.functions.get(op)?;
            let signature = || FunctionDef::decode(message.clone()).ok()?.signature;
            read.get_or_init(|| Some(from_proto(&signature()?, &Limits::default()))).as_ref()
        };
        let own = move || self.own.get(op).or_else(function);
        ops::signature(op).ok().into_iter().chain(iter::once_with(own).flatten())
    }
}

/// How many tensors an argument is.
fn count(signature: &OpSignature, ty: &ArgType, attrs: &Attrs) -> Option<usize> {
    // More tensors than this are no graph's, only an attack's.
    const MOST: usize = 1 << 20;
    match ty {
        ArgType::Fixed(_) | ArgType::Attr(_) => Some(1),
        ArgType::Repeated(number, inner) => {
            let number = usize::try_from(signature.attr(attrs, number)?.as_int()?).ok()?;
            number.checked_mul(count(signature, inner, attrs)?).filter(|n| *n <= MOST)
        }
        ArgType::List(types) => Some(signature.attr(attrs, types)?.as_list()?.len()),
    }
}

/// The signature that an op's or a function's definition describes.
fn from_proto(definition: &OpDef, limits: &Limits) -> OpSignature {
    let args = |args: &[op_def::ArgDef]| args.iter().map(arg_from_proto).collect();
    let attr = |a: &op_def::AttrDef| AttrDef {
        name: a.name.clone(),
        kind: a.r#type.clone(),
        default: default_from_proto(a, limits),
    };
    OpSignature {
        name: definition.name.clone(),
        inputs: args(&definition.input_arg),
        outputs: args(&definition.output_arg),
        attrs: definition.attr.iter().map(attr).collect(),
        stateful: definition.is_stateful,
    }
}

fn default_from_proto(attr: &op_def::AttrDef, limits: &Limits) -> Option<Attr> {
    attr_from_proto(attr.default_value.clone()?, limits).ok()?.ok()
}

fn arg_from_proto(arg: &op_def::ArgDef) -> ArgDef {
    let single = match wire::dtype_from_proto(arg.r#type) {
        Ok(dtype) => ArgType::Fixed(dtype),
        Err(_) => ArgType::Attr(arg.type_attr.clone()),
    };
    let ty = if !arg.number_attr.is_empty() {
        ArgType::Repeated(arg.number_attr.clone(), Box::new(single))
    } else if !arg.type_list_attr.is_empty() {
        ArgType::List(arg.type_list_attr.clone())
    } else {
        single
    };
    ArgDef { name: arg.name.clone(), ty, is_ref: arg.is_ref }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arg(name: &str, number: &str, list: &str) -> op_def::ArgDef {
        op_def::ArgDef {
            name: name.into(),
            r#type: if list.is_empty() { 1 } else { 0 },
            number_attr: number.into(),
            type_list_attr: list.into(),
            ..Default::default()
        }
    }

    #[test]
    fn the_files_own_definitions_serve_where_the_registry_has_none() {
        let def = OpDef {
            name: "SimpleMLOp".into(),
            output_arg: vec![arg("a", "", ""), arg("b", "N", ""), arg("c", "", "Tout")],
            ..Default::default()
        };
        let s = Signatures::new([&def], &Limits::default());
        let attrs = Attrs::from([
            ("N".to_owned(), Attr::Int(3)),
            ("Tout".to_owned(), Attr::from(vec![modelark_graph::tensor::DType::F32; 2])),
        ]);
        assert_eq!(s.outputs("SimpleMLOp", &attrs, "b", Some(2)), Some(3..4));
        assert_eq!(s.outputs("SimpleMLOp", &attrs, "b", None), Some(1..4));
        assert_eq!(s.outputs("SimpleMLOp", &attrs, "c", Some(1)), Some(5..6));
        assert_eq!(s.outputs("SimpleMLOp", &attrs, "c", Some(2)), None);
        assert_eq!(s.outputs("SimpleMLOp", &Attrs::new(), "b", Some(0)), None);
        assert_eq!(s.name("SimpleMLOp", &attrs, 5), Some(("c".to_owned(), 1)));
        assert_eq!(s.name("SimpleMLOp", &attrs, 6), None);
        assert!(s.knows("Identity") && !s.knows("Nope"));
    }
}
