//! Values for a model's weights, however old the file that has them.

use modelark_artifact::{Error, Kind, ObjectId, Objects, Report, Result, Source, Variable};

use super::Model;
use super::premade::Kept;
use crate::former::{FormerWeights, Origin};

/// A layer's object with the weights that an older file has for it.
pub(crate) type Converted = (ObjectId, FormerWeights);

impl Model {
    /// Puts values into the model's weights. `bind` fills a tree of objects from a file that `source` describes; where
    /// weights of that age lie in another layout than today's, the tree has that one, and the values are converted
    /// when they are read.
    ///
    /// Gives the tree as it was bound, whose variables are the model's own where no layer's weights were converted.
    ///
    /// # Errors
    /// What `bind` says of the likeliest layout, if the values fit none.
    pub fn bind(
        &mut self,
        source: &Source,
        bind: impl Fn(&mut Objects) -> Result<Report>,
    ) -> Result<Option<Objects>> {
        let writer = |name: &str| source.writers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let keras = writer("keras");
        // Files that don't say who wrote them, Keras takes for its first version's.
        let is_keras1 = keras.is_none()
            && self.source.as_ref().is_some_and(|s| s.dialect == modelark_artifact::Dialect::Keras1);
        let mut first: Option<Error> = None;
        if let Some(premade) = &self.premade {
            let mut own = self.empty_objects()?;
            let mut kept = Kept::new(premade, &self.name, &own);
            match bind(&mut kept.objects) {
                Ok(report) => {
                    self.notes.extend(report.notes);
                    kept.give(&mut own);
                    self.set_objects(own.clone())?;
                    // The values are the model's own as they are, so that what an optimizer has of them finds them.
                    return Ok(Some(own));
                }
                // A file may have been written from the Functional model.
                Err(error) => first = Some(error),
            }
        }
        for origin in Origin::candidates(keras, is_keras1, writer("backend")) {
            let (mut objects, converted) = self.former_objects(origin)?;
            // A layout that changes nothing was tried as today's.
            if converted.is_empty() && !origin.is_present() && first.is_some() {
                continue;
            }
            match self.bind_with_words(&mut objects, &bind) {
                Ok(report) => {
                    self.notes.extend(report.notes);
                    if converted.is_empty() {
                        self.set_objects(objects.clone())?;
                        return Ok(Some(objects));
                    }
                    let count = converted.len();
                    self.set_objects(self.modernized(&objects, converted)?)?;
                    self.notes.push(format!(
                        "the weights of {count} layers were converted from the layout of older versions"
                    ));
                    return Ok(None);
                }
                Err(error) => drop(first.get_or_insert(error)),
            }
        }
        Err(first.unwrap_or_else(|| Error::invalid("the model has no layout of weights")))
    }

    /// Binds the objects as they are, or else beside the weights of words: Keras 2 has these among the layers' own, and
    /// here they are parts of the configs.
    fn bind_with_words(
        &self,
        objects: &mut Objects,
        bind: impl Fn(&mut Objects) -> Result<Report>,
    ) -> Result<Report> {
        let error = match bind(objects) {
            Ok(report) => return Ok(report),
            Err(error) => error,
        };
        let mut extended = self.empty_objects()?;
        let plain = extended.len();
        self.add_weights_of_words(&mut extended)?;
        if extended.len() == plain || objects.len() != plain {
            return Err(error);
        }
        let report = bind(&mut extended).map_err(|_| error)?;
        let own: Vec<ObjectId> = objects.iter().map(|(id, _)| id).collect();
        for id in own {
            if let (Some(variable), Some(bound)) = (objects.variable_mut(id), extended.variable(id)) {
                variable.value = bound.value.clone();
            }
        }
        Ok(report)
    }

    /// Today's objects with values converted from a tree of an older layout: both have the same layers in one order.
    fn modernized(&self, bound: &Objects, converted: Vec<Converted>) -> Result<Objects> {
        let mut objects = self.empty_objects()?;
        let layers = |objects: &Objects| -> Vec<ObjectId> {
            objects.iter().filter(|(_, o)| matches!(o.kind, Kind::Layer(_))).map(|(id, _)| id).collect()
        };
        let own = |objects: &Objects, layer: ObjectId| -> Vec<ObjectId> {
            let children = objects.get(layer).map(|o| o.children.as_slice()).unwrap_or_default();
            children.iter().map(|(_, id)| *id).filter(|id| objects.variable(*id).is_some()).collect()
        };
        for (old, new) in layers(bound).into_iter().zip(layers(&objects)) {
            let values: Vec<Variable> =
                own(bound, old).into_iter().filter_map(|id| bound.variable(id).cloned()).collect();
            let former = converted.iter().find(|(id, _)| *id == old).map(|(_, former)| former);
            for (i, id) in own(&objects, new).into_iter().enumerate() {
                let Some(variable) = objects.variable_mut(id) else { continue };
                match former {
                    Some(former) => {
                        let (convert, values) = (former.convert.clone(), values.clone());
                        let lazy = Variable::lazy("", variable.dtype, variable.shape.clone(), move || {
                            let loaded = values.iter().map(Variable::load).collect::<Result<Vec<_>>>()?;
                            let missing = || Error::missing("the older layout has no such weight");
                            convert(loaded)?.into_iter().nth(i).ok_or_else(missing)
                        });
                        variable.value = lazy.value;
                    }
                    None => {
                        if let Some(value) = values.get(i) {
                            variable.value = value.value.clone();
                        }
                    }
                }
            }
        }
        Ok(objects)
    }
}
