//! What shapes inputs have to have, where a kernel would make something of others, too.

use crate::engine::{Kernel, Value, Values, kernel};
use crate::{Error, Result};

/// A kernel whose inputs are looked at before it runs. `ranks` has a word for each of the first inputs: a rank, `1+` for
/// that rank and more, `=` for the shape of the first input, `=0` for that or a scalar, `_` for any.
pub(super) fn checked(run: Box<dyn Kernel>, ranks: &'static str) -> Box<dyn Kernel> {
    kernel(move |context, inputs: Values| {
        check(ranks, &inputs)?;
        run.run(context, inputs)
    })
}

fn check(ranks: &str, inputs: &Values) -> Result<()> {
    for (at, (wanted, input)) in ranks.split(' ').zip(inputs).enumerate() {
        let Value::Tensor(t) = input else { continue };
        let first = inputs.first().and_then(|v| v.tensor().ok()).map(|t| t.shape()).unwrap_or_default();
        let number = |text: &str| text.parse().unwrap_or(usize::MAX);
        let (fits, what) = match wanted {
            "_" => continue,
            "=" => (t.shape() == first, format!("the first's, {first:?}")),
            "=0" => (t.shape() == first || t.rank() == 0, format!("the first's, {first:?}, or a scalar")),
            rank => match rank.strip_suffix('+') {
                Some(least) => (t.rank() >= number(least), format!("one of rank {least} or more")),
                None => (t.rank() == number(rank), format!("one of rank {rank}")),
            },
        };
        if !fits {
            return Err(Error::compute(format!(
                "input {at} has the shape {:?} in place of {what}",
                t.shape()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{DType, Tensor};

    #[test]
    fn words_tell_shapes() {
        let of = |shapes: &[&[usize]]| -> Values {
            shapes.iter().map(|s| Tensor::zeros(DType::F32, *s).expect("zeros").into()).collect()
        };
        for (ranks, shapes, fits) in [
            ("0 1", &[&[][..], &[3]][..], true),
            ("0 1", &[&[3], &[3]], false),
            ("_ 2+", &[&[3], &[1, 2, 3]], true),
            ("_ 2+", &[&[3], &[1]], false),
            ("_ =", &[&[3], &[3]], true),
            ("_ =", &[&[3], &[1]], false),
            ("_ =0 =0", &[&[3], &[], &[3]], true),
        ] {
            assert_eq!(check(ranks, &of(shapes)).is_ok(), fits, "{ranks} {shapes:?}");
        }
    }
}
