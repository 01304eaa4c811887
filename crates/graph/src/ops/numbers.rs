//! Numbers as text, and text as numbers, the way C's library writes and reads them.

use super::Op;
use super::NodeAttrs;
use super::args::{map1, one, tensors};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::array;
use crate::tensor::{self, Bool, Complex32, Complex64, DType, Tensor, dispatch};
use crate::{Error, Result};

/// The numbers that texts say, as a tensor of `dtype`.
pub(super) fn parse<'a>(
    texts: impl Iterator<Item = &'a [u8]>,
    dtype: DType,
    shape: &[usize],
) -> Result<Tensor> {
    fn all<'a, T: tensor::Element>(
        texts: impl Iterator<Item = &'a [u8]>,
        shape: &[usize],
        read: fn(&str) -> Option<T>,
    ) -> Result<Tensor> {
        let number = |bytes: &[u8]| {
            let read = std::str::from_utf8(bytes).ok().and_then(|t| read(t.trim_ascii()));
            read.ok_or_else(|| {
                Error::compute(format!("{:?} isn't a number of {}", String::from_utf8_lossy(bytes), T::DTYPE))
            })
        };
        Ok(Tensor::from_vec(texts.map(number).collect::<Result<Vec<T>>>()?, shape)?)
    }
    match dtype {
        DType::F32 => all(texts, shape, |t| t.parse::<f32>().ok().or_else(|| hexadecimal(t).map(|v| v as f32))),
        DType::F64 => all(texts, shape, |t| t.parse::<f64>().ok().or_else(|| hexadecimal(t))),
        DType::I32 => all(texts, shape, |t| t.parse::<i32>().ok()),
        DType::I64 => all(texts, shape, |t| t.parse::<i64>().ok()),
        DType::U32 => all(texts, shape, |t| t.parse::<u32>().ok()),
        DType::U64 => all(texts, shape, |t| t.parse::<u64>().ok()),
        other => Err(Error::unsupported(format!("numbers of {other} from text"))),
    }
}

/// A whole hexadecimal number, which C reads as a float too.
fn hexadecimal(text: &str) -> Option<f64> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |t| (true, t));
    let digits = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"))?;
    let value = u64::from_str_radix(digits, 16).ok()? as f64;
    Some(if negative { -value } else { value })
}

/// A float in the shorter of its two ways, without zeros at its end: C's `%.{precision}g`.
pub(super) fn general(v: f64, precision: usize) -> String {
    if !v.is_finite() {
        return special(v);
    }
    let precision = precision.max(1);
    let (mantissa, exponent) = scientific_parts(v, precision - 1);
    let stripped = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= precision as i32 {
        return format!("{}e{}", stripped(&mantissa), signed(exponent));
    }
    stripped(&format!("{v:.*}", (precision as i32 - 1 - exponent).max(0) as usize))
}

fn special(v: f64) -> String {
    if v.is_nan() { "nan" } else if v > 0.0 { "inf" } else { "-inf" }.to_owned()
}

fn scientific_parts(v: f64, decimals: usize) -> (String, i32) {
    let text = format!("{v:.decimals$e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    (mantissa.to_owned(), exponent.parse().unwrap_or_default())
}

/// An exponent as C writes it: a sign and at least two digits.
fn signed(exponent: i32) -> String {
    format!("{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.unsigned_abs())
}

/// How a float is written.
#[derive(Clone, Copy)]
enum Style {
    Fixed,
    Scientific,
    General,
}

/// The widest text and the most decimals that a graph may ask for: what it can cost is a multiple of the numbers.
const WIDEST: i64 = 1 << 12;

/// What `printf` is told beside the number.
#[derive(Clone, Copy)]
struct Form {
    style: Style,
    precision: usize,
    width: usize,
    flag: Option<char>,
}

impl Form {
    fn read(a: &NodeAttrs<'_>) -> Result<Form> {
        if a.int("precision")? >= 0 && a.dtype("T")?.is_integer() {
            return Err(Error::graph(format!("{} has no precision", a.dtype("T")?)));
        }
        let style = match (a.bool("scientific")?, a.bool("shortest")?) {
            (scientific, shortest)
                if (scientific || shortest) && a.dtype("T")?.is_integer() =>
            {
                return Err(Error::graph(format!("{} has neither a scientific nor a shortest format", a.dtype("T")?)));
            }
            (true, true) => return Err(Error::graph("text can't be both scientific and the shortest")),
            (true, false) => Style::Scientific,
            (false, true) => Style::General,
            (false, false) => Style::Fixed,
        };
        let flag = match a.str("fill")? {
            "" => None,
            one @ (" " | "+" | "-" | "0" | "#") => one.chars().next(),
            other => return Err(Error::graph(format!("there is no fill {other:?}"))),
        };
        let within = |name: &str| -> Result<i64> {
            let v = a.int(name)?;
            if v > WIDEST { Err(Error::unsupported(format!("{name} {v}, which is over {WIDEST}"))) } else { Ok(v) }
        };
        Ok(Form {
            style,
            precision: usize::try_from(within("precision")?).unwrap_or(6),
            width: usize::try_from(within("width")?).unwrap_or_default(),
            flag,
        })
    }

    /// Puts a number's text into its width.
    fn pad(&self, text: String, finite: bool) -> String {
        let text = match self.flag {
            Some(sign @ (' ' | '+')) if !text.starts_with('-') => format!("{sign}{text}"),
            _ => text,
        };
        let missing = self.width.saturating_sub(text.len());
        match (self.flag, text.strip_prefix('-')) {
            (Some('-'), _) => text + &" ".repeat(missing),
            (Some('0'), Some(rest)) if finite => format!("-{}{rest}", "0".repeat(missing)),
            (Some('0'), None) if finite => "0".repeat(missing) + &text,
            _ => " ".repeat(missing) + &text,
        }
    }

    fn float(&self, v: f64) -> String {
        if !v.is_finite() {
            return self.pad(special(v), false);
        }
        let text = match self.style {
            Style::Fixed => format!("{v:.*}", self.precision),
            Style::General => general(v, self.precision),
            Style::Scientific => {
                let (mantissa, exponent) = scientific_parts(v, self.precision);
                format!("{mantissa}e{}", signed(exponent))
            }
        };
        self.pad(text, true)
    }

    fn texts(&self, x: &Tensor) -> tensor::Result<Vec<String>> {
        let complex = |re: f64, im: f64| format!("({},{})", self.float(re), self.float(im));
        Ok(match x.dtype() {
            DType::Bool => x.elements::<Bool>()?.iter().map(|b| b.get().to_string()).collect(),
            DType::C64 => {
                let values = x.elements::<Complex32>()?;
                values.iter().map(|z| complex(z.re.into(), z.im.into())).collect()
            }
            DType::C128 => x.elements::<Complex64>()?.iter().map(|z| complex(z.re, z.im)).collect(),
            d if d.is_float() => {
                array::cast(x, DType::F64)?.elements::<f64>()?.iter().map(|v| self.float(*v)).collect()
            }
            d => dispatch!(integer d, T => x.elements::<T>()?.iter().map(|v| self.pad(v.to_string(), true)).collect(),
                else => return Err(tensor::Error::unsupported(format!("{d} as text")))),
        })
    }
}

fn as_string(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let form = Form::read(a)?;
    map1(move |x| {
        if x.dtype() == DType::String {
            return Ok(x);
        }
        Tensor::from_strings(form.texts(&x)?.into_iter().map(String::into_bytes), x.shape())
    })
}

fn from_string(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("out_type")?;
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        one(parse(x.strings()?.iter().map(|s| &**s), dtype, x.shape())?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("StringToNumber(string_tensor: string) -> (output: out_type); out_type: type = float32", from_string),
    Op::new("AsString(input: T) -> (output: string); T: type; precision: int = -1; scientific: bool = false; shortest: bool = false; width: int = -1; fill: string = \"\"", as_string),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_c_writes_them() {
        let written = [0.0, 100_000.0, 1e6, 1.5e-5, 0.0001, 123_456.7, -1e100].map(|v| general(v, 6));
        assert_eq!(written, ["0", "100000", "1e+06", "1.5e-05", "0.0001", "123457", "-1e+100"]);
        assert_eq!(general(999_999.9, 6), "1e+06");
        assert_eq!(general(f64::from(1.1f32), 9), "1.10000002");
    }
}
