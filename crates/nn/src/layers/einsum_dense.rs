//! EinsumDense.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Error, Result};
use serde_json::Value;

use super::Entry;
use crate::config::{Activation, Fields, Initializer, Listed, Regularizer};
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
        for key in ["quantization_config", "gptq_unpacked_column_size"] {
            f.constant(key, &[], Value::Null);
        }
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let shapes = self.analyse(inputs.first()?)?;
        let mut weights = vec![self.kernel.weight("kernel", shapes.kernel)];
        weights.extend(shapes.bias.map(|bias| self.bias.weight("bias", bias)));
        Ok(weights)
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        Ok(vec![input.with_shape(self.analyse(input)?.output)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let shapes = self.analyse(call.inputs().first()?)?;
        let kernel = call.weight("kernel")?;
        let mut y = einsum(call, &self.equation, &[x, kernel])?;
        if shapes.bias.is_some() {
            let bias = call.weight("bias")?;
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
