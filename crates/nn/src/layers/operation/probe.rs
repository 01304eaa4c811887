//! What an op gives, found by running it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use modelark_artifact::graph::engine::{Program, Resources, RunOptions, Value as Flowing};
use modelark_artifact::graph::{Builder, Sym};
use modelark_artifact::tensor::{DType, Tensor, checked_elements};
use modelark_artifact::{Error, Objects, Result};

use crate::call::Frame;
use crate::{Call, Inputs, Spec};

/// How an op becomes nodes.
type Trace<'a> = &'a dyn Fn(&mut Call<'_>, &[Sym]) -> Result<Vec<Sym>>;

/// A call's inputs with what it gives.
type Seen = (Inputs, Vec<Spec>);

/// What was found out of the outputs of an op's calls.
#[derive(Debug, Clone, Default)]
pub(super) struct Probed(Arc<Mutex<Vec<Seen>>>);

impl PartialEq for Probed {
    /// It follows from the op, which is compared.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Probed {
    /// The outputs for these inputs.
    ///
    /// # Errors
    /// When the op can't be traced.
    pub(super) fn output(&self, inputs: &Inputs, trace: Trace<'_>) -> Result<Vec<Spec>> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, found)) = seen.iter().find(|(i, _)| i == inputs) {
            return Ok(found.clone());
        }
        let found = probe(inputs, trace)?;
        seen.push((inputs.clone(), found.clone()));
        Ok(found)
    }
}

/// Outputs found by running the op: what is the same whatever an unknown extent is, is known.
fn probe(inputs: &Inputs, trace: Trace<'_>) -> Result<Vec<Spec>> {
    let mut dtypes = Vec::new();
    for sizes in [[1, 2], [8, 12]] {
        for counts in [true, false] {
            let [a, b] = sizes.map(|size| run(inputs, trace, size, counts, &mut dtypes));
            let (a, b) = match (a, b) {
                (Ok(a), Ok(b)) => (a, b),
                (Err(error), _) | (_, Err(error)) if dtypes.is_empty() => return Err(error),
                _ => continue,
            };
            let same = |(a, b): (&usize, &usize)| (a == b && *a > 0).then_some(*a);
            let join = |(i, (a, b)): (usize, (&Vec<usize>, &Vec<usize>))| {
                let dtype = dtypes.get(i).copied().unwrap_or(DType::F32);
                if a.len() != b.len() {
                    return Spec::unknown(dtype);
                }
                Spec::new(a.iter().zip(b).map(same).collect::<Vec<_>>(), dtype)
            };
            return Ok(a.iter().zip(&b).enumerate().map(join).collect());
        }
    }
    Ok(dtypes.into_iter().map(Spec::unknown).collect())
}

/// The shapes of the outputs for inputs whose unknown extents are `size`; integers that may be extents, too, if
/// they `count`.
fn run(inputs: &Inputs, trace: Trace<'_>, size: usize, counts: bool, dtypes: &mut Vec<DType>) -> Result<Vec<Vec<usize>>> {
    /// More elements than this aren't worth it.
    const MOST: usize = 1 << 22;
    let mut builder = Builder::new("probe");
    let mut syms = Vec::new();
    for (i, spec) in inputs.all().iter().enumerate() {
        syms.push(builder.arg(&format!("x{i}"), spec.dtype)?);
    }
    let (objects, variables) = (Objects::default(), HashMap::new());
    let mut frame = Frame::new(Objects::ROOT);
    frame.inputs = inputs.clone();
    let mut call = Call {
        builder: &mut builder,
        objects: &objects,
        variables: &variables,
        specs: syms.iter().copied().zip(inputs.all().iter().cloned()).collect(),
        masks: HashMap::new(),
            row_ends: HashSet::new(),
        frame,
    };
    let outputs = trace(&mut call, &syms)?;
    let outputs = outputs.into_iter().map(|y| call.apply("Identity", &[y])).collect::<Result<Vec<_>>>()?;
    *dtypes = outputs.iter().map(|&y| builder.dtype(y)).collect();
    let names: Vec<String> = (0..outputs.len()).map(|i| format!("y{i}")).collect();
    let results: Vec<(&str, Sym)> = names.iter().map(String::as_str).zip(outputs).collect();
    let (function, mut library) = builder.finish(&results)?;
    library.insert(function);
    let mut values = Vec::new();
    for spec in inputs.all() {
        let shape: Vec<usize> = spec.dims()?.iter().map(|d| d.unwrap_or(size)).collect();
        if checked_elements(&shape)? > MOST {
            return Err(Error::limit("too large to try"));
        }
        let count = if counts && shape.len() < 2 && spec.dtype.is_integer() { size } else { 0 };
        let tensor = if count > 0 {
            let all = vec![count as f64; checked_elements(&shape)?];
            crate::config::numbers(&all, &shape, spec.dtype)?
        } else {
            Tensor::zeros(spec.dtype, shape)?
        };
        values.push(Flowing::Tensor(tensor));
    }
    let options = RunOptions { max_bytes: 1 << 30, ..RunOptions::default() };
    let executable = Program::new(library).function("probe")?;
    let outputs = executable.run_with(&Resources::new(), values.into_iter().collect(), &options)?;
    outputs.into_iter().map(|v| Ok(v.into_tensor()?.shape().to_vec())).collect()
}
