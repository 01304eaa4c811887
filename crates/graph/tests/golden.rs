//! What TensorFlow's ops gave, against what ours give: see `tests/fixtures/ops/generate.py`.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use modelark_graph::engine::{Executable, Resource, Resources, Value, Values, Variable};
use modelark_graph::tensor::{ByteString, DType, PartialShape, SharedBytes, Tensor, kernels};
use modelark_graph::{ARG, Attr, Attrs, Graph, Library, Node, Output, ops};

/// Relative difference of floats that still counts as equal.
const TOLERANCE: f64 = 1e-5;
/// The same for half precision, which keeps 8 to 11 bits.
const HALF_TOLERANCE: f64 = 1e-2;

#[test]
fn ops_give_what_tensorflows_give() {
    // MODELARK_GOLDENS_FOLDER names other files: cases that `tests/fixtures/ops/draw.py` drew.
    let committed = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/ops");
    let folder = std::env::var_os("MODELARK_GOLDENS_FOLDER").map_or_else(committed, PathBuf::from);
    let mut report = String::new();
    let (mut total, mut failed) = (0, 0);
    let mut files: Vec<_> =
        std::fs::read_dir(&folder).expect("fixtures").map(|e| e.expect("entry").path()).collect();
    files.sort();
    // MODELARK_GOLDENS=rare,texts leaves out all other families: for whoever works on one.
    let only = std::env::var("MODELARK_GOLDENS").unwrap_or_default();
    let asked = |p: &PathBuf| {
        let family = p.file_stem().unwrap_or_default().to_string_lossy();
        p.extension().is_some_and(|e| e == "bin") && (only.is_empty() || only.split(',').any(|n| n == family))
    };
    for path in files.into_iter().filter(asked) {
        let bytes = std::fs::read(&path).expect("file");
        let mut reader = Reader(&bytes);
        for number in 1.. {
            if reader.0.is_empty() {
                break;
            }
            let case = Case::read(&mut reader);
            total += 1;
            if let Err(message) = case.check() {
                failed += 1;
                let file = path.file_name().unwrap_or_default().to_string_lossy();
                writeln!(report, "{file} {number}: {}: {message}", case.title()).expect("a string grows");
            }
        }
    }
    assert!(total > 0, "no cases in {}", folder.display());
    assert!(failed == 0, "{failed} of {total} cases failed:\n{report}");
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take(&mut self, n: usize) -> &[u8] {
        let (head, tail) = self.0.split_at(n);
        self.0 = tail;
        head
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        self.take(N).try_into().expect("N bytes")
    }

    fn byte(&mut self) -> u8 {
        self.bytes::<1>()[0]
    }

    fn blob(&mut self) -> Vec<u8> {
        let n = u16::from_le_bytes(self.bytes());
        self.take(n.into()).to_vec()
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.blob()).expect("UTF-8")
    }

    fn long(&mut self) -> i64 {
        i64::from_le_bytes(self.bytes())
    }

    fn value(&mut self) -> Attr {
        match self.byte() {
            b'i' => Attr::Int(self.long()),
            b'f' => Attr::Float(f32::from_le_bytes(self.bytes())),
            b'b' => Attr::Bool(self.byte() != 0),
            b's' => Attr::String(self.blob()),
            b't' => Attr::Type(self.text().parse().expect("dtype")),
            b'S' => match i8::from_le_bytes(self.bytes()) {
                -1 => Attr::Shape(PartialShape::UNKNOWN),
                rank => {
                    let dims: Vec<_> = (0..rank).map(|_| usize::try_from(self.long()).ok()).collect();
                    Attr::Shape(PartialShape::new(dims))
                }
            },
            b'L' => {
                let n = u16::from_le_bytes(self.bytes());
                Attr::List((0..n).map(|_| self.value()).collect())
            }
            other => panic!("attribute kind {other}"),
        }
    }

    fn tensor(&mut self) -> Tensor {
        let dtype: DType = self.text().parse().expect("dtype");
        let rank = self.byte();
        let shape: Vec<usize> = (0..rank).map(|_| self.long() as usize).collect();
        let n: usize = shape.iter().product();
        match dtype.size() {
            Some(size) => {
                let bytes = SharedBytes::copy_from(self.take(n * size));
                Tensor::from_bytes(dtype, shape, bytes).expect("tensor")
            }
            None => {
                let one = |r: &mut Self| -> ByteString {
                    let len = u32::from_le_bytes(r.bytes());
                    r.take(len as usize).into()
                };
                let strings: Vec<ByteString> = (0..n).map(|_| one(self)).collect();
                Tensor::from_strings(strings, shape).expect("tensor")
            }
        }
    }
}

struct Case {
    op: String,
    attrs: Attrs,
    inputs: Vec<Tensor>,
    /// None where TensorFlow refuses.
    outputs: Option<Vec<Tensor>>,
    /// How far floats may be from the outputs beyond what is always granted: what TensorFlow's own rounding leaves open.
    within: f64,
}

/// In place of a number of outputs.
const REFUSED: u8 = 255;

impl Case {
    fn read(r: &mut Reader<'_>) -> Case {
        let op = r.text();
        let mut attrs: Attrs = (0..r.byte()).map(|_| (r.text(), r.value())).collect();
        let within = attrs.remove("_within").and_then(|a| a.as_float()).map_or(0.0, f64::from);
        let inputs = (0..r.byte()).map(|_| r.tensor()).collect();
        let outputs = match r.byte() {
            REFUSED => None,
            n => Some((0..n).map(|_| r.tensor()).collect()),
        };
        Case { op, attrs, inputs, outputs, within }
    }

    fn title(&self) -> String {
        let inputs: Vec<String> =
            self.inputs.iter().map(|t| format!("{}{:?}", t.dtype(), t.shape())).collect();
        let attrs: Vec<String> = self.attrs.iter().map(|(name, attr)| format!("{name}={attr:?}")).collect();
        format!("{}({}; {})", self.op, inputs.join(", "), attrs.join(" "))
    }

    /// Whether an input is a variable, which the file has the value of.
    fn variables(&self) -> Result<Vec<bool>, modelark_graph::Error> {
        let signature = ops::signature(&self.op)?;
        let dtypes = signature.input_dtypes(&self.attrs)?;
        let is = |i| signature.input_is_ref(&self.attrs, i) || dtypes.get(i) == Some(&DType::Resource);
        Ok((0..self.inputs.len()).map(is).collect())
    }

    /// Runs the op as a graph of one node, its inputs fed; what variables hold afterwards comes first.
    fn run(&self) -> Result<Values, modelark_graph::Error> {
        let mut graph = Graph::default();
        let variables = self.variables()?;
        let mut held = Vec::new();
        let mut inputs = Values::new();
        for (i, t) in self.inputs.iter().enumerate() {
            let dtype = if variables[i] { DType::Resource } else { t.dtype() };
            if variables[i] {
                let variable = Arc::new(Variable::with_value(format!("v{i}"), t.clone()));
                held.push(variable.clone());
                inputs.push(Resource::Variable(variable).into());
            } else {
                inputs.push(t.clone().into());
            }
            let attrs = Attrs::from([("T".to_owned(), Attr::Type(dtype))]);
            graph.nodes.push(Node { name: format!("x{i}"), op: ARG.to_owned(), attrs, ..Node::default() });
        }
        let feeds: Vec<Output> = (0..self.inputs.len()).map(|i| Output::new(i, 0)).collect();
        let node = graph.nodes.len();
        graph.nodes.push(Node {
            // As the generator names it: a few ops tell their node's name.
            name: self.op.trim_start_matches('_').to_owned(),
            op: self.op.clone(),
            inputs: feeds.clone(),
            attrs: self.attrs.clone(),
            ..Node::default()
        });
        // The op runs as a target, whether or not it has outputs.
        let some = usize::from(!ops::signature(&self.op)?.outputs.is_empty());
        let wanted = self.outputs.as_ref().map_or(some, |o| o.len() - held.len());
        let fetches: Vec<Output> = (0..wanted).map(|i| Output::new(node, i)).collect();
        let run = Executable::new(&graph, &Library::new(), &feeds, &fetches, &[node])?;
        let outputs = run.run(&Resources::new(), inputs)?;
        let after = held.iter().map(|v| v.read().map(Value::from)).collect::<Result<Vec<_>, _>>()?;
        Ok(after.into_iter().chain(outputs).collect())
    }

    fn check(&self) -> Result<(), String> {
        let Some(outputs) = &self.outputs else {
            return match self.run() {
                Ok(got) => Err(format!("TensorFlow refuses, we gave {got:?}")),
                // Refused for what it is asked, not for want of a kernel.
                Err(e) if ops::find(&self.op).is_none() => Err(e.to_string()),
                Err(_) => Ok(()),
            };
        };
        let got = self.run().map_err(|e| e.to_string())?;
        for (i, (got, want)) in got.iter().zip(outputs).enumerate() {
            let got = got.tensor().map_err(|e| e.to_string())?;
            compare(got, want, self.within).map_err(|e| format!("output {i}: {e}"))?;
        }
        Ok(())
    }
}

fn compare(got: &Tensor, want: &Tensor, within: f64) -> Result<(), String> {
    if (got.dtype(), got.shape()) != (want.dtype(), want.shape()) {
        return Err(format!("got {}{:?}, not {}{:?}", got.dtype(), got.shape(), want.dtype(), want.shape()));
    }
    if !got.dtype().is_float() && !got.dtype().is_complex() {
        return if got.bit_eq(want) { Ok(()) } else { Err(format!("got {got:?}, not {want:?}")) };
    }
    let tolerance = match got.dtype() {
        DType::F16 | DType::BF16 => HALF_TOLERANCE,
        _ => TOLERANCE,
    };
    let numbers = |t: &Tensor| -> Vec<f64> {
        match t.dtype() {
            DType::C64 => t
                .elements::<modelark_graph::tensor::Complex32>()
                .expect("complex")
                .iter()
                .flat_map(|z| [f64::from(z.re), f64::from(z.im)])
                .collect(),
            DType::C128 => t
                .elements::<modelark_graph::tensor::Complex64>()
                .expect("complex")
                .iter()
                .flat_map(|z| [z.re, z.im])
                .collect(),
            _ => {
                let wide = kernels::array::cast(t, DType::F64).expect("cast");
                wide.elements::<f64>().expect("f64").to_vec()
            }
        }
    };
    let (got, want) = (numbers(got), numbers(want));
    // An absolute difference that no sum of terms this large could avoid.
    let finite = want.iter().filter(|v| v.is_finite()).fold(0.0f64, |m, v| m.max(v.abs()));
    let floor = within + tolerance * 0.1 * finite.min(4.0);
    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
        let near = w.is_finite() && (g - w).abs() <= tolerance * w.abs() + floor;
        let same = g == w || (g.is_nan() && w.is_nan()) || near;
        if !same {
            return Err(format!("element {i} is {g:e}, not {w:e}"));
        }
    }
    Ok(())
}

#[test]
fn a_difference_is_noticed() {
    let t = |v: f32| Tensor::from_vec(vec![v, 1.0], [2]).expect("tensor");
    assert!(compare(&t(1.0), &t(1.000001), 0.0).is_ok());
    assert!(compare(&t(1.0), &t(1.001), 0.0).is_err());
    assert!(compare(&t(f32::NAN), &t(f32::NAN), 0.0).is_ok());
    assert!(compare(&t(f32::NAN), &t(1.0), 0.0).is_err());
    assert!(compare(&t(f32::MIN), &t(f32::NEG_INFINITY), 0.0).is_err());
    assert!(compare(&t(1.0), &Tensor::scalar(1.0f32), 0.0).is_err());
}
