//! A layer's object among a model's: its variables, its states, the layers that it holds.

use std::collections::HashMap;

use modelark_artifact::tensor::Tensor;
use modelark_artifact::{Error, Kind, ObjectId, Result, Variable};

use super::{Body, Instance};
use crate::layer::Given;
use crate::registry::built_in;
use crate::{Layer, Spec, Tree};

impl Instance {
    /// Adds the layer's object, with its variables and sublayers, to a tree. The variables have no values yet.
    pub(crate) fn attach(&self, tree: &mut Tree<'_>, inputs: &Given<Spec>) -> Result<ObjectId> {
        let assumed = self.assumed(inputs);
        let inputs = assumed.as_ref().unwrap_or(inputs);
        if let Some(&id) = tree.known.get(&self.key()) {
            return Ok(id);
        }
        let role = match &self.0.body {
            Body::Model(model) => model.role(),
            Body::Layer(layer) => layer.role(),
        };
        let id = tree.objects.push(Kind::Layer(modelark_artifact::Layer {
            class: self.class_name().to_owned(),
            name: self.0.name.clone(),
            role,
            config: String::new(),
        }));
        tree.known.insert(self.key(), id);
        tree.attached.push((id, self.clone()));
        if let Some(object) = tree.objects.get_mut(id) {
            // Keras builds a layer by its call's first argument alone, sublayers too.
            let first = inputs.arguments.first().map(|(_, a)| a.tensors()).unwrap_or_default();
            let shapes = first.iter().filter_map(|&i| inputs.tensors.get(i));
            object.input_shapes = shapes.map(|s| s.shape.clone()).collect();
            let own = built_in(self.class_name()).and_then(|entry| entry.registered_name());
            if let Some(name) = self.0.custom.as_ref().map(|(_, name)| name.as_str()).or(own) {
                name.clone_into(&mut object.registered_name);
            }
        }
        tree.frozen += usize::from(!self.0.trainable);
        match &self.0.body {
            Body::Model(model) => model.attach(tree, id, &inputs.tensors),
            Body::Layer(layer) => self.attach_layer(&**layer, tree, id, inputs),
        }
        .map_err(|e| e.at(self.place()))?;
        tree.frozen -= usize::from(!self.0.trainable);
        Ok(id)
    }

    fn attach_layer(
        &self,
        layer: &dyn Layer,
        tree: &mut Tree<'_>,
        id: ObjectId,
        inputs: &Given<Spec>,
    ) -> Result<()> {
        if tree.is_bare {
            return Ok(());
        }
        let inputs = self.inputs(inputs)?;
        if let Some(shaped) = layer.with_shapes(&inputs)
            && let Some((_, attached)) = tree.attached.iter_mut().rfind(|(attached, _)| *attached == id)
        {
            *attached = attached.clone().with(|i| i.body = Body::Layer(shaped));
        }
        let former = match &tree.origin {
            Some(origin) => layer.former_weights(&inputs, origin)?,
            None => None,
        };
        let weights = match former {
            Some(former) => {
                let weights = former.weights.clone();
                tree.converted.push((id, former));
                weights
            }
            None => layer.weights(&inputs)?,
        };
        if let (Some(mode), false, false) =
            (inputs.policy().quantization(), layer.quantizes(), weights.is_empty())
        {
            return Err(Error::unsupported(format!(
                "weights of a {} that are quantized as {mode}",
                self.class_name()
            )));
        }
        for weight in weights {
            let dtype = match weight.dtype {
                Some(dtype) => dtype,
                None => inputs.policy().variable()?,
            };
            let variable = Variable {
                name: weight.name.clone(),
                dtype,
                trainable: weight.trainable && tree.frozen == 0,
                value: tree.initial(&weight, dtype)?,
                shape: weight.shape,
            };
            tree.objects.add(id, weight.name, Kind::Variable(variable));
        }
        for kept in layer.kept(&inputs)? {
            let known: Option<Vec<usize>> = kept.dims()?.iter().copied().collect();
            // What a batch of any size would leave can't be kept; the call says so.
            let Some(shape) = known else { continue };
            let zeros = Tensor::zeros(kept.dtype, &shape)?;
            tree.objects.add_state(id, Variable::new("rnn_state", zeros).trainable(false));
        }
        for sublayer in layer.sublayers(&inputs)? {
            let mut parent = id;
            let mut segments: Vec<&str> = sublayer.attribute.split('/').collect();
            let last = segments.pop().unwrap_or_default();
            for segment in segments {
                let known = tree.objects.get(parent).and_then(|o| o.child(segment));
                parent = known.unwrap_or_else(|| tree.objects.add(parent, segment, Kind::List));
            }
            let held = sublayer.layer.under(inputs.policy());
            let given = held.positional(sublayer.inputs);
            let known = if sublayer.copy { std::mem::take(&mut tree.known) } else { HashMap::new() };
            let child = held.attach(tree, &given)?;
            if sublayer.copy {
                tree.known = known;
            }
            tree.objects.link(parent, last, child);
        }
        for (attribute, path) in layer.aliases() {
            let held = path.split('/').try_fold(id, |id, name| tree.objects.get(id)?.child(name));
            let held = held.ok_or_else(|| Error::missing(format!("it holds no weight {path:?}")))?;
            tree.objects.link(id, attribute, held);
        }
        Ok(())
    }
}
