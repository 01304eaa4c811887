//! Vectors of `float32` in registers, for loops that must not be left to the compiler's judgement.
#![allow(unsafe_code, reason = "vectors are loaded and stored by pointer; each function says what must hold")]

/// A register of [`Vector::LANES`] numbers.
///
/// # Safety
/// Every function needs a machine that has the instructions; [`dispatch`] sees to it. Pointers must be good for the elements
/// that the function's name speaks of; those that are loaded may lie at any address.
pub(super) unsafe trait Vector: Copy {
    const LANES: usize;
    /// How many registers wide a tile of a product is.
    const WIDE: usize;

    unsafe fn zero() -> Self;
    unsafe fn splat(x: f32) -> Self;
    unsafe fn load(from: *const f32) -> Self;
    unsafe fn store(self, to: *mut f32);
    /// The first `n` elements, zeros after; `n` is at most `LANES`.
    unsafe fn load_first(from: *const f32, n: usize) -> Self;
    /// Writes the first `n` elements; `n` is at most `LANES`.
    unsafe fn store_first(self, to: *mut f32, n: usize);
    /// As [`Vector::load`] where `n` is `LANES`, as [`Vector::load_first`] where it is less.
    #[inline(always)]
    unsafe fn load_some(from: *const f32, n: usize) -> Self {
        // SAFETY: as the caller says.
        unsafe { if n == Self::LANES { Self::load(from) } else { Self::load_first(from, n) } }
    }
    /// As [`Vector::store`] where `n` is `LANES`, as [`Vector::store_first`] where it is less.
    #[inline(always)]
    unsafe fn store_some(self, to: *mut f32, n: usize) {
        // SAFETY: as the caller says.
        unsafe { if n == Self::LANES { self.store(to) } else { self.store_first(to, n) } }
    }
    /// `self * b + c`.
    unsafe fn mul_add(self, b: Self, c: Self) -> Self;
    unsafe fn add(self, b: Self) -> Self;
    unsafe fn sub(self, b: Self) -> Self;
    unsafe fn mul(self, b: Self) -> Self;
    /// No less than `least` and no more than `most`; what isn't a number stays as it is.
    unsafe fn clamp(self, least: f32, most: f32) -> Self;
    /// Has the machine fetch what lies there, if it lies anywhere: any address will do.
    unsafe fn prefetch(from: *const f32);
}

/// Numbers one by one, on machines without known vectors; the compiler may make of it what it can.
#[derive(Clone, Copy)]
pub(super) struct Plain([f32; 4]);

// SAFETY: plain Rust, which every machine runs; pointers are read and written as the trait allows.
unsafe impl Vector for Plain {
    const LANES: usize = 4;
    const WIDE: usize = 2;

    #[inline(always)]
    unsafe fn zero() -> Self {
        Plain([0.0; 4])
    }

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Plain([x; 4])
    }

    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        // SAFETY: the caller has four elements there.
        Plain(unsafe { from.cast::<[f32; 4]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        // SAFETY: the caller has room for four elements there.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(self.0) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const f32, n: usize) -> Self {
        let mut v = [0.0; 4];
        for (i, v) in v.iter_mut().enumerate().take(n) {
            // SAFETY: the caller has `n` elements there.
            *v = unsafe { from.add(i).read_unaligned() };
        }
        Plain(v)
    }

    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, n: usize) {
        for (i, v) in self.0.iter().enumerate().take(n) {
            // SAFETY: the caller has room for `n` elements there.
            unsafe { *to.add(i) = *v }
        }
    }

    #[inline(always)]
    unsafe fn mul_add(self, b: Self, c: Self) -> Self {
        Plain(std::array::from_fn(|i| {
            if cfg!(target_arch = "aarch64") {
                self.0[i].mul_add(b.0[i], c.0[i])
            } else {
                self.0[i] * b.0[i] + c.0[i]
            }
        }))
    }

    #[inline(always)]
    unsafe fn add(self, b: Self) -> Self {
        Plain(std::array::from_fn(|i| self.0[i] + b.0[i]))
    }

    #[inline(always)]
    unsafe fn sub(self, b: Self) -> Self {
        Plain(std::array::from_fn(|i| self.0[i] - b.0[i]))
    }

    #[inline(always)]
    unsafe fn mul(self, b: Self) -> Self {
        Plain(std::array::from_fn(|i| self.0[i] * b.0[i]))
    }

    #[inline(always)]
    unsafe fn clamp(self, least: f32, most: f32) -> Self {
        Plain(self.0.map(|v| {
            let v = if v < least { least } else { v };
            if v > most { most } else { v }
        }))
    }

    #[inline(always)]
    unsafe fn prefetch(_: *const f32) {}
}

#[cfg(target_arch = "x86_64")]
pub(super) mod x86 {
    use std::arch::x86_64::*;

    use super::Vector;

    /// AVX2 with FMA.
    #[derive(Clone, Copy)]
    pub(crate) struct Eight(__m256);

    // SAFETY: every call is one instruction of AVX2 or FMA, which the caller has found, or plain Rust.
    unsafe impl Vector for Eight {
        const LANES: usize = 8;
        const WIDE: usize = 2;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: as the trait says; so below.
            Eight(unsafe { _mm256_setzero_ps() })
        }

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: as the trait says.
            Eight(unsafe { _mm256_set1_ps(x) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as the trait says.
            Eight(unsafe { _mm256_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as the trait says.
            unsafe { _mm256_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f32, n: usize) -> Self {
            let mut v = [0.0; 8];
            for (i, v) in v.iter_mut().enumerate().take(n) {
                // SAFETY: the caller has `n` elements there.
                *v = unsafe { from.add(i).read_unaligned() };
            }
            // SAFETY: eight elements.
            unsafe { Self::load(v.as_ptr()) }
        }

        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, n: usize) {
            let mut v = [0.0; 8];
            // SAFETY: eight elements.
            unsafe { self.store(v.as_mut_ptr()) }
            for (i, v) in v.iter().enumerate().take(n) {
                // SAFETY: the caller has room for `n` elements there.
                unsafe { *to.add(i) = *v }
            }
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: as the trait says.
            Eight(unsafe { _mm256_fmadd_ps(self.0, b.0, c.0) })
        }

        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: as the trait says.
            Eight(unsafe { _mm256_add_ps(self.0, b.0) })
        }

        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            // SAFETY: as the trait says.
            Eight(unsafe { _mm256_sub_ps(self.0, b.0) })
        }

        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            // SAFETY: as the trait says.
            Eight(unsafe { _mm256_mul_ps(self.0, b.0) })
        }

        #[inline(always)]
        unsafe fn clamp(self, least: f32, most: f32) -> Self {
            // SAFETY: as the trait says. Both instructions give their second operand when either isn't a number.
            Eight(unsafe {
                let v = _mm256_max_ps(_mm256_set1_ps(least), self.0);
                _mm256_min_ps(_mm256_set1_ps(most), v)
            })
        }

        #[inline(always)]
        unsafe fn prefetch(from: *const f32) {
            // SAFETY: a hint, which touches nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
        }
    }

    /// AVX-512.
    #[derive(Clone, Copy)]
    pub(crate) struct Sixteen(__m512);

    // SAFETY: every call is one instruction of AVX-512, which the caller has found.
    unsafe impl Vector for Sixteen {
        const LANES: usize = 16;
        const WIDE: usize = 4;

        #[inline(always)]
        unsafe fn zero() -> Self {
            // SAFETY: as the trait says; so below.
            Sixteen(unsafe { _mm512_setzero_ps() })
        }

        #[inline(always)]
        unsafe fn splat(x: f32) -> Self {
            // SAFETY: as the trait says.
            Sixteen(unsafe { _mm512_set1_ps(x) })
        }

        #[inline(always)]
        unsafe fn load(from: *const f32) -> Self {
            // SAFETY: as the trait says.
            Sixteen(unsafe { _mm512_loadu_ps(from) })
        }

        #[inline(always)]
        unsafe fn store(self, to: *mut f32) {
            // SAFETY: as the trait says.
            unsafe { _mm512_storeu_ps(to, self.0) }
        }

        #[inline(always)]
        unsafe fn load_first(from: *const f32, n: usize) -> Self {
            // SAFETY: elements that the mask leaves out aren't touched.
            Sixteen(unsafe { _mm512_maskz_loadu_ps(mask(n), from) })
        }

        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, n: usize) {
            // SAFETY: elements that the mask leaves out aren't touched.
            unsafe { _mm512_mask_storeu_ps(to, mask(n), self.0) }
        }

        #[inline(always)]
        unsafe fn mul_add(self, b: Self, c: Self) -> Self {
            // SAFETY: as the trait says.
            Sixteen(unsafe { _mm512_fmadd_ps(self.0, b.0, c.0) })
        }

        #[inline(always)]
        unsafe fn add(self, b: Self) -> Self {
            // SAFETY: as the trait says.
            Sixteen(unsafe { _mm512_add_ps(self.0, b.0) })
        }

        #[inline(always)]
        unsafe fn sub(self, b: Self) -> Self {
            // SAFETY: as the trait says.
            Sixteen(unsafe { _mm512_sub_ps(self.0, b.0) })
        }

        #[inline(always)]
        unsafe fn mul(self, b: Self) -> Self {
            // SAFETY: as the trait says.
            Sixteen(unsafe { _mm512_mul_ps(self.0, b.0) })
        }

        #[inline(always)]
        unsafe fn clamp(self, least: f32, most: f32) -> Self {
            // SAFETY: as the trait says. Both instructions give their second operand when either isn't a number.
            Sixteen(unsafe {
                let v = _mm512_max_ps(_mm512_set1_ps(least), self.0);
                _mm512_min_ps(_mm512_set1_ps(most), v)
            })
        }

        #[inline(always)]
        unsafe fn prefetch(from: *const f32) {
            // SAFETY: a hint, which touches nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(from.cast()) }
        }
    }

    /// The first `n` of sixteen.
    #[inline(always)]
    fn mask(n: usize) -> u16 {
        ((1u32 << n.min(16)) - 1) as u16
    }
}

/// Something to be done with whatever vectors this machine has.
pub(super) trait Task {
    /// Does it.
    ///
    /// # Safety
    /// The machine has `V`'s instructions.
    unsafe fn run<V: Vector>(self);
}

/// Runs a task, compiled for the widest vectors there are.
#[inline(always)]
pub(super) fn dispatch(task: impl Task) {
    #[cfg(target_arch = "x86_64")]
    {
        if crate::kernels::simd::wide() {
            // SAFETY: the machine was found to have what the function is compiled with.
            return unsafe { sixteen(task) };
        }
        if crate::kernels::simd::middle() {
            // SAFETY: the machine was found to have what the function is compiled with.
            return unsafe { eight(task) };
        }
    }
    // SAFETY: plain Rust needs nothing.
    unsafe { task.run::<Plain>() }
}

/// The lanes of a register that [`dispatch`] will take, and how many registers wide a panel of weights is.
pub(super) fn lanes() -> (usize, usize) {
    #[cfg(target_arch = "x86_64")]
    {
        if crate::kernels::simd::wide() {
            return (x86::Sixteen::LANES, x86::Sixteen::WIDE);
        }
        if crate::kernels::simd::middle() {
            return (x86::Eight::LANES, x86::Eight::WIDE);
        }
    }
    (Plain::LANES, Plain::WIDE)
}

// SAFETY: callers have found these parts of AVX-512, AVX2 and FMA on this machine.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
unsafe fn sixteen(task: impl Task) {
    // SAFETY: the features above are what `Sixteen` needs.
    unsafe { task.run::<x86::Sixteen>() }
}

// SAFETY: callers have found AVX2 and FMA on this machine.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn eight(task: impl Task) {
    // SAFETY: the features above are what `Eight` needs.
    unsafe { task.run::<x86::Eight>() }
}
