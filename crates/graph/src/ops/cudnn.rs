//! Recurrent layers as cuDNN has them: stacked, in one direction or both, all their weights in one buffer.
//!
//! TensorFlow runs these on GPUs alone; graphs that were traced there hold them. The buffer has, for each layer and each of
//! its directions, the inputs' matrices and then the state's, one a gate, `[units, inputs]` each; behind all of them, in the
//! same order, stand two biases a gate.

use super::args::{all_tensors, int, many, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::activation::Activation;
use crate::tensor::kernels::rnn::{Gru, Lstm, Recurrence, Sequence, gru, lstm, simple_rnn};
use crate::tensor::kernels::{array, reduce};
use crate::tensor::{self, Bool, DType, Tensor};
use crate::{Error, Result};

#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    Lstm,
    Gru,
    Plain(Activation),
}

/// What the attributes of all these ops say.
#[derive(Debug, Clone, Copy)]
struct Layers {
    mode: Mode,
    directions: usize,
    /// Whether inputs as wide as the state would go into the gates as they are.
    skips_alike: bool,
}

impl Layers {
    fn read(a: &NodeAttrs<'_>) -> Result<Layers> {
        let mode = match a.str("rnn_mode")? {
            "lstm" => Mode::Lstm,
            "gru" => Mode::Gru,
            "rnn_tanh" => Mode::Plain(Activation::Tanh),
            "rnn_relu" => Mode::Plain(Activation::Relu),
            other => return Err(Error::graph(format!("there is no rnn_mode {other:?}"))),
        };
        let directions = match a.str("direction")? {
            "unidirectional" => 1,
            "bidirectional" => 2,
            other => return Err(Error::graph(format!("there is no direction {other:?}"))),
        };
        let skips_alike = match a.str("input_mode")? {
            "linear_input" => false,
            "auto_select" => true,
            "skip_input" => return Err(Error::unsupported("input_mode \"skip_input\" of cuDNN's layers")),
            other => return Err(Error::graph(format!("there is no input_mode {other:?}"))),
        };
        if a.get("num_proj").is_some() && a.int("num_proj")? != 0 {
            return Err(Error::unsupported("num_proj of cuDNN's layers: their states are never projected here"));
        }
        Ok(Layers { mode, directions, skips_alike })
    }

    fn gates(self) -> usize {
        match self.mode {
            Mode::Lstm => 4,
            Mode::Gru => 3,
            Mode::Plain(_) => 1,
        }
    }

    /// How many matrices there are; as many biases.
    fn matrices(self, layers: usize) -> Option<usize> {
        layers.checked_mul(2 * self.directions * self.gates())
    }

    /// How many numbers the buffer has, of matrices and of biases.
    fn buffer(self, size: Size) -> Result<(usize, usize)> {
        if self.skips_alike && size.inputs == size.units {
            return Err(Error::unsupported(
                "input_mode \"auto_select\" of cuDNN's layers where inputs are as wide as the state",
            ));
        }
        let sums = || {
            let first = size.inputs.checked_add(size.units)?;
            let other = size.units.checked_mul(self.directions)?.checked_add(size.units)?;
            let rows = other.checked_mul(size.layers.checked_sub(1)?)?.checked_add(first)?;
            let gates = size.units.checked_mul(self.directions * self.gates())?;
            Some((rows.checked_mul(gates)?, gates.checked_mul(size.layers)?.checked_mul(2)?))
        };
        let sums = sums().filter(|(a, b)| a.checked_add(*b).is_some());
        sums.ok_or_else(|| Error::compute(format!("there are no layers of {size:?}")))
    }

    /// How many numbers of the buffer are those of matrices; refuses a buffer of another size.
    fn matrices_in(self, params: &Tensor, size: Size) -> Result<usize> {
        let (matrices, biases) = self.buffer(size)?;
        if params.shape() == [matrices + biases] {
            return Ok(matrices);
        }
        Err(Error::compute(format!(
            "params must have the shape [{}] for {size:?}, got {:?}",
            matrices + biases,
            params.shape()
        )))
    }

    /// The width of what one layer takes.
    fn width(self, size: Size, layer: usize) -> usize {
        if layer == 0 { size.inputs } else { size.units * self.directions }
    }

    /// cuDNN's gates in our order, along one axis: in a GRU, it has the reset gate before the update gate.
    fn ordered(self, x: Tensor, axis: usize, units: usize) -> Result<Tensor> {
        if self.mode != Mode::Gru {
            return Ok(x);
        }
        let parts = array::split(&x, axis, &[units; 3])?;
        let [reset, update, candidate] = &parts[..] else { return Err(Error::compute("a GRU has three gates")) };
        Ok(array::concat(&[update, reset, candidate], axis)?)
    }

    fn go(self, r: Recurrence<'_>) -> tensor::Result<Sequence> {
        match self.mode {
            Mode::Lstm => lstm(r, Lstm::default()),
            Mode::Gru => gru(r, Gru::default()),
            Mode::Plain(activation) => simple_rnn(r, activation),
        }
    }
}

/// How large a stack of layers is.
#[derive(Debug, Clone, Copy)]
struct Size {
    layers: usize,
    units: usize,
    inputs: usize,
}

impl Size {
    fn read(layers: &Tensor, units: &Tensor, inputs: &Tensor) -> Result<Size> {
        let positive = |t: &Tensor, what: &str| -> Result<usize> {
            let n = int(t, what)?;
            let found = usize::try_from(n).ok().filter(|n| *n > 0);
            found.ok_or_else(|| Error::compute(format!("{what} must be positive, got {n}")))
        };
        Ok(Size {
            layers: positive(layers, "num_layers")?,
            units: positive(units, "num_units")?,
            inputs: positive(inputs, "input_size")?,
        })
    }
}

/// Takes parts off the front of what is left of a buffer.
struct Parts<'a> {
    of: &'a Tensor,
    at: usize,
}

impl Parts<'_> {
    fn next(&mut self, shape: [usize; 2]) -> Result<Tensor> {
        let n = tensor::checked_elements(&shape)?;
        let part = array::slice(self.of, &[self.at], &[n])?;
        self.at += n;
        Ok(part.reshape(shape)?)
    }
}

/// Runs the layers: inputs, states, the buffer and, where `lengths` is set, how many steps each sequence has.
fn run(a: &NodeAttrs<'_>, outputs: usize, lengths: bool) -> Result<Box<dyn Kernel>> {
    let how = Layers::read(a)?;
    let time_major = !lengths || a.bool("time_major")?;
    let training = a.bool("is_training")?;
    if training && a.float("dropout")? > 0.0 {
        return Err(Error::unsupported("dropout of cuDNN's layers in training"));
    }
    Ok(kernel(move |context, inputs| {
        let mut inputs = all_tensors(inputs)?;
        let lengths = if lengths { inputs.pop() } else { None };
        let [x, h, c, params] = &inputs[..] else { return Err(Error::graph("takes inputs, two states and params")) };
        let swapped = |t: &Tensor| if time_major { Ok(t.clone()) } else { array::transpose(t, &[1, 0, 2]) };
        for (t, what) in [(x, "input"), (h, "input_h")] {
            if t.rank() != 3 {
                return Err(Error::compute(format!("{what} must have rank 3, got shape {:?}", t.shape())));
            }
        }
        let (x, h) = (swapped(x)?, swapped(h)?);
        let c = if how.mode == Mode::Lstm {
            if c.rank() != 3 {
                return Err(Error::compute(format!("input_c must have rank 3, got shape {:?}", c.shape())));
            }
            Some(swapped(c)?)
        } else {
            None
        };
        let (&[steps, batch, features], &[stacked, rows, units]) = (x.shape(), h.shape()) else {
            return Err(Error::compute("input and input_h must have rank 3"));
        };
        let fits = stacked > 0 && stacked % how.directions == 0 && rows == batch && units > 0;
        if !fits || c.as_ref().is_some_and(|c| c.shape() != h.shape()) {
            return Err(Error::compute(format!(
                "states {:?} and {:?} don't go with inputs {:?} in {} direction(s)",
                h.shape(),
                inputs[2].shape(),
                x.shape(),
                how.directions
            )));
        }
        let size = Size { layers: stacked / how.directions, units, inputs: features };
        let matrices = how.matrices_in(params, size)?;
        let mask = lengths.map(|l| mask(&l, steps, batch)).transpose()?;
        let mut states: Vec<Vec<Tensor>> = vec![array::unstack(&h, 0)?];
        if let Some(c) = &c {
            states.push(array::unstack(c, 0)?);
        }
        let (mut weights, mut offsets) = (Parts { of: params, at: 0 }, Parts { of: params, at: matrices });
        let wide = how.gates() * units;
        let mut last: Vec<Vec<Tensor>> = vec![Vec::new(); states.len()];
        let mut y = x.clone();
        for layer in 0..size.layers {
            let mut ways = Vec::with_capacity(how.directions);
            for direction in 0..how.directions {
                context.check()?;
                let mut matrix = |width: usize| -> Result<Tensor> {
                    let matrix = how.ordered(weights.next([wide, width])?, 0, units)?;
                    Ok(array::matrix_transpose(&matrix)?)
                };
                let (kernel, recurrent_kernel) = (matrix(how.width(size, layer))?, matrix(units)?);
                let bias = how.ordered(offsets.next([2, wide])?, 1, units)?;
                // Only a GRU tells the two apart.
                let bias = if how.mode == Mode::Gru { bias } else { reduce::sum(&bias, &[0], false)? };
                let place = layer * how.directions + direction;
                let initial: Vec<&Tensor> = states.iter().filter_map(|s| s.get(place)).collect();
                let done = how.go(Recurrence {
                    inputs: &y,
                    kernel: &kernel,
                    recurrent_kernel: &recurrent_kernel,
                    packed: None,
                    bias: Some(&bias),
                    initial: &initial,
                    mask: mask.as_ref(),
                    zero_output_for_mask: true,
                    time_major: true,
                    go_backwards: direction == 1,
                    return_sequence: true,
                })?;
                last.iter_mut().zip(done.states).for_each(|(all, state)| all.push(state));
                let sequence = done.outputs.ok_or_else(|| Error::compute("the outputs of all steps are missing"))?;
                ways.push(if direction == 1 { array::reverse(&sequence, &[0])? } else { sequence });
            }
            y = match &ways[..] {
                [forward, backward] => array::concat(&[forward, backward], 2)?,
                _ => ways.swap_remove(0),
            };
        }
        let stack = |states: &Vec<Tensor>| swapped(&array::stack(&states.iter().collect::<Vec<_>>(), 0)?);
        // What is kept for the gradient is cuDNN's own matter.
        let nothing = |dtype: DType| Tensor::zeros(dtype, if training { &[0][..] } else { &[] });
        let mut out = vec![swapped(&y)?, last.first().map_or_else(|| Ok(h.clone()), stack)?];
        out.push(match last.get(1) {
            Some(c) => stack(c)?,
            None => Tensor::zeros(x.dtype(), [])?,
        });
        out.push(nothing(x.dtype())?);
        if outputs > out.len() {
            out.push(nothing(DType::I8)?);
        }
        many(out)
    }))
}

/// Which steps of which sequences count.
fn mask(lengths: &Tensor, steps: usize, batch: usize) -> Result<Tensor> {
    let lengths = lengths.to_i64_vec()?;
    let fit = |n: &i64| usize::try_from(*n).ok().filter(|n| *n <= steps);
    let all: Option<Vec<usize>> = lengths.iter().map(fit).collect();
    let all = all.filter(|l| l.len() == batch).ok_or_else(|| {
        Error::compute(format!("sequence_lengths must be {batch} numbers up to {steps}, got {lengths:?}"))
    })?;
    let counts = (0..steps).flat_map(|step| all.iter().map(move |n| Bool::from(step < *n)));
    Ok(Tensor::from_vec(counts.collect(), [steps, batch])?)
}

fn params_size(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (how, to) = (Layers::read(a)?, a.dtype("S")?);
    Ok(kernel(move |_, inputs| {
        let [layers, units, inputs] = tensors(inputs)?;
        let (matrices, biases) = how.buffer(Size::read(&layers, &units, &inputs)?)?;
        one(super::args::ints([matrices + biases], to)?)
    }))
}

/// The size among the first three inputs, and the others.
fn sized(how: Layers, inputs: Values) -> Result<(Size, Vec<Tensor>)> {
    let mut inputs = all_tensors(inputs)?;
    let [layers, units, width, ..] = &inputs[..] else { return Err(Error::graph("takes three numbers and weights")) };
    let size = Size::read(layers, units, width)?;
    how.buffer(size)?;
    inputs.drain(..3);
    Ok((size, inputs))
}

/// Matrices and biases, one tensor each, as one buffer.
fn to_params(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let how = Layers::read(a)?;
    Ok(kernel(move |_, inputs| {
        let (size, given) = sized(how, inputs)?;
        let (matrices, biases) = how.buffer(size)?;
        if how.matrices(size.layers).and_then(|n| n.checked_mul(2)) != Some(given.len()) {
            return Err(Error::compute(format!("{} weights and biases aren't those of {size:?}", given.len())));
        }
        let flat = given.iter().map(|t| t.clone().reshape([t.len()])).collect::<tensor::Result<Vec<_>>>()?;
        let params = array::concat(&flat.iter().collect::<Vec<_>>(), 0)?;
        if params.len() != matrices + biases {
            return Err(Error::compute(format!(
                "weights and biases of {size:?} are {} numbers, got {}",
                matrices + biases,
                params.len()
            )));
        }
        one(params)
    }))
}

/// The buffer's matrices and biases, one tensor each.
fn to_canonical(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let how = Layers::read(a)?;
    Ok(kernel(move |_, inputs| {
        let (size, given) = sized(how, inputs)?;
        let [params] = &given[..] else { return Err(Error::graph("takes three numbers and params")) };
        how.matrices_in(params, size)?;
        let mut parts = Parts { of: params, at: 0 };
        let mut out = Vec::new();
        for layer in 0..size.layers {
            for _ in 0..how.directions {
                for width in [how.width(size, layer), size.units] {
                    for _ in 0..how.gates() {
                        out.push(parts.next([size.units, width])?);
                    }
                }
            }
        }
        for _ in 0..out.len() {
            out.push(parts.next([1, size.units])?.reshape([size.units])?);
        }
        many(out)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("CudnnRNN(input: T, input_h: T, input_c: T, params: T) -> (output: T, output_h: T, output_c: T, reserve_space: T); T: type; rnn_mode: string = \"lstm\"; input_mode: string = \"linear_input\"; direction: string = \"unidirectional\"; dropout: float = 0; seed: int = 0; seed2: int = 0; is_training: bool = true; stateful", |a| run(a, 4, false)),
    Op::new("CudnnRNNCanonicalToParams(num_layers: int32, num_units: int32, input_size: int32, weights: num_params * T, biases: num_params * T) -> (params: T); T: type; num_params: int; rnn_mode: string = \"lstm\"; input_mode: string = \"linear_input\"; direction: string = \"unidirectional\"; dropout: float = 0; seed: int = 0; seed2: int = 0", to_params),
    Op::new("CudnnRNNCanonicalToParamsV2(num_layers: int32, num_units: int32, input_size: int32, weights: num_params_weights * T, biases: num_params_biases * T) -> (params: T); T: type; num_params_weights: int; num_params_biases: int; rnn_mode: string = \"lstm\"; input_mode: string = \"linear_input\"; direction: string = \"unidirectional\"; dropout: float = 0; seed: int = 0; seed2: int = 0; num_proj: int = 0", to_params),
    Op::new("CudnnRNNParamsSize(num_layers: int32, num_units: int32, input_size: int32) -> (params_size: S); T: type; S: type; rnn_mode: string = \"lstm\"; input_mode: string = \"linear_input\"; direction: string = \"unidirectional\"; dropout: float = 0; seed: int = 0; seed2: int = 0; num_proj: int = 0", params_size),
    Op::new("CudnnRNNParamsToCanonical(num_layers: int32, num_units: int32, input_size: int32, params: T) -> (weights: num_params * T, biases: num_params * T); T: type; num_params: int; rnn_mode: string = \"lstm\"; input_mode: string = \"linear_input\"; direction: string = \"unidirectional\"; dropout: float = 0; seed: int = 0; seed2: int = 0", to_canonical),
    Op::new("CudnnRNNParamsToCanonicalV2(num_layers: int32, num_units: int32, input_size: int32, params: T) -> (weights: num_params_weights * T, biases: num_params_biases * T); T: type; num_params_weights: int; num_params_biases: int; rnn_mode: string = \"lstm\"; input_mode: string = \"linear_input\"; direction: string = \"unidirectional\"; dropout: float = 0; seed: int = 0; seed2: int = 0; num_proj: int = 0", to_canonical),
    Op::new("CudnnRNNV2(input: T, input_h: T, input_c: T, params: T) -> (output: T, output_h: T, output_c: T, reserve_space: T, host_reserved: int8); T: type; rnn_mode: string = \"lstm\"; input_mode: string = \"linear_input\"; direction: string = \"unidirectional\"; dropout: float = 0; seed: int = 0; seed2: int = 0; is_training: bool = true; stateful", |a| run(a, 5, false)),
    Op::new("CudnnRNNV3(input: T, input_h: T, input_c: T, params: T, sequence_lengths: int32) -> (output: T, output_h: T, output_c: T, reserve_space: T, host_reserved: int8); T: type; rnn_mode: string = \"lstm\"; input_mode: string = \"linear_input\"; direction: string = \"unidirectional\"; dropout: float = 0; seed: int = 0; seed2: int = 0; num_proj: int = 0; is_training: bool = true; time_major: bool = true; stateful", |a| run(a, 5, true)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Executable, Resources};
    use crate::{Attr, Builder};

    const GRU: Layers = Layers { mode: Mode::Gru, directions: 2, skips_alike: false };

    #[test]
    fn a_buffer_has_as_many_numbers_as_its_parts() {
        let size = Size { layers: 3, units: 4, inputs: 5 };
        // Both directions: three gates of 4 units, each with inputs, state and two biases.
        let want = 2 * 3 * 4 * ((5 + 4) + 2 * (8 + 4));
        assert_eq!(GRU.buffer(size).expect("size"), (want, 2 * 3 * 4 * 3 * 2));
        assert!(GRU.buffer(Size { layers: 0, ..size }).is_err());
        assert!(GRU.buffer(Size { units: usize::MAX / 4, ..size }).is_err());
        let alike = Layers { skips_alike: true, ..GRU };
        assert!(alike.buffer(Size { inputs: 4, ..size }).is_err() && alike.buffer(size).is_ok());
    }

    /// Runs an op on inputs that are constants.
    fn call(op: &str, inputs: &[Tensor], attrs: &[(&str, Attr)]) -> Result<Vec<Tensor>> {
        let mut b = Builder::new("f");
        let inputs = inputs.iter().map(|t| b.constant(t.clone())).collect::<Result<Vec<_>>>()?;
        let mut node = b.op(op).inputs(&inputs);
        for (name, value) in attrs {
            node = node.attr(name, value.clone());
        }
        let out = node.all()?;
        let names: Vec<String> = (0..out.len()).map(|i| format!("y{i}")).collect();
        let results: Vec<_> = names.iter().map(String::as_str).zip(out).collect();
        let (f, library) = b.finish(&results)?;
        let fetches: Vec<_> = f.results.iter().map(|r| r.output).collect();
        let out = Executable::new(&f.graph, &library, &[], &fetches, &[])?.run(&Resources::new(), Values::new())?;
        out.into_iter().map(|v| v.into_tensor()).collect()
    }

    #[test]
    fn what_was_taken_apart_goes_together() {
        let number = |n: i32| Tensor::scalar(n);
        let params = Tensor::from_vec((0..2 * (2 * 3 + 2 * 2 + 4)).map(|v| v as f32).collect(), [28]).expect("tensor");
        let attrs = [("num_params", Attr::Int(4)), ("rnn_mode", Attr::from("rnn_relu"))];
        let both = [attrs[0].clone(), attrs[1].clone(), ("direction", Attr::from("bidirectional"))];
        let sizes = [number(1), number(2), number(3)];
        let given: Vec<Tensor> = sizes.iter().cloned().chain([params.clone()]).collect();
        let parts = call("CudnnRNNParamsToCanonical", &given, &both).expect("parts");
        let shapes: Vec<&[usize]> = parts.iter().map(Tensor::shape).collect();
        assert_eq!(shapes, [&[2, 3][..], &[2, 2], &[2, 3], &[2, 2], &[2], &[2], &[2], &[2]]);
        let again: Vec<Tensor> = sizes.iter().cloned().chain(parts).collect();
        let back = call("CudnnRNNCanonicalToParams", &again, &both).expect("params");
        assert!(back[0].bit_eq(&params));
        // One direction has half as many.
        assert!(call("CudnnRNNCanonicalToParams", &again, &attrs).is_err());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let zeros = |shape: &[usize]| Tensor::zeros(DType::F32, shape).expect("tensor");
        let run = |params: usize, states: &[usize], attr: (&str, Attr)| {
            call("CudnnRNN", &[zeros(&[5, 3, 2]), zeros(states), zeros(states), zeros(&[params])], &[attr])
        };
        let usual = || ("is_training", Attr::Bool(false));
        let params = 4 * 4 * (2 + 4 + 2);
        assert_eq!(run(params, &[1, 3, 4], usual()).expect("runs")[0].shape(), [5, 3, 4]);
        for (params, states) in [(params + 1, [1, 3, 4]), (params, [1, 2, 4]), (params, [0, 3, 4])] {
            assert!(run(params, &states, usual()).is_err());
        }
        for attr in [("input_mode", Attr::from("skip_input")), ("dropout", Attr::Float(0.5))] {
            assert!(run(params, &[1, 3, 4], attr).is_err());
        }
    }
}
