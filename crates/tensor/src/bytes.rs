//! Bytes that many holders share: owned and aligned, or part of a mapped file.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

use crate::Result;
use crate::memory::{Charge, Lines, kept};

/// Bytes of this process, aligned to a cache line, as every SIMD load of an owned buffer is.
struct Owned {
    lines: Lines,
    len: usize,
    /// What the bytes cost the budget under which they were made.
    charge: Charge,
}

impl Owned {
    fn zeroed(len: usize, charge: Charge) -> Self {
        let lines = match kept::take(len, &charge) {
            Some(mut lines) => {
                lines.as_mut_slice()[..len].fill(0);
                lines
            }
            None => Lines::zeroed(len),
        };
        Owned { lines, len, charge }
    }

    /// Bytes of any value.
    fn any(len: usize, charge: Charge) -> Self {
        let lines = kept::take(len, &charge).unwrap_or_else(|| Lines::zeroed(len));
        Owned { lines, len, charge }
    }

    fn as_slice(&self) -> &[u8] {
        &self.lines.as_slice()[..self.len]
    }

    fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.lines.as_mut_slice()[..self.len]
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        kept::give(std::mem::take(&mut self.lines), &self.charge);
    }
}

#[derive(Clone)]
enum Store {
    Owned(Arc<Owned>),
    Foreign(Arc<dyn AsRef<[u8]> + Send + Sync>),
}

impl Store {
    fn as_slice(&self) -> &[u8] {
        match self {
            Store::Owned(o) => o.as_slice(),
            Store::Foreign(f) => (**f).as_ref(),
        }
    }
}

/// A range of bytes that its holders share; cloning and slicing copy nothing.
///
/// The bytes are owned by this process or by anything that can lend them for good, such as a memory map.
#[derive(Clone)]
pub struct SharedBytes {
    store: Store,
    range: Range<usize>,
}

impl SharedBytes {
    /// `len` zero bytes, aligned to a cache line.
    pub fn zeroed(len: usize) -> Self {
        SharedBytes::owned(Owned::zeroed(len, Charge::take_anyway(len)))
    }

    /// The same, within the [budget](crate::memory::Budget) of the thread.
    ///
    /// # Errors
    /// When that is exceeded.
    pub fn try_zeroed(len: usize) -> Result<Self> {
        Ok(SharedBytes::owned(Owned::zeroed(len, Charge::take(len)?)))
    }

    /// `len` bytes of any value, to be written over, within the [budget](crate::memory::Budget) of the thread: those of a
    /// tensor that is gone, where there is one, so that no memory has to come from the system.
    ///
    /// # Errors
    /// When the budget is exceeded.
    pub fn try_any(len: usize) -> Result<Self> {
        Ok(SharedBytes::owned(Owned::any(len, Charge::take(len)?)))
    }

    /// A copy of `bytes`, aligned to a cache line.
    pub fn copy_from(bytes: &[u8]) -> Self {
        SharedBytes::copied(bytes, Charge::take_anyway(bytes.len()))
    }

    /// The same, within the [budget](crate::memory::Budget) of the thread.
    ///
    /// # Errors
    /// When that is exceeded.
    pub fn try_copy_from(bytes: &[u8]) -> Result<Self> {
        Ok(SharedBytes::copied(bytes, Charge::take(bytes.len())?))
    }

    fn copied(bytes: &[u8], charge: Charge) -> Self {
        let mut owned = Owned::any(bytes.len(), charge);
        owned.as_mut_slice().copy_from_slice(bytes);
        SharedBytes::owned(owned)
    }

    fn owned(owned: Owned) -> Self {
        let range = 0..owned.len;
        SharedBytes { store: Store::Owned(Arc::new(owned)), range }
    }

    /// The bytes of `owner`, which is kept alive as long as they are held. No copy is made.
    ///
    /// `owner.as_ref()` must give the same bytes each time.
    pub fn from_owner(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        let len = owner.as_ref().len();
        SharedBytes { store: Store::Foreign(Arc::new(owner)), range: 0..len }
    }

    /// The part of these bytes in `range` (relative to them), or `None` when it reaches past their end.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.len() {
            return None;
        }
        let start = self.range.start + range.start;
        Some(SharedBytes { store: self.store.clone(), range: start..start + range.len() })
    }

    /// The bytes to write to, copied first if anybody else holds them or they aren't this process's own.
    pub fn make_mut(&mut self) -> &mut [u8] {
        if self.unique().is_none() {
            *self = SharedBytes::copy_from(self);
        }
        let range = self.range.clone();
        match &mut self.store {
            Store::Owned(o) => match Arc::get_mut(o) {
                Some(o) => &mut o.as_mut_slice()[range],
                None => unreachable!("copied above when shared"),
            },
            Store::Foreign(_) => unreachable!("copied above when foreign"),
        }
    }

    /// The bytes to write to, if this is their only holder.
    pub fn unique(&mut self) -> Option<&mut [u8]> {
        match &mut self.store {
            Store::Owned(o) => Some(&mut Arc::get_mut(o)?.as_mut_slice()[self.range.clone()]),
            Store::Foreign(_) => None,
        }
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // An owner that shrinks breaks its promise; it gets empty bytes, not a panic.
        self.store.as_slice().get(self.range.clone()).unwrap_or_default()
    }
}

impl AsRef<[u8]> for SharedBytes {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        SharedBytes::from_owner(bytes)
    }
}

impl From<&[u8]> for SharedBytes {
    fn from(bytes: &[u8]) -> Self {
        SharedBytes::copy_from(bytes)
    }
}

impl Default for SharedBytes {
    fn default() -> Self {
        SharedBytes::zeroed(0)
    }
}

impl PartialEq for SharedBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SharedBytes {}

impl fmt::Debug for SharedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedBytes({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writing_to_shared_bytes_copies_them() {
        let mut a = SharedBytes::copy_from(&[1, 2, 3, 4]);
        let b = a.clone();
        a.make_mut()[0] = 9;
        assert_eq!((&*a, &*b), (&[9u8, 2, 3, 4][..], &[1u8, 2, 3, 4][..]));
        assert!(a.unique().is_some());
    }

    #[test]
    fn slices_are_checked() {
        let a = SharedBytes::from(vec![1, 2, 3, 4]);
        let b = a.slice(1..3).expect("in range");
        assert_eq!(&*b, &[2, 3]);
        assert_eq!(&*b.slice(1..2).expect("in range"), &[3]);
        assert!(b.slice(0..3).is_none());
        let (start, end) = (3, 2);
        assert!(a.slice(start..end).is_none());
    }

    #[test]
    fn foreign_bytes_are_never_written_to() {
        let mut a = SharedBytes::from(vec![1, 2]);
        assert!(a.unique().is_none());
        a.make_mut()[1] = 7;
        assert_eq!(&*a, &[1, 7]);
    }
}
