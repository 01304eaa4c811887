//! Making, joining, repeating, padding and reordering tensors, and choosing between them.

use super::args::{all_tensors, axis, extents, int, map1, one, tensors};
use super::windows::{channels_to_back, channels_to_front};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::array::{self, Mirror};
use crate::tensor::{self, DType, Shape, Tensor};
use crate::{Error, Result};

fn concat(tensors: &[Tensor], at: i64) -> Result<Values> {
    let rank = tensors.iter().map(Tensor::rank).max().unwrap_or_default();
    let at = axis(at, rank)?;
    one(array::concat(&tensors.iter().collect::<Vec<_>>(), at)?)
}

fn pack(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let at = a.int("axis")?;
    Ok(kernel(move |_, inputs| {
        let all = all_tensors(inputs)?;
        let rank = all.first().map(Tensor::rank).unwrap_or_default();
        let at = axis(at, rank + 1)?;
        one(array::stack(&all.iter().collect::<Vec<_>>(), at)?)
    }))
}

/// A permutation of `rank` dimensions.
fn permutation(t: &Tensor, rank: usize) -> Result<Shape> {
    let order: Shape = t.to_i64_vec()?.into_iter().map(|a| axis(a, rank)).collect::<Result<_>>()?;
    if order.len() != rank {
        return Err(Error::compute(format!("a permutation of {} doesn't fit rank {rank}", order.len())));
    }
    Ok(order)
}

/// What is added before and after each dimension.
pub(super) fn paddings(t: &Tensor, rank: usize) -> Result<Vec<(usize, usize)>> {
    if t.shape() != [rank, 2] {
        return Err(Error::compute(format!("paddings of shape {:?} don't fit rank {rank}", t.shape())));
    }
    let values = t.to_i64_vec()?;
    let pair = |p: &[i64]| Some((usize::try_from(*p.first()?).ok()?, usize::try_from(*p.get(1)?).ok()?));
    values
        .chunks(2)
        .map(pair)
        .collect::<Option<_>>()
        .ok_or_else(|| Error::compute(format!("paddings {values:?} are negative")))
}

/// Which values the mirror at an edge repeats.
pub(super) fn mirror(a: &NodeAttrs<'_>) -> Result<Mirror> {
    match a.str("mode")? {
        "REFLECT" => Ok(Mirror::Reflect),
        "SYMMETRIC" => Ok(Mirror::Symmetric),
        other => Err(Error::graph(format!("there is no mode {other:?}"))),
    }
}

fn mirror_pad(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let mirror = mirror(a)?;
    Ok(kernel(move |_, inputs| {
        let [x, pads] = tensors(inputs)?;
        let pads = paddings(&pads, x.rank())?;
        one(array::mirror_pad(&x, &pads, mirror)?)
    }))
}

fn one_hot(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let at = a.int("axis")?;
    Ok(kernel(move |_, inputs| {
        let [indices, depth, on, off] = tensors(inputs)?;
        let depth = usize::try_from(int(&depth, "the depth")?).map_err(|_| Error::compute("the depth is negative"))?;
        let at = axis(at, indices.rank() + 1)?;
        one(array::one_hot(&indices, depth, &on, &off, at)?)
    }))
}

/// A scalar zero (or empty string) of a dtype.
fn zero(dtype: DType) -> tensor::Result<Tensor> {
    Tensor::zeros(dtype, [])
}

fn space_to_batch(block: &[usize], pads: &[(usize, usize)], x: Tensor) -> Result<Tensor> {
    let m = block.len();
    if x.rank() <= m || block.contains(&0) {
        return Err(Error::compute(format!("blocks {block:?} don't fit shape {:?}", x.shape())));
    }
    let mut all = vec![(0, 0); x.rank()];
    all[1..=m].copy_from_slice(pads);
    let x = array::pad(&x, &all, &zero(x.dtype())?)?;
    let (batch, rest) = (x.shape()[0], Shape::from(&x.shape()[m + 1..]));
    let mut split: Shape = [batch].into_iter().collect();
    let mut out: Shape = [batch.saturating_mul(block.iter().product())].into_iter().collect();
    for (i, &b) in block.iter().enumerate() {
        let extent = x.shape()[i + 1];
        if extent % b != 0 {
            return Err(Error::compute(format!("padded extent {extent} isn't a multiple of block {b}")));
        }
        split.extend([extent / b, b]);
        out.push(extent / b);
    }
    split.extend(rest.iter().copied());
    out.extend(rest.iter().copied());
    let mut order: Shape = (0..m).map(|i| 2 * i + 2).collect();
    order.push(0);
    order.extend((0..m).map(|i| 2 * i + 1));
    order.extend(2 * m + 1..split.len());
    Ok(array::transpose(&x.reshape(split)?, &order)?.reshape(out)?)
}

fn batch_to_space(block: &[usize], crops: &[(usize, usize)], x: Tensor) -> Result<Tensor> {
    let m = block.len();
    let blocks: usize = block.iter().product();
    if x.rank() <= m || blocks == 0 || !x.shape()[0].is_multiple_of(blocks) {
        return Err(Error::compute(format!("blocks {block:?} don't fit shape {:?}", x.shape())));
    }
    let batch = x.shape()[0] / blocks;
    let (space, rest) = (Shape::from(&x.shape()[1..=m]), Shape::from(&x.shape()[m + 1..]));
    let mut split: Shape = block.into();
    split.push(batch);
    split.extend(space.iter().copied());
    split.extend(rest.iter().copied());
    let mut order: Shape = [m].into_iter().collect();
    let mut whole: Shape = [batch].into_iter().collect();
    for i in 0..m {
        order.extend([m + 1 + i, i]);
        whole.push(space[i].saturating_mul(block[i]));
    }
    order.extend(2 * m + 1..split.len());
    whole.extend(rest.iter().copied());
    let x = array::transpose(&x.reshape(split)?, &order)?.reshape(whole)?;
    let mut begin: Shape = Shape::from_elem(0, x.rank());
    let mut size = Shape::from(x.shape());
    for (i, &(before, after)) in crops.iter().enumerate() {
        begin[i + 1] = before;
        size[i + 1] = size[i + 1]
            .checked_sub(before.saturating_add(after))
            .ok_or_else(|| Error::compute(format!("crops {crops:?} are more than shape {:?}", x.shape())))?;
    }
    Ok(array::slice(&x, &begin, &size)?)
}

/// From the block shape, and what is padded or cropped at each edge, a tensor cut anew.
type Cut = fn(&[usize], &[(usize, usize)], Tensor) -> Result<Tensor>;

fn blocks(f: Cut) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [x, block, edges] = tensors(inputs)?;
        let block = extents(&block, "the block shape")?;
        let edges = paddings(&edges, block.len())?;
        one(f(&block, &edges, x)?)
    }))
}

/// The old ops, whose block is an attribute.
fn square_blocks(a: &NodeAttrs<'_>, f: Cut) -> Result<Box<dyn Kernel>> {
    let b = usize::try_from(a.int("block_size")?).ok().filter(|b| *b > 1);
    let b = b.ok_or_else(|| Error::graph("attribute \"block_size\" must be over 1"))?;
    Ok(kernel(move |_, inputs| {
        let [x, edges] = tensors(inputs)?;
        one(f(&[b, b], &paddings(&edges, 2)?, x)?)
    }))
}

/// `[.., h*b, w*b, c]` and `[.., h, w, b*b*c]`, one into the other.
fn depth_and_space(a: &NodeAttrs<'_>, to_depth: bool) -> Result<Box<dyn Kernel>> {
    let b = usize::try_from(a.int("block_size")?).ok().filter(|b| *b > 1);
    let b = b.ok_or_else(|| Error::graph("attribute \"block_size\" must be over 1"))?;
    let channels_first = match a.str("data_format")? {
        "NHWC" => false,
        "NCHW" => true,
        other => return Err(Error::unsupported(format!("data format {other:?}"))),
    };
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        let x = if channels_first { channels_to_back(x)? } else { x };
        let &[n, h, w, c] = x.shape() else {
            return Err(Error::compute(format!("an image has 4 dimensions, got shape {:?}", x.shape())));
        };
        let wrong = || Error::compute(format!("blocks of {b} don't fit shape {:?}", [n, h, w, c]));
        let moved = if to_depth {
            if h % b != 0 || w % b != 0 {
                return Err(wrong());
            }
            let x = x.reshape([n, h / b, b, w / b, b, c])?;
            array::transpose(&x, &[0, 1, 3, 2, 4, 5])?.reshape([n, h / b, w / b, b * b * c])?
        } else {
            if c % (b * b) != 0 {
                return Err(wrong());
            }
            let depth = c / (b * b);
            let x = x.reshape([n, h, w, b, b, depth])?;
            array::transpose(&x, &[0, 1, 3, 2, 4, 5])?.reshape([n, h * b, w * b, depth])?
        };
        one(if channels_first { channels_to_front(moved)? } else { moved })
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("Pack(values: N * T) -> (output: T); N: int; T: type; axis: int = 0", pack),
    Op::new("ConcatV2(values: N * T, axis: Tidx) -> (output: T); N: int; T: type; Tidx: type = int32", |_| {
        Ok(kernel(|_, inputs| {
            let mut all = all_tensors(inputs)?;
            let at = all.pop().ok_or_else(|| Error::graph("takes an axis"))?;
            concat(&all, int(&at, "the axis")?)
        }))
    }),
    Op::new("Concat(concat_dim: int32, values: N * T) -> (output: T); N: int; T: type", |_| {
        Ok(kernel(|_, inputs| {
            let mut all = all_tensors(inputs)?;
            if all.is_empty() {
                return Err(Error::graph("takes an axis"));
            }
            let at = all.remove(0);
            concat(&all, int(&at, "the axis")?)
        }))
    }),
    Op::new("Transpose(x: T, perm: Tperm) -> (y: T); T: type; Tperm: type = int32", |_| {
        Ok(kernel(|_, inputs| {
            let [x, order] = tensors(inputs)?;
            let order = permutation(&order, x.rank())?;
            one(array::transpose(&x, &order)?)
        }))
    }).ranks("_ 1"),
    Op::new("ConjugateTranspose(x: T, perm: Tperm) -> (y: T); T: type; Tperm: type = int32", |_| {
        Ok(kernel(|_, inputs| {
            let [x, order] = tensors(inputs)?;
            let order = permutation(&order, x.rank())?;
            one(tensor::kernels::elementwise::conj(array::transpose(&x, &order)?)?)
        }))
    }).ranks("_ 1"),
    Op::new("InvertPermutation(x: T) -> (y: T); T: type = int32", |_| {
        map1(|x| array::cast(&array::invert_permutation(&x)?, x.dtype()))
    }),
    Op::new("Tile(input: T, multiples: Tmultiples) -> (output: T); T: type; Tmultiples: type = int32", |_| {
        Ok(kernel(|_, inputs| {
            let [x, multiples] = tensors(inputs)?;
            one(array::tile(&x, &extents(&multiples, "multiples")?)?)
        }))
    }),
    Op::new("BroadcastTo(input: T, shape: Tidx) -> (output: T); T: type; Tidx: type = int32", |_| {
        Ok(kernel(|_, inputs| {
            let [x, shape] = tensors(inputs)?;
            one(array::broadcast_to(&x, &extents(&shape, "the shape")?)?)
        }))
    }).ranks("_ 1"),
    Op::new("Fill(dims: index_type, value: T) -> (output: T); T: type; index_type: type = int32", |_| {
        Ok(kernel(|_, inputs| {
            let [shape, value] = tensors(inputs)?;
            one(array::fill(&extents(&shape, "the shape")?, &value)?)
        }))
    }),
    Op::new("Empty(shape: int32) -> (output: dtype); dtype: type; init: bool = false; stateful", |a| {
        let dtype = a.dtype("dtype")?;
        map1(move |shape| {
            let shape = extents(&shape, "the shape").map_err(|e| tensor::Error::value(e.to_string()))?;
            Tensor::zeros(dtype, shape)
        })
    }),
    Op::new("Range(start: Tidx, limit: Tidx, delta: Tidx) -> (output: Tidx); Tidx: type = int32", |_| {
        Ok(kernel(|_, inputs| {
            let [start, limit, delta] = tensors(inputs)?;
            one(array::range(&start, &limit, &delta)?)
        }))
    }),
    Op::new("LinSpace(start: T, stop: T, num: Tidx) -> (output: T); T: type; Tidx: type = int32", |_| {
        Ok(kernel(|_, inputs| {
            let [start, stop, count] = tensors(inputs)?;
            let count = usize::try_from(int(&count, "num")?).unwrap_or_default();
            one(array::linspace(&start, &stop, count)?)
        }))
    }),
    Op::new("OneHot(indices: TI, depth: int32, on_value: T, off_value: T) -> (output: T); axis: int = -1; T: type; TI: type = int64", one_hot).ranks("_ 0 0 0"),
    Op::new("Pad(input: T, paddings: Tpaddings) -> (output: T); T: type; Tpaddings: type = int32", |_| {
        Ok(kernel(|_, inputs| {
            let [x, pads] = tensors(inputs)?;
            let pads = paddings(&pads, x.rank())?;
            one(array::pad(&x, &pads, &zero(x.dtype())?)?)
        }))
    }),
    Op::new("PadV2(input: T, paddings: Tpaddings, constant_values: T) -> (output: T); T: type; Tpaddings: type = int32", |_| {
        Ok(kernel(|_, inputs| {
            let [x, pads, value] = tensors(inputs)?;
            let pads = paddings(&pads, x.rank())?;
            one(array::pad(&x, &pads, &value)?)
        }))
    }),
    Op::new("MirrorPad(input: T, paddings: Tpaddings) -> (output: T); T: type; Tpaddings: type = int32; mode: string", mirror_pad),
    Op::new("SelectV2(condition: bool, t: T, e: T) -> (output: T); T: type", |_| {
        Ok(kernel(|_, inputs| {
            let [condition, a, b] = tensors(inputs)?;
            one(array::select(&condition, &a, &b)?)
        }))
    }),
    Op::new("Select(condition: bool, t: T, e: T) -> (output: T); T: type", |_| {
        Ok(kernel(|_, inputs| {
            let [condition, a, b] = tensors(inputs)?;
            one(array::select_slices(&condition, &a, &b)?)
        }))
    }),
    Op::new("Where(input: T) -> (index: int64); T: type = bool", |_| map1(|x| array::coordinates(&x))).ranks("1+"),
    Op::new("SpaceToBatchND(input: T, block_shape: Tblock_shape, paddings: Tpaddings) -> (output: T); T: type; Tblock_shape: type = int32; Tpaddings: type = int32", |_| blocks(space_to_batch)),
    Op::new("BatchToSpaceND(input: T, block_shape: Tblock_shape, crops: Tcrops) -> (output: T); T: type; Tblock_shape: type = int32; Tcrops: type = int32", |_| blocks(batch_to_space)),
    Op::new("SpaceToBatch(input: T, paddings: Tpaddings) -> (output: T); T: type; Tpaddings: type = int32; block_size: int", |a| square_blocks(a, space_to_batch)),
    Op::new("BatchToSpace(input: T, crops: Tidx) -> (output: T); T: type; block_size: int; Tidx: type = int32", |a| square_blocks(a, batch_to_space)),
    Op::new("ParallelConcat(values: N * T) -> (output: T); N: int; T: type; shape: shape", |_| Ok(kernel(|_, inputs| concat(&all_tensors(inputs)?, 0)))),
    Op::new("SpaceToDepth(input: T) -> (output: T); T: type; block_size: int; data_format: string = \"NHWC\"", |a| depth_and_space(a, true)),
    Op::new("DepthToSpace(input: T) -> (output: T); T: type; block_size: int; data_format: string = \"NHWC\"", |a| depth_and_space(a, false)),
    Op::new("Bitcast(input: T) -> (output: type); T: type; type: type", |a| {
        let to = a.dtype("type")?;
        map1(move |x| {
            let (Some(from), Some(size)) = (x.dtype().size(), to.size()) else {
                return Err(tensor::Error::dtype("one of plain bytes", x.dtype()));
            };
            if from == size {
                return x.bitcast_same_width(to);
            }
            // The last dimension takes up, or gives, the elements that one becomes.
            let mut shape = Shape::from(x.shape());
            if from > size {
                shape.push(from / size);
            } else if shape.pop() != Some(size / from) {
                return Err(tensor::Error::shape(format!("shape {:?} can't become {to}", x.shape())));
            }
            Tensor::from_bytes(to, shape, x.bytes()?.clone())
        })
    }),
];
