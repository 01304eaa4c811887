//! When work is worth sharing between threads, and how it is cut.
#![allow(unsafe_code, reason = "each thread writes a part of its own of one slice")]

use std::ops::Range;

use super::team;

/// Element-operations under which starting threads costs more than it saves.
pub(crate) const THRESHOLD: usize = 32 * 1024;

/// Whether work of so many element-operations should be shared.
pub(crate) fn worth(operations: usize) -> bool {
    operations >= THRESHOLD && rayon::current_num_threads() > 1
}

/// Calls `f(start, part)` for consecutive parts of `out` that cover it, on several threads when worth it.
///
/// `cost` is the element-operations that one element of `out` takes; parts are whole multiples of `unit` long.
pub(crate) fn for_parts<T: Send>(
    out: &mut [T],
    unit: usize,
    cost: usize,
    f: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    if out.is_empty() {
        return;
    }
    if !worth(out.len().saturating_mul(cost)) {
        return f(0, out);
    }
    let unit = unit.max(1);
    // A few parts a thread evens out what threads get; no part so small that handing it out would show.
    let wanted = out.len().div_ceil(rayon::current_num_threads() * 4);
    let part = wanted.max(THRESHOLD / 4 / cost.max(1)).div_ceil(unit).saturating_mul(unit).max(1);
    shared(out, part, &f);
}

/// Calls `f` for consecutive ranges that cover `0..count`, on several threads when worth it; `cost` is the
/// element-operations that each takes.
pub(crate) fn for_ranges(count: usize, cost: usize, f: impl Fn(Range<usize>) + Sync + Send) {
    if !worth(count.saturating_mul(cost)) {
        return f(0..count);
    }
    let part = count.div_ceil(rayon::current_num_threads() * 4).max(THRESHOLD / 4 / cost.max(1)).max(1);
    team::each(count.div_ceil(part), &|i| f(i * part..(i * part + part).min(count)));
}

/// A pointer that threads may share.
struct Shared<T>(*mut T);

// SAFETY: `shared` gives each thread parts of its own.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The part from `start` on.
    ///
    /// # Safety
    /// It lies within what the pointer was made of, and nobody else has any of it.
    #[allow(clippy::mut_from_ref, reason = "parts are handed out once each")]
    unsafe fn part(&self, start: usize, len: usize) -> &mut [T] {
        // SAFETY: as the caller says.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(start), len) }
    }
}

/// Behind a pointer, so that the machinery of threads is compiled once an element type, not once a kernel.
fn shared<T: Send>(out: &mut [T], part: usize, f: &(dyn Fn(usize, &mut [T]) + Sync)) {
    let len = out.len();
    let all = Shared(out.as_mut_ptr());
    team::each(len.div_ceil(part), &|i| {
        let start = i * part;
        // SAFETY: each index comes once, and parts of different indices don't overlap.
        f(start, unsafe { all.part(start, part.min(len - start)) });
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once() {
        for n in [0, 1, 7, 100, THRESHOLD, THRESHOLD * 3 + 21] {
            let mut out = vec![0usize; n];
            for_parts(&mut out, 7, 1, |start, part| {
                assert_eq!(start % 7, 0);
                part.iter_mut().enumerate().for_each(|(i, o)| *o += start + i + 1);
            });
            assert!(out.iter().enumerate().all(|(i, &v)| v == i + 1));
        }
    }
}
