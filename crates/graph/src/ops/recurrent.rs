//! Recurrent layers over whole sequences: one op here, a loop over tensor lists in TensorFlow.

use super::args::{all_tensors, many};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::kernels::activation::Activation;
use crate::tensor::kernels::rnn::{Lstm, Recurrence, lstm};
use crate::tensor::{DType, Tensor};
use crate::{Builder, Error, Result, Sym};

/// What a recurrent op's attributes say.
struct Options {
    activation: Activation,
    recurrent_activation: Activation,
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
            recurrent_activation: activation(a.str("recurrent_activation")?)?,
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
                let v = crate::tensor::kernels::array::cast(&Tensor::scalar(v), dtype)?;
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

fn lstm_kernel(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let options = Options::read(a)?;
    let cell =
        Lstm { activation: options.activation, recurrent_activation: options.recurrent_activation };
    Ok(kernel(move |_, inputs| {
        let inputs = all_tensors(inputs)?;
        let [x, h, c, weights, recurrent, rest @ ..] = &inputs[..] else {
            return Err(Error::graph("takes inputs, two states, and weights"));
        };
        let (bias, mask) = match (options.use_bias, options.masked, rest) {
            (true, true, [bias, mask]) => (Some(bias), Some(mask)),
            (true, false, [bias]) => (Some(bias), None),
            (false, true, [mask]) => (None, Some(mask)),
            (false, false, []) => (None, None),
            _ => return Err(Error::graph("bias and mask aren't as the attributes say")),
        };
        let done = lstm(
            Recurrence {
                inputs: x,
                kernel: weights,
                recurrent_kernel: recurrent,
                bias,
                initial: &[h, c],
                mask,
                zero_output_for_mask: options.zero_output_for_mask,
                time_major: options.time_major,
                go_backwards: options.go_backwards,
                return_sequence: true,
            },
            cell,
        )?;
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

/// One step of an LSTM: gates in the order input, forget, cell, output.
fn lstm_step(b: &mut Builder, options: &Options, x: Sym, h: Sym, c: Sym, weights: &[Sym]) -> Result<(Sym, Sym)> {
    let from_x = b.matmul(x, weights[0])?;
    let from_h = b.matmul(h, weights[1])?;
    let mut z = b.add(from_x, from_h)?;
    if let Some(bias) = weights.get(2) {
        z = b.bias_add(z, *bias)?;
    }
    let axis = b.scalar(1i32)?;
    let gates = b.op("Split").input(axis).input(z).attr("num_split", 4i64).all()?;
    let [i, f, g, o] = gates[..] else { return Err(Error::graph("Split gives other than four")) };
    let i = trace_activation(b, options.recurrent_activation, i)?;
    let f = trace_activation(b, options.recurrent_activation, f)?;
    let g = trace_activation(b, options.activation, g)?;
    let o = trace_activation(b, options.recurrent_activation, o)?;
    let kept = b.mul(f, c)?;
    let new = b.mul(i, g)?;
    let c = b.add(kept, new)?;
    let shown = trace_activation(b, options.activation, c)?;
    Ok((b.mul(o, shown)?, c))
}

/// An LSTM as TensorFlow's functions have it: a loop that reads steps from a list and writes outputs to another.
fn lstm_expand(b: &mut Builder, a: &NodeAttrs<'_>, inputs: &[Sym]) -> Result<Vec<Sym>> {
    let options = Options::read(a)?;
    let dtype = a.dtype("T")?;
    let [x, h, c, rest @ ..] = inputs else { return Err(Error::graph("takes inputs and two states")) };
    let (weights, mask) = rest.split_at(rest.len() - usize::from(options.masked));
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
    let nothing = b.op("ZerosLike").input(*h).one()?;
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
    let done = b.while_loop(
        "while",
        &[zero, outs, nothing, *h, *c],
        &captures,
        |b, state, captures| b.less(state[0], captures[0]),
        |b, state, captures| {
            let [time, outs, last, h, c] = state[..] else { return Err(Error::graph("the loop's state")) };
            let x = item(b, captures[1], time, 2, dtype)?;
            let (mut new_h, mut new_c) = lstm_step(b, &options, x, h, c, &captures[2..2 + n])?;
            let mut out = new_h;
            if masked {
                let counts = item(b, captures[2 + n], time, 2, DType::Bool)?;
                let otherwise =
                    if options.zero_output_for_mask { b.op("ZerosLike").input(last).one()? } else { last };
                out = b.select(counts, new_h, otherwise)?;
                new_h = b.select(counts, new_h, h)?;
                new_c = b.select(counts, new_c, c)?;
            }
            let outs = b.op("TensorListSetItem").inputs(&[outs, time, out]).one()?;
            let one = b.scalar(1i32)?;
            Ok(vec![b.add(time, one)?, outs, out, new_h, new_c])
        },
    )?;
    let [_, outs, last, h, c] = done[..] else { return Err(Error::graph("the loop's results")) };
    let units = b.shape(h)?;
    let sequence = b.op("TensorListStack").input(outs).input(units).attr("element_dtype", dtype).one()?;
    let sequence = time_first(b, sequence, options.time_major, 3)?;
    Ok(vec![sequence, last, h, c])
}

pub(super) const OPS: &[Op] = &[Op {
    signature: "ModelarkLSTM(x: T, initial_h: T, initial_c: T, kernel: T, recurrent_kernel: T, \
                bias: use_bias * T, mask: masked * bool) -> (sequence: T, output: T, h: T, c: T); T: type; \
                use_bias: int; masked: int; activation: string = \"tanh\"; \
                recurrent_activation: string = \"sigmoid\"; go_backwards: bool = false; \
                time_major: bool = false; zero_output_for_mask: bool = false",
    kernel: lstm_kernel,
    expand: Some(lstm_expand),
    passes: false,
}];

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

    struct Way {
        bias: bool,
        masked: bool,
        go_backwards: bool,
        time_major: bool,
        zeros: bool,
        activations: [&'static str; 2],
    }

    /// The op's kernel gives what its expansion gives.
    fn check(way: Way) {
        let (batch, steps, features, units) = (3, 5, 2, 4);
        let leading = if way.time_major { [steps, batch] } else { [batch, steps] };
        let mut inputs = vec![
            numbers(&[leading[0], leading[1], features], 1),
            numbers(&[batch, units], 2),
            numbers(&[batch, units], 3),
            numbers(&[features, 4 * units], 4),
            numbers(&[units, 4 * units], 5),
        ];
        if way.bias {
            inputs.push(numbers(&[4 * units], 6));
        }
        if way.masked {
            let flags = (0..batch * steps).map(|i| crate::tensor::Bool::from(i * 7 % 5 > 1)).collect();
            inputs.push(Tensor::from_vec(flags, leading).expect("mask"));
        }
        let mut b = Builder::new("f");
        let args: Vec<Sym> =
            inputs.iter().enumerate().map(|(i, t)| b.arg(&format!("x{i}"), t.dtype()).expect("arg")).collect();
        let call = b.op("ModelarkLSTM").inputs(&args).name("lstm/run");
        let call = call.attr("use_bias", i64::from(way.bias)).attr("masked", i64::from(way.masked));
        let call = call.attr("go_backwards", way.go_backwards).attr("time_major", way.time_major);
        let call = call.attr("zero_output_for_mask", way.zeros);
        let call = call.attr("activation", way.activations[0]).attr("recurrent_activation", way.activations[1]);
        let out = call.all().expect("lstm");
        let names = ["sequence", "output", "h", "c"];
        let results: Vec<(&str, Sym)> = names.into_iter().zip(out).collect();
        let (f, mut library) = b.finish(&results).expect("function");
        let f = library.insert(f);
        let expanded = expand_composites(&library).expect("expansion");
        let g = expanded.get(&f.name).expect("the same name");
        assert!(g.graph.nodes.iter().all(|n| !n.op.starts_with("Modelark")));
        assert!(expanded.len() >= 3, "the loop's condition and body");
        let (got, want) = (run(&f, &library, &inputs), run(g, &expanded, &inputs));
        for (name, (got, want)) in names.iter().zip(got.iter().zip(&want)) {
            assert_eq!(got.shape(), want.shape(), "{name}");
            let pairs = got.as_slice::<f32>().expect("f32").iter().zip(want.as_slice::<f32>().expect("f32"));
            for (i, (g, w)) in pairs.enumerate() {
                assert!((g - w).abs() < 1e-5, "{name}[{i}] is {g}, expanded {w}");
            }
        }
    }

    #[test]
    fn the_kernel_is_what_the_expansion_is() {
        let usual = ["tanh", "sigmoid"];
        let way = |bias, masked, go_backwards, time_major, zeros, activations| {
            check(Way { bias, masked, go_backwards, time_major, zeros, activations });
        };
        way(true, false, false, false, false, usual);
        way(false, false, true, false, false, ["relu", "hard_sigmoid"]);
        way(true, true, false, false, false, ["elu", "hard_sigmoid_2"]);
        way(true, true, true, true, false, ["softsign", "sigmoid"]);
        way(true, true, false, false, true, usual);
        way(false, false, false, true, false, ["silu", "linear"]);
    }
}
