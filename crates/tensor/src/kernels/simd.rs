//! Run-time choice of the instruction set: generic code, compiled once per set.
//!
//! [`run`] takes a closure and calls it from a function that is compiled with wider vectors, so that what is
//! inlined into it is vectorised for that set. Mark the closure, and what it calls, `#[inline(always)]`.
#![allow(
    unsafe_code,
    reason = "functions compiled for an instruction set are unsafe to call; detection precedes"
)]

/// What the code being compiled may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Isa {
    fma: bool,
}

impl Isa {
    /// What every machine of the target architecture has.
    pub(crate) const BASE: Isa = Isa { fma: cfg!(any(target_arch = "aarch64", target_feature = "fma")) };

    /// `a * b + c`, fused where that is one instruction (elsewhere it would be a slow call).
    #[inline(always)]
    pub(crate) fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        if self.fma { a.mul_add(b, c) } else { a * b + c }
    }

    /// A polynomial in `x`, coefficients from the highest power down.
    #[inline(always)]
    pub(crate) fn poly<const N: usize>(self, x: f32, coefficients: [f32; N]) -> f32 {
        let mut y = coefficients[0];
        for &c in &coefficients[1..] {
            y = self.mul_add(y, x, c);
        }
        y
    }
}

/// Calls `f`, compiled for the widest vectors this machine has.
#[inline(always)]
pub(crate) fn run<R>(f: impl FnOnce(Isa) -> R) -> R {
    #[cfg(target_arch = "x86_64")]
    {
        if wide() {
            // SAFETY: the machine was found to have every feature that `x86::v4` is compiled with.
            return unsafe { x86::v4(f) };
        }
        if middle() {
            // SAFETY: the machine was found to have every feature that `x86::v3` is compiled with.
            return unsafe { x86::v3(f) };
        }
    }
    f(Isa::BASE)
}

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{middle, wide};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Isa;

    #[inline(always)]
    pub(crate) fn middle() -> bool {
        is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
    }

    #[inline(always)]
    pub(crate) fn wide() -> bool {
        is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && middle()
    }

    // SAFETY: callers have found AVX2 and FMA on this machine.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn v3<R>(f: impl FnOnce(Isa) -> R) -> R {
        f(Isa { fma: true })
    }

    // SAFETY: callers have found these parts of AVX-512, AVX2 and FMA on this machine.
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,avx2,fma")]
    pub(super) unsafe fn v4<R>(f: impl FnOnce(Isa) -> R) -> R {
        f(Isa { fma: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polynomial_is_evaluated_from_the_highest_power() {
        let y = run(
            #[inline(always)]
            |isa| isa.poly(2.0, [3.0, 5.0, 7.0]),
        );
        assert_eq!(y, 29.0);
        assert_eq!(Isa::BASE.poly(2.0, [3.0, 5.0, 7.0]), 29.0);
    }
}
