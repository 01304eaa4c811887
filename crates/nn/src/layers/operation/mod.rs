//! Single ops within a graph of layers, such as `x * 2.0`: Keras 3 has a class for each, Keras 2 a `TFOpLambda` with the
//! name of TensorFlow's function.
//!
//! One row says an op: its classes, functions and arguments, and how it is traced. The rows stand by kind in the files
//! beside this one.

mod alignments;
mod arguments;
mod arrays;
mod elementwise;
mod filters;
mod functions;
mod generic;
mod integers;
mod linear;
mod losses;
mod matrices;
mod network;
mod node;
mod parts;
mod patterns;
mod pictures;
mod probe;
mod ranking;
mod reductions;
mod signals;
mod slicing;
mod table;
mod warps;
mod windows;

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Dialect, Error, Result, nearest};
use serde_json::{Value, json};

use super::Entry;
use super::merge::broadcast;
use crate::config::{Fields, Object, Writer};
use crate::{Argument, Call, Inputs, Layer, Spec};
use arguments::{Args, promote, value_of};
pub use node::TensorFlowOpLayer;
pub(crate) use node::base64;
pub(crate) use parts::{OpPart, OpSource};
use probe::Probed;
use table::Known;

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<Operation>(&["TFOpLambda", "SlicingOpLambda"]),
    Entry::of::<TensorFlowOpLayer>(&["TensorFlowOpLayer"]),
];

/// A single op in a graph of layers.
#[derive(Debug, Clone, Default)]
pub struct Operation {
    /// Keras 3's class, or Keras 2's function.
    name: String,
    /// Where Keras 3 has the class.
    module: String,
    /// Whether it was read as a layer of Keras 2's, which counts among a model's layers.
    keras2: bool,
    /// Arguments that Keras 3 has in the op's config: `axis`, `keepdims`.
    options: Object,
    probed: Probed,
}

/// A call as a dialect has it: positional arguments, keywords, and what the config says.
pub(crate) type Spelled<T> = (Vec<Argument<T>>, Vec<(String, Argument<T>)>, Object);

impl Operation {
    /// The op of a class in a module of Keras 3's ops.
    pub(crate) fn of_keras3(module: &str, class: &str) -> Self {
        Operation { name: class.to_owned(), module: module.to_owned(), ..Operation::default() }
    }

    /// Whether Keras 3 has an op of this class.
    pub(crate) fn is_class(class: &str) -> bool {
        table::class(class).is_some()
    }

    /// Keras 3's class, or the function that Keras 2 calls.
    pub(crate) fn title(&self) -> &str {
        &self.name
    }

    /// Whether it is a class of Keras 3's ops.
    pub(crate) fn is_of_keras3(&self) -> bool {
        !self.keras2 && !self.name.is_empty()
    }

    /// Whether Keras counts it among a model's layers.
    pub(crate) fn is_layer(&self) -> bool {
        self.keras2
    }

    fn known(&self) -> Result<&'static Known> {
        let found = if self.keras2 { table::function(&self.name) } else { table::class(&self.name) };
        found.ok_or_else(|| {
            let error = Error::unsupported(format!("the op {:?} between layers", self.name));
            match nearest(&self.name, table::names()) {
                Some(near) => error.help(near),
                None => error.help("build the model with a layer of your own instead"),
            }
        })
    }

    /// A call's arguments as a dialect spells them, with the config that goes with the op.
    ///
    /// # Errors
    /// When the dialect has no such op, or no such argument of it.
    pub(crate) fn spell<T: Clone>(
        &self,
        args: &[Argument<T>],
        keywords: &[(String, Argument<T>)],
        keras3: bool,
    ) -> Result<Spelled<T>> {
        if self.keras2 != keras3 {
            return Ok((args.to_vec(), keywords.to_vec(), self.options.clone()));
        }
        let known = self.known()?;
        let names = self.arguments();
        let mut all: Vec<(String, Argument<T>)> = Vec::new();
        for (i, argument) in args.iter().enumerate() {
            all.push((names.get(i).copied().unwrap_or_default().to_owned(), argument.clone()));
        }
        all.extend(keywords.iter().filter(|(n, _)| n != "name").cloned());
        all.extend(self.options.iter().map(|(k, v)| (k.clone(), Argument::Value(v.clone()))));
        let (mut spelled, mut named, mut config) = (Vec::new(), Vec::new(), Object::new());
        if keras3 {
            if known.class.is_empty() {
                let what = format!("Keras 3 has no op that is TensorFlow's function {:?}", self.name);
                return Err(Error::unsupported(what));
            }
            let mut all: Vec<_> = all.into_iter().map(|(n, a)| (known.canonical(&self.name, &n), a)).collect();
            for name in &known.call {
                match all.iter().position(|(n, _)| n == name).map(|i| all.swap_remove(i).1) {
                    Some(argument) if named.is_empty() && spelled.len() < known.call.len() => {
                        spelled.push(slicing::of_keras3(argument));
                    }
                    Some(argument) => named.push(((*name).to_owned(), slicing::of_keras3(argument))),
                    None => {}
                }
            }
            for (name, argument) in all {
                let value = value_of(&argument).filter(|_| known.config.contains(&name));
                match value {
                    Some(value) => drop(config.insert(name.to_owned(), value)),
                    None if matches!(&argument, Argument::Value(v) if v.is_null() || v == &json!(false)) => {}
                    None => return Err(self.unspeakable(name, "Keras 3")),
                }
            }
            return Ok((spelled, named, config));
        }
        let function = known.functions.first().ok_or_else(|| {
            Error::unsupported(format!("Keras 2 has no function that is Keras 3's op {:?}", self.name))
        })?;
        for (name, argument) in all {
            match function.params.iter().position(|(_, canonical)| *canonical == name) {
                Some(0) => spelled.push(slicing::respelled(argument)),
                Some(i) => named.push((function.params[i].0.to_owned(), slicing::respelled(argument))),
                None if matches!(&argument, Argument::Value(v) if v.is_null() || v == &json!(false)) => {}
                None => return Err(self.unspeakable(&name, "Keras 2")),
            }
        }
        Ok((spelled, named, config))
    }

    fn unspeakable(&self, name: &str, dialect: &str) -> Error {
        Error::unsupported(format!("{dialect} can't say argument {name:?} of the op {:?}", self.name))
    }

    /// Writes the node that a dialect has for it, with this config beside its name.
    pub(crate) fn write(&self, name: &str, writer: &mut Writer) -> Result<Value> {
        let keras3 = writer.is_keras3();
        let (module, class, mut config) = if keras3 {
            let known = self.known()?;
            let module = match self.module.is_empty() || self.module.ends_with('.') {
                true => format!("keras.src.ops.{}", known.module),
                false => self.module.clone(),
            };
            (module, known.class, self.options.clone())
        } else {
            let function = match self.keras2 {
                true => self.name.as_str(),
                false => self.known()?.functions.first().map(|f| f.name).unwrap_or_default(),
            };
            let config = json!({"trainable": true, "dtype": "float32", "function": function});
            let slices = function == "__operators__.getitem";
            let class = if slices { "SlicingOpLambda" } else { "TFOpLambda" };
            let config = config.as_object().cloned().unwrap_or_default();
            ("keras.src.layers.core.tf_op_layer".to_owned(), class, config)
        };
        config.insert("name".to_owned(), json!(name));
        Ok(json!({"module": module, "class_name": class, "config": config, "registered_name": class}))
    }

    /// The call's arguments under their names in Keras 3.
    fn named(&self, known: &'static Known, inputs: &Inputs) -> Vec<(&'static str, Argument<usize>)> {
        let options = self.options.iter().map(|(k, v)| (k.as_str(), Argument::Value(v.clone())));
        let given = inputs.arguments().iter().map(|(n, a)| (n.as_str(), a.clone()));
        let canonical = |n: &str| if self.keras2 { known.canonical(&self.name, n) } else { known.own(n) };
        given.chain(options).map(|(n, a)| (canonical(n), a)).collect()
    }

    fn trace(&self, call: &mut Call<'_>, inputs: &Inputs, given: &[Sym]) -> Result<Vec<Sym>> {
        let known = self.known()?;
        let named = self.named(known, inputs);
        let mut args = Args { call, given, named, keras2: self.keras2 };
        known.form.trace(&mut args, &known.call)
    }
}

impl Layer for Operation {
    fn class_name(&self) -> &str {
        match () {
            () if self.name == "__operators__.getitem" => "SlicingOpLambda",
            () if self.keras2 || self.name.is_empty() => "TFOpLambda",
            () => &self.name,
        }
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        if !f.is_reading() {
            return;
        }
        if self.name.is_empty() {
            self.keras2 = f.dialect() != Dialect::Keras3 || f.has("function");
            f.required("function", &mut self.name);
            return;
        }
        let own = f.rest();
        self.options.extend(own);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let known = self.known()?;
        let named = self.named(known, inputs);
        let listed = |a: &Argument<usize>| matches!(a, Argument::List(_) | Argument::Dict(_));
        let plain = named.iter().all(|(_, a)| !listed(a) && !matches!(a, Argument::Value(v) if v.is_array() || v.is_object()));
        if let (Some(dtype), true) = (known.form.elementwise(), plain) {
            let given = inputs.all().iter().map(|s| s.dtype).reduce(promote).unwrap_or(DType::F32);
            // A fraction beside integers makes floats of them, which the op itself knows best.
            if given.is_float() || dtype == Some(DType::Bool) {
                return Ok(vec![Spec::new(broadcast(inputs, 0)?, dtype.unwrap_or(given))]);
            }
        }
        self.probed.output(inputs, &|call, given| self.trace(call, inputs, given))
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let inputs = call.inputs().clone();
        self.trace(call, &inputs, given)
    }

    fn arguments(&self) -> &[&str] {
        let Ok(known) = self.known() else { return &[] };
        if self.keras2 { known.function(&self.name).map_or(&[], |f| &f.names) } else { &known.call }
    }

    fn autocasts(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(class: &str, options: Value) -> Operation {
        let options = options.as_object().cloned().unwrap_or_default();
        Operation { options, ..Operation::of_keras3("keras.src.ops.numpy", class) }
    }

    #[test]
    fn shapes_are_found_by_running() {
        let input = Spec::new([None, Some(4), Some(6)], DType::F32);
        let shown = |op: Operation| {
            let arguments = vec![("x".to_owned(), Argument::Tensor(0))];
            let inputs = Inputs::new(vec![input.clone()], DType::F32);
            let inputs = inputs.of_call(&DType::F32.into(), arguments);
            op.output(&inputs).map(|o| o.iter().map(|s| s.shape.to_string()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(shown(op("Mean", json!({"axis": 1}))).unwrap(), "(None, 6)");
        assert_eq!(shown(op("Reshape", json!({"newshape": [-1, 24]}))).unwrap(), "(None, 24)");
        assert_eq!(shown(op("Split", json!({"indices_or_sections": 2, "axis": 1}))).unwrap(), "(None, 2, 6) (None, 2, 6)");
        assert!(shown(op("NoSuchOp", json!({}))).unwrap_err().to_string().contains("NoSuchOp"));
        assert!(shown(op("Mean", json!({"axis": 5}))).is_err());
    }

    #[test]
    fn whole_numbers_and_booleans_become_what_keras_makes_of_them() {
        let given = |class: &str, names: &[&str], dtype: DType| {
            let name = |(i, name): (usize, &&str)| ((*name).to_owned(), Argument::Tensor(i));
            let arguments: Vec<_> = names.iter().enumerate().map(name).collect();
            let specs = vec![Spec::new([Some(2), Some(3)], dtype); names.len()];
            let inputs = Inputs::new(specs, DType::F32).of_call(&DType::F32.into(), arguments);
            op(class, json!({})).output(&inputs).map(|o| o[0].dtype).unwrap_or_else(|e| panic!("{class}: {e}"))
        };
        for (class, dtype, made) in [
            ("Absolute", DType::Bool, DType::Bool),
            ("Amax", DType::Bool, DType::Bool),
            ("Min", DType::Bool, DType::Bool),
            ("Argsort", DType::Bool, DType::I32),
            ("Cumsum", DType::Bool, DType::I32),
        ] {
            assert_eq!(given(class, &["x"], dtype), made, "{class}");
        }
        assert_eq!(given("Diff", &["a"], DType::Bool), DType::Bool);
        for (class, dtype, made) in [
            ("Arctan2", DType::Bool, DType::F32),
            ("AllClose", DType::Bool, DType::Bool),
            ("Fmax", DType::I32, DType::I32),
            ("Heaviside", DType::I32, DType::F32),
            ("Hypot", DType::I64, DType::F64),
            ("Inner", DType::Bool, DType::Bool),
            ("Isclose", DType::I32, DType::Bool),
        ] {
            assert_eq!(given(class, &["x1", "x2"], dtype), made, "{class}");
        }
    }

    #[test]
    fn a_call_is_spelt_as_the_other_dialect_has_it() {
        let mean = op("Mean", json!({"axis": 1, "keepdims": true}));
        let (args, keywords, _) = mean.spell(&[Argument::Tensor(0)], &[], false).unwrap();
        assert_eq!(args, [Argument::Tensor(0)]);
        let value = |v: Value| Argument::<i32>::Value(v);
        assert_eq!(keywords, [("axis".to_owned(), value(json!(1))), ("keepdims".to_owned(), value(json!(true)))]);
        let old = Operation { name: "math.reduce_mean".into(), keras2: true, ..Operation::default() };
        let (args, _, config) = old.spell(&args, &keywords, true).unwrap();
        assert_eq!((args.len(), Value::from(config)), (1, json!({"axis": 1, "keepdims": true})));
    }
}
