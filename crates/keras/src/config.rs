//! JSON in Keras files: where it sits, in which form, and which generation wrote it.

use modelark_artifact::Dialect;
pub(crate) use modelark_artifact::{
    archive_form, dialect_of as dialect, full_name, json_text as to_ascii, legacy_form, legacy_optimizer,
    parse_json as parse, plain_arrays,
};
use serde_json::{Map, Value};

/// The version that a file of a dialect claims when the artifact's own is of another.
pub(crate) fn version(dialect: Dialect, own: Option<&str>) -> String {
    match (own, dialect) {
        (Some(own), _) if Dialect::of_version(Some(own)) == dialect => own.to_owned(),
        (_, Dialect::Keras3) => "3.15.1".to_owned(),
        _ => "2.15.0".to_owned(),
    }
}

/// How a model was compiled as `.h5` files say it (`training_config`): the optimizer is `optimizer_config`.
pub(crate) fn training_config(compile: &Value, dialect: Dialect) -> Value {
    let mut config = rekey(compile, "optimizer", "optimizer_config", legacy_optimizer);
    if dialect != Dialect::Keras3 {
        config = plain_arrays(config);
    }
    if let Value::Object(config) = &mut config {
        // What Keras compiles with where nothing is said; from such a file it takes no silence.
        let default = || legacy_optimizer(Value::from("rmsprop"));
        config.entry("optimizer_config").or_insert_with(default);
        if dialect == Dialect::Keras3 {
            for key in ["loss", "metrics", "weighted_metrics"] {
                config.get_mut(key).into_iter().for_each(name_in_full);
            }
        }
    }
    config
}

fn name_in_full(value: &mut Value) {
    match value {
        Value::String(name) => *name = full_name(name).to_owned(),
        Value::Array(items) => items.iter_mut().for_each(name_in_full),
        // By the names of outputs.
        Value::Object(parts) if !parts.contains_key("class_name") => {
            parts.values_mut().for_each(name_in_full)
        }
        _ => {}
    }
}

/// Says of losses and metrics where Python finds them: an `.h5` doesn't.
fn place(value: &mut Value, module: &str) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|v| place(v, module)),
        Value::Object(node) => match node.get("class_name").and_then(Value::as_str) {
            Some(class) if !class.contains('>') && !node.contains_key("module") => {
                node.shift_insert(0, "module".to_owned(), Value::from(module));
                node.insert("registered_name".to_owned(), Value::Null);
            }
            Some(_) => {}
            None => node.values_mut().for_each(|v| place(v, module)),
        },
        _ => {}
    }
}

/// How a model was compiled as `.keras` archives say it (`compile_config`): the optimizer is a node.
pub(crate) fn compile_config(compile: &Value, dialect: Dialect) -> Value {
    let mut compile = compile.clone();
    for key in ["metrics", "weighted_metrics"] {
        if let Some(metrics) = compile.get_mut(key) {
            unwrap_functions(metrics);
        }
    }
    for (key, module) in
        [("loss", "keras.losses"), ("metrics", "keras.metrics"), ("weighted_metrics", "keras.metrics")]
    {
        compile.get_mut(key).into_iter().for_each(|v| place(v, module));
    }
    rekey(&compile, "optimizer_config", "optimizer", |optimizer| match optimizer {
        Value::Object(mut node) if !node.contains_key("module") => {
            // Keras 2.11 and later registered its own optimizers as custom ones.
            let class = node.get("class_name").and_then(Value::as_str).map(str::to_owned).unwrap_or_default();
            let bare = class.strip_prefix("Custom>").unwrap_or(&class);
            let (module, registered) = if bare.contains('>') {
                (Value::Null, Value::from(bare))
            } else if dialect == Dialect::Keras3 || !is_legacy(&class, &node) {
                (Value::from("keras.optimizers"), Value::Null)
            } else {
                (Value::from("keras.optimizers.legacy"), Value::Null)
            };
            node.insert("class_name".to_owned(), Value::from(bare.rsplit('>').next().unwrap_or(bare)));
            let mut fresh = Map::new();
            fresh.insert("module".to_owned(), module);
            fresh.append(&mut node);
            fresh.insert("registered_name".to_owned(), registered);
            Value::Object(fresh)
        }
        other => other,
    })
}

/// A metric that is a function: the older files have Keras 2's wrapper around its name, which an archive doesn't find.
fn unwrap_functions(metrics: &mut Value) {
    match metrics {
        Value::Array(items) => items.iter_mut().for_each(unwrap_functions),
        Value::Object(node) => {
            let wrapper = node.get("class_name").and_then(Value::as_str) == Some("MeanMetricWrapper");
            let function = node.get("config").and_then(|c| c.get("fn")).filter(|f| wrapper && f.is_string());
            match function.cloned() {
                Some(name) => *metrics = name,
                // By the names of outputs.
                None if !node.contains_key("class_name") => node.values_mut().for_each(unwrap_functions),
                None => {}
            }
        }
        _ => {}
    }
}

/// Whether Keras 2 means one of its optimizers from before 2.11, which it keeps as `optimizers.legacy`.
fn is_legacy(class: &str, node: &Map<String, Value>) -> bool {
    let flag = node.get("config").and_then(|c| c.get("is_legacy_optimizer")).and_then(Value::as_bool);
    flag.unwrap_or(!class.starts_with("Custom>"))
}

/// The object with the value at `from` changed and moved to `to`, in its place, all else as it was.
fn rekey(object: &Value, from: &str, to: &str, change: impl Fn(Value) -> Value) -> Value {
    let Value::Object(map) = object else { return object.clone() };
    if map.contains_key(to) {
        return object.clone();
    }
    let moved = map
        .iter()
        .map(|(k, v)| if k == from { (to.to_owned(), change(v.clone())) } else { (k.clone(), v.clone()) });
    Value::Object(moved.collect())
}

/// The optimizer's node of either form: the one within, where another scales losses around it.
fn optimizer(compile: &Value) -> Option<&Value> {
    let node = compile.get("optimizer_config").or_else(|| compile.get("optimizer"))?;
    node.pointer("/config/inner_optimizer").or(Some(node))
}

/// The class of the optimizer of either form, without its package.
pub(crate) fn optimizer_class(compile: &Value) -> Option<String> {
    let node = optimizer(compile)?;
    let class = node.as_str().or_else(|| node.get("class_name")?.as_str())?;
    Some(class.rsplit('>').next().unwrap_or(class).to_owned())
}

/// The constant learning rate of the optimizer of either form.
pub(crate) fn learning_rate(compile: &Value) -> Option<f64> {
    let node = optimizer(compile)?;
    let config = node.get("config")?;
    config.get("learning_rate").or_else(|| config.get("lr"))?.as_f64()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metrics_lose_the_wrapper_that_archives_do_not_know() {
        let wrapped = json!({"class_name": "MeanMetricWrapper", "config": {"name": "mae", "fn": "mean_absolute_error"}});
        let compile =
            json!({"metrics": {"score": [wrapped], "label": ["accuracy"]}, "weighted_metrics": null});
        let metrics = json!({"score": ["mean_absolute_error"], "label": ["accuracy"]});
        assert_eq!(compile_config(&compile, Dialect::Keras2)["metrics"], metrics);
    }

    #[test]
    fn a_model_takes_both_forms() {
        let legacy = json!({"class_name": "Sequential", "config": {"name": "s", "layers": [
            {"class_name": "Dense", "config": {"units": 3}},
            {"class_name": "Pkg>Own", "config": {}},
            {"class_name": "Bidirectional", "config": {"layer": {"class_name": "LSTM", "config": {}}}},
            {"class_name": "Functional", "config": {"layers": [], "input_layers": []}},
        ]}});
        let archive = archive_form(&legacy, Dialect::Keras3);
        let layers = archive.pointer("/config/layers").expect("layers");
        assert_eq!(archive.get("module"), Some(&json!("keras")));
        assert_eq!(
            layers[0],
            json!({"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}, "registered_name": null})
        );
        assert_eq!(
            layers[1],
            json!({"module": null, "class_name": "Own", "config": {}, "registered_name": "Pkg>Own"})
        );
        assert_eq!(layers[2].pointer("/config/layer/module"), Some(&json!("keras.layers")));
        assert_eq!(layers[3].get("module"), Some(&json!("keras.src.models.functional")));
        let back = legacy_form(&archive, Dialect::Keras3);
        assert_eq!(
            back.get("config").and_then(|c| c.get("layers")).map(|l| &l[1]),
            Some(&legacy["config"]["layers"][1])
        );
        assert_eq!(back.pointer("/config/layers/0"), legacy.pointer("/config/layers/0"));
        assert_eq!(back.pointer("/config/layers/2/config/layer/module"), Some(&json!("keras.layers")));
        assert_eq!(back.get("module"), None);
    }

    #[test]
    fn compile_configs_are_rekeyed_in_place() {
        let training = json!({"loss": "mse", "optimizer_config": {"class_name": "Custom>Adam", "config": {"learning_rate": 0.5}}, "own": 1});
        let compile = compile_config(&training, Dialect::Keras2);
        assert_eq!(compile.to_string(), json!({"loss": "mse", "optimizer": {"module": "keras.optimizers", "class_name": "Adam", "config": {"learning_rate": 0.5}, "registered_name": null}, "own": 1}).to_string());
        assert_eq!(optimizer_class(&compile).as_deref(), Some("Adam"));
        assert_eq!(learning_rate(&training), Some(0.5));
        assert_eq!(
            training_config(&compile, Dialect::Keras2),
            json!({"loss": "mse", "optimizer_config": {"class_name": "Adam", "config": {"learning_rate": 0.5}}, "own": 1})
        );
        assert_eq!(compile_config(&compile, Dialect::Keras2), compile);
        let legacy = json!({"optimizer_config": {"class_name": "Adam", "config": {"decay": 0.0}}});
        let module = |dialect| compile_config(&legacy, dialect).pointer("/optimizer/module").cloned();
        assert_eq!(module(Dialect::Keras2), Some(json!("keras.optimizers.legacy")));
        assert_eq!(module(Dialect::Keras3), Some(json!("keras.optimizers")));
    }

    #[test]
    fn a_file_without_version_gives_itself_away() {
        let of = |v: Value| dialect(&v, None);
        assert_eq!(of(json!({"config": {"batch_shape": [null, 3]}})), Dialect::Keras3);
        assert_eq!(of(json!({"config": {"units": 3, "batch_input_shape": [null, 3]}})), Dialect::Keras2);
        assert_eq!(of(json!({"config": {"output_dim": 3, "init": "uniform"}})), Dialect::Keras1);
        assert_eq!(dialect(&json!({}), Some("2.2.4-tf")), Dialect::Keras2);
    }
}
