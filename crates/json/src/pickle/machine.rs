//! The pickle machine, with an allow-list in the place of `import`.

use std::collections::HashMap;

use modelark_artifact::tensor::{DType, SharedBytes};
use modelark_artifact::{Error, Limits, Result};

use super::{Value, opcode};
use crate::array::{Bytes, Items, StoredArray};

/// The index of a node in the machine's arena.
type Id = usize;

/// The newest protocol there is.
const NEWEST: u8 = 5;

/// The globals that a pickle may refer to. None of them is called: each stands for a few lines below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Global {
    /// `_reconstruct`, which makes an array that is filled by BUILD.
    Reconstruct,
    /// `_frombuffer`, which protocol 5 uses for contiguous arrays.
    FromBuffer,
    /// `numpy.ndarray`, an argument of `_reconstruct`.
    NdArray,
    /// `numpy.dtype`.
    DType,
    /// `scalar`, for items such as `np.float32(1)`.
    Scalar,
    /// `_codecs.encode`, by which protocols up to 2 spell bytes.
    Encode,
    /// `bytes`, by which protocols up to 2 spell the empty one.
    Bytes,
    /// A type of the package `ml_dtypes`.
    MlDType(DType),
}

impl Global {
    fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct") => Global::Reconstruct,
            ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Global::Scalar,
            ("numpy.core.numeric" | "numpy._core.numeric", "_frombuffer") => Global::FromBuffer,
            ("numpy", "ndarray") => Global::NdArray,
            ("numpy", "dtype") => Global::DType,
            ("_codecs", "encode") => Global::Encode,
            ("__builtin__" | "builtins", "bytes") => Global::Bytes,
            ("ml_dtypes", name) => Global::MlDType(name.parse().ok().filter(|d: &DType| d.size().is_some())?),
            _ => return None,
        })
    }
}

/// The error for a global that isn't on the list, in a pickle that may be of a Keras model.
fn refused(module: &str, name: &str, keras: bool) -> Error {
    let error = Error::unsupported(format!(
        "the pickle refers to {module}.{name}; nothing in a pickle is executed, and only arrays, numbers, strings, lists, tuples and dicts are read"
    ));
    if keras {
        error.help(
            "a pickled Keras model opens only in the Python that wrote it: there, save it with \
             model.save('model.keras'), or pickle model.get_weights()",
        )
    } else {
        error.help("save the arrays alone, with numpy.savez or as a pickle of a list of arrays")
    }
}

#[derive(Debug, Clone)]
enum Node {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// UTF-8, checked when it is used: in old protocols an array's bytes are spelt as text.
    Text(SharedBytes),
    Bytes(SharedBytes),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    DType(Items),
    /// What `_reconstruct` made and no BUILD has filled yet.
    EmptyArray,
    Array(StoredArray),
    Objects(Vec<usize>, Vec<Id>),
}

/// Reads a pickle of protocol 0 to 5 without executing anything.
///
/// # Errors
/// When an opcode or a global isn't on the allow-list (the message names it and its offset), when the bytes are
/// damaged, or when they ask for more than the limits allow.
pub fn read(bytes: &SharedBytes, limits: &Limits) -> Result<Value> {
    let mut machine = Machine {
        bytes,
        at: 0,
        limits,
        nodes: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
    };
    loop {
        let at = machine.at;
        match machine.step() {
            Ok(false) => {}
            Ok(true) => break,
            Err(e) => return Err(e.at(format!("byte {at}"))),
        }
    }
    let root = machine.pop()?;
    // Written out as a tree, a pickle has at least a byte for every value; more means that it refers to values again
    // and again to blow up.
    let mut budget = bytes.len();
    machine.value(root, limits.depth, &mut budget)
}

struct Machine<'a> {
    bytes: &'a SharedBytes,
    at: usize,
    limits: &'a Limits,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

fn cut() -> Error {
    Error::corrupt("the pickle breaks off")
}

fn wrong(what: &str) -> Error {
    Error::corrupt(format!("the pickle is damaged: {what}"))
}

impl Machine<'_> {
    /// Runs one opcode; true at the end.
    fn step(&mut self) -> Result<bool> {
        let [code] = self.array()?;
        match code {
            0x80 => {
                let [version] = self.array()?;
                if version > NEWEST {
                    return Err(Error::unsupported(format!("pickle protocol {version} isn't known")));
                }
            }
            // Frames only group the opcodes; a wrong length shows when these break off.
            0x95 => drop(self.array::<8>()?),
            b'.' => return Ok(true),
            b'(' => self.marks.push(self.stack.len()),
            b'N' => self.push(Node::None)?,
            0x88 => self.push(Node::Bool(true))?,
            0x89 => self.push(Node::Bool(false))?,
            b'K' => {
                let [n] = self.array()?;
                self.push(Node::Int(n.into()))?;
            }
            b'M' => {
                let n = u16::from_le_bytes(self.array()?);
                self.push(Node::Int(n.into()))?;
            }
            b'J' => {
                let n = i32::from_le_bytes(self.array()?);
                self.push(Node::Int(n.into()))?;
            }
            0x8a => self.long()?,
            b'I' => self.decimal_int()?,
            b'L' => {
                let n = parse(self.line()?.trim_end_matches('L'), "integer")?;
                self.push(Node::Int(n))?;
            }
            b'F' => {
                let n = parse(self.line()?, "float")?;
                self.push(Node::Float(n))?;
            }
            b'G' => {
                let n = f64::from_be_bytes(self.array()?);
                self.push(Node::Float(n))?;
            }
            b'X' | b'T' | b'B' => {
                let len = u32::from_le_bytes(self.array()?);
                self.string(code, len.into())?;
            }
            0x8c | b'U' | b'C' => {
                let [len] = self.array()?;
                self.string(code, len.into())?;
            }
            0x8d | 0x8e | 0x96 => {
                let len = u64::from_le_bytes(self.array()?);
                self.string(code, len)?;
            }
            b'V' => {
                let text = raw_unicode(self.line_bytes()?)?;
                self.push(Node::Text(text.into_bytes().into()))?;
            }
            b'S' => {
                let bytes = quoted(self.line_bytes()?)?;
                self.push(Node::Bytes(bytes.into()))?;
            }
            b']' => self.push(Node::List(Vec::new()))?,
            b'}' => self.push(Node::Dict(Vec::new()))?,
            b')' => self.push(Node::Tuple(Vec::new()))?,
            b'l' => {
                let items = self.take_to_mark()?;
                self.push(Node::List(items))?;
            }
            b't' => {
                let items = self.take_to_mark()?;
                self.push(Node::Tuple(items))?;
            }
            b'd' => {
                let items = pairs(self.take_to_mark()?)?;
                self.push(Node::Dict(items))?;
            }
            0x85..=0x87 => {
                let len = usize::from(code - 0x84);
                let start =
                    self.stack.len().checked_sub(len).filter(|s| *s >= self.floor()).ok_or_else(cut)?;
                let items = self.stack.split_off(start);
                self.push(Node::Tuple(items))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.list()?.push(item);
            }
            b'e' => {
                let items = self.take_to_mark()?;
                self.list()?.extend(items);
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.dict()?.push((key, value));
            }
            b'u' => {
                let items = pairs(self.take_to_mark()?)?;
                self.dict()?.extend(items);
            }
            b'q' => {
                let [n] = self.array()?;
                self.put(n.into())?;
            }
            b'r' => {
                let n = u32::from_le_bytes(self.array()?);
                self.put(n)?;
            }
            b'p' => {
                let n = parse(self.line()?, "memo index")?;
                self.put(n)?;
            }
            0x94 => {
                let n = u32::try_from(self.memo.len()).map_err(|_| wrong("too many memos"))?;
                self.put(n)?;
            }
            b'h' => {
                let [n] = self.array()?;
                self.get(n.into())?;
            }
            b'j' => {
                let n = u32::from_le_bytes(self.array()?);
                self.get(n)?;
            }
            b'g' => {
                let n = parse(self.line()?, "memo index")?;
                self.get(n)?;
            }
            b'c' => {
                let module = self.line()?.to_owned();
                let name = self.line()?.to_owned();
                self.global(&module, &name)?;
            }
            0x93 => {
                let name = self.pop()?;
                let module = self.pop()?;
                let (module, name) = (self.text(module)?.to_owned(), self.text(name)?.to_owned());
                self.global(&module, &name)?;
            }
            b'R' => {
                let args = self.pop()?;
                let callee = self.pop()?;
                let made = self.reduce(callee, args)?;
                self.push(made)?;
            }
            b'b' => {
                let state = self.pop()?;
                self.build(state)?;
            }
            other => {
                return Err(Error::unsupported(format!(
                    "the pickle uses the opcode {other:#04x} ({}), which no list of arrays needs",
                    opcode::name(other)
                ))
                .help("save the arrays alone, with numpy.savez or as a pickle of a list of arrays"));
            }
        }
        Ok(false)
    }

    /// The next `len` bytes, shared with the file.
    fn take(&mut self, len: usize) -> Result<SharedBytes> {
        let end = self.at.checked_add(len).ok_or_else(cut)?;
        let taken = self.bytes.slice(self.at..end).ok_or_else(cut)?;
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.as_ref().try_into().map_err(|_| cut())
    }

    /// The bytes up to the next line feed, which is taken too.
    fn line_bytes(&mut self) -> Result<&[u8]> {
        let rest = self.bytes.get(self.at..).ok_or_else(cut)?;
        let len = rest.iter().position(|b| *b == b'\n').ok_or_else(cut)?;
        self.at += len + 1;
        rest.get(..len).ok_or_else(cut)
    }

    fn line(&mut self) -> Result<&str> {
        std::str::from_utf8(self.line_bytes()?).map_err(|_| wrong("a line isn't text"))
    }

    fn push(&mut self, node: Node) -> Result<()> {
        if self.nodes.len() >= self.limits.items {
            return Err(Error::limit("the pickle has too many values"));
        }
        self.nodes.push(node);
        self.stack.push(self.nodes.len() - 1);
        Ok(())
    }

    /// How much of the stack lies below the last mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id> {
        if self.stack.len() <= self.floor() {
            return Err(wrong("its stack is empty"));
        }
        self.stack.pop().ok_or_else(cut)
    }

    fn top(&self) -> Result<Id> {
        self.stack
            .last()
            .copied()
            .filter(|_| self.stack.len() > self.floor())
            .ok_or_else(|| wrong("its stack is empty"))
    }

    fn take_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark =
            self.marks.pop().filter(|m| *m <= self.stack.len()).ok_or_else(|| wrong("a mark is missing"))?;
        Ok(self.stack.split_off(mark))
    }

    fn list(&mut self) -> Result<&mut Vec<Id>> {
        let id = self.top()?;
        match self.nodes.get_mut(id) {
            Some(Node::List(items)) => Ok(items),
            _ => Err(wrong("something is appended to what isn't a list")),
        }
    }

    fn dict(&mut self) -> Result<&mut Vec<(Id, Id)>> {
        let id = self.top()?;
        match self.nodes.get_mut(id) {
            Some(Node::Dict(items)) => Ok(items),
            _ => Err(wrong("an item is set in what isn't a dict")),
        }
    }

    fn put(&mut self, index: u32) -> Result<()> {
        let id = self.top()?;
        self.memo.insert(index, id);
        Ok(())
    }

    fn get(&mut self, index: u32) -> Result<()> {
        let id = *self.memo.get(&index).ok_or_else(|| wrong("it refers to a value that it never kept"))?;
        if self.stack.len() >= self.limits.items {
            return Err(Error::limit("the pickle has too many values"));
        }
        self.stack.push(id);
        Ok(())
    }

    fn node(&self, id: Id) -> Result<&Node> {
        self.nodes.get(id).ok_or_else(|| wrong("a value is missing"))
    }

    fn string(&mut self, code: u8, len: u64) -> Result<()> {
        let bytes = self.take(usize::try_from(len).map_err(|_| cut())?)?;
        self.push(if matches!(code, b'X' | 0x8c | 0x8d) { Node::Text(bytes) } else { Node::Bytes(bytes) })
    }

    fn long(&mut self) -> Result<()> {
        let [len] = self.array()?;
        let bytes = self.take(len.into())?;
        if bytes.len() > 8 {
            return Err(Error::unsupported("the pickle has an integer of more than 64 bits"));
        }
        let fill = if bytes.last().is_some_and(|b| *b >= 128) { 0xff } else { 0 };
        let mut wide = [fill; 8];
        wide.iter_mut().zip(bytes.iter()).for_each(|(w, b)| *w = *b);
        self.push(Node::Int(i64::from_le_bytes(wide)))
    }

    fn decimal_int(&mut self) -> Result<()> {
        let node = match self.line()? {
            "00" => Node::Bool(false),
            "01" => Node::Bool(true),
            digits => Node::Int(parse(digits, "integer")?),
        };
        self.push(node)
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        const START: usize = 1 << 16;
        let global = Global::find(module, name).ok_or_else(|| {
            let start = self.bytes.get(..self.bytes.len().min(START)).unwrap_or_default();
            refused(module, name, start.windows(5).any(|w| w == b"keras"))
        })?;
        self.push(Node::Global(global))
    }

    fn text(&self, id: Id) -> Result<&str> {
        let bytes = match self.node(id)? {
            Node::Text(bytes) | Node::Bytes(bytes) => bytes,
            _ => return Err(wrong("a text is missing")),
        };
        std::str::from_utf8(bytes).map_err(|_| wrong("a text isn't UTF-8"))
    }

    fn bytes_of(&self, id: Id) -> Result<SharedBytes> {
        match self.node(id)? {
            Node::Bytes(bytes) => Ok(bytes.clone()),
            _ => Err(wrong("an array's bytes are missing")),
        }
    }

    fn items_of(&self, id: Id) -> Result<&Items> {
        match self.node(id)? {
            Node::DType(items) => Ok(items),
            _ => Err(wrong("an array's dtype is missing")),
        }
    }

    fn tuple(&self, id: Id) -> Result<&[Id]> {
        match self.node(id)? {
            Node::Tuple(items) => Ok(items),
            _ => Err(wrong("a tuple is missing")),
        }
    }

    fn shape(&self, id: Id) -> Result<Vec<usize>> {
        self.tuple(id)?
            .iter()
            .map(|id| match self.node(*id) {
                Ok(Node::Int(n)) => usize::try_from(*n).map_err(|_| wrong("an extent is negative")),
                _ => Err(wrong("an array's shape is missing")),
            })
            .collect()
    }

    /// What a call of one of the known globals makes.
    fn reduce(&self, callee: Id, args: Id) -> Result<Node> {
        let Node::Global(global) = self.node(callee)? else {
            return Err(wrong("it calls what isn't a function"));
        };
        let args = self.tuple(args)?;
        match (global, args) {
            (Global::Reconstruct, [class, ..])
                if matches!(self.node(*class)?, Node::Global(Global::NdArray)) =>
            {
                Ok(Node::EmptyArray)
            }
            (Global::DType, [kind, ..]) => match self.node(*kind)? {
                Node::Global(Global::MlDType(dtype)) => Ok(Node::DType(Items::plain(*dtype))),
                _ => Ok(Node::DType(Items::parse(self.text(*kind)?)?)),
            },
            (Global::Scalar, [dtype, bytes]) => {
                self.stored(self.items_of(*dtype)?, Vec::new(), false, self.bytes_of(*bytes)?)
            }
            (Global::FromBuffer, [bytes, dtype, shape, order]) => {
                let fortran = self.text(*order)? == "F";
                self.stored(self.items_of(*dtype)?, self.shape(*shape)?, fortran, self.bytes_of(*bytes)?)
            }
            (Global::Encode, [text, codec]) if matches!(self.text(*codec)?, "latin1" | "latin-1") => {
                let bytes: Result<Vec<u8>> = self
                    .text(*text)?
                    .chars()
                    .map(|c| {
                        u8::try_from(u32::from(c)).map_err(|_| wrong("bytes are spelt by other characters"))
                    })
                    .collect();
                Ok(Node::Bytes(bytes?.into()))
            }
            (Global::Bytes, []) => Ok(Node::Bytes(SharedBytes::default())),
            (global, args) => Err(Error::unsupported(format!(
                "the pickle calls {global:?} with {} arguments that no array needs",
                args.len()
            ))),
        }
    }

    fn stored(&self, items: &Items, shape: Vec<usize>, fortran: bool, bytes: SharedBytes) -> Result<Node> {
        StoredArray::new(items.clone(), shape, fortran, Bytes::Here(bytes), self.limits).map(Node::Array)
    }

    /// Gives the array or dtype on top of the stack its state.
    fn build(&mut self, state: Id) -> Result<()> {
        let id = self.top()?;
        let state = self.tuple(state)?.to_vec();
        let built = match self.node(id)? {
            Node::EmptyArray => self.built_array(&state)?,
            Node::DType(items) => Node::DType(self.built_dtype(items, &state)?),
            _ => return Err(wrong("it sets the state of what is neither an array nor a dtype")),
        };
        match self.nodes.get_mut(id) {
            Some(node) => *node = built,
            None => return Err(wrong("a value is missing")),
        }
        Ok(())
    }

    fn built_array(&self, state: &[Id]) -> Result<Node> {
        // The first of five is a version; very old files have four.
        let (shape, dtype, fortran, data) = match state {
            [_, shape, dtype, fortran, data] | [shape, dtype, fortran, data] => (shape, dtype, fortran, data),
            _ => return Err(wrong("an array's state has a wrong length")),
        };
        let shape = self.shape(*shape)?;
        let fortran = match self.node(*fortran)? {
            Node::Bool(b) => *b,
            Node::Int(n) => *n != 0,
            _ => return Err(wrong("an array's order is missing")),
        };
        let items = self.items_of(*dtype)?;
        if *items != Items::Object {
            return self.stored(items, shape, fortran, self.bytes_of(*data)?);
        }
        let Node::List(objects) = self.node(*data)? else {
            return Err(wrong("an object array's items are missing"));
        };
        if modelark_artifact::tensor::checked_elements(&shape)? != objects.len() {
            return Err(wrong("an object array has a wrong number of items"));
        }
        Ok(Node::Objects(shape, objects.clone()))
    }

    /// A dtype with the byte order of its state.
    fn built_dtype(&self, items: &Items, state: &[Id]) -> Result<Items> {
        let [_, order, _, names, ..] = state else {
            return Err(wrong("a dtype's state is too short"));
        };
        if !matches!(self.node(*names)?, Node::None) {
            return Err(Error::unsupported("the pickle has an array of structures, which isn't read"));
        }
        let big = self.text(*order)? == ">";
        Ok(match items {
            Items::Plain { dtype, .. } => {
                Items::Plain { dtype: *dtype, swapped: big && dtype.size() != Some(1) }
            }
            Items::Text { len, .. } => Items::Text { len: *len, swapped: big },
            other => other.clone(),
        })
    }

    /// The tree under a node.
    fn value(&self, id: Id, depth: usize, budget: &mut usize) -> Result<Value> {
        let depth = depth.checked_sub(1).ok_or_else(|| Error::limit("the pickle nests too deep"))?;
        *budget =
            budget.checked_sub(1).ok_or_else(|| Error::limit("the pickle repeats its values too often"))?;
        let mut all = |ids: &[Id]| -> Result<Vec<Value>> {
            ids.iter().map(|id| self.value(*id, depth, budget)).collect()
        };
        Ok(match self.node(id)? {
            Node::None => Value::None,
            Node::Bool(b) => Value::Bool(*b),
            Node::Int(n) => Value::Int(*n),
            Node::Float(n) => Value::Float(*n),
            Node::Text(_) => Value::String(self.text(id)?.to_owned()),
            Node::Bytes(bytes) => Value::Bytes(bytes.clone()),
            Node::Array(array) => Value::Array(array.clone()),
            Node::Objects(shape, items) => Value::Objects { shape: shape.clone(), items: all(items)? },
            Node::List(items) => Value::List(all(items)?),
            Node::Tuple(items) => Value::Tuple(all(items)?),
            Node::Dict(items) => {
                let (keys, values): (Vec<Id>, Vec<Id>) = items.iter().copied().unzip();
                Value::Dict(all(&keys)?.into_iter().zip(all(&values)?).collect())
            }
            Node::EmptyArray => return Err(wrong("an array was never filled")),
            Node::DType(_) | Node::Global(_) => {
                return Err(Error::unsupported(
                    "the pickle holds a type, where only arrays and numbers are read",
                ));
            }
        })
    }
}

fn parse<T: std::str::FromStr>(text: &str, what: &str) -> Result<T> {
    text.trim().parse().map_err(|_| wrong(&format!("{text:?} isn't a {what}")))
}

fn pairs(items: Vec<Id>) -> Result<Vec<(Id, Id)>> {
    if !items.len().is_multiple_of(2) {
        return Err(wrong("a dict has a key without a value"));
    }
    Ok(items.chunks_exact(2).filter_map(|pair| Some((*pair.first()?, *pair.last()?))).collect())
}

/// Text as protocol 0 spells it: Latin-1, with `\uXXXX` and `\UXXXXXXXX`.
fn raw_unicode(line: &[u8]) -> Result<String> {
    let mut text = String::with_capacity(line.len());
    let mut rest = line;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let digits = match (byte, after.first()) {
            (b'\\', Some(b'u')) => 4,
            (b'\\', Some(b'U')) => 8,
            _ => {
                text.push(char::from(*byte));
                continue;
            }
        };
        let hex = after.get(1..=digits).and_then(|h| std::str::from_utf8(h).ok());
        let c = hex.and_then(|h| u32::from_str_radix(h, 16).ok()).and_then(char::from_u32);
        text.push(c.ok_or_else(|| wrong("a text has a damaged escape"))?);
        rest = after.get(digits + 1..).unwrap_or_default();
    }
    Ok(text)
}

/// A Python 2 string as protocol 0 spells it: in quotes, with escapes.
fn quoted(line: &[u8]) -> Result<Vec<u8>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let inner = match line {
        [b'\'', inner @ .., b'\''] | [b'"', inner @ .., b'"'] => inner,
        _ => return Err(wrong("a string has no quotes")),
    };
    let mut out = Vec::with_capacity(inner.len());
    let mut bytes = inner.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'\\' {
            out.push(*byte);
            continue;
        }
        out.push(match bytes.next() {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'x') => {
                let mut digit = || bytes.next().and_then(|b| char::from(*b).to_digit(16));
                let high = digit().ok_or_else(|| wrong("a string has a damaged escape"))?;
                let low = digit().ok_or_else(|| wrong("a string has a damaged escape"))?;
                (high * 16 + low) as u8
            }
            Some(c @ (b'\\' | b'\'' | b'"')) => *c,
            _ => return Err(wrong("a string has an escape that isn't known")),
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(bytes: &[u8]) -> Result<Value> {
        read(&bytes.into(), &Limits::default())
    }

    #[test]
    fn plain_values_of_every_protocol() {
        // pickle.dumps([1, -2, 1.5, 'é', True, None, (1, 2)], protocol=p)
        let old = b"(lp0\nI1\naI-2\naF1.5\naV\xe9\np1\naI01\naNa(I1\nI2\ntp2\na.";
        let new = b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01J\xfe\xff\xff\xffG?\xf8\x00\x00\x00\x00\x00\x00\x8c\x02\xc3\xa9\x94\x88NK\x01K\x02\x86\x94e.";
        let wanted =
            "List([Int(1), Int(-2), Float(1.5), String(\"é\"), Bool(true), None, Tuple([Int(1), Int(2)])])";
        for bytes in [&old[..], &new[..]] {
            assert_eq!(format!("{:?}", run(bytes).expect("reads")), wanted);
        }
    }

    #[test]
    fn other_globals_are_named_and_never_run() {
        // os.system('true')
        let e = run(b"cos\nsystem\n(S'true'\ntR.").expect_err("refused").to_string();
        assert!(e.starts_with("byte 0: the pickle refers to os.system"), "{e}");
        let e = run(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.").expect_err("refused").to_string();
        assert!(e.contains("builtins.eval") && e.starts_with("byte 18"), "{e}");
        let e = run(b"ckeras.src.engine.sequential\nSequential\n.").expect_err("refused").to_string();
        assert!(e.contains("model.save('model.keras')"), "{e}");
        let e = run(b"\x80\x02P1\n.").expect_err("refused").to_string();
        assert!(e.contains("PERSID") && e.starts_with("byte 2"), "{e}");
    }

    #[test]
    fn values_that_blow_up_are_refused() {
        // A list that holds itself.
        assert!(run(b"]q\x00h\x00a.").is_err());
        // Each list holds the last one twice.
        let mut bomb = b"]q\x00".to_vec();
        for i in 1..100u8 {
            bomb.extend([b']', b'q', i, b'(', b'h', i - 1, b'h', i - 1, b'e']);
        }
        bomb.push(b'.');
        assert!(run(&bomb).is_err());
        let deep = [vec![b']'; 100_000], vec![b'a'; 99_999], vec![b'.']].concat();
        assert!(run(&deep).is_err());
    }

    #[test]
    fn damaged_pickles_are_errors() {
        for bytes in [
            &b""[..],
            b".",
            b"K",
            b"X\xff\xff\xff\xff.",
            b"a.",
            b"e.",
            b"(.",
            b"K\x01(a.",
            b"h\x05.",
            b"cnumpy\n",
            b"R.",
        ] {
            assert!(run(bytes).is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn random_opcodes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = run(&bytes);
        }
    }
}
