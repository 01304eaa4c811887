//! MultiHeadAttention, and what it shares with attention of grouped heads.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Dialect, Error, Result};

use super::attention::{both, causal_mask, steps};
use super::einsum_dense::einsum;
use super::{EinsumDense, Entry};
use crate::config::{DTypePolicy, Fields, Initializer, Listed, Regularizer, resolve_axis};
use crate::layer::{Sublayer, WeightOptions};
use crate::{Call, Inputs, Instance, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<MultiHeadAttention>(&["MultiHeadAttention"])];

/// The names of the call's arguments that take tensors.
pub(super) const ARGUMENTS: &[&str] =
    &["query", "value", "key", "query_mask", "value_mask", "key_mask", "attention_mask"];

/// Options of attention by heads.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HeadOptions {
    pub use_bias: bool,
    pub use_gate: bool,
    pub dropout: f64,
    pub sliding_window: Option<usize>,
    pub kernel: WeightOptions,
    pub bias: WeightOptions,
    pub activity_regularizer: Option<Regularizer>,
    pub seed: Option<i64>,
    /// Whether the config was of a dialect in which steps that don't count are far below the others.
    pub keras2: bool,
}

impl Default for HeadOptions {
    fn default() -> Self {
        HeadOptions {
            use_bias: true,
            use_gate: false,
            dropout: 0.0,
            sliding_window: None,
            kernel: WeightOptions::new(Initializer::glorot_uniform()),
            bias: WeightOptions::new(Initializer::Zeros),
            activity_regularizer: None,
            seed: None,
            keras2: false,
        }
    }
}

/// A mask of scores, and its number of dimensions.
type Mask = (Sym, usize);

impl HeadOptions {
    pub fn visit(&mut self, f: &mut Fields<'_>) {
        if f.is_reading() {
            self.keras2 = f.dialect() != Dialect::Keras3;
        }
        f.field("dropout", &mut self.dropout);
        f.field("use_bias", &mut self.use_bias);
        f.keras3("use_gate", &mut self.use_gate);
        f.keras3("sliding_window", &mut self.sliding_window);
        self.kernel.visit("kernel", f);
        self.bias.visit("bias", f);
        f.sparse("activity_regularizer", &mut self.activity_regularizer);
        f.keras3("seed", &mut self.seed);
    }

    /// A product that the layer makes for itself.
    pub fn dense(&self, equation: &str, shape: Vec<Option<usize>>, bias_axes: &str, of: (&str, &DTypePolicy)) -> Instance {
        let mut dense = EinsumDense::new(equation, shape).options(self.kernel.clone(), self.bias.clone());
        if self.use_bias {
            dense = dense.bias_axes(bias_axes);
        }
        if of.0 == "gate" {
            dense = dense.activation("sigmoid");
        }
        Instance::from(dense).named(of.0).dtype(of.1.name())
    }

    /// Which scores count, by the masks that queries, values and keys carry or that the call is given, and by time.
    pub fn mask(&self, call: &mut Call<'_>, given: &[Sym], places: &Places) -> Result<Option<Mask>> {
        let named = |call: &Call<'_>, name: &str| call.inputs().position(name).and_then(|i| given.get(i).copied());
        let [q, v, k] = places.of(given)?;
        let mut auto = None;
        // The key's own mask counts only where there is a key of its own.
        let own_key = (places.key != places.value).then_some(k);
        for (x, name, axis) in [(Some(q), "query_mask", -1), (Some(v), "value_mask", -2), (own_key, "key_mask", -2)] {
            if let Some(mask) = named(call, name).or_else(|| call.mask(x?)) {
                let (mask, axis) = (call.cast(mask, DType::Bool)?, call.int(axis)?);
                let mask = call.apply("ExpandDims", &[mask, axis])?;
                auto = Some(both(call, auto, mask)?);
            }
        }
        if call.inputs().flag("use_causal_mask") {
            let mask = causal_mask(call, q, v)?;
            auto = Some(both(call, auto, mask)?);
        }
        if let Some(window) = self.sliding_window {
            let (rows, columns) = (steps(call, q, true)?, steps(call, v, false)?);
            let apart = call.apply("Sub", &[rows, columns])?;
            let (apart, window) = (call.apply("Abs", &[apart])?, call.int(window as i64)?);
            let mask = call.apply("Less", &[apart, window])?;
            auto = Some(both(call, auto, mask)?);
        }
        let explicit = match named(call, "attention_mask") {
            Some(mask) => Some((call.cast(mask, DType::Bool)?, call.spec(mask).rank()?)),
            None => None,
        };
        Ok(match (auto, explicit) {
            (None, explicit) => explicit,
            (Some(auto), None) => {
                // Time alone gives a mask without a batch.
                Some((with_batch(call, auto)?, 3))
            }
            (Some(auto), Some((mask, rank))) => {
                let auto = with_batch(call, auto)?;
                Some((call.apply("LogicalAnd", &[mask, auto])?, rank.max(3)))
            }
        })
    }

    /// The scores as weights that sum to one over the last axes, where they count.
    pub fn weights(&self, call: &mut Call<'_>, scores: Sym, mask: Option<Mask>, of: Scores) -> Result<Sym> {
        let Some((mut mask, rank)) = mask else { return softmax(call, scores, of.axes) };
        let axis = call.int(-2 * of.axes as i64 - 1)?;
        for _ in rank..of.rank {
            mask = call.apply("ExpandDims", &[mask, axis])?;
        }
        let dtype = call.dtype(scores);
        let far = call.scalar(if dtype == DType::F16 { -3e4 } else { -1e9 }, scores)?;
        if self.keras2 {
            let out = call.apply("LogicalNot", &[mask])?;
            let out = call.cast(out, dtype)?;
            let less = call.apply("Mul", &[out, far])?;
            let scores = call.apply("AddV2", &[scores, less])?;
            return softmax(call, scores, of.axes);
        }
        let scores = call.apply("SelectV2", &[mask, scores, far])?;
        let weights = softmax(call, scores, of.axes)?;
        // Where nothing counts, Keras's fused attention weighs all alike, its softmax none.
        if of.fused {
            return Ok(weights);
        }
        let zero = call.scalar(0.0, weights)?;
        call.apply("SelectV2", &[mask, weights, zero])
    }
}

/// What Keras makes of scores.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scores {
    /// Over how many of the last axes they sum to one.
    pub axes: usize,
    pub rank: usize,
    /// Whether Keras 3 has an op for the whole of it.
    pub fused: bool,
}

/// Where query, value and key are among the tensors given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Places {
    query: usize,
    value: usize,
    key: usize,
}

impl Places {
    pub fn find(inputs: &Inputs) -> Self {
        let value = inputs.position("value").unwrap_or(1);
        Places {
            query: inputs.position("query").unwrap_or(0),
            value,
            key: inputs.position("key").unwrap_or(value),
        }
    }

    /// Query, value and key.
    pub fn of<T: Clone>(&self, all: &[T]) -> Result<[T; 3]> {
        let get = |i: usize| all.get(i).cloned().ok_or_else(|| Error::mismatch("it takes a query and a value"));
        Ok([get(self.query)?, get(self.value)?, get(self.key)?])
    }
}

/// A sublayer by its attribute, with what it takes.
pub(super) type Part = (&'static str, Instance, Spec);

pub(super) fn held(parts: Vec<Part>) -> Vec<Sublayer> {
    parts.into_iter().map(|(attribute, layer, input)| Sublayer::new(attribute, &layer, vec![input])).collect()
}

pub(super) fn run_part(call: &mut Call<'_>, parts: &[Part], name: &str, x: Sym) -> Result<Sym> {
    let found = parts.iter().find(|(attribute, ..)| *attribute == name);
    let (attribute, layer, spec) = found.ok_or_else(|| Error::missing(format!("it holds no {name}")))?;
    call.describe(x, spec.clone());
    let y = call.sublayer(attribute, layer, &[x])?.first().copied();
    y.ok_or_else(|| Error::mismatch("a dense layer gives nothing"))
}

/// A mask of at least three dimensions.
fn with_batch(call: &mut Call<'_>, mask: Sym) -> Result<Sym> {
    let ones = call.ints(&[1, 1, 1])?;
    let shape = call.apply("Shape", &[mask])?;
    let shape = call.apply("BroadcastArgs", &[shape, ones])?;
    call.apply("BroadcastTo", &[mask, shape])
}

/// Softmax over the last axes.
fn softmax(call: &mut Call<'_>, x: Sym, axes: usize) -> Result<Sym> {
    if axes == 1 {
        return call.apply("Softmax", &[x]);
    }
    let axes: Vec<i64> = (1..=axes as i64).map(|a| -a).collect();
    let most = call.reduce("Max", x, &axes, true)?;
    let x = call.apply("Sub", &[x, most])?;
    let x = call.apply("Exp", &[x])?;
    let sum = call.reduce("Sum", x, &axes, true)?;
    call.apply("RealDiv", &[x, sum])
}

/// Attention by heads (Keras: `MultiHeadAttention`). It takes queries and values, and keys where they aren't the values.
///
/// Its call takes `attention_mask`, `use_causal_mask` and `return_attention_scores`; other masks are those that the
/// tensors carry.
///
/// ```
/// use modelark_nn::{Apply, Argument, input, layers::MultiHeadAttention};
///
/// let x = Argument::Tensor(input([5, 16]));
/// let y = MultiHeadAttention::new(4, 8).apply_with(vec![x.clone(), x], Vec::new())?;
/// assert_eq!(y[0].spec().shape.to_string(), "(None, 5, 16)");
/// # Ok::<(), modelark_nn::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct MultiHeadAttention {
    num_heads: usize,
    key_dim: usize,
    value_dim: Option<usize>,
    output_shape: Option<Listed<Option<usize>>>,
    attention_axes: Option<Listed<i64>>,
    options: HeadOptions,
    /// The shapes of query, key and value, with which Keras 2 builds the layer again.
    shapes: [Option<Vec<Option<usize>>>; 3],
}

impl Default for MultiHeadAttention {
    fn default() -> Self {
        MultiHeadAttention::new(1, 1)
    }
}

/// The methods that set the options of heads, which a layer has as `options`.
macro_rules! head_methods {
    ($layer:ty) => {
        impl $layer {
            /// The same with or without biases.
            pub fn use_bias(mut self, use_bias: bool) -> Self {
                self.options.use_bias = use_bias;
                self
            }

            /// The same with a gate over what the heads give, or not (Keras 3 alone).
            pub fn use_gate(mut self, use_gate: bool) -> Self {
                self.options.use_gate = use_gate;
                self
            }

            /// The same attending to steps that are fewer than this apart (Keras 3 alone).
            pub fn sliding_window(mut self, steps: usize) -> Self {
                self.options.sliding_window = Some(steps);
                self
            }

            /// The same with this part of the scores dropped in training.
            pub fn dropout(mut self, rate: f64) -> Self {
                self.options.dropout = rate;
                self
            }

            /// The same with these options of all kernels and of all biases.
            pub fn weights(mut self, kernel: crate::layer::WeightOptions, bias: crate::layer::WeightOptions) -> Self {
                (self.options.kernel, self.options.bias) = (kernel, bias);
                self
            }
        }
    };
}
pub(super) use head_methods;

head_methods!(MultiHeadAttention);

impl MultiHeadAttention {
    /// So many heads, each of queries and keys of this size.
    pub fn new(num_heads: usize, key_dim: usize) -> Self {
        MultiHeadAttention {
            num_heads,
            key_dim,
            value_dim: None,
            output_shape: None,
            attention_axes: None,
            options: HeadOptions::default(),
            shapes: [None, None, None],
        }
    }

    /// The same with values of this size in each head; by default the keys'.
    pub fn value_dim(mut self, value_dim: usize) -> Self {
        self.value_dim = Some(value_dim);
        self
    }

    /// The same with an output that ends in these axes; by default in the query's last.
    pub fn output_shape(mut self, shape: impl Into<Vec<usize>>) -> Self {
        self.output_shape = Some(shape.into().into_iter().map(Some).collect::<Vec<_>>().into());
        self
    }

    /// The same attending over these axes; by default over all but the first and the last.
    pub fn attention_axes(mut self, axes: impl Into<Vec<i64>>) -> Self {
        self.attention_axes = Some(axes.into().into());
        self
    }

    fn value_size(&self) -> usize {
        self.value_dim.unwrap_or(self.key_dim)
    }

    /// The last axes of the output.
    fn last_axes(&self, query: &Spec) -> Result<Vec<Option<usize>>> {
        match &self.output_shape {
            Some(shape) => Ok(shape.items.clone()),
            None => Ok(vec![Some(query.known(-1)?)]),
        }
    }

    /// The sublayers of query, key, gate, value and output, by attribute, with what each takes.
    fn parts(&self, inputs: &Inputs) -> Result<Vec<Part>> {
        let [query, value, key] = Places::find(inputs).of(inputs.all())?;
        let policy = inputs.policy();
        let head = |name: &str, input: &Spec, size: usize| {
            let rank = input.rank()?;
            let (equation, axes) = projection(rank.saturating_sub(1), 1, 2)?;
            let mut shape = vec![None; rank.saturating_sub(2)];
            shape.extend([Some(self.num_heads), Some(size)]);
            Ok::<_, Error>(self.options.dense(&equation, shape, &axes, (name, policy)))
        };
        let mut parts = vec![
            ("_query_dense", head("query", &query, self.key_dim)?, query.clone()),
            ("_key_dense", head("key", &key, self.key_dim)?, key),
        ];
        if self.options.use_gate {
            parts.push(("_gate_dense", head("gate", &query, self.value_size())?, query.clone()));
        }
        parts.push(("_value_dense", head("value", &value, self.value_size())?, value));
        let (rank, last) = (query.rank()?, self.last_axes(&query)?);
        let (equation, axes) = projection(rank.saturating_sub(1), 2, last.len())?;
        let shape = vec![None; rank.saturating_sub(2)].into_iter().chain(last).collect();
        let dense = self.options.dense(&equation, shape, &axes, ("attention_output", policy));
        let mut dims = query.dims()?.to_vec();
        dims.pop();
        dims.extend([Some(self.num_heads), Some(self.value_size())]);
        parts.push(("_output_dense", dense, query.with_shape(dims)));
        Ok(parts)
    }

    /// How heads meet, for inputs of so many dimensions.
    fn equations(&self, rank: usize) -> Result<Equations> {
        let axes = match &self.attention_axes {
            None => (1..rank.saturating_sub(1)).collect(),
            Some(axes) => axes.items.iter().map(|&a| resolve_axis(a, rank)).collect::<Result<Vec<_>>>()?,
        };
        Equations::new(rank + 1, axes)
    }
}

/// The equation of a product over the axes after `free` ones, and the letters of its bias.
fn projection(free: usize, bound: usize, made: usize) -> Result<(String, String)> {
    let letter = |i: usize| (b'a'..=b'z').nth(i).map(char::from);
    let all = (0..free + bound + made).map(letter).collect::<Option<String>>();
    let all = all.ok_or_else(|| Error::limit("the input has more dimensions than there are letters"))?;
    let (given, rest) = all.split_at(free);
    let (summed, bias) = rest.split_at(bound);
    Ok((format!("{given}{summed},{rest}->{given}{bias}"), bias.to_owned()))
}

/// The equations of scores and of what they choose, for heads of so many dimensions.
struct Equations {
    /// Keys and queries to scores.
    scores: String,
    /// Scores and values to outputs.
    output: String,
    /// The axes that attend.
    axes: Vec<usize>,
    /// Those that don't, but for the last.
    apart: Vec<usize>,
}

impl Equations {
    fn new(rank: usize, axes: Vec<usize>) -> Result<Self> {
        let letter = |i: usize| (b'a'..=b'z').nth(i).map(char::from);
        let letters = (0..rank + axes.len()).map(letter).collect::<Option<Vec<char>>>();
        let letters = letters.ok_or_else(|| Error::limit("the input has more dimensions than there are letters"))?;
        let (target, others) = letters.split_at(rank);
        let last = rank.saturating_sub(1);
        let mut others = others.iter();
        let mut source = target.to_vec();
        for (axis, letter) in source.iter_mut().enumerate() {
            if axis != last && axes.contains(&axis) {
                *letter = others.next().copied().unwrap_or(*letter);
            }
        }
        let apart: Vec<usize> = (0..last).filter(|a| !axes.contains(a)).collect();
        let pick = |from: &[char], at: &[usize]| at.iter().filter_map(|&a| from.get(a)).collect::<String>();
        let product = pick(target, &apart) + &pick(target, &axes) + &pick(&source, &axes);
        let (source, target) = (String::from_iter(source), String::from_iter(target));
        Ok(Equations {
            scores: format!("{source},{target}->{product}"),
            output: format!("{product},{source}->{target}"),
            axes,
            apart,
        })
    }
}

impl Layer for MultiHeadAttention {
    fn class_name(&self) -> &str {
        "MultiHeadAttention"
    }

    fn masks_by_dialect(&self) -> bool {
        true
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("num_heads", &mut self.num_heads);
        f.required("key_dim", &mut self.key_dim);
        let mut value_dim = Some(self.value_size()).filter(|_| !f.is_reading());
        f.field("value_dim", &mut value_dim);
        self.value_dim = value_dim;
        f.field("output_shape", &mut self.output_shape);
        f.field("attention_axes", &mut self.attention_axes);
        self.options.visit(f);
        if f.is_reading() || f.dialect() != Dialect::Keras3 {
            let [query, key, value] = &mut self.shapes;
            f.field("query_shape", query);
            f.field("key_shape", key);
            f.field("value_shape", value);
        }
    }

    fn with_shapes(&self, inputs: &Inputs) -> Option<Box<dyn Layer>> {
        if self.shapes.iter().all(Option::is_some) {
            return None;
        }
        let [query, value, key] = Places::find(inputs).of(inputs.all()).ok()?;
        let shape = |spec: &Spec| spec.dims().ok().map(<[_]>::to_vec);
        Some(Box::new(MultiHeadAttention { shapes: [shape(&query), shape(&key), shape(&value)], ..self.clone() }))
    }

    fn sublayers(&self, inputs: &Inputs) -> Result<Vec<Sublayer>> {
        Ok(held(self.parts(inputs)?))
    }

    fn arguments(&self) -> &[&str] {
        ARGUMENTS
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let [query, _, key] = Places::find(inputs).of(inputs.all())?;
        let mut dims = query.dims()?.to_vec();
        dims.pop();
        let out = dims.iter().copied().chain(self.last_axes(&query)?).collect::<Vec<_>>();
        let mut outputs = vec![query.with_shape(out)];
        if inputs.flag("return_attention_scores") {
            let equations = self.equations(query.rank()?)?;
            dims.push(Some(self.num_heads));
            let of = |dims: &[Option<usize>], at: &[usize]| {
                at.iter().map(|&a| dims.get(a).copied().flatten()).collect::<Vec<_>>()
            };
            let (apart, axes) = (of(&dims, &equations.apart), of(&dims, &equations.axes));
            let scores = [apart, axes, of(key.dims()?, &equations.axes)].concat();
            outputs.push(query.with_shape(scores));
        }
        Ok(outputs)
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let places = Places::find(call.inputs());
        let mask = self.options.mask(call, given, &places)?;
        let [q, v, k] = places.of(given)?;
        let parts = self.parts(call.inputs())?;
        let part = |call: &mut Call<'_>, name: &str, x: Sym| run_part(call, &parts, name, x);
        let rank = call.spec(q).rank()?;
        let equations = self.equations(rank)?;
        let gate = if self.options.use_gate { Some(part(call, "_gate_dense", q)?) } else { None };
        let (query, key) = (part(call, "_query_dense", q)?, part(call, "_key_dense", k)?);
        let value = part(call, "_value_dense", v)?;
        let scale = call.scalar(1.0 / (self.key_dim as f64).sqrt(), query)?;
        let query = call.apply("Mul", &[query, scale])?;
        let scores = einsum(call, &equations.scores, &[key, query])?;
        let wanted = call.inputs().flag("return_attention_scores");
        let axes = equations.axes.len();
        let fused = !wanted && self.options.dropout == 0.0 && rank == 3;
        let of = Scores { axes, rank: equations.apart.len() + 2 * axes, fused };
        let weights = self.options.weights(call, scores, mask, of)?;
        let mut y = einsum(call, &equations.output, &[weights, value])?;
        if let Some(gate) = gate {
            y = call.apply("Mul", &[y, gate])?;
        }
        let y = part(call, "_output_dense", y)?;
        let kept = call.mask(q);
        // Keras 3 takes the masks from its inputs, for whatever is called with them afterwards.
        if !self.options.keras2 {
            for x in [q, v, k] {
                call.set_mask(x, None);
            }
        }
        call.set_mask(y, kept);
        Ok(if wanted { vec![y, weights] } else { vec![y] })
    }

    fn masks(&self, call: &mut Call<'_>, _: &[Sym]) -> Result<Vec<Option<Sym>>> {
        Ok(call.outputs().first().map(|&y| call.mask(y)).into_iter().collect())
    }
}
