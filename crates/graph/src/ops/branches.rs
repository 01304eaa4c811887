//! Control flow of TensorFlow 1: values that go one of two ways and come together again, or go round in loops.
//!
//! The engine itself moves the values.

use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::{Error, Result};

/// A kernel that is never called, as the engine moves the values.
fn moved(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, _| Err(Error::graph("a branch outside of a graph"))))
}

pub(super) const OPS: &[Op] = &[
    Op::passing("Enter(data: T) -> (output: T); T: type; frame_name: string; is_constant: bool = false; parallel_iterations: int = 10"),
    Op::passing("RefEnter(data: &T) -> (output: &T); T: type; frame_name: string; is_constant: bool = false; parallel_iterations: int = 10"),
    Op::passing("Exit(data: T) -> (output: T); T: type"),
    Op::passing("RefExit(data: &T) -> (output: &T); T: type"),
    Op::passing("LoopCond(input: bool) -> (output: bool)"),
    Op::new("NextIteration(data: T) -> (output: T); T: type", moved),
    Op::new("RefNextIteration(data: &T) -> (output: &T); T: type", moved),
    Op::new("Switch(data: T, pred: bool) -> (output_false: T, output_true: T); T: type", moved),
    Op::new("RefSwitch(data: &T, pred: bool) -> (output_false: &T, output_true: &T); T: type", moved),
    Op::new("Merge(inputs: N * T) -> (output: T, value_index: int32); T: type; N: int", moved),
    Op::new("RefMerge(inputs: &N * T) -> (output: &T, value_index: int32); T: type; N: int", moved),
];

#[cfg(test)]
mod tests {
    use crate::engine::{Executable, Resources, Value};
    use crate::tensor::Tensor;
    use crate::{ARG, Attr, Attrs, Graph, Library, Node, Output};

    fn node(name: &str, op: &str, inputs: &[(usize, usize)], controls: &[usize], attrs: &[(&str, Attr)]) -> Node {
        Node {
            name: name.to_owned(),
            op: op.to_owned(),
            inputs: inputs.iter().map(|(n, i)| Output::new(*n, *i)).collect(),
            controls: controls.to_vec(),
            attrs: attrs.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect::<Attrs>(),
            device: String::new(),
        }
    }

    /// `cond(p, x + 1, 7)`, where the constant of a branch waits for its branch.
    #[test]
    fn one_branch_runs() {
        use crate::tensor::DType::F32;
        let t = ("T", Attr::Type(F32));
        let number = |v: f32| [("value", Attr::from(Tensor::scalar(v))), ("dtype", Attr::Type(F32))];
        let graph = Graph {
            nodes: vec![
                node("x", ARG, &[], &[], &[]),
                node("p", ARG, &[], &[], &[]),
                node("switch", "Switch", &[(0, 0), (1, 0)], &[], std::slice::from_ref(&t)),
                node("switch_t", "Identity", &[(2, 1)], &[], std::slice::from_ref(&t)),
                node("switch_f", "Identity", &[(2, 0)], &[], std::slice::from_ref(&t)),
                node("one", "Const", &[], &[3], &number(1.0)),
                node("seven", "Const", &[], &[4], &number(7.0)),
                node("add", "AddV2", &[(3, 0), (5, 0)], &[], std::slice::from_ref(&t)),
                node("merge", "Merge", &[(6, 0), (7, 0)], &[], &[t.clone(), ("N", Attr::Int(2))]),
            ],
        };
        let feeds = [Output::new(0, 0), Output::new(1, 0)];
        let fetches = [Output::new(8, 0), Output::new(8, 1)];
        let run = Executable::new(&graph, &Library::new(), &feeds, &fetches, &[]).expect("plan");
        for (p, want, index) in [(true, 4.0f32, 1i32), (false, 7.0, 0)] {
            let inputs = [Value::from(Tensor::scalar(3.0f32)), Tensor::from(p).into()];
            let out = run.run(&Resources::new(), inputs.into_iter().collect()).expect("run");
            assert_eq!(out[0].tensor().and_then(|t| Ok(t.item::<f32>()?)).expect("f32"), want);
            assert_eq!(out[1].tensor().and_then(|t| Ok(t.item::<i32>()?)).expect("i32"), index);
        }
    }
}
