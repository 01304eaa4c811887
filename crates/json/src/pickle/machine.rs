//! The pickle machine, with an allow-list in the place of `import`.

use std::collections::HashMap;

use modelark_artifact::tensor::SharedBytes;
use modelark_artifact::{Error, Limits, Result};

use super::globals::{Global, refused};
use super::spelling::{quoted, raw_unicode};
use super::{Value, opcode};
use crate::array::{Bytes, Items, StoredArray};

/// The index of a node in the machine's arena.
type Id = usize;

/// The newest protocol there is.
const NEWEST: u8 = 5;

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
        // A pickle that says each thing once needs no more than its own length; this leaves room for what is shared.
        copies: bytes.len().saturating_mul(4).saturating_add(4096),
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
    machine.value(root, limits.depth)
}

struct Machine<'a> {
    bytes: &'a SharedBytes,
    at: usize,
    limits: &'a Limits,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    /// How many more bytes may be copied out of the pickle, lest a short one make a long story of one text.
    copies: usize,
}

fn cut() -> Error {
    Error::corrupt("the pickle breaks off")
}

pub(super) fn wrong(what: &str) -> Error {
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
                let (module, name) = (self.name(module)?.to_owned(), self.name(name)?.to_owned());
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

    /// Notes that so many bytes are copied or made of what the pickle says.
    fn spend(&mut self, bytes: usize) -> Result<()> {
        self.copies = self
            .copies
            .checked_sub(bytes)
            .ok_or_else(|| Error::limit("the pickle repeats its values too often"))?;
        Ok(())
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

    /// A text that is a name, and so is short.
    fn name(&self, id: Id) -> Result<&str> {
        const LONGEST: usize = 256;
        match self.node(id)? {
            Node::Text(bytes) | Node::Bytes(bytes) if bytes.len() > LONGEST => {
                Err(wrong("a name is too long"))
            }
            _ => self.text(id),
        }
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
        // NumPy allows 64 dimensions.
        const MOST: usize = 64;
        let dims = self.tuple(id)?;
        if dims.len() > MOST {
            return Err(wrong("an array has too many dimensions"));
        }
        dims.iter()
            .map(|id| match self.node(*id) {
                Ok(Node::Int(n)) => usize::try_from(*n).map_err(|_| wrong("an extent is negative")),
                _ => Err(wrong("an array's shape is missing")),
            })
            .collect()
    }

    /// What a call of one of the known globals makes.
    fn reduce(&mut self, callee: Id, args: Id) -> Result<Node> {
        let Node::Global(global) = *self.node(callee)? else {
            return Err(wrong("it calls what isn't a function"));
        };
        if let (Global::Encode, [text, _]) = (global, self.tuple(args)?) {
            self.spend(match self.node(*text)? {
                Node::Text(bytes) => bytes.len(),
                _ => 0,
            })?;
        }
        let args = self.tuple(args)?;
        match (global, args) {
            (Global::Reconstruct, [class, ..])
                if matches!(self.node(*class)?, Node::Global(Global::NdArray)) =>
            {
                Ok(Node::EmptyArray)
            }
            (Global::DType, [kind, ..]) => match self.node(*kind)? {
                Node::Global(Global::MlDType(dtype)) => Ok(Node::DType(Items::plain(*dtype))),
                _ => Ok(Node::DType(Items::parse(self.name(*kind)?)?)),
            },
            (Global::Scalar, [dtype, bytes]) => {
                self.stored(self.items_of(*dtype)?, Vec::new(), false, self.bytes_of(*bytes)?)
            }
            (Global::FromBuffer, [bytes, dtype, shape, order]) => {
                let fortran = self.name(*order)? == "F";
                self.stored(self.items_of(*dtype)?, self.shape(*shape)?, fortran, self.bytes_of(*bytes)?)
            }
            (Global::Encode, [text, codec]) if matches!(self.name(*codec)?, "latin1" | "latin-1") => {
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
        const LONGEST: usize = 16;
        let id = self.top()?;
        let state = self.tuple(state)?;
        if state.len() > LONGEST {
            return Err(wrong("a state is too long"));
        }
        let state = state.to_vec();
        let built = match self.node(id)? {
            Node::EmptyArray => self.built_array(&state)?,
            Node::DType(items) => Node::DType(self.built_dtype(items, &state)?),
            _ => return Err(wrong("it sets the state of what is neither an array nor a dtype")),
        };
        if let Node::Objects(_, items) = &built {
            self.spend(items.len())?;
        }
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
        let big = self.name(*order)? == ">";
        Ok(match items {
            Items::Plain { dtype, .. } => {
                Items::Plain { dtype: *dtype, swapped: big && dtype.size() != Some(1) }
            }
            Items::Text { len, .. } => Items::Text { len: *len, swapped: big },
            other => other.clone(),
        })
    }

    /// The tree under a node. Written out as a tree, a pickle has at least a byte for every value.
    fn value(&mut self, id: Id, depth: usize) -> Result<Value> {
        let depth = depth.checked_sub(1).ok_or_else(|| Error::limit("the pickle nests too deep"))?;
        self.spend(1)?;
        Ok(match self.node(id)?.clone() {
            Node::None => Value::None,
            Node::Bool(b) => Value::Bool(b),
            Node::Int(n) => Value::Int(n),
            Node::Float(n) => Value::Float(n),
            Node::Text(bytes) => {
                self.spend(bytes.len())?;
                Value::String(self.text(id)?.to_owned())
            }
            Node::Bytes(bytes) => Value::Bytes(bytes),
            Node::Array(array) => Value::Array(array),
            Node::Objects(shape, items) => Value::Objects { shape, items: self.values(&items, depth)? },
            Node::List(items) => Value::List(self.values(&items, depth)?),
            Node::Tuple(items) => Value::Tuple(self.values(&items, depth)?),
            Node::Dict(items) => {
                let (keys, values): (Vec<Id>, Vec<Id>) = items.into_iter().unzip();
                Value::Dict(
                    self.values(&keys, depth)?.into_iter().zip(self.values(&values, depth)?).collect(),
                )
            }
            Node::EmptyArray => return Err(wrong("an array was never filled")),
            Node::DType(_) | Node::Global(_) => {
                return Err(Error::unsupported(
                    "the pickle holds a type, where only arrays and numbers are read",
                ));
            }
        })
    }

    fn values(&mut self, ids: &[Id], depth: usize) -> Result<Vec<Value>> {
        ids.iter().map(|id| self.value(*id, depth)).collect()
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
        // One long text, told again and again.
        let mut text = b"X\x00\x10\x00\x00".to_vec();
        text.extend([b'a'; 4096]);
        let mut told = [b"(".to_vec(), text, b"q\x00".to_vec()].concat();
        told.extend([b'h', 0].repeat(1000));
        told.extend(b"l.");
        assert!(run(&told).is_err());
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
