//! Diagonals and bands of matrices.

use super::args::{int, map1, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::array::{self, Align, Diagonals};
use crate::tensor::{Shape, Tensor};
use crate::{Error, Result};

/// How shorter diagonals lie: above the main one and below it.
type Aligned = (Align, Align);

const LEFT: Aligned = (Align::Left, Align::Left);

/// The attribute that says so, which only the newest versions have.
fn align(a: &NodeAttrs<'_>) -> Result<Aligned> {
    let (left, right) = (Align::Left, Align::Right);
    match a.str("align")? {
        "LEFT_RIGHT" => Ok((left, right)),
        "RIGHT_LEFT" => Ok((right, left)),
        "LEFT_LEFT" => Ok((left, left)),
        "RIGHT_RIGHT" => Ok((right, right)),
        other => Err(Error::graph(format!("there is no alignment {other:?}"))),
    }
}

/// One diagonal, or all from the first to the second.
fn diagonals(k: &Tensor, (above, below): Aligned) -> Result<Diagonals> {
    let (lower, upper) = match k.to_i64_vec()?[..] {
        [k] => (k, k),
        [lower, upper] => (lower, upper),
        _ => return Err(Error::compute(format!("k must be one or two integers, got shape {:?}", k.shape()))),
    };
    Ok(Diagonals { lower, upper, above, below })
}

fn diag_part(align: Aligned) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [x, k, padding] = tensors(inputs)?;
        one(array::diag_part(&x, &diagonals(&k, align)?, &padding)?)
    }))
}

fn set_diag(align: Aligned) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [x, diagonal, k] = tensors(inputs)?;
        one(array::set_diag(&x, &diagonal, &diagonals(&k, align)?)?)
    }))
}

fn diag(align: Aligned) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [diagonal, k, rows, columns, padding] = tensors(inputs)?;
        // A negative extent asks for the smallest matrix.
        let extent = |t: &Tensor, what| Ok::<_, Error>(usize::try_from(int(t, what)?).ok());
        let (rows, columns) = (extent(&rows, "num_rows")?, extent(&columns, "num_cols")?);
        one(array::diag(&diagonal, &diagonals(&k, align)?, rows, columns, &padding)?)
    }))
}

fn main_part() -> Result<Box<dyn Kernel>> {
    map1(|x| array::diag_part(&x, &Diagonals::MAIN, &Tensor::zeros(x.dtype(), [])?))
}

fn main_set() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x, diagonal] = tensors(inputs)?;
        one(array::set_diag(&x, &diagonal, &Diagonals::MAIN)?)
    }))
}

fn main_diag() -> Result<Box<dyn Kernel>> {
    map1(|x| array::diag(&x, &Diagonals::MAIN, None, None, &Tensor::zeros(x.dtype(), [])?))
}

fn band_part() -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [x, lower, upper] = tensors(inputs)?;
        // A negative number of diagonals means all.
        let count = |t: &Tensor, what: &str, most: usize| -> Result<Option<usize>> {
            match usize::try_from(int(t, what)?).ok() {
                Some(n) if n > most => Err(Error::compute(format!("{what} is {n}, over the matrix's extent {most}"))),
                n => Ok(n),
            }
        };
        let &[.., rows, columns] = x.shape() else { return Err(Error::compute("a band is part of a matrix")) };
        let (lower, upper) = (count(&lower, "num_lower", rows)?, count(&upper, "num_upper", columns)?);
        one(array::band_part(&x, lower, upper)?)
    }))
}

/// A tensor of twice the rank with `x` where both halves of an index are the same.
fn whole_diag(x: &Tensor) -> Result<Values> {
    let shape: Shape = x.shape().iter().chain(x.shape()).copied().collect();
    let flat = x.clone().reshape([x.len()])?;
    let zero = Tensor::zeros(x.dtype(), [])?;
    one(array::diag(&flat, &Diagonals::MAIN, None, None, &zero)?.reshape(shape)?)
}

/// What [`whole_diag`] was made of.
fn whole_diag_part(x: &Tensor) -> Result<Values> {
    let (first, second) = x.shape().split_at(x.rank() / 2);
    if first != second {
        return Err(Error::compute(format!("shape {:?} isn't the same extents twice", x.shape())));
    }
    let shape = Shape::from(first);
    let n = crate::tensor::checked_elements(first)?;
    let square = x.clone().reshape([n, n])?;
    one(array::diag_part(&square, &Diagonals::MAIN, &Tensor::zeros(x.dtype(), [])?)?.reshape(shape)?)
}

fn whole(f: fn(&Tensor) -> Result<Values>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [x] = tensors(inputs)?;
        f(&x)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("MatrixBandPart(input: T, num_lower: Tindex, num_upper: Tindex) -> (band: T); T: type; Tindex: type = int64", |_| band_part()).ranks("2+ 0 0"),
    Op::new("BatchMatrixBandPart(input: T, num_lower: int64, num_upper: int64) -> (band: T); T: type", |_| band_part()),
    Op::new("MatrixDiag(diagonal: T) -> (output: T); T: type", |_| main_diag()),
    Op::new("BatchMatrixDiag(diagonal: T) -> (output: T); T: type", |_| main_diag()),
    Op::new("MatrixDiagV2(diagonal: T, k: int32, num_rows: int32, num_cols: int32, padding_value: T) -> (output: T); T: type", |_| diag(LEFT)).ranks("1+ _ 0 0 0"),
    Op::new("MatrixDiagV3(diagonal: T, k: int32, num_rows: int32, num_cols: int32, padding_value: T) -> (output: T); T: type; align: string = \"RIGHT_LEFT\"", |a| diag(align(a)?)).ranks("1+ _ 0 0 0"),
    Op::new("MatrixDiagPart(input: T) -> (diagonal: T); T: type", |_| main_part()),
    Op::new("BatchMatrixDiagPart(input: T) -> (diagonal: T); T: type", |_| main_part()),
    Op::new("MatrixDiagPartV2(input: T, k: int32, padding_value: T) -> (diagonal: T); T: type", |_| diag_part(LEFT)),
    Op::new("MatrixDiagPartV3(input: T, k: int32, padding_value: T) -> (diagonal: T); T: type; align: string = \"RIGHT_LEFT\"", |a| diag_part(align(a)?)),
    Op::new("MatrixSetDiag(input: T, diagonal: T) -> (output: T); T: type", |_| main_set()),
    Op::new("BatchMatrixSetDiag(input: T, diagonal: T) -> (output: T); T: type", |_| main_set()),
    Op::new("MatrixSetDiagV2(input: T, diagonal: T, k: int32) -> (output: T); T: type", |_| set_diag(LEFT)),
    Op::new("MatrixSetDiagV3(input: T, diagonal: T, k: int32) -> (output: T); T: type; align: string = \"RIGHT_LEFT\"", |a| set_diag(align(a)?)),
    Op::new("Diag(diagonal: T) -> (output: T); T: type", |_| whole(whole_diag)).ranks("1+"),
    Op::new("DiagPart(input: T) -> (diagonal: T); T: type", |_| whole(whole_diag_part)),
];
