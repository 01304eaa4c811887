//! Rust types that can be a tensor's elements.

use std::fmt;

use half::{bf16, f16};
use num_complex::{Complex32, Complex64};

use crate::DType;

/// A Rust type that a tensor's elements can be viewed as: plain bytes with one [`DType`].
pub trait Element: bytemuck::Pod + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The dtype whose elements this is.
    const DTYPE: DType;
}

/// A boolean of one byte that stays sound whatever byte a file holds: zero is false, all else is true.
#[derive(Clone, Copy, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub struct Bool(u8);

impl Bool {
    /// `false`.
    pub const FALSE: Bool = Bool(0);
    /// `true`.
    pub const TRUE: Bool = Bool(1);

    /// As Rust's `bool`.
    pub const fn get(self) -> bool {
        self.0 != 0
    }
}

impl From<bool> for Bool {
    fn from(b: bool) -> Self {
        Bool(b as u8)
    }
}

impl From<Bool> for bool {
    fn from(b: Bool) -> Self {
        b.get()
    }
}

impl PartialEq for Bool {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl Eq for Bool {}

impl fmt::Debug for Bool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

macro_rules! elements {
    ($($t:ty => $d:ident,)*) => { $(impl Element for $t { const DTYPE: DType = DType::$d; })* };
}

elements! {
    f32 => F32, f64 => F64, f16 => F16, bf16 => BF16,
    i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64,
    Bool => Bool, Complex32 => C64, Complex64 => C128,
}

/// Runs a generic body with `$T` bound to the Rust type of a dtype, or another body for all other dtypes.
///
/// Groups: `numeric` (floats, integers, complex), `real` (floats, integers), `float` (`f16`, `bf16`, `f32`, `f64`),
/// `float_complex` (floats and complex), `integer`, `pod` (all of them and `bool`), `wide_float` (`f32`, `f64`).
/// Without half precision: `native` (`numeric`), `native_real` (`real`), `native_float` (`float_complex`).
///
/// ```
/// use modelark_tensor::{DType, dispatch};
/// let width = dispatch!(real DType::I16, T => std::mem::size_of::<T>(), else => 0);
/// assert_eq!(width, 2);
/// ```
#[macro_export]
macro_rules! dispatch {
    (@arms $d:expr, $T:ident, $body:expr, $other:expr, [$($v:ident: $t:ty,)*]) => {
        match $d {
            $($crate::DType::$v => { type $T = $t; $body })*
            _ => $other,
        }
    };
    (wide_float $d:expr, $T:ident => $body:expr, else => $other:expr) => {
        $crate::dispatch!(@arms $d, $T, $body, $other, [F32: f32, F64: f64,])
    };
    (native $d:expr, $T:ident => $body:expr, else => $other:expr) => {
        $crate::dispatch!(@arms $d, $T, $body, $other,
            [F32: f32, F64: f64,
             I8: i8, I16: i16, I32: i32, I64: i64, U8: u8, U16: u16, U32: u32, U64: u64,
             C64: $crate::Complex32, C128: $crate::Complex64,])
    };
    (native_real $d:expr, $T:ident => $body:expr, else => $other:expr) => {
        $crate::dispatch!(@arms $d, $T, $body, $other,
            [F32: f32, F64: f64,
             I8: i8, I16: i16, I32: i32, I64: i64, U8: u8, U16: u16, U32: u32, U64: u64,])
    };
    (native_float $d:expr, $T:ident => $body:expr, else => $other:expr) => {
        $crate::dispatch!(@arms $d, $T, $body, $other,
            [F32: f32, F64: f64, C64: $crate::Complex32, C128: $crate::Complex64,])
    };
    (float $d:expr, $T:ident => $body:expr, else => $other:expr) => {
        $crate::dispatch!(@arms $d, $T, $body, $other,
            [F32: f32, F64: f64, F16: $crate::f16, BF16: $crate::bf16,])
    };
    (float_complex $d:expr, $T:ident => $body:expr, else => $other:expr) => {
        $crate::dispatch!(@arms $d, $T, $body, $other,
            [F32: f32, F64: f64, F16: $crate::f16, BF16: $crate::bf16, C64: $crate::Complex32, C128: $crate::Complex64,])
    };
    (integer $d:expr, $T:ident => $body:expr, else => $other:expr) => {
        $crate::dispatch!(@arms $d, $T, $body, $other,
            [I8: i8, I16: i16, I32: i32, I64: i64, U8: u8, U16: u16, U32: u32, U64: u64,])
    };
    (real $d:expr, $T:ident => $body:expr, else => $other:expr) => {
        $crate::dispatch!(@arms $d, $T, $body, $other,
            [F32: f32, F64: f64, F16: $crate::f16, BF16: $crate::bf16,
             I8: i8, I16: i16, I32: i32, I64: i64, U8: u8, U16: u16, U32: u32, U64: u64,])
    };
    (numeric $d:expr, $T:ident => $body:expr, else => $other:expr) => {
        $crate::dispatch!(@arms $d, $T, $body, $other,
            [F32: f32, F64: f64, F16: $crate::f16, BF16: $crate::bf16,
             I8: i8, I16: i16, I32: i32, I64: i64, U8: u8, U16: u16, U32: u32, U64: u64,
             C64: $crate::Complex32, C128: $crate::Complex64,])
    };
    (pod $d:expr, $T:ident => $body:expr, else => $other:expr) => {
        $crate::dispatch!(@arms $d, $T, $body, $other,
            [F32: f32, F64: f64, F16: $crate::f16, BF16: $crate::bf16,
             I8: i8, I16: i16, I32: i32, I64: i64, U8: u8, U16: u16, U32: u32, U64: u64,
             C64: $crate::Complex32, C128: $crate::Complex64, Bool: $crate::Bool,])
    };
}
