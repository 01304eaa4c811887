//! Dense.

use modelark_artifact::Result;
use modelark_artifact::graph::Sym;
use serde_json::Value;

use super::Entry;
use crate::adapter::Adapter;
use crate::config::{Activation, Fields, Initializer, Regularizer};
use crate::quantization::Kernel;
use crate::former::{FormerWeights, Origin};
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
    adapter: Adapter,
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
            adapter: Adapter::default(),
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
        self.adapter.visit(f);
    }

    fn weights(&self, inputs: &Inputs) -> Result<Vec<WeightSpec>> {
        let extents = [inputs.first()?.known(-1)?, self.units];
        let kernel = self.kernel.weight("kernel", extents);
        let bias = self.use_bias.then(|| self.bias.weight("bias", [self.units]));
        Ok(match inputs.policy().quantized()? {
            Some(quantization) => quantization.weights(kernel, bias, extents, vec![self.units]),
            None => std::iter::once(kernel).chain(bias).collect(),
        })
    }

    fn former_weights(&self, inputs: &Inputs, origin: &Origin) -> Result<Option<FormerWeights>> {
        self.adapter.former_weights(self.weights(inputs)?, origin)
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
        let quantization = call.inputs().policy().quantized()?;
        let mut y = match quantization {
            None => {
                let kernel = call.weight("kernel")?;
                matmul_last(call, x, kernel, self.units)?
            }
            Some(quantization) => {
                let extents = [call.spec(x).known(-1)?, self.units];
                let kernel =
                    Kernel { shape: &extents, extents, reduced: &[-1], config: &self.quantization_config };
                let product = |call: &mut Call<'_>, x, kernel| matmul_last(call, x, kernel, self.units);
                quantization.apply(call, x, &kernel, product, |_, steps| Ok(steps))?
            }
        };
        if self.use_bias {
            let mut bias = call.weight("bias")?;
            if let Some(quantization) = quantization {
                bias = quantization.bias(call, bias)?;
            }
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
