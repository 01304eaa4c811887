//! Matrices, Fourier transforms, batch normalisation.

use modelark_tensor::{DType, Shape, Tensor};

use super::elementwise::part_of;
use super::emit::{Val, ints};
use super::{Cx, Lower};
use crate::{Attr, Error, Result};

impl<'m> Lower<'m> {
    /// `None` when the operation is none of these.
    pub(super) fn algebra(&mut self, cx: &Cx<'m>, inputs: &[Val]) -> Result<Option<Vec<Val>>> {
        Ok(Some(match (cx.name(), inputs) {
            ("cholesky", [a]) => {
                let lower = cx.bool("lower")?;
                vec![self.cholesky(a, lower)?]
            }
            ("triangular_solve", [a, b]) => {
                let how = Triangle {
                    left: cx.bool("left_side")?,
                    lower: cx.bool("lower")?,
                    unit: cx.bool("unit_diagonal")?,
                    transpose: cx.word("transpose_a")?,
                };
                vec![self.triangular(a, b, &how)?]
            }
            ("fft", [x]) => vec![self.fourier(cx, x)?],
            ("batch_norm_inference", [x, scale, offset, mean, variance]) => {
                vec![self.normalised(cx, x, scale, offset, mean, variance)?]
            }
            ("batch_norm_training", [x, scale, offset]) => {
                let (mean, variance) = self.moments(cx, x)?;
                vec![self.normalised(cx, x, scale, offset, &mean, &variance)?, mean, variance]
            }
            ("batch_norm_grad", [x, scale, mean, variance, slope]) => {
                self.norm_slopes(cx, x, scale, mean, variance, slope)?
            }
            ("rng_bit_generator", [state]) => {
                let bits = cx.bits.ok_or_else(|| Error::graph("it has two results"))?;
                let shape = bits.tensor().and_then(|t| t.dims.iter().copied().collect::<Option<Shape>>());
                let shape = shape
                    .ok_or_else(|| Error::unsupported("its shape depends on what only a run computes"))?;
                self.random_bits(cx, state, super::dtype_of(bits)?, &shape)?
            }
            ("rng", [low, high, shape]) => vec![self.random(cx, low, high, shape)?],
            _ => return Ok(None),
        }))
    }

    pub(super) fn adjoint(&mut self, a: &Val) -> Result<Val> {
        let rank = a.rank();
        if rank < 2 {
            return Err(Error::graph(format!("shape {:?} is no matrix", a.shape)));
        }
        let order: Vec<usize> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
        let turned = self.e.transpose(a, &order)?;
        if a.dtype.is_complex() { self.e.map("Conj", &[&turned]) } else { Ok(turned) }
    }

    pub(super) fn cholesky(&mut self, a: &Val, lower: bool) -> Result<Val> {
        if lower {
            return self.e.whole_op("Cholesky", &[a], &[], a.dtype, &a.shape);
        }
        let a = self.adjoint(a)?;
        let l = self.e.whole_op("Cholesky", &[&a], &[], a.dtype, &a.shape)?;
        self.adjoint(&l)
    }

    pub(super) fn triangular(&mut self, a: &Val, b: &Val, how: &Triangle) -> Result<Val> {
        let mut a = a.clone();
        if how.unit {
            let ones = self.e.number(1.0, a.dtype, &a.shape[..a.rank().saturating_sub(1)])?;
            a = self.e.whole_op("MatrixSetDiag", &[&a, &ones], &[], a.dtype, &a.shape)?;
        }
        let adjoint = match how.transpose {
            "NO_TRANSPOSE" => false,
            "TRANSPOSE" => {
                if a.dtype.is_complex() {
                    a = self.e.map("Conj", &[&a])?;
                }
                true
            }
            _ => true,
        };
        let solve = |this: &mut Self, a: &Val, b: &Val, adjoint: bool| {
            let attrs = [("lower", Attr::Bool(how.lower)), ("adjoint", Attr::Bool(adjoint))];
            this.e.whole_op("MatrixTriangularSolve", &[a, b], &attrs, b.dtype, &b.shape)
        };
        if how.left {
            return solve(self, &a, b, adjoint);
        }
        // From the right it is the adjoint of what the adjoint does from the left.
        let b = self.adjoint(b)?;
        let made = solve(self, &a, &b, !adjoint)?;
        self.adjoint(&made)
    }

    fn fourier(&mut self, cx: &Cx<'m>, x: &Val) -> Result<Val> {
        let lengths = cx.sizes("fft_length")?;
        let n = lengths.len();
        if !(1..=3).contains(&n) || x.rank() < n {
            return Err(Error::unsupported(format!(
                "Fourier transforms over {n} dimensions of shape {:?}",
                x.shape
            )));
        }
        let kind = cx.word("fft_type")?;
        let mut shape = x.shape.clone();
        let first = x.rank() - n;
        let last = x.rank() - 1;
        shape[first..].copy_from_slice(&lengths);
        let names = [
            ["FFT", "FFT2D", "FFT3D"],
            ["IFFT", "IFFT2D", "IFFT3D"],
            ["RFFT", "RFFT2D", "RFFT3D"],
            ["IRFFT", "IRFFT2D", "IRFFT3D"],
        ];
        let lengths: Vec<i32> = lengths.iter().map(|l| i32::try_from(*l).unwrap_or(i32::MAX)).collect();
        let lengths = Val::known(Tensor::from_vec(lengths, [n])?);
        match kind {
            "FFT" | "IFFT" => {
                if shape != x.shape {
                    return Err(Error::graph(format!("a transform of {shape:?} of shape {:?}", x.shape)));
                }
                let name = names[usize::from(kind == "IFFT")][n - 1];
                self.e.whole_op(name, &[x], &[], x.dtype, &shape)
            }
            "RFFT" => {
                shape[last] = shape[last] / 2 + 1;
                let dtype = if x.dtype == DType::F64 { DType::C128 } else { DType::C64 };
                self.e.whole_op(names[2][n - 1], &[x, &lengths], &[("Tcomplex", dtype.into())], dtype, &shape)
            }
            _ => {
                let dtype = part_of(x.dtype);
                self.e.whole_op(names[3][n - 1], &[x, &lengths], &[("Treal", dtype.into())], dtype, &shape)
            }
        }
    }

    /// A vector along the features of `x`.
    fn along(&mut self, cx: &Cx<'m>, v: &Val, x: &Val) -> Result<Val> {
        let feature = cx.size("feature_index")?;
        v.broadcast(&mut self.e, &x.shape, &[feature])
    }

    fn normalised(
        &mut self,
        cx: &Cx<'m>,
        x: &Val,
        scale: &Val,
        offset: &Val,
        mean: &Val,
        variance: &Val,
    ) -> Result<Val> {
        let factor = self.inverse_deviation(cx, variance)?;
        let factor = self.e.map("Mul", &[&factor, scale])?;
        let [factor, mean, offset] = [&factor, mean, offset].map(|v| self.along(cx, v, x));
        let centred = self.e.map("Sub", &[x, &mean?])?;
        let scaled = self.e.map("Mul", &[&centred, &factor?])?;
        self.e.map("AddV2", &[&scaled, &offset?])
    }

    fn inverse_deviation(&mut self, cx: &Cx<'m>, variance: &Val) -> Result<Val> {
        let epsilon = cx
            .attr("epsilon")?
            .float()
            .ok_or_else(|| Error::graph("attribute \"epsilon\" must be a float"))?;
        let epsilon = self.e.number(epsilon, variance.dtype, &variance.shape)?;
        let sum = self.e.map("AddV2", &[variance, &epsilon])?;
        self.e.map("Rsqrt", &[&sum])
    }

    fn others(&self, cx: &Cx<'m>, x: &Val) -> Result<Vec<usize>> {
        let feature = cx.size("feature_index")?;
        if feature >= x.rank() {
            return Err(Error::graph(format!("there is no dimension {feature} of shape {:?}", x.shape)));
        }
        Ok((0..x.rank()).filter(|d| *d != feature).collect())
    }

    fn mean(&mut self, cx: &Cx<'m>, x: &Val) -> Result<Val> {
        let axes = self.others(cx, x)?;
        let shape: Shape = [x.shape[cx.size("feature_index")?]].into_iter().collect();
        self.e.whole_op("Mean", &[x, &ints(&axes)?], &[], x.dtype, &shape)
    }

    fn moments(&mut self, cx: &Cx<'m>, x: &Val) -> Result<(Val, Val)> {
        let mean = self.mean(cx, x)?;
        let wide = self.along(cx, &mean, x)?;
        let off = self.e.map("Sub", &[x, &wide])?;
        let square = self.e.map("Mul", &[&off, &off])?;
        Ok((mean, self.mean(cx, &square)?))
    }

    fn norm_slopes(
        &mut self,
        cx: &Cx<'m>,
        x: &Val,
        scale: &Val,
        mean: &Val,
        variance: &Val,
        slope: &Val,
    ) -> Result<Vec<Val>> {
        let inverse = self.inverse_deviation(cx, variance)?;
        let (wide, wide_inverse) = (self.along(cx, mean, x)?, self.along(cx, &inverse, x)?);
        let off = self.e.map("Sub", &[x, &wide])?;
        let unit = self.e.map("Mul", &[&off, &wide_inverse])?;
        let weighted = self.e.map("Mul", &[slope, &unit])?;
        let axes = self.others(cx, x)?;
        let shape = scale.shape.clone();
        let slope_scale = self.e.whole_op("Sum", &[&weighted, &ints(&axes)?], &[], x.dtype, &shape)?;
        let slope_offset = self.e.whole_op("Sum", &[slope, &ints(&axes)?], &[], x.dtype, &shape)?;
        let (mean_slope, mean_weighted) = (self.mean(cx, slope)?, self.mean(cx, &weighted)?);
        let (mean_slope, mean_weighted) =
            (self.along(cx, &mean_slope, x)?, self.along(cx, &mean_weighted, x)?);
        let part = self.e.map("Mul", &[&unit, &mean_weighted])?;
        let rest = self.e.map("Sub", &[slope, &mean_slope])?;
        let rest = self.e.map("Sub", &[&rest, &part])?;
        let factor = self.e.map("Mul", &[scale, &inverse])?;
        let factor = self.along(cx, &factor, x)?;
        Ok(vec![self.e.map("Mul", &[&rest, &factor])?, slope_scale, slope_offset])
    }
}

/// Which triangle a matrix is, and how it stands in an equation.
pub(super) struct Triangle {
    pub(super) left: bool,
    pub(super) lower: bool,
    pub(super) unit: bool,
    /// `NO_TRANSPOSE`, `TRANSPOSE` or `ADJOINT`.
    pub(super) transpose: &'static str,
}
