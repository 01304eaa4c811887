//! Loops that are recurrent layers. Passes put these in place of TensorFlow's.

use std::sync::Arc;

use super::calls::repeat;
use super::fused::Weights;
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Value, Values, Variant, kernel};
use crate::tensor::kernels::array;
use crate::tensor::kernels::activation::Activation;
use crate::tensor::kernels::rnn::{Gru, Lstm, Recurrence, Sequence, gru, lstm, simple_rnn};
use crate::tensor::{self, DType, Tensor};
use crate::{Error, Result};

/// What a step of the layer is.
#[derive(Clone, Copy, PartialEq)]
enum Cell {
    Lstm,
    Gru,
    /// Whose reset gate acts before the state's product.
    GruBefore,
    Plain,
}

impl Cell {
    fn run(self, r: Recurrence<'_>) -> tensor::Result<Sequence> {
        match self {
            Cell::Lstm => lstm(r, Lstm::default()),
            Cell::Gru => gru(r, Gru::default()),
            Cell::GruBefore => gru(r, Gru { reset_after: false, ..Gru::default() }),
            Cell::Plain => simple_rnn(r, Activation::Tanh),
        }
    }
}

/// What a recurrent loop's values are; see `passes/loops.rs`.
struct Roles {
    cell: Cell,
    list: usize,
    written: usize,
    states: Vec<usize>,
    all: bool,
    counters: Vec<usize>,
    bounds: Vec<i64>,
    masking: Option<Masking>,
}

/// Where the mask's steps and the output of the step before are, and what stands for outputs that don't count: a value, or
/// zeros where there is none.
struct Masking {
    list: usize,
    before: usize,
    otherwise: Option<usize>,
}

impl Masking {
    /// Whether outputs that don't count are zeros, rather than the one before.
    fn zeros(&self) -> bool {
        self.otherwise != Some(self.before)
    }
}

impl Roles {
    fn read(a: &NodeAttrs<'_>) -> Result<Roles> {
        let unfit = || Error::graph("the loop's attributes don't fit a recurrent layer");
        let cell = match a.str("cell")? {
            "LSTM" => Cell::Lstm,
            "GRU" => Cell::Gru,
            "GRU before" => Cell::GruBefore,
            "RNN" => Cell::Plain,
            _ => return Err(unfit()),
        };
        let place = |v: &i64| usize::try_from(*v).map_err(|_| unfit());
        let roles = a.ints("roles")?;
        let [_, list, written, states @ .., all] = &roles[..] else { return Err(unfit()) };
        let states = states.iter().map(place).collect::<Result<Vec<_>>>()?;
        if states.len() != if cell == Cell::Lstm { 2 } else { 1 } {
            return Err(unfit());
        }
        let masking = match &a.ints("masking")?[..] {
            [] => None,
            [list, before, otherwise] => {
                Some(Masking { list: place(list)?, before: place(before)?, otherwise: usize::try_from(*otherwise).ok() })
            }
            _ => return Err(unfit()),
        };
        Ok(Roles {
            cell,
            list: place(list)?,
            written: place(written)?,
            states,
            all: *all == 1,
            counters: a.ints("counters")?.iter().map(place).collect::<Result<_>>()?,
            bounds: a.ints("bounds")?,
            masking,
        })
    }

    /// The mask of all steps; `None` where it isn't what the layer's kernel takes.
    fn mask(&self, masking: &Masking, state: &[Value], steps: usize) -> Option<Tensor> {
        let Value::Variant(Variant::List { items, .. }) = state.get(masking.list)? else { return None };
        // The kernel's outputs are zeros before the first step that counts, and at each that doesn't.
        let zero = match masking.otherwise {
            Some(place) => {
                let value = state.get(place)?.tensor().ok()?;
                value.elements::<f32>().ok()?.iter().all(|v| *v == 0.0)
            }
            None => true,
        };
        if items.len() != steps || !zero {
            return None;
        }
        let rows = items.iter().map(|i| i.as_ref()?.tensor().ok()).collect::<Option<Vec<_>>>()?;
        let batch = rows.first()?.len();
        let column = |t: &&Tensor| t.dtype() == DType::Bool && t.shape() == [batch, 1];
        if !rows.iter().all(column) {
            return None;
        }
        array::stack(&rows, 0).ok()?.reshape([steps, batch]).ok()
    }

    /// What the loop leaves, by the layer's kernel; `None` where only the loop itself can tell.
    fn run(&self, state: &[Value], weights: &[Value]) -> Option<Values> {
        let number = |i: usize| state.get(i)?.tensor().ok()?.item::<i32>().ok();
        if self.counters.iter().any(|c| number(*c) != Some(0)) {
            return None;
        }
        let mut steps = i64::MAX;
        for bound in self.bounds.chunks_exact(3) {
            let limit = match usize::try_from(bound[1]) {
                Ok(place) => i64::from(number(place)?),
                Err(_) => bound[2],
            };
            steps = steps.min(limit);
        }
        let Value::Variant(Variant::List { items, .. }) = state.get(self.list)? else { return None };
        let Value::Variant(Variant::List { dtype, shape, items: old }) = state.get(self.written)? else {
            return None;
        };
        let fits = if self.all { old.len() == items.len() } else { !old.is_empty() };
        if items.is_empty() || usize::try_from(steps).ok() != Some(items.len()) || !fits || *dtype != DType::F32 {
            return None;
        }
        let inputs = items.iter().map(|i| i.as_ref()?.tensor().ok()).collect::<Option<Vec<_>>>()?;
        if inputs.iter().any(|t| t.dtype() != DType::F32 || t.rank() != 2) {
            return None;
        }
        let inputs = array::stack(&inputs, 0).ok()?;
        let tensor = |v: &Value| v.tensor().ok().cloned();
        let initial = self.states.iter().map(|s| tensor(state.get(*s)?)).collect::<Option<Vec<_>>>()?;
        let [kernel, recurrent_kernel, biases @ ..] = weights else { return None };
        let (kernel, recurrent_kernel) = (Weights::of(kernel).ok()?, Weights::of(recurrent_kernel).ok()?);
        let biases = biases.iter().map(tensor).collect::<Option<Vec<_>>>()?;
        let bias = match &biases[..] {
            [] => None,
            [one] => Some(one.clone()),
            more => Some(array::stack(&more.iter().collect::<Vec<_>>(), 0).ok()?),
        };
        let mask = match &self.masking {
            Some(masking) => Some(self.mask(masking, state, items.len())?),
            None => None,
        };
        let recurrence = Recurrence {
            inputs: &inputs,
            kernel: kernel.plain(),
            recurrent_kernel: recurrent_kernel.plain(),
            packed: kernel.both(&recurrent_kernel),
            bias: bias.as_ref(),
            initial: &initial.iter().collect::<Vec<_>>(),
            mask: mask.as_ref(),
            zero_output_for_mask: self.masking.as_ref().is_some_and(Masking::zeros),
            time_major: true,
            go_backwards: false,
            return_sequence: self.all,
        };
        let done = self.cell.run(recurrence).ok()?;
        let last = done.last_output.clone();
        let written = if self.all {
            let (sequence, each) = (done.outputs?, Vec::from(done.last_output.shape()));
            let (bytes, size) = (sequence.bytes().ok()?.clone(), done.last_output.nbytes());
            let item = |i: usize| {
                let part = bytes.slice(i * size..(i + 1) * size)?;
                Some(Some(Tensor::from_bytes(DType::F32, &each, part).ok()?.into()))
            };
            (0..items.len()).map(item).collect::<Option<Vec<_>>>()?
        } else {
            let mut list = old.to_vec();
            *list.first_mut()? = Some(done.last_output.into());
            list
        };
        if written.iter().flatten().any(|v: &Value| v.tensor().is_ok_and(|t| !shape.matches(t.shape()))) {
            return None;
        }
        let mut result: Values = state.iter().cloned().collect();
        let steps = i32::try_from(items.len()).ok()?;
        for counter in &self.counters {
            *result.get_mut(*counter)? = Tensor::scalar(steps).into();
        }
        let list = Variant::List { dtype: DType::F32, shape: shape.clone(), items: Arc::new(written) };
        *result.get_mut(self.written)? = list.into();
        if let Some(masking) = &self.masking {
            *result.get_mut(masking.before)? = last.into();
        }
        for (place, value) in self.states.iter().zip(done.states) {
            *result.get_mut(*place)? = value.into();
        }
        Some(result)
    }
}

fn recurrent_loop(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (condition, body) = (a.func("cond")?.clone(), a.func("body")?.clone());
    let roles = Roles::read(a)?;
    let weights = usize::try_from(a.int("M")?).map_err(|_| Error::graph("the loop's weights can't be counted"))?;
    Ok(kernel(move |context, mut inputs| {
        let count = inputs.len().checked_sub(weights).ok_or_else(|| Error::graph("the loop lacks its weights"))?;
        if let Some(done) = roles.run(&inputs[..count], &inputs[count..]) {
            return Ok(done);
        }
        inputs.truncate(count);
        repeat(context, &condition, &body, inputs)
    }))
}

pub(super) const OPS: &[Op] = &[Op::new(
    "ModelarkLoop(input: [T], weights: M * float32) -> (output: [T]); T: list(type); M: int; cond: func; body: func; \
     cell: string; roles: list(int); counters: list(int); bounds: list(int); masking: list(int) = []; output_shapes: list(shape) = []; \
     parallel_iterations: int = 10",
    recurrent_loop,
)];
