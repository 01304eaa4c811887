//! Integers and strings as categories: CategoryEncoding, Discretization, Hashing, HashedCrossing.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::{DType, Tensor};
use modelark_artifact::{Dialect, Error, Result};
use serde_json::Value;

use super::Entry;
use crate::config::{Fields, numbers};
use crate::layer::inputs;
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<CategoryEncoding>(&["CategoryEncoding"]),
    Entry::of::<Discretization>(&["Discretization"]),
    Entry::of::<HashedCrossing>(&["HashedCrossing"]),
    Entry::of::<Hashing>(&["Hashing"]),
];

/// How categories are given: as integers, or as vectors of as many numbers as there are categories.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Encoding {
    pub mode: String,
    pub sparse: bool,
}

impl Encoding {
    pub fn new(mode: &str) -> Self {
        Encoding { mode: mode.to_owned(), sparse: false }
    }

    pub fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("output_mode", &mut self.mode);
        f.field("sparse", &mut self.sparse);
        if self.mode == "binary" {
            self.mode = "multi_hot".to_owned();
        }
    }

    pub fn is_int(&self) -> bool {
        self.mode == "int"
    }

    /// Whether what follows counts or sums, in which what isn't in the vocabulary has no share.
    fn check(&self) -> Result<()> {
        match self.mode.as_str() {
            "int" | "one_hot" | "multi_hot" | "count" | "tf_idf" => Ok(()),
            other => Err(Error::unsupported(format!("there is no output mode {other:?}"))),
        }
    }

    /// The axis along which categories become one vector: the one after the batch, of which Keras 2 takes no more.
    fn gathered(&self, rank: usize) -> usize {
        rank.saturating_sub(1).min(1)
    }

    /// The shape of the output for categories of this shape.
    pub fn output(&self, input: &Spec, depth: usize, dtype: DType) -> Result<Spec> {
        self.check()?;
        let mut dims = input.dims()?.to_vec();
        if self.is_int() {
            return Ok(Spec::new(dims, dtype));
        }
        // A last extent of 1 gives way; many categories in a row become one vector.
        if self.mode == "one_hot" {
            if dims.last() == Some(&Some(1)) && dims.len() > 1 {
                dims.pop();
            }
        } else if !dims.is_empty() {
            dims.remove(self.gathered(dims.len()));
        }
        dims.push(Some(depth));
        Ok(Spec::new(dims, dtype))
    }

    /// The categories of `spec` encoded; those out of range have no share.
    pub fn apply(
        &self,
        call: &mut Call<'_>,
        x: Sym,
        spec: &Spec,
        depth: usize,
        dtype: DType,
        weights: Option<Sym>,
    ) -> Result<Sym> {
        self.check()?;
        if self.is_int() {
            return call.cast(x, dtype);
        }
        let rank = spec.rank()?;
        let mut x = if matches!(call.dtype(x), DType::I32 | DType::I64) { x } else { call.cast(x, DType::I64)? };
        let shrinks = spec.dims()?.last() == Some(&Some(1)) && rank > 1;
        if self.mode == "one_hot" && shrinks {
            x = call.op("Squeeze").input(x).attr("squeeze_dims", vec![-1i64]).one()?;
        }
        let on = call.constant(numbers(&[1.0], &[], dtype)?)?;
        let off = call.constant(numbers(&[0.0], &[], dtype)?)?;
        let depth = call.int(depth as i64)?;
        let mut hot = call.op("OneHot").inputs(&[x, depth, on, off]).attr("axis", -1i64).one()?;
        if self.mode == "one_hot" {
            return Ok(hot);
        }
        if let Some(weights) = weights {
            let last = call.int(-1)?;
            let weights = call.cast(weights, dtype)?;
            let weights = call.apply("ExpandDims", &[weights, last])?;
            hot = call.apply("Mul", &[hot, weights])?;
        }
        let axis = self.gathered(rank) as i64;
        call.reduce(if self.mode == "multi_hot" { "Max" } else { "Sum" }, hot, &[axis], false)
    }
}

/// What a layer that hashes into so many bins gives.
fn hashed(encoding: &Encoding, num_bins: usize, inputs: &Inputs) -> Result<Vec<Spec>> {
    let compute = inputs.compute_dtype();
    let dtype = if encoding.is_int() && compute.is_integer() { compute } else { encoded(encoding, compute) };
    Ok(vec![encoding.output(inputs.first()?, num_bins, dtype)?])
}

/// The dtype of encoded categories: the policy's, where that is of floats.
pub(crate) fn encoded(encoding: &Encoding, compute: DType) -> DType {
    match encoding.is_int() {
        true => DType::I64,
        false if compute.is_float() => compute,
        false => DType::F32,
    }
}

/// Integers as one-hot or multi-hot vectors, or counts (Keras: `CategoryEncoding`).
#[derive(Debug, Clone, PartialEq)]
pub struct CategoryEncoding {
    num_tokens: Option<usize>,
    encoding: Encoding,
}

impl Default for CategoryEncoding {
    fn default() -> Self {
        CategoryEncoding { num_tokens: None, encoding: Encoding::new("multi_hot") }
    }
}

impl CategoryEncoding {
    /// Vectors of this length; `output_mode` is `one_hot`, `multi_hot` or `count`.
    pub fn new(num_tokens: usize, output_mode: &str) -> Self {
        CategoryEncoding { num_tokens: Some(num_tokens), encoding: Encoding::new(output_mode) }
    }

    fn depth(&self) -> Result<usize> {
        self.num_tokens.ok_or_else(|| Error::missing("it doesn't say how many categories there are"))
    }
}

impl Layer for CategoryEncoding {
    fn class_name(&self) -> &str {
        "CategoryEncoding"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.aliased("num_tokens", &["max_tokens"], &mut self.num_tokens);
        f.field("output_mode", &mut self.encoding.mode);
        f.keras2("sparse", &mut self.encoding.sparse);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let dtype = encoded(&self.encoding, inputs.compute_dtype());
        Ok(vec![self.encoding.output(inputs.first()?, self.depth()?, dtype)?])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let &x = given.first().ok_or_else(|| Error::mismatch("it takes an input"))?;
        let spec = call.spec(x);
        // What pads rows is in no category.
        let x = call.filled(x, -1.0)?;
        let dtype = encoded(&self.encoding, call.inputs().compute_dtype());
        Ok(vec![self.encoding.apply(call, x, &spec, self.depth()?, dtype, given.get(1).copied())?])
    }

    fn takes_ragged(&self) -> bool {
        matches!(self.encoding.mode.as_str(), "multi_hot" | "count")
    }

    fn arguments(&self) -> &[&str] {
        &["inputs", "count_weights"]
    }

    fn autocasts(&self) -> bool {
        false
    }
}

/// The number of the range that each value falls into (Keras: `Discretization`).
#[derive(Debug, Clone, PartialEq)]
pub struct Discretization {
    bin_boundaries: Option<Vec<f64>>,
    num_bins: Option<usize>,
    epsilon: f64,
    encoding: Encoding,
    /// Whether the config was of a dialect in which ranges are counted in `int64` where none of integers is asked for.
    keras2: bool,
}

impl Default for Discretization {
    fn default() -> Self {
        Discretization {
            bin_boundaries: None,
            num_bins: None,
            epsilon: 0.01,
            encoding: Encoding::new("int"),
            keras2: false,
        }
    }
}

impl Discretization {
    /// Ranges between these boundaries.
    pub fn new(bin_boundaries: impl Into<Vec<f64>>) -> Self {
        Discretization { bin_boundaries: Some(bin_boundaries.into()), ..Self::default() }
    }

    fn boundaries(&self) -> Result<&[f64]> {
        self.bin_boundaries.as_deref().ok_or_else(|| Error::missing("it was never adapted: it has no boundaries"))
    }

    /// The dtype of the output, by the policy's.
    fn dtype(&self, compute: DType) -> DType {
        match self.encoding.is_int() {
            true if !self.keras2 => DType::I32,
            true if compute.is_integer() => compute,
            _ => encoded(&self.encoding, compute),
        }
    }
}

impl Layer for Discretization {
    fn class_name(&self) -> &str {
        "Discretization"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        if f.is_reading() {
            self.keras2 = f.dialect() != Dialect::Keras3;
        }
        f.aliased("bin_boundaries", &["bins"], &mut self.bin_boundaries);
        // Keras 2 takes the number of ranges instead of boundaries, not beside them.
        let known = self.bin_boundaries.is_some() && !f.is_reading() && f.dialect() != Dialect::Keras3;
        let mut unsaid = None;
        f.field("num_bins", if known { &mut unsaid } else { &mut self.num_bins });
        f.field("epsilon", &mut self.epsilon);
        self.encoding.visit(f);
        f.without("trainable", Dialect::Keras3);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let dtype = self.dtype(inputs.compute_dtype());
        Ok(vec![self.encoding.output(inputs.first()?, self.boundaries()?.len() + 1, dtype)?])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let spec = call.spec(x);
        let dtype = self.dtype(call.inputs().compute_dtype());
        let boundaries: Vec<f32> = self.boundaries()?.iter().map(|&b| b as f32).collect();
        let x = if matches!(call.dtype(x), DType::F16 | DType::BF16) { call.cast(x, DType::F32)? } else { x };
        let depth = boundaries.len() + 1;
        let bins = call.op("Bucketize").input(x).attr("boundaries", boundaries).one()?;
        Ok(vec![self.encoding.apply(call, bins, &spec, depth, dtype, None)?])
    }

    fn keras2_dtype(&self) -> Option<&'static str> {
        self.encoding.is_int().then_some(if self.keras2 { "int64" } else { "int32" })
    }

    fn autocasts(&self) -> bool {
        false
    }
}

/// A bin for each value by its hash (Keras: `Hashing`).
#[derive(Debug, Clone, PartialEq)]
pub struct Hashing {
    num_bins: usize,
    mask_value: Value,
    salt: Value,
    encoding: Encoding,
}

impl Default for Hashing {
    fn default() -> Self {
        Hashing { num_bins: 1, mask_value: Value::Null, salt: Value::Null, encoding: Encoding::new("int") }
    }
}

impl Hashing {
    /// This many bins, by FarmHash.
    pub fn new(num_bins: usize) -> Self {
        Hashing { num_bins, ..Hashing::default() }
    }
}

/// A bucket for each string: by FarmHash, or by SipHash where there is a salt.
pub(crate) fn bucket(call: &mut Call<'_>, x: Sym, count: usize, salt: &Value) -> Result<Sym> {
    let key: Vec<i64> = match salt {
        Value::Array(both) => both.iter().filter_map(Value::as_i64).collect(),
        one => one.as_i64().map(|k| vec![k, k]).unwrap_or_default(),
    };
    let count = count as i64;
    if key.is_empty() {
        return Ok(call.op("StringToHashBucketFast").input(x).attr("num_buckets", count).one()?);
    }
    Ok(call.op("StringToHashBucketStrong").input(x).attr("num_buckets", count).attr("key", key).one()?)
}

/// A token of a config as a scalar of this dtype.
pub(crate) fn token(call: &mut Call<'_>, value: &Value, dtype: DType) -> Result<Sym> {
    let tensor = match (dtype, value) {
        (DType::String, Value::String(text)) => Tensor::from_strings(vec![text.as_bytes()], [0usize; 0])?,
        (DType::String, other) => Tensor::from_strings(vec![other.to_string().as_bytes()], [0usize; 0])?,
        (_, Value::String(text)) => {
            let number = text.parse::<f64>().map_err(|_| crate::config::expected("a number", value))?;
            numbers(&[number], &[], dtype)?
        }
        (_, other) => {
            let number = other.as_f64().ok_or_else(|| crate::config::expected("a number", value))?;
            numbers(&[number], &[], dtype)?
        }
    };
    call.constant(tensor)
}

/// Numbers as text, floats cut to integers first.
fn text(call: &mut Call<'_>, x: Sym) -> Result<Sym> {
    match call.dtype(x) {
        DType::String => Ok(x),
        dtype => {
            let whole = if dtype.is_float() { call.cast(x, DType::I64)? } else { x };
            call.apply("AsString", &[whole])
        }
    }
}

impl Layer for Hashing {
    fn class_name(&self) -> &str {
        "Hashing"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("num_bins", &mut self.num_bins);
        f.field("salt", &mut self.salt);
        f.field("mask_value", &mut self.mask_value);
        self.encoding.visit(f);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        hashed(&self.encoding, self.num_bins, inputs)
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let spec = call.spec(x);
        let masked = !self.mask_value.is_null() && self.num_bins > 1;
        let words = text(call, x)?;
        let mut bins = bucket(call, words, self.num_bins - usize::from(masked), &self.salt)?;
        if masked {
            let mask = token(call, &self.mask_value, call.dtype(x))?;
            let mask = call.apply("Equal", &[x, mask])?;
            let (one, zero) = (call.scalar(1.0, bins)?, call.scalar(0.0, bins)?);
            bins = call.apply("AddV2", &[bins, one])?;
            bins = call.apply("SelectV2", &[mask, zero, bins])?;
        }
        let dtype = self.output(call.inputs())?.first().map_or(DType::I64, |s| s.dtype);
        Ok(vec![self.encoding.apply(call, bins, &spec, self.num_bins, dtype, None)?])
    }

    fn keras2_dtype(&self) -> Option<&'static str> {
        self.encoding.is_int().then_some("int64")
    }

    fn autocasts(&self) -> bool {
        false
    }
}

/// A bin for each combination of several features by its hash (Keras: `HashedCrossing`).
#[derive(Debug, Clone, PartialEq)]
pub struct HashedCrossing {
    num_bins: usize,
    encoding: Encoding,
}

impl Default for HashedCrossing {
    fn default() -> Self {
        HashedCrossing { num_bins: 1, encoding: Encoding::new("int") }
    }
}

impl HashedCrossing {
    /// This many bins.
    pub fn new(num_bins: usize) -> Self {
        HashedCrossing { num_bins, ..Self::default() }
    }
}

impl Layer for HashedCrossing {
    fn class_name(&self) -> &str {
        "HashedCrossing"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("num_bins", &mut self.num_bins);
        self.encoding.visit(f);
        f.without("trainable", Dialect::Keras3);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        hashed(&self.encoding, self.num_bins, inputs)
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let &first = given.first().ok_or_else(|| Error::mismatch("it takes at least two inputs"))?;
        let spec = call.spec(first);
        let mut columns = Vec::with_capacity(given.len());
        for &x in given {
            // Integers and strings, each row of one value.
            let wide = if call.dtype(x).is_integer() { call.cast(x, DType::I64)? } else { x };
            columns.push(call.reshape(wide, &[-1, 1])?);
        }
        // Numbers among them make TensorFlow cross by numbers.
        let internal = match columns.iter().all(|&c| call.dtype(c) == DType::String) {
            true => DType::String,
            false => DType::I64,
        };
        let types: Vec<DType> = columns.iter().map(|&c| call.dtype(c)).collect();
        let crossed = call
            .op("SparseCross")
            .inputs(&columns)
            .attr("N", 0i64)
            .attr("hashed_output", true)
            .attr("num_buckets", self.num_bins as i64)
            // The key that TensorFlow itself takes for `cross_hashed`.
            .attr("hash_key", 956_888_297_470i64)
            .attr("sparse_types", Vec::<DType>::new())
            .attr("dense_types", types)
            .attr("out_type", DType::I64)
            .attr("internal_type", internal)
            .all()?;
        let values = crossed.get(1).copied().ok_or_else(|| Error::mismatch("the cross gave nothing"))?;
        let shape = call.apply("Shape", &[first])?;
        let bins = call.apply("Reshape", &[values, shape])?;
        let dtype = self.output(call.inputs())?.first().map_or(DType::I64, |s| s.dtype);
        Ok(vec![self.encoding.apply(call, bins, &spec, self.num_bins, dtype, None)?])
    }

    fn keras2_dtype(&self) -> Option<&'static str> {
        self.encoding.is_int().then_some("int64")
    }

    fn autocasts(&self) -> bool {
        false
    }
}
