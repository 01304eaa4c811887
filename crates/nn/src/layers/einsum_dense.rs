//! EinsumDense.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Error, Result};
use serde_json::Value;

use super::Entry;
use crate::adapter::Adapter;
use crate::config::{Activation, Fields, Initializer, Listed, Regularizer};
use crate::quantization::{Kernel, Quantization};
use crate::former::{FormerWeights, Origin};
use crate::layer::{WeightOptions, WeightSpec, inputs};
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<EinsumDense>(&["EinsumDense"])];

/// A product with a kernel by an equation such as `ab,bc->ac` (Keras: `EinsumDense`).
///
/// The equation has the forms `ab,bc->ac`, `...ab,bc->...ac` and `ab...,bc->ac...`.
#[derive(Debug, Clone, PartialEq)]
pub struct EinsumDense {
    equation: String,
    output_shape: Listed<Option<usize>>,
    activation: Activation,
    bias_axes: Option<String>,
    kernel: WeightOptions,
    bias: WeightOptions,
    activity_regularizer: Option<Regularizer>,
    /// How the inputs are quantized, where the kernel is.
    quantization_config: Value,
    adapter: Adapter,
}

impl Default for EinsumDense {
    fn default() -> Self {
        EinsumDense::new("ab,bc->ac", [Some(1)])
    }
}

impl EinsumDense {
    /// A product by this equation that gives this shape, the batch not counted; `None` is what the input has there.
    pub fn new(equation: &str, output_shape: impl Into<Vec<Option<usize>>>) -> Self {
        EinsumDense {
            equation: equation.to_owned(),
            output_shape: output_shape.into().into(),
            activation: Activation::default(),
            bias_axes: None,
            kernel: WeightOptions::new(Initializer::glorot_uniform()),
            bias: WeightOptions::new(Initializer::Zeros),
            activity_regularizer: None,
            quantization_config: Value::Null,
            adapter: Adapter::default(),
        }
    }

    /// The same with a bias over these axes of the output, by their letters.
    pub fn bias_axes(mut self, axes: &str) -> Self {
        self.bias_axes = Some(axes.to_owned());
        self
    }

    /// The same with this activation function.
    pub fn activation(mut self, activation: impl Into<Activation>) -> Self {
        self.activation = activation.into();
        self
    }

    /// The same with these options of the kernel and of the bias.
    pub fn options(mut self, kernel: WeightOptions, bias: WeightOptions) -> Self {
        (self.kernel, self.bias) = (kernel, bias);
        self
    }

    /// The equation's letters for an input of so many dimensions.
    fn letters(&self, rank: usize) -> Result<Letters> {
        /// Letters of nobody's.
        const FREE: u32 = 0xe000;
        let wrong = || Error::invalid(format!("the equation {:?} isn't one of a dense layer", self.equation));
        let (terms, output) = self.equation.split_once("->").ok_or_else(wrong)?;
        let (input, kernel) = terms.split_once(',').ok_or_else(wrong)?;
        let elided = rank.saturating_sub(input.replacen("...", "", 1).chars().count());
        let dots: String = (FREE..).take(elided).filter_map(char::from_u32).collect();
        let of = |term: &str| term.replacen("...", &dots, 1).chars().collect();
        Ok(Letters { input: of(input), kernel: of(kernel), output: of(output) })
    }

    /// The extents of output, kernel and bias.
    fn analyse(&self, input: &Spec) -> Result<Shapes> {
        let wrong = || {
            Error::invalid(format!("the equation {:?} isn't one of a dense layer", self.equation))
                .help("it has the form ab,bc->ac, ...ab,bc->...ac or ab...,bc->ac...")
        };
        let (terms, output) = self.equation.split_once("->").ok_or_else(wrong)?;
        let (given, kernel) = terms.split_once(',').ok_or_else(wrong)?;
        let term = |text: &str| {
            let left = text.starts_with("...");
            let letters: String = text.replacen("...", "", 1);
            let plain = letters.chars().all(|c| c.is_ascii_alphabetic());
            (plain && !letters.is_empty()).then_some((letters, left, text.ends_with("...")))
        };
        let (given, left, right) = term(given).ok_or_else(wrong)?;
        let (kernel, false, false) = term(kernel).ok_or_else(wrong)? else { return Err(wrong()) };
        let (output, out_left, out_right) = term(output).ok_or_else(wrong)?;
        if (left, right) != (out_left, out_right) || left && right {
            return Err(wrong());
        }
        let dims = input.dims()?;
        let elided = dims.len().checked_sub(given.len()).filter(|&e| e == 0 || left || right);
        let elided = elided.ok_or_else(|| {
            Error::mismatch(format!("an input of shape {} doesn't fit {:?}", input.shape, self.equation))
        })?;
        let (before, after) = if left { (elided, 0) } else { (0, elided) };
        let of_input = |c: char| given.find(c).and_then(|i| dims.get(before + i).copied().flatten());
        // The batch isn't in the shape that the layer is told, nor is what the dots stand for.
        let mut told = self.output_shape.items.iter().copied();
        let mut extents = dims.get(..before).unwrap_or_default().to_vec();
        let mut by_letter = Vec::new();
        for (i, c) in output.chars().enumerate() {
            let told = if before + i == 0 { None } else { told.next().flatten() };
            let extent = told.or_else(|| of_input(c));
            by_letter.push((c, extent));
            extents.push(extent);
        }
        extents.extend(dims.len().checked_sub(after).and_then(|from| dims.get(from..)).unwrap_or_default());
        let of = |c: char| by_letter.iter().find(|(l, _)| *l == c).map_or_else(|| of_input(c), |(_, e)| *e);
        let known = |c: char| {
            of(c).ok_or_else(|| Error::mismatch(format!("the extent of {c:?} in {:?} isn't known", self.equation)))
        };
        let kernel = kernel.chars().map(known).collect::<Result<Vec<_>>>()?;
        let bias = match self.bias_axes.as_deref() {
            Some(axes) if !axes.is_empty() => {
                let first = output.find(|c| axes.contains(c)).unwrap_or(0);
                let own = |c: char| if axes.contains(c) { known(c) } else { Ok(1) };
                let mut bias = output.chars().skip(first).map(own).collect::<Result<Vec<_>>>()?;
                bias.extend(std::iter::repeat_n(1, after));
                Some(bias)
            }
            _ => None,
        };
        Ok(Shapes { output: extents, kernel, bias })
    }
}

/// The axes of input, kernel and output, by letters; what the dots of the equation stand for has letters of its own.
struct Letters {
    input: Vec<char>,
    kernel: Vec<char>,
    output: Vec<char>,
}

impl Letters {
    /// The input's axes that aren't the output's.
    fn reduced(&self) -> Vec<i64> {
        let reduced = self.input.iter().enumerate().filter(|(_, c)| !self.output.contains(c));
        reduced.map(|(i, _)| i as i64).collect()
    }

    /// How many inputs and outputs the kernel has as a matrix.
    fn extents(&self, quantization: Quantization, kernel: &[usize]) -> Result<[usize; 2]> {
        let product = |of: Vec<usize>| {
            let all = of.into_iter().try_fold(1usize, usize::checked_mul);
            all.ok_or_else(|| Error::limit("a kernel larger than memory"))
        };
        let (rows, columns): (Vec<usize>, Vec<usize>) = match (quantization, kernel) {
            // Of three axes Keras takes the longest for the model's own.
            (Quantization::Grouped { .. }, &[a, b, c]) if a >= b && a >= c => (vec![a], vec![b, c]),
            (Quantization::Grouped { .. }, &[a, b, c]) => (vec![a, b], vec![c]),
            (Quantization::Grouped { .. }, &[a, b]) => (vec![a], vec![b]),
            (Quantization::Grouped { .. }, _) => {
                return Err(Error::unsupported("a kernel in groups that has other than two or three axes"));
            }
            _ => {
                let both = self.kernel.iter().zip(kernel).map(|(c, d)| (self.output.contains(c), *d));
                let (kept, reduced): (Vec<_>, Vec<_>) = both.partition(|(kept, _)| *kept);
                (reduced.into_iter().map(|(_, d)| d).collect(), kept.into_iter().map(|(_, d)| d).collect())
            }
        };
        Ok([product(rows)?, product(columns)?])
    }

    /// Numbers of the input's axes, the reduced ones of one value, as the output's axes.
    fn align(&self, call: &mut Call<'_>, x: Sym) -> Result<Sym> {
        let mut y = match &self.reduced()[..] {
            [] => x,
            axes => call.op("Squeeze").input(x).attr("squeeze_dims", axes.to_vec()).one()?,
        };
        let kept: Vec<char> = self.input.iter().copied().filter(|c| self.output.contains(c)).collect();
        let order: Vec<usize> = self.output.iter().filter_map(|c| kept.iter().position(|k| k == c)).collect();
        y = call.transpose(y, &order)?;
        for (i, _) in self.output.iter().enumerate().filter(|(_, c)| !kept.contains(c)) {
            let axis = call.int(i as i64)?;
            y = call.apply("ExpandDims", &[y, axis])?;
        }
        Ok(y)
    }
}

struct Shapes {
    output: Vec<Option<usize>>,
    kernel: Vec<usize>,
    bias: Option<Vec<usize>>,
}

impl Layer for EinsumDense {
    fn class_name(&self) -> &str {
        "EinsumDense"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("equation", &mut self.equation);
        f.required("output_shape", &mut self.output_shape);
        f.field("activation", &mut self.activation);
        f.field("bias_axes", &mut self.bias_axes);
        self.kernel.visit("kernel", f);
        self.bias.visit("bias", f);
        f.sparse("activity_regularizer", &mut self.activity_regularizer);
        f.keras3("quantization_config", &mut self.quantization_config);
        self.adapter.visit(f);
        f.constant("gptq_unpacked_column_size", &[], Value::Null);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let input = inputs.first()?;
        let shapes = self.analyse(input)?;
        let kernel = self.kernel.weight("kernel", shapes.kernel.clone());
        let bias = shapes.bias.map(|bias| self.bias.weight("bias", bias));
        let Some(quantization) = inputs.policy().quantized()? else {
            return Ok(std::iter::once(kernel).chain(bias).collect());
        };
        let letters = self.letters(input.rank()?)?;
        let scale = letters.output.iter().map(|c| {
            let own = letters.kernel.iter().position(|k| k == c);
            own.and_then(|i| shapes.kernel.get(i)).copied().unwrap_or(1)
        });
        let extents = letters.extents(quantization, &shapes.kernel)?;
        Ok(quantization.weights(kernel, bias, extents, scale.collect()))
    }

    fn former_weights(&self, inputs: &Inputs, origin: &Origin) -> Result<Option<FormerWeights>> {
        self.adapter.former_weights(self.weights(inputs)?, origin)
    }

    fn quantizes(&self) -> bool {
        true
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        Ok(vec![input.with_shape(self.analyse(input)?.output)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let shapes = self.analyse(call.inputs().first()?)?;
        let quantization = call.inputs().policy().quantized()?;
        let mut y = match quantization {
            None => {
                let kernel = call.weight("kernel")?;
                einsum(call, &self.equation, &[x, kernel])?
            }
            Some(quantization) => {
                let letters = self.letters(call.inputs().first()?.rank()?)?;
                let kernel = Kernel {
                    shape: &shapes.kernel,
                    extents: letters.extents(quantization, &shapes.kernel)?,
                    reduced: &letters.reduced(),
                    config: &self.quantization_config,
                };
                let product = |call: &mut Call<'_>, x, kernel| einsum(call, &self.equation, &[x, kernel]);
                quantization.apply(call, x, &kernel, product, |call, steps| letters.align(call, steps))?
            }
        };
        if shapes.bias.is_some() {
            let mut bias = call.weight("bias")?;
            if let Some(quantization) = quantization {
                bias = quantization.bias(call, bias)?;
            }
            y = call.apply("AddV2", &[y, bias])?;
        }
        let output = call.inputs().first()?.with_shape(shapes.output);
        call.describe(y, output);
        Ok(vec![self.activation.call(call, y)?])
    }
}

/// A sum of products by an equation (`tf.einsum`).
pub(super) fn einsum(call: &mut Call<'_>, equation: &str, given: &[Sym]) -> Result<Sym> {
    Ok(call.op("Einsum").inputs(given).attr("equation", equation).one()?)
}
