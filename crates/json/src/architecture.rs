//! An architecture as JSON, as `model.to_json()` gives it.

use modelark_artifact::{
    Architecture, Dialect, Error, Limits, Result, archive_form, dialect_of, json_text, parse_json,
};
use serde_json::Value;

/// The keys that Keras 1 and 2 put beside the model's node.
const VERSION: &str = "keras_version";
const BACKEND: &str = "backend";

/// What Keras 2 is told of the version when the source didn't say.
const KERAS_2: &str = "2.15.0";

/// Whether this text is an architecture: JSON with a class name and a config.
pub fn detect(bytes: &[u8], limits: &Limits) -> bool {
    let start = bytes.trim_ascii_start();
    (start.starts_with(b"{") || start.starts_with(b"\"")) && read(bytes, limits).is_ok()
}

/// Reads the text that `to_json()` gave, whichever version wrote it; a JSON string that holds that text, as
/// `json.dump(model.to_json(), file)` writes it, is understood too.
///
/// # Errors
/// When it isn't JSON, or no architecture.
pub fn read(bytes: &[u8], limits: &Limits) -> Result<Architecture> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut node = parse_json(bytes, limits)?;
    if let Value::String(text) = &node {
        node = parse_json(text.as_bytes(), limits)?;
    }
    of_node(node)
}

/// The architecture of a node, with the version that Keras 1 and 2 put beside the class.
///
/// # Errors
/// When it is no architecture.
pub fn of_node(node: Value) -> Result<Architecture> {
    let Value::Object(mut node) = node else { return Err(no_architecture()) };
    if node.contains_key("modelTopology") {
        return Err(Error::unsupported("this is a model of TensorFlow.js, whose files aren't read here")
            .help("make a Keras model of it with tensorflowjs_converter"));
    }
    if !node.get("class_name").is_some_and(Value::is_string) || !node.contains_key("config") {
        return Err(no_architecture());
    }
    let version = node.shift_remove(VERSION).and_then(|v| v.as_str().map(str::to_owned));
    node.shift_remove(BACKEND);
    let config = Value::Object(node);
    let dialect = dialect_of(&config, version.as_deref());
    Ok(Architecture { config, dialect, keras_version: version })
}

fn no_architecture() -> Error {
    Error::corrupt("this isn't an architecture: it has no class_name and config")
        .help("an architecture is what model.to_json() returns")
}

/// The text that `model_from_json` of the architecture's dialect takes.
pub fn write(architecture: &Architecture) -> String {
    if architecture.dialect == Dialect::Keras3 {
        // A config that comes from an .h5 file doesn't say where the classes are; Keras 3 wants to be told.
        return json_text(&archive_form(&architecture.config, architecture.dialect));
    }
    let mut node = architecture.config.clone();
    if let Value::Object(node) = &mut node {
        let version = architecture.keras_version.clone().unwrap_or_else(|| KERAS_2.to_owned());
        node.insert(VERSION.to_owned(), version.into());
        node.insert(BACKEND.to_owned(), "tensorflow".into());
    }
    json_text(&node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> (Dialect, Option<String>) {
        let a = read(text.as_bytes(), &Limits::default()).expect(text);
        (a.dialect, a.keras_version)
    }

    #[test]
    fn each_dialect_is_told() {
        let keras2 = r#"{"class_name":"Sequential","config":{"layers":[]},"keras_version":"2.2.4-tf","backend":"tensorflow"}"#;
        assert_eq!(check(keras2), (Dialect::Keras2, Some("2.2.4-tf".into())));
        let quoted = serde_json::to_string(keras2).expect("string");
        assert_eq!(check(&quoted).0, Dialect::Keras2);
        let keras3 = r#"{"module":"keras","class_name":"Sequential","config":{"layers":[{"config":{"batch_shape":[null,4]}}]}}"#;
        assert_eq!(check(keras3), (Dialect::Keras3, None));
        let archive = r#"{"module":"keras","class_name":"Sequential","config":{"layers":[{"config":{"batch_input_shape":[null,4],"units":3}}]}}"#;
        assert_eq!(check(archive).0, Dialect::Keras2);
        let bare = r#"{"class_name":"Sequential","config":[{"class_name":"Dense","config":{"output_dim":3,"init":"uniform"}}]}"#;
        assert_eq!(check(bare).0, Dialect::Keras1);
    }

    #[test]
    fn keras_2_is_written_with_its_version() {
        let text = r#"{"class_name":"Sequential","config":{"name":"s","layers":[]},"keras_version":"2.15.0","backend":"tensorflow"}"#;
        let read = read(text.as_bytes(), &Limits::default()).expect("read");
        assert_eq!(write(&read), text);
        let text =
            r#"{"module":"keras","class_name":"Sequential","config":{"layers":[]},"registered_name":null}"#;
        let read = super::read(text.as_bytes(), &Limits::default()).expect("read");
        assert_eq!(write(&read), text);
    }

    #[test]
    fn other_json_is_refused() {
        for text in ["[]", "{}", "nonsense", r#"{"class_name":3,"config":{}}"#, "\"\"", "\"{}\""] {
            assert!(!detect(text.as_bytes(), &Limits::default()), "{text}");
        }
        assert!(read("[".repeat(100_000).as_bytes(), &Limits::default()).is_err());
    }
}
