//! A layer's call, and those of the layers that it holds.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Error, ObjectId, Result};

use super::{Body, Instance, node_name};
use crate::call::Frame;
use crate::layer::Given;
use crate::{Argument, Call, Layer, Spec};

impl Instance {
    /// Traces a call. `object` is the layer's own among the call's objects.
    pub(crate) fn trace(
        &self,
        call: &mut Call<'_>,
        object: ObjectId,
        positional: &[Argument<Sym>],
        keywords: &[(String, Argument<Sym>)],
    ) -> Result<Vec<Sym>> {
        let given = self.given(positional, keywords);
        let layer = match &self.0.body {
            Body::Model(model) => {
                return model.call(call, object, &given.tensors).map_err(|e| e.at(self.place()));
            }
            Body::Layer(layer) => layer,
        };
        self.trace_layer(&**layer, call, object, given, positional, keywords).map_err(|e| e.at(self.place()))
    }

    fn trace_layer(
        &self,
        layer: &dyn Layer,
        call: &mut Call<'_>,
        object: ObjectId,
        given: Given<Sym>,
        positional: &[Argument<Sym>],
        keywords: &[(String, Argument<Sym>)],
    ) -> Result<Vec<Sym>> {
        let specs: Vec<Spec> = given.tensors.iter().map(|&x| call.spec(x)).collect();
        let inputs = self.inputs(&Given { tensors: specs, arguments: given.arguments })?;
        let cast = given
            .tensors
            .iter()
            .zip(inputs.all())
            .map(|(&x, spec)| call.cast(x, spec.dtype))
            .collect::<Result<Vec<_>>>()?;
        if !layer.takes_ragged()
            && let Some(at) = cast.iter().position(|&x| call.row_ends(x).is_some())
        {
            return Err(Error::unsupported(format!(
                "rows that are as long as each text is (ragged) in a {}, as its input {at}",
                layer.class_name()
            ))
            .help("set \"ragged\": false in the config of the TextVectorization that gives them: rows then end in zeros"));
        }
        // Masks given by keyword stand for those that the inputs carry.
        match keywords.iter().find(|(n, _)| n == "mask") {
            Some((_, Argument::List(masks))) => {
                for (&x, mask) in cast.iter().zip(masks) {
                    call.set_mask(x, mask.tensors().first().copied());
                }
            }
            Some((_, Argument::Tensor(mask))) => {
                if let Some(&x) = cast.first() {
                    call.masks.insert(x, *mask);
                }
            }
            _ => {}
        }
        let outputs_known = layer.output(&inputs)?;
        let (positional, keywords) = (positional.to_vec(), keywords.to_vec());
        let frame = Frame { object, inputs, positional, keywords, outputs: Vec::new() };
        let outer = std::mem::replace(&mut call.frame, frame);
        let result = call.builder_scope(&self.0.name, |call| {
            let outputs = layer.call(call, &cast)?;
            call.frame.outputs.clone_from(&outputs);
            let masks = layer.masks(call, &cast)?;
            Ok((outputs, masks))
        });
        call.frame = outer;
        let (outputs, masks) = result?;
        for (i, &y) in outputs.iter().enumerate() {
            // An output may be an input itself (identities), with what is known of it already.
            if let Some(spec) = outputs_known.get(i) {
                let dtype = call.dtype(y);
                call.specs.insert(y, Spec { dtype, ..spec.clone() });
            }
            call.set_mask(y, masks.get(i).copied().flatten());
        }
        Ok(outputs)
    }
}

impl Call<'_> {
    /// Calls a layer that this one holds, by the attribute under which [`Layer::sublayers`] names it.
    ///
    /// # Errors
    /// When there is no such sublayer, or its call fails.
    pub fn sublayer(&mut self, attribute: &str, layer: &Instance, inputs: &[Sym]) -> Result<Vec<Sym>> {
        self.sublayer_with(attribute, layer, inputs, &[])
    }

    /// As [`Call::sublayer`], with keyword arguments besides.
    ///
    /// # Errors
    /// As [`Call::sublayer`].
    pub fn sublayer_with(
        &mut self,
        attribute: &str,
        layer: &Instance,
        inputs: &[Sym],
        keywords: &[(String, Argument<Sym>)],
    ) -> Result<Vec<Sym>> {
        let object = attribute
            .split('/')
            .try_fold(self.frame.object, |id, name| self.objects.get(id)?.child(name))
            .ok_or_else(|| Error::missing(format!("the layer holds no layer {attribute:?}")))?;
        let arguments: Vec<Argument<Sym>> = inputs.iter().map(|&x| Argument::Tensor(x)).collect();
        let layer = layer.under(self.frame.inputs.policy());
        layer.trace(self, object, &arguments, keywords)
    }

    /// Puts the names of the nodes that `body` makes under `scope`.
    pub(crate) fn builder_scope<T>(
        &mut self,
        scope: &str,
        body: impl FnOnce(&mut Call<'_>) -> Result<T>,
    ) -> Result<T> {
        let Call { builder, objects, variables, specs, masks, row_ends, frame } = self;
        builder.scoped(&node_name(scope), |builder| {
            let mut inner = Call {
                builder,
                objects,
                variables,
                specs: std::mem::take(specs),
                masks: std::mem::take(masks),
                row_ends: std::mem::take(row_ends),
                frame: frame.clone(),
            };
            let result = body(&mut inner);
            *specs = inner.specs;
            *masks = inner.masks;
            *row_ends = inner.row_ends;
            Ok(result)
        })?
    }
}
