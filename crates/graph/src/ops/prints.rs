//! What a graph tells whoever runs it: printed, or as the reason why an assertion failed.

use std::sync::PoisonError;

use super::args::{one, tensors};
use super::kept::Kept;
use super::protos::one_string;
use super::texts::elements;
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, Values, kernel};
use crate::tensor::Bool;
use crate::{Error, Result};

/// The first elements of a tensor, as TensorFlow 1 writes them (`Tensor::SummarizeValue`); all of them where `most` is
/// negative.
fn brief(value: &Value, most: i64) -> Result<Vec<u8>> {
    let Value::Tensor(t) = value else { return Ok(format!("<{}>", value.dtype()).into_bytes()) };
    let limit = usize::try_from(most).unwrap_or(usize::MAX).min(t.len());
    let shown = elements(t, false, limit)?;
    let mut out = Vec::new();
    if t.rank() == 0 {
        shown.iter().for_each(|e| out.extend(e));
    } else {
        write(&mut out, &shown, t.shape(), 0, &mut 0, limit);
    }
    if t.len() > limit {
        out.extend(b"...");
    }
    Ok(out)
}

/// Writes one dimension from element `at` on.
fn write(out: &mut Vec<u8>, shown: &[Vec<u8>], shape: &[usize], depth: usize, at: &mut usize, limit: usize) {
    let Some((&count, rest)) = shape.split_first() else { return };
    if *at >= limit {
        return;
    }
    for i in 0..count {
        if rest.is_empty() {
            let Some(element) = shown.get(*at).filter(|_| *at < limit) else {
                if depth > 0 {
                    out.extend(b"...");
                }
                return;
            };
            if i > 0 {
                out.push(b' ');
            }
            out.extend(element);
            *at += 1;
            continue;
        }
        if *at >= limit {
            return;
        }
        out.push(b'[');
        write(out, shown, rest, depth + 1, at, limit);
        out.push(b']');
    }
}

/// The streams of `PrintV2`; any other is a file.
const STREAMS: [&str; 5] = ["stdout", "stderr", "log(info)", "log(warning)", "log(error)"];

/// Text goes where it is told to, unless that is a file.
fn print_text(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (stream, end) = (a.str("output_stream")?.to_owned(), a.str("end")?.to_owned());
    if !STREAMS.contains(&&*stream) {
        return Err(Error::unsupported(format!("a graph may not write files itself, such as {stream:?}")));
    }
    Ok(kernel(move |context, inputs| {
        let [text] = tensors(inputs)?;
        context.print(&stream, &[&*one_string(&text)?, end.as_bytes()].concat());
        Ok(Values::new())
    }))
}

/// Passes a tensor on and prints others, so many times at most.
fn print(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (message, most) = (a.str("message")?.to_owned(), a.int("summarize")?);
    let first = u64::try_from(a.int("first_n")?).ok();
    let calls = Kept::new(|| 0u64);
    Ok(kernel(move |context, inputs| {
        let calls = calls.among(context.resources())?;
        let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inputs = inputs.into_iter();
        let passed = inputs.next().ok_or_else(|| Error::graph("takes a tensor to pass on"))?;
        if first.is_none_or(|n| *calls < n) {
            *calls += 1;
            let mut text = message.clone().into_bytes();
            for value in inputs {
                text.extend([b"[", &brief(&value, most)?[..], b"]"].concat());
            }
            text.push(b'\n');
            context.print("stderr", &text);
        }
        one(passed)
    }))
}

fn assert(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let most = a.int("summarize")?;
    Ok(kernel(move |_, inputs| {
        let (condition, data) = inputs.split_first().ok_or_else(|| Error::graph("takes a condition"))?;
        if condition.tensor()?.elements::<Bool>()?.iter().all(|b| b.get()) {
            return Ok(Values::new());
        }
        let mut text = String::from("assertion failed:");
        for value in data {
            text.push_str(&format!(" [{}]", String::from_utf8_lossy(&brief(value, most)?)));
        }
        Err(Error::compute(text))
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("Assert(condition: bool, data: [T]) -> (); T: list(type); summarize: int = 3; stateful", assert),
    Op::new("Print(input: T, data: [U]) -> (output: T); T: type; U: list(type); message: string = \"\"; first_n: int = -1; summarize: int = 3; stateful", print),
    Op::new("PrintV2(input: string) -> (); output_stream: string = \"stderr\"; end: string = \"\\n\"; stateful", print_text),
];

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::engine::{Executable, Printer, Resources, RunOptions};
    use crate::tensor::{DType, Tensor};
    use crate::{Attr, Builder};

    /// What TensorFlow's `Print` writes.
    #[test]
    fn tensors_are_summed_up_as_tensorflow_does() {
        let text = |t: Tensor, most| String::from_utf8(brief(&t.into(), most).expect("text")).expect("UTF-8");
        let thirds = Tensor::from_vec((0..12).map(|i| i as f32 / 3.0).collect(), [2, 3, 2]).expect("tensor");
        assert_eq!(text(thirds.clone(), 3), "[[0 0.333333343][0.666666687...]]...");
        assert_eq!(text(thirds, 2), "[[0 0.333333343]]...");
        let square = Tensor::from_vec(vec![1i64, 2, 3, 4], [2, 2]).expect("tensor");
        assert_eq!(text(square.clone(), 3), "[1 2][3...]...");
        assert_eq!(text(square, -1), "[1 2][3 4]");
        assert_eq!(text(Tensor::from_vec(vec![0, 1, 2, 3], [4]).expect("tensor"), 3), "0 1 2...");
        let words = Tensor::from_strings([&b"a\"b\n"[..], b"plain"], [2]).expect("tensor");
        assert_eq!(text(words, 3), "a\\\"b\\n plain");
        assert_eq!(text(Tensor::zeros(DType::F32, [0, 2]).expect("tensor"), 3), "");
        assert_eq!(text(Tensor::scalar(1.5f32), 3), "1.5");
    }

    #[test]
    fn what_is_printed_reaches_the_caller() {
        let mut b = Builder::new("f");
        let x = b.constant(Tensor::scalar(7i32)).expect("constant");
        let word = b.constant(Tensor::scalar_string(&b"hi"[..])).expect("constant");
        let types = Attr::List(vec![Attr::Type(DType::I32)]);
        let call = b.op("Print").inputs(&[x, x]).attr("U", types).attr("message", "n: ").attr("first_n", 2i64);
        let y = call.one().expect("passed on");
        b.op("PrintV2").input(word).attr("output_stream", "stdout").attr("end", "!").all().expect("printed");
        let (f, library) = b.finish(&[("y", y)]).expect("function");
        let fetches: Vec<_> = f.results.iter().map(|r| r.output).collect();
        let targets: Vec<usize> = (0..f.graph.nodes.len()).collect();
        let run = Executable::new(&f.graph, &library, &[], &fetches, &targets).expect("plan");
        let heard = Arc::new(Mutex::new(Vec::new()));
        let to = heard.clone();
        let print = Printer::new(move |stream, text| {
            to.lock().expect("lock").push(format!("{stream} {}", String::from_utf8_lossy(text)));
        });
        let options = RunOptions { print: Some(print), ..RunOptions::default() };
        let resources = Resources::new();
        for _ in 0..3 {
            run.run_with(&resources, Values::new(), &options).expect("runs");
        }
        let mut heard = heard.lock().expect("lock").clone();
        heard.sort();
        assert_eq!(heard, ["stderr n: [7]\n", "stderr n: [7]\n", "stdout hi!", "stdout hi!", "stdout hi!"]);
        run.run(&resources, Values::new()).expect("nobody listens");
    }
}
