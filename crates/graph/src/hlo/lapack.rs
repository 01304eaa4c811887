//! Calls of LAPACK, which JAX makes on a CPU, by our own kernels for matrices.

use modelark_tensor::{DType, Shape};

use super::emit::Val;
use super::{Cx, Lower};
use crate::{Attr, Error, Result};

/// The routine, if the call is one of those that are known: `lapack_sgetrf_ffi` is `getrf`.
fn routine(target: &str) -> Option<&str> {
    let name = target.strip_prefix("lapack_")?;
    let name = name.strip_suffix("_ffi").unwrap_or(name);
    let name = name.strip_prefix(['s', 'd', 'c', 'z'])?;
    ["geqrf", "gesdd", "getrf", "heevd", "orgqr", "potrf", "syevd", "trsm"].contains(&name).then_some(name)
}

pub(super) fn is_known(target: &str) -> bool {
    routine(target).is_some()
}

impl<'m> Lower<'m> {
    pub(super) fn lapack(&mut self, cx: &Cx<'m>, target: &str, inputs: &[Val]) -> Result<Vec<Val>> {
        let routine = routine(target).unwrap_or_default();
        // What arrays say of a triangle or a side is a letter's code.
        let letter = |name: &str| -> Result<u8> {
            let config = cx.op.attr("mhlo.backend_config").or_else(|| cx.op.attr("backend_config"));
            let code =
                config.and_then(|c| c.get(name)).and_then(|a| a.int()).and_then(|c| u8::try_from(c).ok());
            code.ok_or_else(|| Error::unsupported(format!("it doesn't say {name:?} as JAX has since 0.4.32")))
        };
        let Some(a) = inputs.first().filter(|a| a.rank() >= 2) else {
            return Err(Error::graph("it takes a matrix"));
        };
        let outer: Shape = a.shape[..a.rank() - 2].into();
        let outer = &outer[..];
        Ok(match routine {
            "potrf" => {
                let made = self.cholesky(a, letter("uplo")? == b'L')?;
                let info = self.failed(&made, outer)?;
                vec![made, info]
            }
            "syevd" | "heevd" => {
                let a = if letter("uplo")? == b'L' { a.clone() } else { self.adjoint(a)? };
                let a = self.e.full(&a)?;
                let [values, vectors] = self.e.node("SelfAdjointEigV2", &[&a], &[])?;
                let vectors = Val::new(vectors, a.dtype, &a.shape);
                let shape: Shape = a.shape[..a.rank() - 1].into();
                let values = Val::new(values, a.dtype, &shape);
                let values = if a.dtype.is_complex() {
                    self.convert(&values, super::elementwise::part_of(a.dtype))?
                } else {
                    values
                };
                let info = self.failed(&vectors, outer)?;
                vec![vectors, values, info]
            }
            "gesdd" => {
                let whole = letter("mode")? != b'S';
                let (rows, columns) = (a.shape[a.rank() - 2], a.shape[a.rank() - 1]);
                let least = rows.min(columns);
                let a = self.e.full(a)?;
                let [values, left, right] =
                    self.e.node("Svd", &[&a], &[("full_matrices", Attr::Bool(whole))])?;
                let shape = |last: &[usize]| -> Shape { outer.iter().chain(last).copied().collect() };
                let values = Val::new(values, a.dtype, &shape(&[least]));
                let values = if a.dtype.is_complex() {
                    self.convert(&values, super::elementwise::part_of(a.dtype))?
                } else {
                    values
                };
                let left = Val::new(left, a.dtype, &shape(&[rows, if whole { rows } else { least }]));
                let right = Val::new(right, a.dtype, &shape(&[columns, if whole { columns } else { least }]));
                let right = self.adjoint(&right)?;
                let info = self.failed(&left, outer)?;
                vec![a, values, left, right, info]
            }
            "geqrf" => {
                let least = a.shape[a.rank() - 2].min(a.shape[a.rank() - 1]);
                let a = self.e.full(a)?;
                let [made, factors] = self.e.node("ModelarkHloReflections", &[&a], &[])?;
                let shape: Shape = outer.iter().chain(&[least]).copied().collect();
                vec![Val::new(made, a.dtype, &a.shape), Val::new(factors, a.dtype, &shape)]
            }
            "orgqr" => {
                let Some(factors) = inputs.get(1) else {
                    return Err(Error::graph("it takes reflections and their factors"));
                };
                vec![self.e.whole_op("ModelarkHloOrthogonal", &[a, factors], &[], a.dtype, &a.shape)?]
            }
            "getrf" => {
                let (rows, columns) = (a.shape[a.rank() - 2], a.shape[a.rank() - 1]);
                if rows != columns {
                    return Err(Error::unsupported(format!("matrices of {rows} by {columns}")));
                }
                let a = self.e.full(a)?;
                let [packed, order] = self.e.node("Lu", &[&a], &[("output_idx_type", DType::I32.into())])?;
                let shape: Shape = outer.iter().chain(&[rows]).copied().collect();
                let order = Val::new(order, DType::I32, &shape);
                let pivots = self.e.whole_op("ModelarkHloPivots", &[&order], &[], DType::I32, &shape)?;
                let packed = Val::new(packed, a.dtype, &a.shape);
                let info = self.e.number(0.0, DType::I32, outer)?;
                vec![packed, pivots, info]
            }
            _ => {
                let Some(b) = inputs.get(1) else { return Err(Error::graph("it takes two matrices")) };
                let how = super::algebra::Triangle {
                    left: letter("side")? == b'L',
                    lower: letter("uplo")? == b'L',
                    unit: letter("diag")? == b'U',
                    transpose: match letter("trans_x")? {
                        b'N' => "NO_TRANSPOSE",
                        b'T' => "TRANSPOSE",
                        _ => "ADJOINT",
                    },
                };
                vec![self.triangular(a, b, &how)?]
            }
        })
    }

    /// One for each matrix that has a value that is not a number, as LAPACK tells that it failed.
    fn failed(&mut self, v: &Val, outer: &[usize]) -> Result<Val> {
        let axes = super::emit::ints(&[v.rank() - 2, v.rank() - 1])?;
        let v = match v.dtype.is_complex() {
            true => {
                let real = super::elementwise::part_of(v.dtype);
                self.e.elementwise("Real", &[v], real, &[("Tout", real.into())])?
            }
            false => v.clone(),
        };
        let lost = self.e.elementwise("IsNan", &[&v], DType::Bool, &[])?;
        let any = self.e.whole_op(
            "Any",
            &[&lost, &axes],
            &[("keep_dims", Attr::Bool(false))],
            DType::Bool,
            outer,
        )?;
        self.e.cast(&any, DType::I32)
    }
}
