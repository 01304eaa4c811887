//! Embedding, ReversibleEmbedding and Masking: where masks of time steps begin.

use modelark_artifact::{Dialect, Error, Result};
use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use serde_json::Value;

use super::Entry;
use super::dense::matmul_last;
use crate::adapter::Adapter;
use crate::config::{Fields, Initializer};
use crate::former::{FormerWeights, Origin};
use crate::layer::{WeightOptions, WeightSpec, inputs};
use crate::quantization::{Quantization, by_groups, rounded, unpacked};
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] =
    &[
    Entry::of::<Embedding>(&["Embedding"]).formerly(&[
        ("embeddings_initializer", &["init"]),
        ("embeddings_regularizer", &["W_regularizer"]),
        ("embeddings_constraint", &["W_constraint"]),
    ]),
    Entry::of::<Masking>(&["Masking"]),
    Entry::of::<ReversibleEmbedding>(&["ReversibleEmbedding"]),
];

/// A vector for each integer (Keras: `Embedding`).
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    input_dim: usize,
    output_dim: usize,
    embeddings: WeightOptions,
    mask_zero: bool,
    quantization_config: Value,
    adapter: Adapter,
    input_length: Option<Value>,
}

impl Default for Embedding {
    fn default() -> Self {
        Embedding {
            input_dim: 1,
            output_dim: 1,
            embeddings: WeightOptions::new(Initializer::uniform()),
            mask_zero: false,
            quantization_config: Value::Null,
            adapter: Adapter::default(),
            input_length: None,
        }
    }
}

impl Embedding {
    /// Vectors of `output_dim` for the integers under `input_dim`.
    pub fn new(input_dim: usize, output_dim: usize) -> Self {
        Embedding { input_dim, output_dim, ..Embedding::default() }
    }

    /// The same; time steps of integer 0 are masked.
    pub fn mask_zero(mut self, mask_zero: bool) -> Self {
        self.mask_zero = mask_zero;
        self
    }
}

impl Layer for Embedding {
    fn class_name(&self) -> &str {
        "Embedding"
    }

    fn makes_mask(&self) -> bool {
        self.mask_zero
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("input_dim", &mut self.input_dim);
        f.required("output_dim", &mut self.output_dim);
        self.embeddings.visit("embeddings", f);
        f.field("mask_zero", &mut self.mask_zero);
        f.keras3("quantization_config", &mut self.quantization_config);
        self.adapter.visit(f);
        // Keras 2's only says how long the input is, which the model's input does too.
        f.read_only("input_length", &mut self.input_length);
        for key in ["activity_regularizer", "weights", "sparse"] {
            f.constant(key, &[], Value::Null);
        }
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let weight = self.embeddings.weight("embeddings", [self.input_dim, self.output_dim]);
        match inputs.policy().quantized()? {
            Some(quantization) => self.quantized_weights(quantization, weight),
            None => Ok(vec![weight]),
        }
    }

    fn former_weights(&self, inputs: &Inputs, origin: &Origin) -> Result<Option<FormerWeights>> {
        self.adapter.former_weights(self.weights(inputs)?, origin)
    }

    fn quantizes(&self) -> bool {
        true
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let mut dims = inputs.first()?.dims()?.to_vec();
        // Keras 1 and 2 let the layer itself say how long its input is.
        if let (Some(Value::Number(length)), [_, time @ None]) = (&self.input_length, &mut dims[..]) {
            *time = length.as_u64().and_then(|l| usize::try_from(l).ok());
        }
        dims.push(Some(self.output_dim));
        Ok(vec![Spec::new(dims, inputs.compute_dtype())])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let indices = match call.dtype(x) {
            DType::I32 | DType::I64 => x,
            _ => call.cast(x, DType::I32)?,
        };
        let compute = call.inputs().compute_dtype();
        let axis = call.int(0)?;
        let look_up = |call: &mut Call<'_>, table: Sym| call.apply("GatherV2", &[table, indices, axis]);
        let Some(quantization) = call.inputs().policy().quantized()? else {
            let embeddings = call.weight("embeddings")?;
            return Ok(vec![look_up(call, embeddings)?]);
        };
        let embeddings = self.bytes(call, quantization)?;
        let y = look_up(call, embeddings)?;
        let (y, scale) = (call.cast(y, compute)?, call.weight("embeddings_scale")?);
        let scale = look_up(call, scale)?;
        if let Quantization::Int4 { block: Some(_) } = quantization {
            let (zero, groups) = (call.raw_weight("embeddings_zero")?, call.raw_weight("g_idx")?);
            let zero = look_up(call, zero)?;
            return Ok(vec![by_groups(call, y, [scale, zero], groups, -1)?]);
        }
        let last = call.int(-1)?;
        let scale = call.apply("ExpandDims", &[scale, last])?;
        Ok(vec![call.apply("RealDiv", &[y, scale])?])
    }

    fn masks(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Option<Sym>>> {
        let [x] = inputs(given)?;
        if let Some(ends) = call.row_ends(x) {
            return Ok(vec![Some(ends)]);
        }
        if !self.mask_zero {
            return Ok(Vec::new());
        }
        let zero = call.scalar(0.0, x)?;
        Ok(vec![Some(call.apply("NotEqual", &[x, zero])?)])
    }

    fn takes_ragged(&self) -> bool {
        true
    }

    /// Integers come in as they are, also as floats.
    fn autocasts(&self) -> bool {
        false
    }
}

impl Embedding {
    /// The weights that stand for the vectors.
    fn quantized_weights(&self, quantization: Quantization, weight: WeightSpec) -> Result<Vec<WeightSpec>> {
        let scales = |shape: Vec<usize>| WeightSpec::new("embeddings_scale", shape, &Initializer::Ones).fixed();
        let bytes = weight.fixed().dtype(DType::I8);
        Ok(match quantization {
            Quantization::Int8 => vec![bytes, scales(vec![self.input_dim])],
            Quantization::Int4 { block } => {
                let packed = WeightSpec { shape: vec![self.input_dim, self.output_dim.div_ceil(2)], ..bytes };
                let Some(block) = block else { return Ok(vec![packed, scales(vec![self.input_dim])]) };
                let shape = vec![self.input_dim, self.output_dim.div_ceil(block)];
                let zero = |name: &str, shape: Vec<usize>, dtype| {
                    WeightSpec::new(name, shape, &Initializer::Zeros).fixed().dtype(dtype)
                };
                let groups = zero("g_idx", vec![self.output_dim], DType::F32);
                vec![packed, scales(shape.clone()), zero("embeddings_zero", shape, DType::I8), groups]
            }
            _ => return Err(Error::unsupported("vectors that are quantized otherwise than as int8 or int4")),
        })
    }

    /// The whole numbers of the vectors.
    fn bytes(&self, call: &mut Call<'_>, quantization: Quantization) -> Result<Sym> {
        let embeddings = call.raw_weight("embeddings")?;
        match quantization {
            Quantization::Int4 { .. } => unpacked(call, embeddings, self.output_dim, 1, true),
            _ => Ok(embeddings),
        }
    }
}

/// An embedding that also goes the other way, from vectors to a number for each integer: called with `reverse=True`
/// (Keras 3: `ReversibleEmbedding`).
#[derive(Debug, Clone, PartialEq)]
pub struct ReversibleEmbedding {
    embedding: Embedding,
    tie_weights: bool,
    reverse_dtype: Option<DType>,
    logit_soft_cap: Option<f64>,
}

impl Default for ReversibleEmbedding {
    fn default() -> Self {
        ReversibleEmbedding {
            embedding: Embedding::default(),
            tie_weights: true,
            reverse_dtype: None,
            logit_soft_cap: None,
        }
    }
}

impl ReversibleEmbedding {
    /// Vectors of `output_dim` for the integers under `input_dim`, and back by the same weights.
    pub fn new(input_dim: usize, output_dim: usize) -> Self {
        ReversibleEmbedding { embedding: Embedding::new(input_dim, output_dim), ..Self::default() }
    }

    /// The same with weights of their own for the way back, or not.
    pub fn tie_weights(mut self, tie_weights: bool) -> Self {
        self.tie_weights = tie_weights;
        self
    }
}

impl ReversibleEmbedding {
    /// The way back by quantized weights, of inputs that are rounded alike unless the config says otherwise.
    fn reversed(&self, call: &mut Call<'_>, x: Sym, quantization: Quantization) -> Result<Sym> {
        let (own, compute) = (&self.embedding, call.inputs().compute_dtype());
        let x = call.cast(x, compute)?;
        let quantizer = own.quantization_config.pointer("/config/activation_quantizer");
        let (rows, steps) = match quantizer {
            Some(Value::Null) => (x, call.scalar(1.0, x)?),
            quantizer => rounded(call, x, &[-1], quantizer)?,
        };
        call.describe(rows, call.spec(x));
        let name = if self.tie_weights { "embeddings_scale" } else { "reverse_embeddings_scale" };
        let scale = call.weight(name)?;
        let mut kernel = match self.tie_weights {
            true => own.bytes(call, quantization)?,
            false => call.raw_weight("reverse_embeddings")?,
        };
        kernel = call.cast(kernel, compute)?;
        let in_blocks = matches!(quantization, Quantization::Int4 { block: Some(_) });
        if in_blocks {
            let (zero, groups) = (call.raw_weight("embeddings_zero")?, call.raw_weight("g_idx")?);
            kernel = by_groups(call, kernel, [scale, zero], groups, 1)?;
        }
        if self.tie_weights {
            kernel = call.transpose(kernel, &[1, 0])?;
        }
        let y = matmul_last(call, rows, kernel, own.input_dim)?;
        let scale = if in_blocks { steps } else { call.apply("Mul", &[steps, scale])? };
        call.apply("RealDiv", &[y, scale])
    }
}

impl Layer for ReversibleEmbedding {
    fn class_name(&self) -> &str {
        "ReversibleEmbedding"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        self.embedding.visit(f);
        f.field("tie_weights", &mut self.tie_weights);
        f.field("reverse_dtype", &mut self.reverse_dtype);
        f.field("logit_soft_cap", &mut self.logit_soft_cap);
        f.only_in(Dialect::Keras3);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let mut weights = self.embedding.weights(inputs)?;
        if self.tie_weights {
            return Ok(weights);
        }
        let extents = [self.embedding.output_dim, self.embedding.input_dim];
        let weight = self.embedding.embeddings.weight("reverse_embeddings", extents);
        match inputs.policy().quantized()? {
            None => weights.push(weight),
            Some(Quantization::Int8) => {
                weights.push(weight.fixed().dtype(DType::I8));
                weights.push(WeightSpec::new("reverse_embeddings_scale", [extents[1]], &Initializer::Ones).fixed());
            }
            Some(_) => return Err(Error::unsupported("weights of their own for the way back, in fewer than 8 bits")),
        }
        Ok(weights)
    }

    fn quantizes(&self) -> bool {
        true
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        if !inputs.flag("reverse") {
            return self.embedding.output(inputs);
        }
        let mut dims = inputs.first()?.dims()?.to_vec();
        if let Some(last) = dims.last_mut() {
            *last = Some(self.embedding.input_dim);
        }
        Ok(vec![Spec::new(dims, self.reverse_dtype.unwrap_or(inputs.compute_dtype()))])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        if !call.inputs().flag("reverse") {
            return self.embedding.call(call, given);
        }
        let [x] = inputs(given)?;
        let quantization = call.inputs().policy().quantized()?;
        let mut y = match quantization {
            Some(quantization) => self.reversed(call, x, quantization)?,
            None => {
                let kernel = match self.tie_weights {
                    true => {
                        let embeddings = call.weight("embeddings")?;
                        call.transpose(embeddings, &[1, 0])?
                    }
                    false => call.weight("reverse_embeddings")?,
                };
                let dtype = self.reverse_dtype.unwrap_or(call.inputs().compute_dtype());
                let (x, kernel) = (call.cast(x, dtype)?, call.cast(kernel, dtype)?);
                matmul_last(call, x, kernel, self.embedding.input_dim)?
            }
        };
        if let Some(cap) = self.logit_soft_cap {
            let cap = call.scalar(cap, y)?;
            y = call.apply("RealDiv", &[y, cap])?;
            y = call.apply("Tanh", &[y])?;
            y = call.apply("Mul", &[y, cap])?;
        }
        Ok(vec![y])
    }

    fn masks(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Option<Sym>>> {
        if call.inputs().flag("reverse") { Ok(Vec::new()) } else { self.embedding.masks(call, given) }
    }

    fn arguments(&self) -> &[&str] {
        &["inputs", "reverse"]
    }

    fn autocasts(&self) -> bool {
        false
    }
}

/// Masks time steps in which every feature has a value (Keras: `Masking`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Masking {
    mask_value: f64,
}

impl Masking {
    /// Masks time steps whose features all are this value.
    pub fn new(mask_value: f64) -> Self {
        Masking { mask_value }
    }

    fn differs(&self, call: &mut Call<'_>, x: Sym, keep_dims: bool) -> Result<Sym> {
        let value = call.scalar(self.mask_value, x)?;
        let differs = call.apply("NotEqual", &[x, value])?;
        call.reduce("Any", differs, &[-1], keep_dims)
    }
}

impl Layer for Masking {
    fn class_name(&self) -> &str {
        "Masking"
    }

    fn makes_mask(&self) -> bool {
        true
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("mask_value", &mut self.mask_value);
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let kept = self.differs(call, x, true)?;
        let kept = call.cast(kept, call.dtype(x))?;
        Ok(vec![call.apply("Mul", &[x, kept])?])
    }

    fn masks(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Option<Sym>>> {
        let [x] = inputs(given)?;
        Ok(vec![Some(self.differs(call, x, false)?)])
    }
}
