//! The graph around the functions of a model that wasn't read from a SavedModel: handles of variables and tables, inputs
//! and calls of the signatures, initialization, saving and restoring.
//!
//! TensorFlow 2 loads a model without it; TensorFlow 1, the C++ loader and the serving programs load nothing else.

use std::collections::{BTreeMap, HashMap};

use modelark_artifact::graph::{Attr, Attrs, FuncRef, Graph, Names, Node, Output};
use modelark_artifact::tensor::{DType, PartialShape, Tensor};
use modelark_artifact::{Artifact, Error, Kind, ObjectId, Objects, Result, Signature, Structure, TensorInfo};
use modelark_proto::{AssetFileDef, SaverDef, SignatureDef, saver_def};

use crate::plan::{Plan, SIGNATURES};
use crate::session::{INIT_SIGNATURE, signature_to_proto, tensor_info_to_proto};

/// What TensorFlow Serving calls a signature of inputs and outputs.
const PREDICT: &str = "tensorflow/serving/predict";

/// The graph with what a MetaGraph says of it.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    /// The graph.
    pub(crate) graph: Graph,
    /// The signatures, initialization among them.
    pub(crate) signatures: BTreeMap<String, SignatureDef>,
    /// How to save and restore; none for a model without variables.
    pub(crate) saver: Option<SaverDef>,
    /// The assets with the placeholders that are fed with their paths.
    pub(crate) assets: Vec<AssetFileDef>,
    /// The node of each constant.
    pub(crate) constants: HashMap<ObjectId, String>,
    taken: Names,
    /// What each object is in the graph.
    captured: HashMap<ObjectId, Output>,
}

impl Serving {
    /// The graph of a plan; `keys` gives every variable's key in the checkpoint.
    ///
    /// # Errors
    /// When a function closes over something that has no place in a graph.
    pub(crate) fn new(plan: &Plan, artifact: &Artifact, keys: &BTreeMap<ObjectId, String>) -> Result<Self> {
        let mut serving = Serving::default();
        for (id, object) in plan.objects.iter() {
            serving.object(id, &object.kind)?;
        }
        serving.add_assets(plan, artifact);
        let mut tables = Vec::new();
        for (id, object) in plan.objects.iter() {
            if matches!(object.kind, Kind::Resource { .. })
                && let Some(create) = member(plan, id, "_create_resource")
            {
                let handle = serving.call(plan, &create, &[], &[])?;
                serving.captured.insert(id, Output::new(handle, 0));
                tables.push(id);
            }
        }
        let mut init = Vec::new();
        for id in tables {
            if let Some(initialize) = member(plan, id, "_initialize") {
                init.push(serving.call(plan, &initialize, &[], &init)?);
            }
        }
        serving.add_signatures(plan)?;
        serving.add_init(&init);
        serving.add_saver(plan, keys)?;
        Ok(serving)
    }

    fn object(&mut self, id: ObjectId, kind: &Kind) -> Result<()> {
        match kind {
            Kind::Variable(v) => {
                let shape = PartialShape::from(&v.shape[..]);
                let attrs = [
                    ("dtype", Attr::Type(v.dtype)),
                    ("shape", Attr::Shape(shape)),
                    ("shared_name", Attr::from(v.name.as_str())),
                ];
                // The converter of TFLite finds a variable by its node's name.
                let node = self.push(&v.name, "VarHandleOp", &[], &[], attrs);
                self.captured.insert(id, Output::new(node, 0));
            }
            Kind::Constant(tensor) => {
                let node = self.constant("Const", tensor.clone());
                self.captured.insert(id, Output::new(node, 0));
                self.constants.insert(id, self.name(node).to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    fn add_assets(&mut self, plan: &Plan, artifact: &Artifact) {
        let mut placeholders = Vec::new();
        for asset in &artifact.assets {
            let attrs =
                [("dtype", Attr::Type(DType::String)), ("shape", Attr::Shape(PartialShape::scalar()))];
            let node = self.push("asset_path", "Placeholder", &[], &[], attrs);
            placeholders.push(node);
            let info = self.info(Output::new(node, 0), DType::String, PartialShape::scalar());
            self.assets.push(AssetFileDef {
                tensor_info: Some(tensor_info_to_proto(&info)),
                filename: asset.name.clone(),
            });
        }
        for (id, object) in plan.objects.iter() {
            if let Kind::Asset(index) = object.kind
                && let Some(node) = placeholders.get(index)
            {
                self.captured.insert(id, Output::new(*node, 0));
            }
        }
    }

    /// A call of a concrete function with these tensors and what it closes over.
    fn call(&mut self, plan: &Plan, name: &str, given: &[Output], after: &[usize]) -> Result<usize> {
        let missing = || Error::missing("there is no such function").at(format!("function {name:?}"));
        let concrete = plan.concrete.get(name).ok_or_else(missing)?;
        let function = plan.library.read(name)?;
        let mut inputs = given.to_vec();
        for id in &concrete.captures {
            inputs.push(*self.captured.get(id).ok_or_else(|| {
                Error::unsupported(format!("it closes over object {id}, which has no place in a graph"))
                    .at(format!("function {name:?}"))
            })?);
        }
        if inputs.len() != function.arity {
            return Err(Error::mismatch(format!(
                "it takes {} tensors, but its structure and what it closes over give {}",
                function.arity,
                inputs.len()
            ))
            .at(format!("function {name:?}")));
        }
        let taken: Vec<DType> =
            (0..function.arity).map(|i| function.arg_dtype(i).unwrap_or(DType::Resource)).collect();
        let made: Vec<DType> = function.results.iter().map(|r| r.dtype).collect();
        let attrs =
            [("f", Attr::Func(FuncRef::new(name))), ("Tin", Attr::from(taken)), ("Tout", Attr::from(made))];
        Ok(self.push("StatefulPartitionedCall", "StatefulPartitionedCall", &inputs, after, attrs))
    }

    fn add_signatures(&mut self, plan: &Plan) -> Result<()> {
        let signatures = plan.root_child(SIGNATURES).and_then(|id| plan.objects.get(id));
        for (key, child) in signatures.map_or(&[][..], |s| &s.children) {
            let Some(Kind::ConcreteFunction { name, .. }) = plan.objects.get(*child).map(|o| &o.kind) else {
                continue;
            };
            let place = |e: Error| e.at(format!("signature {key:?}"));
            let concrete = plan
                .concrete
                .get(name)
                .ok_or_else(|| place(Error::missing(format!("there is no function {name:?}"))))?;
            let mut signature = Signature { method: PREDICT.to_owned(), ..Signature::default() };
            let mut given = Vec::new();
            for (input, shape, dtype) in keyed(&concrete.input) {
                let attrs = [("dtype", Attr::Type(dtype)), ("shape", Attr::Shape(shape.clone()))];
                let node = self.push(&format!("{key}_{input}"), "Placeholder", &[], &[], attrs);
                given.push(Output::new(node, 0));
                signature.inputs.insert(input, self.info(Output::new(node, 0), dtype, shape));
            }
            let call = self.call(plan, name, &given, &[]).map_err(place)?;
            for (i, (output, shape, dtype)) in keyed(&concrete.output).into_iter().enumerate() {
                signature.outputs.insert(output, self.info(Output::new(call, i), dtype, shape));
            }
            self.signatures.insert(key.clone(), signature_to_proto(&signature));
        }
        Ok(())
    }

    fn add_init(&mut self, after: &[usize]) {
        let node = self.push("init", "NoOp", &[], after, []);
        let info =
            TensorInfo { name: self.name(node).to_owned(), dtype: DType::F32, shape: PartialShape::UNKNOWN };
        let mut info = tensor_info_to_proto(&info);
        // It is an op, not a tensor.
        info.dtype = 0;
        let signature = SignatureDef {
            outputs: BTreeMap::from([(INIT_SIGNATURE.to_owned(), info)]),
            ..Default::default()
        };
        self.signatures.insert(INIT_SIGNATURE.to_owned(), signature);
    }

    fn add_saver(&mut self, plan: &Plan, keys: &BTreeMap<ObjectId, String>) -> Result<()> {
        let variables: Vec<(Output, DType, &str)> = keys
            .iter()
            .filter_map(|(id, key)| {
                Some((*self.captured.get(id)?, plan.objects.variable(*id)?.dtype, key.as_str()))
            })
            .collect();
        if variables.is_empty() {
            return Ok(());
        }
        let strings =
            |texts: Vec<&str>| Tensor::from_strings(texts.iter().map(|t| t.as_bytes()), [texts.len()]);
        let names = strings(variables.iter().map(|(_, _, key)| *key).collect())?;
        let slices = strings(vec![""; variables.len()])?;
        let dtypes: Vec<DType> = variables.iter().map(|(_, dtype, _)| *dtype).collect();
        let attrs = [("dtype", Attr::Type(DType::String)), ("shape", Attr::Shape(PartialShape::scalar()))];
        let file = self.push("saver_filename", "Placeholder", &[], &[], attrs);
        let names = self.constant("save/tensor_names", names);
        let slices = self.constant("save/shape_and_slices", slices);
        let mut inputs = vec![Output::new(file, 0), Output::new(names, 0), Output::new(slices, 0)];
        let restore = self.push(
            "restore/RestoreV2",
            "RestoreV2",
            &inputs,
            &[],
            [("dtypes", Attr::from(dtypes.clone()))],
        );
        let mut assigned = Vec::new();
        for (i, (handle, dtype, _)) in variables.iter().enumerate() {
            let dtype = [("dtype", Attr::Type(*dtype))];
            let value = Output::new(restore, i);
            assigned.push(self.push(
                "restore/Assign",
                "AssignVariableOp",
                &[*handle, value],
                &[],
                dtype.clone(),
            ));
            let read = self.push("save/Read", "ReadVariableOp", &[*handle], &[], dtype);
            inputs.push(Output::new(read, 0));
        }
        let all = self.push("restore/all", "NoOp", &[], &assigned, []);
        let save = self.push("save/SaveV2", "SaveV2", &inputs, &[], [("dtypes", Attr::from(dtypes))]);
        let string = [("T", Attr::Type(DType::String))];
        let saved =
            self.push("save/control_dependency", "Identity", &[Output::new(file, 0)], &[save], string);
        self.saver = Some(SaverDef {
            filename_tensor_name: format!("{}:0", self.name(file)),
            save_tensor_name: format!("{}:0", self.name(saved)),
            restore_op_name: self.name(all).to_owned(),
            version: saver_def::CheckpointFormatVersion::V2 as i32,
            ..SaverDef::default()
        });
        Ok(())
    }

    fn constant(&mut self, name: &str, value: Tensor) -> usize {
        let dtype = Attr::Type(value.dtype());
        self.push(name, "Const", &[], &[], [("value", Attr::from(value)), ("dtype", dtype)])
    }

    fn push<const N: usize>(
        &mut self,
        name: &str,
        op: &str,
        inputs: &[Output],
        controls: &[usize],
        attrs: [(&str, Attr); N],
    ) -> usize {
        let legal = |c: char| if c.is_ascii_alphanumeric() || "_.\\/>-".contains(c) { c } else { '_' };
        let mut name: String = name.chars().map(legal).collect();
        if !name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.') {
            name.insert(0, 'n');
        }
        let name = self.taken.unique(name);
        let attrs: Attrs = attrs.into_iter().map(|(n, a)| (n.to_owned(), a)).collect();
        self.graph.nodes.push(Node {
            name,
            op: op.to_owned(),
            inputs: inputs.to_vec(),
            controls: controls.to_vec(),
            attrs,
            device: String::new(),
        });
        self.graph.nodes.len() - 1
    }

    fn name(&self, node: usize) -> &str {
        self.graph.nodes.get(node).map_or("", |n| &n.name)
    }

    fn info(&self, output: Output, dtype: DType, shape: PartialShape) -> TensorInfo {
        TensorInfo { name: format!("{}:{}", self.name(output.node), output.index), dtype, shape }
    }
}

/// The concrete function of a method of an object.
fn member(plan: &Plan, id: ObjectId, method: &str) -> Option<String> {
    let child = plan.objects.get(id)?.child(method)?;
    match &plan.objects.get(child)?.kind {
        Kind::Function(f) => f.concrete.first().cloned(),
        Kind::ConcreteFunction { name, .. } => Some(name.clone()),
        _ => None,
    }
}

/// The tensors of a signature's structure with their keys, in order.
fn keyed(structure: &Structure) -> Vec<(String, PartialShape, DType)> {
    match structure {
        Structure::Dict(items) => items
            .iter()
            .filter_map(|(key, item)| match item {
                Structure::Tensor { shape, dtype, .. } => Some((key.clone(), shape.clone(), *dtype)),
                _ => None,
            })
            .collect(),
        Structure::Tuple(parts) | Structure::List(parts) => parts.iter().flat_map(keyed).collect(),
        _ => Vec::new(),
    }
}

/// The key of every variable in the checkpoint that [`modelark_checkpoint::write_objects`] writes.
pub(crate) fn variable_keys(objects: &Objects) -> BTreeMap<ObjectId, String> {
    let key = |path: Vec<&str>| {
        let path: Vec<String> = path.iter().map(|p| p.replace('.', "..").replace('/', ".S")).collect();
        format!("{}/.ATTRIBUTES/VARIABLE_VALUE", path.join("/"))
    };
    objects
        .walk()
        .into_iter()
        .filter(|(id, _)| objects.variable(*id).is_some())
        .map(|(id, path)| (id, key(path)))
        .collect()
}
