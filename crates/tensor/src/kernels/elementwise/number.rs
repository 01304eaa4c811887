//! What arithmetic needs from a number: integers wrap, floats and complex numbers follow IEEE.

use num_complex::{Complex32, Complex64};

use crate::Element;

/// A number that a tensor can be computed with.
pub(crate) trait Number: Element + Default {
    const ZERO: Self;
    const ONE: Self;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    fn negative(self) -> Self;
    /// The squared magnitude of a complex number, the square of any other.
    fn squared_norm(self) -> Self;
}

/// A number on a line.
pub(crate) trait Real: Number + PartialOrd {
    /// The least value there is: negative infinity for floats.
    const LEAST: Self;
    /// The greatest value there is: infinity for floats.
    const GREATEST: Self;
    fn magnitude(self) -> Self;
    fn signum(self) -> Self;
    fn is_not_a_number(self) -> bool;
    /// The quotient rounded down; `other` isn't an integer zero.
    fn floor_div(self, other: Self) -> Self;
    /// The remainder with `other`'s sign; `other` isn't an integer zero.
    fn floor_mod(self, other: Self) -> Self;
    /// The remainder with this number's sign; `other` isn't an integer zero.
    fn truncated_mod(self, other: Self) -> Self;
    /// The quotient, rounded towards zero for integers; `other` isn't an integer zero.
    fn quotient(self, other: Self) -> Self;

    /// The greater one; not-a-number if either is.
    #[inline(always)]
    fn greater(self, other: Self) -> Self {
        // Without short cuts, so that it vectorises.
        if self.is_not_a_number() | (self > other) { self } else { other }
    }

    /// The lesser one; not-a-number if either is.
    #[inline(always)]
    fn lesser(self, other: Self) -> Self {
        if self.is_not_a_number() | (self < other) { self } else { other }
    }
}

/// A whole number.
pub(crate) trait Integer: Real + Eq + Ord {
    fn power(self, exponent: Self) -> Self;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    fn not(self) -> Self;
    fn left(self, by: Self) -> Self;
    fn right(self, by: Self) -> Self;
}

macro_rules! floats {
    ($($t:ty),*) => { $(
        impl Number for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            #[inline(always)]
            fn plus(self, other: Self) -> Self { self + other }
            #[inline(always)]
            fn minus(self, other: Self) -> Self { self - other }
            #[inline(always)]
            fn times(self, other: Self) -> Self { self * other }
            #[inline(always)]
            fn negative(self) -> Self { -self }
            #[inline(always)]
            fn squared_norm(self) -> Self { self * self }
        }

        impl Real for $t {
            const LEAST: Self = <$t>::NEG_INFINITY;
            const GREATEST: Self = <$t>::INFINITY;
            #[inline(always)]
            fn magnitude(self) -> Self { self.abs() }
            #[inline(always)]
            fn signum(self) -> Self {
                if self > 0.0 { 1.0 } else if self < 0.0 { -1.0 } else { self }
            }
            #[inline(always)]
            fn is_not_a_number(self) -> bool { self.is_nan() }
            #[inline(always)]
            fn floor_div(self, other: Self) -> Self { (self / other).floor() }
            #[inline(always)]
            fn floor_mod(self, other: Self) -> Self {
                let m = self % other;
                if m != 0.0 && (m < 0.0) != (other < 0.0) { m + other } else { m }
            }
            #[inline(always)]
            fn truncated_mod(self, other: Self) -> Self { self % other }
            #[inline(always)]
            fn quotient(self, other: Self) -> Self { self / other }
        }
    )* };
}

floats!(f32, f64);

macro_rules! integers {
    ($($t:ty, $magnitude:expr, $signum:expr;)*) => { $(
        impl Number for $t {
            const ZERO: Self = 0;
            const ONE: Self = 1;
            #[inline(always)]
            fn plus(self, other: Self) -> Self { self.wrapping_add(other) }
            #[inline(always)]
            fn minus(self, other: Self) -> Self { self.wrapping_sub(other) }
            #[inline(always)]
            fn times(self, other: Self) -> Self { self.wrapping_mul(other) }
            #[inline(always)]
            fn negative(self) -> Self { self.wrapping_neg() }
            #[inline(always)]
            fn squared_norm(self) -> Self { self.wrapping_mul(self) }
        }

        impl Real for $t {
            const LEAST: Self = <$t>::MIN;
            const GREATEST: Self = <$t>::MAX;
            #[inline(always)]
            fn magnitude(self) -> Self { $magnitude(self) }
            #[inline(always)]
            fn signum(self) -> Self { $signum(self) }
            #[inline(always)]
            fn is_not_a_number(self) -> bool { false }
            #[inline(always)]
            fn floor_div(self, other: Self) -> Self {
                let (q, r) = (self.wrapping_div(other), self.wrapping_rem(other));
                #[allow(unused_comparisons, reason = "the same text serves unsigned numbers")]
                if r != 0 && (r < 0) != (other < 0) { q.wrapping_sub(1) } else { q }
            }
            #[inline(always)]
            fn floor_mod(self, other: Self) -> Self {
                let r = self.wrapping_rem(other);
                #[allow(unused_comparisons, reason = "the same text serves unsigned numbers")]
                if r != 0 && (r < 0) != (other < 0) { r.wrapping_add(other) } else { r }
            }
            #[inline(always)]
            fn truncated_mod(self, other: Self) -> Self { self.wrapping_rem(other) }
            #[inline(always)]
            fn quotient(self, other: Self) -> Self { self.wrapping_div(other) }
        }

        impl Integer for $t {
            #[inline(always)]
            fn power(self, exponent: Self) -> Self {
                let (mut base, mut left, mut product) = (self, exponent, 1 as $t);
                while left > 0 {
                    if left & 1 == 1 {
                        product = product.wrapping_mul(base);
                    }
                    base = base.wrapping_mul(base);
                    left >>= 1;
                }
                product
            }
            #[inline(always)]
            fn and(self, other: Self) -> Self { self & other }
            #[inline(always)]
            fn or(self, other: Self) -> Self { self | other }
            #[inline(always)]
            fn xor(self, other: Self) -> Self { self ^ other }
            #[inline(always)]
            fn not(self) -> Self { !self }
            #[inline(always)]
            fn left(self, by: Self) -> Self { self << shift(by as i128, <$t>::BITS) }
            #[inline(always)]
            fn right(self, by: Self) -> Self { self >> shift(by as i128, <$t>::BITS) }
        }
    )* };
}

/// A shift's width, kept between 0 and all bits but one as TensorFlow does.
#[inline(always)]
fn shift(by: i128, bits: u32) -> u32 {
    by.clamp(0, i128::from(bits) - 1) as u32
}

fn itself<T>(x: T) -> T {
    x
}

fn positive<T: Number + PartialOrd>(x: T) -> T {
    if x > T::ZERO { T::ONE } else { T::ZERO }
}

integers! {
    i8, i8::wrapping_abs, i8::signum;
    i16, i16::wrapping_abs, i16::signum;
    i32, i32::wrapping_abs, i32::signum;
    i64, i64::wrapping_abs, i64::signum;
    u8, itself, positive;
    u16, itself, positive;
    u32, itself, positive;
    u64, itself, positive;
}

macro_rules! complex {
    ($($t:ty, $zero:literal, $one:literal;)*) => { $(
        impl Number for $t {
            const ZERO: Self = Self { re: $zero, im: $zero };
            const ONE: Self = Self { re: $one, im: $zero };
            #[inline(always)]
            fn plus(self, other: Self) -> Self { self + other }
            #[inline(always)]
            fn minus(self, other: Self) -> Self { self - other }
            #[inline(always)]
            fn times(self, other: Self) -> Self { self * other }
            #[inline(always)]
            fn negative(self) -> Self { -self }
            #[inline(always)]
            fn squared_norm(self) -> Self { Self { re: self.norm_sqr(), im: $zero } }
        }
    )* };
}

complex! { Complex32, 0.0, 1.0; Complex64, 0.0, 1.0; }
