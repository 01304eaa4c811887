//! What tests over the fixtures share: cases that Keras wrote, a custom layer, and a run of a model.

#![expect(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use modelark_nn::artifact::graph::engine::{Program, Resource, Resources, Value, Variable};
use modelark_nn::artifact::tensor::{DType, Tensor};
use modelark_nn::artifact::{self, Architecture, Dialect, Kind, Objects};
use modelark_nn::config::Activation;
use modelark_nn::layer::{Sublayer, inputs};
use modelark_nn::layers::Dense;
use modelark_nn::{
    Call, Fields, Initializer, Inputs, Instance, Layer, Model, Registry, Result, Spec, Sym, WeightSpec,
};

/// `(x @ kernel + bias) * gate(x) + shift`, the fixtures' own layer: weights, one not trainable, and a sublayer.
#[derive(Debug, Clone)]
pub struct GatedDense {
    units: usize,
    gate_activation: Activation,
}

impl Default for GatedDense {
    fn default() -> Self {
        GatedDense { units: 4, gate_activation: "sigmoid".into() }
    }
}

impl GatedDense {
    fn gate(&self) -> Instance {
        Instance::from(Dense::new(self.units).activation(self.gate_activation.clone())).named("gate")
    }
}

impl Layer for GatedDense {
    fn class_name(&self) -> &str {
        "GatedDense"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("units", &mut self.units);
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
        Ok(vec![Sublayer::new("gate", &self.gate(), inputs.all().to_vec())])
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        let mut dims = input.dims()?.to_vec();
        if let Some(last) = dims.last_mut() {
            *last = Some(self.units);
        }
        Ok(vec![input.with_shape(dims)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let (kernel, bias, shift) = (call.weight("kernel")?, call.weight("bias")?, call.weight("shift")?);
        let y = call.apply("MatMul", &[x, kernel])?;
        let y = call.apply("AddV2", &[y, bias])?;
        let gate = call.sublayer("gate", &self.gate(), &[x])?;
        let y = call.apply("Mul", &[y, gate[0]])?;
        Ok(vec![call.apply("AddV2", &[y, shift])?])
    }
}

/// `tanh(x @ kernel + h @ recurrent_kernel + c) * f`, a cell with the constants `c` and `f`, whose state is the `tanh`.
#[derive(Debug, Clone, Default)]
pub struct ConstantCell {
    units: usize,
}

impl ConstantCell {
    fn state(&self, inputs: &Inputs) -> Result<Spec> {
        let batch = inputs.first()?.dims()?.first().copied().flatten();
        Ok(inputs.first()?.with_shape([batch, Some(self.units)]))
    }
}

impl Layer for ConstantCell {
    fn class_name(&self) -> &str {
        "ConstantCell"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("units", &mut self.units);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let width = inputs.first()?.known(-1)?;
        Ok(vec![
            WeightSpec::new("kernel", [width, self.units], &Initializer::glorot_uniform()),
            WeightSpec::new("recurrent_kernel", [self.units, self.units], &Initializer::glorot_uniform()),
        ])
    }

    fn arguments(&self) -> &[&str] {
        &["inputs", "states"]
    }

    fn states(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Ok(vec![self.state(inputs)?])
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Ok(vec![self.state(inputs)?; 2])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x, h, c, f] = inputs(given)?;
        let (kernel, recurrent) = (call.weight("kernel")?, call.weight("recurrent_kernel")?);
        let (x, h) = (call.apply("MatMul", &[x, kernel])?, call.apply("MatMul", &[h, recurrent])?);
        let z = call.apply("AddV2", &[x, h])?;
        let z = call.apply("AddV2", &[z, c])?;
        let h = call.apply("Tanh", &[z])?;
        Ok(vec![call.apply("Mul", &[h, f])?, h])
    }
}

/// The registry with the fixtures' layers under all their names.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    registry.register("Modelark>GatedDense", GatedDense::default);
    registry.register("PlainGatedDense", GatedDense::default);
    registry.register("Modelark>ConstantCell", ConstantCell::default);
    registry
}

/// The folders of fixtures of these cases.
pub fn cases(names: &[&str]) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures");
    let mut found = Vec::new();
    for environment in ["tf215", "tf221", "tf221-keras2"] {
        found.extend(names.iter().map(|n| root.join(environment).join(n)).filter(|p| p.is_dir()));
    }
    assert!(!found.is_empty());
    found
}

/// The folders of this crate's own models, which `golden/generate.py` wrote.
pub fn goldens() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let folder = |dialect: &str| root.join(dialect).read_dir().expect("goldens").flatten().map(|e| e.path());
    let mut found: Vec<PathBuf> = folder("keras2").chain(folder("keras3")).collect();
    found.sort();
    assert!(found.len() > 30);
    found
}

fn dialect(version: &str) -> Dialect {
    Dialect::of_version(Some(version))
}

/// The architectures that a case has: from its archive and its JSON.
pub fn architectures(case: &Path) -> Vec<(String, Architecture)> {
    let mut found = Vec::new();
    if let Ok(text) = std::fs::read_to_string(case.join("model.json")) {
        let config: serde_json::Value = serde_json::from_str(&text).unwrap();
        let version = config.get("keras_version").and_then(|v| v.as_str()).unwrap_or("3").to_owned();
        let dialect = dialect(&version);
        found.push(("model.json".into(), Architecture { config, dialect, keras_version: Some(version) }));
    }
    if let Ok(file) = std::fs::File::open(case.join("model.keras")) {
        let mut archive = zip::ZipArchive::new(file).unwrap();
        let mut member = |name: &str| -> serde_json::Value {
            let mut text = String::new();
            archive.by_name(name).unwrap().read_to_string(&mut text).unwrap();
            serde_json::from_str(&text).unwrap()
        };
        let version = member("metadata.json")["keras_version"].as_str().unwrap().to_owned();
        let dialect = dialect(&version);
        let config = member("config.json");
        found.push(("model.keras".into(), Architecture { config, dialect, keras_version: Some(version) }));
    }
    found
}

/// The arrays of an `.npz` by name.
pub fn npz(path: &Path) -> BTreeMap<String, Tensor> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(path).unwrap()).unwrap();
    let mut arrays = BTreeMap::new();
    for i in 0..archive.len() {
        let mut member = archive.by_index(i).unwrap();
        let name = member.name().unwrap().trim_end_matches(".npy").to_owned();
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).unwrap();
        let npy = npyz::NpyFile::new(&bytes[..]).unwrap();
        let shape: Vec<usize> = npy.shape().iter().map(|&d| d as usize).collect();
        assert_eq!(npy.order(), npyz::Order::C);
        let descr = npy.dtype().descr();
        let tensor = match descr.trim_matches('\'') {
            "<f4" => Tensor::from_vec(npy.into_vec::<f32>().unwrap(), shape),
            "<i4" => Tensor::from_vec(npy.into_vec::<i32>().unwrap(), shape),
            "<i8" => Tensor::from_vec(npy.into_vec::<i64>().unwrap(), shape),
            other => panic!("{other}"),
        };
        arrays.insert(name, tensor.unwrap());
    }
    arrays
}

/// Puts a case's weights into a model, by the names of layer and weight.
pub fn bind(model: &mut Model, case: &Path) {
    if !case.join("weights.npz").is_file() {
        return;
    }
    let values = npz(&case.join("weights.npz"));
    let meta: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(case.join("meta.json")).unwrap()).unwrap();
    let mut named: Vec<(String, Tensor)> = Vec::new();
    for weight in meta["weights"].as_array().unwrap() {
        let name = weight["name"].as_str().unwrap().trim_end_matches(":0");
        named.push((format!("/{name}"), values[weight["key"].as_str().unwrap()].clone()));
    }
    let mut objects = model.skeleton().unwrap();
    let walk: Vec<(usize, Vec<usize>)> = owners(&objects);
    for (id, chain) in walk {
        let names: Vec<String> = chain
            .iter()
            .filter_map(|&o| match &objects.get(o).unwrap().kind {
                Kind::Layer(layer) => Some(layer.name.clone()),
                _ => None,
            })
            .collect();
        let variable = objects.variable_mut(id).unwrap();
        // The layer's own name, and where several sublayers have it, its owner's too.
        let end = names.len();
        let parts = [
            end.saturating_sub(2)..end,
            end.saturating_sub(1)..end,
            end.saturating_sub(2)..end.saturating_sub(1),
        ];
        // A wrapper of TensorFlow's own gives its cell no name.
        let tails = parts.map(|part| format!("/{}/{}", names[part].join("/"), variable.name));
        let found = tails.iter().find_map(|t| named.iter().position(|(n, _)| n.ends_with(t.as_str())));
        let found = found.unwrap_or_else(|| panic!("no weight {tails:?} among {named:?}"));
        variable.value = artifact::Value::Tensor(named.remove(found).1);
    }
    assert!(named.is_empty(), "{named:?}");
    model.set_objects(objects).unwrap();
}

/// The variables with the objects that lead to each.
fn owners(objects: &Objects) -> Vec<(usize, Vec<usize>)> {
    let mut found = Vec::new();
    let mut stack = vec![(Objects::ROOT, Vec::new())];
    let mut seen = std::collections::BTreeSet::new();
    while let Some((id, chain)) = stack.pop() {
        if !seen.insert(id) {
            continue;
        }
        if objects.variable(id).is_some() {
            found.push((id, chain));
            continue;
        }
        for (_, child) in objects.get(id).unwrap().children.iter().rev() {
            stack.push((*child, chain.iter().copied().chain([id]).collect()));
        }
    }
    found
}

/// Runs a model natively.
pub fn run(model: &Model, given: &[Tensor]) -> Vec<Tensor> {
    let traced = model.trace("call").unwrap();
    let mut library = traced.library;
    library.insert(traced.function);
    let executable = Program::new(library).function("call").unwrap();
    let mut values: Vec<Value> = given.iter().cloned().map(Value::Tensor).collect();
    for id in &traced.captures {
        let variable = model.objects().variable(*id).unwrap();
        let value = Variable::with_value(&variable.name, variable.load().unwrap());
        values.push(Value::Resource(Resource::Variable(Arc::new(value))));
    }
    let outputs = executable.run(&Resources::new(), values.into_iter().collect()).unwrap();
    outputs.into_iter().map(|v| v.into_tensor().unwrap()).collect()
}

/// Runs a model on a case's inputs and compares with what Keras gave; the largest difference.
pub fn compare(model: &Model, case: &Path) -> f32 {
    let inputs: Vec<Tensor> = npz(&case.join("inputs.npz"))
        .into_iter()
        .filter(|(k, _)| k.starts_with("in_"))
        .map(|(_, v)| v)
        .collect();
    let expected = npz(&case.join("expected.npz"));
    let outputs = run(model, &inputs);
    let mut worst = 0f32;
    for (i, output) in outputs.iter().enumerate() {
        let wanted = &expected[&format!("out_{i}")];
        assert_eq!(output.shape(), wanted.shape(), "output {i}");
        assert_eq!(output.dtype(), DType::F32);
        let pairs = output.as_slice::<f32>().unwrap().iter().zip(wanted.as_slice::<f32>().unwrap());
        for (a, b) in pairs {
            assert!(a.is_finite() == b.is_finite());
            worst = worst.max((a - b).abs() / (1.0 + b.abs()));
        }
    }
    assert_eq!(outputs.len(), expected.keys().filter(|k| k.starts_with("out_")).count());
    worst
}
