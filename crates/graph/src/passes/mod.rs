//! Passes: what rewrites a graph before it is planned, so that it runs faster and gives the same.
//!
//! A pass is a file here that looks for a pattern of nodes and puts another in its place. It changes only what nobody else
//! sees: a value that is fed, fetched or read elsewhere stays, and so does the order of side effects. On any doubt it leaves
//! a node as it is. Shapes aren't known before a run, so kernels of fused nodes decide then what they can do at once.
//!
//! The order: [`inline`] sees through calls, [`effects`] drops control edges that order nothing, [`forward`] sees
//! through identities, [`modules`] hands StableHLO modules the variables behind their inputs. Then [`recognise`] finds ideas that are spelled with many ops and [`loops`] recurrent layers, whose weights [`recurrent`]
//! has laid out, [`padding`] gives
//! convolutions the zeros around their images, [`fuse`] gathers what follows a product into it, and [`derive`] finds what depends on variables alone and need not be computed in each run.

mod attention;
mod derive;
mod effects;
mod forward;
mod fuse;
mod inline;
mod loops;
mod modules;
mod padding;
mod part;
mod pattern;
mod recognise;
mod recurrent;
mod tracked;

pub(crate) use fuse::FUSED;

use crate::engine::plan::Request;
use crate::{Attrs, Graph, Library, Output};
use part::Part;

/// A graph after all passes.
pub(crate) struct Prepared {
    pub(crate) part: Part,
    /// Outputs that derive from variables alone; the rest of the graph takes them as if they were fed.
    pub(crate) derived: Vec<Output>,
    /// Handles of variables that are named by nodes of the graph.
    pub(crate) named: Vec<Output>,
    /// Handles of variables among the feeds.
    pub(crate) given: Vec<Output>,
}

/// Rewrites what `request` asks for; `None` when it had better be taken as it is.
pub(crate) fn optimise(request: &Request<'_>) -> Option<Prepared> {
    let mut part = Part::of(request)?;
    inline::run(&mut part, request.library);
    let writes = effects::run(&mut part, request.library);
    forward::run(&mut part);
    if writes {
        // Values of variables change while this runs, so nothing derives from them for good.
        return Some(Prepared { part, derived: Vec::new(), named: Vec::new(), given: Vec::new() });
    }
    modules::run(&mut part);
    loops::run(&mut part, request.library);
    recurrent::run(&mut part);
    recognise::run(&mut part);
    padding::run(&mut part);
    fuse::run(&mut part);
    let found = derive::find(&part);
    Some(Prepared { part, derived: found.frontier, named: found.named, given: found.given })
}

/// A graph with the nodes of functions in place of their calls, where these mean the same there, as far as `fetches` need
/// them from `feeds`. Its first nodes are those of `graph`, in their places.
pub fn inline_calls(graph: &Graph, library: &Library, feeds: &[Output], fetches: &[Output]) -> Graph {
    let attrs = Attrs::new();
    let request = Request { graph, library, feeds, fetches, targets: &[], attrs: &attrs };
    match Part::of(&request) {
        Some(mut part) => {
            inline::run(&mut part, library);
            part.graph.into_inner()
        }
        None => graph.clone(),
    }
}

#[cfg(test)]
pub(super) mod testing {
    use std::sync::Arc;

    use crate::engine::{Executable, Program, Resource, Resources, Value, Values, Variable};
    use crate::tensor::{DType, Tensor};
    use crate::{Builder, Result, Sym};

    /// Numbers between -1 and 1.
    pub(crate) fn numbers(shape: &[usize], seed: u32) -> Tensor {
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 * 2.0 - 1.0
        };
        Tensor::from_vec((0..shape.iter().product::<usize>()).map(|_| next()).collect(), shape)
            .expect("tensor")
    }

    /// A function of `inputs` and variables, run as it is traced and after passes: both give the same. Gives the ops that ran.
    pub(crate) fn agree(
        inputs: &[Tensor],
        weights: &[Tensor],
        trace: impl FnOnce(&mut Builder, &[Sym], &[Sym]) -> Result<Vec<Sym>>,
    ) -> Vec<String> {
        let mut b = Builder::new("f");
        let xs: Vec<Sym> = inputs
            .iter()
            .enumerate()
            .map(|(i, t)| b.arg(&format!("x{i}"), t.dtype()).expect("arg"))
            .collect();
        let handles: Vec<Sym> =
            (0..weights.len()).map(|i| b.arg(&format!("w{i}"), DType::Resource).expect("arg")).collect();
        let read = |b: &mut Builder, h: &Sym, t: &Tensor| {
            b.op("ReadVariableOp").input(*h).attr("dtype", t.dtype()).one().expect("read")
        };
        let ws: Vec<Sym> = handles.iter().zip(weights).map(|(h, t)| read(&mut b, h, t)).collect();
        let out = trace(&mut b, &xs, &ws).expect("trace");
        let names: Vec<String> = (0..out.len()).map(|i| format!("y{i}")).collect();
        let results: Vec<(&str, Sym)> = names.iter().map(String::as_str).zip(out).collect();
        let (f, mut library) = b.finish(&results).expect("function");
        library.insert(f);
        let variables =
            weights.iter().map(|t| Resource::Variable(Arc::new(Variable::with_value("w", t.clone()))));
        let values: Values =
            inputs.iter().cloned().map(Value::from).chain(variables.map(Value::from)).collect();
        let compile = |passes| -> Executable {
            Program::with_passes(library.clone(), passes).function("f").unwrap_or_else(|e| panic!("{e}"))
        };
        let (plain, fast) = (compile(false), compile(true));
        let run = |e: &Executable| e.run(&Resources::new(), values.clone()).unwrap_or_else(|e| panic!("{e}"));
        let want = run(&plain);
        // The second run takes what the first one prepared.
        for got in [run(&fast), run(&fast)] {
            assert_eq!(got.len(), want.len());
            for (got, want) in got.iter().zip(&want) {
                let (got, want) = (got.tensor().expect("tensor"), want.tensor().expect("tensor"));
                assert_eq!(got.shape(), want.shape());
                let (a, b) = (got.as_slice::<f32>().expect("f32"), want.as_slice::<f32>().expect("f32"));
                for (i, (a, b)) in a.iter().zip(b).enumerate() {
                    assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "[{i}] is {a}, unfused {b}");
                }
            }
        }
        fast.ops().into_iter().map(str::to_owned).collect()
    }
}
