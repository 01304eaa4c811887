//! Functions of single layers: what lets TensorFlow run a custom layer without its class.

use std::collections::{BTreeMap, HashMap, HashSet};

use modelark_artifact::graph::{Builder, Sym};
use modelark_artifact::tensor::DType;
use modelark_artifact::{
    ConcreteFunction, FunctionObject, Functions, Kind, ObjectId, Objects, Result, Structure,
};

use super::artifact::{arg_spec, arguments, tensor};
use super::{Argument, Model, Step};
use crate::call::{Frame, variables_below};
use crate::{Call, Spec};

impl Model {
    /// Gives every custom layer of the model a function of its own, as its child `__call__`.
    ///
    /// # Errors
    /// When such a layer can't be traced; the message names it.
    pub(super) fn add_layer_functions(&self, objects: &mut Objects, functions: &mut Functions) -> Result<()> {
        let inputs: Vec<Spec> = self.inputs()?.into_iter().map(|(_, s)| s).collect();
        let (given, _) = self.graph.propagate(&self.layers, &inputs)?;
        let list = objects.get(Objects::ROOT).and_then(|r| r.child("layers"));
        let listed = self.listed();
        let mut named: Vec<usize> = Vec::new();
        for (step, specs) in self.graph.steps.iter().zip(&given) {
            let place = listed.get(step.layer).copied().flatten();
            let object = list.zip(place).and_then(|(l, p)| objects.get(l)?.child(&p.to_string()));
            let Some(object) = object.filter(|_| !named.contains(&step.layer) && takes_tensors(step)) else {
                continue;
            };
            if objects.get(object).is_none_or(|o| o.registered_name.is_empty()) {
                continue;
            }
            named.push(step.layer);
            let name = format!("__inference_layer_{}_call", step.layer);
            let concrete = self.trace_alone(&name, step, object, &specs.tensors, objects, functions)?;
            functions.concrete.insert(name.clone(), concrete);
            let function = FunctionObject {
                concrete: vec![name],
                arg_spec: Some(arg_spec()),
                is_method: true,
                input_signature: None,
            };
            objects.add(object, "__call__", Kind::Function(function));
        }
        Ok(())
    }

    fn trace_alone(
        &self,
        name: &str,
        step: &Step,
        object: ObjectId,
        specs: &[Spec],
        objects: &Objects,
        functions: &mut Functions,
    ) -> Result<ConcreteFunction> {
        let layer = super::graph::layer(&self.layers, step)?;
        let mut builder = Builder::new(name);
        let args = specs.iter().enumerate().map(|(i, s)| builder.arg(&format!("inputs_{i}"), s.dtype));
        let args: Vec<Sym> = args.collect::<Result<_, _>>()?;
        let mut variables: HashMap<ObjectId, Sym> = HashMap::new();
        let mut captures = Vec::new();
        for id in variables_below(objects, object) {
            variables.insert(id, builder.arg(&format!("captured_{}", captures.len()), DType::Resource)?);
            captures.push(id);
        }
        let mut call = Call {
            builder: &mut builder,
            objects,
            variables: &variables,
            specs: args.iter().copied().zip(specs.iter().cloned()).collect(),
            masks: HashMap::new(),
            row_ends: HashSet::new(),
            frame: Frame::new(object),
        };
        let mut given = args.iter().copied();
        let mut next = |_: &super::Edge| Ok(given.next().unwrap_or(args[0]));
        let positional = step.args.iter().map(|a| a.map(&mut next)).collect::<Result<Vec<_>>>()?;
        let results = layer.trace(&mut call, object, &positional, &[])?;
        let outputs: Vec<Spec> = results.iter().map(|&y| call.spec(y)).collect();
        let mut finished = Vec::new();
        for (i, &y) in results.iter().enumerate() {
            finished.push((format!("outputs_{i}"), builder.op("Identity").input(y).one()?));
        }
        let finished: Vec<(&str, Sym)> = finished.iter().map(|(n, y)| (n.as_str(), *y)).collect();
        let (function, library) = builder.finish(&finished)?;
        functions.library.insert(function);
        functions.library.extend(library);
        let structured = |specs: &[Spec], name: &str| {
            let mut all: Vec<Structure> =
                specs.iter().enumerate().map(|(i, s)| tensor(&format!("{name}_{i}"), s)).collect();
            if all.len() == 1 { all.remove(0) } else { Structure::List(all) }
        };
        Ok(ConcreteFunction {
            captures,
            input: arguments(
                vec![structured(specs, "inputs"), Structure::Bool(false), Structure::None],
                BTreeMap::new(),
            ),
            output: structured(&outputs, "outputs"),
        })
    }
}

/// Whether a layer is called with one tensor, or one list of tensors, and nothing else.
fn takes_tensors(step: &Step) -> bool {
    let of_tensors = |a: &Argument<super::Edge>| match a {
        Argument::Tensor(_) => true,
        Argument::List(items) => !items.is_empty() && items.iter().all(|i| matches!(i, Argument::Tensor(_))),
        _ => false,
    };
    step.keywords.is_empty() && matches!(&step.args[..], [one] if of_tensors(one))
}
