//! Vocabularies that layers learned from data: archives keep them among the assets, and the weights of their words
//! among the variables. As parts of the layers' configs, where Keras takes them too, they go with the architecture.

use std::collections::HashMap;

use modelark_artifact::tensor::Tensor;
use modelark_artifact::{Asset, Dialect, Error, Kind, ObjectId, Objects, Result, Variable};
use serde_json::{Value, json};

use crate::shards::Sink;
use crate::{naming, weights};

const FILE: &str = "vocabulary.txt";
/// The variable of the weights of words.
const WEIGHTS: &str = "idf_weights";
/// The layer by which another looks its words up.
const LOOKUP: &str = "_lookup_layer";
/// Deeper than any model nests others.
const DEPTH: usize = 64;

/// Moves vocabularies and the weights of their words into the configs of their layers. A vocabulary that no layer waits
/// for stays an asset.
///
/// # Errors
/// When a vocabulary isn't text, or the tokens of integers aren't.
pub(crate) fn read(
    config: &mut Value,
    assets: &mut Vec<Asset>,
    objects: &mut Objects,
    dialect: Dialect,
) -> Result<()> {
    each_layer(config, dialect, &mut |path, layer| {
        let weights = take_weights(objects, path)?;
        let named = [format!("{path}/{FILE}"), format!("{path}/{LOOKUP}/{FILE}")];
        let Some(asset) = named.iter().find_map(|name| assets.iter().find(|a| a.name == *name)) else {
            return Ok(());
        };
        if layer.get("vocabulary").is_some_and(|v| !v.is_null()) {
            return Ok(());
        }
        let of_integers =
            layer.get("vocabulary_dtype").and_then(Value::as_str).is_some_and(|d| d.contains("int"));
        let tokens = tokens(&asset.bytes, of_integers).map_err(|e| e.at(format!("assets/{}", asset.name)))?;
        if let (Some(mut weights), Some("tf_idf")) =
            (weights, layer.get("output_mode").and_then(Value::as_str))
        {
            // What fills up the greatest size has none.
            weights.truncate(tokens.len());
            layer.insert(WEIGHTS.to_owned(), json!(weights));
        }
        layer.insert("vocabulary".to_owned(), Value::Array(tokens));
        assets.retain(|a| !named.contains(&a.name));
        Ok(())
    })
}

/// Writes the weights of words that configs have: Keras reads them from here.
pub(crate) fn write(config: &Value, dialect: Dialect, writer: &mut impl Sink) -> Result<()> {
    each_layer(&mut config.clone(), dialect, &mut |path, layer| {
        let Some(weights) = variable(layer) else { return Ok(()) };
        let tensor = Tensor::from_vec(weights.clone(), [weights.len()])?;
        let weights = Variable::new(WEIGHTS, tensor).trainable(false);
        // A layer of texts holds another, and both save the weights.
        let of_texts = layer.contains_key("standardize");
        for place in
            [Some(path.to_owned()), of_texts.then(|| format!("{path}/{LOOKUP}"))].into_iter().flatten()
        {
            writer.group(&format!("{place}/vars"))?;
            writer.dataset(&format!("{place}/vars/{WEIGHTS}"), &weights)?;
        }
        Ok(())
    })
}

/// The objects of a model with the weights of words beside each layer's own, as `.h5` files of Keras 2 list them; `None`
/// where no layer has any.
pub(crate) fn beside(objects: &Objects, config: &Value) -> Result<Option<Objects>> {
    let mut extended = objects.clone();
    let found = add(&mut extended, Objects::ROOT, config, DEPTH)?;
    Ok(found.then_some(extended))
}

/// Adds the weights to the layers of the model at `model`, and of the models in it; says whether there are any.
fn add(objects: &mut Objects, model: ObjectId, config: &Value, depth: usize) -> Result<bool> {
    let depth = depth.checked_sub(1).ok_or_else(|| Error::limit("its models nest too deep"))?;
    let layers =
        config.pointer("/config/layers").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let list = objects.get(model).and_then(|o| o.child("layers")).and_then(|id| objects.get(id));
    let held: Vec<ObjectId> =
        list.map(|l| l.children.iter().map(|(_, id)| *id).collect()).unwrap_or_default();
    let mut any = false;
    for layer in layers {
        let name = layer.pointer("/config/name").or(layer.get("name")).and_then(Value::as_str);
        let own = |id: &&ObjectId| naming::layer(objects, **id).map(|l| l.name.as_str()) == name;
        let Some(&id) = held.iter().find(own) else { continue };
        if layer.pointer("/config/layers").is_some() {
            any |= add(objects, id, layer, depth)?;
        } else if let Some(weights) = layer.get("config").and_then(Value::as_object).and_then(variable) {
            let tensor = Tensor::from_vec(weights.clone(), [weights.len()])?;
            let weights = Variable::new(WEIGHTS, tensor).trainable(false);
            objects.add(id, WEIGHTS, Kind::Variable(weights));
            any = true;
        }
    }
    Ok(any)
}

/// The variable that a layer with weights of words has: one for each index.
fn variable(layer: &serde_json::Map<String, Value>) -> Option<Vec<f32>> {
    let get = |key: &str| layer.get(key).filter(|v| !v.is_null());
    if get("output_mode")?.as_str()? != "tf_idf" {
        return None;
    }
    let given = get(WEIGHTS)?.as_array()?.iter().filter_map(Value::as_f64).map(|v| v as f32);
    let mut weights: Vec<f32> = given.collect();
    let vocabulary = get("vocabulary")?.as_array()?;
    let unknown = get("num_oov_indices").and_then(Value::as_u64).unwrap_or(1);
    let unknown = usize::try_from(unknown).ok().filter(|&n| n <= 1 << 16)?;
    let token = get("oov_token").cloned().unwrap_or_else(|| json!("[UNK]"));
    let begins = vocabulary.get(..unknown).is_some_and(|head| head.iter().all(|t| *t == token));
    if !begins {
        // What stands for unknown tokens weighs as an average one.
        let mean = weights.iter().sum::<f32>() / weights.len().max(1) as f32;
        weights.splice(..0, std::iter::repeat_n(mean, unknown));
    }
    let most = get("max_tokens").and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
    let pads = get("pad_to_max_tokens").and_then(Value::as_bool).unwrap_or(false);
    if let Some(most) = most.filter(|&n| pads && n > weights.len() && n <= 1 << 28) {
        weights.resize(most, 0.0);
    }
    Some(weights)
}

/// Does something with the config of every layer of a model, and of the models in it, by its path in an archive.
pub(crate) fn each_layer(
    model: &mut Value,
    dialect: Dialect,
    act: &mut impl FnMut(&str, &mut serde_json::Map<String, Value>) -> Result<()>,
) -> Result<()> {
    each_within(model, "", dialect, DEPTH, act)
}

fn each_within(
    model: &mut Value,
    path: &str,
    dialect: Dialect,
    depth: usize,
    act: &mut impl FnMut(&str, &mut serde_json::Map<String, Value>) -> Result<()>,
) -> Result<()> {
    let depth = depth.checked_sub(1).ok_or_else(|| Error::limit("its models nest too deep"))?;
    let (list, layers) = layers(model);
    let mut counts: HashMap<String, usize> = HashMap::new();
    for layer in layers {
        let Some(class) = layer.get("class_name").and_then(Value::as_str) else { continue };
        let mut name = naming::snake_case(class, dialect);
        let count = counts.entry(name.clone()).or_default();
        if *count > 0 {
            name = format!("{name}_{count}");
        }
        *count += 1;
        let path = naming::join(path, &format!("{list}/{name}"));
        if layer.pointer("/config/layers").is_some() {
            each_within(layer, &path, dialect, depth, act)?;
        } else if let Some(config) = layer.get_mut("config").and_then(Value::as_object_mut) {
            act(&path, config)?;
        }
    }
    Ok(())
}

/// The layers of a model, or those that preprocess features, with the name of the list in which the model holds them.
fn layers(model: &mut Value) -> (&'static str, Vec<&mut Value>) {
    let Some(config) = model.get_mut("config").and_then(Value::as_object_mut) else {
        return ("", Vec::new());
    };
    if config.get("layers").is_some_and(Value::is_array) {
        let layers = config.get_mut("layers").and_then(Value::as_array_mut);
        return (weights::LAYERS, layers.into_iter().flatten().collect());
    }
    let features = config.get_mut("features").and_then(Value::as_object_mut);
    let features = features.into_iter().flat_map(|f| f.values_mut());
    (weights::PREPROCESSORS, features.filter_map(|f| f.pointer_mut("/config/preprocessor")).collect())
}

/// Takes the weights of a layer's words away from the variables: they are of no use without the words.
fn take_weights(objects: &mut Objects, path: &str) -> Result<Option<Vec<f32>>> {
    let mut found = None;
    for place in [format!("{path}/{LOOKUP}/vars"), format!("{path}/vars")] {
        let at = |id: ObjectId, name: &str| objects.get(id)?.child(name);
        let Some(vars) = place.split('/').try_fold(Objects::ROOT, at) else { continue };
        let Some(id) = at(vars, WEIGHTS) else { continue };
        if let Some(variable) = objects.variable(id) {
            let value = variable.load().map_err(|e| e.at(format!("{place}/{WEIGHTS}")))?;
            found = Some(value.elements::<f32>()?.to_vec());
        }
        if let Some(vars) = objects.get_mut(vars) {
            vars.children.retain(|(name, _)| name != WEIGHTS);
        }
    }
    Ok(found)
}

/// The tokens of a vocabulary's file: one a line, the last without an end.
fn tokens(bytes: &[u8], of_integers: bool) -> Result<Vec<Value>> {
    let text = std::str::from_utf8(bytes).map_err(|e| Error::corrupt("it isn't UTF-8").because(e))?;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line));
    if !of_integers {
        return Ok(lines.map(Value::from).collect());
    }
    let number = |line: &str| {
        let number = line.trim().parse::<i64>();
        number.map(Value::from).map_err(|e| Error::corrupt(format!("{line:?} isn't an integer")).because(e))
    };
    // A file may end with its last line.
    lines.filter(|l| !l.is_empty()).map(number).collect()
}

#[cfg(test)]
mod tests {
    use modelark_artifact::ErrorKind;
    use modelark_artifact::tensor::SharedBytes;

    use super::*;

    fn model() -> Value {
        let lookup = json!({"class_name": "StringLookup", "config": {"vocabulary": null}});
        let inner = json!({"class_name": "Sequential", "config": {"layers": [
            {"class_name": "IntegerLookup", "config": {"vocabulary": null, "vocabulary_dtype": "int64"}},
        ]}});
        let text = json!({"class_name": "TextVectorization", "config": {"vocabulary": null, "output_mode": "tf_idf", "standardize": null}});
        json!({"class_name": "Functional", "config": {"layers": [lookup, lookup, inner, text]}})
    }

    fn asset(name: &str, text: &str) -> Asset {
        Asset { name: name.to_owned(), bytes: SharedBytes::copy_from(text.as_bytes()) }
    }

    #[test]
    fn each_layer_gets_its_own_words() {
        let mut objects = Objects::default();
        let mut at = Objects::ROOT;
        for name in ["layers", "text_vectorization", LOOKUP, "vars"] {
            at = objects.add(at, name, Kind::object());
        }
        let weights =
            Variable::new(WEIGHTS, Tensor::from_vec(vec![0.5f32, 1.5, 2.5, 0.0], [4]).expect("a vector"));
        objects.add(at, WEIGHTS, Kind::Variable(weights));
        let mut config = model();
        let mut assets = vec![
            asset("layers/string_lookup_1/vocabulary.txt", "[UNK]\r\nb\r\n"),
            asset("layers/sequential/layers/integer_lookup/vocabulary.txt", "-1\n7"),
            asset("layers/text_vectorization/vocabulary.txt", "[UNK]\nx\ny"),
            asset("layers/text_vectorization/_lookup_layer/vocabulary.txt", "[UNK]\nx\ny"),
            asset("other.txt", "z"),
        ];
        read(&mut config, &mut assets, &mut objects, Dialect::Keras3).expect("reads");
        let at = |path: &str| config.pointer(&format!("/config/layers/{path}")).cloned().unwrap_or_default();
        assert_eq!(at("0/config/vocabulary"), Value::Null);
        assert_eq!(at("1/config/vocabulary"), json!(["[UNK]", "b", ""]));
        assert_eq!(at("2/config/layers/0/config/vocabulary"), json!([-1, 7]));
        assert_eq!(at("3/config/vocabulary"), json!(["[UNK]", "x", "y"]));
        assert_eq!(at("3/config/idf_weights"), json!([0.5, 1.5, 2.5]));
        assert_eq!(assets.len(), 1);
    }

    #[test]
    fn what_isnt_words_is_refused_by_its_name() {
        let name = "layers/sequential/layers/integer_lookup/vocabulary.txt";
        let error =
            read(&mut model(), &mut vec![asset(name, "-1\nx")], &mut Objects::default(), Dialect::Keras2)
                .expect_err("no integer");
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(error.to_string().contains(name), "{error}");
    }

    #[test]
    fn each_index_has_a_weight() {
        let layer = |extra: Value| {
            let mut layer =
                json!({"output_mode": "tf_idf", "vocabulary": ["a", "b"], "idf_weights": [1.0, 3.0]});
            if let (Some(layer), Value::Object(extra)) = (layer.as_object_mut(), extra) {
                layer.extend(extra);
            }
            variable(layer.as_object().expect("a config"))
        };
        assert_eq!(layer(json!({})), Some(vec![2.0, 1.0, 3.0]));
        assert_eq!(
            layer(json!({"num_oov_indices": 2, "max_tokens": 5, "pad_to_max_tokens": true})),
            Some(vec![2.0, 2.0, 1.0, 3.0, 0.0])
        );
        assert_eq!(layer(json!({"vocabulary": ["[UNK]", "b"]})), Some(vec![1.0, 3.0]));
        assert_eq!(layer(json!({"output_mode": "int"})), None);
    }
}
