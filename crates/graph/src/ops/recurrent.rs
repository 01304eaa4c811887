//! Recurrent layers over whole sequences: one op here, a loop over tensor lists in TensorFlow.

use super::args::{all_tensors, many};
use super::fused::Weights;
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::activation::Activation;
use crate::tensor::kernels::rnn::{Gru, Lstm, Recurrence, Sequence, gru, lstm, simple_rnn};
use crate::tensor::{self, DType, Tensor};
use crate::{Builder, Error, Result, Sym};

/// What a recurrent op's attributes say.
#[derive(Clone, Copy)]
struct Options {
    activation: Activation,
    /// Of the gates; the plain recurrent layer has none.
    recurrent_activation: Activation,
    /// Whether a GRU's reset gate acts after the state was multiplied by its weights.
    reset_after: bool,
    go_backwards: bool,
    time_major: bool,
    zero_output_for_mask: bool,
    use_bias: bool,
    masked: bool,
}

impl Options {
    fn read(a: &NodeAttrs<'_>) -> Result<Self> {
        let flag = |name: &str| -> Result<bool> {
            match a.int(name)? {
                0 => Ok(false),
                1 => Ok(true),
                n => Err(Error::graph(format!("attribute {name:?} is 0 or 1, not {n}"))),
            }
        };
        Ok(Options {
            activation: activation(a.str("activation")?)?,
            recurrent_activation: match a.get("recurrent_activation") {
                Some(_) => activation(a.str("recurrent_activation")?)?,
                None => Activation::Linear,
            },
            reset_after: a.get("reset_after").is_some() && a.bool("reset_after")?,
            go_backwards: a.bool("go_backwards")?,
            time_major: a.bool("time_major")?,
            zero_output_for_mask: a.bool("zero_output_for_mask")?,
            use_bias: flag("use_bias")?,
            masked: flag("masked")?,
        })
    }
}

/// The activation that Keras calls so; `hard_sigmoid_2` is what Keras 2 calls `hard_sigmoid`.
fn activation(name: &str) -> Result<Activation> {
    Ok(match name {
        "linear" => Activation::Linear,
        "tanh" => Activation::Tanh,
        "sigmoid" => Activation::Sigmoid,
        "hard_sigmoid" => Activation::HardSigmoid { slope: 1.0 / 6.0, offset: 0.5 },
        "hard_sigmoid_2" => Activation::HardSigmoid { slope: 0.2, offset: 0.5 },
        "relu" => Activation::Relu,
        "relu6" => Activation::Relu6,
        "elu" => Activation::Elu,
        "selu" => Activation::Selu,
        "softplus" => Activation::Softplus,
        "softsign" => Activation::Softsign,
        "silu" | "swish" => Activation::Swish,
        "exponential" => Activation::Exponential,
        other => return Err(Error::unsupported(format!("the recurrent activation {other:?}"))),
    })
}

/// The same activation as TensorFlow's ops.
fn trace_activation(b: &mut Builder, activation: Activation, x: Sym) -> Result<Sym> {
    let op = match activation {
        Activation::Linear => return Ok(x),
        Activation::Tanh => "Tanh",
        Activation::Sigmoid => "Sigmoid",
        Activation::Relu => "Relu",
        Activation::Relu6 => "Relu6",
        Activation::Elu => "Elu",
        Activation::Selu => "Selu",
        Activation::Softplus => "Softplus",
        Activation::Softsign => "Softsign",
        Activation::Exponential => "Exp",
        Activation::Swish => {
            let gate = b.op("Sigmoid").input(x).one()?;
            return b.mul(x, gate);
        }
        Activation::HardSigmoid { slope, offset } => {
            let dtype = b.dtype(x);
            let number = |b: &mut Builder, v: f64| {
                let v = tensor::kernels::array::cast(&Tensor::scalar(v), dtype)?;
                b.constant(v)
            };
            let (slope, offset) = (number(b, slope)?, number(b, offset)?);
            let (zero, one) = (number(b, 0.0)?, number(b, 1.0)?);
            let line = b.mul(x, slope)?;
            let line = b.add(line, offset)?;
            let line = b.minimum(line, one)?;
            return b.maximum(line, zero);
        }
        other => return Err(Error::unsupported(format!("the recurrent activation {other:?}"))),
    };
    b.op(op).input(x).one()
}

/// What a layer is a kernel of, and one step of it as TensorFlow's ops.
trait Family {
    /// How many states there are, the output first.
    const STATES: usize;

    fn run(r: Recurrence<'_>, options: &Options) -> tensor::Result<Sequence>;

    /// The states after a step; `weights` are the kernel, the recurrent kernel and, where there is one, the bias.
    fn step(b: &mut Builder, o: &Options, x: Sym, states: &[Sym], weights: &[Sym]) -> Result<Vec<Sym>>;
}

fn kernel_of<F: Family>(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let options = Options::read(a)?;
    Ok(kernel(move |_, mut inputs| {
        let wrong = || Error::graph("takes inputs, states, weights, a bias and a mask as the attributes say");
        if inputs.len() < F::STATES + 3 {
            return Err(wrong());
        }
        let weights: Values = inputs.drain(F::STATES + 1..F::STATES + 3).collect();
        let [weights, recurrent] = &weights[..] else { return Err(wrong()) };
        let (weights, recurrent) = (Weights::of(weights)?, Weights::of(recurrent)?);
        let inputs = all_tensors(inputs)?;
        let (x, rest) = inputs.split_first().ok_or_else(wrong)?;
        let (initial, rest) = rest.split_at_checked(F::STATES).ok_or_else(wrong)?;
        let (bias, mask) = match (options.use_bias, options.masked, rest) {
            (true, true, [bias, mask]) => (Some(bias), Some(mask)),
            (true, false, [bias]) => (Some(bias), None),
            (false, true, [mask]) => (None, Some(mask)),
            (false, false, []) => (None, None),
            _ => return Err(wrong()),
        };
        let initial: Vec<&Tensor> = initial.iter().collect();
        let recurrence = Recurrence {
            inputs: x,
            kernel: weights.plain(),
            recurrent_kernel: recurrent.plain(),
            packed: weights.both(&recurrent),
            bias,
            initial: &initial,
            mask,
            zero_output_for_mask: options.zero_output_for_mask,
            time_major: options.time_major,
            go_backwards: options.go_backwards,
            return_sequence: true,
        };
        let done = F::run(recurrence, &options)?;
        let sequence = done.outputs.ok_or_else(|| Error::compute("the outputs of all steps are missing"))?;
        many([sequence, done.last_output].into_iter().chain(done.states))
    }))
}

/// `x` with its first two dimensions swapped, unless time comes first already.
fn time_first(b: &mut Builder, x: Sym, time_major: bool, rank: i32) -> Result<Sym> {
    if time_major {
        return Ok(x);
    }
    let order: Vec<i32> = [1, 0].into_iter().chain(2..rank).collect();
    b.transpose(x, &order)
}

/// A list of the parts of `x` along its first dimension.
fn list_of(b: &mut Builder, x: Sym, element_rank: usize) -> Result<Sym> {
    let shape = b.ints(&vec![-1; element_rank])?;
    b.op("TensorListFromTensor").input(x).input(shape).one()
}

fn item(b: &mut Builder, list: Sym, index: Sym, element_rank: usize, dtype: DType) -> Result<Sym> {
    let shape = b.ints(&vec![-1; element_rank])?;
    b.op("TensorListGetItem").inputs(&[list, index, shape]).attr("element_dtype", dtype).one()
}

/// `x @ weights`, with a bias where there is one.
fn affine(b: &mut Builder, x: Sym, weights: Sym, bias: Option<Sym>) -> Result<Sym> {
    let y = b.matmul(x, weights)?;
    bias.map_or(Ok(y), |bias| b.bias_add(y, bias))
}

/// The gates that lie beside each other in the last of two dimensions.
fn split<const N: usize>(b: &mut Builder, z: Sym) -> Result<[Sym; N]> {
    let axis = b.scalar(1i32)?;
    let parts = b.op("Split").input(axis).input(z).attr("num_split", N as i64).all()?;
    parts.try_into().map_err(|_| Error::graph("Split gives another number of parts"))
}

/// Gates in the order input, forget, cell, output; the states are h and c.
struct LstmFamily;

impl Family for LstmFamily {
    const STATES: usize = 2;

    fn run(r: Recurrence<'_>, o: &Options) -> tensor::Result<Sequence> {
        lstm(r, Lstm { activation: o.activation, recurrent_activation: o.recurrent_activation })
    }

    fn step(b: &mut Builder, o: &Options, x: Sym, states: &[Sym], weights: &[Sym]) -> Result<Vec<Sym>> {
        let (h, c) = (states[0], states[1]);
        let from_x = affine(b, x, weights[0], weights.get(2).copied())?;
        let from_h = b.matmul(h, weights[1])?;
        let z = b.add(from_x, from_h)?;
        let [i, f, g, o_gate] = split(b, z)?;
        let i = trace_activation(b, o.recurrent_activation, i)?;
        let f = trace_activation(b, o.recurrent_activation, f)?;
        let g = trace_activation(b, o.activation, g)?;
        let o_gate = trace_activation(b, o.recurrent_activation, o_gate)?;
        let kept = b.mul(f, c)?;
        let new = b.mul(i, g)?;
        let c = b.add(kept, new)?;
        let shown = trace_activation(b, o.activation, c)?;
        Ok(vec![b.mul(o_gate, shown)?, c])
    }
}

/// Gates in the order update, reset, candidate.
struct GruFamily;

impl Family for GruFamily {
    const STATES: usize = 1;

    fn run(r: Recurrence<'_>, o: &Options) -> tensor::Result<Sequence> {
        let (activation, recurrent_activation) = (o.activation, o.recurrent_activation);
        gru(r, Gru { activation, recurrent_activation, reset_after: o.reset_after })
    }

    fn step(b: &mut Builder, o: &Options, x: Sym, states: &[Sym], weights: &[Sym]) -> Result<Vec<Sym>> {
        let h = states[0];
        let (input_bias, state_bias) = match weights.get(2) {
            Some(bias) if o.reset_after => (Some(b.at(*bias, 0)?), Some(b.at(*bias, 1)?)),
            bias => (bias.copied(), None),
        };
        let from_x = affine(b, x, weights[0], input_bias)?;
        let [xz, xr, xh] = split(b, from_x)?;
        let [hz, hr, hh] = if o.reset_after {
            let from_h = affine(b, h, weights[1], state_bias)?;
            split(b, from_h)?
        } else {
            // The candidate's weights wait for the reset gate.
            let [z, r, candidate] = split(b, weights[1])?;
            [b.matmul(h, z)?, b.matmul(h, r)?, candidate]
        };
        let (z, r) = (b.add(xz, hz)?, b.add(xr, hr)?);
        let z = trace_activation(b, o.recurrent_activation, z)?;
        let r = trace_activation(b, o.recurrent_activation, r)?;
        let from_h = if o.reset_after {
            b.mul(r, hh)?
        } else {
            let reset = b.mul(r, h)?;
            b.matmul(reset, hh)?
        };
        let candidate = b.add(xh, from_h)?;
        let candidate = trace_activation(b, o.activation, candidate)?;
        let kept = b.mul(z, h)?;
        let ones = b.op("OnesLike").input(z).one()?;
        let rest = b.sub(ones, z)?;
        let new = b.mul(rest, candidate)?;
        Ok(vec![b.add(kept, new)?])
    }
}

/// The plain recurrent layer: one gate, whose activation is the state.
struct SimpleFamily;

impl Family for SimpleFamily {
    const STATES: usize = 1;

    fn run(r: Recurrence<'_>, o: &Options) -> tensor::Result<Sequence> {
        simple_rnn(r, o.activation)
    }

    fn step(b: &mut Builder, o: &Options, x: Sym, states: &[Sym], weights: &[Sym]) -> Result<Vec<Sym>> {
        let from_x = affine(b, x, weights[0], weights.get(2).copied())?;
        let from_h = b.matmul(states[0], weights[1])?;
        let z = b.add(from_x, from_h)?;
        Ok(vec![trace_activation(b, o.activation, z)?])
    }
}

/// A layer as TensorFlow's functions have it: a loop that reads steps from a list and writes outputs to another.
fn expand<F: Family>(b: &mut Builder, a: &NodeAttrs<'_>, inputs: &[Sym]) -> Result<Vec<Sym>> {
    let options = Options::read(a)?;
    let dtype = a.dtype("T")?;
    let wrong = || Error::graph("takes inputs, states and weights");
    let (x, rest) = inputs.split_first().ok_or_else(wrong)?;
    let (initial, rest) = rest.split_at_checked(F::STATES).ok_or_else(wrong)?;
    let (weights, mask) =
        rest.split_at_checked(rest.len() - usize::from(options.masked)).ok_or_else(wrong)?;
    let reversed = |b: &mut Builder, x: Sym| -> Result<Sym> {
        if !options.go_backwards {
            return Ok(x);
        }
        let axis = b.ints(&[0])?;
        b.op("ReverseV2").input(x).input(axis).one()
    };
    let x = time_first(b, *x, options.time_major, 3)?;
    let x = reversed(b, x)?;
    let shape = b.shape(x)?;
    let steps = b.at(shape, 0)?;
    let xs = list_of(b, x, 2)?;
    let element = b.ints(&[-1, -1])?;
    let outs = b.op("TensorListReserve").input(element).input(steps).attr("element_dtype", dtype).one()?;
    let zero = b.scalar(0i32)?;
    // Before the first step that counts, outputs are zeros, whatever state the layer starts from.
    let nothing = b.op("ZerosLike").input(initial[0]).one()?;
    let mut captures = vec![steps, xs];
    captures.extend_from_slice(weights);
    if let [mask] = mask {
        let mask = time_first(b, *mask, options.time_major, 2)?;
        let mask = reversed(b, mask)?;
        let last = b.scalar(-1i32)?;
        // A column, so that it chooses whole rows of a batch.
        let mask = b.op("ExpandDims").input(mask).input(last).one()?;
        captures.push(list_of(b, mask, 2)?);
    }
    let (masked, n) = (options.masked, weights.len());
    let state: Vec<Sym> = [zero, outs, nothing].into_iter().chain(initial.iter().copied()).collect();
    let done = b.while_loop(
        "while",
        &state,
        &captures,
        |b, state, captures| b.less(state[0], captures[0]),
        |b, state, captures| {
            let [time, outs, last, before @ ..] = state else { return Err(Error::graph("the loop's state")) };
            let x = item(b, captures[1], *time, 2, dtype)?;
            let mut states = F::step(b, &options, x, before, &captures[2..2 + n])?;
            let mut out = states[0];
            if masked {
                let counts = item(b, captures[2 + n], *time, 2, DType::Bool)?;
                let otherwise =
                    if options.zero_output_for_mask { b.op("ZerosLike").input(*last).one()? } else { *last };
                out = b.select(counts, out, otherwise)?;
                for (new, old) in states.iter_mut().zip(before) {
                    *new = b.select(counts, *new, *old)?;
                }
            }
            let outs = b.op("TensorListSetItem").inputs(&[*outs, *time, out]).one()?;
            let one = b.scalar(1i32)?;
            Ok([b.add(*time, one)?, outs, out].into_iter().chain(states).collect())
        },
    )?;
    let [_, outs, last, states @ ..] = &done[..] else { return Err(Error::graph("the loop's results")) };
    let units = b.shape(states[0])?;
    let sequence = b.op("TensorListStack").input(*outs).input(units).attr("element_dtype", dtype).one()?;
    let sequence = time_first(b, sequence, options.time_major, 3)?;
    Ok([sequence, *last].into_iter().chain(states.iter().copied()).collect())
}

const fn op<F: Family>(signature: &'static str) -> Op {
    Op { expand: Some(expand::<F>), ..Op::new(signature, kernel_of::<F>) }
}

pub(super) const OPS: &[Op] = &[
    op::<LstmFamily>(
        "ModelarkLSTM(x: T, initial_h: T, initial_c: T, kernel: T, recurrent_kernel: T, \
         bias: use_bias * T, mask: masked * bool) -> (sequence: T, output: T, h: T, c: T); T: type; \
         use_bias: int; masked: int; activation: string = \"tanh\"; \
         recurrent_activation: string = \"sigmoid\"; go_backwards: bool = false; \
         time_major: bool = false; zero_output_for_mask: bool = false",
    ),
    op::<GruFamily>(
        "ModelarkGRU(x: T, initial_h: T, kernel: T, recurrent_kernel: T, \
         bias: use_bias * T, mask: masked * bool) -> (sequence: T, output: T, h: T); T: type; \
         use_bias: int; masked: int; activation: string = \"tanh\"; \
         recurrent_activation: string = \"sigmoid\"; reset_after: bool = true; \
         go_backwards: bool = false; time_major: bool = false; zero_output_for_mask: bool = false",
    ),
    op::<SimpleFamily>(
        "ModelarkSimpleRNN(x: T, initial_h: T, kernel: T, recurrent_kernel: T, \
         bias: use_bias * T, mask: masked * bool) -> (sequence: T, output: T, h: T); T: type; \
         use_bias: int; masked: int; activation: string = \"tanh\"; \
         go_backwards: bool = false; time_major: bool = false; zero_output_for_mask: bool = false",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Program, Resources, Value, Values};
    use crate::{Function, Library, expand_composites};

    fn numbers(shape: &[usize], seed: u32) -> Tensor {
        let n: usize = shape.iter().product();
        let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12345);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 * 2.0 - 1.0
        };
        Tensor::from_vec((0..n).map(|_| next()).collect(), shape).expect("tensor")
    }

    fn run(f: &Function, library: &Library, inputs: &[Tensor]) -> Vec<Tensor> {
        let mut library = library.clone();
        library.insert(f.clone());
        let run = Program::new(library).function(&f.name).expect("plan");
        let inputs: Values = inputs.iter().cloned().map(Value::from).collect();
        let out = run.run(&Resources::new(), inputs).unwrap_or_else(|e| panic!("{e}"));
        out.into_iter().map(|v| v.into_tensor().expect("tensor")).collect()
    }

    #[derive(Clone, Copy)]
    struct Way {
        bias: bool,
        masked: bool,
        go_backwards: bool,
        time_major: bool,
        zeros: bool,
        activations: [&'static str; 2],
    }

    /// An op's kernel gives what its expansion gives.
    fn check(op: &str, reset_after: Option<bool>, way: Way) {
        let (gates, states) = match op {
            "ModelarkLSTM" => (4, 2),
            "ModelarkGRU" => (3, 1),
            _ => (1, 1),
        };
        let (batch, steps, features, units) = (3, 5, 2, 4);
        let leading = if way.time_major { [steps, batch] } else { [batch, steps] };
        let mut inputs = vec![numbers(&[leading[0], leading[1], features], 1)];
        inputs.extend((0..states).map(|i| numbers(&[batch, units], 2 + i)));
        inputs.push(numbers(&[features, gates * units], 4));
        inputs.push(numbers(&[units, gates * units], 5));
        if way.bias {
            let wide = gates * units;
            inputs.push(if reset_after == Some(true) { numbers(&[2, wide], 6) } else { numbers(&[wide], 6) });
        }
        if way.masked {
            let flags = (0..batch * steps).map(|i| tensor::Bool::from(i * 7 % 5 > 1)).collect();
            inputs.push(Tensor::from_vec(flags, leading).expect("mask"));
        }
        let mut b = Builder::new("f");
        let args: Vec<Sym> =
            inputs.iter().enumerate().map(|(i, t)| b.arg(&format!("x{i}"), t.dtype()).expect("arg")).collect();
        let mut call = b.op(op).inputs(&args).name("layer/run");
        call = call.attr("use_bias", i64::from(way.bias)).attr("masked", i64::from(way.masked));
        call = call.attr("go_backwards", way.go_backwards).attr("time_major", way.time_major);
        call = call.attr("zero_output_for_mask", way.zeros).attr("activation", way.activations[0]);
        if gates > 1 {
            call = call.attr("recurrent_activation", way.activations[1]);
        }
        if let Some(reset_after) = reset_after {
            call = call.attr("reset_after", reset_after);
        }
        let out = call.all().expect("a call");
        let names = ["sequence", "output", "h", "c"];
        let results: Vec<(&str, Sym)> = names.into_iter().zip(out).collect();
        let (f, mut library) = b.finish(&results).expect("function");
        let f = library.insert(f);
        let expanded = expand_composites(&library).expect("expansion");
        let g = expanded.get(&f.name).expect("the same name");
        assert!(g.graph.nodes.iter().all(|n| !n.op.starts_with("Modelark")));
        assert!(expanded.len() >= 3, "the loop's condition and body");
        let (got, want) = (run(&f, &library, &inputs), run(g, &expanded, &inputs));
        assert_eq!(got.len(), 2 + states as usize);
        for (name, (got, want)) in names.iter().zip(got.iter().zip(&want)) {
            assert_eq!(got.shape(), want.shape(), "{op} {name}");
            let pairs = got.as_slice::<f32>().expect("f32").iter().zip(want.as_slice::<f32>().expect("f32"));
            for (i, (g, w)) in pairs.enumerate() {
                // Sums of another order differ, and grow with the states where no activation bounds them.
                assert!((g - w).abs() < 1e-5 + 1e-4 * w.abs(), "{op} {name}[{i}] is {g}, expanded {w}");
            }
        }
    }

    #[test]
    fn the_kernel_is_what_the_expansion_is() {
        let usual = ["tanh", "sigmoid"];
        let way = |bias, masked, go_backwards, time_major, zeros, activations| {
            let way = Way { bias, masked, go_backwards, time_major, zeros, activations };
            check("ModelarkLSTM", None, way);
            check("ModelarkGRU", Some(true), way);
            check("ModelarkGRU", Some(false), way);
            check("ModelarkSimpleRNN", None, way);
        };
        way(true, false, false, false, false, usual);
        way(false, false, true, false, false, ["relu", "hard_sigmoid"]);
        way(true, true, false, false, false, ["elu", "hard_sigmoid_2"]);
        way(true, true, true, true, false, ["softsign", "sigmoid"]);
        way(true, true, false, false, true, usual);
        way(false, false, false, true, false, ["silu", "linear"]);
    }
}
