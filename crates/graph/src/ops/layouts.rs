//! The order of dimensions that a data format names.

use super::args::{map1, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::array;
use crate::tensor::Tensor;
use crate::{Error, Result};

/// For each letter of the first format its place in the second.
fn places(a: &NodeAttrs<'_>, from: &str, to: &str) -> Result<Vec<i64>> {
    let (from, to) = (a.str(from)?, a.str(to)?);
    let place = |letter: char| to.find(letter).map(|p| p as i64);
    let places: Option<Vec<i64>> = from.chars().map(place).collect();
    places
        .filter(|p| p.len() == to.len() && !p.is_empty())
        .ok_or_else(|| Error::graph(format!("data formats {from:?} and {to:?} haven't the same letters")))
}

/// Axes of the source format as axes of the target format.
fn axes(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let places = places(a, "src_format", "dst_format")?;
    map1(move |x| {
        let rank = places.len() as i64;
        // As TensorFlow counts axes beyond either end: what is still negative means the last.
        let map = |axis: i64| {
            let counted = axis.wrapping_add(rank) % rank;
            let found = usize::try_from(counted).ok().and_then(|i| places.get(i)).or(places.last()).copied();
            found.unwrap_or_default()
        };
        let mapped = x.to_i64_vec()?.into_iter().map(map).collect::<Vec<_>>();
        array::cast(&Tensor::from_vec(mapped, x.shape())?, x.dtype())
    })
}

/// Values (or pairs of them) that belong to dimensions, in the order of the target format. Without those of batch and
/// channels there are two less.
fn permute(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let whole = places(a, "dst_format", "src_format")?;
    let target = a.str("dst_format")?;
    let source = a.str("src_format")?;
    let spatial: String = source.chars().filter(|c| !"NC".contains(*c)).collect();
    let inner: Vec<i64> = target.chars().filter_map(|c| spatial.find(c).map(|p| p as i64)).collect();
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        let order = [&whole, &inner].into_iter().find(|o| x.shape().first() == Some(&o.len()));
        let order = order.filter(|_| x.rank() == 1 || (x.rank() == 2 && x.shape()[1] == 2));
        let order = order.ok_or_else(|| {
            Error::compute(format!("values of shape {:?} don't belong to {} dimensions", x.shape(), whole.len()))
        })?;
        one(array::gather(&x, &Tensor::from_slice(order, [order.len()])?, 0, 0)?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("DataFormatDimMap(x: T) -> (y: T); T: type = int32; src_format: string = \"NHWC\"; dst_format: string = \"NCHW\"", axes),
    Op::new("DataFormatVecPermute(x: T) -> (y: T); T: type = int32; src_format: string = \"NHWC\"; dst_format: string = \"NCHW\"", permute),
];
