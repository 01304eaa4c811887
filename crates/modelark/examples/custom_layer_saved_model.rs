//! A layer of one's own in a SavedModel: TensorFlow runs it without the class, and so does Modelark.
//!
//! `cargo run -p modelark --example custom_layer_saved_model -- OUT [keras2|keras3]`

mod common;

use modelark::nn::layers::{Dense, InputLayer};
use modelark::nn::{Call, Fields, Initializer, Inputs, Layer, Sequential, Spec, Sym, WeightSpec};
use modelark::{Model, Result, Save, Tensor};

/// `x @ w + b`, scaled by a gate that training learns: `y * sigmoid(gate)`.
#[derive(Debug, Clone, Default)]
struct GatedLinear {
    units: usize,
}

impl Layer for GatedLinear {
    fn class_name(&self) -> &str {
        "GatedLinear"
    }

    fn visit(&mut self, fields: &mut Fields<'_>) {
        fields.required("units", &mut self.units);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        Ok(vec![
            WeightSpec::new("w", [inputs.first()?.known(-1)?, self.units], &Initializer::glorot_uniform()),
            WeightSpec::new("b", [self.units], &Initializer::Zeros),
            WeightSpec::new("gate", [self.units], &Initializer::Ones),
        ])
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        let mut dims = input.dims()?.to_vec();
        if let Some(last) = dims.last_mut() {
            *last = Some(self.units);
        }
        Ok(vec![input.with_shape(dims)])
    }

    fn call(&self, call: &mut Call<'_>, inputs: &[Sym]) -> Result<Vec<Sym>> {
        let (w, b, gate) = (call.weight("w")?, call.weight("b")?, call.weight("gate")?);
        let y = call.apply("MatMul", &[inputs[0], w])?;
        let y = call.apply("AddV2", &[y, b])?;
        let gate = call.apply("Sigmoid", &[gate])?;
        Ok(vec![call.apply("Mul", &[y, gate])?])
    }
}

fn main() -> Result<()> {
    let args = common::arguments()?;
    let layers = Sequential::new("custom")
        .add(InputLayer::new([10]))
        .add(GatedLinear { units: 6 })
        .add(Dense::new(3).activation("relu"))
        .seed(7)
        .build()?;
    let model = Model::from_layers(layers)?;

    let path = args.folder.join("saved_model");
    let report = model.save_with(&path, &Save::new().format("saved_model").dialect(args.dialect))?;
    println!("wrote {} in the dialect {}", path.display(), args.dialect);
    report.notes.iter().for_each(|note| println!("  {note}"));

    let x = common::input(&[7, 10])?;
    common::write_example(&model, &x, &args.folder)?;

    // Loaded again, the functions run although nobody registered the class.
    let loaded = modelark::load(&path)?;
    let (before, after) = (model.predict(&x)?, loaded.predict(&x)?);
    let same = before.single()?.bit_eq(after.single()?);
    println!("loaded again without the class: {}", if same { "the same output" } else { "ANOTHER output" });

    // A variable that is assigned shows in the next call.
    let gate = loaded.variables().find(|v| v.ends_with("gate")).map(str::to_owned);
    if let Some(gate) = gate {
        let closed = Tensor::full(-100f32, [6])?;
        loaded.assign(&gate, closed)?;
        println!("with {gate} closed it gives {:?}", loaded.predict(&x)?.single()?);
    }
    Ok(())
}
