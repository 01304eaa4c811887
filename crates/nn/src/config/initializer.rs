//! What weights start from (Keras: `keras.initializers`).

use modelark_artifact::tensor::{DType, Tensor, checked_elements};
use modelark_artifact::{Dialect, Error, Result};
use serde_json::Value;

use super::draw::Draw;
use super::{ConfigValue, Fields, Reader, Serialized, Writer};
use crate::random::Random;

/// How the scale of a [`Initializer::VarianceScaling`] follows from the shape.
#[derive(Debug, Clone, PartialEq)]
pub struct Scaling {
    /// Multiplies the variance.
    pub scale: f64,
    /// `fan_in`, `fan_out` or `fan_avg`.
    pub mode: String,
    /// `truncated_normal`, `untruncated_normal` (also called `normal`) or `uniform`.
    pub distribution: String,
}

/// What a weight starts from. With a seed the values are those that Keras draws from it, bit for bit (an orthogonal matrix
/// but for rounding); without one they are drawn by a generator of Modelark's own.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Initializer {
    /// Zeros.
    Zeros,
    /// Ones.
    Ones,
    /// One value.
    Constant(f64),
    /// A normal distribution.
    RandomNormal(f64, f64, Value),
    /// A normal distribution without what is over two deviations away.
    TruncatedNormal(f64, f64, Value),
    /// A uniform distribution between the two.
    RandomUniform(f64, f64, Value),
    /// Normal or uniform with a variance that follows from the shape; with the class, such as `GlorotUniform`.
    VarianceScaling(&'static str, Scaling, Value),
    /// An orthogonal matrix, times a gain.
    Orthogonal(f64, Value),
    /// The identity matrix, times a gain.
    Identity(f64),
    /// As many blocks along the first axis, each from its own initializer. No config has it: it is what an LSTM's
    /// `unit_forget_bias` means.
    Blocks(Vec<Initializer>),
    /// These values. No config has them: they follow from a layer's options.
    Values(Vec<f64>),
    /// A class that isn't Keras's own: kept, not computed.
    Other(Serialized),
}

/// Keras's shorthands of `VarianceScaling`: class, scale, mode, distribution.
const SCALINGS: &[(&str, f64, &str, &str)] = &[
    ("GlorotUniform", 1.0, "fan_avg", "uniform"),
    ("GlorotNormal", 1.0, "fan_avg", "truncated_normal"),
    ("HeUniform", 2.0, "fan_in", "uniform"),
    ("HeNormal", 2.0, "fan_in", "truncated_normal"),
    ("LecunUniform", 1.0, "fan_in", "uniform"),
    ("LecunNormal", 1.0, "fan_in", "truncated_normal"),
    ("VarianceScaling", 1.0, "fan_in", "truncated_normal"),
];

impl Initializer {
    /// Keras's default for kernels.
    pub fn glorot_uniform() -> Self {
        Initializer::named("GlorotUniform")
    }

    /// Keras's default for recurrent kernels.
    pub fn orthogonal() -> Self {
        Initializer::Orthogonal(1.0, Value::Null)
    }

    /// Keras's default for embeddings: uniform within ±0.05.
    pub fn uniform() -> Self {
        Initializer::RandomUniform(-0.05, 0.05, Value::Null)
    }

    /// The initializer of this class or short name (`HeNormal`, `he_normal`) with its default config; a name that isn't
    /// Keras's is kept as it is.
    pub fn named(name: &str) -> Self {
        let key: String = name.chars().filter(|c| *c != '_').collect::<String>().to_ascii_lowercase();
        let none = Value::Null;
        match key.as_str() {
            "zeros" | "zero" => Initializer::Zeros,
            "ones" | "one" => Initializer::Ones,
            "constant" => Initializer::Constant(0.0),
            "randomnormal" | "normal" => Initializer::RandomNormal(0.0, 0.05, none),
            "truncatednormal" => Initializer::TruncatedNormal(0.0, 0.05, none),
            "randomuniform" | "uniform" => Initializer::RandomUniform(-0.05, 0.05, none),
            "orthogonal" | "orthogonalinitializer" => Initializer::Orthogonal(1.0, none),
            "identity" | "identityinitializer" | "eye" => Initializer::Identity(1.0),
            _ => match SCALINGS.iter().find(|(class, ..)| class.eq_ignore_ascii_case(&key)) {
                Some(&(class, scale, mode, distribution)) => {
                    let (mode, distribution) = (mode.to_owned(), distribution.to_owned());
                    Initializer::VarianceScaling(class, Scaling { scale, mode, distribution }, none)
                }
                None => Initializer::Other(Serialized {
                    class: name.to_owned(),
                    short: true,
                    ..Serialized::default()
                }),
            },
        }
    }

    /// The class's name; empty for classes that aren't Keras's own.
    fn class(&self) -> &'static str {
        match self {
            Initializer::Zeros => "Zeros",
            Initializer::Ones => "Ones",
            Initializer::Constant(_) => "Constant",
            Initializer::RandomNormal(..) => "RandomNormal",
            Initializer::TruncatedNormal(..) => "TruncatedNormal",
            Initializer::RandomUniform(..) => "RandomUniform",
            Initializer::VarianceScaling(class, ..) => class,
            Initializer::Orthogonal(..) => "Orthogonal",
            Initializer::Identity(_) => "Identity",
            Initializer::Blocks(_) | Initializer::Values(_) | Initializer::Other(_) => "",
        }
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        match self {
            Initializer::Zeros | Initializer::Ones => {}
            Initializer::Blocks(_) | Initializer::Values(_) | Initializer::Other(_) => {}
            Initializer::Constant(value) => f.field("value", value),
            Initializer::RandomNormal(mean, deviation, seed)
            | Initializer::TruncatedNormal(mean, deviation, seed) => {
                f.field("mean", mean);
                f.aliased("stddev", &["scale"], deviation);
                f.field("seed", seed);
            }
            Initializer::RandomUniform(low, high, seed) => {
                f.field("minval", low);
                f.field("maxval", high);
                f.field("seed", seed);
            }
            Initializer::VarianceScaling(class, scaling, seed) => {
                if *class == "VarianceScaling" {
                    f.field("scale", &mut scaling.scale);
                    f.field("mode", &mut scaling.mode);
                    f.field("distribution", &mut scaling.distribution);
                }
                f.field("seed", seed);
            }
            Initializer::Orthogonal(gain, seed) => {
                f.field("gain", gain);
                f.field("seed", seed);
            }
            // Keras 3 takes it, but doesn't write it.
            Initializer::Identity(gain) if f.dialect() == Dialect::Keras3 && *gain == 1.0 => {
                f.read_only("gain", gain);
            }
            Initializer::Identity(gain) => f.field("gain", gain),
        }
    }

    /// Draws a weight's first value.
    ///
    /// # Errors
    /// When the initializer isn't Keras's own, can't make this shape or dtype, or the shape is too large.
    pub fn tensor(&self, shape: &[usize], dtype: DType, random: &mut Random) -> Result<Tensor> {
        let count = checked_elements(shape)?;
        if matches!(self, Initializer::Zeros) {
            return Ok(Tensor::zeros(dtype, shape)?);
        }
        if let Some((draw, seed)) = self.draw(shape)? {
            if let Some(seed) = seed.as_i64().filter(|_| dtype.is_float() && count > 0) {
                return draw.seeded(seed, shape, dtype);
            }
            return numbers(&draw.values(shape, count, random)?, shape, dtype);
        }
        let values = match self {
            Initializer::Blocks(blocks) => {
                let first = shape.first().copied().unwrap_or(1);
                let rows = first.checked_div(blocks.len()).unwrap_or(0);
                let part: Vec<usize> = std::iter::once(rows).chain(shape.iter().skip(1).copied()).collect();
                let mut values = Vec::with_capacity(count);
                for block in blocks {
                    values.extend_from_slice(block.tensor(&part, DType::F64, random)?.as_slice::<f64>()?);
                }
                values
            }
            Initializer::Values(values) => values.clone(),
            Initializer::Zeros => vec![0.0; count],
            Initializer::Ones => vec![1.0; count],
            Initializer::Constant(value) => vec![*value; count],
            Initializer::Identity(gain) => match shape {
                &[rows, columns] => (0..rows * columns)
                    .map(|i| if i / columns == i % columns { *gain } else { 0.0 })
                    .collect(),
                _ => {
                    return Err(Error::mismatch(format!(
                        "an identity matrix can't have the shape {shape:?}"
                    )));
                }
            },
            Initializer::Other(other) => {
                return Err(Error::unsupported(format!("the initializer {:?} isn't known", other.class))
                    .help("give the weight a value, or choose one of Keras's initializers"));
            }
            random => return Err(Error::unsupported(format!("{random:?} isn't drawn here"))),
        };
        numbers(&values, shape, dtype)
    }

    /// The distribution that values are drawn from, with the seed.
    fn draw(&self, shape: &[usize]) -> Result<Option<(Draw, &Value)>> {
        Ok(Some(match self {
            Initializer::RandomNormal(mean, deviation, seed) => (Draw::Normal(*mean, *deviation), seed),
            Initializer::TruncatedNormal(mean, deviation, seed) => (Draw::Truncated(*mean, *deviation), seed),
            Initializer::RandomUniform(low, high, seed) => (Draw::Uniform(*low, *high), seed),
            Initializer::VarianceScaling(_, scaling, seed) => (scaling.draw(shape)?, seed),
            Initializer::Orthogonal(gain, seed) => (Draw::Orthogonal(*gain), seed),
            _ => return Ok(None),
        }))
    }
}

impl Scaling {
    /// What is drawn for a kernel of this shape.
    fn draw(&self, shape: &[usize]) -> Result<Draw> {
        /// The deviation of a standard normal distribution cut off at two deviations.
        const TRUNCATED_DEVIATION: f64 = 0.879_625_661_034_239_8;
        let (fan_in, fan_out) = fans(shape);
        let fan = match self.mode.as_str() {
            "fan_in" => fan_in,
            "fan_out" => fan_out,
            "fan_avg" => (fan_in + fan_out) / 2.0,
            mode => return Err(Error::unsupported(format!("VarianceScaling has no mode {mode:?}"))),
        };
        let variance = self.scale / fan.max(1.0);
        Ok(match self.distribution.as_str() {
            "truncated_normal" | "normal" => Draw::Truncated(0.0, variance.sqrt() / TRUNCATED_DEVIATION),
            "untruncated_normal" => Draw::Normal(0.0, variance.sqrt()),
            "uniform" => Draw::Uniform(-(3.0 * variance).sqrt(), (3.0 * variance).sqrt()),
            other => {
                return Err(Error::unsupported(format!("VarianceScaling has no distribution {other:?}")));
            }
        })
    }
}

/// How many values a unit takes and gives, as Keras counts them for a kernel of this shape.
fn fans(shape: &[usize]) -> (f64, f64) {
    match *shape {
        [] => (1.0, 1.0),
        [n] => (n as f64, n as f64),
        [ref window @ .., inputs, outputs] => {
            let field: f64 = window.iter().map(|&d| d as f64).product();
            (field * inputs as f64, field * outputs as f64)
        }
    }
}

/// Numbers as a tensor of this dtype.
pub(crate) fn numbers(values: &[f64], shape: &[usize], dtype: DType) -> Result<Tensor> {
    use modelark_artifact::tensor::{Bool, bf16, f16};
    macro_rules! each {
        ($t:ty, $f:expr) => {
            Tensor::from_vec(values.iter().map($f).collect::<Vec<$t>>(), shape)?
        };
    }
    Ok(match dtype {
        DType::F32 => each!(f32, |v| *v as f32),
        DType::F64 => each!(f64, |v| *v),
        DType::F16 => each!(f16, |v| f16::from_f64(*v)),
        DType::BF16 => each!(bf16, |v| bf16::from_f64(*v)),
        DType::I32 => each!(i32, |v| *v as i32),
        DType::I64 => each!(i64, |v| *v as i64),
        DType::U8 => each!(u8, |v| *v as u8),
        DType::I8 => each!(i8, |v| *v as i8),
        DType::Bool => each!(Bool, |v| Bool::from(*v != 0.0)),
        other => return Err(Error::unsupported(format!("weights of dtype {other} can't be initialized"))),
    })
}

impl ConfigValue for Initializer {
    fn read(value: &Value, reader: &Reader<'_>) -> Result<Self> {
        let node = Serialized::read(value, reader)?;
        let class = if node.class == "function" {
            node.config.get("name").and_then(Value::as_str).unwrap_or_default()
        } else {
            &node.class
        };
        let custom = node.registered_name.as_ref().is_some_and(|n| n.contains('>'));
        let mut initializer = match Initializer::named(class) {
            Initializer::Other(_) => return Ok(Initializer::Other(node)),
            _ if custom => return Ok(Initializer::Other(node)),
            known => known,
        };
        // A value may be a whole array, as for embeddings: it is kept, the file's weights are what counts.
        if node.config.get("value").is_some_and(|v| !v.is_number()) {
            return Ok(Initializer::Other(node));
        }
        let mut fields = Fields::reading(&node.config, *reader);
        initializer.visit(&mut fields);
        fields.finish_reading()?;
        Ok(initializer)
    }

    fn write(&self, writer: &mut Writer) -> Value {
        match self {
            Initializer::Other(node) => return node.write(writer),
            Initializer::Blocks(blocks) => return blocks.write(writer),
            Initializer::Values(values) => return values.write(writer),
            _ => {}
        }
        let mut fields = Fields::writing(writer);
        self.clone().visit(&mut fields);
        let config = fields.finish_writing().unwrap_or_default();
        Serialized::new("keras.initializers", self.class(), config).write(writer)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::Registry;

    fn draw(name: &str, shape: &[usize]) -> Vec<f32> {
        let t = Initializer::named(name).tensor(shape, DType::F32, &mut Random::new(7)).unwrap();
        t.as_slice::<f32>().unwrap().to_vec()
    }

    #[test]
    fn draws_follow_the_distributions() {
        let glorot = draw("glorot_uniform", &[300, 200]);
        let limit = (6.0f32 / 500.0).sqrt();
        let variance = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>() / v.len() as f32;
        assert!(glorot.iter().all(|v| v.abs() <= limit));
        assert!((variance(&glorot) / (limit * limit / 3.0) - 1.0).abs() < 0.02);
        let he = draw("HeNormal", &[200, 300]);
        assert!((variance(&he) / (2.0 / 200.0) - 1.0).abs() < 0.02);
        assert_eq!(draw("ones", &[2]), [1.0, 1.0]);
        assert_eq!(draw("identity", &[2, 2]), [1.0, 0.0, 0.0, 1.0]);
    }

    #[test]
    fn seeds_give_keras_numbers() {
        let seeded = |name: &str, config: Value, shape: &[usize]| {
            let node = json!({"class_name": name, "config": config});
            let registry = Registry::default();
            let reader = Reader::new(Dialect::Keras3, &registry);
            let read = Initializer::read(&node, &reader).unwrap();
            let drawn = read.tensor(shape, DType::F32, &mut Random::new(1)).unwrap();
            drawn.as_slice::<f32>().unwrap().to_vec()
        };
        let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
        assert_eq!(
            bits(seeded("GlorotUniform", json!({"seed": 7}), &[3, 2])),
            [0x3f0a_941c, 0x3ec1_2404, 0xbf78_06fb, 0x3ea1_c4e4, 0xbf71_0009, 0x3ebc_a014]
        );
        assert_eq!(
            bits(seeded("HeNormal", json!({"seed": 7}), &[3, 2])),
            [0xbf20_33af, 0xbeaa_7868, 0xbfdf_51ed, 0xbfae_fff7, 0xbf2c_5684, 0x3f34_ae8e]
        );
        let scaling =
            json!({"scale": 2.0, "mode": "fan_avg", "distribution": "untruncated_normal", "seed": 9});
        assert_eq!(
            bits(seeded("VarianceScaling", scaling, &[2, 2])),
            [0xbf0e_19dc, 0xbefe_7b36, 0xbf3f_787e, 0xc00b_2dfd]
        );
        let near = |values: Vec<f32>, expected: &[f32]| {
            values.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5) && values.len() == expected.len()
        };
        let tall = seeded("Orthogonal", json!({"seed": 7, "gain": 1.0}), &[3, 2]);
        assert!(near(
            tall,
            &[-0.238_171_7, 0.274_763_8, -0.664_018_5, -0.746_024_3, -0.708_769_1, 0.606_591]
        ));
        let wide = seeded("Orthogonal", json!({"seed": 7, "gain": 2.0}), &[2, 3]);
        assert!(near(wide, &[-0.476_343_4, -1.328_037, -1.417_538_3, 0.549_527_5, -1.492_048_5, 1.213_182]));
    }

    #[test]
    fn orthogonal_rows_are() {
        let m = draw("orthogonal", &[3, 5]);
        for i in 0..3 {
            for j in 0..3 {
                let dot: f32 = (0..5).map(|k| m[i * 5 + k] * m[j * 5 + k]).sum();
                assert!((dot - if i == j { 1.0 } else { 0.0 }).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn every_form_is_read() {
        let registry = Registry::default();
        let reader = Reader::new(Dialect::Keras3, &registry);
        let node = json!({"module": "keras.initializers", "class_name": "RandomNormal",
            "config": {"mean": 0.0, "stddev": 0.5, "seed": 3}, "registered_name": null});
        let read = Initializer::read(&node, &reader).unwrap();
        assert_eq!(read, Initializer::RandomNormal(0.0, 0.5, json!(3)));
        assert_eq!(read.write(&mut Writer::new(Dialect::Keras3)), node);
        assert_eq!(Initializer::read(&json!("zeros"), &reader).unwrap(), Initializer::Zeros);
        let young = json!({"class_name": "GlorotUniform", "config": {"seed": null, "input_axes": null}});
        assert_eq!(Initializer::read(&young, &reader).unwrap(), Initializer::glorot_uniform());
        let custom =
            json!({"module": null, "class_name": "Mine", "config": {"a": 1}, "registered_name": "P>Mine"});
        let kept = Initializer::read(&custom, &reader).unwrap();
        assert_eq!(kept.write(&mut Writer::new(Dialect::Keras3)), custom);
        assert!(kept.tensor(&[1], DType::F32, &mut Random::new(0)).is_err());
    }
}
