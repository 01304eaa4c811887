//! The custom layer of the fixtures, written in Rust: `zoo/custom_layers.py` has it in Python.

use modelark::Registry;
use modelark::nn::layer::inputs;
use modelark::nn::layers::Dense;
use modelark::nn::{
    Activation, Call, Fields, Initializer, Inputs, Instance, Layer, Result, Spec, Sublayer, Sym, WeightSpec,
};

/// `(x @ kernel + bias) * gate(x) + shift`: own weights, one of them not trainable, and a sublayer.
#[derive(Debug, Clone)]
pub struct GatedDense {
    class: &'static str,
    units: usize,
    gate_activation: Activation,
}

impl GatedDense {
    fn new(class: &'static str) -> Self {
        GatedDense { class, units: 4, gate_activation: "sigmoid".into() }
    }

    fn gate(&self) -> Instance {
        Instance::from(Dense::new(self.units).activation(self.gate_activation.clone())).named("gate")
    }
}

/// Keras's own layers and those of the fixtures.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register("Modelark>GatedDense", || GatedDense::new("GatedDense"));
    registry.register("PlainGatedDense", || GatedDense::new("PlainGatedDense"));
    registry
}

/// A layer for a model that is built in Rust.
pub fn gated_dense(units: usize) -> Instance {
    Instance::from(GatedDense { units, ..GatedDense::new("GatedDense") }).registered("Modelark>GatedDense")
}

impl Layer for GatedDense {
    fn class_name(&self) -> &str {
        self.class
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("units", &mut self.units);
        f.field("gate_activation", &mut self.gate_activation);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let width = inputs.first()?.known(-1)?;
        Ok(vec![
            WeightSpec::new("kernel", [width, self.units], &Initializer::glorot_uniform()),
            WeightSpec::new("shift", [self.units], &Initializer::Ones).fixed(),
            WeightSpec::new("bias", [self.units], &Initializer::Zeros),
        ])
    }

    fn sublayers(&self, inputs: &Inputs) -> Result<Vec<Sublayer>> {
        Ok(vec![Sublayer::new("gate", &self.gate(), vec![inputs.first()?.clone()])])
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        self.gate().output(inputs.all())
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let (kernel, bias, shift) = (call.weight("kernel")?, call.weight("bias")?, call.weight("shift")?);
        let product = call.apply("MatMul", &[x, kernel])?;
        let sum = call.apply("AddV2", &[product, bias])?;
        let [gate] = inputs(&call.sublayer("gate", &self.gate(), &[x])?)?;
        let gated = call.apply("Mul", &[sum, gate])?;
        Ok(vec![call.apply("AddV2", &[gated, shift])?])
    }
}
