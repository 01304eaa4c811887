//! TensorFlow's functions that are one of its ops, argument for argument: most of `tf.raw_ops`, `tf.math`, `tf.strings`.
//!
//! What has no row of its own is found by its name; what it takes and gives is in the op's signature.

use std::collections::HashMap;

use modelark_artifact::graph::ops::{find, names, signature};
use modelark_artifact::graph::{ArgType, Attr, OpSignature, Sym};
use modelark_artifact::tensor::{DType, PartialShape};
use modelark_artifact::{Error, Result};
use serde_json::Value;

use super::arguments::Args;
use super::table::Form::Op;
use super::table::{Row, row};
use crate::config::expected;

/// The op that a function is by its name: `math.xlogy` is `Xlogy`, `strings.strip` is `StringStrip`.
pub(super) fn op_of(function: &str) -> Option<&'static OpSignature> {
    let (module, last) = function.rsplit_once('.').unwrap_or(("", function));
    let camel: String = last.split('_').map(|word| {
        let mut letters = word.chars();
        letters.next().map(|c| c.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
    }).collect();
    let before = match module.rsplit('.').next() {
        Some("strings") => "String",
        Some("linalg") => "Matrix",
        _ => "",
    };
    let candidates = if module.ends_with("raw_ops") {
        [last.to_owned(), String::new(), String::new()]
    } else {
        [camel.clone(), format!("{before}{camel}"), last.to_ascii_uppercase()]
    };
    // Side effects and whole functions as attributes are no single op between layers.
    let plain = |s: &&OpSignature| !s.stateful && s.attrs.iter().all(|a| !a.kind.contains("func")) && !s.inputs.is_empty();
    candidates.iter().filter(|name| find(name).is_some()).find_map(|name| signature(name).ok().filter(plain))
}

/// An op's arguments in the order of TensorFlow's functions: inputs, attributes that must be given, and the others.
pub(super) fn parameters(signature: &'static OpSignature) -> Vec<&'static str> {
    let inferred = |name: &str| {
        signature.inputs.iter().any(|i| match &i.ty {
            ArgType::Attr(ty) | ArgType::List(ty) => ty == name,
            ArgType::Repeated(count, ty) => count == name || matches!(&**ty, ArgType::Attr(ty) if ty == name),
            ArgType::Fixed(_) => false,
        })
    };
    let attrs = || signature.attrs.iter().filter(|a| !inferred(&a.name));
    let inputs = signature.inputs.iter().map(|i| i.name.as_str());
    let required = attrs().filter(|a| a.default.is_none()).map(|a| a.name.as_str());
    let others = attrs().filter(|a| a.default.is_some()).map(|a| a.name.as_str());
    inputs.chain(required).chain(others).collect()
}

/// An attribute of a kind from a plain value.
fn attribute(kind: &str, value: &Value) -> Result<Attr> {
    if let Some(kind) = kind.strip_prefix("list(").and_then(|k| k.strip_suffix(')')) {
        let items = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
        return Ok(Attr::List(items.iter().map(|v| attribute(kind, v)).collect::<Result<_>>()?));
    }
    let dtype = |value: &Value| -> Option<DType> {
        let name = value.as_str().or_else(|| value.pointer("/config/name").and_then(Value::as_str))?;
        name.strip_prefix("tf.").unwrap_or(name).parse().ok()
    };
    let found = match kind {
        "string" => value.as_str().map(|s| Attr::String(s.as_bytes().to_vec())),
        "int" => value.as_i64().or_else(|| value.as_f64().map(|f| f as i64)).map(Attr::Int),
        "float" => value.as_f64().map(|f| Attr::Float(f as f32)),
        "bool" => value.as_bool().map(Attr::Bool),
        "type" => dtype(value).map(Attr::Type),
        "shape" => value.as_array().map(|dims| {
            let dims = dims.iter().map(|d| d.as_u64().and_then(|d| usize::try_from(d).ok()));
            Attr::Shape(PartialShape::new(dims.collect::<Vec<_>>()))
        }),
        _ => None,
    };
    found.ok_or_else(|| expected(&format!("an attribute of kind {kind}"), value))
}

/// Traces an op by its signature.
pub(super) fn trace(args: &mut Args<'_, '_>, op: &str) -> Result<Vec<Sym>> {
    let signature = signature(op)?;
    if let Some((_, argument)) = args.named.iter().find(|(name, a)| name.is_empty() && !is_nothing(a)) {
        return Err(Error::unsupported(format!("an argument that the op {op} doesn't have, {argument:?}")));
    }
    // Numbers take the dtype of the tensors beside them.
    let mut dtypes: HashMap<&str, DType> = HashMap::new();
    for input in &signature.inputs {
        let first = args.find(&input.name).and_then(|a| a.tensors().first().copied());
        let first = first.and_then(|i| args.given.get(i)).copied();
        let ty = if let ArgType::Repeated(_, inner) = &input.ty { &**inner } else { &input.ty };
        if let (ArgType::Attr(ty), Some(x)) = (ty, first) {
            dtypes.entry(ty.as_str()).or_insert(args.call.dtype(x));
        }
    }
    let mut inputs = Vec::new();
    for input in &signature.inputs {
        let dtype = |ty: &ArgType| match ty {
            ArgType::Fixed(dtype) => Some(*dtype),
            ArgType::Attr(ty) => dtypes.get(ty.as_str()).copied().or_else(|| default_type(signature, ty)),
            _ => None,
        };
        match &input.ty {
            ArgType::Repeated(..) | ArgType::List(_) => inputs.extend(args.list(&input.name)?),
            ty => inputs.push(args.typed(&input.name, dtype(ty))?),
        }
    }
    let mut attrs = Vec::new();
    for attr in &signature.attrs {
        if let Some(value) = args.value(&attr.name) {
            let value = attribute(&attr.kind, &value).map_err(|e| e.at(format!("argument {:?}", attr.name)))?;
            attrs.push((attr.name.as_str(), value));
        }
    }
    let mut call = args.call.op(op).inputs(&inputs);
    for (name, value) in attrs {
        call = call.attr(name, value);
    }
    Ok(call.all()?)
}

fn is_nothing(argument: &crate::Argument<usize>) -> bool {
    matches!(argument, crate::Argument::Value(Value::Null))
}

fn default_type(signature: &OpSignature, name: &str) -> Option<DType> {
    match signature.attrs.iter().find(|a| a.name == name)?.default {
        Some(Attr::Type(dtype)) => Some(dtype),
        _ => None,
    }
}

/// All ops that a function may be by its name.
pub(super) fn ops() -> impl Iterator<Item = &'static str> {
    names().into_iter()
}

pub(super) const ROWS: &[Row] = &[
    row("= nn.local_response_normalization(input depth_radius bias alpha beta) | nn.lrn(input depth_radius bias alpha beta)", Op("LRN")),
    row("= nn.l2_loss(t)", Op("L2Loss")),
    row("= math.add_n(inputs) | add_n(inputs)", Op("AddN")),
    row("= reverse_sequence(input seq_lengths seq_axis:seq_dim batch_axis:batch_dim)", Op("ReverseSequence")),
    row("= tensor_scatter_nd_update(tensor indices updates)", Op("TensorScatterUpdate")),
    row("= tensor_scatter_nd_add(tensor indices updates)", Op("TensorScatterAdd")),
    row("= tensor_scatter_nd_sub(tensor indices updates)", Op("TensorScatterSub")),
    row("= tensor_scatter_nd_max(tensor indices updates)", Op("TensorScatterMax")),
    row("= tensor_scatter_nd_min(tensor indices updates)", Op("TensorScatterMin")),
    row("= linalg.diag_part(input)", Op("MatrixDiagPart")),
    row("= linalg.diag(diagonal)", Op("MatrixDiag")),
    row("= linalg.set_diag(input diagonal)", Op("MatrixSetDiag")),
    row("= broadcast_dynamic_shape(shape_x:s0 shape_y:s1)", Op("BroadcastArgs")),
    row(
        "= strings.reduce_join(inputs axis:reduction_indices keepdims:keep_dims separator)",
        Op("ReduceJoin"),
    ),
    row("= strings.to_number(input:string_tensor out_type)", Op("StringToNumber")),
    row("= strings.regex_replace(input pattern rewrite replace_global)", Op("RegexReplace")),
    row("= strings.as_string(input precision scientific shortest width fill) | as_string(input precision scientific shortest width fill)", Op("AsString")),
    row("= strings.to_hash_bucket(input:string_tensor num_buckets)", Op("StringToHashBucket")),
    row("= strings.to_hash_bucket_fast(input num_buckets)", Op("StringToHashBucketFast")),
    row("= strings.to_hash_bucket_strong(input num_buckets key)", Op("StringToHashBucketStrong")),
    row("= strings.substr(input pos len unit)", Op("Substr")),
    row("= space_to_batch_nd(input block_shape paddings)", Op("SpaceToBatchND")),
    row("= batch_to_space(input block_shape crops)", Op("BatchToSpaceND")),
    row("= image.crop_and_resize(image boxes box_indices:box_ind crop_size method extrapolation_value)", Op("CropAndResize")),
    row("= image.adjust_contrast(images contrast_factor)", Op("AdjustContrastv2")),
    row("= image.adjust_hue(image:images delta)", Op("AdjustHue")),
    row("= image.adjust_saturation(image:images saturation_factor:scale)", Op("AdjustSaturation")),
    row("= math.unsorted_segment_join(inputs segment_ids num_segments separator)", Op("UnsortedSegmentJoin")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_ops() {
        let op = |function: &str| op_of(function).map(|s| s.name.as_str());
        assert_eq!(op("math.xlogy"), Some("Xlogy"));
        assert_eq!(op("strings.strip"), Some("StringStrip"));
        assert_eq!(op("raw_ops.Igamma"), Some("Igamma"));
        assert_eq!(op("signal.fft2d"), Some("FFT2D"));
        assert_eq!(op("keras.nonsense"), None);
        // It would need a function.
        assert_eq!(op("raw_ops.While"), None);
        assert_eq!(op("raw_ops.AssignVariableOp"), None);
    }

    #[test]
    fn arguments_come_in_tensorflows_order() {
        let signature = signature("LRN").unwrap();
        assert_eq!(parameters(signature), ["input", "depth_radius", "bias", "alpha", "beta"]);
        let signature = super::signature("StringToHashBucketFast").unwrap();
        assert_eq!(parameters(signature), ["input", "num_buckets"]);
    }
}
