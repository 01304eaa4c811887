//! `.safetensors`: named tensors after a JSON header.

use std::io::Write;

use modelark_artifact::tensor::{DType, SharedBytes};
use modelark_artifact::{Error, Limits, Result, Variable};
use serde_json::{Map, Value, json};

use crate::array::{Bytes, Items, StoredArray};

/// The format's names for dtypes.
const NAMES: &[(&str, DType)] = &[
    ("BOOL", DType::Bool),
    ("U8", DType::U8),
    ("I8", DType::I8),
    ("U16", DType::U16),
    ("I16", DType::I16),
    ("U32", DType::U32),
    ("I32", DType::I32),
    ("U64", DType::U64),
    ("I64", DType::I64),
    ("F16", DType::F16),
    ("BF16", DType::BF16),
    ("F32", DType::F32),
    ("F64", DType::F64),
    ("C64", DType::C64),
    ("F8_E5M2", DType::F8E5M2),
    ("F8_E4M3", DType::F8E4M3FN),
];

/// The key of the header that holds texts rather than a tensor.
const METADATA: &str = "__metadata__";

/// The header's offset and the data's, if the length before it is plausible.
fn split(bytes: &SharedBytes, limits: &Limits) -> Result<(SharedBytes, SharedBytes)> {
    let cut = || Error::corrupt("the file is shorter than its header says");
    let len: [u8; 8] = bytes.get(..8).and_then(|b| b.try_into().ok()).ok_or_else(cut)?;
    let len = u64::from_le_bytes(len);
    if len > limits.text_bytes {
        return Err(Error::limit(format!("the header takes {len} bytes")));
    }
    let end = usize::try_from(len).ok().and_then(|len| len.checked_add(8)).ok_or_else(cut)?;
    let header = bytes.slice(8..end).ok_or_else(cut)?;
    let data = bytes.slice(end..bytes.len()).ok_or_else(cut)?;
    Ok((header, data))
}

/// Whether this starts as such a file does.
pub fn detect(bytes: &SharedBytes, limits: &Limits) -> bool {
    split(bytes, limits)
        .is_ok_and(|(header, _)| header.starts_with(b"{") && header.trim_ascii_end().ends_with(b"}"))
}

/// The tensors by name in the order of the header; they stay in the file.
///
/// # Errors
/// When the header isn't as the format has it, or a tensor lies outside the file.
pub fn read(bytes: &SharedBytes, limits: &Limits) -> Result<Vec<(String, StoredArray)>> {
    let (header, data) = split(bytes, limits)?;
    let header: Map<String, Value> =
        serde_json::from_slice(&header).map_err(|e| Error::corrupt("the header isn't JSON").because(e))?;
    if header.len() > limits.items {
        return Err(Error::limit(format!("the header lists {} tensors", header.len())));
    }
    header
        .into_iter()
        .filter(|(name, _)| name != METADATA)
        .map(|(name, entry)| {
            let array = tensor(&entry, &data, limits).map_err(|e| e.at(format!("tensor {name:?}")))?;
            Ok((name, array))
        })
        .collect()
}

fn tensor(entry: &Value, data: &SharedBytes, limits: &Limits) -> Result<StoredArray> {
    let numbers = |key: &str| -> Option<Vec<usize>> {
        entry.get(key)?.as_array()?.iter().map(|n| usize::try_from(n.as_u64()?).ok()).collect()
    };
    let dtype = entry.get("dtype").and_then(Value::as_str).unwrap_or_default();
    let dtype =
        NAMES.iter().find(|(name, _)| *name == dtype).map(|(_, d)| *d).ok_or_else(|| {
            Error::unsupported(format!("the dtype {dtype:?} isn't one that models here have"))
        })?;
    let shape = numbers("shape").ok_or_else(|| Error::corrupt("the header tells no shape"))?;
    let bytes = match numbers("data_offsets").as_deref() {
        Some([start, end]) => data.slice(*start..*end),
        _ => None,
    };
    let bytes = bytes.ok_or_else(|| Error::corrupt("its offsets lie outside the file"))?;
    StoredArray::new(Items::plain(dtype), shape, false, Bytes::Here(bytes), limits)
}

/// Writes tensors under their names. The header keeps their order; the data lies widest dtype first, so that all of it
/// is aligned.
///
/// # Errors
/// When a dtype has no name in the format, a value can't be read, or writing fails.
pub fn write(tensors: &[(String, &Variable)], out: &mut impl Write) -> Result<()> {
    let mut order: Vec<usize> = (0..tensors.len()).collect();
    let width = |i: &usize| tensors.get(*i).and_then(|(_, v)| v.dtype.size()).unwrap_or(0);
    order.sort_by_key(|i| std::cmp::Reverse(width(i)));
    let mut offset = 0u64;
    let mut ranges = vec![(0, 0); tensors.len()];
    for &i in &order {
        if let (Some((_, variable)), Some(range)) = (tensors.get(i), ranges.get_mut(i)) {
            let len = variable.nbytes().unwrap_or(0);
            *range = (offset, offset.saturating_add(len));
            offset = range.1;
        }
    }
    let mut header = Map::new();
    header.insert(METADATA.to_owned(), json!({"format": "tf"}));
    for ((name, variable), (start, end)) in tensors.iter().zip(&ranges) {
        let dtype = NAMES.iter().find(|(_, d)| *d == variable.dtype).map(|(n, _)| *n).ok_or_else(|| {
            Error::unsupported(format!("safetensors has no dtype {}", variable.dtype))
                .at(format!("tensor {name:?}"))
        })?;
        let entry = json!({"dtype": dtype, "shape": variable.shape, "data_offsets": [start, end]});
        header.insert(name.clone(), entry);
    }
    let mut text = Value::Object(header).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    out.write_all(&(text.len() as u64).to_le_bytes())?;
    out.write_all(&text)?;
    for (name, variable) in order.iter().filter_map(|i| tensors.get(*i)) {
        let tensor = variable.load().map_err(|e| e.at(format!("tensor {name:?}")))?;
        out.write_all(tensor.bytes()?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use modelark_artifact::tensor::Tensor;

    use super::*;

    #[test]
    fn tensors_come_back_aligned_and_in_order() {
        let small = Variable::new("small", Tensor::from_vec(vec![1u8, 2, 3], [3]).expect("tensor"));
        let wide = Variable::new("wide", Tensor::from_vec(vec![1.5f64, 2.5], [2, 1]).expect("tensor"));
        let mut out = Vec::new();
        write(&[("a/small".to_owned(), &small), ("wide".to_owned(), &wide)], &mut out).expect("write");
        let bytes = SharedBytes::copy_from(&out);
        assert!(detect(&bytes, &Limits::default()));
        let found = read(&bytes, &Limits::default()).expect("read");
        let names: Vec<&str> = found.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names, ["a/small", "wide"]);
        assert_eq!(found[0].1.tensor().expect("small").as_slice::<u8>().expect("u8"), [1, 2, 3]);
        assert_eq!(found[1].1.tensor().expect("wide").as_slice::<f64>().expect("aligned"), [1.5, 2.5]);
    }

    #[test]
    fn damaged_headers_are_errors() {
        let file = |header: &str, data: &[u8]| -> SharedBytes {
            [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat().into()
        };
        for header in [
            "[]",
            "{",
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9]}}"#,
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#,
            r#"{"a":{"dtype":"Q4","shape":[1],"data_offsets":[0,4]}}"#,
            r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
        ] {
            assert!(read(&file(header, &[0; 4]), &Limits::default()).is_err(), "{header}");
        }
        assert!(read(&vec![255; 20].into(), &Limits::default()).is_err());
    }
}
