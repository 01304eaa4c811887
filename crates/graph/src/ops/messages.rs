//! Messages of types that descriptors tell, taken apart into tensors and put together (`tf.io.decode_proto`,
//! `tf.io.encode_proto`).

use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, Value};

use super::args::{all_tensors, many, one, types};
use super::wire::{Fields, Message};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::array::cast;
use crate::tensor::{ByteString, DType, Element, Tensor, checked_elements, memory};
use crate::{Attr, Error, Result};

/// Kinds of values on the wire.
const TEXT: u64 = 2;
const GROUP: u64 = 3;
const GROUP_END: u64 = 4;

/// A field's value: a number as the bits of `i64`, `u64` or `f64`, or bytes.
#[derive(Clone)]
enum Item {
    Bits(u64),
    Bytes(ByteString),
}

impl Item {
    fn bits(&self) -> u64 {
        match self {
            Item::Bits(bits) => *bits,
            Item::Bytes(_) => 0,
        }
    }

    fn of(value: &Value) -> Item {
        match value {
            Value::Bool(v) => Item::Bits((*v).into()),
            Value::I32(v) | Value::EnumNumber(v) => Item::Bits(i64::from(*v) as u64),
            Value::I64(v) => Item::Bits(*v as u64),
            Value::U32(v) => Item::Bits((*v).into()),
            Value::U64(v) => Item::Bits(*v),
            Value::F32(v) => Item::Bits(f64::from(*v).to_bits()),
            Value::F64(v) => Item::Bits(v.to_bits()),
            Value::String(v) => Item::Bytes(v.as_bytes().into()),
            Value::Bytes(v) => Item::Bytes(v.as_ref().into()),
            Value::Message(_) | Value::List(_) | Value::Map(_) => Item::Bytes(ByteString::default()),
        }
    }
}

/// What a descriptor tells of a field.
struct Field {
    name: String,
    number: u64,
    kind: Kind,
    list: bool,
    packed: bool,
    group: bool,
    /// Whether tensors have more bits than the field.
    widened: bool,
    default: Item,
}

impl Field {
    fn find(message: &MessageDescriptor, name: &str, dtype: DType) -> Result<Field> {
        macro_rules! field {
            ($found:expr) => {{
                let f = $found;
                let default = if f.is_list() { f.kind().default_value() } else { f.default_value() };
                Field {
                    name: name.to_owned(),
                    number: f.number().into(),
                    kind: f.kind(),
                    list: f.is_list(),
                    packed: f.is_packed(),
                    group: f.is_group(),
                    widened: dtype == DType::I64,
                    default: Item::of(&default),
                }
            }};
        }
        if let Some(f) = message.get_field_by_name(name) {
            return Ok(field!(f));
        }
        let extension = message.parent_pool().get_extension_by_name(name);
        match extension.filter(|e| e.containing_message() == *message) {
            Some(e) => Ok(field!(e)),
            None => Err(Error::graph(format!("the message type {:?} has no field {name:?}", message.full_name()))),
        }
    }

    /// Fails unless tensors of this dtype hold the field's values.
    fn holds(&self, dtype: DType) -> Result<()> {
        use DType::{Bool, F32, F64, I32, I64, String, U32, U64};
        let fits = match self.kind {
            Kind::Double => dtype == F64,
            Kind::Float => matches!(dtype, F32 | F64),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => dtype == I64,
            Kind::Uint64 | Kind::Fixed64 => dtype == U64,
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => matches!(dtype, I32 | I64),
            Kind::Uint32 | Kind::Fixed32 => matches!(dtype, U32 | U64),
            Kind::Bool => dtype == Bool,
            Kind::Enum(_) => dtype == I32,
            Kind::String | Kind::Bytes | Kind::Message(_) => dtype == String,
        };
        match fits {
            true => Ok(()),
            false => Err(Error::graph(format!("the field {:?} is {:?}, which {dtype} doesn't hold", self.name, self.kind))),
        }
    }

    /// How the wire has the field's values.
    fn wire(&self) -> u64 {
        if self.group { GROUP } else { self.kind.wire_type() as u64 }
    }

    fn is_number(&self) -> bool {
        !matches!(self.kind, Kind::String | Kind::Bytes | Kind::Message(_))
    }

    /// A number, as it stands without its tag.
    fn number(&self, fields: &mut Fields<'_>) -> Option<u64> {
        let signed = |v: i32| i64::from(v) as u64;
        Some(match self.kind {
            Kind::Int32 | Kind::Enum(_) => signed(fields.varint()? as i32),
            Kind::Int64 | Kind::Uint64 => fields.varint()?,
            Kind::Uint32 => fields.varint()? & u64::from(u32::MAX),
            Kind::Bool => u64::from(fields.varint()? != 0),
            Kind::Sint32 => {
                let v = fields.varint()? as u32;
                signed((v >> 1) as i32 ^ -((v & 1) as i32))
            }
            Kind::Sint64 => {
                let v = fields.varint()?;
                (v >> 1) ^ (v & 1).wrapping_neg()
            }
            Kind::Fixed32 => u32::from_le_bytes(fields.take(4)?.try_into().ok()?).into(),
            Kind::Sfixed32 => signed(i32::from_le_bytes(fields.take(4)?.try_into().ok()?)),
            Kind::Float => f64::from(f32::from_le_bytes(fields.take(4)?.try_into().ok()?)).to_bits(),
            _ => u64::from_le_bytes(fields.take(8)?.try_into().ok()?),
        })
    }

    /// Writes a number without its tag.
    fn put(&self, m: &mut Message, bits: u64) {
        match self.kind {
            Kind::Int32 | Kind::Enum(_) => m.plain(i64::from(bits as i32) as u64),
            Kind::Uint32 => m.plain(bits & u64::from(u32::MAX)),
            Kind::Int64 | Kind::Uint64 | Kind::Bool => m.plain(bits),
            Kind::Sint32 => m.plain(((bits as i32) << 1 ^ (bits as i32) >> 31) as u32 as u64),
            Kind::Sint64 => m.plain(((bits as i64) << 1 ^ (bits as i64) >> 63) as u64),
            Kind::Fixed32 | Kind::Sfixed32 => drop(m.raw(&(bits as u32).to_le_bytes())),
            Kind::Float => drop(m.raw(&(f64::from_bits(bits) as f32).to_le_bytes())),
            _ => drop(m.raw(&bits.to_le_bytes())),
        }
    }

    /// Writes the field with some values.
    fn write(&self, m: &mut Message, items: &[Item]) {
        if self.packed && !items.is_empty() {
            let mut all = Message::default();
            items.iter().for_each(|item| self.put(&mut all, item.bits()));
            m.bytes(self.number, &all.finish());
            return;
        }
        for item in items {
            match item {
                Item::Bits(bits) => {
                    m.plain(self.number << 3 | self.wire());
                    self.put(m, *bits);
                }
                Item::Bytes(bytes) if self.group => {
                    m.plain(self.number << 3 | GROUP);
                    m.raw(bytes).plain(self.number << 3 | GROUP_END);
                }
                Item::Bytes(bytes) => drop(m.bytes(self.number, bytes)),
            }
        }
    }
}

/// The values of each of `fields` in a message; `None` where it is broken.
fn read(message: &[u8], wanted: &[Field]) -> Option<Vec<Vec<Item>>> {
    let mut found: Vec<Vec<Item>> = vec![Vec::new(); wanted.len()];
    let mut fields = Fields(message);
    while !fields.0.is_empty() {
        let start = fields.0;
        let (number, wire) = fields.tag()?;
        let after = fields.clone();
        fields.skip(number, wire)?;
        for (field, items) in wanted.iter().zip(&mut found).filter(|(f, _)| f.number == number) {
            let mut fields = after.clone();
            if wire == TEXT && field.list && field.is_number() {
                let mut packed = Fields(fields.text()?);
                while !packed.0.is_empty() {
                    let bits = field.number(&mut packed)?;
                    // TensorFlow widens what is packed as if it had no sign.
                    let unsigned = field.widened && matches!(field.kind, Kind::Int32);
                    items.push(Item::Bits(if unsigned { bits & u64::from(u32::MAX) } else { bits }));
                }
            } else if wire == field.wire() {
                items.push(match wire {
                    TEXT => Item::Bytes(fields.text()?.into()),
                    GROUP => {
                        fields.skip(number, wire)?;
                        Item::Bytes(start.get(..start.len() - fields.0.len())?.into())
                    }
                    _ => Item::Bits(field.number(&mut fields)?),
                });
            }
            // Of a field that has one value, the last that is told holds.
            if !field.list && items.len() > 1 {
                items.drain(..items.len() - 1);
            }
        }
    }
    Some(found)
}

/// The message type that a node names, from the descriptors that it holds.
fn message_type(a: &NodeAttrs<'_>) -> Result<MessageDescriptor> {
    let source = match a.get("descriptor_source") {
        Some(Attr::String(bytes)) => bytes.as_slice(),
        other => return Err(Error::graph(format!("attribute \"descriptor_source\" must be text, got {other:?}"))),
    };
    let name = a.str("message_type")?;
    let Some(set) = source.strip_prefix(b"bytes://") else {
        return Err(Error::unsupported(format!(
            "the message type {name:?} is to be found in {:?}: only descriptors within the graph (\"bytes://\" and a \
             serialized FileDescriptorSet) can be used, neither those of a program's own nor those of files",
            String::from_utf8_lossy(source)
        )));
    };
    let pool = DescriptorPool::decode(set)
        .map_err(|e| Error::graph(format!("its \"descriptor_source\" holds no serialized FileDescriptorSet: {e}")))?;
    pool.get_message_by_name(name)
        .ok_or_else(|| Error::graph(format!("its \"descriptor_source\" doesn't tell of the message type {name:?}")))
}

fn fields(a: &NodeAttrs<'_>, message: &MessageDescriptor, dtypes: &[DType]) -> Result<Vec<Field>> {
    let names = a.get("field_names").and_then(Attr::as_list).unwrap_or_default();
    if names.len() != dtypes.len() {
        return Err(Error::graph(format!("{} fields for {} tensors", names.len(), dtypes.len())));
    }
    let one = |(name, dtype): (&Attr, &DType)| {
        let name = name.as_str().ok_or_else(|| Error::graph("attribute \"field_names\" must list names"))?;
        let field = Field::find(message, name, *dtype)?;
        field.holds(*dtype)?;
        Ok(field)
    };
    names.iter().zip(dtypes).map(one).collect()
}

/// A field's values in many messages, each row filled up to `width` with what stands for none.
fn column(rows: &[Vec<Item>], field: &Field, dtype: DType, shape: &[usize], width: usize) -> Result<Tensor> {
    let elements = checked_elements(&[rows.len(), width])?;
    memory::check(elements.saturating_mul(dtype.size().unwrap_or(size_of::<ByteString>())))?;
    let filled = || {
        rows.iter().flat_map(|row| row.iter().chain(std::iter::repeat_n(&field.default, width.saturating_sub(row.len()))))
    };
    fn numbers<'a, T: Element>(
        items: impl Iterator<Item = &'a Item>,
        shape: &[usize],
        f: impl Fn(u64) -> T,
    ) -> Result<Tensor> {
        Ok(Tensor::from_vec(items.map(|item| f(item.bits())).collect(), shape)?)
    }
    let t = match dtype {
        DType::F64 => numbers(filled(), shape, f64::from_bits)?,
        DType::F32 => numbers(filled(), shape, |b| f64::from_bits(b) as f32)?,
        DType::I32 => numbers(filled(), shape, |b| b as i32)?,
        DType::U32 => numbers(filled(), shape, |b| b as u32)?,
        DType::U64 => numbers(filled(), shape, |b| b)?,
        DType::String => {
            let texts = filled().map(|item| match item {
                Item::Bytes(bytes) => bytes.clone(),
                Item::Bits(_) => ByteString::default(),
            });
            Tensor::from_strings(texts, shape)?
        }
        other => cast(&numbers(filled(), shape, |b| b as i64)?, other)?,
    };
    Ok(t)
}

fn decode(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let message = message_type(a)?;
    let dtypes = types(a, "output_types")?;
    let fields = fields(a, &message, &dtypes)?;
    let (sanitize, text) = (a.bool("sanitize")?, match a.str("message_format")? {
        "binary" => false,
        "text" => true,
        other => return Err(Error::graph(format!("there is no message format {other:?}, but binary and text"))),
    });
    Ok(kernel(move |context, inputs| {
        let [messages] = super::args::tensors(inputs)?;
        let broken = |i: usize| {
            Error::compute(format!("message {i} of {} isn't one of type {:?}", messages.len(), message.full_name()))
        };
        if messages.is_empty() {
            return Err(Error::compute(format!("takes at least one message, got shape {:?}", messages.shape())));
        }
        let mut rows: Vec<Vec<Vec<Item>>> = fields.iter().map(|_| Vec::with_capacity(messages.len())).collect();
        let mut sizes = Vec::with_capacity(messages.len().saturating_mul(fields.len()));
        for (i, bytes) in messages.strings()?.iter().enumerate() {
            context.check()?;
            let made = if text {
                let text = std::str::from_utf8(bytes).map_err(|_| broken(i))?;
                let parsed = DynamicMessage::parse_text_format(message.clone(), text);
                Some(parsed.map_err(|e| Error::compute(format!("{}: {e}", broken(i))))?.encode_to_vec())
            } else if sanitize {
                let decoded = DynamicMessage::decode(message.clone(), &bytes[..]);
                Some(decoded.map_err(|e| Error::compute(format!("{}: {e}", broken(i))))?.encode_to_vec())
            } else {
                None
            };
            let found = read(made.as_deref().unwrap_or(bytes), &fields).ok_or_else(|| broken(i))?;
            for (row, items) in rows.iter_mut().zip(found) {
                sizes.push(i32::try_from(items.len()).map_err(|_| broken(i))?);
                row.push(items);
            }
        }
        let with = |last: usize| [messages.shape(), &[last]].concat();
        let mut outputs = vec![Tensor::from_vec(sizes, with(fields.len()))?];
        for ((rows, field), dtype) in rows.iter().zip(&fields).zip(&dtypes) {
            let width = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
            outputs.push(column(rows, field, *dtype, &with(width), width)?);
        }
        many(outputs)
    }))
}

/// A tensor's elements as a field's values.
fn items(t: &Tensor) -> Result<Vec<Item>> {
    match t.dtype() {
        DType::String => Ok(t.strings()?.iter().cloned().map(Item::Bytes).collect()),
        DType::F32 | DType::F64 => {
            let wide = cast(t, DType::F64)?;
            Ok(wide.elements::<f64>()?.iter().map(|v| Item::Bits(v.to_bits())).collect())
        }
        DType::U64 => Ok(t.elements::<u64>()?.iter().map(|v| Item::Bits(*v)).collect()),
        _ => Ok(cast(t, DType::I64)?.elements::<i64>()?.iter().map(|v| Item::Bits(*v as u64)).collect()),
    }
}

fn encode(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let message = message_type(a)?;
    let dtypes = types(a, "Tinput_types")?;
    let fields = fields(a, &message, &dtypes)?;
    // Fields are written in the order of their numbers.
    let mut order: Vec<usize> = (0..fields.len()).collect();
    order.sort_by_key(|i| fields.get(*i).map(|f| f.number));
    Ok(kernel(move |context, inputs| encoded(&mut || context.check(), inputs, &fields, &order)))
}

fn encoded(check: &mut dyn FnMut() -> Result<()>, inputs: Values, fields: &[Field], order: &[usize]) -> Result<Values> {
    let inputs = all_tensors(inputs)?;
    let (sizes, values) = inputs.split_first().ok_or_else(|| Error::graph("takes sizes"))?;
    let Some((&count, batch)) = sizes.shape().split_last().filter(|_| values.len() == fields.len()) else {
        return Err(Error::compute(format!("sizes of shape {:?} for {} fields", sizes.shape(), fields.len())));
    };
    if count != fields.len() {
        return Err(Error::compute(format!("sizes of shape {:?} for {} fields", sizes.shape(), fields.len())));
    }
    let mut columns = Vec::with_capacity(values.len());
    for (t, field) in values.iter().zip(fields) {
        match t.shape().split_last() {
            Some((&width, rest)) if rest == batch && !rest.is_empty() => columns.push((items(t)?, width)),
            _ => {
                return Err(Error::compute(format!(
                    "the values of {:?} have shape {:?}, sizes {:?}: all but the last must be the same, and one at least",
                    field.name,
                    t.shape(),
                    sizes.shape()
                )));
            }
        }
    }
    let sizes = sizes.to_i64_vec()?;
    let messages = checked_elements(batch)?;
    let mut out: Vec<ByteString> = Vec::with_capacity(messages);
    for at in 0..messages {
        check()?;
        let mut m = Message::default();
        for &i in order {
            let (Some(field), Some((items, width)), Some(size)) = (fields.get(i), columns.get(i), sizes.get(at * count + i))
            else {
                continue;
            };
            let size = usize::try_from(*size).unwrap_or(0);
            let row = items.get(at * width..).and_then(|rest| rest.get(..size)).filter(|_| size <= *width);
            let row = row.ok_or_else(|| {
                Error::compute(format!("message {at} takes {size} of {width} values of {:?}", field.name))
            })?;
            field.write(&mut m, row);
        }
        out.push(m.finish().into());
    }
    one(Tensor::from_strings(out, batch)?)
}

pub(super) const OPS: &[Op] = &[
    Op::new("DecodeProtoV2(bytes: string) -> (sizes: int32, values: [output_types]); message_type: string; field_names: list(string); output_types: list(type); descriptor_source: string = \"local://\"; message_format: string = \"binary\"; sanitize: bool = false", decode),
    Op::new("EncodeProto(sizes: int32, values: [Tinput_types]) -> (bytes: string); field_names: list(string); message_type: string; descriptor_source: string = \"local://\"; Tinput_types: list(type)", encode),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of 32-bit integers, one of bytes and a group.
    fn wanted() -> Vec<Field> {
        let field = |number, kind, list, group| Field {
            name: format!("f{number}"),
            number,
            kind,
            list,
            packed: false,
            group,
            widened: false,
            default: Item::Bits(0),
        };
        vec![
            field(1, Kind::Int32, true, false),
            field(2, Kind::Bytes, false, false),
            field(3, Kind::Bytes, false, true),
        ]
    }

    #[test]
    fn damaged_messages_are_refused() {
        // Numbers one by one and packed, text twice, a group.
        let bytes = [8, 5, 10, 2, 6, 7, 18, 1, b'a', 18, 1, b'b', 27, 8, 1, 28];
        let found = read(&bytes, &wanted()).expect("a message");
        assert_eq!(found[0].iter().map(Item::bits).collect::<Vec<_>>(), [5, 6, 7]);
        assert!(matches!(&found[1][..], [Item::Bytes(b)] if b[..] == *b"b"));
        assert!(matches!(&found[2][..], [Item::Bytes(b)] if b[..] == bytes[12..]));
        let whole = [2, 6, 9, 12];
        for end in 1..bytes.len() {
            assert_eq!(read(&bytes[..end], &wanted()).is_some(), whole.contains(&end), "{end} bytes");
        }
    }
}
