//! Blocks that compute single numbers, applied to many at once; and what common ones of them mean.

use std::collections::HashMap;

use modelark_stablehlo::{Block, Value};
use modelark_tensor::Shape;

use super::emit::Val;
use super::{Item, Lower, Scope};
use crate::{Error, Result};

impl<'m> Lower<'m> {
    /// A block of scalars applied to tensors of one shape, element by element.
    pub(super) fn each(&mut self, scope: &Scope<'m>, block: &'m Block, inputs: Vec<Val>) -> Result<Vec<Val>> {
        let shape: Shape = inputs.first().map(|v| v.shape.clone()).unwrap_or_default();
        let mut inner = Scope { function: scope.function, items: scope.items.clone(), made: HashMap::new() };
        inner.bind(&block.args, inputs.into_iter().map(Item::Val).collect())?;
        let around = self.lifted.replace(shape.clone());
        let made = self.block(&mut inner, block);
        self.lifted = around;
        let mut flat = Vec::new();
        for item in made? {
            item.flatten(&mut flat);
        }
        // A result that no argument went into is one number.
        flat.iter()
            .map(|v| if v.shape == shape { Ok(v.clone()) } else { v.broadcast(&mut self.e, &shape, &[]) })
            .collect()
    }

    /// A block of scalars as a function of tensors of one shape, which kernels call; gives its name, and what it takes from
    /// outside after its arguments, which have the dtypes of `like`.
    pub(super) fn each_function(
        &mut self,
        scope: &Scope<'m>,
        block: &'m Block,
        like: &[&Val],
        shape: &[usize],
    ) -> Result<(String, Vec<Val>)> {
        let outside = self.outside(scope, &[block])?;
        let args = like
            .iter()
            .map(|v| self.e.number(0.0, v.dtype, shape).map(Item::Val))
            .collect::<Result<Vec<_>>>()?;
        let around = self.lifted.replace(shape.into());
        let made = self.function(scope, block, &args, &outside, |this, items, _| {
            let whole = |item: &Item| match item {
                Item::Val(v) if v.rank() == 0 => v.broadcast(&mut this.e, shape, &[]).map(Item::Val),
                other => Ok(other.clone()),
            };
            items.iter().map(whole).collect()
        });
        self.lifted = around;
        Ok((made?.0, outside.captured.into_iter().map(|(_, v)| v).collect()))
    }
}

/// The operation that a block of two arguments is, if it is just one of the first and the second: `subtract`.
pub(super) fn ordered_combiner(block: &Block) -> Option<&str> {
    let [a, b] = block.args[..] else { return None };
    combiner(block).filter(|_| block.ops.first().is_some_and(|op| op.operands == [a, b]))
}

/// The operation that a block of two arguments is, if it is just one of both: `add`, `maximum`.
pub(super) fn combiner(block: &Block) -> Option<&str> {
    let ([a, b], [op], [result]) = (&block.args[..], &block.ops[..], &block.results[..]) else { return None };
    let both = op.operands == [*a, *b] || op.operands == [*b, *a];
    (both && op.results == [*result]).then_some(&*op.name)
}

/// Whether a block of two arguments gives the second as it is.
pub(super) fn is_assignment(block: &Block) -> bool {
    matches!((&block.args[..], &block.results[..]), ([_, b], [r]) if b == r)
}

/// Where a value is among a block's arguments.
pub(super) fn argument(block: &Block, value: Value) -> Option<usize> {
    block.args.iter().position(|a| *a == value)
}

/// As many values as results, of one shape.
pub(super) fn alike(inputs: &[Val]) -> Result<(&[Val], &[Val])> {
    let half = inputs.len() / 2;
    let (values, init) = inputs.split_at_checked(half).ok_or_else(|| Error::graph("it has no operands"))?;
    let Some(first) = values.first() else { return Err(Error::graph("it has no operands")) };
    if init.len() != half || values.iter().any(|v| v.shape != first.shape) {
        return Err(Error::graph("its operands' shapes differ"));
    }
    Ok((values, init))
}
