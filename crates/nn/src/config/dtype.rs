//! Dtype policies: what a layer keeps its weights in, and what it computes in.

use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};
use serde_json::{Value, json};

use super::{ConfigValue, Reader, Writer, expected};

/// A layer's dtype policy (Keras: `DTypePolicy`, Keras 2: `Policy` or a dtype's name).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DTypePolicy {
    name: String,
}

impl Default for DTypePolicy {
    fn default() -> Self {
        DTypePolicy::new("float32")
    }
}

impl DTypePolicy {
    /// A policy by name: a dtype, `mixed_float16` or `mixed_bfloat16`.
    pub fn new(name: impl Into<String>) -> Self {
        DTypePolicy { name: name.into() }
    }

    /// The policy's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How a quantized layer has its weights, such as `int8`; `None` for any other layer.
    pub fn quantization(&self) -> Option<&str> {
        self.parts().map(|(mode, _)| mode)
    }

    /// The mode of a quantized policy and the policy that it was made of.
    fn parts(&self) -> Option<(&str, &str)> {
        self.name.split_once("_from_")
    }

    /// The policy of what isn't quantized.
    fn source(&self) -> Result<&str> {
        match self.parts() {
            None => Ok(&self.name),
            Some(("int8", source)) => Ok(source),
            Some((mode, _)) => Err(Error::unsupported(format!("weights that are quantized as {mode}"))
                .help("int8 is known; or save the model before it is quantized")),
        }
    }

    /// The dtype of the weights that aren't quantized.
    ///
    /// # Errors
    /// When the policy is of no known name.
    pub fn variable(&self) -> Result<DType> {
        match self.source()? {
            "mixed_float16" | "mixed_bfloat16" => Ok(DType::F32),
            // Keras 2.3 to 2.15: whatever the first input has; floats are what layers have weights in.
            "_infer" | "infer" => Ok(DType::F32),
            name => name.parse().map_err(|_| self.unknown()),
        }
    }

    /// The dtype that the layer computes in.
    ///
    /// # Errors
    /// When the policy is of no known name.
    pub fn compute(&self) -> Result<DType> {
        match self.source()? {
            "mixed_float16" => Ok(DType::F16),
            "mixed_bfloat16" => Ok(DType::BF16),
            _ => self.variable(),
        }
    }

    fn unknown(&self) -> Error {
        Error::unsupported(format!("there is no dtype policy {:?}", self.name))
            .help("a dtype's name, mixed_float16 and mixed_bfloat16 are known")
    }
}

impl From<DType> for DTypePolicy {
    fn from(dtype: DType) -> Self {
        DTypePolicy::new(dtype.name())
    }
}

impl ConfigValue for DTypePolicy {
    fn read(value: &Value, _: &Reader<'_>) -> Result<Self> {
        match value {
            // Old files leave it open.
            Value::Null => Ok(DTypePolicy::default()),
            Value::String(name) => Ok(DTypePolicy::new(name.as_str())),
            Value::Object(node) => match value.pointer("/config/name").and_then(Value::as_str) {
                Some(name) => Ok(DTypePolicy::new(name)),
                // Quantized policies have a mode and a source; `int8_from_float32` is how Keras names them.
                None => match (
                    value.pointer("/config/mode").and_then(Value::as_str),
                    value.pointer("/config/source_name").and_then(Value::as_str),
                ) {
                    (Some(mode), source) => {
                        Ok(DTypePolicy::new(format!("{mode}_from_{}", source.unwrap_or("float32"))))
                    }
                    _ => Err(expected("a dtype policy", &json!(node))),
                },
            },
            _ => Err(expected("a dtype policy", value)),
        }
    }

    /// A name, which every version takes, but for Keras 2's mixed policies.
    fn write(&self, writer: &mut Writer) -> Value {
        if !writer.is_keras3() && self.name.starts_with("mixed_") {
            return json!({
                "module": "keras.mixed_precision",
                "class_name": "Policy",
                "config": {"name": self.name},
                "registered_name": null,
            });
        }
        if let Some((mode, source)) = self.parts() {
            if !writer.is_keras3() {
                writer.report.note("Keras 2 has no quantized layers: it doesn't load this one");
            }
            return json!({
                "module": "keras.dtype_policies",
                "class_name": "QuantizedDTypePolicy",
                "config": {"mode": mode, "source_name": source},
                "registered_name": null,
            });
        }
        json!(self.name)
    }
}

#[cfg(test)]
mod tests {
    use modelark_artifact::Dialect;

    use super::*;
    use crate::Registry;

    #[test]
    fn every_form_is_read() {
        let registry = Registry::default();
        let reader = Reader::new(Dialect::Keras3, &registry);
        let node = json!({"module": "keras", "class_name": "DTypePolicy", "config": {"name": "mixed_bfloat16"}, "registered_name": null});
        let policy = DTypePolicy::read(&node, &reader).unwrap();
        assert_eq!((policy.variable().unwrap(), policy.compute().unwrap()), (DType::F32, DType::BF16));
        assert_eq!(policy.write(&mut Writer::new(Dialect::Keras3)), json!("mixed_bfloat16"));
        assert_eq!(policy.write(&mut Writer::new(Dialect::Keras2))["class_name"], "Policy");
        assert!(DTypePolicy::new("int4_from_float32").variable().is_err());
        let quantized = DTypePolicy::new("int8_from_mixed_bfloat16");
        assert_eq!((quantized.variable().unwrap(), quantized.compute().unwrap()), (DType::F32, DType::BF16));
        let written = quantized.write(&mut Writer::new(Dialect::Keras3));
        assert_eq!(DTypePolicy::read(&written, &reader).unwrap(), quantized);
        assert!(DTypePolicy::read(&json!(3), &reader).is_err());
    }
}
