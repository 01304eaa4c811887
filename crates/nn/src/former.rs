//! What older versions of Keras wrote otherwise: the names of options, and how weights lie in a file.

use std::fmt;
use std::sync::Arc;

use modelark_artifact::tensor::{Tensor, kernels::array};
use modelark_artifact::{Error, Result};
use serde_json::{Value, json};

use crate::WeightSpec;
use crate::config::{DataFormat, Object};

/// A version of Keras, such as `2.3.1`, or `2.2.4-tf` for the Keras within TensorFlow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    number: (u32, u32, u32),
    within_tensorflow: bool,
}

impl Version {
    /// The version that a file names; `None` for what isn't one.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, suffix) = text.split_once('-').unwrap_or((text, ""));
        let mut parts = number.split('.').map(|part| {
            let digits = part.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            digits.parse::<u32>().ok()
        });
        let number =
            (parts.next()??, parts.next().flatten().unwrap_or(0), parts.next().flatten().unwrap_or(0));
        Some(Version { number, within_tensorflow: suffix.starts_with("tf") })
    }

    /// Whether it is of the Kerases that were written for TensorFlow 1: all packages before 2.4, and the Keras that was a part
    /// of TensorFlow before `2.2.4-tf`, which TensorFlow 2.0 has.
    pub fn is_former(self) -> bool {
        self.number < if self.within_tensorflow { (2, 2, 4) } else { (2, 4, 0) }
    }
}

/// An option's name, and what Keras 1 called it; where it took several options, the value is the list of theirs.
pub type Former = (&'static str, &'static [&'static str]);

/// The options that Keras 1 called the same in all layers that have them.
const COMMON: &[Former] = &[
    ("activity_regularizer", &["a_regularizer"]),
    ("beta_initializer", &["beta_init"]),
    ("bias_constraint", &["b_constraint"]),
    ("bias_regularizer", &["b_regularizer"]),
    ("data_format", &["dim_ordering"]),
    ("depthwise_initializer", &["depthwise_init"]),
    ("dropout", &["dropout_W"]),
    ("filters", &["nb_filter"]),
    ("gamma_initializer", &["gamma_init"]),
    ("implementation", &["consume_less"]),
    ("kernel_constraint", &["W_constraint"]),
    ("kernel_initializer", &["init"]),
    ("kernel_regularizer", &["W_regularizer"]),
    ("padding", &["border_mode"]),
    ("pointwise_initializer", &["pointwise_init"]),
    ("rate", &["p"]),
    ("recurrent_activation", &["inner_activation"]),
    ("recurrent_constraint", &["U_constraint"]),
    ("recurrent_dropout", &["dropout_U"]),
    ("recurrent_initializer", &["inner_init"]),
    ("recurrent_regularizer", &["U_regularizer"]),
    ("stddev", &["sigma"]),
    ("strides", &["subsample"]),
    ("use_bias", &["bias"]),
];

/// What recurrent layers of Keras 1 could save; the position is the number that Keras 2 has for it.
const CONSUME_LESS: [&str; 3] = ["cpu", "mem", "gpu"];

/// The number of the implementation whose weights Keras 1 keeps as they are today, all gates in one.
pub(crate) const JOINED: usize = 2;

/// A layer's config of Keras 1 in the words of Keras 2. `own` are the names that this class alone had.
pub(crate) fn modern(config: &Object, own: &[Former]) -> Object {
    let mut config = config.clone();
    for (key, parts) in own.iter().chain(COMMON) {
        if config.contains_key(*key) || !parts.iter().all(|p| config.contains_key(*p)) {
            continue;
        }
        let mut values: Vec<Value> = parts.iter().filter_map(|p| config.shift_remove(*p)).collect();
        let value = if values.len() == 1 { values.remove(0) } else { Value::Array(values) };
        config.insert((*key).to_owned(), value);
    }
    for (key, value) in &mut config {
        match (key.as_str(), value.as_str()) {
            ("data_format", Some("th")) => *value = json!("channels_first"),
            ("data_format", Some("tf" | "default")) => *value = json!("channels_last"),
            ("implementation", Some(less)) => *value = json!(CONSUME_LESS.iter().position(|&l| l == less)),
            ("unit_forget_bias", Some(initializer)) => *value = json!(matches!(initializer, "one" | "ones")),
            ("padding", None) => *value = padding_pairs(value),
            _ if key.ends_with("_regularizer") || key.ends_with("_constraint") => named(value),
            _ => {}
        }
    }
    config
}

/// Keras 1's paddings of each side, by name or one after the other, in pairs.
fn padding_pairs(value: &Value) -> Value {
    let side = |name: &str| value.get(name).cloned().unwrap_or(json!(0));
    match value {
        Value::Object(sides) if sides.contains_key("left_pad") && !sides.contains_key("top_pad") => {
            json!([side("left_pad"), side("right_pad")])
        }
        Value::Object(_) => {
            json!([[side("top_pad"), side("bottom_pad")], [side("left_pad"), side("right_pad")]])
        }
        Value::Array(sides) => match &sides[..] {
            [top, bottom, left, right] => json!([[top, bottom], [left, right]]),
            _ => value.clone(),
        },
        _ => value.clone(),
    }
}

/// The layers of Keras 1 that don't say how their images lie, but go by Keras's own settings.
const SILENT: &[&str] =
    &["Cropping2D", "Cropping3D", "UpSampling2D", "UpSampling3D", "ZeroPadding2D", "ZeroPadding3D"];

/// Gives layers that go by Keras 1's settings the order of dimensions of the layers around them that do say it.
pub(crate) fn spread_data_format(config: &mut Value) {
    fn any(config: &Value, found: &impl Fn(&Object) -> bool) -> bool {
        match config {
            Value::Object(object) => found(object) || object.values().any(|v| any(v, found)),
            Value::Array(items) => items.iter().any(|v| any(v, found)),
            _ => false,
        }
    }
    if any(config, &|o| o.get("dim_ordering").is_some_and(|d| d == "th")) {
        each_layer(config, &mut |class, config| {
            if SILENT.contains(&class) && !config.contains_key("data_format") {
                config.entry("dim_ordering").or_insert_with(|| json!("th"));
            }
        });
    }
}

/// Says what later versions of Keras 2 would take otherwise: a GRU from before there was a choice resets before.
pub(crate) fn complete(config: &mut Value) {
    each_layer(config, &mut |class, config| {
        // CuDNN's have no choice, and no activation.
        if matches!(class, "GRU" | "GRUCell") && config.contains_key("activation") {
            config.entry("reset_after").or_insert(Value::Bool(false));
        }
    });
}

fn each_layer(config: &mut Value, change: &mut impl FnMut(&str, &mut Object)) {
    match config {
        Value::Object(object) => {
            let class = object.get("class_name").and_then(Value::as_str).map(str::to_owned);
            if let (Some(class), Some(Value::Object(config))) = (class, object.get_mut("config")) {
                change(&class, config);
            }
            object.values_mut().for_each(|v| each_layer(v, change));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| each_layer(v, change)),
        _ => {}
    }
}

/// Keras 1 put the name of a penalty or a constraint among its options: `{"name": "L2", "l2": 0.01}`.
fn named(value: &mut Value) {
    if let Value::Object(node) = value
        && !node.contains_key("class_name")
        && let Some(Value::String(name)) = node.shift_remove("name")
    {
        *value = json!({"class_name": name, "config": std::mem::take(node)});
    }
}

/// How the weights of a file lie, where that isn't as [`Layer::weights`](crate::Layer::weights) has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Keras 1.1 and 1.2: recurrent layers have a weight for each gate, kernels of `channels_first` are `[out, in, ..]`.
    Keras1,
    /// The same of Keras 1.0, whose 1-D kernels are `[out, in, length, 1]`.
    EarlyKeras1,
    /// Kernels of 2-D convolutions are `[in, out, columns, rows]`, as some files of other backends have them.
    Transposed,
    /// Kernels have low-rank adapters beside them, as `.h5` files of Keras 3 do.
    Adapted,
    /// As cuDNN has them: gates transposed, and biases of the input and of the state apart.
    CuDnn,
}

/// The layout of a file's weights, and whether its kernels are flipped, as those trained on Theano are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    /// The layout, where it isn't the present one.
    pub layout: Option<Layout>,
    /// Whether the kernels of convolutions are flipped along their spatial axes.
    pub flipped: bool,
}

impl Origin {
    /// What a file's weights may lie like, the likeliest first. `keras` is the version that wrote them, where the file
    /// says it; `backend` what it ran on.
    pub fn candidates(keras: Option<&str>, is_keras1: bool, backend: Option<&str>) -> Vec<Origin> {
        let old = is_keras1 || keras.is_some_and(|v| v.starts_with("1.") || v == "1");
        let order: &[_] = if old {
            &[
                Some(Layout::Keras1),
                Some(Layout::EarlyKeras1),
                None,
                Some(Layout::Transposed),
                Some(Layout::CuDnn),
            ]
        } else {
            &[
                None,
                Some(Layout::CuDnn),
                Some(Layout::Transposed),
                Some(Layout::Keras1),
                Some(Layout::EarlyKeras1),
                Some(Layout::Adapted),
            ]
        };
        order.iter().map(|&layout| Origin { layout, flipped: backend == Some("theano") }).collect()
    }

    /// Whether weights lie as they do today.
    pub fn is_present(&self) -> bool {
        *self == Origin::default()
    }
}

type Convert = Arc<dyn Fn(Vec<Tensor>) -> Result<Vec<Tensor>> + Send + Sync>;

/// A layer's own weights as an older file has them, and how they become those of today.
#[derive(Clone)]
pub struct FormerWeights {
    /// The weights of the file in order.
    pub weights: Vec<WeightSpec>,
    /// Makes today's weights of them, in today's order.
    pub convert: Convert,
}

impl fmt::Debug for FormerWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FormerWeights").field("weights", &self.weights).finish_non_exhaustive()
    }
}

impl FormerWeights {
    /// Weights that become today's by this.
    pub fn new(
        weights: Vec<WeightSpec>,
        convert: impl Fn(Vec<Tensor>) -> Result<Vec<Tensor>> + Send + Sync + 'static,
    ) -> Self {
        FormerWeights { weights, convert: Arc::new(convert) }
    }
}

/// The weights of a convolution whose first one is the kernel `[spatial.., in, out]` (`transposed`: `[.., out, in]`),
/// where an older file has the kernel otherwise.
pub(crate) fn convolution(
    weights: Vec<WeightSpec>,
    origin: &Origin,
    data_format: DataFormat,
    transposed: bool,
) -> Option<FormerWeights> {
    convolutions(weights, 1, origin, data_format, transposed)
}

/// The weights of convolutions one after the other, whose first `count` are kernels as [`convolution`] has them.
pub(crate) fn convolutions(
    mut weights: Vec<WeightSpec>,
    count: usize,
    origin: &Origin,
    data_format: DataFormat,
    transposed: bool,
) -> Option<FormerWeights> {
    let turns: Option<Vec<Turn>> =
        weights.iter_mut().take(count).map(|kernel| turn(kernel, origin, data_format, transposed)).collect();
    let turns = turns?;
    Some(FormerWeights::new(weights, move |mut weights| {
        for (kernel, turn) in weights.iter_mut().zip(&turns) {
            let turned = array::transpose(kernel, &turn.axes)?.reshape(&turn.shape)?;
            *kernel = array::reverse(&turned, &turn.flipped)?;
        }
        Ok(weights)
    }))
}

/// How a kernel becomes today's.
struct Turn {
    axes: Vec<usize>,
    shape: Vec<usize>,
    flipped: Vec<usize>,
}

/// Gives a kernel the shape that an older file has for it; nothing where it lies alike.
fn turn(kernel: &mut WeightSpec, origin: &Origin, data_format: DataFormat, transposed: bool) -> Option<Turn> {
    let rank = kernel.shape.len();
    let spatial = rank.checked_sub(2)?;
    // The axes of the file's kernel that become today's.
    let axes: Vec<usize> = match (origin.layout, data_format) {
        // A 1-D kernel had an axis more.
        (Some(Layout::Keras1), _) if spatial == 1 && !transposed => vec![0, 2, 3, 1],
        (Some(Layout::EarlyKeras1), _) if spatial == 1 && !transposed => vec![2, 1, 0, 3],
        (Some(Layout::Keras1 | Layout::EarlyKeras1), DataFormat::ChannelsFirst) if transposed => {
            (2..rank).chain([0, 1]).collect()
        }
        (Some(Layout::Keras1 | Layout::EarlyKeras1), DataFormat::ChannelsFirst) => {
            (2..rank).chain([1, 0]).collect()
        }
        (Some(Layout::Keras1 | Layout::EarlyKeras1), DataFormat::ChannelsLast) if transposed => {
            (0..spatial).chain([rank - 1, spatial]).collect()
        }
        (Some(Layout::Transposed), _) if rank == 4 => vec![3, 2, 0, 1],
        _ => (0..rank).collect(),
    };
    if !origin.flipped && axes.iter().copied().eq(0..rank) {
        return None;
    }
    let today = kernel.shape.clone();
    let mut extents = today.clone();
    extents.resize(axes.len(), 1);
    let mut shape = vec![1; axes.len()];
    for (&axis, &extent) in axes.iter().zip(&extents) {
        if let Some(place) = shape.get_mut(axis) {
            *place = extent;
        }
    }
    kernel.shape = shape;
    let flipped = if origin.flipped { (0..spatial).collect() } else { Vec::new() };
    Some(Turn { axes, shape: today, flipped })
}

/// The weights of a recurrent cell: kernel `[.., in, gates * units]`, recurrent kernel `[.., units, gates * units]`, and
/// perhaps a bias, where an older file has them otherwise.
///
/// `order` says which of Keras 1's gates each of today's is; of convolutions with `channels_first` Keras 1 had the
/// kernels as `[units, in, ..]`.
pub(crate) fn recurrent(
    weights: &[WeightSpec],
    origin: &Origin,
    order: &'static [usize],
    channels_first: bool,
) -> Option<FormerWeights> {
    let [kernel, recurrent, rest @ ..] = weights else { return None };
    let gates = order.len();
    let units = recurrent.shape.last()?.checked_div(gates)?;
    let rank = kernel.shape.len();
    // Where each of today's axes is in the file.
    let axes: Vec<usize> =
        if channels_first { (2..rank).chain([1, 0]).collect() } else { (0..rank).collect() };
    match origin.layout? {
        Layout::Keras1 | Layout::EarlyKeras1 if gates > 1 => {
            let bias = rest.first()?;
            let of = |gate: usize| {
                let spec = |of: &WeightSpec, name: &str, shape: Vec<usize>| WeightSpec {
                    name: format!("{name}_{gate}"),
                    shape,
                    ..of.clone()
                };
                let alone = |of: &WeightSpec| {
                    let mut today = of.shape.clone();
                    today.pop();
                    today.push(units);
                    let mut shape = today.clone();
                    for (&axis, extent) in axes.iter().zip(today) {
                        if let Some(place) = shape.get_mut(axis) {
                            *place = extent;
                        }
                    }
                    shape
                };
                [
                    spec(kernel, "W", alone(kernel)),
                    spec(recurrent, "U", alone(recurrent)),
                    spec(bias, "b", vec![units]),
                ]
            };
            let rows = bias.shape.len();
            let specs = (0..gates).flat_map(of).collect();
            Some(FormerWeights::new(specs, move |weights| {
                let join = |kind: usize| -> Result<Tensor> {
                    let part = |gate: &usize| {
                        let part = weights.get(3 * gate + kind);
                        let part = part.ok_or_else(|| Error::missing("a gate has no weights"))?;
                        Ok(if kind < 2 { array::transpose(part, &axes)? } else { part.clone() })
                    };
                    let parts = order.iter().map(part).collect::<Result<Vec<Tensor>>>()?;
                    let last = if kind < 2 { rank - 1 } else { 0 };
                    Ok(array::concat(&parts.iter().collect::<Vec<_>>(), last)?)
                };
                let bias = join(2)?;
                // A bias of two rows has the state's apart, which Keras 1 hadn't.
                let bias = if rows == 2 {
                    array::stack(&[&bias, &Tensor::zeros(bias.dtype(), bias.shape())?], 0)?
                } else {
                    bias
                };
                Ok(vec![join(0)?, join(1)?, bias])
            }))
        }
        Layout::CuDnn if gates > 1 => {
            let bias = rest.first()?;
            let today = bias.shape.clone();
            let mut former = weights.to_vec();
            former.get_mut(2)?.shape = vec![gates.checked_mul(2)?.checked_mul(units)?];
            Some(FormerWeights::new(former, move |weights| {
                let [kernel, recurrent, bias] = <[Tensor; 3]>::try_from(weights)
                    .map_err(|_| Error::mismatch("it takes a kernel, a recurrent kernel and a bias"))?;
                Ok(vec![
                    of_cudnn(&kernel, gates)?,
                    of_cudnn(&recurrent, gates)?,
                    bias_of_cudnn(bias, &today)?,
                ])
            }))
        }
        _ => None,
    }
}

/// Each gate's block, transposed: cuDNN keeps `[units, in]` in the memory of `[in, units]`.
fn of_cudnn(kernel: &Tensor, gates: usize) -> Result<Tensor> {
    let &[width, columns] = kernel.shape() else { return Err(Error::mismatch("a kernel has two axes")) };
    let units = columns.checked_div(gates).unwrap_or_default();
    let blocks = array::split(kernel, 1, &vec![units; gates])?;
    let turned = blocks
        .into_iter()
        .map(|block| Ok(array::transpose(&block.reshape([units, width])?, &[1, 0])?))
        .collect::<Result<Vec<_>>>()?;
    Ok(array::concat(&turned.iter().collect::<Vec<_>>(), 1)?)
}

/// The input's and the state's biases: one after the other, added where there is one bias today.
fn bias_of_cudnn(bias: Tensor, today: &[usize]) -> Result<Tensor> {
    if today.len() == 2 {
        return Ok(bias.reshape(today)?);
    }
    let width = today.iter().product::<usize>();
    let halves = array::split(&bias, 0, &[width, width])?;
    let [input, state] =
        <[Tensor; 2]>::try_from(halves).map_err(|_| Error::mismatch("a bias has two halves"))?;
    let (input, state) = (input.elements::<f32>()?, state.elements::<f32>()?);
    let sums = input.iter().zip(state.iter()).map(|(a, b)| a + b).collect();
    Ok(Tensor::from_vec::<f32>(sums, today)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Initializer;

    fn spec(name: &str, shape: &[usize]) -> WeightSpec {
        WeightSpec::new(name, shape, &Initializer::Zeros)
    }

    fn range(shape: &[usize], from: usize) -> Tensor {
        let count: usize = shape.iter().product();
        Tensor::from_vec((from..from + count).map(|i| i as f32).collect::<Vec<_>>(), shape).expect("range")
    }

    #[test]
    fn versions_tell_their_age() {
        let is_former = |text: &str| Version::parse(text).map(Version::is_former);
        for old in ["1", "1.2.2", "2.0.8", "2.3.1", "2.1.6-tf", "2.2.4rc1"] {
            assert_eq!(is_former(old), Some(true), "{old}");
        }
        for new in ["2.2.4-tf", "2.3.0-tf", "2.4.0", "2.15.0", "3.0", "3.15.1"] {
            assert_eq!(is_former(new), Some(false), "{new}");
        }
        assert_eq!(is_former("unknown"), None);
    }

    #[test]
    fn options_of_keras_1_get_todays_names() {
        let config = json!({"nb_row": 3, "nb_col": 2, "dim_ordering": "th", "init": "he_normal", "subsample": [1, 1],
            "W_regularizer": {"name": "WeightRegularizer", "l1": 0.0, "l2": 0.5}, "b_constraint": null,
            "forget_bias_init": "one", "bias": true});
        let own: &[Former] =
            &[("kernel_size", &["nb_row", "nb_col"]), ("unit_forget_bias", &["forget_bias_init"])];
        let modern = Value::from(modern(config.as_object().expect("object"), own));
        let wanted = json!({"kernel_size": [3, 2], "data_format": "channels_first", "kernel_initializer": "he_normal",
            "kernel_regularizer": {"class_name": "WeightRegularizer", "config": {"l1": 0.0, "l2": 0.5}},
            "bias_constraint": null, "unit_forget_bias": true, "use_bias": true, "strides": [1, 1]});
        assert_eq!(modern, wanted);
    }

    #[test]
    fn paddings_of_each_side_are_paired() {
        let named = json!({"top_pad": 1, "bottom_pad": 2, "left_pad": 3});
        assert_eq!(padding_pairs(&named), json!([[1, 2], [3, 0]]));
        assert_eq!(padding_pairs(&json!({"left_pad": 1, "right_pad": 2})), json!([1, 2]));
        assert_eq!(padding_pairs(&json!([1, 2, 3, 4])), json!([[1, 2], [3, 4]]));
        assert_eq!(padding_pairs(&json!([1, 2])), json!([1, 2]));
    }

    #[test]
    fn what_older_versions_leave_unsaid_is_said() {
        let layer = |class: &str, config: Value| json!({"class_name": class, "config": config});
        let mut first = json!([
            layer("ZeroPadding2D", json!({"padding": [1, 1]})),
            layer("Convolution2D", json!({"dim_ordering": "th"})),
        ]);
        let mut last =
            json!([layer("ZeroPadding2D", json!({})), layer("Convolution2D", json!({"dim_ordering": "tf"}))]);
        let as_it_was = last.clone();
        spread_data_format(&mut first);
        spread_data_format(&mut last);
        assert_eq!((first.pointer("/0/config/dim_ordering"), last), (Some(&json!("th")), as_it_was));

        let mut model = json!({"config": {"layers": [
            layer("GRU", json!({"activation": "tanh"})),
            layer("GRU", json!({"activation": "tanh", "reset_after": true})),
            layer("CuDNNGRU", json!({})),
        ]}});
        complete(&mut model);
        let said = |i: usize| {
            model.pointer(&format!("/config/layers/{i}/config/reset_after")).and_then(Value::as_bool)
        };
        assert_eq!([said(0), said(1), said(2)], [Some(false), Some(true), None]);
    }

    #[test]
    fn kernels_of_theano_are_turned_and_flipped() {
        let origin = Origin { layout: Some(Layout::Keras1), flipped: true };
        let weights = vec![spec("kernel", &[2, 3, 4, 5]), spec("bias", &[5])];
        let former = convolution(weights, &origin, DataFormat::ChannelsFirst, false).expect("differs");
        assert_eq!(former.weights[0].shape, [5, 4, 2, 3]);
        let old = range(&[5, 4, 2, 3], 0);
        let new = (former.convert)(vec![old, range(&[5], 0)]).expect("converts");
        assert_eq!(new[0].shape(), [2, 3, 4, 5]);
        // [out 1, in 2, row 1, column 2] goes to [row 0, column 0, in 2, out 1].
        let value = new[0].as_slice::<f32>().expect("f32")[2 * 5 + 1];
        assert_eq!(value, (((4 + 2) * 2 + 1) * 3 + 2) as f32);
        assert!(
            convolution(
                vec![spec("kernel", &[1, 2, 3, 4])],
                &Origin::default(),
                DataFormat::ChannelsLast,
                false
            )
            .is_none()
        );
    }

    #[test]
    fn one_dimensional_kernels_lose_an_axis() {
        let weights = || vec![spec("kernel", &[3, 4, 5])];
        for (layout, shape) in [(Layout::Keras1, [3, 1, 4, 5]), (Layout::EarlyKeras1, [5, 4, 3, 1])] {
            let origin = Origin { layout: Some(layout), flipped: false };
            let former = convolution(weights(), &origin, DataFormat::ChannelsLast, false).expect("differs");
            assert_eq!(former.weights[0].shape, shape);
            let new = (former.convert)(vec![range(&shape, 0)]).expect("converts");
            assert_eq!(new[0].shape(), [3, 4, 5]);
        }
    }

    #[test]
    fn gates_are_joined_in_todays_order() {
        let weights = [spec("kernel", &[2, 12]), spec("recurrent_kernel", &[3, 12]), spec("bias", &[12])];
        let origin = Origin { layout: Some(Layout::Keras1), flipped: false };
        let former = recurrent(&weights, &origin, &[0, 2, 1, 3], false).expect("differs");
        assert_eq!(former.weights.len(), 12);
        let old: Vec<Tensor> =
            former.weights.iter().enumerate().map(|(i, w)| range(&w.shape, 100 * i)).collect();
        let new = (former.convert)(old).expect("converts");
        assert_eq!(new.iter().map(Tensor::shape).collect::<Vec<_>>(), [&[2, 12][..], &[3, 12], &[12]]);
        let bias = new[2].as_slice::<f32>().expect("f32");
        assert_eq!([bias[0], bias[3], bias[6], bias[9]], [200.0, 800.0, 500.0, 1100.0]);
    }

    #[test]
    fn cudnn_keeps_gates_transposed() {
        let weights = [spec("kernel", &[2, 12]), spec("recurrent_kernel", &[3, 12]), spec("bias", &[12])];
        let origin = Origin { layout: Some(Layout::CuDnn), flipped: false };
        let former = recurrent(&weights, &origin, &[0, 2, 1, 3], false).expect("differs");
        assert_eq!(former.weights[2].shape, [24]);
        let old: Vec<Tensor> = former.weights.iter().map(|w| range(&w.shape, 0)).collect();
        let new = (former.convert)(old).expect("converts");
        // The first gate's block is [[0, 1, 2], [12, 13, 14]]; its memory read as [3, 2] and transposed.
        let kernel = new[0].as_slice::<f32>().expect("f32");
        assert_eq!((kernel[..3].to_vec(), kernel[12..15].to_vec()), (vec![0., 2., 13.], vec![1., 12., 14.]));
        assert_eq!(new[2].as_slice::<f32>().expect("f32")[1], 14.0);
    }
}
