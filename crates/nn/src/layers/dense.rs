//! Dense.

use modelark_artifact::Result;
use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use serde_json::Value;

use super::Entry;
use crate::config::{Activation, Fields, Initializer, Regularizer};
use crate::layer::{WeightOptions, WeightSpec, inputs};
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<Dense>(&["Dense", "TimeDistributedDense"]).formerly(&[("units", &["output_dim"])])];

/// `activation(x @ kernel + bias)` over the last axis, whatever comes before it (Keras: `Dense`).
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    units: usize,
    activation: Activation,
    use_bias: bool,
    kernel: WeightOptions,
    bias: WeightOptions,
    activity_regularizer: Option<Regularizer>,
    /// How the inputs are quantized, where the kernel is.
    quantization_config: Value,
}

impl Default for Dense {
    fn default() -> Self {
        Dense {
            units: 1,
            activation: Activation::default(),
            use_bias: true,
            kernel: WeightOptions::new(Initializer::glorot_uniform()),
            bias: WeightOptions::new(Initializer::Zeros),
            activity_regularizer: None,
            quantization_config: Value::Null,
        }
    }
}

impl Dense {
    /// A layer with this many outputs.
    pub fn new(units: usize) -> Self {
        Dense { units, ..Dense::default() }
    }

    /// The same with this activation function.
    pub fn activation(mut self, activation: impl Into<Activation>) -> Self {
        self.activation = activation.into();
        self
    }

    /// The same with or without a bias.
    pub fn use_bias(mut self, use_bias: bool) -> Self {
        self.use_bias = use_bias;
        self
    }

    /// The same with a kernel that starts from this.
    pub fn kernel_initializer(mut self, initializer: Initializer) -> Self {
        self.kernel.initializer = initializer;
        self
    }

    /// The same with a penalty on the kernel.
    pub fn kernel_regularizer(mut self, regularizer: Regularizer) -> Self {
        self.kernel.regularizer = Some(regularizer);
        self
    }
}

impl Layer for Dense {
    fn class_name(&self) -> &str {
        "Dense"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("units", &mut self.units);
        f.field("activation", &mut self.activation);
        f.field("use_bias", &mut self.use_bias);
        self.kernel.visit("kernel", f);
        self.bias.visit("bias", f);
        f.sparse("activity_regularizer", &mut self.activity_regularizer);
        f.keras3("quantization_config", &mut self.quantization_config);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let mut weights = vec![self.kernel.weight("kernel", [inputs.first()?.known(-1)?, self.units])];
        if self.use_bias {
            weights.push(self.bias.weight("bias", [self.units]));
        }
        if inputs.policy().quantization().is_some() {
            if let Some(kernel) = weights.first_mut() {
                *kernel = kernel.clone().fixed().dtype(DType::I8);
            }
            weights.push(WeightSpec::new("kernel_scale", [self.units], &Initializer::Ones).fixed());
        }
        Ok(weights)
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        let mut dims = input.dims()?.to_vec();
        if let Some(last) = dims.last_mut() {
            *last = Some(self.units);
        }
        Ok(vec![input.with_shape(dims)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let mut y = match call.inputs().policy().quantization() {
            None => {
                let kernel = call.weight("kernel")?;
                matmul_last(call, x, kernel, self.units)?
            }
            Some(_) => self.quantized(call, x)?,
        };
        if self.use_bias {
            let bias = call.weight("bias")?;
            y = call.apply("BiasAdd", &[y, bias])?;
        }
        let out = self.output(call.inputs())?;
        if let Some(spec) = out.into_iter().next() {
            call.describe(y, spec);
        }
        Ok(vec![self.activation.call(call, y)?])
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn quantizes(&self) -> bool {
        true
    }
}

impl Dense {
    /// The product with a kernel of `int8`: unless the config says otherwise, of inputs that are quantized alike, each
    /// row by its largest value (Keras: `AbsMaxQuantizer`).
    fn quantized(&self, call: &mut Call<'_>, x: Sym) -> Result<Sym> {
        /// What keeps the scale of rows of zeros finite.
        const EPSILON: f64 = 1e-7;
        let compute = call.dtype(x);
        let (kernel, mut scale) = (call.raw_weight("kernel")?, call.weight("kernel_scale")?);
        let quantizer = self.quantization_config.pointer("/config/activation_quantizer");
        let mut rows = x;
        if quantizer.is_none_or(|q| !q.is_null()) {
            let size = call.apply("Abs", &[x])?;
            let most = call.reduce("Max", size, &[-1], true)?;
            let epsilon = call.scalar(EPSILON, most)?;
            let most = call.apply("AddV2", &[most, epsilon])?;
            let (low, high) = (call.scalar(-127.0, x)?, call.scalar(127.0, x)?);
            let steps = call.apply("RealDiv", &[high, most])?;
            rows = call.apply("Mul", &[x, steps])?;
            rows = call.apply("Round", &[rows])?;
            rows = call.apply("Maximum", &[rows, low])?;
            rows = call.apply("Minimum", &[rows, high])?;
            scale = call.apply("Mul", &[scale, steps])?;
        }
        // Sums of products of bytes are whole numbers, which float32 holds.
        let spec = Spec { dtype: DType::F32, ..call.spec(x) };
        let rows = call.cast(rows, DType::F32)?;
        call.describe(rows, spec);
        let kernel = call.cast(kernel, DType::F32)?;
        let y = matmul_last(call, rows, kernel, self.units)?;
        let y = call.cast(y, compute)?;
        call.apply("RealDiv", &[y, scale])
    }
}

/// `x @ kernel` over the last axis of `x`, of any rank from two.
pub(crate) fn matmul_last(call: &mut Call<'_>, x: Sym, kernel: Sym, units: usize) -> Result<Sym> {
    let spec = call.spec(x);
    let rank = spec.rank()?;
    if rank <= 2 {
        return call.apply("MatMul", &[x, kernel]);
    }
    let width = spec.known(-1)?;
    let rows = call.reshape(x, &[-1, width as i64])?;
    let y = call.apply("MatMul", &[rows, kernel])?;
    let mut extents = Vec::with_capacity(rank);
    for axis in 0..rank - 1 {
        extents.push(call.extent(x, axis)?);
    }
    extents.push(call.int(units as i64)?);
    let shape = call.shape(&extents)?;
    call.apply("Reshape", &[y, shape])
}
