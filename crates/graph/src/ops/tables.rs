//! Lookup tables: static ones that are initialised once, and mutable ones.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::args::{one, take};
use super::{NodeAttrs, Op};
use crate::engine::{Context, Kernel, Resource, Value, Values, kernel};
use crate::tensor::{Bool, ByteString, DType, Tensor, checked_elements};
use crate::{Error, Result};

/// A key or a value of a table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Item {
    Int(i64),
    /// A float by its bits as `float64`, which holds every `float32`.
    Float(u64),
    Text(ByteString),
}

impl Item {
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
        Ok(match dtype {
            DType::String => Tensor::from_strings(items.iter().map(text).collect::<Result<Vec<_>>>()?, shape)?,
            DType::F32 => {
                let values = items.iter().map(|i| float(i).map(|v| v as f32)).collect::<Result<Vec<_>>>()?;
                Tensor::from_vec(values, shape)?
            }
            DType::F64 => Tensor::from_vec(items.iter().map(float).collect::<Result<Vec<_>>>()?, shape)?,
            DType::I64 => Tensor::from_vec(items.iter().map(int).collect::<Result<Vec<_>>>()?, shape)?,
            DType::Bool => {
                let values = items.iter().map(|i| int(i).map(|v| Bool::from(v != 0)));
                Tensor::from_vec(values.collect::<Result<Vec<_>>>()?, shape)?
            }
            DType::I32 => {
                let values = items.iter().map(|i| i32::try_from(int(i)?).map_err(|_| wrong()));
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
}

fn table(handle: &Value) -> Result<Arc<Table>> {
    handle.resource()?.downcast("a table")
}

fn handle(a: &NodeAttrs<'_>, mutable: bool) -> Result<Box<dyn Kernel>> {
    let (key, value) = (a.dtype("key_dtype")?, a.dtype("value_dtype")?);
    let shared_name = a.get("shared_name").and_then(|n| n.as_str()).unwrap_or_default().to_owned();
    let anonymous = a.get("shared_name").is_none();
    Ok(kernel(move |context, _| {
        let name = if shared_name.is_empty() { context.node() } else { &shared_name };
        let make = || {
            let table = Table { name: name.to_owned(), key, value, mutable, entries: RwLock::default() };
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
        let defaults = Item::all(&default)?;
        if defaults.len() != 1 && defaults.len() != keys.len() {
            return Err(Error::compute("the default must be one value, or one for each key"));
        }
        let found: Vec<Item> = table.read(|entries| {
            let value = |(i, key): (usize, &Item)| match entries.index.get(key) {
                Some(&at) => entries.items[at].1.clone(),
                None => defaults[if defaults.len() == 1 { 0 } else { i }].clone(),
            };
            Ok(Item::all(&keys)?.iter().enumerate().map(value).collect())
        })?;
        one(Item::tensor(&found, table.value, keys.shape())?)
    }))
}

/// Adds keys and values; an import into a mutable table replaces what it had.
fn insert(replaces: bool) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [handle, keys, values] = take(inputs)?;
        let (table, keys, values) = (table(&handle)?, keys.into_tensor()?, values.into_tensor()?);
        table.check(&keys, Some(&values))?;
        let (keys, values) = (Item::all(&keys)?, Item::all(&values)?);
        if replaces && table.mutable {
            *table.entries.write().unwrap_or_else(PoisonError::into_inner) = Entries::default();
        }
        table.fill(keys, values)?;
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
        let mut entries = table.entries.write().unwrap_or_else(PoisonError::into_inner);
        Item::all(&keys)?.iter().for_each(|key| entries.remove(key));
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
        let table = table(&handle)?;
        let (keys, values): (Vec<Item>, Vec<Item>) = table.read(|e| Ok(e.items.iter().cloned().unzip()))?;
        let shape = [keys.len()];
        let keys = Item::tensor(&keys, table.key, &shape)?;
        super::args::many([keys, Item::tensor(&values, table.value, &shape)?])
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

    fn item(self, number: usize, line: &[u8], delimiter: u8, dtype: DType) -> Result<Item> {
        let text = match self {
            Part::Number => return Ok(Item::Int(number as i64)),
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

/// Fills a table from the lines of a file that goes with the model.
fn from_text(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (key, value) = (Part::of(a.int("key_index")?)?, Part::of(a.int("value_index")?)?);
    let most = a.int("vocab_size")?;
    let skip = usize::try_from(a.int("offset")?).unwrap_or_default();
    let delimiter = a.str("delimiter")?.bytes().next().unwrap_or(b'\t');
    Ok(kernel(move |context: &mut dyn Context, inputs| {
        let [handle, file] = take(inputs)?;
        let table = table(&handle)?;
        let file = file.into_tensor()?;
        let name = file.strings()?.first().cloned().unwrap_or_default();
        let name = String::from_utf8_lossy(&name);
        let content = context
            .resources()
            .asset(&name)
            .ok_or_else(|| Error::compute(format!("the model has no file {name:?} to initialise a table from")))?;
        let text = content.strip_suffix(b"\n").unwrap_or(content);
        let lines = text.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l));
        let lines = lines.skip(skip).take(usize::try_from(most).unwrap_or(usize::MAX));
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        if !content.is_empty() {
            for (number, line) in lines.enumerate() {
                keys.push(key.item(number, line, delimiter, table.key)?);
                values.push(value.item(number, line, delimiter, table.value)?);
            }
        }
        if usize::try_from(most).is_ok_and(|most| keys.len() < most) {
            return Err(Error::compute(format!("the file {name:?} has {} lines, not {most}", keys.len())));
        }
        checked_elements(&[keys.len()])?;
        table.fill(keys, values)?;
        Ok(Values::new())
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("HashTableV2() -> (table_handle: resource); container: string = \"\"; shared_name: string = \"\"; use_node_name_sharing: bool = false; key_dtype: type; value_dtype: type; stateful", fixed),
    Op::new("HashTable() -> (table_handle: &string); container: string = \"\"; shared_name: string = \"\"; use_node_name_sharing: bool = false; key_dtype: type; value_dtype: type; stateful", fixed),
    Op::new("AnonymousHashTable() -> (table_handle: resource); key_dtype: type; value_dtype: type; stateful", fixed),
    Op::new("MutableHashTableV2() -> (table_handle: resource); container: string = \"\"; shared_name: string = \"\"; use_node_name_sharing: bool = false; key_dtype: type; value_dtype: type; stateful", mutable),
    Op::new("MutableHashTable() -> (table_handle: &string); container: string = \"\"; shared_name: string = \"\"; use_node_name_sharing: bool = false; key_dtype: type; value_dtype: type; stateful", mutable),
    Op::new("AnonymousMutableHashTable() -> (table_handle: resource); key_dtype: type; value_dtype: type; stateful", mutable),
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
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Builder;
    use crate::engine::{Executable, Resources};
    use crate::tensor::SharedBytes;

    /// Looks `words` up in a table filled from `file`.
    fn look_up(file: &[u8], words: &[&str]) -> Result<Vec<i64>> {
        let mut b = Builder::new("f");
        let table = |b: &mut Builder| {
            let t = b.op("HashTableV2").attr("key_dtype", DType::String).attr("value_dtype", DType::I64);
            t.attr("shared_name", "words").one()
        };
        let handle = table(&mut b)?;
        let name = b.constant(Tensor::scalar_string(&b"words.txt"[..]))?;
        let init = b.op("InitializeTableFromTextFileV2").input(handle).input(name);
        init.attr("key_index", -2i64).attr("value_index", -1i64).run()?;
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
        assert_eq!(look_up(b"the\ncat\r\nsat\n", &["cat", "dog", "the"]).expect("found"), [1, -1, 0]);
        assert_eq!(look_up(b"", &["cat"]).expect("found"), [-1]);
        let error = look_up(b"cat\ncat\n", &["cat"]).expect_err("two values").to_string();
        assert!(error.contains("two values"), "{error}");
    }
}
