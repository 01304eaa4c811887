//! Regularizers and constraints: they act in training alone, so they are kept and rewritten, not computed.

use modelark_artifact::Result;
use serde_json::{Value, json};

use super::{ConfigValue, Object, Reader, Serialized, Writer};

macro_rules! kept {
    ($(#[$doc:meta])* $name:ident, $module:literal, [$($old:literal => $new:literal),* $(,)?]) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name(Serialized);

        impl $name {
            /// The class of this name with its config.
            pub fn new(class: &str, config: Object) -> Self {
                $name(Serialized::new($module, class, config))
            }

            /// The class and its config.
            pub fn serialized(&self) -> &Serialized {
                &self.0
            }
        }

        impl ConfigValue for $name {
            fn read(value: &Value, reader: &Reader<'_>) -> Result<Self> {
                let mut read = Serialized::read(value, reader)?;
                // Keras 1's names, and functions that later became classes.
                match read.class.as_str() {
                    $($old => read.class = $new.to_owned(),)*
                    _ => {}
                }
                Ok($name(read))
            }

            fn write(&self, writer: &mut Writer) -> Value {
                let mut node = self.0.clone();
                if node.registered_name.is_none() && !node.short {
                    node.module = $module.to_owned();
                }
                if writer.is_keras3() && node.class == "RadialConstraint" {
                    writer.report.note(format!("Keras 3 has no {}", node.class));
                }
                node.write(writer)
            }
        }
    };
}

kept! {
    /// A penalty on weights or outputs (Keras: `keras.regularizers`). It is a weight's attribute in training alone.
    Regularizer, "keras.regularizers", [
        "l1" => "L1", "l2" => "L2", "l1_l2" => "L1L2",
        "WeightRegularizer" => "L1L2", "ActivityRegularizer" => "L1L2", "L1L2Regularizer" => "L1L2",
    ]
}

kept! {
    /// What weights are held to after each step of training (Keras: `keras.constraints`).
    Constraint, "keras.constraints", [
        "maxnorm" => "MaxNorm", "max_norm" => "MaxNorm", "nonneg" => "NonNeg", "non_neg" => "NonNeg",
        "unitnorm" => "UnitNorm", "unit_norm" => "UnitNorm",
    ]
}

impl Regularizer {
    /// The sum of squares, times `factor` (Keras: `L2`).
    pub fn l2(factor: f64) -> Self {
        Regularizer::new("L2", Object::from_iter([("l2".to_owned(), json!(factor))]))
    }

    /// The sum of absolute values, times `factor` (Keras: `L1`).
    pub fn l1(factor: f64) -> Self {
        Regularizer::new("L1", Object::from_iter([("l1".to_owned(), json!(factor))]))
    }
}

#[cfg(test)]
mod tests {
    use modelark_artifact::Dialect;

    use super::*;
    use crate::Registry;

    #[test]
    fn old_names_become_classes() {
        let registry = Registry::default();
        let reader = Reader::new(Dialect::Keras2, &registry);
        let old = json!({"class_name": "maxnorm", "config": {"m": 2, "axis": 0}});
        let constraint = Constraint::read(&old, &reader).unwrap();
        assert_eq!(constraint.serialized().class, "MaxNorm");
        assert_eq!(constraint.write(&mut Writer::new(Dialect::Keras3))["module"], "keras.constraints");
        assert_eq!(
            Regularizer::l2(0.5).write(&mut Writer::new(Dialect::Keras3))["config"],
            json!({"l2": 0.5})
        );
    }
}
