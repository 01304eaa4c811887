//! Products of matrices.
#![allow(unsafe_code, reason = "the gemm library takes pointers; extents and strides are checked before")]

use gemm::Parallelism;
use half::{bf16, f16};
use num_complex::{Complex32, Complex64};

use super::activation::Activation;
use super::broadcast::{Walk, broadcast_shape};
use super::elementwise::Number as _;
use super::parallel;
use super::simd;
use crate::{DType, Element, Error, Result, Shape, Tensor, checked_elements, dispatch};

/// How an operand of a product is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// As it is.
    #[default]
    Plain,
    /// With its last two dimensions swapped.
    Transposed,
    /// With its last two dimensions swapped, and complex numbers conjugated.
    Adjoint,
}

impl Form {
    /// [`Form::Transposed`] if so, else [`Form::Plain`].
    pub fn transposed(yes: bool) -> Form {
        if yes { Form::Transposed } else { Form::Plain }
    }

    /// [`Form::Adjoint`] if so, else [`Form::Plain`].
    pub fn adjoint(yes: bool) -> Form {
        if yes { Form::Adjoint } else { Form::Plain }
    }

    fn swaps(self) -> bool {
        self != Form::Plain
    }
}

/// The product of matrices in the last two dimensions (`tf.linalg.matmul`); those before broadcast.
///
/// `[.., m, k] x [.., k, n]` gives `[.., m, n]`, for every numeric dtype. Integers wrap; half precision is summed in
/// `float32`. With `k` zero the result is zero.
///
/// # Errors
/// When dtypes differ, a rank is under 2, or shapes don't fit.
pub fn matmul(a: &Tensor, a_form: Form, b: &Tensor, b_form: Form) -> Result<Tensor> {
    fused(a, a_form, b, b_form, None, Activation::Linear)
}

/// `activation(a x b + bias)` for floats, as one step; `bias` has the product's last extent.
///
/// # Errors
/// As [`matmul`]; also when `bias` has another dtype or shape.
pub fn matmul_bias(
    a: &Tensor,
    a_form: Form,
    b: &Tensor,
    b_form: Form,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    fused(a, a_form, b, b_form, bias, activation)
}

fn fused(
    a: &Tensor,
    a_form: Form,
    b: &Tensor,
    b_form: Form,
    bias: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    super::elementwise::same_dtype(a, b)?;
    let plan = Plan::new(a.shape(), a_form, b.shape(), b_form)?;
    if let Some(bias) = bias {
        super::elementwise::same_dtype(a, bias)?;
        if bias.shape() != [plan.n] {
            return Err(Error::shape(format!(
                "a bias of shape {:?} can't be added to {} columns",
                bias.shape(),
                plan.n
            )));
        }
    }
    if a.dtype() == DType::BF16 {
        let wide = |t: &Tensor| super::array::cast(t, DType::F32);
        let bias = bias.map(wide).transpose()?;
        let out = fused(&wide(a)?, a_form, &wide(b)?, b_form, bias.as_ref(), activation)?;
        return super::array::cast(&out, DType::BF16);
    }
    let out = dispatch!(numeric a.dtype(), T => plan.run::<T>(a, b, bias, activation)?,
        else => return Err(Error::dtype("a number's", a.dtype())));
    match bias {
        // Single precision has it done while the product is in the cache.
        Some(bias) if a.dtype() != DType::F32 => {
            activation.apply(super::elementwise::add(out, bias.clone())?)
        }
        None if a.dtype() != DType::F32 => activation.apply(out),
        _ => Ok(out),
    }
}

/// Extents of a batch of products, and where each one's operands lie.
struct Plan {
    m: usize,
    n: usize,
    k: usize,
    a: Layout,
    b: Layout,
    batch: Shape,
    a_batch: Shape,
    b_batch: Shape,
    out: Shape,
}

/// How a matrix lies in memory, in elements.
#[derive(Clone, Copy)]
struct Layout {
    row: usize,
    column: usize,
    conjugate: bool,
}

impl Plan {
    fn new(a: &[usize], a_form: Form, b: &[usize], b_form: Form) -> Result<Plan> {
        let unfit = || Error::shape(format!("shapes {a:?} and {b:?} don't fit a matrix product"));
        let ([a_batch @ .., a_rows, a_columns], [b_batch @ .., b_rows, b_columns]) = (a, b) else {
            return Err(unfit());
        };
        let layout = |columns: usize, form: Form| match form.swaps() {
            false => Layout { row: columns, column: 1, conjugate: false },
            true => Layout { row: 1, column: columns, conjugate: form == Form::Adjoint },
        };
        let (m, k) = if a_form.swaps() { (*a_columns, *a_rows) } else { (*a_rows, *a_columns) };
        let (b_k, n) = if b_form.swaps() { (*b_columns, *b_rows) } else { (*b_rows, *b_columns) };
        if k != b_k {
            return Err(unfit());
        }
        let batch = broadcast_shape(a_batch, b_batch).map_err(|_| unfit())?;
        let mut out = batch.clone();
        out.extend([m, n]);
        checked_elements(&out)?;
        Ok(Plan {
            m,
            n,
            k,
            a: layout(*a_columns, a_form),
            b: layout(*b_columns, b_form),
            batch,
            a_batch: a_batch.into(),
            b_batch: b_batch.into(),
            out,
        })
    }

    fn run<T: Factor>(
        &self,
        a: &Tensor,
        b: &Tensor,
        bias: Option<&Tensor>,
        activation: Activation,
    ) -> Result<Tensor> {
        let (xs, ys) = (a.elements::<T>()?, b.elements::<T>()?);
        let mut out = Tensor::zeros(T::DTYPE, &self.out)?;
        let (m, n, k) = (self.m, self.n, self.k);
        let bias = bias.map(|t| t.elements::<T>()).transpose()?;
        let finish = Finish { bias: bias.as_deref(), activation };
        let size = m.saturating_mul(n);
        let to = out.make_mut::<T>()?;
        if to.is_empty() {
            return Ok(out);
        }
        if k == 0 {
            T::finish(to, n, finish);
            return Ok(out);
        }
        let batches = to.len() / size;
        // One matrix shared by all batches of row vectors or matrices is one taller product.
        let rows_follow = self.a.row == k && self.a.column == 1 && xs.len() / (m * k) == batches;
        if rows_follow && self.b_batch.iter().all(|&d| d == 1) {
            product(batches * m, n, k, &xs, self.a, &ys, self.b, to, true, finish);
            return Ok(out);
        }
        if batches == 1 {
            product(m, n, k, &xs, self.a, &ys, self.b, to, true, finish);
            return Ok(out);
        }
        let walk = Walk::new(&self.batch, [&self.a_batch, &self.b_batch]);
        let [a_step, b_step] = walk.inner_strides();
        let work = size.saturating_mul(k);
        // Many small products go to a thread each; few large ones are shared by all threads one after another.
        let each_shared = batches < rayon::current_num_threads() * 2 && parallel::worth(work / 8);
        let one = |start: usize, part: &mut [T], shared: bool| {
            walk.for_runs(start, part.len() / size, |begin, len, [i, j]| {
                for (step, to) in part[begin * size..(begin + len) * size].chunks_mut(size).enumerate() {
                    let x = &xs[(i + step * a_step) * m * k..][..m * k];
                    let y = &ys[(j + step * b_step) * k * n..][..k * n];
                    product(m, n, k, x, self.a, y, self.b, to, shared, finish);
                }
            });
        };
        if each_shared {
            one(0, to, true);
        } else {
            parallel::for_parts(to, size, k, |start, part| one(start / size, part, false));
        }
        Ok(out)
    }
}

/// What happens to a product's rows when they are complete.
#[derive(Clone, Copy)]
struct Finish<'a, T> {
    bias: Option<&'a [T]>,
    activation: Activation,
}

/// An element that products are made of.
trait Factor: Element {
    /// The product of C-ordered or transposed matrices, written to `out`.
    #[allow(clippy::too_many_arguments, reason = "a product has this many parts")]
    fn multiply(
        m: usize,
        n: usize,
        k: usize,
        a: &[Self],
        al: Layout,
        b: &[Self],
        bl: Layout,
        out: &mut [Self],
        threads: bool,
    );

    /// The rows' last step, for those that can do it here.
    fn finish(_rows: &mut [Self], _n: usize, _finish: Finish<'_, Self>) {}
}

#[allow(clippy::too_many_arguments, reason = "a product has this many parts")]
fn product<T: Factor>(
    m: usize,
    n: usize,
    k: usize,
    a: &[T],
    al: Layout,
    b: &[T],
    bl: Layout,
    out: &mut [T],
    threads: bool,
    finish: Finish<'_, T>,
) {
    T::multiply(m, n, k, a, al, b, bl, out, threads);
    T::finish(out, n, finish);
}

/// `out += a x b` on this thread, all in C order: `a` is `[m, k]`, `b` is `[k, n]`.
pub(crate) trait Accumulate: Element + num_traits::Float {
    /// Does it.
    fn accumulate(m: usize, n: usize, k: usize, a: &[Self], b: &[Self], out: &mut [Self]);
}

impl Accumulate for f32 {
    fn accumulate(m: usize, n: usize, k: usize, a: &[f32], b: &[f32], out: &mut [f32]) {
        // So few rows are bound by reading `b`, which packing would only double.
        if m <= 2 {
            for (row, to) in a.chunks_exact(k).zip(out.chunks_exact_mut(n)) {
                add_row_times_matrix(k, n, row, b, 0, to);
            }
            return;
        }
        add_by_library(m, n, k, a, b, out, 1.0);
    }
}

impl Accumulate for f64 {
    fn accumulate(m: usize, n: usize, k: usize, a: &[f64], b: &[f64], out: &mut [f64]) {
        add_by_library(m, n, k, a, b, out, 1.0);
    }
}

fn add_by_library<T: Element>(m: usize, n: usize, k: usize, a: &[T], b: &[T], out: &mut [T], one: T) {
    if out.is_empty() || k == 0 {
        return;
    }
    assert!(
        out.len() == m * n && a.len() == m * k && b.len() == k * n,
        "matrices have the extents they claim"
    );
    // SAFETY: the three slices have been checked to hold m*n, m*k and k*n elements in C order, which the strides
    // describe. `out` is borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            true,
            a.as_ptr(),
            1,
            k as isize,
            b.as_ptr(),
            1,
            n as isize,
            one,
            one,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

/// Multiplications under which one thread is faster than several.
const SHARED_WORK: usize = 256 * 1024;

/// The gemm library, for the element types it knows.
#[allow(clippy::too_many_arguments, reason = "a product has this many parts")]
fn library<T: Element>(
    m: usize,
    n: usize,
    k: usize,
    a: &[T],
    al: Layout,
    b: &[T],
    bl: Layout,
    out: &mut [T],
    threads: bool,
    zero: T,
    one: T,
) {
    assert!(
        out.len() == m * n && a.len() == m * k && b.len() == k * n,
        "matrices have the extents they claim"
    );
    let shared =
        threads && m.saturating_mul(n).saturating_mul(k) >= SHARED_WORK && rayon::current_num_threads() > 1;
    let parallelism = if shared { Parallelism::Rayon(0) } else { Parallelism::None };
    // SAFETY: the three slices have been checked to hold m*n, m*k and k*n elements, and the strides are those of
    // C order, or of C order transposed, so every element reached lies inside them. `out` is borrowed mutably, so
    // it overlaps neither operand; it is only written, as `read_dst` is false.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            n as isize,
            false,
            a.as_ptr(),
            al.column as isize,
            al.row as isize,
            b.as_ptr(),
            bl.column as isize,
            bl.row as isize,
            zero,
            one,
            false,
            al.conjugate,
            bl.conjugate,
            parallelism,
        );
    }
}

impl Factor for f32 {
    fn multiply(
        m: usize,
        n: usize,
        k: usize,
        a: &[f32],
        al: Layout,
        b: &[f32],
        bl: Layout,
        out: &mut [f32],
        threads: bool,
    ) {
        match (m, bl.column) {
            (1, 1) => row_times_matrix(k, n, a, b, out, threads),
            (1, _) => row_times_transposed(k, a, b, out, threads),
            _ => library(m, n, k, a, al, b, bl, out, threads, 0.0, 1.0),
        }
    }

    fn finish(rows: &mut [f32], n: usize, finish: Finish<'_, f32>) {
        if finish.bias.is_none() && finish.activation == Activation::Linear {
            return;
        }
        parallel::for_parts(rows, n, 1, |_, part| {
            for row in part.chunks_mut(n) {
                if let Some(bias) = finish.bias {
                    row.iter_mut().zip(bias).for_each(|(o, b)| *o += *b);
                }
                finish.activation.apply_f32(row);
            }
        });
    }
}

/// `out = a x b` for one row `a`.
fn row_times_matrix(k: usize, n: usize, a: &[f32], b: &[f32], out: &mut [f32], threads: bool) {
    let work = |start: usize, part: &mut [f32]| {
        part.fill(0.0);
        add_row_times_matrix(k, n, a, b, start, part);
    };
    if threads { parallel::for_parts(out, 16, k, work) } else { work(0, out) }
}

/// `out += a x b` for one row `a` and the columns of `b` from `start` on: rows of `b` are added up, a few at a time,
/// as they stream by.
fn add_row_times_matrix(k: usize, n: usize, a: &[f32], b: &[f32], start: usize, out: &mut [f32]) {
    simd::run(
        #[inline(always)]
        |isa| {
            // So many columns stay in the first cache while all rows pass.
            for (block, to) in out.chunks_mut(2048).enumerate() {
                let column = start + block * 2048;
                let len = to.len();
                let row = |i: usize| &b[i * n + column..][..len];
                let mut i = 0;
                while i + 4 <= k {
                    let (r0, r1, r2, r3) = (row(i), row(i + 1), row(i + 2), row(i + 3));
                    let (a0, a1, a2, a3) = (a[i], a[i + 1], a[i + 2], a[i + 3]);
                    for j in 0..len {
                        let near = isa.mul_add(a0, r0[j], isa.mul_add(a1, r1[j], to[j]));
                        to[j] = isa.mul_add(a2, r2[j], isa.mul_add(a3, r3[j], near));
                    }
                    i += 4;
                }
                for (i, &x) in a.iter().enumerate().take(k).skip(i) {
                    let r = row(i);
                    for j in 0..len {
                        to[j] = isa.mul_add(x, r[j], to[j]);
                    }
                }
            }
        },
    );
}

/// `out = a x bᵀ` for one row `a`: dot products with the rows of `b`.
fn row_times_transposed(k: usize, a: &[f32], b: &[f32], out: &mut [f32], threads: bool) {
    let work = |start: usize, part: &mut [f32]| {
        simd::run(
            #[inline(always)]
            |isa| {
                for (o, row) in part.iter_mut().zip(b[start * k..].chunks_exact(k)) {
                    const LANES: usize = 32;
                    let mut sums = [0f32; LANES];
                    let (xs, ys) = (a.chunks_exact(LANES), row.chunks_exact(LANES));
                    let rest: f32 = xs.remainder().iter().zip(ys.remainder()).map(|(x, y)| x * y).sum();
                    for (x, y) in xs.zip(ys) {
                        for l in 0..LANES {
                            sums[l] = isa.mul_add(x[l], y[l], sums[l]);
                        }
                    }
                    let mut width = LANES / 2;
                    while width > 0 {
                        for l in 0..width {
                            sums[l] += sums[l + width];
                        }
                        width /= 2;
                    }
                    *o = sums[0] + rest;
                }
            },
        );
    };
    if threads { parallel::for_parts(out, 16, k, work) } else { work(0, out) }
}

macro_rules! by_library {
    ($($t:ty, $zero:expr, $one:expr;)*) => { $(
        impl Factor for $t {
            fn multiply(m: usize, n: usize, k: usize, a: &[$t], al: Layout, b: &[$t], bl: Layout, out: &mut [$t], threads: bool) {
                library(m, n, k, a, al, b, bl, out, threads, $zero, $one);
            }
        }
    )* };
}

by_library! {
    f64, 0.0, 1.0;
    f16, f16::ZERO, f16::ONE;
    Complex32, Complex32::ZERO, Complex32::ONE;
    Complex64, Complex64::ZERO, Complex64::ONE;
}

impl Factor for bf16 {
    fn multiply(
        _: usize,
        _: usize,
        _: usize,
        _: &[bf16],
        _: Layout,
        _: &[bf16],
        _: Layout,
        _: &mut [bf16],
        _: bool,
    ) {
        unreachable!("computed in float32")
    }
}

macro_rules! by_loops {
    ($($t:ty),*) => { $(
        impl Factor for $t {
            fn multiply(m: usize, n: usize, k: usize, a: &[$t], al: Layout, b: &[$t], bl: Layout, out: &mut [$t], threads: bool) {
                let work = |start: usize, part: &mut [$t]| {
                    for (row, to) in part.chunks_mut(n).enumerate() {
                        let row = start / n + row;
                        for i in 0..k {
                            let x = a[row * al.row + i * al.column];
                            for (j, o) in to.iter_mut().enumerate() {
                                *o = o.plus(x.times(b[i * bl.row + j * bl.column]));
                            }
                        }
                    }
                };
                debug_assert_eq!(out.len(), m * n);
                if threads { parallel::for_parts(out, n, k, work) } else { work(0, out) }
            }
        }
    )* };
}

by_loops!(i8, i16, i32, i64, u8, u16, u32, u64);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::array::cast;

    fn random(shape: &[usize], seed: u64) -> Tensor {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let n: usize = shape.iter().product();
        let values = (0..n).map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            ((state >> 33) % 9) as f64 - 4.0
        });
        Tensor::from_vec(values.collect(), shape).expect("tensor")
    }

    /// The definition of a product, on `float64` matrices.
    fn naive(a: &Tensor, a_form: Form, b: &Tensor, b_form: Form) -> Tensor {
        let plan = Plan::new(a.shape(), a_form, b.shape(), b_form).expect("fits");
        let (xs, ys) = (a.as_slice::<f64>().expect("f64"), b.as_slice::<f64>().expect("f64"));
        let mut out = Vec::new();
        let walk = Walk::new(&plan.batch, [&plan.a_batch, &plan.b_batch]);
        walk.for_runs(0, plan.batch.iter().product(), |_, len, [i, j]| {
            let [sa, sb] = walk.inner_strides();
            for l in 0..len {
                let (x, y) = (&xs[(i + l * sa) * plan.m * plan.k..], &ys[(j + l * sb) * plan.k * plan.n..]);
                for r in 0..plan.m {
                    for c in 0..plan.n {
                        out.push(
                            (0..plan.k)
                                .map(|i| {
                                    x[r * plan.a.row + i * plan.a.column]
                                        * y[i * plan.b.row + c * plan.b.column]
                                })
                                .sum::<f64>(),
                        );
                    }
                }
            }
        });
        Tensor::from_vec(out, &plan.out).expect("tensor")
    }

    /// Small whole numbers, so that every dtype gives the exact product.
    fn check(dtype: DType, a: &Tensor, a_form: Form, b: &Tensor, b_form: Form) {
        let want = naive(a, a_form, b, b_form);
        let got = matmul(&cast(a, dtype).expect("cast"), a_form, &cast(b, dtype).expect("cast"), b_form)
            .expect("product");
        assert_eq!(got.dtype(), dtype);
        let want = cast(&cast(&want, dtype).expect("cast"), DType::F64).expect("cast");
        let got = cast(&got, DType::F64).expect("cast");
        let same = got.shape() == want.shape() && got.as_slice::<f64>().ok() == want.as_slice::<f64>().ok();
        assert!(same, "{dtype} {:?} {a_form:?} {:?} {b_form:?}", a.shape(), b.shape());
    }

    const FORMS: [(bool, bool); 4] = [(false, false), (true, false), (false, true), (true, true)];

    fn shape(batch: &[usize], rows: usize, columns: usize, swap: bool) -> Vec<usize> {
        let mut s = batch.to_vec();
        s.extend(if swap { [columns, rows] } else { [rows, columns] });
        s
    }

    proptest! {
        #[test]
        fn products_are_what_the_definition_says(
            m in 1usize..20, n in 1usize..40, k in 0usize..40, forms in 0usize..4, batch in 0usize..5, seed: u64,
        ) {
            let (ta, tb) = FORMS[forms];
            let (ba, bb): (&[usize], &[usize]) =
                [(&[][..], &[][..]), (&[3], &[3]), (&[2, 3], &[]), (&[2, 1], &[3]), (&[], &[2])][batch];
            let a = random(&shape(ba, m, k, ta), seed);
            let b = random(&shape(bb, k, n, tb), seed ^ 7);
            for dtype in [DType::F32, DType::F64, DType::I32, DType::C64, DType::C128, DType::I64] {
                check(dtype, &a, Form::transposed(ta), &b, Form::transposed(tb));
            }
        }
    }

    #[test]
    fn large_and_thin_products() {
        for (m, n, k) in [(1, 5000, 300), (200, 300, 100), (1, 3, 4000), (5000, 1, 30), (64, 64, 64)] {
            for (ta, tb) in FORMS {
                let (a, b) = (random(&shape(&[], m, k, ta), 1), random(&shape(&[], k, n, tb), 2));
                check(DType::F32, &a, Form::transposed(ta), &b, Form::transposed(tb));
            }
        }
        for batch in [2, 50] {
            let (a, b) = (random(&[batch, 60, 70], 1), random(&[batch, 70, 50], 2));
            check(DType::F32, &a, Form::Plain, &b, Form::Plain);
        }
    }

    #[test]
    fn half_precision_sums_in_single() {
        let (a, b) = (random(&[3, 200], 5), random(&[200, 4], 6));
        check(DType::F16, &a, Form::Plain, &b, Form::Plain);
        check(DType::BF16, &a, Form::Plain, &b, Form::Plain);
        let ones =
            |shape: [usize; 2]| cast(&Tensor::full(1.0f32, shape).expect("ones"), DType::F16).expect("f16");
        // Summed in half precision, ones stop counting at 2048.
        let sum = matmul(&ones([1, 4000]), Form::Plain, &ones([4000, 1]), Form::Plain).expect("product");
        assert_eq!(sum.item::<f16>().expect("f16").to_f32(), 4000.0);
    }

    #[test]
    fn adjoints_conjugate() {
        let a = Tensor::from_vec(vec![Complex32::new(1.0, 2.0), Complex32::new(0.0, 1.0)], [2, 1])
            .expect("tensor");
        let got = matmul(&a, Form::Adjoint, &a, Form::Plain).expect("product");
        assert_eq!(got.item::<Complex32>().expect("c64"), Complex32::new(6.0, 0.0));
        let got = matmul(&a, Form::Transposed, &a, Form::Plain).expect("product");
        assert_eq!(got.item::<Complex32>().expect("c64"), Complex32::new(-4.0, 4.0));
    }

    #[test]
    fn bias_and_activation_are_one_step() {
        let (a, b, c) = (random(&[5, 7], 1), random(&[7, 9], 2), random(&[9], 3));
        for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
            let [a, b, c] = [&a, &b, &c].map(|t| cast(t, dtype).expect("cast"));
            let fused =
                matmul_bias(&a, Form::Plain, &b, Form::Plain, Some(&c), Activation::Relu).expect("product");
            let plain = matmul(&a, Form::Plain, &b, Form::Plain).expect("product");
            let apart = Activation::Relu
                .apply(crate::kernels::elementwise::add(plain, c).expect("sum"))
                .expect("relu");
            assert!(fused.bit_eq(&apart), "{dtype}");
        }
        assert!(matmul_bias(&a, Form::Plain, &b, Form::Plain, Some(&a), Activation::Linear).is_err());
    }

    #[test]
    fn empty_and_unfit_operands() {
        let f = |s: &[usize]| Tensor::zeros(DType::F32, s).expect("zeros");
        let p = |a: &[usize], b: &[usize]| matmul(&f(a), Form::Plain, &f(b), Form::Plain);
        assert_eq!(p(&[0, 3], &[3, 4]).expect("empty").shape(), [0, 4]);
        assert_eq!(p(&[2, 0], &[0, 4]).expect("zeros").as_slice::<f32>().expect("f32"), [0.0; 8]);
        assert_eq!(p(&[0, 2, 3], &[3, 4]).expect("empty").shape(), [0, 2, 4]);
        assert!(
            p(&[2, 3], &[2, 3]).is_err() && p(&[3], &[3, 1]).is_err() && p(&[2, 1, 1], &[3, 1, 1]).is_err()
        );
        let bias = Tensor::full(1.5f32, [4]).expect("bias");
        let got =
            matmul_bias(&f(&[1, 0]), Form::Plain, &f(&[0, 4]), Form::Plain, Some(&bias), Activation::Linear);
        assert_eq!(got.expect("bias alone").as_slice::<f32>().expect("f32"), [1.5; 4]);
        assert!(
            matmul(&f(&[1, 1]), Form::Plain, &Tensor::zeros(DType::F64, [1, 1]).expect("zeros"), Form::Plain)
                .is_err()
        );
    }
}
