//! Attention as one op. A pass puts it in place of the ops that TensorFlow spells it with.

use super::args::{all_tensors, one};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::array::{select, transpose};
use crate::tensor::kernels::attention::{Heads, attention};
use crate::tensor::kernels::elementwise as e;
use crate::tensor::kernels::matmul::{Form, matmul};
use crate::tensor::kernels::norm::softmax;
use crate::tensor::{Bool, DType, Tensor};
use crate::{Error, Result};

/// What is scaled before the softmax, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scale {
    Nothing,
    Queries,
    Scores,
    /// Divided, not multiplied.
    ScoresBy,
}

impl Scale {
    fn parse(text: &str) -> Result<Scale> {
        Ok(match text {
            "" => Scale::Nothing,
            "queries" => Scale::Queries,
            "scores" => Scale::Scores,
            "scores by" => Scale::ScoresBy,
            other => return Err(Error::graph(format!("nothing is scaled as {other:?}"))),
        })
    }

    /// The factor of the scores, where it is one number.
    fn factor(self, with: Option<&Tensor>) -> Option<f32> {
        let Some(with) = with else { return Some(1.0) };
        let number = with.elements::<f32>().ok().filter(|n| n.len() == 1 && with.rank() <= 4)?;
        let number = number.first().copied()?;
        Some(if self == Scale::ScoresBy { 1.0 / number } else { number })
    }
}

/// How scores are masked; see `passes/attention.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Masking {
    Nothing,
    Add,
    AddTwice,
    /// Where the first is true, the score counts, else the second is in its place.
    Where,
    /// The other way round.
    WhereNot,
}

impl Masking {
    fn parse(text: &str) -> Result<Masking> {
        Ok(match text {
            "" => Masking::Nothing,
            "add" => Masking::Add,
            "add twice" => Masking::AddTwice,
            "where" => Masking::Where,
            "where not" => Masking::WhereNot,
            other => return Err(Error::graph(format!("nothing is masked by {other:?}"))),
        })
    }

    fn operands(self) -> usize {
        match self {
            Masking::Nothing => 0,
            Masking::Add => 1,
            _ => 2,
        }
    }

    /// Scores, masked.
    fn apply(self, scores: Tensor, with: &[Tensor]) -> Result<Tensor> {
        Ok(match (self, with) {
            (Masking::Where, [counts, otherwise]) => select(counts, &scores, otherwise)?,
            (Masking::WhereNot, [counts, otherwise]) => select(counts, otherwise, &scores)?,
            _ => with.iter().try_fold(scores, |scores, mask| e::add(scores, mask.clone()))?,
        })
    }

    /// The summand that masks alike; `None` where there is none that surely does.
    fn summand(self, with: &[Tensor]) -> Option<Tensor> {
        /// What scores never come near to, so that it takes no share beside one that counts.
        const FAR: f32 = -3e4;
        match (self, with) {
            (Masking::Add, [mask]) => Some(mask.clone()),
            (Masking::AddTwice, [mask, more]) if more.len() == 1 && more.rank() <= mask.rank() => {
                e::add(mask.clone(), more.clone()).ok()
            }
            (Masking::Where | Masking::WhereNot, [counts, otherwise]) => {
                let otherwise = otherwise.elements::<f32>().ok().filter(|v| v.len() == 1 && v[0] <= FAR)?;
                drop(otherwise);
                let kept = self == Masking::Where;
                let flags = counts.elements::<Bool>().ok()?;
                let keys = counts.shape().last().copied().unwrap_or(1).max(1);
                // A query for which no key counts takes all alike.
                if flags.chunks(keys).any(|row| row.iter().all(|f| f.get() != kept)) {
                    return None;
                }
                let values = flags.iter().map(|f| if f.get() == kept { 0.0 } else { f32::NEG_INFINITY });
                Tensor::from_vec(values.collect(), counts.shape()).ok()
            }
            _ => None,
        }
    }
}

/// Queries, keys, values; then what scales, and what masks, where there are such.
fn attend(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let heads = if a.bool("by_rows")? { Heads::AfterRows } else { Heads::BeforeRows };
    let scale = Scale::parse(a.str("scale")?)?;
    let masking = Masking::parse(a.str("mask")?)?;
    Ok(kernel(move |_, inputs| {
        let inputs = all_tensors(inputs)?;
        let scaled = usize::from(scale != Scale::Nothing);
        let wanted = 3 + scaled + masking.operands();
        let [q, k, v, rest @ ..] = &inputs[..] else { return Err(Error::graph("takes queries, keys and values")) };
        if inputs.len() != wanted {
            return Err(Error::graph(format!("takes {wanted} inputs, got {}", inputs.len())));
        }
        let (by, masks) = rest.split_at(scaled);
        let by = by.first();
        let single = [q, k, v].into_iter().chain(by).all(|t| t.dtype() == DType::F32);
        if let Some(factor) = scale.factor(by).filter(|_| single) {
            let mask = masking.summand(masks).filter(|m| m.dtype() == DType::F32);
            if (mask.is_some() || masking == Masking::Nothing)
                && let Ok(y) = attention([q, k, v], heads, factor, mask.as_ref())
            {
                return one(y);
            }
        }
        one(by_its_ops([q, k, v], heads, scale, by, |scores| masking.apply(scores, masks))?)
    }))
}

/// As the ops do it that it is spelled with.
fn by_its_ops(
    [q, k, v]: [&Tensor; 3],
    heads: Heads,
    scale: Scale,
    by: Option<&Tensor>,
    masked: impl FnOnce(Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    let outer = |t: &Tensor| match heads {
        Heads::AfterRows => transpose(t, &[0, 2, 1, 3]),
        Heads::BeforeRows => Ok(t.clone()),
    };
    let by = || by.cloned().ok_or_else(|| Error::graph("what scales is missing"));
    let q = if scale == Scale::Queries { e::mul(q.clone(), by()?)? } else { q.clone() };
    let scores = matmul(&outer(&q)?, Form::Plain, &outer(k)?, Form::Transposed)?;
    let scores = match scale {
        Scale::Scores => e::mul(scores, by()?)?,
        Scale::ScoresBy => e::div(scores, by()?)?,
        Scale::Nothing | Scale::Queries => scores,
    };
    let y = matmul(&softmax(masked(scores)?)?, Form::Plain, &outer(v)?, Form::Plain)?;
    Ok(outer(&y)?)
}

pub(super) const OPS: &[Op] = &[Op::new("ModelarkAttention(inputs: N * T) -> (output: T); N: int; T: type; by_rows: bool; scale: string; mask: string", attend)];
