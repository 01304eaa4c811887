//! Lookup tables: static ones that are initialised once, and mutable ones, whose keys and values may be tensors.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::args::{all_tensors, many, one, take};
use super::{NodeAttrs, Op};
use crate::engine::{Context, Kernel, Resource, Value, Values, kernel};
use crate::tensor::{Bool, ByteString, DType, Shape, Tensor, checked_elements};
use crate::{Error, Result};

/// A key or a value of a table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Item {
    Int(i64),
    /// A float by its bits as `float64`, which holds every `float32`.
    Float(u64),
    Text(ByteString),
    /// The elements of a tensor, where the table's keys or values aren't scalars.
    Row(Vec<Item>),
}

impl Item {
    /// What it consists of: a scalar of itself.
    fn parts(&self) -> &[Item] {
        match self {
            Item::Row(parts) => parts,
            scalar => std::slice::from_ref(scalar),
        }
    }

    /// The parts of shape `row` of a tensor, whose last dimensions these are, and the shape of the others.
    fn rows(t: &Tensor, row: &[usize]) -> Result<(Vec<Item>, Shape)> {
        let items = Item::all(t)?;
        let outer = t.shape().strip_suffix(row).ok_or_else(|| {
            Error::compute(format!("a tensor of shape {:?} has no parts of shape {row:?}", t.shape()))
        })?;
        if row.is_empty() {
            return Ok((items, outer.into()));
        }
        let len: usize = row.iter().product();
        if len == 0 {
            return Err(Error::unsupported("a table of tensors without elements"));
        }
        Ok((items.chunks(len).map(|part| Item::Row(part.to_vec())).collect(), outer.into()))
    }

    /// The elements of a tensor.
    fn all(t: &Tensor) -> Result<Vec<Item>> {
        Ok(match t.dtype() {
            DType::String => t.strings()?.iter().cloned().map(Item::Text).collect(),
            DType::F32 => t.elements::<f32>()?.iter().map(|v| Item::Float(f64::from(*v).to_bits())).collect(),
            DType::F64 => t.elements::<f64>()?.iter().map(|v| Item::Float(v.to_bits())).collect(),
            DType::Bool => t.elements::<Bool>()?.iter().map(|v| Item::Int(v.get().into())).collect(),
            _ => t.to_i64_vec()?.into_iter().map(Item::Int).collect(),
        })
    }

    /// A tensor of these elements.
    fn tensor(items: &[Item], dtype: DType, shape: &[usize]) -> Result<Tensor> {
        let wrong = || Error::compute(format!("a table's element isn't {dtype}"));
        let int = |i: &Item| if let Item::Int(v) = i { Ok(*v) } else { Err(wrong()) };
        let float = |i: &Item| if let Item::Float(v) = i { Ok(f64::from_bits(*v)) } else { Err(wrong()) };
        let text = |i: &Item| if let Item::Text(v) = i { Ok(v.clone()) } else { Err(wrong()) };
        let items = || items.iter().flat_map(Item::parts);
        Ok(match dtype {
            DType::String => Tensor::from_strings(items().map(text).collect::<Result<Vec<_>>>()?, shape)?,
            DType::F32 => {
                let values = items().map(|i| float(i).map(|v| v as f32)).collect::<Result<Vec<_>>>()?;
                Tensor::from_vec(values, shape)?
            }
            DType::F64 => Tensor::from_vec(items().map(float).collect::<Result<Vec<_>>>()?, shape)?,
            DType::I64 => Tensor::from_vec(items().map(int).collect::<Result<Vec<_>>>()?, shape)?,
            DType::Bool => {
                let values = items().map(|i| int(i).map(|v| Bool::from(v != 0)));
                Tensor::from_vec(values.collect::<Result<Vec<_>>>()?, shape)?
            }
            DType::I32 => {
                let values = items().map(|i| i32::try_from(int(i)?).map_err(|_| wrong()));
                Tensor::from_vec(values.collect::<Result<Vec<_>>>()?, shape)?
            }
            other => return Err(Error::unsupported(format!("a table of {other}"))),
        })
    }
}

#[derive(Debug, Default)]
struct Entries {
    ready: bool,
    /// In the order they came, so that an export is the same each time.
    items: Vec<(Item, Item)>,
    index: HashMap<Item, usize>,
}

impl Entries {
    fn put(&mut self, key: Item, value: Item) {
        match self.index.get(&key) {
            Some(&at) => self.items[at].1 = value,
            None => {
                self.index.insert(key.clone(), self.items.len());
                self.items.push((key, value));
            }
        }
    }

    fn remove(&mut self, key: &Item) {
        let Some(at) = self.index.remove(key) else { return };
        self.items.swap_remove(at);
        if let Some((moved, _)) = self.items.get(at) {
            self.index.insert(moved.clone(), at);
        }
    }
}

/// A table among the resources.
#[derive(Debug)]
struct Table {
    name: String,
    key: DType,
    value: DType,
    key_shape: Shape,
    value_shape: Shape,
    /// Keys that mean no key.
    reserved: Vec<Item>,
    mutable: bool,
    entries: RwLock<Entries>,
}

impl Table {
    /// Fills a static table once; a mutable one takes what comes.
    fn fill(&self, keys: Vec<Item>, values: Vec<Item>) -> Result<()> {
        if keys.len() != values.len() {
            return Err(Error::compute(format!("{} keys don't go with {} values", keys.len(), values.len())));
        }
        let mut entries = self.entries.write().unwrap_or_else(PoisonError::into_inner);
        if entries.ready && !self.mutable {
            return Ok(());
        }
        for (key, value) in keys.into_iter().zip(values) {
            let old = entries.index.get(&key).map(|&at| &entries.items[at].1);
            if !self.mutable && old.is_some_and(|old| *old != value) {
                return Err(Error::compute(format!("table {:?} has two values for one key", self.name)));
            }
            entries.put(key, value);
        }
        entries.ready = true;
        Ok(())
    }

    fn read<T>(&self, f: impl FnOnce(&Entries) -> Result<T>) -> Result<T> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        if !entries.ready && !self.mutable {
            return Err(Error::compute(format!("table {:?} isn't initialised", self.name)));
        }
        f(&entries)
    }

    fn check(&self, keys: &Tensor, values: Option<&Tensor>) -> Result<()> {
        if keys.dtype() != self.key || values.is_some_and(|v| v.dtype() != self.value) {
            return Err(Error::compute(format!("table {:?} maps {} to {}", self.name, self.key, self.value)));
        }
        Ok(())
    }

    /// The keys that a tensor holds, and its dimensions before those of a key.
    fn keys(&self, keys: &Tensor) -> Result<(Vec<Item>, Shape)> {
        let (keys, outer) = Item::rows(keys, &self.key_shape)?;
        if keys.iter().any(|key| self.reserved.contains(key)) {
            return Err(Error::compute(format!("table {:?} can't have its empty or deleted key", self.name)));
        }
        Ok((keys, outer))
    }
}

/// The keys and the values of a lookup table, in the order in which they came (TensorFlow: `LookupTableExportV2`).
///
/// # Errors
/// When the value is no table, or one that nothing has filled yet.
pub fn table_entries(handle: &Value) -> Result<(Tensor, Tensor)> {
    let table = table(handle)?;
    let (keys, values): (Vec<Item>, Vec<Item>) = table.read(|e| Ok(e.items.iter().cloned().unzip()))?;
    let shape = |row: &Shape| -> Shape { std::iter::once(keys.len()).chain(row.iter().copied()).collect() };
    let values = Item::tensor(&values, table.value, &shape(&table.value_shape))?;
    Ok((Item::tensor(&keys, table.key, &shape(&table.key_shape))?, values))
}

fn table(handle: &Value) -> Result<Arc<Table>> {
    handle.resource()?.downcast("a table")
}

fn handle(a: &NodeAttrs<'_>, mutable: bool) -> Result<Box<dyn Kernel>> {
    let (key, value) = (a.dtype("key_dtype")?, a.dtype("value_dtype")?);
    let shared_name = a.get("shared_name").and_then(|n| n.as_str()).unwrap_or_default().to_owned();
    let anonymous = a.get("shared_name").is_none();
    let value_shape = match a.get("value_shape").and_then(|s| s.as_shape()) {
        None => Shape::default(),
        Some(shape) => {
            shape.known().ok_or_else(|| Error::graph(format!("a table's values have the shape {shape}")))?
        }
    };
    Ok(kernel(move |context, inputs| {
        let name = if shared_name.is_empty() { context.node() } else { &shared_name };
        // A dense table is told which keys mean that there is none; their shape is a key's.
        let reserved = all_tensors(inputs)?;
        let make = || {
            let key_shape: Shape = reserved.first().map(|t| t.shape().into()).unwrap_or_default();
            let mut keys = Vec::new();
            for t in &reserved {
                let (found, outer) = Item::rows(t, &key_shape)?;
                if t.dtype() != key || !outer.is_empty() || found.iter().any(|k| keys.contains(k)) {
                    return Err(Error::compute("the empty and the deleted key must be two keys of one shape"));
                }
                keys.extend(found);
            }
            let table = Table {
                name: name.to_owned(),
                key,
                value,
                key_shape,
                value_shape: value_shape.clone(),
                reserved: keys,
                mutable,
                entries: RwLock::default(),
            };
            Ok(Resource::Other(Arc::new(table)))
        };
        one(if anonymous { make()? } else { context.resources().get_or_insert("table", name, make)? })
    }))
}

fn fixed(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    handle(a, false)
}

fn mutable(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    handle(a, true)
}

fn find(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle, keys, default] = take(inputs)?;
        let (table, keys, default) = (table(&handle)?, keys.into_tensor()?, default.into_tensor()?);
        table.check(&keys, Some(&default))?;
        let (keys, mut shape) = table.keys(&keys)?;
        let (defaults, _) = Item::rows(&default, &table.value_shape)?;
        if defaults.len() != 1 && defaults.len() != keys.len() {
            return Err(Error::compute("the default must be one value, or one for each key"));
        }
        let found: Vec<Item> = table.read(|entries| {
            let value = |(i, key): (usize, &Item)| match entries.index.get(key) {
                Some(&at) => entries.items[at].1.clone(),
                None => defaults[if defaults.len() == 1 { 0 } else { i }].clone(),
            };
            Ok(keys.iter().enumerate().map(value).collect())
        })?;
        shape.extend(table.value_shape.iter().copied());
        one(Item::tensor(&found, table.value, &shape)?)
    }))
}

/// Adds keys and values; an import into a mutable table replaces what it had, and leaves keys out that mean none.
fn insert(replaces: bool) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [handle, keys, values] = take(inputs)?;
        let (table, keys, values) = (table(&handle)?, keys.into_tensor()?, values.into_tensor()?);
        table.check(&keys, Some(&values))?;
        let (values, _) = Item::rows(&values, &table.value_shape)?;
        if !(replaces && table.mutable) {
            table.fill(table.keys(&keys)?.0, values)?;
            return Ok(Values::new());
        }
        let (keys, _) = Item::rows(&keys, &table.key_shape)?;
        *table.entries.write().unwrap_or_else(PoisonError::into_inner) = Entries::default();
        table.fill(keys, values)?;
        let mut entries = table.entries.write().unwrap_or_else(PoisonError::into_inner);
        table.reserved.iter().for_each(|key| entries.remove(key));
        Ok(Values::new())
    }))
}

fn import(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    insert(true)
}

fn remove(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle, keys] = take(inputs)?;
        let (table, keys) = (table(&handle)?, keys.into_tensor()?);
        table.check(&keys, None)?;
        let (keys, _) = table.keys(&keys)?;
        let mut entries = table.entries.write().unwrap_or_else(PoisonError::into_inner);
        keys.iter().for_each(|key| entries.remove(key));
        Ok(Values::new())
    }))
}

fn size(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle] = take(inputs)?;
        one(Tensor::scalar(table(&handle)?.read(|e| Ok(e.items.len() as i64))?))
    }))
}

fn export(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [handle] = take(inputs)?;
        let (keys, values) = table_entries(&handle)?;
        many([keys, values])
    }))
}

/// Which part of a line of text a key or value is.
#[derive(Clone, Copy)]
enum Part {
    Line,
    Number,
    Column(usize),
}

impl Part {
    fn of(index: i64) -> Result<Part> {
        match index {
            -2 => Ok(Part::Line),
            -1 => Ok(Part::Number),
            i => usize::try_from(i).map(Part::Column).map_err(|_| Error::graph(format!("there is no column {i}"))),
        }
    }

    /// Numbers of lines begin with `offset`.
    fn item(self, number: usize, offset: i64, line: &[u8], delimiter: u8, dtype: DType) -> Result<Item> {
        let text = match self {
            Part::Number => return Ok(Item::Int(offset.saturating_add(number as i64))),
            Part::Line => line,
            Part::Column(c) => line
                .split(|b| *b == delimiter)
                .nth(c)
                .ok_or_else(|| Error::compute(format!("line {} of the file has no column {c}", number + 1)))?,
        };
        if dtype == DType::String {
            return Ok(Item::Text(text.into()));
        }
        let wrong = || Error::compute(format!("line {} of the file isn't {dtype}", number + 1));
        let text = std::str::from_utf8(text).map_err(|_| wrong())?.trim();
        if dtype.is_float() {
            return text.parse::<f64>().map(|v| Item::Float(v.to_bits())).map_err(|_| wrong());
        }
        text.parse().map(Item::Int).map_err(|_| wrong())
    }
}

/// The name and the lines of a file that goes with the model.
fn asset_lines<'a>(context: &'a dyn Context, file: &Tensor) -> Result<(String, impl Iterator<Item = &'a [u8]> + use<'a>)> {
    let name = file.strings()?.first().cloned().unwrap_or_default();
    let name = String::from_utf8_lossy(&name).into_owned();
    let content = context
        .resources()
        .asset(&name)
        .ok_or_else(|| Error::compute(format!("the model has no file {name:?} to read words from")))?;
    let text = content.strip_suffix(b"\n").unwrap_or(content);
    let lines = text.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
    // An empty file has no line, rather than one that is empty.
    let all = if content.is_empty() { 0 } else { usize::MAX };
    Ok((name, lines.take(all)))
}


/// Fills a table from the lines of a file that goes with the model.
fn from_text(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (key, value) = (Part::of(a.int("key_index")?)?, Part::of(a.int("value_index")?)?);
    let most = a.int("vocab_size")?;
    let offset = a.int("offset")?;
    let delimiter = a.str("delimiter")?.bytes().next().unwrap_or(b'\t');
    Ok(kernel(move |context: &mut dyn Context, inputs| {
        let [handle, file] = take(inputs)?;
        let table = table(&handle)?;
        let file = file.into_tensor()?;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let (name, lines) = asset_lines(context, &file)?;
        let lines = lines.take(usize::try_from(most).unwrap_or(usize::MAX));
        for (number, line) in lines.enumerate() {
            keys.push(key.item(number, offset, line, delimiter, table.key)?);
            values.push(value.item(number, offset, line, delimiter, table.value)?);
        }
        if usize::try_from(most).is_ok_and(|most| keys.len() < most) {
            return Err(Error::compute(format!("the file {name:?} has {} lines, not {most}", keys.len())));
        }
        checked_elements(&[keys.len()])?;
        table.fill(keys, values)?;
        Ok(Values::new())
    }))
}

/// Where the words of one vocabulary stood in an older one, and how many of them did.
fn remapping(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let number = |name: &str| -> Result<usize> {
        let n = a.int(name)?;
        usize::try_from(n).map_err(|_| Error::graph(format!("{name} must not be negative, got {n}")))
    };
    let (skip, count, old) = (number("new_vocab_offset")?, number("num_new_vocab")?, a.int("old_vocab_size")?);
    Ok(kernel(move |context: &mut dyn Context, inputs| {
        let [new, before] = super::args::tensors(inputs)?;
        let (_, lines) = asset_lines(context, &before)?;
        let places: HashMap<&[u8], i64> =
            lines.take(usize::try_from(old).unwrap_or(usize::MAX)).zip(0..).collect();
        let (name, lines) = asset_lines(context, &new)?;
        let found: Vec<i64> =
            lines.skip(skip).take(count).map(|word| places.get(word).copied().unwrap_or(-1)).collect();
        if found.len() < count {
            return Err(Error::compute(format!(
                "the file {name:?} has {} lines from line {skip} on, not {count}",
                found.len()
            )));
        }
        let present = found.iter().filter(|p| **p >= 0).count();
        many([Tensor::from_vec(found, [count])?, Tensor::scalar(i32::try_from(present).unwrap_or(i32::MAX))])
    }))
}


pub(super) const OPS: &[Op] = &[
    Op::new("HashTableV2() -> (table_handle: resource); container: string = \"\"; shared_name: string = \"\"; use_node_name_sharing: bool = false; key_dtype: type; value_dtype: type; stateful", fixed),
    Op::new("HashTable() -> (table_handle: &string); container: string = \"\"; shared_name: string = \"\"; use_node_name_sharing: bool = false; key_dtype: type; value_dtype: type; stateful", fixed),
    Op::new("AnonymousHashTable() -> (table_handle: resource); key_dtype: type; value_dtype: type; stateful", fixed),
    Op::new("MutableHashTableV2() -> (table_handle: resource); container: string = \"\"; shared_name: string = \"\"; use_node_name_sharing: bool = false; key_dtype: type; value_dtype: type; stateful", mutable),
    Op::new("MutableHashTable() -> (table_handle: &string); container: string = \"\"; shared_name: string = \"\"; use_node_name_sharing: bool = false; key_dtype: type; value_dtype: type; stateful", mutable),
    Op::new("AnonymousMutableHashTable() -> (table_handle: resource); key_dtype: type; value_dtype: type; stateful", mutable),
    Op::new("MutableHashTableOfTensorsV2() -> (table_handle: resource); container: string = \"\"; shared_name: string = \"\"; use_node_name_sharing: bool = false; key_dtype: type; value_dtype: type; value_shape: shape = (); stateful", mutable),
    Op::new("MutableHashTableOfTensors() -> (table_handle: &string); container: string = \"\"; shared_name: string = \"\"; use_node_name_sharing: bool = false; key_dtype: type; value_dtype: type; value_shape: shape = (); stateful", mutable),
    Op::new("AnonymousMutableHashTableOfTensors() -> (table_handle: resource); key_dtype: type; value_dtype: type; value_shape: shape = (); stateful", mutable),
    Op::new("MutableDenseHashTableV2(empty_key: key_dtype, deleted_key: key_dtype) -> (table_handle: resource); container: string = \"\"; shared_name: string = \"\"; use_node_name_sharing: bool = false; key_dtype: type; value_dtype: type; value_shape: shape = (); initial_num_buckets: int = 131072; max_load_factor: float = 0.8; stateful", mutable),
    Op::new("MutableDenseHashTable(empty_key: key_dtype) -> (table_handle: &string); container: string = \"\"; shared_name: string = \"\"; use_node_name_sharing: bool = false; key_dtype: type; value_dtype: type; value_shape: shape = (); initial_num_buckets: int = 131072; max_load_factor: float = 0.8; stateful", mutable),
    Op::new("AnonymousMutableDenseHashTable(empty_key: key_dtype, deleted_key: key_dtype) -> (table_handle: resource); key_dtype: type; value_dtype: type; value_shape: shape = (); initial_num_buckets: int = 131072; max_load_factor: float = 0.8; stateful", mutable),
    Op::new("LookupTableFindV2(table_handle: resource, keys: Tin, default_value: Tout) -> (values: Tout); Tin: type; Tout: type; stateful", find),
    Op::new("LookupTableFind(table_handle: &string, keys: Tin, default_value: Tout) -> (values: Tout); Tin: type; Tout: type", find),
    Op::new("LookupTableImportV2(table_handle: resource, keys: Tin, values: Tout) -> (); Tin: type; Tout: type; stateful", import),
    Op::new("LookupTableImport(table_handle: &string, keys: Tin, values: Tout) -> (); Tin: type; Tout: type", import),
    Op::new("LookupTableInsertV2(table_handle: resource, keys: Tin, values: Tout) -> (); Tin: type; Tout: type; stateful", |_| insert(false)),
    Op::new("LookupTableInsert(table_handle: &string, keys: Tin, values: Tout) -> (); Tin: type; Tout: type", |_| insert(false)),
    Op::new("LookupTableRemoveV2(table_handle: resource, keys: Tin) -> (); Tin: type; stateful", remove),
    Op::new("LookupTableSizeV2(table_handle: resource) -> (size: int64); stateful", size),
    Op::new("LookupTableSize(table_handle: &string) -> (size: int64)", size),
    Op::new("LookupTableExportV2(table_handle: resource) -> (keys: Tkeys, values: Tvalues); Tkeys: type; Tvalues: type; stateful", export),
    Op::new("LookupTableExport(table_handle: &string) -> (keys: Tkeys, values: Tvalues); Tkeys: type; Tvalues: type", export),
    Op::new("InitializeTableV2(table_handle: resource, keys: Tkey, values: Tval) -> (); Tkey: type; Tval: type; stateful", import),
    Op::new("InitializeTable(table_handle: &string, keys: Tkey, values: Tval) -> (); Tkey: type; Tval: type", import),
    Op::new("InitializeTableFromTextFileV2(table_handle: resource, filename: string) -> (); key_index: int; value_index: int; vocab_size: int = -1; delimiter: string = \"\\t\"; offset: int = 0; stateful", from_text),
    Op::new("InitializeTableFromTextFile(table_handle: &string, filename: string) -> (); key_index: int; value_index: int; vocab_size: int = -1; delimiter: string = \"\\t\"; offset: int = 0", from_text),
    Op::new("GenerateVocabRemapping(new_vocab_file: string, old_vocab_file: string) -> (remapping: int64, num_present: int32); new_vocab_offset: int; num_new_vocab: int; old_vocab_size: int = -1", remapping),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Builder;
    use crate::engine::{Executable, Resources};
    use crate::tensor::SharedBytes;

    /// Looks `words` up in a table filled from `file`.
    fn look_up(file: &[u8], offset: i64, words: &[&str]) -> Result<Vec<i64>> {
        let mut b = Builder::new("f");
        let table = |b: &mut Builder| {
            let t = b.op("HashTableV2").attr("key_dtype", DType::String).attr("value_dtype", DType::I64);
            t.attr("shared_name", "words").one()
        };
        let handle = table(&mut b)?;
        let name = b.constant(Tensor::scalar_string(&b"words.txt"[..]))?;
        let init = b.op("InitializeTableFromTextFileV2").input(handle).input(name);
        init.attr("key_index", -2i64).attr("value_index", -1i64).attr("offset", offset).run()?;
        let words: Vec<&[u8]> = words.iter().map(|w| w.as_bytes()).collect();
        let keys = b.constant(Tensor::from_strings(words.iter().copied(), [words.len()])?)?;
        let default = b.constant(Tensor::scalar(-1i64))?;
        let found = b.op("LookupTableFindV2").inputs(&[handle, keys, default]).one()?;
        let (f, library) = b.finish(&[("found", found)])?;
        let mut resources = Resources::new();
        resources.add_asset("words.txt", SharedBytes::copy_from(file));
        let run = Executable::new(&f.graph, &library, &[], &[f.results[0].output], &[])?;
        run.run(&resources, Values::new())?[0].tensor()?.to_i64_vec().map_err(Into::into)
    }

    #[test]
    fn words_have_their_lines_numbers() {
        assert_eq!(look_up(b"the\ncat\r\nsat\n", 0, &["cat", "dog", "the"]).expect("found"), [1, -1, 0]);
        // What is reserved before the words.
        assert_eq!(look_up(b"the\ncat", 2, &["cat", "dog", "the"]).expect("found"), [3, -1, 2]);
        assert_eq!(look_up(b"", 0, &["cat"]).expect("found"), [-1]);
        let error = look_up(b"cat\ncat\n", 0, &["cat"]).expect_err("two values").to_string();
        assert!(error.contains("two values"), "{error}");
    }

    #[test]
    fn a_dense_table_maps_vectors() {
        let ints = |v: &[i64], shape: &[usize]| Tensor::from_slice(v, shape).expect("tensor");
        let run = |keys: Tensor| -> Result<(Vec<i64>, Vec<usize>)> {
            let mut b = Builder::new("f");
            let empty = b.constant(ints(&[-1, -1], &[2]))?;
            let deleted = b.constant(ints(&[-2, -2], &[2]))?;
            let table = b.op("AnonymousMutableDenseHashTable").inputs(&[empty, deleted]);
            let table = table.attr("key_dtype", DType::I64).attr("value_dtype", DType::I64);
            let handle = table.attr("value_shape", crate::tensor::PartialShape::from(&[3][..])).one()?;
            let known = b.constant(ints(&[1, 2, 3, 4], &[2, 2]))?;
            let values = b.constant(ints(&[1, 2, 3, 4, 5, 6], &[2, 3]))?;
            b.op("LookupTableInsertV2").inputs(&[handle, known, values]).run()?;
            let (keys, default) = (b.constant(keys)?, b.constant(ints(&[0, 0, 0], &[3]))?);
            let found = b.op("LookupTableFindV2").inputs(&[handle, keys, default]).one()?;
            let (f, library) = b.finish(&[("found", found)])?;
            let run = Executable::new(&f.graph, &library, &[], &[f.results[0].output], &[])?;
            let found = run.run(&Resources::new(), Values::new())?;
            let found = found[0].tensor()?;
            Ok((found.to_i64_vec()?, found.shape().to_vec()))
        };
        let found = run(ints(&[3, 4, 4, 3], &[2, 2])).expect("found");
        assert_eq!(found, (vec![4, 5, 6, 0, 0, 0], vec![2, 3]));
        assert_eq!(run(ints(&[1, 2], &[2])).expect("found"), (vec![1, 2, 3], vec![3]));
        assert!(run(ints(&[-1, -1], &[2])).expect_err("means no key").to_string().contains("empty"));
        assert!(run(ints(&[1, 2, 3], &[3])).is_err());
    }
}
