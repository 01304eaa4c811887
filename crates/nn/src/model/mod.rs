//! Models: layers and how they connect.

mod alone;
mod apart;
mod artifact;
mod bind;
mod builder;
mod changes;
mod features;
mod functional;
mod graph;
mod merged;
mod objects;
mod premade;
mod sequential;
mod spelling;
mod stand_in;
mod summary;
mod trace;

use std::borrow::Cow;

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{
    Architecture, Dialect, Error, ErrorKind, ObjectId, Objects, Report, Result, Role, Training,
};
use serde_json::Value;

pub use builder::{Apply, Named, Tensor, input, input_named};
pub use graph::Argument;
pub(crate) use graph::{Edge, Graph, Step};
pub(crate) use merged::{MERGE, modern as modern_merge};
pub(crate) use objects::{Tree, snake_case};
pub use sequential::Sequential;
pub(crate) use stand_in::{StandIns, Weight};
pub use summary::Row;
pub use trace::Traced;

use crate::adapter;
use crate::config::{Object, Reader, Writer, expected, plain};
use crate::former;
use crate::layers::{InputLayer, Operation};
use crate::{Call, Instance, Registry, Spec};

/// A model: layers, how they connect, and their variables (Keras: `Sequential`, `Functional`).
///
/// A model that was read knows the architecture that it came from, and gives it back as it was in the same dialect.
#[derive(Debug, Clone)]
pub struct Model {
    name: String,
    kind: Kind,
    /// In the order of Keras's `model.layers`: with the InputLayers in a Functional model, without in a Sequential one.
    layers: Vec<Instance>,
    graph: Graph,
    unknown: Object,
    objects: Objects,
    source: Option<Architecture>,
    /// What it was, if its weights lie as those of a premade model.
    premade: Option<premade::Premade>,
    training: Option<Training>,
    /// What reading the file changed, a line each.
    notes: Vec<String>,
}

#[derive(Debug, Clone)]
enum Kind {
    Sequential {
        /// The InputLayer, where the model begins with one.
        input: Option<Box<Instance>>,
        /// The shape that the model was built for, where nothing else says.
        build: Option<Vec<Option<usize>>>,
    },
    Functional {
        /// The InputLayers, by index, in the order of the model's inputs.
        inputs: Vec<usize>,
    },
}

impl Model {
    /// Reads an architecture, in whatever dialect it is. Variables have no values yet: put them into the
    /// [`Model::skeleton`], then call [`Model::set_objects`].
    ///
    /// # Errors
    /// When a class isn't known, a config isn't what its class takes, or the layers don't connect.
    pub fn from_architecture(architecture: &Architecture, registry: &Registry) -> Result<Self> {
        let mut model = Model::read_architecture(architecture, &Reader::of(architecture, registry))?;
        if model.is_built() {
            model.objects = model.empty_objects()?;
        }
        Ok(model)
    }

    fn read_architecture(architecture: &Architecture, reader: &Reader<'_>) -> Result<Self> {
        let node = plain(&architecture.config);
        let features = features::functional(&node).map_err(|e| e.at("architecture"))?;
        let premade = premade::functional(&node).map_err(|e| e.at("architecture"))?;
        // The class that the model doesn't keep.
        let became = (features.is_some() || premade.is_some())
            .then(|| node.get("class_name").and_then(Value::as_str).unwrap_or_default().to_owned());
        let (made, premade) = premade.unzip();
        let mut node = features.or(made).map_or(node, Cow::Owned);
        if architecture.dialect == Dialect::Keras1 {
            former::spread_data_format(node.to_mut());
        }
        let class = node.get("class_name").and_then(Value::as_str).unwrap_or_default();
        if !Model::is_class(class) && !node.is_array() {
            let registered = node.get("registered_name").and_then(Value::as_str).unwrap_or(class);
            return Err(Error::new(
                ErrorKind::UnknownClass,
                format!(
                    "the model is of a class of its own, {registered:?}, whose config doesn't say what is in it"
                ),
            )
            .at("architecture")
            .help("its functions can be run from a SavedModel; its weights can be listed, read and converted"));
        }
        let mut model = Model::read(&node, reader).map_err(|e| e.at("architecture"))?;
        model.premade = premade;
        model.note_dense_inputs();
        match became {
            None => model.source = Some(architecture.clone()),
            Some(class) => {
                model.source = Some(model.architecture(architecture.dialect)?.0);
                let columns = if model.premade.is_none() { ", from a dict of columns" } else { "" };
                model.note(format!("a {class} became the Functional model that computes the same{columns}"));
            }
        }
        Ok(model)
    }

    /// Tells of inputs that are more than dense tensors in Keras.
    fn note_dense_inputs(&mut self) {
        let first = match &self.kind {
            Kind::Sequential { input: Some(input), .. } => Some(&**input),
            _ => None,
        };
        let inputs = first.into_iter().chain(&self.layers);
        let told = inputs.filter_map(|layer| {
            let form = layer.downcast::<InputLayer>()?.made_dense()?;
            Some(format!("the input {:?} is {form} in Keras: it is taken as a dense tensor", layer.name()))
        });
        let told: Vec<String> = told.collect();
        self.notes.extend(told);
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `Sequential` or `Functional`.
    pub fn class_name(&self) -> &str {
        match self.kind {
            Kind::Sequential { .. } => "Sequential",
            Kind::Functional { .. } => "Functional",
        }
    }

    /// The layers in the order of Keras's `model.layers`.
    pub fn layers(&self) -> &[Instance] {
        &self.layers
    }

    /// The layer of this name.
    pub fn layer(&self, name: &str) -> Option<&Instance> {
        self.layers.iter().find(|l| l.name() == name)
    }

    /// Whether the inputs' shapes are known, so that the weights' are.
    pub fn is_built(&self) -> bool {
        self.inputs().is_ok()
    }

    /// The names of the inputs with what is known of them, in the model's order.
    ///
    /// # Errors
    /// When a Sequential model doesn't say its input's shape: then [`Model::build`] it.
    pub fn inputs(&self) -> Result<Vec<(String, Spec)>> {
        let named = |layer: &Instance| {
            let input = layer.downcast::<InputLayer>().ok_or_else(|| Error::corrupt("not an InputLayer"))?;
            Ok((layer.name().to_owned(), input.spec()?))
        };
        match &self.kind {
            Kind::Functional { inputs } => {
                inputs.iter().filter_map(|&i| self.layers.get(i)).map(named).collect()
            }
            Kind::Sequential { input: Some(input), .. } => Ok(vec![named(input)?]),
            Kind::Sequential { input: None, build } => {
                let first = self.layers.first();
                // A model may itself begin with a model that knows its inputs.
                if let Some(model) = first.and_then(Instance::model)
                    && build.is_none()
                {
                    return model.inputs();
                }
                let shape =
                    first.and_then(Instance::batch_input_shape).or(build.as_deref()).ok_or_else(|| {
                        Error::missing(format!(
                            "the Sequential model {:?} doesn't say its input's shape",
                            self.name
                        ))
                        .help("build it with one")
                    })?;
                let name = format!("{}_input", first.map(Instance::name).unwrap_or_default());
                let dtype = first.map_or(Ok(DType::F32), |l| l.policy().compute())?;
                Ok(vec![(name, Spec::new(shape, dtype))])
            }
        }
    }

    /// The names of the outputs with what is known of them, in the model's order.
    ///
    /// An output is named after the layer that gives it, as in Keras 2, or by its key in a dict.
    ///
    /// # Errors
    /// When the model isn't built, or its layers don't fit each other.
    pub fn outputs(&self) -> Result<Vec<(String, Spec)>> {
        let inputs: Vec<Spec> = self.inputs()?.into_iter().map(|(_, s)| s).collect();
        let (_, output) = self.graph.propagate(&self.layers, &inputs)?;
        let names = self.output_names()?;
        Ok(names.into_iter().zip(output.tensors()).collect())
    }

    fn output_names(&self) -> Result<Vec<String>> {
        let keys: Vec<Option<&str>> = match &self.graph.output {
            Argument::Dict(items) => items.iter().map(|(k, _)| Some(k.as_str())).collect(),
            _ => Vec::new(),
        };
        let inputs = self.inputs()?;
        let mut names: Vec<String> = Vec::new();
        for (i, edge) in self.graph.output.tensors().into_iter().enumerate() {
            let base = match (keys.get(i).copied().flatten(), edge) {
                (Some(key), _) => key.to_owned(),
                (None, Edge::Input(i)) => inputs.get(i).map(|(n, _)| n.clone()).unwrap_or_default(),
                (None, Edge::Output(step, _)) => {
                    let step = self.graph.steps.get(step);
                    step.and_then(|s| self.layers.get(s.layer))
                        .map(|l| l.name().to_owned())
                        .unwrap_or_default()
                }
            };
            let mut name = base.clone();
            let mut count = 0;
            while names.contains(&name) {
                count += 1;
                name = format!("{base}_{count}");
            }
            names.push(name);
        }
        Ok(names)
    }

    /// The structure of what the model takes: one tensor, a list or a dict, of inputs by index.
    pub fn input_structure(&self) -> &Argument<usize> {
        &self.graph.input
    }

    /// The structure of what the model gives: one tensor, a list or a dict, of outputs by index.
    pub fn output_structure(&self) -> Argument<usize> {
        let mut count = 0;
        let numbered = self.graph.output.map(&mut |_| {
            count += 1;
            Ok(count - 1)
        });
        numbered.unwrap_or(Argument::Tensor(0))
    }

    /// Says the input's shape (with its batch) of a Sequential model that doesn't know it.
    ///
    /// # Errors
    /// When the model is Functional, or its layers don't fit the shape.
    pub fn build(&mut self, batch_shape: impl Into<Vec<Option<usize>>>) -> Result<()> {
        match &mut self.kind {
            Kind::Sequential { build, .. } => *build = Some(batch_shape.into()),
            Kind::Functional { .. } => return Err(Error::invalid("a Functional model knows its inputs")),
        }
        self.objects = self.empty_objects()?;
        Ok(())
    }

    /// Keys of configs that their classes don't have, as `layer: key`. They are kept and written back.
    pub fn unknown_keys(&self) -> Vec<String> {
        let own = self.unknown.keys().map(|k| format!("{}: {k}", self.name));
        let layers = self.layers.iter().flat_map(|l| match l.model() {
            Some(model) => model.unknown_keys(),
            None => l.unknown_keys().keys().map(|k| format!("{}: {k}", l.name())).collect(),
        });
        own.chain(layers).collect()
    }

    /// The architecture in a dialect, with what changed or was lost.
    ///
    /// A model that was read in that dialect gives back what was read; Keras 1's is written as Keras 2's.
    ///
    /// # Errors
    /// When the dialect can't say what a layer is.
    pub fn architecture(&self, dialect: Dialect) -> Result<(Architecture, Report)> {
        if let Some(source) = &self.source
            && source.dialect == dialect
            && source.dialect != Dialect::Keras1
        {
            let mut source = source.clone();
            former::complete(&mut source.config);
            return Ok((source, Report::default()));
        }
        // What Keras 1 wrote, Keras 2 writes: the weights, too, lie as Keras 2 has them.
        let dialect = dialect.max(Dialect::Keras2);
        if let Some(apart) = self.apart(dialect)? {
            return apart.architecture(dialect);
        }
        let mut writer = Writer::new(dialect);
        let config = self.write(&self.name, &mut writer)?;
        // The versions whose spelling is written.
        let version = if dialect == Dialect::Keras3 { "3.8.0" } else { "2.15.0" };
        let architecture = Architecture { config, dialect, keras_version: Some(version.to_owned()) };
        Ok((architecture, writer.report))
    }

    /// The model with an architecture that says where Python finds its classes, if it was read in this dialect from a file
    /// that doesn't: one whose version didn't yet (before Keras 2.13) is spelled as today, any other keeps all that it says.
    /// Where the file to be written needs no `modules`, only ops do, which Keras 3 finds by them alone.
    ///
    /// # Errors
    /// When the dialect can't say what a layer is.
    pub fn respelled(&self, dialect: Dialect, modules: bool) -> Result<Option<Model>> {
        let Some(source) = self.source.as_ref().filter(|s| s.dialect == dialect) else { return Ok(None) };
        if !modules && dialect == Dialect::Keras3 {
            let mut merged = source.clone();
            if adapter::leave_out(&mut merged.config) {
                let mut model = Model { source: Some(merged), ..self.clone() };
                model.note("low-rank adapters (lora_rank) were added to their kernels and left out");
                return Ok(Some(model.respelled(dialect, modules)?.unwrap_or(model)));
            }
        }
        let version = source.keras_version.as_deref().unwrap_or("2");
        let minor = version.split('.').nth(1).and_then(|m| m.parse::<u32>().ok()).unwrap_or_default();
        let is_old = modules && dialect == Dialect::Keras2 && minor < 13;
        // An `.h5` doesn't tell an op from the layer of its name, nor whose a class is.
        let wants = modules || (dialect == Dialect::Keras3 && self.has_ops());
        let is_silent = wants && source.config.get("module").is_none();
        if dialect == Dialect::Keras1 || !(is_old || is_silent) {
            return Ok(None);
        }
        let mut model = Model { source: None, ..self.clone() };
        let (mut architecture, report) = model.architecture(dialect)?;
        if is_old {
            let spelling = architecture.keras_version.as_deref().unwrap_or_default();
            model.note(format!("the architecture of Keras {version} is spelled as Keras {spelling} does"));
            model.notes.extend(report.notes);
        } else {
            let spelled = std::mem::replace(&mut architecture, source.clone()).config;
            former::complete(&mut architecture.config);
            spelling::place(&mut architecture.config, &spelled);
        }
        model.source = Some(architecture);
        Ok(Some(model))
    }

    /// The model with names that a dialect takes, if it has others: Keras 3 has no `/` in the names of layers.
    pub fn renamed(&self, dialect: Dialect) -> Option<Model> {
        if dialect != Dialect::Keras3 || !self.has_slashes() {
            return None;
        }
        let mut model = self.clone().without_slashes();
        let ids: Vec<ObjectId> = model.objects.iter().map(|(id, _)| id).collect();
        for id in ids {
            if let Some(modelark_artifact::Kind::Layer(layer)) =
                model.objects.get_mut(id).map(|o| &mut o.kind)
            {
                layer.name = without_slashes(&layer.name);
            }
        }
        model.note("Keras 3 takes no \"/\" in the names of layers: each became \"_\"");
        Some(model)
    }

    fn has_slashes(&self) -> bool {
        self.layers.iter().any(|l| l.name().contains('/') || l.model().is_some_and(Model::has_slashes))
    }

    fn without_slashes(mut self) -> Model {
        self.name = without_slashes(&self.name);
        for layer in &mut self.layers {
            let renamed = match layer.model() {
                Some(model) => layer.clone().holding(model.clone().without_slashes()),
                None => layer.clone(),
            };
            *layer = renamed.named(&without_slashes(layer.name()));
        }
        if let Kind::Sequential { input: Some(input), .. } = &mut self.kind {
            let renamed = (**input).clone().named(&without_slashes(input.name()));
            **input = renamed;
        }
        self
    }

    fn has_ops(&self) -> bool {
        let is_op =
            |l: &Instance| l.downcast::<Operation>().is_some() || l.model().is_some_and(Model::has_ops);
        self.layers.iter().any(is_op)
    }

    /// Keeps a line that [`Model::changes`] is to tell: what reading the model changed.
    pub fn note(&mut self, line: impl Into<String>) {
        self.notes.push(line.into());
    }

    /// What training left behind, and how the model is compiled.
    pub fn training(&self) -> Option<&Training> {
        self.training.as_ref()
    }

    /// Sets what training left behind, and how the model is compiled.
    pub fn set_training(&mut self, mut training: Option<Training>) {
        let optimizers = |t: &Training| {
            let compile = t.compile.as_ref()?;
            compile.get("optimizer").or(compile.get("optimizer_config"))?.as_array().map(Vec::len)
        };
        // A WideDeepModel may have an optimizer for each of its models.
        if self.premade.is_some() && training.as_ref().and_then(optimizers).is_some() {
            training = None;
            self.note("how it was compiled was left behind: a Functional model has one optimizer");
        }
        self.training = training;
    }

    /// Whether a class is a model's that Modelark builds from its config.
    pub(crate) fn is_class(class: &str) -> bool {
        matches!(class, "Sequential" | "Functional" | "Model")
    }

    pub(crate) fn role(&self) -> Role {
        match self.kind {
            Kind::Sequential { .. } => Role::Sequential,
            Kind::Functional { .. } => Role::Functional,
        }
    }

    /// Reads a model's node.
    pub(crate) fn read(node: &Value, reader: &Reader<'_>) -> Result<Self> {
        let mut model = Model::read_node(node, reader)?;
        if let Some(stand_ins) = &reader.stand_ins {
            model.settle(node, stand_ins)?;
        }
        Ok(model)
    }

    fn read_node(node: &Value, reader: &Reader<'_>) -> Result<Self> {
        // Keras 1: a bare list of layers.
        if let Value::Array(layers) = node {
            return Model::read_sequential(&Object::new(), layers, reader);
        }
        let class = node.get("class_name").and_then(Value::as_str).unwrap_or_default();
        match node.get("config") {
            Some(Value::Array(layers)) => Model::read_sequential(&Object::new(), layers, reader),
            Some(Value::Object(config)) if class == "Sequential" => {
                let layers = config.get("layers").and_then(Value::as_array);
                let layers = layers.ok_or_else(|| Error::corrupt("a Sequential model without \"layers\""))?;
                let mut model = Model::read_sequential(config, layers, reader)?;
                // What begins with an InputLayer needs to be told no shape.
                if let Kind::Sequential { build, input: None } = &mut model.kind
                    && build.is_none()
                    && let Some(shape) = node.pointer("/build_config/input_shape")
                {
                    *build = sequential::shape(shape, reader);
                }
                Ok(model)
            }
            Some(Value::Object(config)) => Model::read_functional(config, reader),
            _ => Err(expected("a model with a config", node)),
        }
    }

    /// Writes the model's node, under the name that it has where it stands.
    pub(crate) fn write(&self, name: &str, writer: &mut Writer) -> Result<Value> {
        self.tell_of_masks(writer);
        match &self.kind {
            Kind::Sequential { .. } => self.write_sequential(name, writer),
            Kind::Functional { .. } => self.write_functional(name, writer),
        }
    }

    /// Whether a layer, or one within it, says which steps count.
    fn makes_mask(&self) -> bool {
        let makes = |l: &Instance| match (l.model(), l.layer()) {
            (Some(model), _) => model.makes_mask(),
            (None, layer) => layer.is_some_and(crate::Layer::makes_mask),
        };
        self.layers.iter().any(makes)
    }

    /// Keras 2 and 3 don't make the same of masks in all layers; what was read as one of them has it does on here alone.
    fn tell_of_masks(&self, writer: &mut Writer) {
        if !self.makes_mask() {
            return;
        }
        let keras3 = writer.is_keras3();
        for layer in &self.layers {
            let crosses = layer.read_in().is_some_and(|d| (d == Dialect::Keras3) != keras3);
            if crosses && layer.layer().is_some_and(|l| l.masks_by_dialect()) {
                let [other, own] = if keras3 { [2, 3] } else { [3, 2] };
                writer.report.note(format!(
                    "{}: where a mask reaches it, Keras {own} counts other steps than Keras {other}",
                    layer.place()
                ));
            }
        }
    }

    /// Shapes and dtypes of the outputs for these inputs.
    pub(crate) fn output(&self, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(self.graph.propagate(&self.layers, inputs)?.1.tensors())
    }

    /// Traces a call of the model as a part of another: `object` is the model's own.
    pub(crate) fn call(&self, call: &mut Call<'_>, object: ObjectId, inputs: &[Sym]) -> Result<Vec<Sym>> {
        Ok(self.trace_steps(call, object, inputs)?.tensors())
    }
}

fn without_slashes(name: &str) -> String {
    name.replace('/', "_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layers::Dense;

    #[test]
    fn keras_3_gets_names_without_slashes() {
        let inner = Sequential::new("block/one")
            .add(InputLayer::new([2]))
            .add(Instance::from(Dense::new(3)).named("conv1/conv"));
        let model = Sequential::new("m").add(InputLayer::new([2])).add(inner.build().unwrap());
        let model = model.build().unwrap();
        assert!(model.renamed(Dialect::Keras2).is_none());
        let renamed = model.renamed(Dialect::Keras3).unwrap();
        assert_eq!(renamed.layers()[0].name(), "block_one");
        let names: Vec<String> = renamed
            .objects
            .iter()
            .filter_map(|(_, o)| match &o.kind {
                modelark_artifact::Kind::Layer(layer) => Some(layer.name.clone()),
                _ => None,
            })
            .collect();
        assert!(
            names.contains(&"conv1_conv".to_owned()) && names.iter().all(|n| !n.contains('/')),
            "{names:?}"
        );
        assert!(renamed.renamed(Dialect::Keras3).is_none());
    }
}
