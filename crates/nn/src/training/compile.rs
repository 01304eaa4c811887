//! Compile configs: the optimizer, losses and metrics of a model.

use modelark_artifact::{Dialect, Report, Result, Training, full_name};
use serde_json::{Value, json};

use super::{Optimizer, state};
use crate::Model;
use crate::config::Object;

/// A loss: Keras's name of one, or a node with its config (Keras: `keras.losses`).
#[derive(Debug, Clone, PartialEq)]
pub struct Loss(Value);

/// A metric: Keras's name of one, or a node with its config (Keras: `keras.metrics`).
#[derive(Debug, Clone, PartialEq)]
pub struct Metric(Value);

macro_rules! named {
    ($name:ident, $module:literal) => {
        impl $name {
            /// A class of Keras's own with its config.
            pub fn new(class: &str, config: Object) -> Self {
                $name(json!({"module": $module, "class_name": class, "config": config, "registered_name": null}))
            }

            /// One for each of the model's outputs, by the outputs' names.
            pub fn each<'a>(outputs: impl IntoIterator<Item = (&'a str, $name)>) -> Self {
                $name(outputs.into_iter().map(|(k, v)| (k.to_owned(), v.0)).collect::<Object>().into())
            }
        }

        impl From<&str> for $name {
            /// Keras's name of one, or its shorthand.
            fn from(name: &str) -> Self {
                $name(json!(full_name(name)))
            }
        }
    };
}

named!(Loss, "keras.losses");
named!(Metric, "keras.metrics");

impl Model {
    /// Compiles the model for training in Keras: optimizer (with a fresh state), loss and metrics.
    ///
    /// # Errors
    /// When the model isn't built.
    pub fn compile<M: Into<Metric> + Clone>(
        &mut self,
        optimizer: impl Into<Optimizer>,
        loss: impl Into<Loss>,
        metrics: &[M],
    ) -> Result<()> {
        let optimizer = optimizer.into();
        let metrics: Vec<Value> = metrics.iter().cloned().map(|m| m.into().0).collect();
        let compile = json!({
            "optimizer": optimizer.write(Dialect::Keras3, &mut Report::default()),
            "loss": loss.into().0,
            "loss_weights": null,
            "metrics": metrics,
            "weighted_metrics": null,
            "run_eagerly": false,
            "steps_per_execution": 1,
            "jit_compile": false,
        });
        let state = state::fresh(&optimizer, &self.skeleton()?)?;
        self.set_training(Some(Training { compile: Some(compile), optimizer: Some(state) }));
        Ok(())
    }
}

/// The dialect that a compile config is in, as its keys tell.
fn dialect_of(compile: &Value) -> Dialect {
    let node = compile.get("optimizer");
    // An `.h5` has it under another key.
    let config = node.or_else(|| compile.get("optimizer_config")).and_then(|n| n.get("config"));
    let has = |key: &str| config.is_some_and(|c| c.get(key).is_some());
    let keras3 = has("loss_scale_factor")
        || has("gradient_accumulation_steps")
        || (node.is_some()
            && compile.get("steps_per_execution").is_some_and(Value::is_number)
            && !has("jit_compile"));
    if keras3 { Dialect::Keras3 } else { Dialect::Keras2 }
}

/// A compile config in a dialect, under the keys of a `.keras` archive; one that is in it already stays as it is.
pub(super) fn convert(compile: &Value, dialect: Dialect, report: &mut Report) -> Value {
    let source = dialect_of(compile);
    let Value::Object(given) = compile else { return compile.clone() };
    if source == dialect || given.is_empty() {
        return compile.clone();
    }
    let keras3 = dialect == Dialect::Keras3;
    let mut out = Object::new();
    for (key, value) in given {
        let (key, value) = match key.as_str() {
            "optimizer" | "optimizer_config" => ("optimizer", optimizer(value, source, dialect, report)),
            "loss" => ("loss", part(value, "keras.losses", keras3)),
            "metrics" | "weighted_metrics" => (key.as_str(), metrics(value, keras3)),
            // Keras 3 takes no `None` for these.
            "run_eagerly" | "jit_compile" if keras3 && value.is_null() => (key.as_str(), json!(false)),
            "steps_per_execution" if keras3 && value.is_null() => (key.as_str(), json!(1)),
            "sample_weight_mode" if keras3 => continue,
            other => (other, value.clone()),
        };
        out.insert(key.to_owned(), value);
    }
    if keras3 {
        for (key, value) in
            [("run_eagerly", json!(false)), ("steps_per_execution", json!(1)), ("jit_compile", json!(false))]
        {
            out.entry(key).or_insert(value);
        }
    }
    out.into()
}

fn optimizer(node: &Value, source: Dialect, dialect: Dialect, report: &mut Report) -> Value {
    // A bare name says the defaults, in every dialect.
    if node.is_string() {
        return node.clone();
    }
    if let Some(inner) = node.pointer("/config/inner_optimizer") {
        return loss_scale(node, inner, source, dialect, report);
    }
    match Optimizer::read(node, source) {
        Some(Ok(optimizer)) => {
            if optimizer.is_legacy() && dialect == Dialect::Keras3 {
                report
                    .note(format!("optimizer: the legacy {0} becomes Keras 3's {0}", optimizer.class_name()));
            }
            optimizer.write(dialect, report)
        }
        Some(Err(error)) => {
            report.note(format!("optimizer: kept as it is, because {error}"));
            node.clone()
        }
        None => {
            let class = node.get("class_name").and_then(Value::as_str).unwrap_or("?");
            report.note(format!("optimizer: only the keys that all classes have were changed for {class:?}"));
            let mut node = node.clone();
            if let Some(config) = node.get_mut("config").and_then(Value::as_object_mut) {
                let dropped: &[&str] = match dialect {
                    Dialect::Keras3 => &["jit_compile", "is_legacy_optimizer", "decay"],
                    _ => &["loss_scale_factor", "gradient_accumulation_steps"],
                };
                config.retain(|k, _| !dropped.contains(&k.as_str()));
            }
            if let Some(class) =
                node.get("class_name").and_then(Value::as_str).and_then(|c| c.strip_prefix("Custom>"))
            {
                node["class_name"] = json!(class);
            }
            node["module"] = json!("keras.optimizers");
            node
        }
    }
}

/// An optimizer that scales losses around another one (Keras: `LossScaleOptimizer`).
fn loss_scale(node: &Value, inner: &Value, source: Dialect, dialect: Dialect, report: &mut Report) -> Value {
    let inner = optimizer(inner, source, dialect, report);
    let given = |key: &str| node.get("config").and_then(|c| c.get(key)).cloned().unwrap_or_default();
    let (scale, steps) = (given("initial_scale"), given("dynamic_growth_steps"));
    if dialect != Dialect::Keras3 {
        report.note(
            "optimizer: the LossScaleOptimizer around it is left out, which Keras 2 loads from no archive",
        );
        return inner;
    }
    if given("dynamic") == json!(false) {
        report.note("optimizer: Keras 3 has no LossScaleOptimizer of a fixed scale");
    }
    let name = Some(given("name")).filter(Value::is_string).unwrap_or_else(|| json!("loss_scale_optimizer"));
    let config = json!({"name": name, "inner_optimizer": inner, "initial_scale": scale, "dynamic_growth_steps": steps});
    json!({"module": "keras.optimizers", "class_name": "LossScaleOptimizer", "config": config, "registered_name": null})
}

/// A loss, or several in lists and dicts.
fn part(value: &Value, module: &str, keras3: bool) -> Value {
    match value {
        Value::String(name) => json!(full_name(name)),
        Value::Array(items) => items.iter().map(|i| part(i, module, keras3)).collect(),
        Value::Object(node) if node.contains_key("class_name") => serialized(node, module, keras3),
        Value::Object(items) => {
            items.iter().map(|(k, v)| (k.clone(), part(v, module, keras3))).collect::<Object>().into()
        }
        other => other.clone(),
    }
}

/// Metrics: Keras 2's `.h5` has a list for each output around them, also where there is one.
fn metrics(value: &Value, keras3: bool) -> Value {
    match value {
        Value::Array(outer) => match outer.as_slice() {
            [Value::Array(inner)] if keras3 => {
                inner.iter().map(|m| part(m, "keras.metrics", keras3)).collect()
            }
            _ => part(value, "keras.metrics", keras3),
        },
        _ => part(value, "keras.metrics", keras3),
    }
}

fn serialized(node: &Object, module: &str, keras3: bool) -> Value {
    let class = node.get("class_name").and_then(Value::as_str).unwrap_or_default();
    let mut config = node.get("config").and_then(Value::as_object).cloned().unwrap_or_default();
    // A function that was wrapped: its name says all.
    let wrapper =
        matches!(class, "MeanMetricWrapper" | "SumOverBatchSizeMetricWrapper" | "LossFunctionWrapper");
    if let (true, Some(Value::String(function))) = (wrapper, config.get("fn")) {
        return part(&json!(function), module, keras3);
    }
    if keras3 {
        config.remove("fn");
        if matches!(config.get("reduction").and_then(Value::as_str), Some("auto")) {
            config.insert("reduction".to_owned(), json!("sum_over_batch_size"));
        }
    }
    let own = node.get("registered_name").filter(|r| !r.is_null()).cloned();
    let module = match &own {
        Some(_) => node.get("module").cloned().unwrap_or_default(),
        None => json!(module),
    };
    json!({"module": module, "class_name": class, "config": config, "registered_name": own})
}
