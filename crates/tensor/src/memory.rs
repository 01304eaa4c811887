//! How much memory tensors may take while something that isn't trusted runs.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{Error, Result};

/// A bound on the bytes that the tensors made under it hold at any one time.
///
/// A tensor is made under the budget that its thread has [entered](Budget::enter); its bytes are given back when its last
/// holder lets go, on whatever thread. Cloning a budget names the same one.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Account>);

#[derive(Debug)]
struct Account {
    limit: usize,
    used: AtomicUsize,
}

thread_local! {
    static CURRENT: RefCell<Option<Budget>> = const { RefCell::new(None) };
}

impl Budget {
    /// A budget of `limit` bytes, of which none is used.
    pub fn new(limit: usize) -> Self {
        Budget(Arc::new(Account { limit, used: AtomicUsize::new(0) }))
    }

    /// The bytes that tensors hold under it now.
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed)
    }

    /// The bytes that they may hold.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Makes this the budget of what the thread does, until the guard is dropped.
    pub fn enter(&self) -> Entered {
        Entered(CURRENT.replace(Some(self.clone())))
    }

    /// Lets the thread make tensors under no budget, until the guard is dropped: what outlives a run isn't the run's.
    pub fn leave() -> Entered {
        Entered(CURRENT.replace(None))
    }
}

/// Gives the thread back the budget that it had before, when dropped.
#[derive(Debug)]
#[must_use]
pub struct Entered(Option<Budget>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// The size of large pages, where the system has such.
const LARGE_PAGE: usize = 2 << 20;

/// Zeros in whole cache lines, which cost next to nothing until they are touched.
#[derive(Default)]
pub(crate) struct Lines {
    parts: Box<[Part]>,
    /// Where the first line begins.
    start: usize,
    len: usize,
}

/// As far as the allocator aligns anyway: where it is asked for more, it clears pages by writing them.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C, align(16))]
struct Part([u8; 16]);

impl Lines {
    const LINE: usize = 64;

    /// At least `len` bytes.
    pub(crate) fn zeroed(len: usize) -> Self {
        let len = len.div_ceil(Self::LINE) * Self::LINE;
        // What is skipped to begin with a page is never touched.
        let align = if len >= LARGE_PAGE { LARGE_PAGE } else { Self::LINE };
        let spare = align / size_of::<Part>() - 1;
        let parts: Box<[Part]> = bytemuck::allocation::zeroed_slice_box(len / size_of::<Part>() + spare);
        let start = parts.as_ptr().cast::<u8>().align_offset(align).min(spare * size_of::<Part>());
        let mut lines = Lines { parts, start, len };
        in_large_pages(lines.as_mut_slice());
        lines
    }

    /// How many bytes there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &bytemuck::cast_slice(&self.parts)[self.start..][..self.len]
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut bytemuck::cast_slice_mut(&mut self.parts)[self.start..][..self.len]
    }
}

/// Asks the system for large pages behind memory that wasn't touched yet: it has fewer to find and to clear, and kernels find their
/// data sooner. Nothing happens where it can't be.
#[allow(unsafe_code, reason = "the system is told about memory by its address")]
fn in_large_pages(bytes: &mut [u8]) {
    #[cfg(target_os = "linux")]
    if bytes.as_ptr().addr().is_multiple_of(LARGE_PAGE) && bytes.len() >= LARGE_PAGE {
        let whole = bytes.len() / LARGE_PAGE * LARGE_PAGE;
        // SAFETY: the pages lie within `bytes`. Of what size they are changes nothing that can be seen in them.
        let _ = unsafe {
            rustix::mm::madvise(bytes.as_mut_ptr().cast(), whole, rustix::mm::Advice::LinuxHugepage)
        };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

/// Bytes held under a budget, given back when dropped.
pub(crate) struct Charge(Option<(Budget, usize)>);

impl Charge {
    /// Takes `bytes` from the thread's budget, if it has one.
    ///
    /// # Errors
    /// When there aren't as many left.
    pub(crate) fn take(bytes: usize) -> Result<Charge> {
        let charge = Charge::take_anyway(bytes);
        if let Some((budget, _)) = &charge.0 {
            let used = budget.used();
            if used > budget.limit() {
                return Err(too_large(bytes, used - bytes, budget.limit()));
            }
        }
        Ok(charge)
    }

    /// The same where there is no way to refuse; what comes next is refused.
    pub(crate) fn take_anyway(bytes: usize) -> Charge {
        Charge(CURRENT.with_borrow(|current| {
            let budget = current.clone()?;
            budget.0.used.fetch_add(bytes, Ordering::Relaxed);
            Some((budget, bytes))
        }))
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some((budget, bytes)) = &self.0 {
            budget.0.used.fetch_sub(*bytes, Ordering::Relaxed);
        }
    }
}

/// Memory of tensors that are gone, for those that come: fresh pages from the system cost more than most kernels.
///
/// Only what is made under a [`Budget`], which is to say in a run, comes from here and goes back.
pub(crate) mod kept {
    use std::sync::{Mutex, PoisonError};

    use super::{Charge, Lines};

    /// Smaller buffers, in bytes, are the allocator's, which keeps those itself.
    const LEAST: usize = 32 << 10;
    /// So much is kept at most.
    const MOST: usize = 128 << 20;

    /// The oldest first.
    static KEPT: Mutex<Vec<Lines>> = Mutex::new(Vec::new());

    /// A buffer of at least `len` bytes, of any content.
    pub(crate) fn take(len: usize, charge: &Charge) -> Option<Lines> {
        if len < LEAST || charge.0.is_none() {
            return None;
        }
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |b: &Lines| b.len() >= len && b.len() / 2 <= len;
        let best = (0..kept.len()).filter(|&i| fits(&kept[i])).min_by_key(|&i| kept[i].len())?;
        Some(kept.remove(best))
    }

    /// Gives a buffer back.
    pub(crate) fn give(lines: Lines, charge: &Charge) {
        if lines.len() < LEAST || lines.len() > MOST || charge.0.is_none() {
            return;
        }
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(lines);
        let sum: usize = kept.iter().map(Lines::len).sum();
        let mut over = sum.saturating_sub(MOST);
        let gone = kept.iter().take_while(|b| {
            let goes = over > 0;
            over = over.saturating_sub(b.len());
            goes
        });
        let gone = gone.count();
        kept.drain(..gone);
    }
}

/// Refuses a size that is over the thread's whole budget: to be asked before allocating what isn't a tensor yet.
///
/// # Errors
/// When it is.
pub fn check(bytes: usize) -> Result<()> {
    CURRENT.with_borrow(|current| match current {
        Some(budget) if bytes > budget.limit() => Err(too_large(bytes, budget.used(), budget.limit())),
        _ => Ok(()),
    })
}

fn too_large(bytes: usize, used: usize, limit: usize) -> Error {
    Error::too_large(format!("{bytes} bytes more than the {used} in use are over the limit of {limit} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, ErrorKind, Tensor};

    #[test]
    fn zeros_are_zeros_in_memory_that_was_used() {
        let budget = Budget::new(usize::MAX);
        let _entered = budget.enter();
        for round in 0..20 {
            let shape = [(100 << 10) + round * 999];
            assert!(
                Tensor::zeros(DType::U8, shape)
                    .expect("fits")
                    .as_slice::<u8>()
                    .expect("u8")
                    .iter()
                    .all(|b| *b == 0)
            );
            let full = Tensor::full(7u8, shape).expect("fits");
            assert_eq!((full.len(), budget.used()), (shape[0], shape[0]));
            assert_eq!(Tensor::for_writing::<u8>(shape).expect("fits").len(), shape[0]);
        }
        let large: Vec<Tensor> =
            (0..6).map(|_| Tensor::zeros(DType::U8, [40 << 20]).expect("fits")).collect();
        drop(large);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn large_pages_are_zeros_too() {
        for bytes in [0, 64, 3 << 20, (9 << 20) + 64] {
            let tensor = Tensor::zeros(DType::U8, [bytes]).expect("fits");
            assert!(tensor.as_slice::<u8>().expect("u8").iter().all(|b| *b == 0));
        }
    }

    #[test]
    fn a_budget_bounds_what_is_held_at_once() {
        let budget = Budget::new(1 << 20);
        let entered = budget.enter();
        let half = Tensor::zeros(DType::U8, [600 << 10]).expect("fits");
        assert_eq!(budget.used(), 600 << 10);
        let error = Tensor::zeros(DType::U8, [600 << 10]).expect_err("is over");
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        assert!(Tensor::zeros(DType::F32, [1 << 40]).is_err());
        let shared = half.clone();
        drop(half);
        assert_eq!(budget.used(), 600 << 10, "somebody still holds it");
        drop(shared);
        assert_eq!(budget.used(), 0);
        assert!(Tensor::zeros(DType::U8, [600 << 10]).is_ok());
        {
            let _free = Budget::leave();
            assert!(Tensor::zeros(DType::U8, [2 << 20]).is_ok());
        }
        assert!(Tensor::zeros(DType::U8, [2 << 20]).is_err());
        assert!(check(2 << 20).is_err() && check(1 << 10).is_ok());
        drop(entered);
        assert!(Tensor::zeros(DType::U8, [2 << 20]).is_ok());
    }
}
