//! Moving elements by their width, whatever they mean.

use crate::{ByteString, DType, Error, Result, SharedBytes, Tensor, checked_elements};

/// Fills a result's elements from those of inputs, for elements of any kind.
pub(crate) trait Mover {
    /// `out` has the result's elements, all of them the default; `inputs` have the tensors' own.
    fn run<T: Clone + Send + Sync>(&self, inputs: &[&[T]], out: &mut [T]);
}

/// A tensor of `shape` that `mover` fills from `inputs`, which all have the same dtype as it does.
pub(crate) fn rearrange(inputs: &[&Tensor], shape: &[usize], mover: &impl Mover) -> Result<Tensor> {
    let Some(first) = inputs.first() else { return Err(Error::value("at least one tensor is needed")) };
    let dtype = first.dtype();
    if let Some(other) = inputs.iter().find(|t| t.dtype() != dtype) {
        return Err(Error::dtype(dtype, other.dtype()));
    }
    let n = checked_elements(shape)?;
    if dtype == DType::String {
        let inputs = inputs.iter().map(|t| t.strings()).collect::<Result<Vec<_>>>()?;
        let empty: ByteString = ByteString::from(&[][..]);
        let mut out = vec![empty; n];
        mover.run(&inputs, &mut out);
        return Tensor::from_strings(out, shape);
    }
    match dtype.size() {
        Some(1) => by_width::<1>(dtype, inputs, n, shape, mover),
        Some(2) => by_width::<2>(dtype, inputs, n, shape, mover),
        Some(4) => by_width::<4>(dtype, inputs, n, shape, mover),
        Some(8) => by_width::<8>(dtype, inputs, n, shape, mover),
        Some(16) => by_width::<16>(dtype, inputs, n, shape, mover),
        _ => Err(Error::unsupported(format!("{dtype} elements can't be moved"))),
    }
}

fn by_width<const W: usize>(
    dtype: DType,
    inputs: &[&Tensor],
    n: usize,
    shape: &[usize],
    mover: &impl Mover,
) -> Result<Tensor> {
    let too_large =
        || Error::too_large(format!("a {dtype} tensor of shape {shape:?} is larger than memory could be"));
    let len = n.checked_mul(W).filter(|&l| l <= isize::MAX as usize).ok_or_else(too_large)?;
    // Arrays of bytes may lie at any address, so elements in a mapped file need no copy.
    let inputs = inputs.iter().map(|t| Ok(t.bytes()?.as_chunks::<W>().0)).collect::<Result<Vec<_>>>()?;
    let mut bytes = SharedBytes::try_zeroed(len)?;
    mover.run(&inputs, bytes.make_mut().as_chunks_mut::<W>().0);
    Tensor::from_bytes(dtype, shape, bytes)
}
