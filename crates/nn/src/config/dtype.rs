//! Dtype policies: what a layer keeps its weights in, and what it computes in.

use std::sync::Arc;

use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};
use regex::Regex;
use serde_json::{Value, json};

use super::{ConfigValue, Object, Reader, Writer, expected};
use crate::quantization::{HISTORY, Quantization};

/// A layer's dtype policy (Keras: `DTypePolicy`, Keras 2: `Policy` or a dtype's name).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DTypePolicy {
    name: String,
    /// How many of the last steps' largest values float8 keeps.
    history: usize,
    /// The policies of layers by their paths, where the layer's own says them (Keras 3: `DTypePolicyMap`).
    map: Option<Arc<PolicyMap>>,
    /// The path of the layer whose policy it is, where policies go by paths.
    path: String,
}

/// Policies by paths such as `attention/query`, or by patterns of them, and the policy of all others.
#[derive(Debug, PartialEq, Eq)]
struct PolicyMap {
    others: Option<DTypePolicy>,
    entries: Vec<(String, DTypePolicy)>,
}

impl Default for DTypePolicy {
    fn default() -> Self {
        DTypePolicy::new("float32")
    }
}

impl DTypePolicy {
    /// A policy by name: a dtype, `mixed_float16` or `mixed_bfloat16`.
    pub fn new(name: impl Into<String>) -> Self {
        DTypePolicy { name: name.into(), history: HISTORY, map: None, path: String::new() }
    }

    /// The policy of a layer of this name, which has this policy or is held by a layer that has it.
    pub(crate) fn at(&self, name: &str) -> Result<Self> {
        let Some(map) = &self.map else { return Ok(self.clone()) };
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}/{name}", self.path) };
        let exact = map.entries.iter().find(|(key, _)| *key == path);
        let mut matching = Vec::new();
        for entry in map.entries.iter().filter(|_| exact.is_none()) {
            let pattern = Regex::new(&format!("^(?:{})$", entry.0)).map_err(|e| {
                Error::corrupt(format!("the pattern {:?} of a dtype policy can't be read", entry.0))
                    .because(e)
            })?;
            if pattern.is_match(&path) {
                matching.push(entry);
            }
        }
        if let [(one, _), (other, _), ..] = &matching[..] {
            return Err(Error::invalid(format!(
                "two patterns of dtype policies fit {path:?}: {one:?} and {other:?}"
            )));
        }
        let found = exact.or(matching.first().copied()).map(|(_, policy)| policy);
        let found = found.or(map.others.as_ref()).cloned().unwrap_or_default();
        Ok(DTypePolicy { map: self.map.clone(), path, ..found })
    }

    /// What a layer has that is held by one of this policy, and was made with the same.
    pub(crate) fn held(&self, own: &DTypePolicy) -> Option<Self> {
        let same = own.map.is_none() && own.name == self.name;
        (self.map.is_some() && same).then(|| self.clone())
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

    /// How a quantized layer has its weights, in full.
    pub(crate) fn quantized(&self) -> Result<Option<Quantization>> {
        self.parts().map(|(mode, _)| Quantization::of_mode(mode, self.history)).transpose()
    }

    /// The policy of what isn't quantized.
    fn source(&self) -> Result<&str> {
        self.quantized()?;
        Ok(self.parts().map_or(&self.name, |(_, source)| source))
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

    fn parse(value: &Value) -> Result<Self> {
        if value.get("class_name").and_then(Value::as_str) == Some("DTypePolicyMap") {
            let part = |key: &str| value.pointer(&format!("/config/{key}"));
            let entries = part("policy_map").and_then(Value::as_object).into_iter().flatten();
            let entries = entries.map(|(path, policy)| Ok((path.clone(), DTypePolicy::parse(policy)?)));
            let entries = entries.collect::<Result<Vec<_>>>()?;
            let others = part("default_policy").filter(|p| !p.is_null());
            let others = others.map(DTypePolicy::parse).transpose()?;
            let own = others.clone().unwrap_or_default();
            return Ok(DTypePolicy { map: Some(Arc::new(PolicyMap { others, entries })), ..own });
        }
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
                        let mut policy =
                            DTypePolicy::new(format!("{mode}_from_{}", source.unwrap_or("float32")));
                        if let Some(history) = value.pointer("/config/amax_history_length") {
                            let wrong = || expected("a length", history);
                            let length = history.as_u64().and_then(|n| usize::try_from(n).ok());
                            policy.history = length.ok_or_else(wrong)?;
                        }
                        Ok(policy)
                    }
                    _ => Err(expected("a dtype policy", &json!(node))),
                },
            },
            _ => Err(expected("a dtype policy", value)),
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
        DTypePolicy::parse(value)
    }

    /// A name, which every version takes, but for Keras 2's mixed policies.
    fn write(&self, writer: &mut Writer) -> Value {
        if let Some(map) = &self.map {
            if !writer.is_keras3() {
                writer.report.note("Keras 2 has no dtype policies by layers' paths: all have one");
                return DTypePolicy { map: None, ..self.clone() }.write(writer);
            }
            // Here a name alone wouldn't do.
            let mut full = |policy: &DTypePolicy| match policy.write(writer) {
                Value::String(name) => {
                    json!({"module": "keras", "class_name": "DTypePolicy", "config": {"name": name}, "registered_name": null})
                }
                node => node,
            };
            let entries: Value =
                map.entries.iter().map(|(path, p)| (path.clone(), full(p))).collect::<Object>().into();
            let others = map.others.as_ref().map_or(Value::Null, &mut full);
            return json!({
                "module": "keras.dtype_policies",
                "class_name": "DTypePolicyMap",
                "config": {"default_policy": others, "policy_map": entries},
                "registered_name": null,
            });
        }
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
            let class = match mode.split('/').next() {
                Some("int4") if mode.contains('/') => "Int4DTypePolicy",
                Some("gptq") => "GPTQDTypePolicy",
                Some("awq") => "AWQDTypePolicy",
                Some("float8") => "QuantizedFloat8DTypePolicy",
                _ => "QuantizedDTypePolicy",
            };
            let mut config = json!({"mode": mode, "source_name": source});
            if class == "QuantizedFloat8DTypePolicy" {
                config["amax_history_length"] = json!(self.history);
            }
            return json!({
                "module": "keras.dtype_policies",
                "class_name": class,
                "config": config,
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
        assert!(DTypePolicy::new("int5_from_float32").variable().is_err());
        for name in [
            "int8_from_mixed_bfloat16",
            "int4/16_from_mixed_bfloat16",
            "gptq/4/-1_from_mixed_bfloat16",
            "float8_from_mixed_bfloat16",
        ] {
            let quantized = DTypePolicy { history: 7, ..DTypePolicy::new(name) };
            assert_eq!(
                (quantized.variable().unwrap(), quantized.compute().unwrap()),
                (DType::F32, DType::BF16)
            );
            let written = quantized.write(&mut Writer::new(Dialect::Keras3));
            let read = DTypePolicy::read(&written, &reader).unwrap();
            assert_eq!((read.name(), read.history == 7), (name, name.starts_with("float8")));
        }
        assert!(DTypePolicy::read(&json!(3), &reader).is_err());
    }

    #[test]
    fn policies_go_by_paths() {
        let registry = Registry::default();
        let reader = Reader::new(Dialect::Keras3, &registry);
        let policy = |name: &str| json!({"module": "keras", "class_name": "DTypePolicy", "config": {"name": name}, "registered_name": null});
        let entries = json!({"a/query": policy("float16"), "a/b/.*": policy("bfloat16")});
        let node = json!({"module": "keras.dtype_policies", "class_name": "DTypePolicyMap", "config": {"default_policy": policy("float64"), "policy_map": entries}, "registered_name": null});
        let map = DTypePolicy::read(&node, &reader).unwrap();
        assert_eq!(map.write(&mut Writer::new(Dialect::Keras3)), node);
        let own = map.at("a").unwrap();
        let of = |name: &str| own.held(&DTypePolicy::new("float64")).unwrap().at(name).unwrap();
        assert_eq!([own.name(), of("query").name(), of("key").name()], ["float64", "float16", "float64"]);
        assert_eq!(of("b").at("c").unwrap().name(), "bfloat16");
        assert!(own.held(&DTypePolicy::new("float32")).is_none());
    }
}
