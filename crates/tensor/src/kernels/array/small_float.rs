//! Floats of 4 and 8 bits, to and from `f32`.

use crate::DType;

/// How a small float spends its bits.
#[derive(Clone, Copy)]
pub(super) struct Format {
    exponent_bits: u32,
    mantissa_bits: u32,
    bias: i32,
    special: Special,
}

/// What a format can say beside numbers.
#[derive(Clone, Copy, PartialEq)]
enum Special {
    /// The highest exponent is for infinity and NaN, as in IEEE 754.
    Ieee,
    /// All ones is NaN; there is no infinity.
    AllOnes,
    /// What would be negative zero is NaN; there is no infinity.
    NegativeZero,
    /// Nothing: overflow gives the greatest number.
    Nothing,
}

impl Format {
    /// The format of a dtype, if it is a small float.
    pub(super) fn of(dtype: DType) -> Option<Format> {
        let (exponent_bits, mantissa_bits, bias, special) = match dtype {
            DType::F8E5M2 => (5, 2, 15, Special::Ieee),
            DType::F8E4M3FN => (4, 3, 7, Special::AllOnes),
            DType::F8E4M3FNUZ => (4, 3, 8, Special::NegativeZero),
            DType::F8E4M3B11FNUZ => (4, 3, 11, Special::NegativeZero),
            DType::F8E5M2FNUZ => (5, 2, 16, Special::NegativeZero),
            DType::F4E2M1FN => (2, 1, 1, Special::Nothing),
            _ => return None,
        };
        Some(Format { exponent_bits, mantissa_bits, bias, special })
    }

    fn sign_bit(self) -> u8 {
        1 << (self.exponent_bits + self.mantissa_bits)
    }

    /// The code that is NaN, sign aside, or the one that stands for it.
    fn nan(self) -> u8 {
        match self.special {
            // The quiet one: the mantissa's highest bit.
            Special::Ieee => (self.sign_bit() - 1) & !((1 << (self.mantissa_bits - 1)) - 1),
            Special::AllOnes => self.sign_bit() - 1,
            Special::NegativeZero => self.sign_bit(),
            // Having no NaN, it becomes negative zero.
            Special::Nothing => self.sign_bit(),
        }
    }

    /// The greatest finite code.
    fn greatest(self) -> u8 {
        match self.special {
            Special::Ieee => self.infinity() - 1,
            Special::AllOnes => self.sign_bit() - 2,
            Special::NegativeZero | Special::Nothing => self.sign_bit() - 1,
        }
    }

    /// The code of infinity, for formats that have one.
    fn infinity(self) -> u8 {
        (self.sign_bit() - 1) & !((1 << self.mantissa_bits) - 1)
    }

    /// The number that a code stands for.
    pub(super) fn decode(self, code: u8) -> f32 {
        let negative = code & self.sign_bit() != 0;
        let rest = code & (self.sign_bit() - 1);
        let exponent = i32::from(rest >> self.mantissa_bits);
        let mantissa = f32::from(rest & ((1 << self.mantissa_bits) - 1));
        let is_nan = match self.special {
            Special::Ieee => rest > self.infinity(),
            Special::AllOnes => rest == self.nan(),
            Special::NegativeZero => code == self.nan(),
            Special::Nothing => false,
        };
        let steps = (1 << self.mantissa_bits) as f32;
        let value = if is_nan {
            f32::NAN
        } else if self.special == Special::Ieee && rest == self.infinity() {
            f32::INFINITY
        } else if exponent == 0 {
            mantissa / steps * 2f32.powi(1 - self.bias)
        } else {
            (1.0 + mantissa / steps) * 2f32.powi(exponent - self.bias)
        };
        if negative && !is_nan { -value } else { value }
    }

    /// The code nearest to a number, halves to the even one; what is too large becomes infinity or NaN.
    pub(super) fn encode(self, value: f32) -> u8 {
        let sign = if value.is_sign_negative() { self.sign_bit() } else { 0 };
        if value.is_nan() {
            return if self.special == Special::NegativeZero { self.nan() } else { self.nan() | sign };
        }
        let magnitude = f64::from(value.abs());
        // The unit of the last place at this magnitude, then a whole number of units.
        let lowest = 1 - self.bias;
        let exponent = if magnitude == 0.0 { lowest } else { (exponent_of(magnitude)).max(lowest) };
        let units = (magnitude * 2f64.powi(self.mantissa_bits as i32 - exponent)).round_ties_even();
        // Units of a normal number include the leading one, which carries into the exponent's field by itself.
        let code = if units.is_finite() {
            f64::from(exponent - lowest) * f64::from(1u32 << self.mantissa_bits) + units
        } else {
            f64::INFINITY
        };
        if code > f64::from(self.greatest()) {
            return match self.special {
                Special::Ieee => self.infinity() | sign,
                Special::AllOnes => self.nan() | sign,
                Special::NegativeZero => self.nan(),
                Special::Nothing => self.greatest() | sign,
            };
        }
        let code = code as u8;
        if code == 0 && self.special == Special::NegativeZero { 0 } else { code | sign }
    }
}

/// The power of two at or under a positive number that was an `f32` (or infinity).
fn exponent_of(magnitude: f64) -> i32 {
    ((magnitude.to_bits() >> 52) & 0x7ff) as i32 - 1023
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back() {
        for &dtype in DType::ALL {
            let Some(format) = Format::of(dtype) else { continue };
            let codes = if dtype == DType::F4E2M1FN { 16 } else { 256 };
            for code in 0..codes {
                let value = format.decode(code as u8);
                let back = format.encode(value);
                if value.is_nan() {
                    assert!(format.decode(back).is_nan(), "{dtype} {code}");
                } else {
                    assert_eq!(i32::from(back), code, "{dtype} {value}");
                }
            }
        }
    }

    #[test]
    fn known_numbers() {
        let of = |d| Format::of(d).expect("small float");
        assert_eq!(of(DType::F8E4M3FN).decode(0x7e), 448.0);
        assert_eq!(of(DType::F8E5M2).decode(0x7b), 57344.0);
        assert_eq!(of(DType::F8E4M3B11FNUZ).decode(0x7f), 30.0);
        assert_eq!(of(DType::F8E4M3FNUZ).decode(0x7f), 240.0);
        assert_eq!(of(DType::F8E5M2FNUZ).decode(0x7f), 57344.0);
        assert_eq!(of(DType::F4E2M1FN).decode(0x7), 6.0);
        assert_eq!(of(DType::F8E4M3FN).encode(464.0), 0x7e, "half way goes to the even code");
        assert_eq!(of(DType::F8E4M3FN).encode(465.0), 0x7f);
        assert_eq!(of(DType::F8E5M2).encode(1e9), 0x7c);
        assert_eq!(of(DType::F8E5M2).encode(f32::NEG_INFINITY), 0xfc);
        assert_eq!(of(DType::F8E4M3FNUZ).encode(-0.0), 0);
    }
}
