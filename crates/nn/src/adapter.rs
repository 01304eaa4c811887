//! Low-rank adapters of kernels, which files of Keras 3 may have beside them.

use modelark_artifact::tensor::kernels::array::cast;
use modelark_artifact::tensor::kernels::matmul::{Form, matmul};
use modelark_artifact::tensor::{DType, Tensor};
use modelark_artifact::{Error, Result};
use serde_json::Value;

use crate::WeightSpec;
use crate::config::{Fields, Initializer};
use crate::former::{FormerWeights, Layout, Origin};

/// What training adds to a kernel that stays as it is: the product of two thin matrices (Keras 3: `enable_lora`).
///
/// A `.keras` archive has the sum, an `.h5` the parts, which are added when it is read. So layers have the sum alone.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Adapter {
    rank: Option<usize>,
    alpha: Option<f64>,
}

impl Adapter {
    /// Visits `lora_rank` and `lora_alpha`, which are told rather than written.
    pub fn visit(&mut self, f: &mut Fields<'_>) {
        f.read_only("lora_rank", &mut self.rank);
        f.read_only("lora_alpha", &mut self.alpha);
        if self.rank.is_some() {
            f.note("its low-rank adapter (lora_rank) was added to the kernel and left out");
        }
    }

    /// The weights of a layer, whose first one is the kernel, where the file has the parts.
    ///
    /// # Errors
    /// When the kernel is quantized: then the sum would have to be, too.
    pub fn former_weights(&self, weights: Vec<WeightSpec>, origin: &Origin) -> Result<Option<FormerWeights>> {
        let Some(rank) = self.rank.filter(|_| origin.layout == Some(Layout::Adapted)) else {
            return Ok(None);
        };
        let mut weights = weights;
        let Some(kernel) = weights.first_mut() else { return Ok(None) };
        if kernel.dtype.is_some_and(|dtype| !dtype.is_float()) {
            return Err(Error::unsupported(
                "a low-rank adapter beside a quantized kernel, as .h5 files have them",
            )
            .help("save the model as .keras, where Keras adds them up"));
        }
        kernel.trainable = false;
        let (name, shape, dtype) = (kernel.name.clone(), kernel.shape.clone(), kernel.dtype);
        let Some((&last, before)) = shape.split_last() else { return Ok(None) };
        let part = |end: &str, shape: Vec<usize>| {
            let part = WeightSpec::new(&format!("lora_{name}_{end}"), shape, &Initializer::Zeros);
            WeightSpec { dtype, ..part }
        };
        weights.push(part("a", before.iter().copied().chain([rank]).collect()));
        weights.push(part("b", vec![rank, last]));
        let share = self.alpha.unwrap_or(rank as f64) / rank as f64;
        Ok(Some(FormerWeights::new(weights, move |mut weights| {
            let (Some(b), Some(a)) = (weights.pop(), weights.pop()) else {
                return Err(Error::missing("the parts of its adapter"));
            };
            if let Some(kernel) = weights.first_mut() {
                *kernel = sum(kernel, a, &b, share)?;
            }
            Ok(weights)
        })))
    }
}

/// The classes of Keras's own that may have adapters.
const ADAPTED: [&str; 4] = ["Dense", "EinsumDense", "Embedding", "ReversibleEmbedding"];

/// Leaves the adapters out of a config of Keras 3; says whether there were any.
pub(crate) fn leave_out(config: &mut Value) -> bool {
    match config {
        Value::Object(node) => {
            let class = node.get("class_name").and_then(Value::as_str);
            let own = node.get("registered_name").is_none_or(Value::is_null);
            let adapted = own && class.is_some_and(|class| ADAPTED.contains(&class));
            let layer = node.get_mut("config").and_then(Value::as_object_mut).filter(|_| adapted);
            let left = layer.is_some_and(|layer| {
                layer.shift_remove("lora_alpha");
                layer.shift_remove("lora_rank").is_some()
            });
            node.values_mut().fold(left, |left, value| leave_out(value) || left)
        }
        Value::Array(items) => items.iter_mut().map(leave_out).filter(|left| *left).count() > 0,
        _ => false,
    }
}

/// A kernel with a share of its adapter's product.
fn sum(kernel: &Tensor, a: Tensor, b: &Tensor, share: f64) -> Result<Tensor> {
    let rank = b.shape().first().copied().unwrap_or_default();
    let rows = a.len().checked_div(rank).unwrap_or_default();
    // The parts aren't of the kernel's dtype where that isn't single.
    let wide = |x: &Tensor| cast(x, DType::F64);
    let product = matmul(&wide(&a.reshape([rows, rank])?)?, Form::Plain, &wide(b)?, Form::Plain)?;
    let own = wide(kernel)?;
    let (own, more) = (own.elements::<f64>()?, product.elements::<f64>()?);
    let all = own.iter().zip(more.iter()).map(|(own, more)| own + share * more).collect();
    Ok(cast(&Tensor::from_vec(all, kernel.shape())?, kernel.dtype())?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn adapters_are_left_out_of_keras_own_layers() {
        let layer = |class: &str, registered: Value| json!({"class_name": class, "registered_name": registered, "config": {"lora_rank": 2, "lora_alpha": 2, "units": 3}});
        let mut config =
            json!({"layers": [layer("Dense", Value::Null), layer("Dense", json!("Mine>Dense"))]});
        assert!(leave_out(&mut config));
        assert_eq!(config["layers"][0]["config"], json!({"units": 3}));
        assert_eq!(config["layers"][1]["config"]["lora_rank"], 2);
        assert!(!leave_out(&mut config));
    }

    #[test]
    fn parts_become_a_sum() {
        let adapter = Adapter { rank: Some(1), alpha: Some(2.0) };
        let kernel = WeightSpec::new("kernel", [2, 3], &Initializer::Zeros);
        let bias = WeightSpec::new("bias", [3], &Initializer::Zeros);
        let origin = Origin { layout: Some(Layout::Adapted), flipped: false };
        let none = adapter.former_weights(vec![kernel.clone()], &Origin::default()).expect("no parts");
        assert!(none.is_none());
        let quantized = kernel.clone().dtype(DType::I8);
        let error = adapter.former_weights(vec![quantized], &origin).expect_err("quantized");
        assert!(error.to_string().contains("save the model as .keras"), "{error}");
        let former = adapter.former_weights(vec![kernel, bias], &origin).expect("parts").expect("parts");
        let found: Vec<_> = former.weights.iter().map(|w| (&*w.name, &w.shape[..], w.trainable)).collect();
        assert_eq!(
            found,
            [
                ("kernel", &[2, 3][..], false),
                ("bias", &[3], true),
                ("lora_kernel_a", &[2, 1], true),
                ("lora_kernel_b", &[1, 3], true)
            ]
        );
        let tensor = |data: &[f32], shape: &[usize]| Tensor::from_slice(data, shape).expect("fits");
        let given = vec![
            tensor(&[1.0; 6], &[2, 3]),
            tensor(&[0.5; 3], &[3]),
            tensor(&[1.0, 2.0], &[2, 1]),
            tensor(&[1.0, 0.0, -1.0], &[1, 3]),
        ];
        let made = (former.convert)(given).expect("a sum");
        assert_eq!(made.len(), 2);
        assert_eq!(made[0].as_slice::<f32>().expect("floats"), [3.0, 1.0, -1.0, 5.0, 1.0, -3.0]);
        let half = cast(&tensor(&[1.0, 2.0], &[1, 2]), DType::F16).expect("halves");
        let made = sum(&half, tensor(&[0.5], &[1, 1]), &tensor(&[2.0, 4.0], &[1, 2]), 1.0).expect("a sum");
        assert_eq!(made.dtype(), DType::F16);
        assert_eq!(cast(&made, DType::F32).expect("floats").as_slice::<f32>().expect("floats"), [2.0, 4.0]);
    }
}
