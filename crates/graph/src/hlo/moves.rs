//! Operations that move, repeat and cut elements, and those that tell of extents.

use modelark_tensor::{DType, Shape, Tensor};

use super::emit::{Val, ints};
use super::{Cx, Lower};
use crate::{Attr, Error, Result};

impl<'m> Lower<'m> {
    /// `None` when the operation is none of these.
    pub(super) fn moves(&mut self, cx: &Cx<'m>, inputs: &[Val]) -> Result<Option<Val>> {
        let made = match (cx.name(), inputs) {
            ("broadcast_in_dim", [x]) => {
                let shape = cx.declared()?;
                x.broadcast(&mut self.e, &shape, &cx.sizes("broadcast_dimensions")?)?
            }
            ("dynamic_broadcast_in_dim", [x, shape]) => {
                let shape = extents(shape)?;
                x.broadcast(&mut self.e, &shape, &cx.sizes("broadcast_dimensions")?)?
            }
            ("broadcast", [x]) => {
                let sizes = cx.sizes("broadcast_sizes")?;
                let shape: Shape = sizes.iter().chain(&x.shape).copied().collect();
                let dims: Vec<usize> = (sizes.len()..shape.len()).collect();
                x.broadcast(&mut self.e, &shape, &dims)?
            }
            ("reshape", [x]) => {
                let shape = cx.declared()?;
                self.e.reshape(x, &shape)?
            }
            ("dynamic_reshape", [x, shape]) => {
                let shape = extents(shape)?;
                self.e.reshape(x, &shape)?
            }
            ("transpose", [x]) => self.e.transpose(x, &cx.sizes("permutation")?)?,
            ("reverse", [x]) => self.reverse(x, &cx.sizes("dimensions")?)?,
            ("concatenate", parts) => self.e.concat(parts, cx.size("dimension")?)?,
            ("slice", [x]) => {
                let (begin, limit) = (cx.sizes("start_indices")?, cx.sizes("limit_indices")?);
                self.cut(x, &begin, &limit, &cx.sizes_or_ones("strides", x.rank())?)?
            }
            ("real_dynamic_slice", [x, begin, limit, stride]) => {
                let all = [extents(begin)?, extents(limit)?, extents(stride)?];
                self.cut(x, &all[0], &all[1], &all[2])?
            }
            ("iota", []) => {
                let shape = cx.declared()?;
                self.iota(&shape, cx.size("iota_dimension")?, cx.dtype()?)?
            }
            ("dynamic_iota", [shape]) => {
                let shape = extents(shape)?;
                self.iota(&shape, cx.size("iota_dimension")?, cx.dtype()?)?
            }
            ("pad", [x, value]) => {
                let (low, high) = (cx.ints("edge_padding_low")?, cx.ints("edge_padding_high")?);
                self.pad(x, value, &low, &high, &cx.ints("interior_padding")?)?
            }
            ("dynamic_pad", [x, value, low, high, interior]) => {
                let known = |v: &Val| v.ints().ok_or_else(unknown);
                self.pad(x, value, &known(low)?, &known(high)?, &known(interior)?)?
            }
            ("get_dimension_size", [x]) => {
                let size = x
                    .shape
                    .get(cx.size("dimension")?)
                    .ok_or_else(|| Error::graph("there is no such dimension"))?;
                let size = i32::try_from(*size).map_err(|_| Error::graph("the dimension is too large"))?;
                Val::known(Tensor::scalar(size))
            }
            ("set_dimension_size", [x, size]) => {
                // The elements that count come first.
                let mut shape = x.shape.clone();
                let size = extents(size)?.first().copied().ok_or_else(unknown)?;
                let place = shape
                    .get_mut(cx.size("dimension")?)
                    .ok_or_else(|| Error::graph("there is no such dimension"))?;
                *place = size;
                self.e.slice(x, &vec![0; x.rank()], &shape, &vec![1; x.rank()])?
            }
            ("bitcast_convert", [x]) => self.bitcast(x, cx.dtype()?)?,
            ("dynamic_slice", [x, starts @ ..]) => {
                let sizes = cx.sizes("slice_sizes")?;
                self.dynamic_slice(x, starts, &sizes)?
            }
            ("dynamic_update_slice", [x, update, starts @ ..]) => {
                let starts = self.starts(x, starts)?;
                self.fits(x, &update.shape)?;
                self.e.whole_op("ModelarkHloUpdateSlice", &[x, update, &starts], &[], x.dtype, &x.shape)?
            }
            ("replica_id" | "partition_id", []) => Val::known(Tensor::scalar(0u32)),
            _ => return Ok(None),
        };
        Ok(Some(made))
    }

    fn cut(&mut self, x: &Val, begin: &[usize], limit: &[usize], stride: &[usize]) -> Result<Val> {
        if [begin.len(), limit.len(), stride.len()].iter().any(|n| *n != x.rank()) {
            return Err(Error::graph(format!("the slice has other dimensions than shape {:?}", x.shape)));
        }
        let size = |d: usize| {
            let long = limit[d].checked_sub(begin[d]).filter(|_| stride[d] > 0 && limit[d] <= x.shape[d]);
            let long =
                long.ok_or_else(|| Error::graph(format!("a slice to {limit:?} leaves shape {:?}", x.shape)))?;
            Ok(long.div_ceil(stride[d]))
        };
        let size = (0..x.rank()).map(size).collect::<Result<Shape>>()?;
        self.e.slice(x, begin, &size, stride)
    }

    pub(super) fn reverse(&mut self, x: &Val, dims: &[usize]) -> Result<Val> {
        if dims.iter().any(|d| *d >= x.rank()) {
            return Err(Error::graph(format!("there are no dimensions {dims:?} of shape {:?}", x.shape)));
        }
        let dims: Vec<usize> = dims.iter().copied().filter(|d| x.shape[*d] > 1).collect();
        if dims.is_empty() {
            return Ok(x.clone());
        }
        self.e.whole_op("ReverseV2", &[x, &ints(&dims)?], &[], x.dtype, &x.shape)
    }

    /// The numbers from zero along a dimension.
    pub(super) fn iota(&mut self, shape: &[usize], dim: usize, dtype: DType) -> Result<Val> {
        let count = *shape.get(dim).ok_or_else(|| Error::graph("there is no such dimension"))?;
        let number = |n: usize| Val::known(Tensor::scalar(n as i64));
        let row =
            self.e.whole_op("Range", &[&number(0), &number(count), &number(1)], &[], DType::I64, &[count])?;
        self.e.cast(&row, dtype)?.broadcast(&mut self.e, shape, &[dim])
    }

    pub(super) fn pad(
        &mut self,
        x: &Val,
        value: &Val,
        low: &[i64],
        high: &[i64],
        interior: &[i64],
    ) -> Result<Val> {
        let rank = x.rank();
        let wrong =
            || Error::graph(format!("padding {low:?} {high:?} {interior:?} doesn't fit shape {:?}", x.shape));
        if [low.len(), high.len(), interior.len()].iter().any(|n| *n != rank) || value.rank() != 0 {
            return Err(wrong());
        }
        let mut shape = Shape::new();
        for d in 0..rank {
            let n = i64::try_from(x.shape[d]).map_err(|_| wrong())?;
            let between =
                interior[d].checked_mul((n - 1).max(0)).filter(|_| interior[d] >= 0).ok_or_else(wrong)?;
            let all = n.checked_add(between).and_then(|v| v.checked_add(low[d])?.checked_add(high[d]));
            shape.push(all.and_then(|v| usize::try_from(v).ok()).ok_or_else(wrong)?);
        }
        if low.iter().chain(high).chain(interior).all(|v| *v == 0) {
            return Ok(x.clone());
        }
        if low.iter().chain(high).all(|v| *v >= 0) && interior.iter().all(|v| *v == 0) {
            let both: Vec<i64> = low.iter().zip(high).flat_map(|(l, h)| [*l, *h]).collect();
            let both = Val::known(Tensor::from_vec(both, [rank, 2])?);
            return self.e.whole_op("PadV2", &[x, &both, value], &[], x.dtype, &shape);
        }
        let list = |v: &[i64]| Attr::List(v.iter().map(|v| Attr::Int(*v)).collect());
        let attrs = [("low", list(low)), ("high", list(high)), ("interior", list(interior))];
        self.e.whole_op("ModelarkHloPad", &[x, value], &attrs, x.dtype, &shape)
    }

    /// Bits as elements of another width: a wider dtype takes the last dimension away, a narrower one adds it.
    fn bitcast(&mut self, x: &Val, dtype: DType) -> Result<Val> {
        let (Some(from), Some(to)) = (x.dtype.size(), dtype.size()) else {
            return Err(Error::unsupported(format!("{} has no bits", x.dtype)));
        };
        let mut shape = x.shape.clone();
        if to < from {
            shape.push(from / to);
        } else if to > from && shape.pop() != Some(to / from) {
            return Err(Error::graph(format!("shape {:?} of {} can't become {dtype}", x.shape, x.dtype)));
        }
        self.e.whole_op("Bitcast", &[x], &[("type", dtype.into())], dtype, &shape)
    }

    /// Where a slice begins, as one vector.
    fn starts(&mut self, x: &Val, starts: &[Val]) -> Result<Val> {
        if starts.len() != x.rank() {
            return Err(Error::graph(format!("{} indices for {} dimensions", starts.len(), x.rank())));
        }
        let mut parts = Vec::new();
        for s in starts {
            let s = self.e.cast(s, DType::I64)?;
            parts.push(self.e.reshape(&s, &[1])?);
        }
        if parts.is_empty() { ints(&[]) } else { self.e.concat(&parts, 0) }
    }

    pub(super) fn dynamic_slice(&mut self, x: &Val, starts: &[Val], sizes: &[usize]) -> Result<Val> {
        self.fits(x, sizes)?;
        let starts = self.starts(x, starts)?;
        if let Some(known) = starts.ints() {
            // What lies outside is moved inside.
            let begin: Vec<usize> = known
                .iter()
                .zip(&x.shape)
                .zip(sizes)
                .map(|((b, n), s)| (*b).clamp(0, (n - s) as i64) as usize)
                .collect();
            return self.e.slice(x, &begin, sizes, &vec![1; sizes.len()]);
        }
        self.e.whole_op("ModelarkHloSlice", &[x, &starts, &ints(sizes)?], &[], x.dtype, sizes)
    }

    /// A slice of known sizes from where a vector says.
    pub(super) fn slice_at(&mut self, x: &Val, start: &Val, sizes: &[usize]) -> Result<Val> {
        self.fits(x, sizes)?;
        let start = self.e.cast(start, DType::I64)?;
        self.e.whole_op("ModelarkHloSlice", &[x, &start, &ints(sizes)?], &[], x.dtype, sizes)
    }

    fn fits(&self, x: &Val, sizes: &[usize]) -> Result<()> {
        if sizes.len() != x.rank() || sizes.iter().zip(&x.shape).any(|(s, n)| s > n) {
            return Err(Error::graph(format!("a slice of {sizes:?} is larger than shape {:?}", x.shape)));
        }
        Ok(())
    }
}

fn unknown() -> Error {
    Error::unsupported("its shape depends on what only a run computes")
}

/// Extents that were computed while lowering.
pub(super) fn extents(v: &Val) -> Result<Vec<usize>> {
    let all = v.ints().ok_or_else(unknown)?;
    all.into_iter()
        .map(|n| usize::try_from(n).map_err(|_| Error::graph(format!("the extent {n} is negative"))))
        .collect()
}
