//! A model as an artifact: architecture, objects, functions, training.

use std::collections::BTreeMap;

use modelark_artifact::graph::{Attr, Builder, FuncRef, Library};
use modelark_artifact::tensor::DType;
use modelark_artifact::{
    Artifact, ConcreteFunction, Dialect, FunctionObject, Functions, Kind, Objects, Report, Result, Structure,
};

use super::{Argument, Model, Traced, changes};
use crate::config::plain;
use crate::instance::node_name;
use crate::{Spec, training};

/// The names of the functions in the library.
const CALL: &str = "__inference_call";
const SIGNATURE: &str = "__inference_signature_wrapper";

impl Model {
    /// The dialect of the file that the model was read from, Keras 2's for one of Keras 1; Keras 3's for one that was
    /// made.
    pub fn dialect(&self) -> Dialect {
        self.source.as_ref().map_or(Dialect::Keras3, |s| s.dialect.max(Dialect::Keras2))
    }

    /// What changes or is lost when the model is written in a dialect, a line each.
    pub fn changes(&self, dialect: Dialect) -> Vec<String> {
        match self.described(dialect) {
            Ok((_, report)) => report.notes,
            Err(error) => self.notes.iter().cloned().chain([error.to_string()]).collect(),
        }
    }

    /// The model with all its parts: the architecture in this dialect, the objects with their values, the traced
    /// functions, and training state as the dialect spells it; and what [changes](Model::changes).
    ///
    /// The root's child `__call__` is the function that takes the model's inputs in their own structure with
    /// `training=False` and `mask=None`, and so is `serve`, the endpoint that Keras 3's `TFSMLayer` takes; the child
    /// `signatures` holds `serving_default`, which takes the inputs by name and gives outputs named after their layers
    /// (Keras 2) or `output_0` and so on (Keras 3).
    ///
    /// # Errors
    /// When a layer can't be traced, or the dialect can't say what a layer is. A model that isn't built has no functions.
    pub fn to_artifact(&self, dialect: Dialect) -> Result<(Artifact, Report)> {
        if let Some(apart) = self.apart(written(dialect))? {
            return apart.to_artifact(dialect);
        }
        let (mut artifact, report) = self.described(dialect)?;
        let mut functions = self.functions(written(dialect), &mut artifact.objects)?;
        self.add_layer_functions(&mut artifact.objects, &mut functions)?;
        if written(dialect) == Dialect::Keras2 {
            self.add_weights_of_words(&mut artifact.objects)?;
        }
        artifact.functions = Some(functions);
        Ok((artifact, report))
    }

    /// As [`Model::to_artifact`] without functions, which takes no tracing.
    ///
    /// # Errors
    /// When the model isn't built, or the dialect can't say what a layer is.
    pub fn described(&self, dialect: Dialect) -> Result<(Artifact, Report)> {
        if let Some(apart) = self.apart(written(dialect))? {
            return apart.described(dialect);
        }
        let written = written(dialect);
        let mut report = Report { notes: self.notes.clone() };
        let (architecture, changes) = self.architecture(dialect)?;
        report.extend(changes);
        if let Some(source) = self.source.as_ref().filter(|s| s.dialect != architecture.dialect) {
            report.notes.extend(changes::respelled(&plain(&source.config), &plain(&architecture.config)));
        }
        let training = self.training.as_ref().map(|t| {
            let (training, changes) = training::convert(t, &self.objects, written);
            report.extend(changes);
            training
        });
        let mut objects = if self.objects.is_empty() { self.skeleton()? } else { self.objects.clone() };
        for (id, config) in self.configs(written)? {
            if let Some(Kind::Layer(layer)) = objects.get_mut(id).map(|o| &mut o.kind) {
                layer.config = config;
            }
        }
        if let Some(Kind::Layer(root)) = objects.get_mut(Objects::ROOT).map(|o| &mut o.kind) {
            root.config = architecture.config.get("config").map(ToString::to_string).unwrap_or_default();
        }
        let artifact =
            Artifact { architecture: Some(architecture), training, objects, ..Artifact::default() };
        Ok((artifact, report))
    }

    fn functions(&self, dialect: Dialect, objects: &mut Objects) -> Result<Functions> {
        let inputs = self.inputs()?;
        let input = self.input_structure().map(&mut |i| Ok(*i))?;
        let output = self.output_structure();
        let called = self.trace_ordered(CALL, &sorted(&input), &sorted(&output))?;
        let specs: BTreeMap<usize, (String, Spec)> = inputs.into_iter().enumerate().collect();
        let outputs: BTreeMap<usize, (String, Spec)> =
            sorted(&output).into_iter().zip(called.outputs.iter().cloned()).collect();
        let call = ConcreteFunction {
            captures: called.captures.clone(),
            input: arguments(
                vec![structure(&input, &specs), Structure::Bool(false), Structure::None],
                BTreeMap::new(),
            ),
            output: structure(&output, &outputs),
        };
        let (signature, wrapper) = self.signature(&called, &specs, &outputs, &output, dialect)?;

        let keywords: Vec<String> = match &signature.input {
            Structure::Tuple(parts) => match parts.last() {
                Some(Structure::Dict(items)) => items.keys().cloned().collect(),
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        let mut library = called.library;
        library.insert(called.function);
        library.extend(wrapper);
        let root = Objects::ROOT;
        let function = objects.add(
            root,
            "__call__",
            Kind::Function(FunctionObject {
                concrete: vec![CALL.to_owned()],
                arg_spec: Some(arg_spec()),
                is_method: true,
                input_signature: None,
            }),
        );
        objects.link(root, "serve", function);
        let signatures = objects.add(root, "signatures", Kind::Signatures);
        let allowed_positional = usize::from(keywords.len() == 1);
        objects.add(
            signatures,
            "serving_default",
            Kind::ConcreteFunction {
                name: SIGNATURE.to_owned(),
                argument_keywords: keywords,
                allowed_positional,
            },
        );
        let concrete = BTreeMap::from([(CALL.to_owned(), call), (SIGNATURE.to_owned(), signature)]);
        Ok(Functions { library, concrete, session: None })
    }

    /// The function that takes inputs by name and gives outputs by name, both sorted; it calls the other one.
    fn signature(
        &self,
        called: &Traced,
        inputs: &BTreeMap<usize, (String, Spec)>,
        outputs: &BTreeMap<usize, (String, Spec)>,
        output: &Argument<usize>,
        dialect: Dialect,
    ) -> Result<(ConcreteFunction, Library)> {
        let by_name: BTreeMap<String, usize> =
            inputs.iter().map(|(i, (name, _))| (node_name(name).replace('/', "_"), *i)).collect();
        let named = |i: usize, name: &str| match (dialect, output) {
            (Dialect::Keras3, Argument::Tensor(_) | Argument::List(_)) => format!("output_{i}"),
            _ => name.to_owned(),
        };
        let results: BTreeMap<String, usize> =
            outputs.iter().map(|(i, (name, _))| (named(*i, name), *i)).collect();

        let mut builder = Builder::new(SIGNATURE);
        let mut args = BTreeMap::new();
        for (name, &i) in &by_name {
            let dtype = inputs.get(&i).map_or(DType::F32, |(_, s)| s.dtype);
            args.insert(i, builder.arg(name, dtype)?);
        }
        let mut given: Vec<_> =
            sorted(&self.graph.input).iter().filter_map(|i| args.get(i).copied()).collect();
        for node in called.function.args().iter().skip(given.len()) {
            given.push(builder.arg(&node.name, DType::Resource)?);
        }
        let types = |dtypes: Vec<DType>| dtypes.into_iter().map(Attr::Type).collect::<Vec<_>>();
        let taken = given.iter().map(|&x| builder.dtype(x)).collect();
        let made: Vec<DType> = called.function.results.iter().map(|r| r.dtype).collect();
        let call = builder.op("StatefulPartitionedCall").inputs(&given);
        let call = call.attr("f", FuncRef::new(CALL)).attr("Tin", types(taken)).attr("Tout", types(made));
        let flat = call.all()?;
        let order = sorted(output);
        let mut finished = Vec::new();
        for (name, i) in &results {
            if let Some(&y) = order.iter().position(|o| o == i).and_then(|p| flat.get(p)) {
                finished.push((node_name(name), builder.op("Identity").input(y).one()?));
            }
        }
        let finished: Vec<_> = finished.iter().map(|(n, y)| (n.as_str(), *y)).collect();
        let (function, mut library) = builder.finish(&finished)?;
        library.insert(function);
        let dict = |names: &BTreeMap<String, usize>, specs: &BTreeMap<usize, (String, Spec)>| {
            let item = |(name, i): (&String, &usize)| Some((name.clone(), tensor(name, &specs.get(i)?.1)));
            names.iter().filter_map(item).collect::<BTreeMap<_, _>>()
        };
        let concrete = ConcreteFunction {
            captures: called.captures.clone(),
            input: arguments(Vec::new(), dict(&by_name, inputs)),
            output: Structure::Dict(dict(&results, outputs)),
        };
        Ok((concrete, library))
    }
}

/// The dialect that is written: what isn't written in Keras 1's, a file in it keeps.
fn written(dialect: Dialect) -> Dialect {
    if dialect == Dialect::Keras1 { Dialect::Keras2 } else { dialect }
}

/// The indexes in the order in which TensorFlow flattens the structure: dicts by key.
fn sorted(argument: &Argument<usize>) -> Vec<usize> {
    match argument {
        Argument::Tensor(i) => vec![*i],
        Argument::List(items) => items.iter().flat_map(sorted).collect(),
        Argument::Dict(items) => {
            let items: BTreeMap<&String, &Argument<usize>> = items.iter().map(|(k, v)| (k, v)).collect();
            items.into_values().flat_map(sorted).collect()
        }
        Argument::Value(_) => Vec::new(),
    }
}

pub(super) fn tensor(name: &str, spec: &Spec) -> Structure {
    Structure::Tensor { name: node_name(name), shape: spec.shape.clone(), dtype: spec.dtype }
}

fn structure(argument: &Argument<usize>, specs: &BTreeMap<usize, (String, Spec)>) -> Structure {
    match argument {
        Argument::Tensor(i) => specs.get(i).map_or(Structure::None, |(name, spec)| tensor(name, spec)),
        Argument::List(items) => Structure::List(items.iter().map(|i| structure(i, specs)).collect()),
        Argument::Dict(items) => {
            Structure::Dict(items.iter().map(|(k, v)| (k.clone(), structure(v, specs))).collect())
        }
        Argument::Value(_) => Structure::None,
    }
}

pub(super) fn arguments(positional: Vec<Structure>, keywords: BTreeMap<String, Structure>) -> Structure {
    Structure::Tuple(vec![Structure::Tuple(positional), Structure::Dict(keywords)])
}

/// Python's signature of a model's call: `(self, inputs, training=False, mask=None)`.
pub(super) fn arg_spec() -> Structure {
    let names = ["self", "inputs", "training", "mask"];
    let fields = [
        ("args", Structure::List(names.iter().map(|n| Structure::String((*n).to_owned())).collect())),
        ("varargs", Structure::None),
        ("varkw", Structure::None),
        ("defaults", Structure::Tuple(vec![Structure::Bool(false), Structure::None])),
        ("kwonlyargs", Structure::List(Vec::new())),
        ("kwonlydefaults", Structure::None),
        ("annotations", Structure::Dict(BTreeMap::new())),
    ];
    Structure::NamedTuple {
        name: "FullArgSpec".to_owned(),
        fields: fields.into_iter().map(|(n, v)| (n.to_owned(), v)).collect(),
    }
}
