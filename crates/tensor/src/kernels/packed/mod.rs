//! Products and convolutions with weights that were laid out for them once, and what follows them done in cache.
//!
//! [`Packed`] holds weights in the order in which the innermost loop reads them, for the vectors of this machine. The inputs
//! are read where they lie: a row of a product is a few stretches of memory, which serves matrices and windows of
//! images alike. [`After`] is what happens to rows of the result before they leave the cache.
#![allow(unsafe_code, reason = "threads write to their own parts of one result, by pointer")]

mod after;
mod depthwise;
mod matrix;
mod scratch;
mod tile;
mod transposed;
mod vector;
mod windows;
mod winograd;

use std::ops::Range;

pub use after::After;
pub use depthwise::depthwise_after;
pub use transposed::conv_transpose_after;
pub use windows::{conv_after, conv_shape};

use crate::kernels::{parallel, team};
use crate::{DType, Error, Result, Shape, Tensor, checked_elements};
use matrix::{LayOut, Matrix};
use tile::{Area, Job, Rows, Weights};

/// A matrix of `float32` weights for products with rows of inputs. Clones share its memory.
///
/// [`laid_out`](Packed::laid_out), it is read as it lies. As it is given, each product lays out the piece that it comes to, in
/// cache, which is the faster way for weights that are used once.
#[derive(Clone)]
pub struct Packed {
    k: usize,
    n: usize,
    shape: Shape,
    panels: Option<Tensor>,
    weights: Tensor,
    transposed: bool,
    /// Whether these are only for windows of three by three that slide by one.
    windows: bool,
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Packed({:?})", &self.shape[..])
    }
}

impl Packed {
    /// `weights`, whose first `contracted` dimensions are those that are summed over. `transposed` puts the last
    /// dimension first, which is then the one that is summed over. `None` when these aren't weights for the kernels here.
    ///
    /// # Errors
    /// When there are more of them than memory could hold.
    pub fn new(weights: &Tensor, contracted: usize, transposed: bool) -> Result<Option<Packed>> {
        if weights.dtype() != DType::F32 || contracted == 0 || contracted >= weights.rank() {
            return Ok(None);
        }
        let mut shape = Shape::from(weights.shape());
        if transposed {
            if contracted != 1 {
                return Ok(None);
            }
            shape.rotate_right(1);
        }
        let (k, n) = (checked_elements(&shape[..contracted])?, checked_elements(&shape[contracted..])?);
        if k == 0 || n == 0 {
            return Ok(None);
        }
        let weights = weights.clone();
        Ok(Some(Packed { k, n, shape, panels: None, weights, transposed, windows: false }))
    }

    /// The filter of a convolution, `[spatial.., channels, out]`. `slides_by_one` says that its windows are dense and that
    /// each is next to the one before, for which there is a faster way where they are three by three; the result is then
    /// good for nothing else. `None` when these aren't weights for the kernels here.
    ///
    /// # Errors
    /// When there are more of them than memory could hold.
    pub fn filter(weights: &Tensor, slides_by_one: bool) -> Result<Option<Packed>> {
        let packed = Packed::new(weights, weights.rank().saturating_sub(1), false)?;
        let windows = slides_by_one && winograd::takes(weights.shape());
        Ok(packed.map(|packed| Packed { windows, ..packed }))
    }

    /// Lays the weights out in the order in which products read them, for many of these.
    ///
    /// # Errors
    /// When there isn't memory for it.
    pub fn laid_out(mut self) -> Result<Packed> {
        if self.panels.is_none() {
            let matrix = self.matrix()?;
            let (lanes, _) = vector::lanes();
            let size = self.n.checked_next_multiple_of(lanes).and_then(|n| n.checked_mul(self.k));
            let size =
                size.ok_or_else(|| Error::too_large("packed weights are larger than memory could be"))?;
            self.panels = Some(match self.windows {
                true => winograd::transformed(&matrix, size / 9)?,
                false => {
                    let mut panels = fresh(&[size])?;
                    let wide = panel();
                    parallel::for_parts(panels.make_mut::<f32>()?, wide * self.k, 1, |start, part| {
                        for (p, panel) in part.chunks_mut(wide * self.k).enumerate() {
                            let column = start / self.k + p * wide;
                            vector::dispatch(LayOut { matrix, column, panel });
                        }
                    });
                    panels
                }
            });
        }
        Ok(self)
    }

    /// The weights as products find them.
    fn source(&self) -> Result<Weights<'_>> {
        Ok(match &self.panels {
            Some(panels) => Weights::Panels(panels.as_slice::<f32>()?),
            None => Weights::Given(self.matrix()?),
        })
    }

    /// The weights as they were given.
    fn matrix(&self) -> Result<Matrix<'_>> {
        Matrix::new(self.weights.bytes()?, self.k, self.n, self.transposed)
            .ok_or_else(|| Error::shape("weights haven't the extents that their shape says"))
    }

    /// The weights as they were given.
    pub fn weights(&self) -> &Tensor {
        &self.weights
    }

    /// The weights' shape, its last dimension first if they were transposed.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How many elements of an input are summed over.
    pub fn depth(&self) -> usize {
        self.k
    }

    /// How many results each row of inputs has.
    pub fn width(&self) -> usize {
        self.n
    }
}

/// The product of `x`, whose last `contracted` dimensions are summed over, with weights, and what comes after it
/// (`tf.matmul`, `tf.tensordot`, and `tf.einsum` where it says the same).
///
/// # Errors
/// When `x` isn't `float32`, its last dimensions aren't the weights' first ones, or `after` doesn't fit the result.
pub fn product_after(x: &Tensor, weights: &Packed, contracted: usize, after: &[After<'_>]) -> Result<Tensor> {
    let shape = product_shape(x.shape(), weights.shape(), contracted)?;
    let xs = x.elements::<f32>()?;
    let rows = checked_elements(&shape)? / weights.n;
    let starts = |r: usize| r * weights.k;
    multiply(&xs, rows, &starts, &[0], weights.k, weights, shape, after)
}

/// The shape of the product of inputs and weights of these shapes.
///
/// # Errors
/// When the inputs' last `contracted` dimensions aren't the weights' first ones.
pub fn product_shape(x: &[usize], weights: &[usize], contracted: usize) -> Result<Shape> {
    let leading = x.len().checked_sub(contracted);
    let Some(leading) = leading.filter(|l| weights.get(..contracted) == x.get(*l..)) else {
        return Err(Error::shape(format!("shapes {x:?} and {weights:?} don't fit a product")));
    };
    Ok(x[..leading].iter().chain(&weights[contracted..]).copied().collect())
}

/// Multiplications under which one thread is faster than several.
const SHARED_WORK: usize = 256 * 1024;

/// The result of `shape` whose rows, of as many elements as the weights are wide, are products: row `r` of the inputs
/// begins at `starts(r)` in `xs`, which grows with `r`, and consists of a stretch of `length` at each of `offsets`.
#[allow(clippy::too_many_arguments, reason = "a product has this many parts")]
fn multiply(
    xs: &[f32],
    rows: usize,
    starts: &(dyn Fn(usize) -> usize + Sync),
    offsets: &[usize],
    length: usize,
    weights: &Packed,
    shape: Shape,
    after: &[After<'_>],
) -> Result<Tensor> {
    let (k, n) = (weights.k, weights.n);
    let mut result = fresh(&shape)?;
    let out = result.make_mut::<f32>()?;
    if out.is_empty() {
        return Ok(result);
    }
    after::check(after, out.len(), n)?;
    let reach = offsets.iter().max().copied().unwrap_or_default() + length + starts(rows - 1);
    let fits = !weights.windows && out.len() == rows * n && offsets.len() * length == k && reach <= xs.len();
    if !fits {
        return Err(Error::shape("a product's operands haven't the extents that its shape says"));
    }
    let panels = n.div_ceil(panel());
    let threads = rayon::current_num_threads();
    let share = threads > 1 && rows.saturating_mul(n).saturating_mul(k) >= SHARED_WORK;
    let source = weights.source()?;
    // A tile of rows and a panel of weights stay in a core's second cache.
    let (tall, groups) = match source {
        Weights::Panels(_) => {
            let most = (64 * 1024 / k).clamp(24, 192);
            if share {
                let tall = rows.div_ceil(threads * 4).next_multiple_of(24).min(most);
                (tall, (threads * 4).div_ceil(rows.div_ceil(tall)).min(panels).max(1))
            } else {
                (most, 1)
            }
        }
        // Each tile lays out the panels that it comes to, so it had better be tall.
        Weights::Given(_) => {
            let most = (64 * 1024 / k.min(tile::BLOCK / panel())).clamp(48, 192);
            let tiles = rows.div_ceil(most);
            let groups = if share { (threads * 4).div_ceil(tiles).min(panels) } else { 1 };
            (rows.div_ceil(tiles), groups)
        }
    };
    let per_group = panels.div_ceil(groups);
    // Rounded up, so many panels a group may leave the last groups none.
    let groups = panels.div_ceil(per_group);
    let job = Job {
        xs,
        offsets,
        length,
        weights: source,
        k,
        n,
        out: tile::Out(out.as_mut_ptr()),
        onto: false,
        after,
    };
    let one = |index: usize| {
        let (t, g) = (index / groups, index % groups);
        let (first, end) = (t * tall, (t * tall + tall).min(rows));
        let panels = g * per_group..(g * per_group + per_group).min(panels);
        // Almost always few enough to need no memory of their own.
        let table: smallvec::SmallVec<[usize; 192]> = (first..end).map(starts).collect();
        let area = Area { rows: Rows { first, starts: &table }, panels };
        compute(&job, area);
    };
    let count = rows.div_ceil(tall) * groups;
    if share {
        team::each(count, &one);
    } else {
        (0..count).for_each(one);
    }
    Ok(result)
}

/// Adds to the `columns` of `out` the products of `xs`, whose rows lie one after another, with weights, on this thread.
/// False, and nothing done, when the extents don't fit, or the columns are no whole panels.
pub(crate) fn accumulate(xs: &[f32], weights: &Packed, out: &mut [f32], columns: Range<usize>) -> bool {
    let (k, n) = (weights.k, weights.n);
    let rows = xs.len() / k;
    let Some(weights) = weights.source().ok().filter(|_| !weights.windows) else {
        return false;
    };
    let wide = panel();
    let whole = |column: usize| column.is_multiple_of(wide) || column == n;
    let within =
        columns.start < columns.end && columns.end <= n && whole(columns.start) && whole(columns.end);
    if xs.len() != rows * k || Some(out.len()) != rows.checked_mul(n) || !within {
        return false;
    }
    let job = Job {
        xs,
        offsets: &[0],
        length: k,
        weights,
        k,
        n,
        out: tile::Out(out.as_mut_ptr()),
        onto: true,
        after: &[],
    };
    let starts: smallvec::SmallVec<[usize; 192]> = (0..rows).map(|r| r * k).collect();
    let panels = columns.start / wide..columns.end.div_ceil(wide);
    compute(&job, Area { rows: Rows { first: 0, starts: &starts }, panels });
    true
}

/// Computes an area of a job, on this thread.
fn compute(job: &Job<'_>, area: Area<'_>) {
    scratch::with(job.room(area.rows.starts.len()), |scratch| {
        vector::dispatch(tile::Tile { job, area, scratch })
    });
}

/// How many columns a panel of weights has on this machine; the last one may have fewer.
pub(crate) fn panel() -> usize {
    let (lanes, wide) = vector::lanes();
    lanes * wide
}

/// A tensor to be written over as a whole.
fn fresh(shape: &[usize]) -> Result<Tensor> {
    Tensor::for_writing::<f32>(shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::activation::Activation;
    use crate::kernels::matmul::{Form, matmul};

    pub(super) fn numbers(shape: &[usize], seed: u64) -> Tensor {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let n: usize = shape.iter().product();
        let mut next = || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 33) % 9) as f32 - 4.0
        };
        Tensor::from_vec((0..n).map(|_| next()).collect(), shape).expect("tensor")
    }

    #[test]
    fn products_are_those_of_matrices() {
        for (m, k, n) in [
            (1, 1, 1),
            (1, 784, 128),
            (1, 1100, 600),
            (7, 3, 5),
            (6, 64, 64),
            (13, 70, 200),
            (50, 33, 17),
            (200, 40, 90),
            (3, 5000, 40),
        ] {
            let (x, w) = (numbers(&[m, k], 1), numbers(&[k, n], 2));
            let want = matmul(&x, Form::Plain, &w, Form::Plain).expect("product");
            same(&x, &w, false, &want);
            let w = numbers(&[n, k], 2);
            let want = matmul(&x, Form::Plain, &w, Form::Transposed).expect("product");
            same(&x, &w, true, &want);
        }
    }

    /// Laid out once or for each product, the result is `want`.
    fn same(x: &Tensor, w: &Tensor, transposed: bool, want: &Tensor) {
        let packed = Packed::new(w, 1, transposed).expect("memory").expect("f32");
        for packed in [packed.clone(), packed.laid_out().expect("memory")] {
            let got = product_after(x, &packed, 1, &[]).expect("product");
            let (got, want) = (got.as_slice::<f32>().expect("f32"), want.as_slice::<f32>().expect("f32"));
            assert_eq!(got, want, "{:?} {:?} {transposed}", x.shape(), w.shape());
        }
    }

    /// As many panels as don't divide evenly among threads.
    #[test]
    fn wide_rows_are_shared_out() {
        for n in [1088, 1100, 1280] {
            let (x, w, row) = (numbers(&[9, 400], 1), numbers(&[400, n], 2), numbers(&[n], 3));
            let row = row.as_slice::<f32>().expect("f32");
            let packed = Packed::new(&w, 1, false).expect("memory").expect("f32");
            let got = product_after(&x, &packed, 1, &[After::AddRow(row)]).expect("product");
            let want = matmul(&x, Form::Plain, &w, Form::Plain).expect("product");
            let want = want.as_slice::<f32>().expect("f32").iter().enumerate().map(|(i, v)| v + row[i % n]);
            assert_eq!(got.as_slice::<f32>().expect("f32"), want.collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_comes_after_comes_in_order() {
        let (x, w) = (numbers(&[2, 5, 6], 1), numbers(&[6, 3, 7], 2));
        let (row, full) = (numbers(&[21], 3), numbers(&[2, 5, 21], 4));
        let (row, full) = (row.as_slice::<f32>().expect("f32"), full.as_slice::<f32>().expect("f32"));
        let packed = Packed::new(&w, 1, false).expect("memory").expect("f32");
        let after = [
            After::MulRow(row),
            After::AddRow(row),
            After::Apply(Activation::Relu),
            After::Add(full),
            After::Mul(full),
        ];
        let got = product_after(&x, &packed, 1, &after).expect("product");
        assert_eq!(got.shape(), [2, 5, 3, 7]);
        let plain = product_after(&x, &packed, 1, &[]).expect("product");
        let want: Vec<f32> = plain
            .as_slice::<f32>()
            .expect("f32")
            .iter()
            .enumerate()
            .map(|(i, v)| ((v * row[i % 21] + row[i % 21]).max(0.0) + full[i]) * full[i])
            .collect();
        assert_eq!(got.as_slice::<f32>().expect("f32"), want);
        assert!(product_after(&x, &packed, 1, &[After::AddRow(&row[1..])]).is_err());
        assert!(product_after(&x, &packed, 1, &[After::Add(&full[1..])]).is_err());
        assert!(product_after(&numbers(&[2, 5], 1), &packed, 1, &[]).is_err());
    }
}
