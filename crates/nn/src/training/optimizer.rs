//! Optimizers: their configs.

use modelark_artifact::{Dialect, Report, Result};
use serde_json::{Value, json};

use super::classes::{self, Class};
use crate::Registry;
use crate::config::{ConfigValue, Fields, Object, Reader, Serialized, Writer};

/// Adam (Keras: `Adam`).
#[derive(Debug, Clone, PartialEq)]
pub struct Adam {
    learning_rate: f64,
    beta_1: f64,
    beta_2: f64,
    epsilon: f64,
    amsgrad: bool,
}

impl Default for Adam {
    fn default() -> Self {
        Adam { learning_rate: 0.001, beta_1: 0.9, beta_2: 0.999, epsilon: 1e-7, amsgrad: false }
    }
}

impl Adam {
    /// Adam of this learning rate.
    pub fn new(learning_rate: f64) -> Self {
        Adam { learning_rate, ..Adam::default() }
    }
}

/// Gradient descent, with momentum or without (Keras: `SGD`).
#[derive(Debug, Clone, PartialEq)]
pub struct Sgd {
    learning_rate: f64,
    momentum: f64,
    nesterov: bool,
}

impl Default for Sgd {
    fn default() -> Self {
        Sgd { learning_rate: 0.01, momentum: 0.0, nesterov: false }
    }
}

impl Sgd {
    /// Gradient descent of this learning rate.
    pub fn new(learning_rate: f64) -> Self {
        Sgd { learning_rate, ..Sgd::default() }
    }

    /// The same with this momentum, and with Nesterov's or without.
    pub fn momentum(mut self, momentum: f64, nesterov: bool) -> Self {
        self.momentum = momentum;
        self.nesterov = nesterov;
        self
    }
}

/// RMSprop (Keras: `RMSprop`).
#[derive(Debug, Clone, PartialEq)]
pub struct RmsProp {
    learning_rate: f64,
    rho: f64,
    momentum: f64,
    epsilon: f64,
    centered: bool,
}

impl Default for RmsProp {
    fn default() -> Self {
        RmsProp { learning_rate: 0.001, rho: 0.9, momentum: 0.0, epsilon: 1e-7, centered: false }
    }
}

impl RmsProp {
    /// RMSprop of this learning rate.
    pub fn new(learning_rate: f64) -> Self {
        RmsProp { learning_rate, ..RmsProp::default() }
    }
}

/// An optimizer with all that its config says (Keras: `keras.optimizers`).
#[derive(Debug, Clone, PartialEq)]
pub struct Optimizer {
    class: &'static Class,
    name: String,
    /// A number, or a schedule's node.
    learning_rate: Value,
    weight_decay: Option<f64>,
    clipnorm: Option<f64>,
    global_clipnorm: Option<f64>,
    clipvalue: Option<f64>,
    use_ema: bool,
    ema_momentum: f64,
    ema_overwrite_frequency: Option<usize>,
    loss_scale_factor: Option<f64>,
    gradient_accumulation_steps: Option<usize>,
    decay: Option<f64>,
    legacy: bool,
    /// The options of the class, in its order.
    options: Object,
    unknown: Object,
}

macro_rules! from_rule {
    ($($rule:ident => $class:literal: $($option:ident)*;)*) => {$(
        impl From<$rule> for Optimizer {
            fn from(rule: $rule) -> Self {
                let mut optimizer = Optimizer::of(classes::known($class));
                optimizer.learning_rate = json!(rule.learning_rate);
                $(optimizer.options.insert(stringify!($option).to_owned(), json!(rule.$option));)*
                optimizer
            }
        }
    )*};
}

from_rule! {
    Adam => "Adam": beta_1 beta_2 epsilon amsgrad;
    Sgd => "SGD": momentum nesterov;
    RmsProp => "RMSprop": rho momentum epsilon centered;
}

impl Optimizer {
    /// An optimizer of a class with the class's defaults.
    fn of(class: &'static Class) -> Self {
        Optimizer {
            class,
            name: class.snake.to_owned(),
            learning_rate: json!(class.learning_rate),
            weight_decay: class.weight_decay,
            clipnorm: None,
            global_clipnorm: None,
            clipvalue: None,
            use_ema: false,
            ema_momentum: 0.99,
            ema_overwrite_frequency: None,
            loss_scale_factor: None,
            gradient_accumulation_steps: None,
            decay: None,
            legacy: false,
            options: class
                .options
                .iter()
                .map(|(key, default)| ((*key).to_owned(), default.value()))
                .collect(),
            unknown: Object::new(),
        }
    }

    /// The class's name in a config.
    pub fn class_name(&self) -> &'static str {
        self.class.name
    }

    pub(crate) fn class(&self) -> &'static Class {
        self.class
    }

    /// Reads an optimizer's node, or its name; `None` for classes that Keras doesn't have.
    pub(crate) fn read(node: &Value, dialect: Dialect) -> Option<Result<Self>> {
        let registry = Registry::default();
        let reader = Reader::new(dialect, &registry);
        let node = match Serialized::read(node, &reader) {
            Ok(node) => node,
            Err(error) => return Some(Err(error)),
        };
        let mut optimizer = Optimizer::of(classes::find(node.bare_class())?);
        // Before 2.11 there was no other kind, and `Custom>` is how 2.11 and later tell the new kind apart.
        optimizer.legacy = node.module.ends_with("legacy")
            || node.config.get("is_legacy_optimizer").and_then(Value::as_bool).unwrap_or(
                dialect != Dialect::Keras3 && node.config.contains_key("decay") && !node.class.contains('>'),
            );
        let mut fields = Fields::reading(&node.config, reader);
        optimizer.visit(&mut fields);
        Some(fields.finish_reading().map(|unknown| Optimizer { unknown, ..optimizer }))
    }

    /// Writes the optimizer's node.
    pub(crate) fn write(&self, dialect: Dialect, report: &mut Report) -> Value {
        let mut writer = Writer::new(dialect);
        let mut fields = Fields::writing(&mut writer);
        self.clone().visit(&mut fields);
        let mut config = fields.finish_writing().unwrap_or_default();
        config.extend(self.unknown.clone());
        report.notes.extend(writer.report.notes.drain(..).map(|n| format!("optimizer: {n}")));
        let legacy = self.legacy && dialect != Dialect::Keras3;
        if dialect != Dialect::Keras3 && !self.class.in_keras2 {
            report.note(format!("optimizer: Keras 2 has no {}", self.class.name));
        }
        let module = if legacy { "keras.optimizers.legacy" } else { "keras.optimizers" };
        Serialized::new(module, self.class_name(), config).write(&mut writer)
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        let keras3 = f.dialect() == Dialect::Keras3;
        f.field("name", &mut self.name);
        f.aliased("learning_rate", &["lr"], &mut self.learning_rate);
        // Keras 3 takes no schedule without a name, but gives one itself.
        if keras3
            && !f.is_reading()
            && let Some(schedule) = self.learning_rate.get_mut("config").and_then(Value::as_object_mut)
            && schedule.get("name").is_some_and(Value::is_null)
        {
            schedule.shift_remove("name");
            f.field("learning_rate", &mut self.learning_rate);
        }
        if f.is_reading() || keras3 || !self.legacy {
            f.field("weight_decay", &mut self.weight_decay);
            f.field("clipnorm", &mut self.clipnorm);
            f.field("global_clipnorm", &mut self.global_clipnorm);
            f.field("clipvalue", &mut self.clipvalue);
            f.field("use_ema", &mut self.use_ema);
            f.field("ema_momentum", &mut self.ema_momentum);
            f.field("ema_overwrite_frequency", &mut self.ema_overwrite_frequency);
            f.constant("jit_compile", &[Dialect::Keras2], json!(false));
            f.constant("is_legacy_optimizer", &[Dialect::Keras2], json!(false));
        }
        f.keras3("loss_scale_factor", &mut self.loss_scale_factor);
        f.keras3("gradient_accumulation_steps", &mut self.gradient_accumulation_steps);
        if f.is_reading() || (self.legacy && !keras3) {
            f.field("decay", &mut self.decay);
        } else if self.decay.is_some_and(|d| d != 0.0) {
            f.note("the \"decay\" of the learning rate has no place in later optimizers");
        }
        // Nadam's of before 2.11.
        f.constant("schedule_decay", &[], Value::Null);
        for (key, value) in &mut self.options {
            f.field(key, value);
        }
    }

    /// The learning rate, unless a schedule gives it.
    pub(crate) fn learning_rate(&self) -> Option<f64> {
        self.learning_rate.as_f64()
    }

    /// The class, of the kind before 2.11 that Keras 2 keeps as `optimizers.legacy`.
    pub(crate) fn is_legacy(&self) -> bool {
        self.legacy
    }

    /// Whether an option is set: true, or a number other than zero.
    pub(crate) fn has(&self, option: &str) -> bool {
        match option {
            "use_ema" => self.use_ema,
            "gradient_accumulation_steps" => self.gradient_accumulation_steps.is_some(),
            _ => self.options.get(option).is_some_and(|v| v.as_bool().unwrap_or(v.as_f64() != Some(0.0))),
        }
    }

    /// An option that is a number.
    pub(crate) fn number(&self, option: &str) -> Option<f64> {
        self.options.get(option)?.as_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_without_a_name_are_written_so() {
        let config = json!({"initial_learning_rate": 0.5, "decay_steps": 2, "decay_rate": 0.5, "name": null});
        let schedule = json!({"module": "keras.optimizers.schedules", "class_name": "ExponentialDecay", "config": config});
        let node = json!({"class_name": "Adam", "config": {"learning_rate": schedule}});
        let optimizer = Optimizer::read(&node, Dialect::Keras2).unwrap().unwrap();
        let written = |dialect| optimizer.write(dialect, &mut Report::default());
        assert_eq!(written(Dialect::Keras3).pointer("/config/learning_rate/config/name"), None);
        assert_eq!(written(Dialect::Keras2).pointer("/config/learning_rate/config/name"), Some(&Value::Null));
    }

    #[test]
    fn a_config_is_read_and_written_in_each_dialect() {
        let node = json!({"module": "keras.optimizers", "class_name": "SGD", "config": {"name": "sgd_1",
            "learning_rate": 0.5, "momentum": 0.9, "nesterov": true, "loss_scale_factor": 2.0, "new": 1},
            "registered_name": null});
        let optimizer = Optimizer::read(&node, Dialect::Keras3).unwrap().unwrap();
        let mut report = Report::default();
        let keras2 = optimizer.write(Dialect::Keras2, &mut report);
        assert_eq!(report.notes.len(), 1, "{report:?}");
        assert_eq!(keras2["config"]["is_legacy_optimizer"], false);
        assert_eq!(keras2["config"]["new"], 1);
        let keras3 = optimizer.write(Dialect::Keras3, &mut report);
        assert_eq!(keras3["config"]["loss_scale_factor"], 2.0);
        assert!(Optimizer::read(&json!("mine"), Dialect::Keras3).is_none());
        assert_eq!(Optimizer::read(&json!("nadam"), Dialect::Keras3).unwrap().unwrap().class_name(), "Nadam");
        assert_eq!(
            Optimizer::read(&json!("rmsprop"), Dialect::Keras2).unwrap().unwrap().class_name(),
            "RMSprop"
        );
    }
}
