//! A model's computation as a function of TensorFlow's ops.

use std::collections::{HashMap, HashSet};

use modelark_artifact::graph::{Builder, Function, Library, Sym};
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, ObjectId, Objects, Result};

use super::graph::layer;
use super::{Argument, Model};
use crate::call::Frame;
use crate::instance::node_name;
use crate::{Call, Spec};

/// A traced function: it takes the model's inputs, then the handles of the variables it captures.
#[derive(Debug, Clone)]
pub struct Traced {
    /// The function; its results have the names of the model's outputs.
    pub function: Function,
    /// The functions that it calls.
    pub library: Library,
    /// The variables whose handles are its last arguments.
    pub captures: Vec<ObjectId>,
    /// The inputs in the order of the arguments.
    pub inputs: Vec<(String, Spec)>,
    /// The outputs in the order of the results.
    pub outputs: Vec<(String, Spec)>,
}

impl Model {
    /// Traces the model in inference as a function of this name.
    ///
    /// # Errors
    /// When the model isn't built, or a layer can't be traced; the message names it.
    pub fn trace(&self, name: &str) -> Result<Traced> {
        let (inputs, outputs) = (self.inputs()?.len(), self.output_names()?.len());
        self.trace_ordered(name, &Vec::from_iter(0..inputs), &Vec::from_iter(0..outputs))
    }

    /// As [`Model::trace`], with arguments and results in the orders given.
    pub(super) fn trace_ordered(
        &self,
        name: &str,
        input_order: &[usize],
        output_order: &[usize],
    ) -> Result<Traced> {
        let inputs = self.inputs()?;
        let skeleton;
        // A model that was set objects has at least its layers; others are traced from their shapes alone.
        let objects = if self.objects.is_empty() {
            skeleton = self.empty_objects()?;
            &skeleton
        } else {
            &self.objects
        };
        let mut builder = Builder::new(name);
        let mut args = HashMap::new();
        for &i in input_order {
            let (name, spec) =
                inputs.get(i).ok_or_else(|| Error::invalid(format!("there is no input {i}")))?;
            args.insert(i, builder.arg(&node_name(name).replace('/', "_"), spec.dtype)?);
        }
        let syms: Vec<Sym> = (0..inputs.len()).filter_map(|i| args.get(&i).copied()).collect();
        let mut variables: HashMap<ObjectId, Sym> = HashMap::new();
        let mut captures = Vec::new();
        for (id, path, _) in objects.variables() {
            let handle = builder.arg(&node_name(&path).replace('/', "_"), DType::Resource)?;
            variables.insert(id, handle);
            captures.push(id);
        }
        let mut call = Call {
            builder: &mut builder,
            objects,
            variables: &variables,
            specs: syms.iter().copied().zip(inputs.iter().map(|(_, s)| s.clone())).collect(),
            masks: HashMap::new(),
            row_ends: HashSet::new(),
            frame: Frame::new(Objects::ROOT),
        };
        let traced = self.trace_steps(&mut call, Objects::ROOT, &syms)?.tensors();
        let known: Vec<Spec> = traced.iter().map(|&y| call.spec(y)).collect();
        let names = self.output_names()?;
        let (mut results, mut outputs) = (Vec::new(), Vec::new());
        for &i in output_order {
            let (Some(name), Some(&y), Some(spec)) = (names.get(i), traced.get(i), known.get(i)) else {
                return Err(Error::invalid(format!("there is no output {i}")));
            };
            // Rows that are as long as each is come out padded.
            let y = call.filled(y, 0.0)?;
            // A result of its own, so that two outputs, or an output that is an input, stay apart.
            results.push((node_name(name).replace('/', "_"), call.op("Identity").input(y).one()?));
            outputs.push((name.clone(), spec.clone()));
        }
        let results: Vec<(&str, Sym)> = results.iter().map(|(n, y)| (n.as_str(), *y)).collect();
        let (function, library) = builder.finish(&results)?;
        let inputs = input_order.iter().filter_map(|&i| inputs.get(i).cloned()).collect();
        Ok(Traced { function, library, captures, inputs, outputs })
    }

    /// Traces the calls of all layers; `object` is the model's own among the call's objects.
    pub(super) fn trace_steps(
        &self,
        call: &mut Call<'_>,
        object: ObjectId,
        inputs: &[Sym],
    ) -> Result<Argument<Sym>> {
        let list = call.objects.get(object).and_then(|o| o.child("layers"));
        let list =
            list.ok_or_else(|| Error::missing(format!("model {:?} has no object \"layers\"", self.name)))?;
        let listed = self.listed();
        self.graph.run(inputs, |step, args, keywords| {
            let layer = layer(&self.layers, step)?;
            // An op that isn't a layer has no object; nor does it look for one.
            let object = match listed.get(step.layer) {
                Some(Some(at)) => call.objects.get(list).and_then(|o| o.child(&at.to_string())),
                _ => Some(list),
            };
            let object = object.ok_or_else(|| Error::missing("it has no object").at(layer.place()))?;
            layer.trace(call, object, args, keywords)
        })
    }
}
