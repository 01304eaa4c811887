//! The words of layers that look words up, and ranges that layers learned, where a SavedModel keeps them from the layers'
//! configs.
//!
//! Keras 2 writes a vocabulary that was learned, or read from a file, as what fills a table: constants of a function, or
//! an asset. So the tables are made and filled as for a run, and what they hold goes into the configs.

use std::borrow::Cow;

use modelark_artifact::{Architecture, Artifact, Error, Limits, ObjectId, Objects, Result};
use modelark_tensor::{ByteString, DType, Tensor};
use serde_json::{Map, Value, json};

use crate::runtime::Runtime;

/// What a layer's table is called, by the version of Keras: fixed ones, and those that could learn.
const TABLES: [&str; 2] = ["lookup_table", "_table"];
/// The layer by which a layer of texts looks its words up.
const HOLDERS: [&str; 2] = ["_lookup_layer", "_index_lookup_layer"];
/// The variable of the weights of words.
const WEIGHTS: &str = "idf_weights";
/// The variable of what a layer knows of the data whose ranges it learned.
#[cfg(feature = "keras")]
const SUMMARY: &str = "summary";
/// Deeper than any model nests others.
const DEPTH: usize = 64;

/// The architecture, with the words that the tables of a SavedModel hold, and ranges, in the configs that lack them.
///
/// # Errors
/// When a table that a layer needs can't be filled, or its words aren't text.
pub(crate) fn complete<'a>(artifact: &'a Artifact, limits: &Limits) -> Result<Cow<'a, Architecture>> {
    let architecture =
        artifact.architecture.as_ref().ok_or_else(|| Error::missing("there is no architecture"))?;
    if artifact.functions.is_none() {
        return Ok(Cow::Borrowed(architecture));
    }
    let mut complete = architecture.clone();
    let mut waiting = Vec::new();
    find(&mut complete.config, &artifact.objects, Objects::ROOT, DEPTH, &mut waiting)?;
    if waiting.is_empty() {
        return Ok(Cow::Owned(complete));
    }
    let runtime = Runtime::new(artifact, limits)?;
    for (config, holder, table) in waiting {
        let name = config.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
        let table = runtime.table(table);
        let filled = table.and_then(|table| fill(config, &artifact.objects, holder, table));
        filled.map_err(|e| e.at(format!("layer {name:?}, its vocabulary")))?;
    }
    Ok(Cow::Owned(complete))
}

/// A config that lacks words, the object of its layer, and that of its table.
type Waiting<'a> = (&'a mut Map<String, Value>, ObjectId, ObjectId);

/// The layers without words of the model at `object`, and of the models in it.
fn find<'a>(
    model: &'a mut Value,
    objects: &Objects,
    object: ObjectId,
    depth: usize,
    waiting: &mut Vec<Waiting<'a>>,
) -> Result<()> {
    let depth = depth.checked_sub(1).ok_or_else(|| Error::limit("its models nest too deep"))?;
    let Some(layers) = model.pointer_mut("/config/layers").and_then(Value::as_array_mut) else {
        return Ok(());
    };
    let child = |id: ObjectId, name: &str| objects.get(id).and_then(|o| o.child(name));
    let held: Vec<ObjectId> = (0..).map_while(|i| child(object, &format!("layer-{i}"))).collect();
    // A Sequential model's own input stands in its config but is none of its layers.
    let unlisted = layers.len().saturating_sub(held.len());
    for (layer, id) in layers.iter_mut().skip(unlisted).zip(held) {
        if layer.pointer("/config/layers").is_some() {
            find(layer, objects, id, depth, waiting)?;
            continue;
        }
        let Some(config) = layer.get_mut("config").and_then(Value::as_object_mut) else { continue };
        #[cfg(feature = "keras")]
        if let Some(summary) = child(id, SUMMARY).and_then(|id| objects.variable(id)) {
            modelark_keras::learned_ranges(config, summary)?;
        }
        // A path leads to a file on the machine where the model was made.
        if config.get("vocabulary").is_none_or(Value::is_array) {
            continue;
        }
        let holder = HOLDERS.iter().find_map(|name| child(id, name)).unwrap_or(id);
        if let Some(table) = TABLES.iter().find_map(|name| child(holder, name)) {
            waiting.push((config, holder, table));
        }
    }
    Ok(())
}

/// Puts the words of a table into a config, and their weights where the layer has such.
fn fill(
    config: &mut Map<String, Value>,
    objects: &Objects,
    holder: ObjectId,
    table: Option<(Tensor, Tensor)>,
) -> Result<()> {
    let Some((keys, values)) = table else { return Ok(()) };
    let inverts = config.get("invert").and_then(Value::as_bool).unwrap_or(false);
    let (words, indices) = if inverts { (values, keys) } else { (keys, values) };
    let mut words: Vec<(i64, Value)> = indices.to_i64_vec()?.into_iter().zip(texts(&words)?).collect();
    words.sort_by_key(|(index, _)| *index);
    let first = words.first().map_or(0, |(index, _)| *index);
    let own = objects.get(holder).and_then(|o| o.child(WEIGHTS)).and_then(|id| objects.variable(id));
    let weighs = config.get("output_mode").and_then(Value::as_str) == Some("tf_idf");
    if let (Some(own), true) = (own, weighs) {
        let all = own.load()?;
        let all = all.elements::<f32>()?;
        let start = usize::try_from(first).unwrap_or_default();
        let weights = all.get(start..).and_then(|w| w.get(..words.len())).ok_or_else(|| {
            Error::mismatch(format!("{} weights don't go with {} words", all.len(), words.len()))
        })?;
        config.insert(WEIGHTS.to_owned(), json!(weights));
    }
    config.insert("vocabulary".to_owned(), words.into_iter().map(|(_, word)| word).collect());
    Ok(())
}

/// The elements of a tensor as a config has them.
fn texts(words: &Tensor) -> Result<Vec<Value>> {
    if words.dtype() != DType::String {
        return Ok(words.to_i64_vec()?.into_iter().map(Value::from).collect());
    }
    let text = |word: &ByteString| {
        let text = std::str::from_utf8(word);
        text.map(Value::from).map_err(|e| Error::unsupported("a word isn't UTF-8").because(e))
    };
    words.strings()?.iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use modelark_artifact::{Kind, Variable};

    use super::*;

    fn objects() -> (Objects, ObjectId) {
        let mut objects = Objects::default();
        let inner = objects.add(Objects::ROOT, "layer-0", Kind::object());
        let layer = objects.add(inner, "layer-0", Kind::object());
        let holder = objects.add(layer, "_lookup_layer", Kind::object());
        objects.add(holder, "lookup_table", Kind::Resource { device: String::new(), restored: None });
        let weights = Tensor::from_vec(vec![9f32, 0.5, 0.25, 0.0], [4]).expect("a vector");
        objects.add(holder, WEIGHTS, Kind::Variable(Variable::new("Variable", weights)));
        (objects, holder)
    }

    #[test]
    fn layers_of_nested_models_are_found_by_their_places() {
        let (objects, holder) = objects();
        let layer = json!({"class_name": "T", "config": {"name": "t", "vocabulary": null}});
        let known = json!({"class_name": "T", "config": {"name": "t", "vocabulary": ["a"]}});
        for (layer, expected) in [(layer, 1), (known, 0)] {
            let input = json!({"class_name": "I", "config": {"name": "i"}});
            let inner = json!({"class_name": "S", "config": {"layers": [input, layer]}});
            let mut model = json!({"class_name": "S", "config": {"layers": [inner]}});
            let mut waiting = Vec::new();
            find(&mut model, &objects, Objects::ROOT, DEPTH, &mut waiting).expect("finds");
            assert_eq!(waiting.len(), expected);
            assert!(waiting.iter().all(|(config, held, _)| config["name"] == "t" && *held == holder));
        }
    }

    #[test]
    fn words_come_by_their_indices_with_their_weights() {
        let (objects, holder) = objects();
        let words = Tensor::from_strings(vec![b"b".as_slice(), b"a"], [2]).expect("words");
        let indices = Tensor::from_vec(vec![2i64, 1], [2]).expect("indices");
        let filled = |config: Value, table: (Tensor, Tensor)| {
            let Value::Object(mut config) = config else { panic!("a config") };
            fill(&mut config, &objects, holder, Some(table)).map(|()| Value::Object(config))
        };
        let config =
            filled(json!({"output_mode": "tf_idf"}), (words.clone(), indices.clone())).expect("fills");
        assert_eq!(config["vocabulary"], json!(["a", "b"]));
        assert_eq!(config[WEIGHTS], json!([0.5, 0.25]));
        let config = filled(json!({"invert": true}), (indices, words)).expect("fills");
        assert_eq!(config, json!({"invert": true, "vocabulary": ["a", "b"]}));
        let many = Tensor::from_vec((0..9).collect::<Vec<i64>>(), [9]).expect("many");
        filled(json!({"output_mode": "tf_idf"}), (many.clone(), many)).expect_err("too few weights");
    }
}
