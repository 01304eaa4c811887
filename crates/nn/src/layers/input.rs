//! Inputs of models.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Dialect, Result, Role};
use serde_json::Value;

use super::Entry;
use crate::config::{DTypePolicy, Fields};
use crate::{Call, Inputs, Layer, Spec, layer};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<InputLayer>(&["InputLayer"])];

/// An input of a model: the shape with the batch, and the dtype (Keras: `InputLayer`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InputLayer {
    /// The shape with the batch; unknown extents are `None`.
    pub batch_shape: Vec<Option<usize>>,
    /// The dtype.
    pub dtype: DTypePolicy,
    sparse: bool,
    ragged: bool,
    optional: bool,
}

impl InputLayer {
    /// An input of any batch, each of whose rows has this shape.
    pub fn new(shape: impl IntoIterator<Item = impl Into<Option<usize>>>) -> Self {
        InputLayer {
            batch_shape: std::iter::once(None).chain(shape.into_iter().map(Into::into)).collect(),
            ..InputLayer::default()
        }
    }

    /// An input of this shape, its batch included.
    pub fn with_batch(shape: &[Option<usize>]) -> Self {
        InputLayer { batch_shape: shape.to_vec(), ..InputLayer::default() }
    }

    /// An input of this dtype.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype.into();
        self
    }

    /// What the config calls a tensor that the layer takes as a dense one all the same.
    pub(crate) fn made_dense(&self) -> Option<&'static str> {
        if self.ragged { Some("ragged") } else { self.sparse.then_some("sparse") }
    }

    /// What is known of the input.
    ///
    /// # Errors
    /// When the dtype isn't known.
    pub fn spec(&self) -> Result<Spec> {
        Ok(Spec::new(self.batch_shape.clone(), self.dtype.compute()?))
    }
}

impl Layer for InputLayer {
    fn class_name(&self) -> &str {
        "InputLayer"
    }

    fn role(&self) -> Role {
        Role::Input
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.renamed("batch_shape", "batch_input_shape", &mut self.batch_shape);
        // Whoever wrote the shape without its batch.
        if f.is_reading() && !f.has("batch_shape") && !f.has("batch_input_shape") && f.has("shape") {
            let mut shape: Vec<Option<usize>> = Vec::new();
            f.read_only("shape", &mut shape);
            self.batch_shape = std::iter::once(None).chain(shape).collect();
        }
        // Keras 1's name.
        f.aliased("dtype", &["input_dtype"], &mut self.dtype);
        f.field("sparse", &mut self.sparse);
        if f.dialect() == Dialect::Keras3 {
            f.sparse("ragged", &mut self.ragged);
        } else {
            f.field("ragged", &mut self.ragged);
        }
        f.keras3("optional", &mut self.optional);
        f.constant("input_tensor", &[], Value::Null);
    }

    fn output(&self, _: &Inputs) -> Result<Vec<Spec>> {
        Ok(vec![self.spec()?])
    }

    fn call(&self, _: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = layer::inputs(given)?;
        Ok(vec![x])
    }

    fn autocasts(&self) -> bool {
        false
    }
}
