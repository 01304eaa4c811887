//! Diagonals of matrices: taking them out, and putting them in.

use super::mover::{Mover, rearrange};
use crate::{Error, Result, Shape, Tensor, checked_elements};

/// On which side shorter diagonals lie in a row as long as the longest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// They begin with the row.
    Left,
    /// They end with the row.
    Right,
}

/// Which diagonals of a matrix are meant, and how they lie when packed into rows (`tf.linalg.diag_part`'s `k` and
/// `align`): from the `lower`-th to the `upper`-th, 0 being the main one, 1 the one above it, -1 the one below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Diagonals {
    /// The lowest one.
    pub lower: i64,
    /// The highest one, which comes first when packed.
    pub upper: i64,
    /// How those above the main one lie.
    pub above: Align,
    /// How those below the main one lie.
    pub below: Align,
}

impl Diagonals {
    /// The main diagonal alone.
    pub const MAIN: Diagonals = Diagonals { lower: 0, upper: 0, above: Align::Left, below: Align::Left };

    /// These diagonals of matrices of `rows` by `columns`.
    fn within(&self, rows: usize, columns: usize) -> Result<Packed> {
        let (m, n) = (extent(rows)?, extent(columns)?);
        if self.lower > self.upper {
            return Err(Error::value(format!(
                "the lowest diagonal {} is above the highest {}",
                self.lower, self.upper
            )));
        }
        for (name, k) in [("lower", self.lower), ("upper", self.upper)] {
            if k != 0 && !(-m < k && k < n) {
                return Err(Error::value(format!(
                    "the {name} diagonal {k} is out of range for {rows} by {columns} matrices"
                )));
            }
        }
        let longest = (m + self.upper.min(0)).min(n - self.lower.max(0)).max(0);
        Ok(Packed { which: *self, rows: m, columns: n, longest, matrix: checked_elements(&[rows, columns])? })
    }
}

fn extent(n: usize) -> Result<i64> {
    i64::try_from(n)
        .ok()
        .filter(|n| *n < i64::MAX / 4)
        .ok_or_else(|| Error::too_large(format!("a matrix with an extent of {n}")))
}

/// Diagonals of matrices of one shape.
struct Packed {
    which: Diagonals,
    rows: i64,
    columns: i64,
    longest: i64,
    matrix: usize,
}

impl Packed {
    fn count(&self) -> usize {
        (self.which.upper - self.which.lower + 1) as usize
    }

    /// The shape of the diagonals of a batch of matrices: a single one has no dimension of its own.
    fn shape(&self, batch: &[usize]) -> Shape {
        let count = Some(self.count()).filter(|n| *n > 1);
        batch.iter().copied().chain(count).chain([self.longest as usize]).collect()
    }

    /// Calls `f(place in the packed ones, place in the matrix)` for all elements of the diagonals of the `i`-th matrix.
    fn each(&self, i: usize, mut f: impl FnMut(usize, usize)) {
        let Diagonals { lower, upper, above, below } = self.which;
        for (d, k) in (lower..=upper).rev().enumerate() {
            let len = (self.rows + k.min(0)).min(self.columns - k.max(0)).max(0);
            let left = (k >= 0 && above == Align::Left) || (k <= 0 && below == Align::Left);
            let shift = if left { 0 } else { self.longest - len };
            let packed = (i * self.count() + d) * self.longest as usize + shift as usize;
            let first = i * self.matrix + (k.max(0) - k.min(0) * self.columns) as usize;
            (0..len as usize).for_each(|j| f(packed + j, first + j * (self.columns as usize + 1)));
        }
    }

    fn batches(&self, n: usize) -> usize {
        n.checked_div(self.matrix).unwrap_or(0)
    }
}

fn matrices(x: &Tensor) -> Result<(&[usize], usize, usize)> {
    match x.shape() {
        [batch @ .., rows, columns] => Ok((batch, *rows, *columns)),
        _ => Err(Error::shape(format!("a matrix has two dimensions, got shape {:?}", x.shape()))),
    }
}

/// The diagonals of the matrices in the last two dimensions (`tf.linalg.diag_part`), shorter ones filled up with the
/// scalar `padding`: `[.., diagonals, longest]`, or `[.., longest]` of a single one.
///
/// # Errors
/// When the rank is under 2, a diagonal is out of range, or `padding` has another dtype or isn't a scalar.
pub fn diag_part(x: &Tensor, which: &Diagonals, padding: &Tensor) -> Result<Tensor> {
    let (batch, rows, columns) = matrices(x)?;
    let packed = which.within(rows, columns)?;
    let shape = packed.shape(batch);
    rearrange(&[x, &scalar(padding)?], &shape, &Take(packed))
}

fn scalar(padding: &Tensor) -> Result<Tensor> {
    if padding.len() != 1 {
        return Err(Error::shape(format!("the padding isn't a scalar but of shape {:?}", padding.shape())));
    }
    padding.clone().reshape([])
}

struct Take(Packed);

impl Mover for Take {
    fn run<T: Clone + Send + Sync>(&self, inputs: &[&[T]], out: &mut [T]) {
        let [src, [padding]] = inputs else { return };
        out.fill(padding.clone());
        (0..self.0.batches(src.len()))
            .for_each(|i| self.0.each(i, |at, from| out[at].clone_from(&src[from])));
    }
}

/// The matrices of `x` with `diagonals`, which have the shape that [`diag_part`] gives, in place of theirs
/// (`tf.linalg.set_diag`).
///
/// # Errors
/// When dtypes differ, a diagonal is out of range, or the shape of `diagonals` doesn't fit.
pub fn set_diag(x: &Tensor, diagonals: &Tensor, which: &Diagonals) -> Result<Tensor> {
    let (batch, rows, columns) = matrices(x)?;
    let packed = which.within(rows, columns)?;
    let wanted = packed.shape(batch);
    if diagonals.shape() != &wanted[..] {
        return Err(Error::shape(format!(
            "diagonals of shape {:?} for matrices {:?}, which take {:?}",
            diagonals.shape(),
            x.shape(),
            &wanted[..]
        )));
    }
    rearrange(&[x, diagonals], x.shape(), &Put(packed))
}

struct Put(Packed);

impl Mover for Put {
    fn run<T: Clone + Send + Sync>(&self, inputs: &[&[T]], out: &mut [T]) {
        let [src, diagonals] = inputs else { return };
        out.clone_from_slice(src);
        (0..self.0.batches(src.len()))
            .for_each(|i| self.0.each(i, |from, at| out[at].clone_from(&diagonals[from])));
    }
}

/// Matrices with `diagonals` and the scalar `padding` elsewhere (`tf.linalg.diag`), of `rows` by `columns`, or as small
/// as they can be where these are `None` (square if both are).
///
/// # Errors
/// When the extents don't go with the diagonals, dtypes differ, or the result is too large.
pub fn diag(
    diagonals: &Tensor,
    which: &Diagonals,
    rows: Option<usize>,
    columns: Option<usize>,
    padding: &Tensor,
) -> Result<Tensor> {
    let shape = diagonals.shape();
    let single = which.lower == which.upper;
    let (batch, count, longest) = match shape {
        [batch @ .., longest] if single => (batch, 1, *longest),
        [batch @ .., count, longest] if !single => (batch, *count, *longest),
        _ => return Err(Error::shape(format!("diagonals of shape {shape:?}"))),
    };
    let wanted = which.upper.checked_sub(which.lower).and_then(|d| d.checked_add(1));
    if wanted != i64::try_from(count).ok() {
        return Err(Error::shape(format!(
            "{count} diagonals where those from {} to {} are asked for",
            which.lower, which.upper
        )));
    }
    let far = |by: i64| usize::try_from(by.unsigned_abs()).ok().and_then(|by| longest.checked_add(by));
    let too_large =
        || Error::too_large(format!("matrices with diagonals {} to {}", which.lower, which.upper));
    let least_rows = far(which.upper.min(0)).ok_or_else(too_large)?;
    let least_columns = far(which.lower.max(0)).ok_or_else(too_large)?;
    let (rows, columns) = match (rows, columns) {
        (None, None) => (least_rows.max(least_columns), least_rows.max(least_columns)),
        (rows, columns) => (rows.unwrap_or(least_rows), columns.unwrap_or(least_columns)),
    };
    if rows < least_rows || columns < least_columns || (rows != least_rows && columns != least_columns) {
        return Err(Error::shape(format!(
            "{rows} by {columns} matrices don't go with diagonals of shape {shape:?}"
        )));
    }
    let shape: Shape = batch.iter().copied().chain([rows, columns]).collect();
    set_diag(&super::fill(&shape, padding)?, diagonals, which)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn i(values: &[i32], shape: &[usize]) -> Tensor {
        Tensor::from_slice(values, shape).expect("tensor")
    }

    fn one(k: i64) -> Diagonals {
        Diagonals { lower: k, upper: k, ..Diagonals::MAIN }
    }

    #[test]
    fn diagonals_come_out_and_go_in() {
        let t = i(&[1, 2, 3, 4, 5, 6, 7, 8, 9], &[3, 3]);
        let zero = Tensor::scalar(0i32);
        let part = |k: i64| diag_part(&t, &one(k), &zero);
        assert!(part(0).expect("main").bit_eq(&i(&[1, 5, 9], &[3])));
        assert!(part(1).expect("above").bit_eq(&i(&[2, 6], &[2])));
        assert!(part(-2).expect("below").bit_eq(&i(&[7], &[1])));
        assert!(part(9).is_err() && part(i64::MIN).is_err());
        let set = set_diag(&t, &i(&[0, 0], &[2]), &one(-1)).expect("set");
        assert!(set.bit_eq(&i(&[1, 2, 3, 0, 5, 6, 7, 0, 9], &[3, 3])));
        let square = diag(&i(&[1, 2], &[2]), &one(0), None, None, &zero).expect("diag");
        assert!(square.bit_eq(&i(&[1, 0, 0, 2], &[2, 2])));
        assert!(diag(&i(&[1], &[1]), &one(i64::MIN), None, None, &zero).is_err());
        assert!(diag(&i(&[1], &[1]), &one(1 << 40), None, None, &zero).is_err());
    }

    #[test]
    fn shorter_diagonals_are_filled_up() {
        let t = i(&[1, 2, 3, 4], &[2, 2]);
        let nine = Tensor::scalar(9i32);
        let both = Diagonals { lower: -1, upper: 1, above: Align::Right, below: Align::Left };
        let part = diag_part(&t, &both, &nine).expect("three");
        assert!(part.bit_eq(&i(&[9, 2, 1, 4, 3, 9], &[3, 2])));
        assert!(
            set_diag(&Tensor::zeros(t.dtype(), [2, 2]).expect("zeros"), &part, &both)
                .expect("set")
                .bit_eq(&t)
        );
        assert!(diag(&part, &both, None, None, &nine).expect("matrix").bit_eq(&t));
    }
}
