//! Modules: functions of blocks of operations.

use std::sync::Arc;

use crate::bytecode;
use crate::{Attr, Result, Type};

/// A StableHLO module.
#[derive(Debug, Clone, Default)]
pub struct Module {
    /// What wrote it, such as `StableHLO_v1.8.0`: the version of VHLO that it is in.
    pub producer: String,
    /// The functions, in order.
    pub functions: Vec<Function>,
}

impl Module {
    /// Reads a portable artifact.
    ///
    /// # Errors
    /// When the bytes aren't MLIR bytecode, are damaged, or hold what no module of StableHLO has.
    pub fn read(bytes: &[u8]) -> Result<Module> {
        bytecode::read(bytes)
    }

    /// The function of this name.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|f| f.name == name)
    }

    /// Tells of every operation in it, those within others after them.
    pub fn ops<'a>(&'a self, mut met: impl FnMut(&'a Function, &'a Op)) {
        for function in &self.functions {
            let mut waiting: Vec<&Op> = function.body.ops.iter().rev().collect();
            while let Some(op) = waiting.pop() {
                met(function, op);
                waiting.extend(op.regions.iter().rev().flat_map(|r| r.ops.iter().rev()));
            }
        }
    }
}

/// A value: an argument of a block or a result of an operation. Unique in its function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub u32);

/// A function.
#[derive(Debug, Clone, Default)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Attributes of its arguments: a dictionary for each, or nothing at all.
    pub arg_attrs: Vec<Attr>,
    /// What it computes; the block's arguments are the function's.
    pub body: Block,
    /// The types of its values, by [`Value`].
    pub types: Vec<Type>,
}

impl Function {
    /// The type of a value of the function.
    pub fn ty(&self, value: Value) -> &Type {
        self.types.get(value.0 as usize).unwrap_or(&Type::Other("unknown"))
    }
}

/// Operations in order, from arguments to results.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// What it is given.
    pub args: Vec<Value>,
    /// The operations, without the last, which gives the results.
    pub ops: Vec<Op>,
    /// What it gives.
    pub results: Vec<Value>,
}

/// An operation.
#[derive(Debug, Clone)]
pub struct Op {
    /// StableHLO's name without the dialect and the version, such as `dot_general`; of another dialect, with the dialect.
    pub name: Arc<str>,
    /// What it computes from.
    pub operands: Vec<Value>,
    /// What it gives.
    pub results: Vec<Value>,
    /// What is fixed, by StableHLO's names, in no order.
    pub attrs: Vec<(Arc<str>, Attr)>,
    /// The blocks within, each a function of a few values that may also use those around it.
    pub regions: Vec<Block>,
}

impl Op {
    /// The attribute of this name, if the operation has it.
    pub fn attr(&self, name: &str) -> Option<&Attr> {
        self.attrs.iter().find(|(n, _)| &**n == name).map(|(_, v)| v)
    }
}
