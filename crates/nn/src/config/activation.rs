//! Activation functions (Keras: `keras.activations`).

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Error, Result, nearest};
use serde_json::{Value, json};

use super::{ConfigValue, Reader, Serialized, Writer};
use crate::{Call, Instance};

/// A function that Keras has under a name: the one list of them is [`KNOWN`].
struct Known {
    /// The names of all versions; the first is Keras 3's.
    names: &'static [&'static str],
    /// What Keras 2 calls it, if it has it.
    keras2: Option<&'static str>,
    /// Whether only Keras 2 (and 1) means this function by the name.
    only_keras2: bool,
    trace: fn(&mut Call<'_>, Sym) -> Result<Sym>,
}

/// A function that both generations have under one name.
const fn both(names: &'static [&'static str], trace: fn(&mut Call<'_>, Sym) -> Result<Sym>) -> Known {
    Known { names, keras2: Some(names[0]), only_keras2: false, trace }
}

/// A function that Keras 3 has alone.
const fn new(names: &'static [&'static str], trace: fn(&mut Call<'_>, Sym) -> Result<Sym>) -> Known {
    Known { names, keras2: None, only_keras2: false, trace }
}

/// A function that Keras 2 means by a name that means another one in Keras 3.
const fn old(names: &'static [&'static str], trace: fn(&mut Call<'_>, Sym) -> Result<Sym>) -> Known {
    Known { names, keras2: Some(names[0]), only_keras2: true, trace }
}

const KNOWN: &[Known] = &[
    both(&["linear"], |_, x| Ok(x)),
    both(&["relu"], |c, x| c.apply("Relu", &[x])),
    both(&["relu6"], |c, x| c.apply("Relu6", &[x])),
    both(&["leaky_relu"], |c, x| leaky_relu(c, x, 0.2)),
    both(&["elu"], |c, x| c.apply("Elu", &[x])),
    both(&["selu"], |c, x| c.apply("Selu", &[x])),
    both(&["sigmoid"], |c, x| c.apply("Sigmoid", &[x])),
    both(&["tanh"], |c, x| c.apply("Tanh", &[x])),
    both(&["softmax", "softmax_v2"], |c, x| softmax(c, x, "Softmax", -1)),
    both(&["log_softmax", "log_softmax_v2"], |c, x| softmax(c, x, "LogSoftmax", -1)),
    both(&["softplus"], |c, x| c.apply("Softplus", &[x])),
    both(&["softsign"], |c, x| c.apply("Softsign", &[x])),
    both(&["exponential", "exp"], |c, x| c.apply("Exp", &[x])),
    both(&["gelu"], |c, x| gelu(c, x, false)),
    both(&["mish"], mish),
    Known { names: &["silu", "swish"], keras2: Some("swish"), only_keras2: false, trace: silu },
    old(&["hard_sigmoid"], hard_sigmoid_of_keras2),
    new(&["hard_sigmoid"], hard_sigmoid),
    new(&["hard_silu", "hard_swish"], |c, x| {
        let gate = hard_sigmoid(c, x)?;
        c.apply("Mul", &[x, gate])
    }),
    new(&["hard_tanh"], |c, x| clip(c, x, -1.0, 1.0)),
    new(&["hard_shrink"], |c, x| {
        let (size, limit) = (c.apply("Abs", &[x])?, c.scalar(0.5, x)?);
        let (large, zeros) = (c.apply("Greater", &[size, limit])?, c.apply("ZerosLike", &[x])?);
        c.apply("SelectV2", &[large, x, zeros])
    }),
    new(&["soft_shrink"], soft_shrink),
    new(&["tanh_shrink"], |c, x| {
        let y = c.apply("Tanh", &[x])?;
        c.apply("Sub", &[x, y])
    }),
    new(&["celu"], |c, x| {
        let zero = c.scalar(0.0, x)?;
        let (above, below) = (c.apply("Maximum", &[x, zero])?, c.apply("Minimum", &[x, zero])?);
        let below = c.apply("Expm1", &[below])?;
        c.apply("AddV2", &[above, below])
    }),
    new(&["glu"], |c, x| {
        let axis = c.int(-1)?;
        let halves = c.op("Split").inputs(&[axis, x]).attr("num_split", 2i64).all()?;
        let [a, b] = crate::layer::inputs(&halves)?;
        let gate = c.apply("Sigmoid", &[b])?;
        c.apply("Mul", &[a, gate])
    }),
    new(&["log_sigmoid"], |c, x| {
        let y = c.apply("Neg", &[x])?;
        let y = c.apply("Softplus", &[y])?;
        c.apply("Neg", &[y])
    }),
    new(&["sparse_plus"], sparse_plus),
    new(&["sparse_sigmoid"], |c, x| {
        let (one, half) = (c.scalar(1.0, x)?, c.scalar(0.5, x)?);
        let y = c.apply("AddV2", &[x, one])?;
        let y = c.apply("Mul", &[half, y])?;
        clip(c, y, 0.0, 1.0)
    }),
    new(&["sparsemax"], sparsemax),
    new(&["squareplus"], |c, x| {
        let (four, half) = (c.scalar(4.0, x)?, c.scalar(0.5, x)?);
        let y = c.apply("Square", &[x])?;
        let y = c.apply("AddV2", &[y, four])?;
        let y = c.apply("Sqrt", &[y])?;
        let y = c.apply("AddV2", &[x, y])?;
        c.apply("Mul", &[y, half])
    }),
];

fn clip(c: &mut Call<'_>, x: Sym, low: f64, high: f64) -> Result<Sym> {
    let (low, high) = (c.scalar(low, x)?, c.scalar(high, x)?);
    let y = c.apply("Minimum", &[x, high])?;
    c.apply("Maximum", &[y, low])
}

/// `x` above zero, `slope * x` below.
pub(crate) fn leaky_relu(c: &mut Call<'_>, x: Sym, slope: f64) -> Result<Sym> {
    Ok(c.op("LeakyRelu").input(x).attr("alpha", slope as f32).one()?)
}

/// `Softmax` or `LogSoftmax` along any axis; the ops know the last alone.
pub(crate) fn softmax(c: &mut Call<'_>, x: Sym, op: &str, axis: i64) -> Result<Sym> {
    if axis == -1 {
        return c.apply(op, &[x]);
    }
    let rank = c.spec(x).rank()?;
    let axis = super::resolve_axis(axis, rank)?;
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(axis, rank - 1);
    let y = c.transpose(x, &order)?;
    let y = c.apply(op, &[y])?;
    c.transpose(y, &order)
}

fn silu(c: &mut Call<'_>, x: Sym) -> Result<Sym> {
    let gate = c.apply("Sigmoid", &[x])?;
    c.apply("Mul", &[x, gate])
}

fn mish(c: &mut Call<'_>, x: Sym) -> Result<Sym> {
    let y = c.apply("Softplus", &[x])?;
    let y = c.apply("Tanh", &[y])?;
    c.apply("Mul", &[x, y])
}

/// `x` times how likely a normal number is below it; or what approximates that by `tanh`.
pub(crate) fn gelu(c: &mut Call<'_>, x: Sym, approximate: bool) -> Result<Sym> {
    if approximate {
        let (half, one) = (c.scalar(0.5, x)?, c.scalar(1.0, x)?);
        let (cubic, root) = (c.scalar(0.044715, x)?, c.scalar((2.0 / std::f64::consts::PI).sqrt(), x)?);
        let y = c.apply("Square", &[x])?;
        let y = c.apply("Mul", &[y, x])?;
        let y = c.apply("Mul", &[cubic, y])?;
        let y = c.apply("AddV2", &[x, y])?;
        let y = c.apply("Mul", &[root, y])?;
        let y = c.apply("Tanh", &[y])?;
        let y = c.apply("AddV2", &[one, y])?;
        let x = c.apply("Mul", &[half, x])?;
        return c.apply("Mul", &[x, y]);
    }
    let (half, root, one) = (c.scalar(0.5, x)?, c.scalar(std::f64::consts::SQRT_2, x)?, c.scalar(1.0, x)?);
    let scaled = c.apply("Mul", &[half, x])?;
    let y = c.apply("RealDiv", &[x, root])?;
    let y = c.apply("Erf", &[y])?;
    let y = c.apply("AddV2", &[one, y])?;
    c.apply("Mul", &[scaled, y])
}

fn hard_sigmoid(c: &mut Call<'_>, x: Sym) -> Result<Sym> {
    let (three, six) = (c.scalar(3.0, x)?, c.scalar(6.0, x)?);
    let y = c.apply("AddV2", &[x, three])?;
    let y = c.apply("Relu6", &[y])?;
    c.apply("RealDiv", &[y, six])
}

/// Keras 2's `hard_sigmoid` is `SLOPE * x + OFFSET`, cut off at 0 and 1.
const SLOPE: f64 = 0.2;
const OFFSET: f64 = 0.5;

fn hard_sigmoid_of_keras2(c: &mut Call<'_>, x: Sym) -> Result<Sym> {
    let (slope, half) = (c.scalar(SLOPE, x)?, c.scalar(OFFSET, x)?);
    let y = c.apply("Mul", &[x, slope])?;
    let y = c.apply("AddV2", &[y, half])?;
    clip(c, y, 0.0, 1.0)
}

fn soft_shrink(c: &mut Call<'_>, x: Sym) -> Result<Sym> {
    let (half, minus) = (c.scalar(0.5, x)?, c.scalar(-0.5, x)?);
    let (above, below) = (c.apply("Greater", &[x, half])?, c.apply("Less", &[x, minus])?);
    let (lower, higher) = (c.apply("Sub", &[x, half])?, c.apply("AddV2", &[x, half])?);
    let zeros = c.apply("ZerosLike", &[x])?;
    let y = c.apply("SelectV2", &[below, higher, zeros])?;
    c.apply("SelectV2", &[above, lower, y])
}

fn sparse_plus(c: &mut Call<'_>, x: Sym) -> Result<Sym> {
    let (one, minus, quarter) = (c.scalar(1.0, x)?, c.scalar(-1.0, x)?, c.scalar(0.25, x)?);
    let (below, within) = (c.apply("LessEqual", &[x, minus])?, c.apply("Less", &[x, one])?);
    let y = c.apply("AddV2", &[x, one])?;
    let y = c.apply("Square", &[y])?;
    let y = c.apply("Mul", &[quarter, y])?;
    let y = c.apply("SelectV2", &[within, y, x])?;
    let zeros = c.apply("ZerosLike", &[x])?;
    c.apply("SelectV2", &[below, zeros, y])
}

fn sparsemax(c: &mut Call<'_>, x: Sym) -> Result<Sym> {
    let last = c.spec(x).rank()?.saturating_sub(1);
    let (axis, one, zero) = (c.int(-1)?, c.scalar(1.0, x)?, c.scalar(0.0, x)?);
    let count = c.extent(x, last)?;
    let sorted = c.op("TopKV2").inputs(&[x, count]).all()?;
    let sorted = *sorted.first().ok_or_else(|| Error::mismatch("TopKV2 has no output"))?;
    let sums = c.apply("Cumsum", &[sorted, axis])?;
    let (start, step) = (c.int(1)?, c.int(1)?);
    let end = c.apply("AddV2", &[count, step])?;
    let ranks = c.apply("Range", &[start, end, step])?;
    let ranks = c.cast(ranks, c.dtype(x))?;
    let y = c.apply("Sub", &[sums, one])?;
    let y = c.apply("RealDiv", &[y, ranks])?;
    let y = c.apply("Sub", &[sorted, y])?;
    let support = c.apply("Greater", &[y, zero])?;
    let safe = c.apply("SelectV2", &[support, sums, zero])?;
    let total = c.reduce("Sum", safe, &[-1], true)?;
    let size = c.cast(support, c.dtype(x))?;
    let size = c.reduce("Sum", size, &[-1], true)?;
    let tau = c.apply("Sub", &[total, one])?;
    let tau = c.apply("RealDiv", &[tau, size])?;
    let y = c.apply("Sub", &[x, tau])?;
    c.apply("Maximum", &[y, zero])
}

/// An activation function.
#[derive(Clone)]
pub struct Activation(Choice);

#[derive(Clone)]
enum Choice {
    Known(&'static Known),
    /// A function of somebody's own: kept, not computed.
    Other(Serialized),
    /// A layer such as `LeakyReLU`, used as a function.
    Layer(Instance),
}

impl Default for Activation {
    fn default() -> Self {
        Activation(Choice::Known(&KNOWN[0]))
    }
}

impl Activation {
    /// The function of this name, as Keras 3 means it (`hard_sigmoid` is another function in Keras 2).
    ///
    /// A name that Keras doesn't have is kept; tracing a model that uses it is an error.
    pub fn named(name: &str) -> Self {
        Activation::of(name, Dialect::Keras3)
    }

    fn of(name: &str, dialect: Dialect) -> Self {
        let keras3 = dialect == Dialect::Keras3;
        // A function that is only Keras 2's comes first in the list, and only that dialect may choose it.
        let known = KNOWN.iter().find(|k| k.names.contains(&name) && !(keras3 && k.only_keras2));
        Activation(match known {
            Some(known) => Choice::Known(known),
            None => {
                Choice::Other(Serialized { class: name.to_owned(), short: true, ..Serialized::default() })
            }
        })
    }

    /// `hard_sigmoid` as Keras 2 and 1 mean it: `0.2 * x + 0.5`, cut off at 0 and 1.
    pub fn hard_sigmoid_of_keras2() -> Self {
        Activation::of("hard_sigmoid", Dialect::Keras2)
    }

    /// The name: Keras 3's, where it has the function.
    pub fn name(&self) -> &str {
        match &self.0 {
            Choice::Known(known) => known.names[0],
            Choice::Other(node) => match node.config.get("name").and_then(Value::as_str) {
                Some(name) if node.class == "function" => name,
                _ => &node.class,
            },
            Choice::Layer(layer) => layer.class_name(),
        }
    }

    /// Whether it gives back what it is given.
    pub fn is_linear(&self) -> bool {
        self.name() == "linear"
    }

    /// Whether it is Keras 2's `hard_sigmoid`.
    pub fn is_keras2s_own(&self) -> bool {
        matches!(&self.0, Choice::Known(k) if k.only_keras2)
    }

    /// Traces the function.
    ///
    /// # Errors
    /// When it isn't one of Keras's own.
    pub fn call(&self, call: &mut Call<'_>, x: Sym) -> Result<Sym> {
        match &self.0 {
            Choice::Known(known) => (known.trace)(call, x),
            Choice::Layer(layer) => {
                let layer = layer.layer().ok_or_else(|| Error::unsupported("a model as an activation"))?;
                let [y] = crate::layer::inputs(&layer.call(call, &[x])?)?;
                Ok(y)
            }
            Choice::Other(_) => {
                let names = KNOWN.iter().flat_map(|k| k.names.iter().copied());
                let help = nearest(self.name(), names)
                    .unwrap_or_else(|| "write a layer of your own that computes it".to_owned());
                Err(Error::unsupported(format!("there is no activation function {:?}", self.name()))
                    .help(help))
            }
        }
    }
}

impl PartialEq for Activation {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Choice::Known(a), Choice::Known(b)) => std::ptr::eq(*a, *b),
            (Choice::Other(a), Choice::Other(b)) => a == b,
            (Choice::Layer(a), Choice::Layer(b)) => a.is(b),
            _ => false,
        }
    }
}

impl std::fmt::Debug for Activation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Activation({:?})", self.name())
    }
}

impl From<&str> for Activation {
    fn from(name: &str) -> Self {
        Activation::named(name)
    }
}

impl ConfigValue for Activation {
    fn read(value: &Value, reader: &Reader<'_>) -> Result<Self> {
        if value.is_null() {
            return Ok(Activation::default());
        }
        let node = Serialized::read(value, reader)?;
        if node.short {
            return Ok(Activation::of(&node.class, reader.dialect));
        }
        if node.class == "function" {
            let name = node.config.get("name").and_then(Value::as_str).unwrap_or_default();
            let known = Activation::of(name, reader.dialect);
            return Ok(if matches!(known.0, Choice::Known(_)) {
                known
            } else {
                Activation(Choice::Other(node))
            });
        }
        if is_slope_in_layers(value) {
            return Ok(Activation::hard_sigmoid_of_keras2());
        }
        if reader.registry.knows(&node.class) {
            return Instance::read(value, reader).map(|layer| Activation(Choice::Layer(layer)));
        }
        Ok(Activation(Choice::Other(node)))
    }

    fn write(&self, writer: &mut Writer) -> Value {
        match &self.0 {
            Choice::Other(node) => node.write(writer),
            Choice::Layer(layer) => layer.write(writer).unwrap_or_default(),
            Choice::Known(known) if writer.is_keras3() => {
                if known.only_keras2 {
                    writer.report.note(format!(
                        "the activation {:?} is another function in Keras 3: what Keras 2 means is spelled as layers",
                        known.names[0]
                    ));
                    return slope_in_layers();
                }
                json!(known.names[0])
            }
            Choice::Known(known) => match known.keras2 {
                Some(name) => json!(name),
                None => {
                    writer.report.note(format!(
                        "Keras 2 has no activation {:?} that computes the same",
                        known.names[0]
                    ));
                    json!(known.names[0])
                }
            },
        }
    }
}

/// Keras 2's `hard_sigmoid` for Keras 3, which has no function that computes it but takes a model for one.
fn slope_in_layers() -> Value {
    let layer = |class: &str, config: Value| json!({"module": "keras.layers", "class_name": class, "config": config, "registered_name": null});
    let layers = [
        layer("Rescaling", json!({"name": "slope", "scale": SLOPE, "offset": OFFSET})),
        layer("ReLU", json!({"name": "bounds", "max_value": 1.0})),
    ];
    let config = json!({"name": "hard_sigmoid", "layers": layers});
    json!({"module": "keras", "class_name": "Sequential", "config": config, "registered_name": null})
}

/// Whether a node is the model that [`slope_in_layers`] gives, also as Keras writes it again.
fn is_slope_in_layers(node: &Value) -> bool {
    let is = |node: &Value, class: &str| node.get("class_name").and_then(Value::as_str) == Some(class);
    let layers = node.pointer("/config/layers").and_then(Value::as_array).filter(|_| is(node, "Sequential"));
    let layers: Vec<&Value> = layers.into_iter().flatten().filter(|l| !is(l, "InputLayer")).collect();
    let [slope, bounds] = layers[..] else { return false };
    let option = |node: &Value, key: &str| node.get("config")?.get(key)?.as_f64();
    is(slope, "Rescaling")
        && is(bounds, "ReLU")
        && option(slope, "scale") == Some(SLOPE)
        && option(slope, "offset") == Some(OFFSET)
        && option(bounds, "max_value") == Some(1.0)
        && ["negative_slope", "threshold"].iter().all(|key| option(bounds, key).unwrap_or(0.0) == 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Registry;

    #[test]
    fn a_name_means_what_its_dialect_means() {
        let registry = Registry::default();
        let read =
            |value: Value, dialect| Activation::read(&value, &Reader::new(dialect, &registry)).unwrap();
        let old = read(json!("hard_sigmoid"), Dialect::Keras2);
        let new = read(json!("hard_sigmoid"), Dialect::Keras3);
        assert!(old != new && old.is_keras2s_own() && !new.is_keras2s_own());
        let mut writer = Writer::new(Dialect::Keras3);
        let layers = old.write(&mut writer);
        assert_eq!(layers["class_name"], "Sequential");
        assert_eq!(writer.report.notes.len(), 1);
        assert!(read(layers, Dialect::Keras3) == old);
        assert_eq!(old.write(&mut Writer::new(Dialect::Keras2)), json!("hard_sigmoid"));
        let silu = read(json!("swish"), Dialect::Keras2);
        assert_eq!(silu.write(&mut Writer::new(Dialect::Keras3)), json!("silu"));
        assert_eq!(silu.write(&mut Writer::new(Dialect::Keras2)), json!("swish"));
        let function = json!({"module": "builtins", "class_name": "function", "config": "mine", "registered_name": "mine"});
        assert_eq!(
            read(function.clone(), Dialect::Keras3).write(&mut Writer::new(Dialect::Keras3)),
            function
        );
        assert!(
            read(json!({"class_name": "function", "config": "relu6"}), Dialect::Keras2) == "relu6".into()
        );
        let layer = read(json!({"class_name": "LeakyReLU", "config": {"alpha": 0.1}}), Dialect::Keras2);
        assert_eq!(layer.name(), "LeakyReLU");
    }
}
