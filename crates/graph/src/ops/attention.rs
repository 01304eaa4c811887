//! Attention as one op. A pass puts it in place of the ops that TensorFlow spells it with.

use super::args::{all_tensors, one};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::array::transpose;
use crate::tensor::kernels::attention::{Heads, attention};
use crate::tensor::kernels::elementwise as e;
use crate::tensor::kernels::matmul::{Form, matmul};
use crate::tensor::kernels::norm::softmax;
use crate::tensor::{DType, Tensor};
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

/// Queries, keys, values; then what scales, and a mask, where there are such.
fn attend(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let heads = if a.bool("by_rows")? { Heads::AfterRows } else { Heads::BeforeRows };
    let scale = Scale::parse(a.str("scale")?)?;
    let masked = a.bool("masked")?;
    Ok(kernel(move |_, inputs| {
        let inputs = all_tensors(inputs)?;
        let wanted = 3 + usize::from(scale != Scale::Nothing) + usize::from(masked);
        let [q, k, v, rest @ ..] = &inputs[..] else { return Err(Error::graph("takes queries, keys and values")) };
        if inputs.len() != wanted {
            return Err(Error::graph(format!("takes {wanted} inputs, got {}", inputs.len())));
        }
        let by = if scale == Scale::Nothing { None } else { rest.first() };
        let mask = if masked { rest.last() } else { None };
        let single = inputs.iter().all(|t| t.dtype() == DType::F32);
        if let Some(factor) = scale.factor(by).filter(|_| single)
            && let Ok(y) = attention([q, k, v], heads, factor, mask)
        {
            return one(y);
        }
        one(by_its_ops([q, k, v], heads, scale, by, mask)?)
    }))
}

/// As the ops do it that it is spelled with.
fn by_its_ops(
    [q, k, v]: [&Tensor; 3],
    heads: Heads,
    scale: Scale,
    by: Option<&Tensor>,
    mask: Option<&Tensor>,
) -> Result<Tensor> {
    let outer = |t: &Tensor| match heads {
        Heads::AfterRows => transpose(t, &[0, 2, 1, 3]),
        Heads::BeforeRows => Ok(t.clone()),
    };
    let by = || by.cloned().ok_or_else(|| Error::graph("what scales is missing"));
    let q = if scale == Scale::Queries { e::mul(q.clone(), by()?)? } else { q.clone() };
    let scores = matmul(&outer(&q)?, Form::Plain, &outer(k)?, Form::Transposed)?;
    let mut scores = match scale {
        Scale::Scores => e::mul(scores, by()?)?,
        Scale::ScoresBy => e::div(scores, by()?)?,
        Scale::Nothing | Scale::Queries => scores,
    };
    if let Some(mask) = mask {
        scores = e::add(scores, mask.clone())?;
    }
    let y = matmul(&softmax(scores)?, Form::Plain, &outer(v)?, Form::Plain)?;
    Ok(outer(&y)?)
}

pub(super) const OPS: &[Op] = &[Op::new("ModelarkAttention(inputs: N * T) -> (output: T); N: int; T: type; by_rows: bool; scale: string; masked: bool", attend)];
