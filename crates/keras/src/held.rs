//! What a file holds for each layer, whatever the layer's class.

use std::collections::{BTreeMap, HashMap};

use modelark_artifact::{Architecture, Artifact, Dialect, Held, Objects, Result};
use serde_json::Value;

use crate::{h5, naming, weights};

/// The weights of each layer of an `.h5` file in its order, named as there within the layer.
pub(crate) fn by_list(read: &Artifact) -> Result<BTreeMap<String, Vec<Held>>> {
    let (layers, _) = h5::order(read)?;
    let layer = |(name, paths): (String, Vec<String>)| {
        let weight = |path: &String| {
            let variable = read.objects.find(path).and_then(|id| read.objects.variable(id))?;
            Some(Held { path: within(path, &name), shape: variable.shape.clone(), dtype: variable.dtype })
        };
        let held = paths.iter().filter_map(weight).collect();
        (name, held)
    };
    Ok(layers.into_iter().map(layer).collect())
}

/// A weight's name within its layer: `model_weights/block/block/inner/kernel:0` is `inner/kernel` of `block`.
fn within(path: &str, layer: &str) -> Vec<String> {
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    let own: usize = layer.split('/').count();
    // The group is named after the layer, and then the weight mostly is again, perhaps in the scope of a model.
    let group = parts.windows(own).position(|w| w.join("/") == layer).map_or(0, |at| at + own);
    let rest = parts.get(group..).unwrap_or_default();
    let again = rest.windows(own).position(|w| w.join("/") == layer).map(|at| at + own);
    // A scope of another name is the layer's, too.
    let start = again.unwrap_or(usize::from(rest.len() > 1));
    let inner = rest.get(start..).filter(|inner| !inner.is_empty()).unwrap_or(rest);
    inner.iter().map(|part| part.split(':').next().unwrap_or(part).to_owned()).collect()
}

/// The weights of each layer of a file laid out by the paths of objects: its classes, counted, are the layers' groups.
pub(crate) fn by_path(read: &Objects, architecture: &Architecture) -> BTreeMap<String, Vec<Held>> {
    let layers = architecture.config.pointer("/config/layers").and_then(Value::as_array);
    let mut counts: HashMap<String, usize> = HashMap::new();
    let mut found = BTreeMap::new();
    for layer in layers.into_iter().flatten() {
        let text = |pointer: &str| layer.pointer(pointer).and_then(Value::as_str);
        let Some((class, name)) = text("/class_name").zip(text("/config/name").or(text("/name"))) else {
            continue;
        };
        let dialect = if architecture.dialect == Dialect::Keras3 { Dialect::Keras3 } else { Dialect::Keras2 };
        let base = naming::snake_case(class, dialect);
        let count = counts.entry(base.clone()).or_default();
        let group = if *count == 0 { base } else { format!("{base}_{count}") };
        *count += 1;
        found.insert(name.to_owned(), of_group(read, &group));
    }
    found
}

fn of_group(read: &Objects, group: &str) -> Vec<Held> {
    let lists = [weights::LAYERS, weights::OLD_LAYERS];
    let Some(root) = lists.iter().find_map(|list| read.find(&format!("{list}/{group}"))) else {
        return Vec::new();
    };
    let mut held = Vec::new();
    let mut waiting = vec![(root, Vec::new())];
    while let Some((id, path)) = waiting.pop() {
        let children = read.get(id).map(|o| o.children.as_slice()).unwrap_or_default();
        // A group's own weights come before those of its parts.
        for (name, child) in children {
            match read.variable(*child) {
                Some(variable) => {
                    let path = path.iter().cloned().chain([name.clone()]).collect();
                    held.push(Held { path, shape: variable.shape.clone(), dtype: variable.dtype });
                }
                None if name == weights::VARS => waiting.push((*child, path.clone())),
                None => waiting.insert(0, (*child, path.iter().cloned().chain([name.clone()]).collect())),
            }
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_within_a_layer() {
        for (path, layer, wanted) in [
            ("model_weights/block/block/inner/kernel:0", "block", "inner/kernel"),
            ("model_weights/block/model/block/kernel", "block", "kernel"),
            ("model_weights/block_1/block/inner/bias:0", "block_1", "inner/bias"),
            ("dense_1/dense_1_W", "dense_1", "dense_1_W"),
            ("model_weights/a/b/a/b/scale:0", "a/b", "scale"),
        ] {
            assert_eq!(within(path, layer).join("/"), wanted, "{path}");
        }
    }
}
