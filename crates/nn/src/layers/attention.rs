//! Attention by products or sums: Attention, AdditiveAttention.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Dialect, Error, Result};
use serde_json::{Value, json};

use super::Entry;
use crate::config::{ConfigValue, Fields, Initializer, Reader, Writer, expected};
use crate::layer::WeightSpec;
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<Attention>(&["Attention"]),
    Entry::of::<AdditiveAttention>(&["AdditiveAttention"]),
];

/// How an [`Attention`] scores a key for a query (Keras: `score_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ScoreMode {
    /// By their product.
    #[default]
    Dot,
    /// By the hyperbolic tangent of their sum.
    Concat,
}

impl ConfigValue for ScoreMode {
    fn read(value: &Value, _: &Reader<'_>) -> Result<Self> {
        match value.as_str() {
            Some("dot") => Ok(ScoreMode::Dot),
            Some("concat") => Ok(ScoreMode::Concat),
            _ => Err(expected("dot or concat", value)),
        }
    }

    fn write(&self, _: &mut Writer) -> Value {
        json!(if *self == ScoreMode::Dot { "dot" } else { "concat" })
    }
}

/// Options of both kinds.
#[derive(Debug, Clone, Default, PartialEq)]
struct Options {
    use_scale: bool,
    dropout: f64,
    seed: Option<i64>,
    /// Older releases of Keras 2 have in the config what is an argument of the call now.
    causal: bool,
}

impl Options {
    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("use_scale", &mut self.use_scale);
        f.field("dropout", &mut self.dropout);
        f.keras3("seed", &mut self.seed);
        if f.is_reading() || f.dialect() == Dialect::Keras2 {
            f.sparse("causal", &mut self.causal);
        } else if self.causal {
            f.note("Keras 3 has \"causal\" as an argument of the call alone, `use_causal_mask`");
        }
    }

    /// The output, and the scores where they are asked for.
    fn output(inputs: &Inputs) -> Result<Vec<Spec>> {
        let (query, value) = (inputs.get(0)?, inputs.get(1)?);
        let key = inputs.all().get(2).unwrap_or(value);
        let ending = |last: Option<usize>| {
            let mut dims = query.dims()?.to_vec();
            if let Some(end) = dims.last_mut() {
                *end = last;
            }
            Ok::<_, Error>(query.with_shape(dims))
        };
        let mut out = vec![ending(value.dims()?.last().copied().flatten())?];
        if inputs.flag("return_attention_scores") {
            let steps = key.dims()?.iter().rev().nth(1).copied().flatten();
            out.push(ending(steps)?);
        }
        Ok(out)
    }

    /// The values by the scores that `score` gives for queries and keys.
    fn call(
        &self,
        call: &mut Call<'_>,
        given: &[Sym],
        score: impl FnOnce(&mut Call<'_>, Sym, Sym) -> Result<Sym>,
    ) -> Result<Vec<Sym>> {
        let (q, v, k) = match *given {
            [q, v] => (q, v, v),
            [q, v, k] => (q, v, k),
            _ => return Err(Error::mismatch(format!("it takes 2 or 3 inputs, but got {}", given.len()))),
        };
        let mut scores = score(call, q, k)?;
        let mut counts = None;
        if let Some(mask) = call.mask(v) {
            let axis = call.int(-2)?;
            counts = Some(call.apply("ExpandDims", &[mask, axis])?);
        }
        if self.causal || call.inputs().flag("use_causal_mask") {
            let causal = causal_mask(call, q, k)?;
            counts = Some(both(call, counts, causal)?);
        }
        if let Some(counts) = counts {
            let out = call.apply("LogicalNot", &[counts])?;
            let out = call.cast(out, call.dtype(scores))?;
            let far = call.scalar(if call.dtype(scores) == DType::F16 { 65504.0 } else { 1e9 }, scores)?;
            let less = call.apply("Mul", &[out, far])?;
            scores = call.apply("Sub", &[scores, less])?;
        }
        let weights = call.apply("Softmax", &[scores])?;
        let mut y = call.apply("BatchMatMulV2", &[weights, v])?;
        if let Some(mask) = call.mask(q) {
            let axis = call.int(-1)?;
            let mask = call.apply("ExpandDims", &[mask, axis])?;
            let mask = call.cast(mask, call.dtype(y))?;
            y = call.apply("Mul", &[y, mask])?;
        }
        Ok(if call.inputs().flag("return_attention_scores") { vec![y, weights] } else { vec![y] })
    }
}

/// The sum over features of the hyperbolic tangent of each query with each key, each feature scaled before and after.
fn additive(call: &mut Call<'_>, q: Sym, k: Sym, before: Option<Sym>, after: Option<Sym>) -> Result<Sym> {
    let (at, other) = (call.int(-2)?, call.int(-3)?);
    let (q, k) = (call.apply("ExpandDims", &[q, at])?, call.apply("ExpandDims", &[k, other])?);
    let mut sum = call.apply("AddV2", &[q, k])?;
    if let Some(scale) = before {
        sum = call.apply("Mul", &[scale, sum])?;
    }
    let mut sum = call.apply("Tanh", &[sum])?;
    if let Some(scale) = after {
        sum = call.apply("Mul", &[scale, sum])?;
    }
    call.reduce("Sum", sum, &[-1], false)
}

/// Where both hold.
pub(super) fn both(call: &mut Call<'_>, one: Option<Sym>, other: Sym) -> Result<Sym> {
    match one {
        Some(one) => call.apply("LogicalAnd", &[one, other]),
        None => Ok(other),
    }
}

/// The indexes of a tensor's time steps as a column, or as a row.
pub(super) fn steps(call: &mut Call<'_>, x: Sym, column: bool) -> Result<Sym> {
    let (start, end, step) = (call.int(0)?, call.extent(x, 1)?, call.int(1)?);
    let steps = call.apply("Range", &[start, end, step])?;
    call.reshape(steps, if column { &[-1, 1] } else { &[1, -1] })
}

/// Which steps of `k` aren't after which of `q`: `[steps of q, steps of k]`.
pub(super) fn causal_mask(call: &mut Call<'_>, q: Sym, k: Sym) -> Result<Sym> {
    let (rows, columns) = (steps(call, q, true)?, steps(call, k, false)?);
    call.apply("GreaterEqual", &[rows, columns])
}

/// Attention by products (Keras: `Attention`). It takes queries and values, and keys where they aren't the values.
///
/// Its call takes `use_causal_mask` and `return_attention_scores`; masks are those that the tensors carry.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attention {
    options: Options,
    score_mode: ScoreMode,
}

impl Attention {
    /// By products that aren't scaled.
    pub fn new() -> Self {
        Attention::default()
    }

    /// The same with scores times a weight, or not.
    pub fn use_scale(mut self, use_scale: bool) -> Self {
        self.options.use_scale = use_scale;
        self
    }

    /// The same scoring in this way.
    pub fn score_mode(mut self, score_mode: ScoreMode) -> Self {
        self.score_mode = score_mode;
        self
    }

    /// The same with this part of the scores dropped in training.
    pub fn dropout(mut self, rate: f64) -> Self {
        self.options.dropout = rate;
        self
    }
}

impl Layer for Attention {
    fn class_name(&self) -> &str {
        "Attention"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        self.options.visit(f);
        f.field("score_mode", &mut self.score_mode);
    }

    fn weights(&self, _: &Inputs) -> Result<Vec<WeightSpec>> {
        let concat = self.score_mode == ScoreMode::Concat;
        let names = [("scale", self.options.use_scale), ("concat_score_weight", concat)];
        let weight = |(name, _)| WeightSpec::new(name, [], &Initializer::Ones);
        Ok(names.into_iter().filter(|(_, there)| *there).map(weight).collect())
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Options::output(inputs)
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let scale = if self.options.use_scale { Some(call.weight("scale")?) } else { None };
        self.options.call(call, given, |call, q, k| {
            if self.score_mode == ScoreMode::Concat {
                let weight = call.weight("concat_score_weight")?;
                let sum = additive(call, q, k, scale, None)?;
                return call.apply("Mul", &[weight, sum]);
            }
            let scores = call.op("BatchMatMulV2").inputs(&[q, k]).attr("adj_y", true).one()?;
            scale.map_or(Ok(scores), |scale| call.apply("Mul", &[scores, scale]))
        })
    }

    fn passes_mask(&self) -> bool {
        true
    }
}

/// Attention by sums (Keras: `AdditiveAttention`). It takes what [`Attention`] takes.
#[derive(Debug, Clone, PartialEq)]
pub struct AdditiveAttention {
    options: Options,
}

impl Default for AdditiveAttention {
    fn default() -> Self {
        AdditiveAttention { options: Options { use_scale: true, ..Options::default() } }
    }
}

impl AdditiveAttention {
    /// With a weight for each feature.
    pub fn new() -> Self {
        AdditiveAttention::default()
    }

    /// The same with a weight for each feature, or not.
    pub fn use_scale(mut self, use_scale: bool) -> Self {
        self.options.use_scale = use_scale;
        self
    }

    /// The same with this part of the scores dropped in training.
    pub fn dropout(mut self, rate: f64) -> Self {
        self.options.dropout = rate;
        self
    }
}

impl Layer for AdditiveAttention {
    fn class_name(&self) -> &str {
        "AdditiveAttention"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        self.options.visit(f);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        if !self.options.use_scale {
            return Ok(Vec::new());
        }
        Ok(vec![WeightSpec::new("scale", [inputs.first()?.known(-1)?], &Initializer::glorot_uniform())])
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Options::output(inputs)
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let scale = if self.options.use_scale { Some(call.weight("scale")?) } else { None };
        self.options.call(call, given, |call, q, k| additive(call, q, k, None, scale))
    }

    fn passes_mask(&self) -> bool {
        true
    }
}
