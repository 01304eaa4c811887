//! Weights of a layer's state, which meet a few rows at every step.

use std::borrow::Cow;

use super::sequence::{Number, Recurrence};
use crate::kernels::packed::{Packed, accumulate};
use crate::{Element, Result};

/// The recurrent kernel, laid out for products where that pays.
pub(super) struct StateWeights<'a, T: Number> {
    plain: Cow<'a, [T]>,
    packed: Option<Packed>,
}

impl<'a, T: Number> StateWeights<'a, T> {
    /// Those of a layer.
    pub(super) fn of(r: Recurrence<'a>) -> Result<Self> {
        let batch = r.inputs.shape().get(usize::from(r.time_major)).copied().unwrap_or_default();
        let plain = r.recurrent_kernel.elements::<T>()?;
        let packed = match r.packed {
            _ if T::DTYPE != f32::DTYPE => None,
            // Every step reads them again.
            Some([_, recurrent]) => Some(recurrent.clone().laid_out()?),
            // One or two rows read the weights only once a step, as they lie.
            None if batch > 2 => {
                Packed::new(r.recurrent_kernel, 1, false)?.map(Packed::laid_out).transpose()?
            }
            None => None,
        };
        Ok(StateWeights { plain, packed })
    }

    /// The weights as they were given.
    pub(super) fn plain(&self) -> &[T] {
        &self.plain
    }

    /// Laid out for products, if they are.
    pub(super) fn packed(&self) -> Option<&Packed> {
        self.packed.as_ref()
    }

    /// `out += h x weights` on this thread: `h` is `[rows, units]`, `out` `[rows, wide]`.
    pub(super) fn accumulate(&self, units: usize, wide: usize, h: &[T], out: &mut [T]) {
        if let Some(packed) = &self.packed
            && (packed.depth(), packed.width()) == (units, wide)
            && let (Ok(h), Ok(out)) =
                (bytemuck::try_cast_slice::<T, f32>(h), bytemuck::try_cast_slice_mut::<T, f32>(out))
            && accumulate(h, packed, out, 0..wide)
        {
            return;
        }
        T::accumulate(h.len() / units, wide, units, h, &self.plain, out);
    }
}
