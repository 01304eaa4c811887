//! The tensor.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use crate::{Bool, DType, Element, Error, ErrorKind, Result, Shape, SharedBytes, checked_elements, memory};

/// One element of a string tensor: bytes of any content, shared by its holders.
pub type ByteString = Arc<[u8]>;

#[derive(Clone)]
enum Storage {
    Bytes(SharedBytes),
    Strings(Arc<Vec<ByteString>>),
}

/// A dtype, a shape, and elements in C order. Cloning shares the elements.
///
/// Numbers are little-endian bytes (of this process or of a mapped file, at any alignment); strings are held one by one.
#[derive(Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    storage: Storage,
}

impl Tensor {
    /// A tensor of `shape` whose elements are `data` in C order.
    ///
    /// # Errors
    /// When `data` hasn't as many elements as `shape`.
    pub fn from_vec<T: Element>(data: Vec<T>, shape: impl AsRef<[usize]>) -> Result<Self> {
        Tensor::from_slice(&data, shape)
    }

    /// A tensor of `shape` whose elements are copied from `data` in C order.
    ///
    /// # Errors
    /// When `data` hasn't as many elements as `shape`.
    pub fn from_slice<T: Element>(data: &[T], shape: impl AsRef<[usize]>) -> Result<Self> {
        Tensor::from_bytes(T::DTYPE, shape, SharedBytes::try_copy_from(bytemuck::cast_slice(data))?)
    }

    /// A tensor over `bytes`, which hold the elements in C order, little-endian. Nothing is copied.
    ///
    /// # Errors
    /// When the dtype's elements aren't plain bytes, or `bytes` isn't exactly as long as `shape` asks.
    pub fn from_bytes(dtype: DType, shape: impl AsRef<[usize]>, bytes: SharedBytes) -> Result<Self> {
        let shape = shape.as_ref();
        let wanted = byte_len(dtype, shape)?;
        if bytes.len() != wanted {
            return Err(Error::shape(format!(
                "{dtype} tensor of shape {shape:?} takes {wanted} bytes, got {}",
                bytes.len()
            )));
        }
        Ok(Tensor { dtype, shape: shape.into(), storage: Storage::Bytes(bytes) })
    }

    /// A tensor of byte strings.
    ///
    /// # Errors
    /// When `data` hasn't as many elements as `shape`.
    pub fn from_strings<S: Into<ByteString>>(
        data: impl IntoIterator<Item = S>,
        shape: impl AsRef<[usize]>,
    ) -> Result<Self> {
        let shape = shape.as_ref();
        let data: Vec<ByteString> = data.into_iter().map(Into::into).collect();
        if checked_elements(shape)? != data.len() {
            return Err(Error::shape(format!(
                "{} strings don't make a tensor of shape {shape:?}",
                data.len()
            )));
        }
        Ok(Tensor { dtype: DType::String, shape: shape.into(), storage: Storage::Strings(Arc::new(data)) })
    }

    /// A tensor without dimensions.
    pub fn scalar<T: Element>(value: T) -> Self {
        let bytes = SharedBytes::copy_from(bytemuck::bytes_of(&value));
        Tensor { dtype: T::DTYPE, shape: Shape::new(), storage: Storage::Bytes(bytes) }
    }

    /// A string tensor without dimensions.
    pub fn scalar_string(value: impl Into<ByteString>) -> Self {
        Tensor {
            dtype: DType::String,
            shape: Shape::new(),
            storage: Storage::Strings(Arc::new(vec![value.into()])),
        }
    }

    /// A tensor of zeros, `false` or empty strings.
    ///
    /// # Errors
    /// When the shape overflows, or the dtype has no elements of its own (`resource`, `variant`).
    pub fn zeros(dtype: DType, shape: impl AsRef<[usize]>) -> Result<Self> {
        let shape = shape.as_ref();
        if dtype == DType::String {
            let empty: ByteString = Arc::from(&[][..]);
            let n = checked_elements(shape)?;
            memory::check(n.saturating_mul(size_of::<ByteString>()))?;
            return Tensor::from_strings(std::iter::repeat_n(empty, n), shape);
        }
        let len = byte_len(dtype, shape)?;
        Ok(Tensor { dtype, shape: shape.into(), storage: Storage::Bytes(SharedBytes::try_zeroed(len)?) })
    }

    /// A tensor whose elements may have any value: the caller writes over all of them.
    ///
    /// # Errors
    /// When the shape overflows.
    pub(crate) fn for_writing<T: Element>(shape: impl AsRef<[usize]>) -> Result<Self> {
        let shape = shape.as_ref();
        let bytes = SharedBytes::try_any(byte_len(T::DTYPE, shape)?)?;
        Ok(Tensor { dtype: T::DTYPE, shape: shape.into(), storage: Storage::Bytes(bytes) })
    }

    /// A tensor with every element `value`.
    ///
    /// # Errors
    /// When the shape overflows.
    pub fn full<T: Element>(value: T, shape: impl AsRef<[usize]>) -> Result<Self> {
        let mut t = Tensor::zeros(T::DTYPE, shape)?;
        t.make_mut::<T>()?.fill(value);
        Ok(t)
    }

    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The extents, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match &self.storage {
            Storage::Bytes(b) => b.len() / self.dtype.size().unwrap_or(1).max(1),
            Storage::Strings(s) => s.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes the elements take, the strings' own included.
    pub fn nbytes(&self) -> usize {
        match &self.storage {
            Storage::Bytes(b) => b.len(),
            Storage::Strings(s) => s.iter().map(|s| s.len()).sum(),
        }
    }

    /// The elements as little-endian bytes in C order.
    ///
    /// # Errors
    /// When the elements are strings.
    pub fn bytes(&self) -> Result<&SharedBytes> {
        match &self.storage {
            Storage::Bytes(b) => Ok(b),
            Storage::Strings(_) => Err(Error::dtype("a numeric one", self.dtype)),
        }
    }

    /// The elements in C order; `T` must be the dtype's Rust type.
    ///
    /// # Errors
    /// When `T` isn't the dtype's type, or the elements lie unaligned in a mapped file
    /// (then use [`Tensor::elements`] or, once, [`Tensor::aligned`]).
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        let bytes = self.typed_bytes::<T>()?;
        bytemuck::try_cast_slice(bytes).map_err(|_| {
            Error::new(ErrorKind::Value, format!("the {} elements lie unaligned in memory", self.dtype))
        })
    }

    /// The elements in C order, copied only when they lie unaligned.
    ///
    /// # Errors
    /// When `T` isn't the dtype's type.
    pub fn elements<T: Element>(&self) -> Result<Cow<'_, [T]>> {
        let bytes = self.typed_bytes::<T>()?;
        Ok(match bytemuck::try_cast_slice(bytes) {
            Ok(slice) => Cow::Borrowed(slice),
            Err(_) => Cow::Owned(bytemuck::allocation::pod_collect_to_vec(bytes)),
        })
    }

    /// The elements of a string tensor in C order.
    ///
    /// # Errors
    /// When the elements aren't strings.
    pub fn strings(&self) -> Result<&[ByteString]> {
        match &self.storage {
            Storage::Strings(s) => Ok(s),
            Storage::Bytes(_) => Err(Error::dtype(DType::String, self.dtype)),
        }
    }

    /// The only element of a tensor that has just one, whatever its rank.
    ///
    /// # Errors
    /// When `T` isn't the dtype's type, or there isn't exactly one element.
    pub fn item<T: Element>(&self) -> Result<T> {
        match *self.elements::<T>()? {
            [one] => Ok(one),
            _ => Err(Error::shape(format!("expected a single element, got shape {:?}", self.shape))),
        }
    }

    /// The integers of an `int32` or `int64` tensor (also the smaller widths), as TensorFlow passes axes and shapes.
    ///
    /// # Errors
    /// When the dtype isn't an integer, or a `uint64` is over `i64::MAX`.
    pub fn to_i64_vec(&self) -> Result<Vec<i64>> {
        crate::dispatch!(integer self.dtype, T => {
            self.elements::<T>()?
                .iter()
                .map(|&v| i64::try_from(i128::from(v)).map_err(|_| Error::value(format!("{v} is over the range of int64"))))
                .collect()
        }, else => Err(Error::dtype("an integer one", self.dtype)))
    }

    /// The elements to write to; copied first if anybody shares them or they lie in a file.
    ///
    /// # Errors
    /// When `T` isn't the dtype's type.
    pub fn make_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        self.typed_bytes::<T>()?;
        match &mut self.storage {
            // An owned buffer is aligned unless it was sliced at an odd offset; a copy always is.
            Storage::Bytes(b) => {
                if bytemuck::try_cast_slice::<u8, T>(b).is_err() {
                    *b = SharedBytes::copy_from(b);
                }
                bytemuck::try_cast_slice_mut(b.make_mut())
                    .map_err(|_| Error::value("a fresh buffer is always aligned"))
            }
            Storage::Strings(_) => Err(Error::dtype(T::DTYPE, DType::String)),
        }
    }

    /// The elements to write to if this is their only holder, so that a kernel can work in place.
    pub fn unique_mut<T: Element>(&mut self) -> Option<&mut [T]> {
        if T::DTYPE != self.dtype {
            return None;
        }
        match &mut self.storage {
            Storage::Bytes(b) => bytemuck::try_cast_slice_mut(b.unique()?).ok(),
            Storage::Strings(_) => None,
        }
    }

    /// This tensor with elements aligned for [`Tensor::as_slice`]: itself, or a copy of unaligned ones.
    pub fn aligned(self) -> Self {
        match &self.storage {
            Storage::Bytes(b) if !self.is_aligned() => {
                Tensor { storage: Storage::Bytes(SharedBytes::copy_from(b)), ..self }
            }
            _ => self,
        }
    }

    /// Whether the elements are aligned for [`Tensor::as_slice`].
    pub fn is_aligned(&self) -> bool {
        match (&self.storage, self.dtype.size()) {
            (Storage::Bytes(b), Some(size)) => (b.as_ptr() as usize).is_multiple_of(size.min(8)),
            _ => true,
        }
    }

    /// The same elements under another shape of as many elements. Nothing is copied.
    ///
    /// # Errors
    /// When the number of elements differs.
    pub fn reshape(self, shape: impl AsRef<[usize]>) -> Result<Self> {
        let shape = shape.as_ref();
        if checked_elements(shape)? != self.len() {
            return Err(Error::shape(format!(
                "a tensor of shape {:?} ({} elements) can't take the shape {shape:?}",
                self.shape,
                self.len()
            )));
        }
        Ok(Tensor { shape: shape.into(), ..self })
    }

    /// The same bytes under another dtype of the same width. Nothing is copied.
    ///
    /// # Errors
    /// When the widths differ, or one of them is a string.
    pub fn bitcast_same_width(self, dtype: DType) -> Result<Self> {
        if self.dtype.size().is_none() || self.dtype.size() != dtype.size() {
            return Err(Error::dtype(format!("one as wide as {dtype}"), self.dtype));
        }
        Ok(Tensor { dtype, ..self })
    }

    /// Whether dtype, shape and every bit of the elements are equal.
    pub fn bit_eq(&self, other: &Tensor) -> bool {
        self.dtype == other.dtype
            && self.shape == other.shape
            && match (&self.storage, &other.storage) {
                (Storage::Bytes(a), Storage::Bytes(b)) => a == b,
                (Storage::Strings(a), Storage::Strings(b)) => a == b,
                _ => false,
            }
    }

    fn typed_bytes<T: Element>(&self) -> Result<&SharedBytes> {
        match &self.storage {
            Storage::Bytes(b) if self.dtype == T::DTYPE => Ok(b),
            _ => Err(Error::dtype(T::DTYPE, self.dtype)),
        }
    }
}

/// Bytes that the elements of such a tensor take.
fn byte_len(dtype: DType, shape: &[usize]) -> Result<usize> {
    let size =
        dtype.size().ok_or_else(|| Error::unsupported(format!("{dtype} elements aren't plain bytes")))?;
    checked_elements(shape)?.checked_mul(size).filter(|&n| n <= isize::MAX as usize).ok_or_else(|| {
        Error::too_large(format!("a {dtype} tensor of shape {shape:?} is larger than memory could be"))
    })
}

impl From<bool> for Tensor {
    fn from(value: bool) -> Self {
        Tensor::scalar(Bool::from(value))
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 16;
        write!(f, "Tensor({} {:?} ", self.dtype, &self.shape[..])?;
        let more = if self.len() > SHOWN { " .." } else { "" };
        match &self.storage {
            Storage::Strings(s) => {
                let shown: Vec<_> = s.iter().take(SHOWN).map(|s| String::from_utf8_lossy(s)).collect();
                write!(f, "{shown:?}{more})")
            }
            Storage::Bytes(b) => crate::dispatch!(pod self.dtype, T => {
                let size = size_of::<T>();
                let shown = self.len().min(SHOWN) * size;
                let shown: Vec<T> = bytemuck::allocation::pod_collect_to_vec(&b[..shown]);
                write!(f, "{shown:?}{more})")
            }, else => write!(f, "{:?}{more})", &b[..b.len().min(SHOWN)])),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_must_fill_the_shape() {
        assert!(Tensor::from_vec(vec![1i32, 2, 3], [2, 2]).is_err());
        assert!(Tensor::from_bytes(DType::F32, [1], SharedBytes::zeroed(3)).is_err());
        assert!(Tensor::zeros(DType::F32, [usize::MAX, 8]).is_err());
        assert!(Tensor::zeros(DType::Resource, [1]).is_err());
    }

    #[test]
    fn a_clone_shares_until_written() {
        let mut a = Tensor::from_vec(vec![1.0f32, 2.0], [2]).expect("tensor");
        let b = a.clone();
        assert!(a.unique_mut::<f32>().is_none());
        a.make_mut::<f32>().expect("f32")[0] = 5.0;
        assert_eq!(b.as_slice::<f32>().expect("f32"), [1.0, 2.0]);
        assert_eq!(a.as_slice::<f32>().expect("f32"), [5.0, 2.0]);
        assert!(a.unique_mut::<f32>().is_some());
    }

    #[test]
    fn unaligned_elements_can_be_read() {
        let mut raw = vec![0u8];
        raw.extend([1i64, -2].iter().flat_map(|v| v.to_le_bytes()));
        let bytes = SharedBytes::copy_from(&raw).slice(1..17).expect("range");
        let mut t = Tensor::from_bytes(DType::I64, [2], bytes).expect("tensor");
        assert!(t.as_slice::<i64>().is_err());
        assert_eq!(*t.elements::<i64>().expect("i64"), [1, -2]);
        assert_eq!(t.clone().aligned().as_slice::<i64>().expect("i64"), [1, -2]);
        t.make_mut::<i64>().expect("i64")[1] = 3;
        assert_eq!(t.to_i64_vec().expect("ints"), [1, 3]);
    }

    #[test]
    fn a_wrong_type_is_refused() {
        let t = Tensor::scalar(1.5f32);
        assert!(t.as_slice::<i32>().is_err() && t.strings().is_err());
        assert_eq!(t.item::<f32>().expect("f32"), 1.5);
        assert_eq!(Tensor::from(true).item::<Bool>().expect("bool"), Bool::TRUE);
    }

    #[test]
    fn strings_are_elements_too() {
        let t = Tensor::from_strings(["a".as_bytes(), b"\xff"], [2, 1]).expect("tensor");
        assert_eq!((t.len(), t.nbytes(), t.rank()), (2, 2, 2));
        assert!(t.bit_eq(&t.clone().reshape([1, 2]).and_then(|t| t.reshape([2, 1])).expect("reshape")));
        assert!(Tensor::zeros(DType::String, [3]).expect("zeros").strings().expect("strings")[2].is_empty());
    }
}
