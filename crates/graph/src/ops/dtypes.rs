//! The dtypes that ops take.

use std::collections::HashMap;
use std::sync::LazyLock;

/// A set a line (`@0 float32 float64`), then an op a line (`AddN T=@0`); written by `tests/fixtures/ops/dtypes.py`.
const TABLE: &str = include_str!("dtypes.txt");

/// By op: the attributes that are dtypes, and the dtypes that each can be.
type Table = HashMap<&'static str, Vec<(&'static str, Vec<&'static str>)>>;

static DTYPES: LazyLock<Table> = LazyLock::new(|| {
    let mut sets: HashMap<&str, Vec<&str>> = HashMap::new();
    let mut ops = HashMap::new();
    for line in TABLE.lines().filter(|l| !l.starts_with('#')) {
        let mut words = line.split(' ');
        let Some(first) = words.next() else { continue };
        if first.starts_with('@') {
            sets.insert(first, words.collect());
        } else {
            let set = |word: &'static str| {
                let (attr, set) = word.split_once('=')?;
                Some((attr, sets.get(set)?.clone()))
            };
            ops.insert(first, words.filter_map(set).collect());
        }
    }
    ops
});

/// The dtypes that an op takes, by the attribute that decides: those of TensorFlow's op. An attribute that isn't listed takes
/// any dtype, and an op that isn't has none that is restricted.
pub fn dtypes(op: &str) -> &'static [(&'static str, Vec<&'static str>)] {
    DTYPES.get(op).map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::signature;

    #[test]
    fn every_attribute_is_the_ops() {
        assert!(dtypes("MatMul")[0].1.contains(&"float32") && dtypes("NoOp").is_empty());
        for (op, attrs) in DTYPES.iter() {
            let signature = signature(op).expect("the op is known");
            for (attr, dtypes) in attrs {
                assert!(!dtypes.is_empty(), "{op} {attr}");
                let kind = signature.attrs.iter().find(|a| a.name == *attr).map(|a| a.kind.as_str());
                assert!(matches!(kind, Some("type" | "list(type)")), "{op} {attr}: {kind:?}");
            }
        }
    }
}
