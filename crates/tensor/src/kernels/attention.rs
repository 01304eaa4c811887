//! Attention: what each query takes of the values, by how its key fits.
#![allow(
    unsafe_code,
    reason = "heads are read and written by pointer, with strides; extents are checked before"
)]

use super::broadcast::Walk;
use super::norm::softmax_f32;
use super::{parallel, team};
use crate::{Error, Result, Tensor};
use gemm::Parallelism;

/// Rows of scores that are in cache at once.
const ROWS: usize = 64;

/// In which order the dimensions of queries, keys and values come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heads {
    /// `[batch, heads, rows, size]`.
    BeforeRows,
    /// `[batch, rows, heads, size]`.
    AfterRows,
}

impl Heads {
    /// Batch, rows, heads and size of a tensor of this shape.
    fn extents(self, shape: &[usize]) -> Option<[usize; 4]> {
        match (self, shape) {
            (Heads::AfterRows, &[batch, rows, heads, size])
            | (Heads::BeforeRows, &[batch, heads, rows, size]) => Some([batch, rows, heads, size]),
            _ => None,
        }
    }

    /// Where a row of a tensor of these extents begins, and how far the next one is.
    fn row(
        self,
        [_, rows, heads, size]: [usize; 4],
        batch: usize,
        row: usize,
        head: usize,
    ) -> (usize, usize) {
        match self {
            Heads::AfterRows => (((batch * rows + row) * heads + head) * size, heads * size),
            Heads::BeforeRows => (((batch * heads + head) * rows + row) * size, size),
        }
    }
}

/// `softmax(scale * q k + mask) v` of each head (`tf.keras.layers.MultiHeadAttention`'s inner part), all `float32`: queries
/// and keys are of one size, there is a value for each key, and `mask` broadcasts to `[batch, heads, queries, keys]`. The
/// result has a row for each query, of the values' size.
///
/// # Errors
/// When dtypes or shapes aren't those, or there are no keys.
pub fn attention([q, k, v]: [&Tensor; 3], heads: Heads, scale: f32, mask: Option<&Tensor>) -> Result<Tensor> {
    let order = heads;
    let unfit = || {
        Error::shape(format!(
            "queries, keys and values of shapes {:?}, {:?} and {:?} don't fit",
            q.shape(),
            k.shape(),
            v.shape()
        ))
    };
    let extents = |t: &Tensor| order.extents(t.shape()).ok_or_else(unfit);
    let (of_q, of_k, of_v) = (extents(q)?, extents(k)?, extents(v)?);
    let ([batch, queries, heads, size], [_, keys, ..], [.., wide]) = (of_q, of_k, of_v);
    if of_k != [batch, keys, heads, size] || of_v != [batch, keys, heads, wide] || keys == 0 || size == 0 {
        return Err(unfit());
    }
    let (qs, ks, vs) = (q.elements::<f32>()?, k.elements::<f32>()?, v.elements::<f32>()?);
    let scores = [batch, heads, queries, keys];
    let mask = mask.map(|m| Ok::<_, Error>((m.elements::<f32>()?, m.shape()))).transpose()?;
    if let Some((_, shape)) = &mask {
        let fits =
            shape.len() <= 4 && shape.iter().rev().zip(scores.iter().rev()).all(|(m, s)| m == s || *m == 1);
        if !fits {
            return Err(Error::shape(format!("a mask of shape {shape:?} doesn't fit scores of {scores:?}")));
        }
    }
    let of_out = [batch, queries, heads, wide];
    let shape = match order {
        Heads::AfterRows => of_out,
        Heads::BeforeRows => [batch, heads, queries, wide],
    };
    let mut result = Tensor::for_writing::<f32>(shape)?;
    let out = result.make_mut::<f32>()?;
    if out.is_empty() {
        return Ok(result);
    }
    let to = Out(out.as_mut_ptr());
    let blocks = queries.div_ceil(ROWS);
    let one = |index: usize| {
        let (pair, block) = (index / blocks, index % blocks);
        let (b, h) = (pair / heads, pair % heads);
        let first = block * ROWS;
        let rows = ROWS.min(queries - first);
        let mut scores_of = vec![0f32; rows * keys];
        let (q, q_step) = order.row(of_q, b, first, h);
        let (k, k_step) = order.row(of_k, b, 0, h);
        let (v, v_step) = order.row(of_v, b, 0, h);
        let (o, o_step) = order.row(of_out, b, first, h);
        // SAFETY: the shapes were checked against each other, so each head's rows lie within their tensors at these steps;
        // each block of rows of a head is written by one call.
        unsafe {
            product(
                [rows, keys, size],
                (scores_of.as_mut_ptr(), keys, 1),
                (qs.as_ptr().add(q), q_step, 1),
                (ks.as_ptr().add(k), 1, k_step),
                scale,
            );
        }
        if let Some((mask, shape)) = &mask {
            let walk = Walk::new(&scores, [shape]);
            let start = ((b * heads + h) * queries + first) * keys;
            walk.for_runs(start, rows * keys, |begin, len, [at]| {
                let [step] = walk.inner_strides();
                let part = &mut scores_of[begin..begin + len];
                part.iter_mut().enumerate().for_each(|(i, s)| *s += mask[at + i * step]);
            });
        }
        scores_of.chunks_exact_mut(keys).for_each(softmax_f32);
        // SAFETY: as above.
        unsafe {
            product(
                [rows, wide, keys],
                (to.at(o), o_step, 1),
                (scores_of.as_ptr(), keys, 1),
                (vs.as_ptr().add(v), v_step, 1),
                1.0,
            );
        }
    };
    let count = batch * heads * blocks;
    if parallel::worth(count.saturating_mul(ROWS * keys).saturating_mul(size) / 8) {
        team::each(count, &one);
    } else {
        (0..count).for_each(one);
    }
    Ok(result)
}

/// Where the result lies, for threads that each write their own part of it.
struct Out(*mut f32);

impl Out {
    /// # Safety
    /// The offset lies within the result.
    unsafe fn at(&self, offset: usize) -> *mut f32 {
        // SAFETY: as the caller says.
        unsafe { self.0.add(offset) }
    }
}

// SAFETY: threads write to parts of the result that don't overlap, and nobody else uses it meanwhile.
unsafe impl Sync for Out {}

/// `to = scale * a b` for extents `[m, n, k]`; each matrix is a pointer, and the steps from row to row and from column to
/// column.
///
/// # Safety
/// The pointers are good for matrices of these extents and steps, and `to` overlaps neither operand.
unsafe fn product(
    [m, n, k]: [usize; 3],
    (to, to_row, to_column): (*mut f32, usize, usize),
    (a, a_row, a_column): (*const f32, usize, usize),
    (b, b_row, b_column): (*const f32, usize, usize),
    scale: f32,
) {
    // SAFETY: as the caller says.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            to,
            to_column as isize,
            to_row as isize,
            false,
            a,
            a_column as isize,
            a_row as isize,
            b,
            b_column as isize,
            b_row as isize,
            0.0,
            scale,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::array::transpose;
    use super::super::elementwise as e;
    use super::super::matmul::{Form, matmul};
    use super::super::norm::softmax;
    use super::*;

    fn numbers(shape: &[usize], seed: usize) -> Tensor {
        let n: usize = shape.iter().product();
        Tensor::from_vec((0..n).map(|i| ((i * 37 + seed * 11) % 23) as f32 / 11.0 - 1.0).collect(), shape)
            .expect("tensor")
    }

    #[test]
    fn it_is_what_its_ops_are() {
        for (batch, queries, keys, heads, size, wide) in
            [(1, 1, 1, 1, 1, 1), (2, 5, 7, 3, 4, 6), (1, 130, 70, 2, 16, 16), (2, 3, 4, 1, 5, 2)]
        {
            let q = numbers(&[batch, queries, heads, size], 1);
            let (k, v) = (numbers(&[batch, keys, heads, size], 2), numbers(&[batch, keys, heads, wide], 3));
            let by_head = |t: &Tensor| transpose(t, &[0, 2, 1, 3]).expect("order");
            let masks = [
                None,
                Some(numbers(&[batch, 1, 1, keys], 4)),
                Some(numbers(&[queries, keys], 5)),
                Some(numbers(&[batch, heads, queries, keys], 6)),
                Some(numbers(&[queries, 1], 7)),
            ];
            for mask in masks {
                let scores =
                    matmul(&by_head(&q), Form::Plain, &by_head(&k), Form::Transposed).expect("product");
                let mut scores = e::mul(scores, Tensor::scalar(0.3f32)).expect("scaled");
                if let Some(mask) = &mask {
                    scores = e::add(scores, mask.clone()).expect("masked");
                }
                let shares = softmax(scores).expect("softmax");
                let want = matmul(&shares, Form::Plain, &by_head(&v), Form::Plain).expect("product");
                let want = by_head(&want);
                let got = attention([&q, &k, &v], Heads::AfterRows, 0.3, mask.as_ref()).expect("fits");
                let outer = [&by_head(&q), &by_head(&k), &by_head(&v)];
                let other = attention(outer, Heads::BeforeRows, 0.3, mask.as_ref()).expect("fits");
                for got in [got, by_head(&other)] {
                    assert_eq!(got.shape(), want.shape());
                    let (got, want) =
                        (got.as_slice::<f32>().expect("f32"), want.as_slice::<f32>().expect("f32"));
                    assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() <= 1e-5), "{mask:?}");
                }
            }
            let wrong = numbers(&[batch + 1, keys, heads, size], 2);
            assert!(attention([&q, &wrong, &v], Heads::AfterRows, 1.0, None).is_err());
            let wrong = numbers(&[keys + 1], 2);
            assert!(attention([&q, &k, &v], Heads::AfterRows, 1.0, Some(&wrong)).is_err());
        }
    }
}
