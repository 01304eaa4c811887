//! Single ops within a graph of layers, such as `x * 2.0`: Keras 3 writes the op, Keras 2 a `TFOpLambda`.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Dialect, Error, Result, nearest};
use serde_json::{Value, json};

use super::Entry;
use super::merge::broadcast;
use crate::config::{Axes, Fields, Object, Reader, Writer, resolve_axis};
use crate::{Argument, Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<Operation>(&["TFOpLambda"])];

/// What an op does with its arguments.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Form {
    /// Of two arguments, element by element.
    Binary,
    /// Of two arguments, to booleans.
    Comparison,
    /// Of one argument, element by element.
    Unary,
    /// Of one argument, along `axis`.
    Reduction,
    /// A new axis, or one less.
    Axis,
}

/// An op: what Keras 3 calls it (the module within `keras.src.ops` and the class), what Keras 2 calls it, and
/// TensorFlow's op.
struct Known {
    module: &'static str,
    class: &'static str,
    functions: &'static [&'static str],
    op: &'static str,
    form: Form,
}

const fn known(
    module: &'static str,
    class: &'static str,
    functions: &'static [&'static str],
    op: &'static str,
    form: Form,
) -> Known {
    Known { module, class, functions, op, form }
}

use Form::{Axis, Binary, Comparison, Reduction, Unary};

const KNOWN: &[Known] = &[
    known("numpy", "Add", &["__operators__.add", "math.add"], "AddV2", Binary),
    known("numpy", "Subtract", &["math.subtract"], "Sub", Binary),
    known("numpy", "Multiply", &["math.multiply"], "Mul", Binary),
    known("numpy", "TrueDivide", &["math.truediv"], "RealDiv", Binary),
    known("numpy", "Divide", &["math.divide"], "RealDiv", Binary),
    known("numpy", "FloorDivide", &["math.floordiv"], "FloorDiv", Binary),
    known("numpy", "Power", &["math.pow"], "Pow", Binary),
    known("numpy", "Maximum", &["math.maximum"], "Maximum", Binary),
    known("numpy", "Minimum", &["math.minimum"], "Minimum", Binary),
    known("numpy", "LogicalAnd", &["math.logical_and"], "LogicalAnd", Binary),
    known("numpy", "LogicalOr", &["math.logical_or"], "LogicalOr", Binary),
    known("numpy", "Equal", &["math.equal", "__operators__.eq"], "Equal", Comparison),
    known("numpy", "NotEqual", &["math.not_equal", "__operators__.ne"], "NotEqual", Comparison),
    known("numpy", "Greater", &["math.greater"], "Greater", Comparison),
    known("numpy", "GreaterEqual", &["math.greater_equal"], "GreaterEqual", Comparison),
    known("numpy", "Less", &["math.less"], "Less", Comparison),
    known("numpy", "LessEqual", &["math.less_equal"], "LessEqual", Comparison),
    known("numpy", "LogicalNot", &["math.logical_not"], "LogicalNot", Unary),
    known("numpy", "Negative", &["math.negative"], "Neg", Unary),
    known("numpy", "Absolute", &["math.abs"], "Abs", Unary),
    known("numpy", "Exp", &["math.exp"], "Exp", Unary),
    known("numpy", "Log", &["math.log"], "Log", Unary),
    known("numpy", "Sqrt", &["math.sqrt"], "Sqrt", Unary),
    known("numpy", "Square", &["math.square"], "Square", Unary),
    known("math", "Rsqrt", &["math.rsqrt"], "Rsqrt", Unary),
    known("numpy", "Sin", &["math.sin"], "Sin", Unary),
    known("numpy", "Cos", &["math.cos"], "Cos", Unary),
    known("numpy", "Tanh", &["math.tanh", "nn.tanh"], "Tanh", Unary),
    known("nn", "Sigmoid", &["math.sigmoid", "nn.sigmoid"], "Sigmoid", Unary),
    known("nn", "Relu", &["nn.relu"], "Relu", Unary),
    known("nn", "Relu6", &["nn.relu6"], "Relu6", Unary),
    known("nn", "Softplus", &["math.softplus", "nn.softplus"], "Softplus", Unary),
    known("numpy", "Mean", &["math.reduce_mean"], "Mean", Reduction),
    known("numpy", "Sum", &["math.reduce_sum"], "Sum", Reduction),
    known("numpy", "Max", &["math.reduce_max"], "Max", Reduction),
    known("numpy", "Min", &["math.reduce_min"], "Min", Reduction),
    known("numpy", "Any", &["math.reduce_any"], "Any", Reduction),
    known("numpy", "All", &["math.reduce_all"], "All", Reduction),
    known("numpy", "ExpandDims", &["expand_dims"], "ExpandDims", Axis),
    known("numpy", "Squeeze", &["squeeze"], "Squeeze", Axis),
];

/// A single op in a graph of layers.
#[derive(Debug, Clone, Default)]
pub struct Operation {
    /// Keras 3's class, or Keras 2's function.
    name: String,
    /// Where Keras 3 has the class.
    module: String,
    /// Whether it was read as a layer of Keras 2's, which counts among a model's layers.
    keras2: bool,
    /// Arguments that aren't tensors: `axis`, `keepdims`.
    options: Object,
}

impl Operation {
    /// The op of a class in a module of Keras 3's ops.
    pub(crate) fn of_keras3(module: &str, class: &str) -> Self {
        Operation { name: class.to_owned(), module: module.to_owned(), ..Operation::default() }
    }

    /// Whether an op of Keras 3 has this class.
    pub(crate) fn is_class(class: &str) -> bool {
        KNOWN.iter().any(|k| k.class == class)
    }

    /// Whether Keras counts it among a model's layers.
    pub(crate) fn is_layer(&self) -> bool {
        self.keras2
    }

    /// The options as Keras 2 gives them with a call.
    pub(crate) fn options(&self) -> &Object {
        &self.options
    }

    /// The same op with arguments of its call that aren't tensors; `name` says nothing.
    pub(crate) fn with_options(mut self, options: Object) -> Self {
        self.options.extend(options.into_iter().filter(|(k, v)| k != "name" || !v.is_null()));
        self
    }

    fn known(&self) -> Result<&'static Known> {
        let found = KNOWN.iter().find(|k| match self.keras2 {
            true => k.functions.contains(&self.name.as_str()),
            false => k.class == self.name,
        });
        found.ok_or_else(|| {
            let names = KNOWN.iter().flat_map(|k| k.functions.iter().copied().chain([k.class]));
            let error = Error::unsupported(format!("the op {:?} between layers", self.name));
            match nearest(&self.name, names) {
                Some(near) => error.help(near),
                None => error.help("build the model with a layer of your own instead"),
            }
        })
    }

    /// Writes the node that a dialect has for it.
    pub(crate) fn write(&self, name: &str, writer: &mut Writer) -> Result<Value> {
        let (keras3, known) = (writer.is_keras3(), self.known()?);
        let (module, class, mut config) = if keras3 {
            let module = if self.keras2 { format!("keras.src.ops.{}", known.module) } else { self.module.clone() };
            (module, known.class, self.options.clone())
        } else {
            let function = if self.keras2 { &self.name } else { known.functions[0] };
            let config = json!({"trainable": true, "dtype": "float32", "function": function});
            let config = config.as_object().cloned().unwrap_or_default();
            ("keras.src.layers.core.tf_op_layer".to_owned(), "TFOpLambda", config)
        };
        config.insert("name".to_owned(), json!(name));
        Ok(json!({"module": module, "class_name": class, "config": config, "registered_name": class}))
    }

    fn keep_dims(&self) -> bool {
        self.options.get("keepdims").and_then(Value::as_bool).unwrap_or(false)
    }

    /// The axes that the options name; `None` for all.
    fn axes(&self) -> Result<Option<Axes>> {
        use crate::config::ConfigValue;
        let registry = crate::Registry::default();
        let reader = Reader { dialect: Dialect::Keras3, registry: &registry };
        let axes = self.options.get("axis").filter(|a| !a.is_null());
        axes.map(|a| Axes::read(a, &reader).map_err(|e| e.at("axis"))).transpose()
    }
}

impl Layer for Operation {
    fn class_name(&self) -> &str {
        if self.keras2 || self.name.is_empty() { "TFOpLambda" } else { &self.name }
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        if f.is_reading() && self.name.is_empty() {
            self.keras2 = true;
            f.required("function", &mut self.name);
        } else if f.is_reading() {
            f.constant("initial", &[], Value::Null);
            for key in ["axis", "keepdims"] {
                let mut value = Value::Null;
                f.read_only(key, &mut value);
                if f.has(key) {
                    self.options.insert(key.to_owned(), value);
                }
            }
        }
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let (known, input) = (self.known()?, inputs.first()?);
        let dims = match known.form {
            Unary => input.dims()?.to_vec(),
            Binary | Comparison => broadcast(inputs, 0)?,
            Reduction => {
                let dims = input.dims()?;
                let axes = match self.axes()? {
                    Some(axes) => axes.resolve(dims.len())?,
                    None => (0..dims.len()).collect(),
                };
                let left = dims.iter().enumerate().filter_map(|(i, d)| match axes.contains(&i) {
                    true => self.keep_dims().then_some(Some(1)),
                    false => Some(*d),
                });
                left.collect()
            }
            Axis => {
                let mut dims = input.dims()?.to_vec();
                let axes = self.axes()?.map(|a| a.axes).unwrap_or_default();
                let [axis] = axes[..] else { return Err(Error::unsupported("it takes exactly one axis")) };
                if known.op == "ExpandDims" {
                    dims.insert(resolve_axis(axis, dims.len() + 1)?, Some(1));
                } else {
                    dims.remove(resolve_axis(axis, dims.len())?);
                }
                dims
            }
        };
        let dtype = if known.form == Comparison { DType::Bool } else { input.dtype };
        Ok(vec![Spec::new(dims, dtype)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let known = self.known()?;
        let &like = given.first().ok_or_else(|| Error::unsupported("an op without tensors"))?;
        let y = match known.form {
            Binary | Comparison => {
                let mut both = Vec::with_capacity(2);
                for argument in call.positional().to_vec() {
                    both.push(match argument {
                        Argument::Tensor(x) => call.cast(x, call.dtype(like))?,
                        Argument::Value(value) => number(call, &value, like)?,
                        _ => return Err(Error::unsupported("lists as an op's arguments")),
                    });
                }
                call.apply(known.op, &both)?
            }
            Unary => call.apply(known.op, &[like])?,
            Reduction => {
                let axes = match self.axes()? {
                    Some(axes) => axes.axes,
                    None => (0..call.spec(like).rank()? as i64).collect(),
                };
                call.reduce(known.op, like, &axes, self.keep_dims())?
            }
            Axis => {
                let axes = self.axes()?.map(|a| a.axes).unwrap_or_default();
                if known.op == "Squeeze" {
                    call.op("Squeeze").input(like).attr("squeeze_dims", axes).one()?
                } else {
                    let axis = call.int(axes.first().copied().unwrap_or_default())?;
                    call.apply(known.op, &[like, axis])?
                }
            }
        };
        Ok(vec![y])
    }

    fn arguments(&self) -> &[&str] {
        &["x", "y"]
    }

    fn autocasts(&self) -> bool {
        false
    }
}

/// A number of a config as a scalar of the dtype of `like`.
fn number(call: &mut Call<'_>, value: &Value, like: Sym) -> Result<Sym> {
    let number = match value {
        Value::Bool(b) => Some(f64::from(u8::from(*b))),
        other => other.as_f64(),
    };
    let number = number.ok_or_else(|| crate::config::expected("a number", value))?;
    let dtype = call.dtype(like);
    if dtype.is_integer() && number.fract() != 0.0 {
        return Err(Error::unsupported(format!("{number} with integers of dtype {dtype}")));
    }
    call.scalar(number, like)
}
