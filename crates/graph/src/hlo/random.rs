//! Random numbers.

use modelark_tensor::DType;

use super::emit::Val;
use super::moves::extents;
use super::{Cx, Lower};
use crate::{Attr, Error, Result};

impl<'m> Lower<'m> {
    /// The next state, and bits of a shape.
    pub(super) fn random_bits(
        &mut self,
        cx: &Cx<'m>,
        state: &Val,
        dtype: DType,
        shape: &[usize],
    ) -> Result<Vec<Val>> {
        if !dtype.is_integer() && !dtype.is_float() {
            return Err(Error::unsupported(format!("there are no random bits of {dtype}")));
        }
        let bits = match dtype.size() {
            Some(1) => DType::U8,
            Some(2) => DType::U16,
            Some(4) => DType::U32,
            _ => DType::U64,
        };
        // A state in halves is one in whole numbers.
        let halves = state.dtype == DType::U32;
        let wide = if halves {
            let pairs = state.shape.first().map_or(0, |n| n / 2);
            let pairs = self.e.reshape(state, &[pairs, 2])?;
            let count = pairs.shape[0];
            self.e.whole_op("Bitcast", &[&pairs], &[("type", DType::U64.into())], DType::U64, &[count])?
        } else {
            state.clone()
        };
        let extents: Vec<i64> = shape.iter().map(|n| *n as i64).collect();
        let attrs = [
            ("algorithm", Attr::from(cx.word("rng_algorithm")?)),
            ("shape", extents.into()),
            ("dtype", bits.into()),
        ];
        modelark_tensor::checked_elements(shape)?;
        let wide = self.e.full(&wide)?;
        let [next, made] = self.e.node("ModelarkHloRandomBits", &[&wide], &attrs)?;
        let mut next = Val::new(next, DType::U64, &wide.shape);
        if halves {
            let shape = [wide.shape[0], 2];
            next =
                self.e.whole_op("Bitcast", &[&next], &[("type", DType::U32.into())], DType::U32, &shape)?;
            next = self.e.reshape(&next, &state.shape)?;
        }
        let mut made = Val::new(made, bits, shape);
        if dtype != bits {
            made = self.e.whole_op("Bitcast", &[&made], &[("type", dtype.into())], dtype, shape)?;
        }
        Ok(vec![next, made])
    }

    /// Numbers of a distribution, without a state that anyone sees.
    pub(super) fn random(&mut self, cx: &Cx<'m>, a: &Val, b: &Val, shape: &Val) -> Result<Val> {
        let dims = extents(shape)?;
        let dtype = a.dtype;
        if !dtype.is_float() {
            return Err(Error::unsupported(format!("random numbers of {dtype} without a state")));
        }
        let op =
            if cx.word("rng_distribution")? == "NORMAL" { "RandomStandardNormal" } else { "RandomUniform" };
        let sym = self.e.whole(shape)?;
        let sym = self.e.b.op(op).input(sym).attr("dtype", dtype).one()?;
        let unit = Val::sym(sym, dtype, &dims);
        let (a, b) = (a.broadcast(&mut self.e, &dims, &[])?, b.broadcast(&mut self.e, &dims, &[])?);
        // From `a` to `b`, or around `a` with the deviation `b`.
        let width = if op == "RandomUniform" { self.e.map("Sub", &[&b, &a])? } else { b };
        let scaled = self.e.map("Mul", &[&unit, &width])?;
        self.e.map("AddV2", &[&scaled, &a])
    }
}
