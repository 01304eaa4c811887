//! Attention by heads of which several queries share keys and values: GroupQueryAttention.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Error, Result};

use super::Entry;
use super::einsum_dense::einsum;
use super::multi_head_attention::{ARGUMENTS, HeadOptions, Part, Places, Scores, head_methods, held, run_part};
use crate::config::Fields;
use crate::layer::Sublayer;
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] =
    &[Entry::of::<GroupedQueryAttention>(&["GroupedQueryAttention", "GroupQueryAttention"])];

/// Attention by heads of which several queries share keys and values (Keras: `GroupQueryAttention`, in `.h5`
/// files `GroupedQueryAttention`). It takes what [`MultiHeadAttention`](super::MultiHeadAttention) takes.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupedQueryAttention {
    head_dim: usize,
    num_query_heads: usize,
    num_key_value_heads: usize,
    options: HeadOptions,
}

impl Default for GroupedQueryAttention {
    fn default() -> Self {
        GroupedQueryAttention::new(1, 1, 1)
    }
}

head_methods!(GroupedQueryAttention);

impl GroupedQueryAttention {
    /// Heads of this size: so many of queries, and so many, which divide them, of keys and values.
    pub fn new(head_dim: usize, num_query_heads: usize, num_key_value_heads: usize) -> Self {
        GroupedQueryAttention { head_dim, num_query_heads, num_key_value_heads, options: HeadOptions::default() }
    }

    /// The sublayers of query, key, gate, value and output, by attribute, with what each takes.
    fn parts(&self, inputs: &Inputs) -> Result<Vec<Part>> {
        let [query, value, key] = Places::find(inputs).of(inputs.all())?;
        let (heads, size) = (Some(self.num_query_heads), Some(self.head_dim));
        let dense = |equation, shape, axes, name| self.options.dense(equation, shape, axes, (name, inputs.policy()));
        let queries = |name| dense("bqm,muh->bquh", vec![None, heads, size], "uh", name);
        let keys = |name| dense("bkm,mvh->bkvh", vec![None, Some(self.num_key_value_heads), size], "vh", name);
        let mut parts =
            vec![("_query_dense", queries("query"), query.clone()), ("_key_dense", keys("key"), key)];
        if self.options.use_gate {
            parts.push(("_gate_dense", queries("gate"), query.clone()));
        }
        parts.push(("_value_dense", keys("value"), value));
        let output = dense("bquh,uhm->bqm", vec![None, Some(query.known(-1)?)], "m", "attention_output");
        let leading = query.dims()?.iter().take(2).copied();
        let given = query.with_shape(leading.chain([heads, size]).collect::<Vec<_>>());
        parts.push(("_output_dense", output, given));
        Ok(parts)
    }
}

impl Layer for GroupedQueryAttention {
    fn class_name(&self) -> &str {
        "GroupedQueryAttention"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("head_dim", &mut self.head_dim);
        f.required("num_query_heads", &mut self.num_query_heads);
        f.required("num_key_value_heads", &mut self.num_key_value_heads);
        self.options.visit(f);
        if f.dialect() != Dialect::Keras3 {
            f.note(format!("Keras 2 has no class {:?}", self.class_name()));
        }
    }

    fn sublayers(&self, inputs: &Inputs) -> Result<Vec<Sublayer>> {
        Ok(held(self.parts(inputs)?))
    }

    fn arguments(&self) -> &[&str] {
        ARGUMENTS
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let [query, value, _] = Places::find(inputs).of(inputs.all())?;
        let steps = |spec: &Spec| Ok::<_, Error>(spec.dims()?.get(1).copied().flatten());
        let batch = query.dims()?.first().copied().flatten();
        let scores = query.with_shape([batch, Some(self.num_query_heads), steps(&query)?, steps(&value)?]);
        let mut outputs = vec![query];
        if inputs.flag("return_attention_scores") {
            outputs.push(scores);
        }
        Ok(outputs)
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        if self.num_key_value_heads == 0 || !self.num_query_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(Error::invalid(format!(
                "{} heads of queries don't divide among {} of keys",
                self.num_query_heads, self.num_key_value_heads
            )));
        }
        let places = Places::find(call.inputs());
        let mask = self.options.mask(call, given, &places)?;
        let [q, v, k] = places.of(given)?;
        let parts = self.parts(call.inputs())?;
        let part = |call: &mut Call<'_>, name: &str, x: Sym| run_part(call, &parts, name, x);
        let gate = if self.options.use_gate { Some(part(call, "_gate_dense", q)?) } else { None };
        let (query, key) = (part(call, "_query_dense", q)?, part(call, "_key_dense", k)?);
        let value = part(call, "_value_dense", v)?;
        // Each head of keys for as many heads of queries as share it.
        let repeats = self.num_query_heads / self.num_key_value_heads;
        let heads: Vec<i64> = (0..self.num_query_heads).map(|h| (h / repeats) as i64).collect();
        let (heads, axis) = (call.ints(&heads)?, call.int(2)?);
        let key = call.apply("GatherV2", &[key, heads, axis])?;
        let value = call.apply("GatherV2", &[value, heads, axis])?;
        let scale = call.scalar(1.0 / (self.head_dim as f64).sqrt(), query)?;
        let query = call.apply("Mul", &[query, scale])?;
        let scores = einsum(call, "bquh,bkuh->buqk", &[query, key])?;
        let wanted = call.inputs().flag("return_attention_scores");
        let of = Scores { axes: 1, rank: 4, fused: !wanted && self.options.dropout == 0.0 };
        let weights = self.options.weights(call, scores, mask, of)?;
        let mut y = einsum(call, "buqk,bkuh->bquh", &[weights, value])?;
        if let Some(gate) = gate {
            y = call.apply("Mul", &[y, gate])?;
        }
        let y = part(call, "_output_dense", y)?;
        Ok(if wanted { vec![y, weights] } else { vec![y] })
    }

    fn passes_mask(&self) -> bool {
        true
    }
}
