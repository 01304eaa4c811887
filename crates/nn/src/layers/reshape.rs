//! Layers that only arrange elements: Flatten, Reshape, Permute, RepeatVector.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Error, Result};

use super::Entry;
use crate::config::{DataFormat, Fields};
use crate::layer::inputs;
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<Flatten>(&["Flatten"]),
    Entry::of::<Reshape>(&["Reshape"]),
    Entry::of::<Permute>(&["Permute"]),
    Entry::of::<RepeatVector>(&["RepeatVector"]),
];

/// The product of extents, where all are known.
fn product(dims: &[Option<usize>]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, d| n.checked_mul((*d)?))
}

/// Makes each row flat (Keras: `Flatten`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Flatten {
    data_format: DataFormat,
}

impl Flatten {
    /// A layer for channels in the last axis.
    pub fn new() -> Self {
        Flatten::default()
    }
}

impl Layer for Flatten {
    fn class_name(&self) -> &str {
        "Flatten"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("data_format", &mut self.data_format);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        Ok(vec![match input.dims()? {
            [] => input.with_shape([Some(1)]),
            [batch] => input.with_shape([*batch, Some(1)]),
            [batch, rest @ ..] => input.with_shape([*batch, product(rest)]),
        }])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [mut x] = inputs(given)?;
        let spec = call.spec(x);
        let rank = spec.rank()?;
        if self.data_format == DataFormat::ChannelsFirst && rank > 2 {
            let order: Vec<usize> = std::iter::once(0).chain(2..rank).chain([1]).collect();
            x = call.transpose(x, &order)?;
        }
        let out = self.output(call.inputs())?;
        let out = out.first().map(|s| s.dims().map(<[_]>::to_vec)).transpose()?.unwrap_or_default();
        Ok(vec![match out[..] {
            [_, Some(width)] => call.reshape(x, &[-1, width as i64])?,
            [Some(batch), None] => call.reshape(x, &[batch as i64, -1])?,
            _ => {
                let (batch, rest) = (call.extent(given.first().copied().unwrap_or(x), 0)?, call.int(-1)?);
                let shape = call.shape(&[batch, rest])?;
                call.apply("Reshape", &[x, shape])?
            }
        }])
    }
}

/// Gives each row another shape (Keras: `Reshape`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reshape {
    target_shape: Vec<i64>,
}

impl Reshape {
    /// Rows of this shape, in which one extent may be -1: whatever is left.
    pub fn new(target_shape: impl Into<Vec<i64>>) -> Self {
        Reshape { target_shape: target_shape.into() }
    }

    /// The target with -1 resolved where the input says enough.
    fn target(&self, input: &Spec) -> Result<Vec<Option<usize>>> {
        let rest = input.dims()?.get(1..).unwrap_or_default();
        let known: Option<usize> = self.target_shape.iter().filter(|&&d| d >= 0).try_fold(1usize, |n, &d| {
            n.checked_mul(usize::try_from(d).ok()?)
        });
        let total = product(rest);
        let wildcards = self.target_shape.iter().filter(|&&d| d < 0).count();
        let fits = match (total, known) {
            (Some(total), Some(known)) if wildcards == 0 => total == known,
            (Some(total), Some(known)) => wildcards == 1 && known > 0 && total.is_multiple_of(known),
            (_, None) => false,
            (None, _) => wildcards <= 1,
        };
        if !fits {
            return Err(Error::mismatch(format!(
                "rows of shape {} can't take the shape {:?}",
                modelark_artifact::tensor::PartialShape::new(rest),
                self.target_shape
            )));
        }
        let left = total.zip(known).and_then(|(t, k)| t.checked_div(k));
        Ok(self.target_shape.iter().map(|&d| usize::try_from(d).ok().or(left)).collect())
    }
}

impl Layer for Reshape {
    fn class_name(&self) -> &str {
        "Reshape"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        // Keras 3 has `None` where the extent isn't known.
        let mut shape: Vec<Option<i64>> = self.target_shape.iter().map(|&d| Some(d)).collect();
        f.aliased("target_shape", &["dims"], &mut shape);
        self.target_shape = shape.into_iter().map(|d| d.unwrap_or(-1)).collect();
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        let batch = input.dims()?.first().copied().flatten();
        Ok(vec![input.with_shape(std::iter::once(batch).chain(self.target(input)?).collect::<Vec<_>>())])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let target = self.target(&call.spec(x))?;
        if target.iter().all(Option::is_some) {
            let shape: Vec<i64> = std::iter::once(-1).chain(target.iter().map(|d| d.unwrap_or(0) as i64)).collect();
            return Ok(vec![call.reshape(x, &shape)?]);
        }
        let mut extents = vec![call.extent(x, 0)?];
        for &d in &self.target_shape {
            extents.push(call.int(d)?);
        }
        let shape = call.shape(&extents)?;
        Ok(vec![call.apply("Reshape", &[x, shape])?])
    }
}

/// Puts the axes of each row in another order, counted from 1 (Keras: `Permute`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Permute {
    dims: Vec<usize>,
}

impl Permute {
    /// The axes in their new order, counted from 1: `[2, 1]` swaps two.
    pub fn new(dims: impl Into<Vec<usize>>) -> Self {
        Permute { dims: dims.into() }
    }

    fn order(&self, rank: usize) -> Result<Vec<usize>> {
        let mut sorted = self.dims.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(1..rank) {
            return Err(Error::mismatch(format!("{:?} isn't an order of the axes 1 to {}", self.dims, rank - 1)));
        }
        Ok(std::iter::once(0).chain(self.dims.iter().copied()).collect())
    }
}

impl Layer for Permute {
    fn class_name(&self) -> &str {
        "Permute"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("dims", &mut self.dims);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        let dims = input.dims()?;
        let order = self.order(dims.len())?;
        Ok(vec![input.with_shape(order.iter().filter_map(|&a| dims.get(a).copied()).collect::<Vec<_>>())])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let order = self.order(call.spec(x).rank()?)?;
        Ok(vec![call.transpose(x, &order)?])
    }
}

/// Repeats each row `n` times along a new axis after the batch (Keras: `RepeatVector`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RepeatVector {
    n: usize,
}

impl RepeatVector {
    /// This many repetitions.
    pub fn new(n: usize) -> Self {
        RepeatVector { n }
    }
}

impl Layer for RepeatVector {
    fn class_name(&self) -> &str {
        "RepeatVector"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("n", &mut self.n);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        match input.dims()? {
            [batch, width] => Ok(vec![input.with_shape([*batch, Some(self.n), *width])]),
            _ => Err(Error::mismatch(format!("it takes 2 dimensions, but got {}", input.shape))),
        }
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let [x] = inputs(given)?;
        let axis = call.int(1)?;
        let y = call.apply("ExpandDims", &[x, axis])?;
        let counts = call.ints(&[1, self.n as i64, 1])?;
        Ok(vec![call.apply("Tile", &[y, counts])?])
    }
}

#[cfg(test)]
mod tests {
    use modelark_artifact::tensor::DType;

    use super::*;

    #[test]
    fn shapes_follow_from_the_inputs() {
        let input = |dims: &[Option<usize>]| Inputs::new(vec![Spec::new(dims, DType::F32)], DType::F32);
        let shown = |layer: &dyn Layer, dims: &[Option<usize>]| {
            layer.output(&input(dims)).map(|o| o[0].shape.to_string()).map_err(|e| e.to_string())
        };
        assert_eq!(shown(&Flatten::new(), &[None, Some(2), Some(3)]).unwrap(), "(None, 6)");
        assert_eq!(shown(&Flatten::new(), &[None, None, Some(3)]).unwrap(), "(None, None)");
        assert_eq!(shown(&Reshape::new([2, -1]), &[None, Some(6)]).unwrap(), "(None, 2, 3)");
        assert_eq!(shown(&Reshape::new([2, -1]), &[None, None]).unwrap(), "(None, 2, None)");
        assert!(shown(&Reshape::new([4, 2]), &[None, Some(6)]).is_err());
        assert_eq!(shown(&Permute::new([2, 1]), &[None, Some(5), Some(6)]).unwrap(), "(None, 6, 5)");
        assert!(shown(&Permute::new([2, 2]), &[None, Some(5), Some(6)]).is_err());
    }
}
