//! Tensors as messages (`TensorProto`), and the summaries that training graphs make.

use super::args::{one, tensors};
use super::wire::{Fields, Message, Wire};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::array::cast;
use crate::tensor::{ByteString, DType, SharedBytes, Tensor, checked_elements};
use crate::{Error, Result};

/// TensorFlow's numbers of dtypes (`DataType`).
const DTYPES: &[(u64, DType)] = &[
    (1, DType::F32),
    (2, DType::F64),
    (3, DType::I32),
    (4, DType::U8),
    (5, DType::I16),
    (6, DType::I8),
    (7, DType::String),
    (8, DType::C64),
    (9, DType::I64),
    (10, DType::Bool),
    (11, DType::QI8),
    (12, DType::QU8),
    (13, DType::QI32),
    (14, DType::BF16),
    (15, DType::QI16),
    (16, DType::QU16),
    (17, DType::U16),
    (18, DType::C128),
    (19, DType::F16),
    (22, DType::U32),
    (23, DType::U64),
    (24, DType::F8E5M2),
    (25, DType::F8E4M3FN),
];

/// The bytes that a message may stand for beyond its own, by a value that repeats.
const LARGEST: usize = 1 << 30;

fn write(t: &Tensor) -> Result<Vec<u8>> {
    let mut m = head(t)?;
    if t.dtype() == DType::String {
        for s in t.strings()? {
            m.bytes(8, s);
        }
    } else if !t.is_empty() {
        m.bytes(4, t.bytes()?);
    }
    Ok(m.finish())
}

/// A message with all elements in one field (`Tensor::AsProtoTensorContent`): of strings, their lengths go before.
pub(super) fn packed(t: &Tensor) -> Result<Vec<u8>> {
    let mut m = head(t)?;
    if t.dtype() == DType::String {
        let mut content = Message::default();
        t.strings()?.iter().for_each(|s| content.plain(s.len() as u64));
        let content = [content.finish(), t.strings()?.concat()].concat();
        if !content.is_empty() {
            m.bytes(4, &content);
        }
    } else if !t.is_empty() {
        m.bytes(4, t.bytes()?);
    }
    Ok(m.finish())
}

/// The tensor that a message holds.
pub(super) fn unpacked(message: &[u8]) -> Result<Tensor> {
    let parts = Parts::read(message).ok_or_else(|| Error::compute("the input isn't a serialized TensorProto"))?;
    parts.tensor()
}

/// The only string of a tensor.
pub(super) fn one_string(t: &Tensor) -> Result<ByteString> {
    match t.strings()? {
        [one] => Ok(one.clone()),
        _ => Err(Error::compute(format!("one string is taken, got shape {:?}", t.shape()))),
    }
}

/// A message that says a tensor's dtype and shape.
fn head(t: &Tensor) -> Result<Message> {
    let number = DTYPES.iter().find(|(_, d)| *d == t.dtype()).map(|(n, _)| *n);
    let number = number.ok_or_else(|| Error::unsupported(format!("{} in a message", t.dtype())))?;
    let mut shape = Message::default();
    for &extent in t.shape() {
        let mut dim = Message::default();
        if extent > 0 {
            dim.varint(1, extent as u64);
        }
        shape.bytes(2, &dim.finish());
    }
    let mut m = Message::default();
    m.varint(1, number).bytes(2, &shape.finish());
    Ok(m)
}

/// What a message holds, before it is known to fit together.
#[derive(Default)]
struct Parts<'a> {
    dtype: u64,
    shape: Vec<usize>,
    content: &'a [u8],
    strings: Vec<ByteString>,
    /// Numbers of other fields, as many bytes each as the wire has them: 4 or 8.
    raw: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn read(bytes: &'a [u8]) -> Option<Parts<'a>> {
        let mut parts = Parts::default();
        let mut fields = Fields(bytes);
        while !fields.0.is_empty() {
            match fields.next()? {
                (1, Wire::Varint(v)) => parts.dtype = v,
                (2, Wire::Bytes(shape)) => {
                    for dim in Fields(shape).messages(2)? {
                        let mut extent = 0;
                        let mut dim = Fields(dim);
                        while !dim.0.is_empty() {
                            if let (1, Wire::Varint(v)) = dim.next()? {
                                extent = usize::try_from(v).ok().filter(|v| *v <= isize::MAX as usize)?;
                            }
                        }
                        parts.shape.push(extent);
                    }
                }
                (4, Wire::Bytes(content)) => parts.content = content,
                (8, Wire::Bytes(s)) => parts.strings.push(s.into()),
                // Varints: integers, booleans, and the bits of half precision.
                (7 | 10 | 11 | 13 | 16 | 17, Wire::Varint(v)) => parts.raw.extend(v.to_le_bytes()),
                (7 | 10 | 11 | 13 | 16 | 17, Wire::Bytes(packed)) => {
                    let mut packed = Fields(packed);
                    while !packed.0.is_empty() {
                        parts.raw.extend(packed.varint()?.to_le_bytes());
                    }
                }
                (5 | 9, Wire::Fixed32(v)) => parts.raw.extend(v.to_le_bytes()),
                (6 | 12, Wire::Fixed64(v)) => parts.raw.extend(v.to_le_bytes()),
                (5 | 6 | 9 | 12, Wire::Bytes(packed)) => parts.raw.extend(packed),
                _ => {}
            }
        }
        Some(parts)
    }

    fn tensor(self) -> Result<Tensor> {
        let dtype = DTYPES.iter().find(|(n, _)| *n == self.dtype).map(|(_, d)| *d);
        let dtype = dtype.ok_or_else(|| Error::unsupported(format!("a message of dtype number {}", self.dtype)))?;
        let n = checked_elements(&self.shape)?;
        let size = dtype.size().unwrap_or(size_of::<ByteString>());
        let total = n.checked_mul(size).filter(|t| *t <= LARGEST || *t == self.content.len());
        let total = total.ok_or_else(|| Error::compute(format!("a message of {n} values of {dtype} is too large")))?;
        if dtype == DType::String && !self.content.is_empty() {
            let broken = || Error::compute(format!("a message's content isn't {n} strings"));
            let mut content = Fields(self.content);
            // A length takes a byte at least.
            if n > self.content.len() {
                return Err(broken());
            }
            let lengths: Option<Vec<u64>> = (0..n).map(|_| content.varint()).collect();
            let strings = lengths.ok_or_else(broken)?.into_iter();
            let strings: Option<Vec<ByteString>> =
                strings.map(|n| Some(content.take(usize::try_from(n).ok()?)?.into())).collect();
            return Ok(Tensor::from_strings(strings.ok_or_else(broken)?, &self.shape)?);
        }
        if dtype == DType::String {
            let mut strings = self.strings;
            strings.truncate(n);
            let last = strings.last().cloned().unwrap_or_else(|| ByteString::from(&[][..]));
            strings.resize(n, last);
            return Ok(Tensor::from_strings(strings, &self.shape)?);
        }
        if !self.content.is_empty() {
            return Ok(Tensor::from_bytes(dtype, &self.shape, SharedBytes::copy_from(self.content))?);
        }
        // Floats lie as they are; of the eight bytes of a varint the lower ones count.
        let plain = dtype.is_complex() || matches!(dtype, DType::F32 | DType::F64);
        let mut data = match plain {
            true => self.raw,
            false => self.raw.as_chunks::<8>().0.iter().flat_map(|v| v[..size.min(8)].to_vec()).collect(),
        };
        data.truncate(total);
        let last = data.len().checked_sub(size).map_or_else(|| vec![0; size], |at| data[at..].to_vec());
        while data.len() < total {
            data.extend_from_slice(&last);
        }
        Ok(Tensor::from_bytes(dtype, &self.shape, SharedBytes::copy_from(&data))?)
    }
}

fn parse(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("out_type")?;
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        let t = unpacked(&one_string(&x)?)?;
        if t.dtype() != dtype {
            return Err(Error::compute(format!("the message holds {}, not {dtype}", t.dtype())));
        }
        one(t)
    }))
}

/// A summary of one tagged value, which `fill` adds.
pub(super) fn summary(tag: &[u8], fill: impl FnOnce(&mut Message)) -> Vec<u8> {
    let mut value = Message::default();
    value.bytes(1, tag);
    fill(&mut value);
    let mut m = Message::default();
    m.bytes(1, &value.finish());
    m.finish()
}

fn only(t: &Tensor, what: &str) -> Result<ByteString> {
    match t.strings()? {
        [one] => Ok(one.clone()),
        _ => Err(Error::compute(format!("{what} must be one string, got shape {:?}", t.shape()))),
    }
}

fn scalar_summary(inputs: Values) -> Result<Values> {
    let [tags, values] = tensors(inputs)?;
    let numbers = cast(&values, DType::F32)?;
    if tags.len() != numbers.len() {
        return Err(Error::compute(format!("{} tags for {} values", tags.len(), numbers.len())));
    }
    let numbers = numbers.elements::<f32>()?;
    let all = tags.strings()?.iter().zip(numbers.iter()).flat_map(|(tag, v)| {
        summary(tag, |m| {
            m.float(2, *v);
        })
    });
    one(Tensor::scalar_string(all.collect::<Vec<u8>>()))
}

/// The upper ends of a histogram's buckets: they grow by a tenth, away from zero on both sides.
fn limits() -> Vec<f64> {
    let mut positive = Vec::new();
    let mut v = 1e-12;
    while v < 1e20 {
        positive.push(v);
        v *= 1.1;
    }
    positive.push(f64::MAX);
    positive.iter().rev().map(|v| -v).chain([0.0]).chain(positive.iter().copied()).collect()
}

fn histogram_summary(inputs: Values) -> Result<Values> {
    let [tag, values] = tensors(inputs)?;
    let values = cast(&values, DType::F64)?;
    let values = values.elements::<f64>()?;
    if let Some(odd) = values.iter().find(|v| !v.is_finite()) {
        return Err(Error::compute(format!("a histogram can't hold {odd}")));
    }
    let limits = limits();
    let mut buckets = vec![0.0f64; limits.len()];
    for v in values.iter() {
        let at = limits.partition_point(|l| l <= v).min(limits.len() - 1);
        buckets[at] += 1.0;
    }
    let (mut ends, mut counts): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    for (end, count) in limits.iter().zip(&buckets) {
        match (counts.last(), ends.last_mut()) {
            // Empty buckets side by side are one.
            (Some(0.0), Some(last)) if *count == 0.0 => *last = *end,
            _ => {
                ends.push(*end);
                counts.push(*count);
            }
        }
    }
    let mut histogram = Message::default();
    let (min, max) = values.iter().fold((f64::MAX, -f64::MAX), |(a, b), v| (a.min(*v), b.max(*v)));
    let sums = [min, max, values.len() as f64, values.iter().sum(), values.iter().map(|v| v * v).sum()];
    for (field, v) in (1..).zip(sums) {
        if v != 0.0 {
            histogram.double(field, v);
        }
    }
    histogram.doubles(6, &ends).doubles(7, &counts);
    let histogram = histogram.finish();
    one(Tensor::scalar_string(summary(&only(&tag, "the tag")?, |m| {
        m.bytes(5, &histogram);
    })))
}

/// A tensor with metadata that came serialized.
fn tensor_summary(inputs: Values) -> Result<Values> {
    let [tag, t, metadata] = tensors(inputs)?;
    let (message, metadata) = (write(&t)?, only(&metadata, "the metadata")?);
    one(Tensor::scalar_string(summary(&only(&tag, "the tag")?, |m| {
        m.bytes(8, &message).bytes(9, &metadata);
    })))
}

/// A tensor as the value of the node that is asked.
fn node_summary(node: &str, inputs: Values) -> Result<Values> {
    let [t] = tensors(inputs)?;
    let message = if t.dtype() == DType::String { write(&t)? } else { packed(&t)? };
    let mut value = Message::default();
    value.bytes(7, node.as_bytes()).bytes(8, &message);
    let mut m = Message::default();
    m.bytes(1, &value.finish());
    one(Tensor::scalar_string(m.finish()))
}

/// All values of several summaries in one.
fn merge(inputs: Values) -> Result<Values> {
    let (mut out, mut tags) = (Message::default(), std::collections::HashSet::new());
    for input in inputs {
        for s in input.tensor()?.strings()? {
            let broken = || Error::compute("an input isn't a serialized Summary");
            for value in Fields(s).messages(1).ok_or_else(broken)? {
                let tag = Fields(value).messages(1).ok_or_else(broken)?.last().copied().unwrap_or_default();
                if !tag.is_empty() && !tags.insert(tag.to_vec()) {
                    return Err(Error::compute(format!("two summaries have the tag {:?}", String::from_utf8_lossy(tag))));
                }
                out.bytes(1, value);
            }
        }
    }
    one(Tensor::scalar_string(out.finish()))
}

pub(super) const OPS: &[Op] = &[
    Op::new("SerializeTensor(tensor: T) -> (serialized: string); T: type", |_| {
        Ok(kernel(|_, inputs| {
            let [t] = tensors(inputs)?;
            one(Tensor::scalar_string(write(&t)?))
        }))
    }),
    Op::new("ParseTensor(serialized: string) -> (output: out_type); out_type: type", parse),
    Op::new("ScalarSummary(tags: string, values: T) -> (summary: string); T: type", |_| Ok(kernel(|_, inputs| scalar_summary(inputs)))),
    Op::new("HistogramSummary(tag: string, values: T) -> (summary: string); T: type = float32", |_| Ok(kernel(|_, inputs| histogram_summary(inputs)))),
    Op::new("TensorSummaryV2(tag: string, tensor: T, serialized_summary_metadata: string) -> (summary: string); T: type", |_| Ok(kernel(|_, inputs| tensor_summary(inputs)))),
    Op::new("MergeSummary(inputs: N * string) -> (summary: string); N: int", |_| Ok(kernel(|_, inputs| merge(inputs)))),
    Op::new("TensorSummary(tensor: T) -> (summary: string); T: type; description: string = \"\"; labels: list(string) = []; display_name: string = \"\"", |_| Ok(kernel(|context, inputs| node_summary(context.node(), inputs)))),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_can_say_less_than_its_shape() {
        // Three of int32 (field 7), of which the last stands for the rest; and one that is too large.
        let bytes = [8, 3, 0x12, 4, 0x12, 2, 8, 5, 0x3a, 3, 1, 2, 9];
        let t = Parts::read(&bytes).expect("parts").tensor().expect("tensor");
        assert_eq!(t.as_slice::<i32>().expect("i32"), [1, 2, 9, 9, 9]);
        let huge = [8, 3, 0x12, 8, 0x12, 6, 8, 0xff, 0xff, 0xff, 0xff, 0x7f];
        assert!(Parts::read(&huge).expect("parts").tensor().is_err());
        for n in 1..bytes.len() {
            if let Some(parts) = Parts::read(&bytes[..n]) {
                let _ = parts.tensor();
            }
        }
    }
}
