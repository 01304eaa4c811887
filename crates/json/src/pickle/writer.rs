//! Lists of arrays as a pickle of protocol 3, byte for byte as NumPy 1.26's arrays pickle.
//!
//! Protocol 3 and the module name `numpy.core` are what every NumPy from 1.x to 2.x loads. Python pickles a value
//! once and refers to it afterwards if it is the same object, so the writer follows which objects Python shares:
//! globals, the dtypes of numbers, texts of one character, and bytes of length 0 or 1.

use std::collections::HashMap;
use std::io::Write;

use modelark_artifact::tensor::{DType, Tensor};
use modelark_artifact::{Result, Variable};

use crate::array::{Items, code, encode};

/// A list of arrays, however nested.
#[derive(Debug)]
pub enum Item<'a> {
    /// An array; its value is read when its turn comes.
    Array(&'a Variable),
    /// A list.
    List(Vec<Item<'a>>),
}

/// Writes the pickle of a list, as `pickle.dump(list, file, protocol=3)`.
///
/// # Errors
/// When a value can't be read or has no place in NumPy, or writing fails.
pub fn write(item: &Item, out: &mut impl Write) -> Result<()> {
    let mut pickler = Pickler::new(out);
    pickler.out.write_all(&[0x80, 3])?;
    pickler.item(item)?;
    pickler.finish()
}

/// Writes the pickle of a one-dimensional array of objects, as `np.save` does after its header.
///
/// # Errors
/// As [`write()`].
pub fn write_object_array(items: &[Item], out: &mut impl Write) -> Result<()> {
    let mut pickler = Pickler::new(out);
    pickler.out.write_all(&[0x80, 3])?;
    pickler.array_start()?;
    pickler.out.write_all(b"(")?;
    pickler.int(1)?;
    pickler.shape(&[items.len()])?;
    pickler.dtype(&Items::Object)?;
    pickler.out.write_all(&[FALSE])?;
    pickler.list(items)?;
    pickler.array_end()?;
    pickler.finish()
}

const TRUE: u8 = 0x88;
const FALSE: u8 = 0x89;

/// An object that Python shares, by which it is found in the memo.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Shared {
    Global(&'static str, &'static str),
    Text(&'static str),
    Bytes(Option<u8>),
    DType(DType),
}

struct Pickler<'a, W: Write> {
    out: &'a mut W,
    memo: HashMap<Shared, u32>,
    next: u32,
}

impl<'a, W: Write> Pickler<'a, W> {
    fn new(out: &'a mut W) -> Self {
        Pickler { out, memo: HashMap::new(), next: 0 }
    }

    fn finish(self) -> Result<()> {
        Ok(self.out.write_all(b".")?)
    }

    fn item(&mut self, item: &Item) -> Result<()> {
        match item {
            Item::Array(variable) => self.array(&variable.load()?),
            Item::List(items) => self.list(items),
        }
    }

    fn list(&mut self, items: &[Item]) -> Result<()> {
        const BATCH: usize = 1000;
        self.out.write_all(b"]")?;
        self.memoize()?;
        if let [only] = items {
            self.item(only)?;
            return Ok(self.out.write_all(b"a")?);
        }
        for batch in items.chunks(BATCH) {
            self.out.write_all(b"(")?;
            batch.iter().try_for_each(|item| self.item(item))?;
            self.out.write_all(b"e")?;
        }
        Ok(())
    }

    fn array(&mut self, tensor: &Tensor) -> Result<()> {
        let (items, bytes) = encode(tensor)?;
        self.array_start()?;
        self.out.write_all(b"(")?;
        self.int(1)?;
        self.shape(tensor.shape())?;
        self.dtype(&items)?;
        self.out.write_all(&[FALSE])?;
        self.bytes(&bytes)?;
        self.array_end()
    }

    /// `_reconstruct(ndarray, (0,), b'b')`, an array to be filled.
    fn array_start(&mut self) -> Result<()> {
        self.global("numpy.core.multiarray", "_reconstruct")?;
        self.global("numpy", "ndarray")?;
        self.int(0)?;
        self.out.write_all(&[0x85])?;
        self.memoize()?;
        self.bytes(b"b")?;
        self.out.write_all(&[0x87])?;
        self.memoize()?;
        self.out.write_all(b"R")?;
        self.memoize()
    }

    /// The end of the state that fills an array.
    fn array_end(&mut self) -> Result<()> {
        self.out.write_all(b"t")?;
        self.memoize()?;
        Ok(self.out.write_all(b"b")?)
    }

    fn dtype(&mut self, items: &Items) -> Result<()> {
        let shared = match items {
            Items::Plain { dtype, .. } => Some(Shared::DType(*dtype)),
            _ => None,
        };
        if let Some(key) = &shared
            && self.get(key)?
        {
            return Ok(());
        }
        self.global("numpy", "dtype")?;
        // The order, the bytes of an item, its alignment and flags; NumPy leaves the first two of these at -1 for its
        // own numbers.
        let (order, size, align, flags) = match items {
            Items::Plain { dtype, .. } if code(*dtype)?.starts_with('V') || *dtype == DType::F8E5M2 => {
                self.global("ml_dtypes", dtype.name())?;
                let size = dtype.size().unwrap_or(1) as i64;
                ("<", size, size, 64)
            }
            Items::Plain { dtype, .. } => {
                self.text(code(*dtype)?)?;
                (if dtype.size() == Some(1) { "|" } else { "<" }, -1, -1, 0)
            }
            Items::Bytes(len) => {
                self.text(&format!("S{len}"))?;
                ("|", *len as i64, 1, 0)
            }
            _ => {
                self.text("O8")?;
                ("|", -1, -1, 63)
            }
        };
        self.out.write_all(&[FALSE, TRUE, 0x87])?;
        self.memoize()?;
        self.out.write_all(b"R")?;
        match shared {
            Some(key) => self.memoize_as(key)?,
            None => self.memoize()?,
        }
        self.out.write_all(b"(")?;
        self.int(3)?;
        self.short_text(order)?;
        self.out.write_all(b"NNN")?;
        self.int(size)?;
        self.int(align)?;
        self.int(flags)?;
        self.array_end()
    }

    fn shape(&mut self, shape: &[usize]) -> Result<()> {
        if shape.len() > 3 {
            self.out.write_all(b"(")?;
        }
        for extent in shape {
            self.int(i64::try_from(*extent).unwrap_or(i64::MAX))?;
        }
        match shape.len() {
            0 => return Ok(self.out.write_all(b")")?),
            1 => self.out.write_all(&[0x85])?,
            2 => self.out.write_all(&[0x86])?,
            3 => self.out.write_all(&[0x87])?,
            _ => self.out.write_all(b"t")?,
        }
        self.memoize()
    }

    fn int(&mut self, n: i64) -> Result<()> {
        if let Ok(n) = u8::try_from(n) {
            self.out.write_all(&[b'K', n])?;
        } else if let Ok(n) = u16::try_from(n) {
            self.out.write_all(b"M")?;
            self.out.write_all(&n.to_le_bytes())?;
        } else if let Ok(n) = i32::try_from(n) {
            self.out.write_all(b"J")?;
            self.out.write_all(&n.to_le_bytes())?;
        } else {
            let bytes = n.to_le_bytes();
            // Two's complement without the bytes that only repeat the sign; what is that large here is positive.
            let len = (1..=8).find(|k| n >> (8 * k - 1).min(63) == 0).unwrap_or(8);
            self.out.write_all(&[0x8a, len as u8])?;
            self.out.write_all(bytes.get(..len).unwrap_or(&bytes))?;
        }
        Ok(())
    }

    fn global(&mut self, module: &'static str, name: &'static str) -> Result<()> {
        let key = Shared::Global(module, name);
        if self.get(&key)? {
            return Ok(());
        }
        write!(self.out, "c{module}\n{name}\n")?;
        self.memoize_as(key)
    }

    fn text(&mut self, text: &str) -> Result<()> {
        self.out.write_all(b"X")?;
        self.out.write_all(&(text.len() as u32).to_le_bytes())?;
        self.out.write_all(text.as_bytes())?;
        self.memoize()
    }

    /// A text of one character, which Python shares.
    fn short_text(&mut self, text: &'static str) -> Result<()> {
        let key = Shared::Text(text);
        if self.get(&key)? {
            return Ok(());
        }
        self.text(text)?;
        self.memo.insert(key, self.next - 1);
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let key = match bytes {
            [] => Some(Shared::Bytes(None)),
            [one] => Some(Shared::Bytes(Some(*one))),
            _ => None,
        };
        if let Some(key) = &key
            && self.get(key)?
        {
            return Ok(());
        }
        if let Ok(len) = u8::try_from(bytes.len()) {
            self.out.write_all(&[b'C', len])?;
        } else if let Ok(len) = u32::try_from(bytes.len()) {
            self.out.write_all(b"B")?;
            self.out.write_all(&len.to_le_bytes())?;
        } else {
            // An opcode of protocol 4, which Python's own pickler would refuse here; every reader takes it.
            self.out.write_all(&[0x8e])?;
            self.out.write_all(&(bytes.len() as u64).to_le_bytes())?;
        }
        self.out.write_all(bytes)?;
        match key {
            Some(key) => self.memoize_as(key),
            None => self.memoize(),
        }
    }

    /// Refers to an object that was written before, if it was.
    fn get(&mut self, key: &Shared) -> Result<bool> {
        let Some(index) = self.memo.get(key) else { return Ok(false) };
        self.indexed(*index, b'h', b'j')?;
        Ok(true)
    }

    fn memoize(&mut self) -> Result<()> {
        self.indexed(self.next, b'q', b'r')?;
        self.next += 1;
        Ok(())
    }

    fn memoize_as(&mut self, key: Shared) -> Result<()> {
        self.memo.insert(key, self.next);
        self.memoize()
    }

    fn indexed(&mut self, index: u32, short: u8, long: u8) -> Result<()> {
        match u8::try_from(index) {
            Ok(index) => self.out.write_all(&[short, index])?,
            Err(_) => {
                self.out.write_all(&[long])?;
                self.out.write_all(&index.to_le_bytes())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use modelark_artifact::Limits;
    use proptest::prelude::*;

    use super::super::{Value, read};
    use super::*;

    fn variable(tensor: Tensor) -> Variable {
        Variable::new("w", tensor)
    }

    #[test]
    fn an_array_pickles_as_numpy_1_26_does() {
        let w = variable(Tensor::from_vec(vec![1.5f32], [1]).expect("tensor"));
        let mut out = Vec::new();
        write(&Item::List(vec![Item::Array(&w)]), &mut out).expect("write");
        // pickle.dumps([np.array([1.5], 'f4')], protocol=3)
        let wanted = b"\x80\x03]q\x00cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q\x03C\x01bq\x04\x87q\x05Rq\x06(K\x01K\x01\x85q\x07cnumpy\ndtype\nq\x08X\x02\x00\x00\x00f4q\t\x89\x88\x87q\nRq\x0b(K\x03X\x01\x00\x00\x00<q\x0cNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\rb\x89C\x04\x00\x00\xc0?q\x0etq\x0fba.";
        assert_eq!(out, wanted);
    }

    fn tensors() -> impl Strategy<Value = Tensor> {
        let dtype = prop::sample::select(vec![
            DType::F32,
            DType::F64,
            DType::I64,
            DType::Bool,
            DType::BF16,
            DType::C64,
        ]);
        (dtype, prop::collection::vec(0usize..4, 0..5))
            .prop_map(|(d, shape)| Tensor::zeros(d, &shape).expect("zeros"))
    }

    proptest! {
        #[test]
        fn written_lists_are_read_back(tensors in prop::collection::vec(tensors(), 0..20)) {
            let variables: Vec<Variable> = tensors.iter().cloned().map(variable).collect();
            let items: Vec<Item> = variables.iter().map(|v| Item::List(vec![Item::Array(v)])).collect();
            let mut out = Vec::new();
            write_object_array(&items, &mut out).expect("write");
            let Value::Objects { shape, items } = read(&out.into(), &Limits::default()).expect("read") else {
                panic!("an object array")
            };
            prop_assert_eq!(shape, vec![tensors.len()]);
            for (item, tensor) in items.iter().zip(&tensors) {
                let Value::List(inner) = item else { panic!("a list") };
                let [Value::Array(array)] = inner.as_slice() else { panic!("an array") };
                prop_assert!(array.tensor().expect("tensor").bit_eq(tensor));
            }
        }

        #[test]
        fn mutated_pickles_never_panic(at in 0usize..400, byte: u8) {
            let weights = [variable(Tensor::zeros(DType::F32, [2, 3]).expect("zeros")), variable(Tensor::scalar(2i64))];
            let items: Vec<Item> = weights.iter().map(|w| Item::List(vec![Item::Array(w)])).collect();
            let mut out = Vec::new();
            write_object_array(&items, &mut out).expect("write");
            let len = out.len();
            if let Some(b) = out.get_mut(at % len) { *b = byte }
            let _ = read(&out.into(), &Limits::default());
        }
    }
}
