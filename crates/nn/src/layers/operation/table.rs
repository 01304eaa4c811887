//! The table of ops: every row of every kind, by class and by function.

use std::collections::HashMap;
use std::sync::LazyLock;

use modelark_artifact::graph::ops::signature;
use modelark_artifact::graph::{OpSignature, Sym};
use modelark_artifact::tensor::DType;
use modelark_artifact::{Error, Result};

use super::arguments::Args;
use super::{
    alignments, arrays, elementwise, filters, functions, generic, integers, linear, losses, matrices, network, patterns, pictures, ranking, reductions, signals, slicing, warps, windows,
};

/// How an op is traced.
#[derive(Clone)]
pub(super) enum Form {
    /// One of TensorFlow's ops of one tensor, element by element.
    Unary(&'static str),
    /// Likewise; integers become floats first.
    Float(&'static str),
    /// One of TensorFlow's ops of two tensors, element by element.
    Binary(&'static str),
    /// Likewise; integers become floats first.
    FloatBinary(&'static str),
    /// One of TensorFlow's ops of two tensors that gives booleans.
    Compare(&'static str),
    /// One of TensorFlow's ops of booleans.
    Logical(&'static str),
    /// One of TensorFlow's ops along `axis`, with `keepdims`.
    Reduce(&'static str),
    /// One of TensorFlow's ops, whose arguments are the row's.
    Op(&'static str),
    /// Any ops that give one tensor.
    One(fn(&mut Args<'_, '_>) -> Result<Sym>),
    /// Any ops that give several.
    Many(fn(&mut Args<'_, '_>) -> Result<Vec<Sym>>),
}

impl Form {
    /// Traces the op; `call` are the names of the arguments that take tensors.
    pub fn trace(&self, args: &mut Args<'_, '_>, call: &[&'static str]) -> Result<Vec<Sym>> {
        let name = |i: usize| call.get(i).copied().ok_or_else(|| Error::invalid("the op has too few arguments"));
        let one = match self {
            Form::Many(f) => return f(args),
            Form::Op(op) => return generic::trace(args, op),
            Form::One(f) => f(args)?,
            Form::Unary(op) => {
                let x = args.tensor(name(0)?)?;
                match (*op, args.call.dtype(x)) {
                    ("Abs", DType::C64) => args.call.apply("ComplexAbs", &[x])?,
                    ("Abs", DType::Bool | DType::U8 | DType::U16 | DType::U32 | DType::U64) if !args.keras2 => x,
                    ("Abs", DType::C128) => args.call.op("ComplexAbs").input(x).attr("Tout", DType::F64).one()?,
                    _ => args.call.apply(op, &[x])?,
                }
            }
            Form::Float(op) => {
                let x = args.float_tensor(name(0)?)?;
                args.call.apply(op, &[x])?
            }
            Form::Binary(op) | Form::Compare(op) => {
                let both = args.pair(name(0)?, name(1)?)?;
                args.call.apply(op, &both)?
            }
            Form::FloatBinary(op) => {
                let both = args.float_pair(name(0)?, name(1)?)?;
                args.call.apply(op, &both)?
            }
            Form::Logical(op) => {
                let mut operands = Vec::new();
                for name in call {
                    let x = args.tensor(name)?;
                    operands.push(args.call.cast(x, DType::Bool)?);
                }
                args.call.apply(op, &operands)?
            }
            Form::Reduce(op) => {
                let mut x = args.tensor(name(0)?)?;
                if *op == "Mean" && !args.keras2 {
                    x = args.float_tensor(name(0)?)?;
                }
                if matches!(*op, "Any" | "All") {
                    x = args.call.cast(x, DType::Bool)?;
                }
                let rank = reductions::rank(args, name(0)?, x)?;
                let axes = args.axes("axis", rank)?;
                let keep = args.flag("keepdims");
                let op = match (*op, args.call.dtype(x)) {
                    ("Max", DType::Bool) => "Any",
                    ("Min", DType::Bool) => "All",
                    (op, _) => op,
                };
                args.call.reduce(op, x, &axes, keep)?
            }
        };
        Ok(vec![one])
    }

    /// For an op whose output is as large as its inputs broadcast: its dtype where that isn't theirs.
    pub fn elementwise(&self) -> Option<Option<DType>> {
        match self {
            Form::Unary(_) | Form::Float(_) | Form::Binary(_) | Form::FloatBinary(_) => Some(None),
            Form::Compare(_) | Form::Logical(_) => Some(Some(DType::Bool)),
            _ => None,
        }
    }
}

/// A row as it is written down.
///
/// The text is `module.Class(arguments of the call; arguments of the config) = function(arguments) | function(..)`.
/// A function's arguments are the class's, in TensorFlow's order, as `tensorflow:keras` where names differ. Either side
/// may be absent.
pub(super) struct Row {
    text: &'static str,
    form: Form,
}

/// A row.
pub(super) const fn row(text: &'static str, form: Form) -> Row {
    Row { text, form }
}

/// A function of TensorFlow's.
pub(super) struct Function {
    pub name: &'static str,
    /// TensorFlow's names of its arguments with Keras 3's.
    pub params: Vec<(&'static str, &'static str)>,
    pub names: Vec<&'static str>,
}

/// An op.
pub(super) struct Known {
    pub module: &'static str,
    pub class: &'static str,
    pub call: Vec<&'static str>,
    pub config: Vec<&'static str>,
    pub functions: Vec<Function>,
    pub form: Form,
}

impl Known {
    fn parse(row: &'static Row) -> Known {
        let (class, functions) = row.text.split_once('=').unwrap_or((row.text, ""));
        let signature = |text: &'static str| -> (&'static str, &'static str) {
            let (name, rest) = text.trim().split_once('(').unwrap_or((text.trim(), ""));
            (name, rest.trim_end_matches(')'))
        };
        let (name, params) = signature(class);
        let (call, config) = params.split_once(';').unwrap_or((params, ""));
        let (module, class) = name.split_once('.').unwrap_or(("", name));
        let call: Vec<&str> = call.split_whitespace().collect();
        let config: Vec<&str> = config.split_whitespace().collect();
        let functions = functions.split('|').filter(|f| !f.trim().is_empty()).map(|text| {
            let (name, params) = signature(text);
            let param = |p: &'static str| p.split_once(':').unwrap_or((p, p));
            let params: Vec<_> = params.split_whitespace().map(param).collect();
            Function { name, names: params.iter().map(|(tf, _)| *tf).collect(), params }
        });
        Known {
            module,
            class,
            call,
            config,
            functions: functions.collect(),
            form: row.form.clone(),
        }
    }

    /// One of TensorFlow's ops, by its signature.
    fn of(signature: &'static OpSignature) -> Known {
        let names = generic::parameters(signature);
        let params = names.iter().map(|&name| (name, name)).collect();
        let function = Function { name: "", params, names: names.clone() };
        let form = Form::Op(&signature.name);
        Known { module: "", class: "", call: names, config: Vec::new(), functions: vec![function], form }
    }

    /// The function of this name; the only one of an op that was found by its signature.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|f| f.name == name || f.name.is_empty())
    }

    /// Keras 3's name of an argument of a function; empty for one that means nothing.
    pub fn canonical(&self, function: &str, name: &str) -> &'static str {
        let function = self.function(function);
        let found = function.and_then(|f| f.params.iter().find(|(tf, _)| *tf == name));
        found.map_or("", |(_, canonical)| canonical)
    }

    /// The name of an argument of the class itself.
    pub fn own(&self, name: &str) -> &'static str {
        self.call.iter().chain(&self.config).find(|n| **n == name).copied().unwrap_or("")
    }
}

struct Table {
    all: Vec<Known>,
    classes: HashMap<&'static str, usize>,
    functions: HashMap<&'static str, usize>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let kinds = [
        alignments::ROWS,
        arrays::ROWS,
        elementwise::ROWS,
        filters::ROWS,
        functions::ROWS,
        generic::ROWS,
        integers::ROWS,
        linear::ROWS,
        losses::ROWS,
        matrices::ROWS,
        network::ROWS,
        patterns::ROWS,
        pictures::ROWS,
        ranking::ROWS,
        reductions::ROWS,
        signals::ROWS,
        slicing::ROWS,
        warps::ROWS,
        windows::ROWS,
    ];
    let all: Vec<Known> = kinds.into_iter().flatten().map(Known::parse).collect();
    let classes = all.iter().enumerate().filter(|(_, k)| !k.class.is_empty()).map(|(i, k)| (k.class, i)).collect();
    let functions = all.iter().enumerate().flat_map(|(i, k)| k.functions.iter().map(move |f| (f.name, i))).collect();
    Table { all, classes, functions }
});

/// The op of a class of Keras 3's.
pub(super) fn class(name: &str) -> Option<&'static Known> {
    TABLE.classes.get(name).and_then(|&i| TABLE.all.get(i))
}

/// The ops that functions may be by their names alone.
static OPS: LazyLock<HashMap<&'static str, Known>> =
    LazyLock::new(|| generic::ops().filter_map(|op| Some((op, Known::of(signature(op).ok()?)))).collect());

/// The op that is a function of TensorFlow's.
pub(super) fn function(name: &str) -> Option<&'static Known> {
    let own = TABLE.functions.get(name).and_then(|&i| TABLE.all.get(i));
    own.or_else(|| OPS.get(generic::op_of(name)?.name.as_str()))
}

/// All names of both.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.classes.keys().chain(TABLE.functions.keys()).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_read_and_every_name_is_of_one() {
        let classes = TABLE.all.iter().filter(|k| !k.class.is_empty()).count();
        let functions: usize = TABLE.all.iter().map(|k| k.functions.len()).sum();
        assert_eq!((TABLE.classes.len(), TABLE.functions.len()), (classes, functions));
        for known in &TABLE.all {
            assert!(!known.class.is_empty() || !known.functions.is_empty());
        }
    }
}
