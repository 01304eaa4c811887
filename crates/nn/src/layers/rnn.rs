//! Recurrent layers: what a layer over any cell does, and `RNN` itself.

use std::fmt::Debug;

use modelark_artifact::graph::{Builder, Sym};
use modelark_artifact::tensor::DType;
use modelark_artifact::{Dialect, Error, Result};
use serde_json::Value;

use super::{Entry, GRUCell, LSTMCell, SimpleRNNCell};
use crate::config::{Activation, DTypePolicy, Fields, Regularizer};
use crate::layer::{Sublayer, inputs};
use crate::{Argument, Call, Inputs, Instance, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<RNN>(&["RNN"])];

/// A cell as a recurrent layer holds it.
pub trait Cell: Debug + Clone + Send + Sync + 'static {
    /// The class of the layer over this cell.
    const LAYER: &'static str;

    /// Names the cell's fields in the config of its layer.
    fn visit_in_layer(&mut self, fields: &mut Fields<'_>);

    /// The cell as a layer; one that the recurrent layer makes for itself has this dtype policy.
    fn instance(&self, policy: &DTypePolicy) -> Instance;
}

/// The layer over a cell of so many units: `$layer` runs `$cell`, which it calls `$name` where it makes one for itself.
macro_rules! layer_over {
    ($(#[$doc:meta])* $layer:ident: $cell:ident, $name:literal) => {
        $(#[$doc])*
        pub type $layer = super::rnn::Recurrent<$cell>;

        impl $layer {
            /// A layer of this many units, which gives its last output.
            pub fn new(units: usize) -> Self {
                $layer::over($cell::new(units))
            }
        }

        impl super::rnn::Cell for $cell {
            const LAYER: &'static str = stringify!($layer);

            fn visit_in_layer(&mut self, f: &mut crate::Fields<'_>) {
                crate::Layer::visit(self, f);
            }

            fn instance(&self, policy: &crate::config::DTypePolicy) -> crate::Instance {
                crate::Instance::from(self.clone()).named($name).dtype(policy.name())
            }
        }
    };
}
pub(super) use layer_over;

/// Any cell: one of Keras's, a stack of them, or a layer of one's own that has [`Layer::states`].
#[derive(Debug, Clone)]
pub struct AnyCell(Instance);

impl Default for AnyCell {
    fn default() -> Self {
        AnyCell(SimpleRNNCell::default().into())
    }
}

impl<L: Into<Instance>> From<L> for AnyCell {
    fn from(cell: L) -> Self {
        AnyCell(cell.into())
    }
}

impl Cell for AnyCell {
    const LAYER: &'static str = "RNN";

    fn visit_in_layer(&mut self, f: &mut Fields<'_>) {
        f.required("cell", &mut self.0);
    }

    fn instance(&self, _: &DTypePolicy) -> Instance {
        self.0.clone()
    }
}

/// Runs a cell over a sequence (Keras: `RNN`).
///
/// ```
/// use modelark_nn::{Apply, input, layers::{GRUCell, LSTMCell, RNN, StackedRNNCells}};
///
/// let stack = StackedRNNCells::new([LSTMCell::new(8).into(), GRUCell::new(4).into()]);
/// let y = RNN::over(stack).return_sequences(true).apply(&input([5, 3]))?;
/// assert_eq!(y.spec().shape.to_string(), "(None, 5, 4)");
/// # Ok::<(), modelark_nn::Error>(())
/// ```
pub type RNN = Recurrent<AnyCell>;

/// A recurrent layer over a cell (Keras: `RNN`, `LSTM`, `GRU`, `SimpleRNN`, `ConvLSTM2D` and its relations).
///
/// It takes the sequence, `[batch, steps, ..]`, and the states to begin with where they are given; Keras 2's also takes
/// `constants` by keyword, tensors that the cell is given at every step by a keyword of the same name. A stateful layer
/// begins each call with the states that the call before ended with; `Model::reset_states` makes them zeros again.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Recurrent<C> {
    pub(super) cell: C,
    return_sequences: bool,
    return_state: bool,
    go_backwards: bool,
    stateful: bool,
    unroll: bool,
    time_major: bool,
    zero_output_for_mask: bool,
    /// How many constants a call has that Keras 2 lists after the states.
    num_constants: usize,
    activity_regularizer: Option<Regularizer>,
}

impl<C: Cell + Default> Recurrent<C> {
    /// A layer over this cell, which gives its last output.
    pub fn over(cell: impl Into<C>) -> Self {
        Recurrent { cell: cell.into(), ..Recurrent::default() }
    }

    /// The same, giving the outputs of all time steps, or the last alone.
    pub fn return_sequences(mut self, return_sequences: bool) -> Self {
        self.return_sequences = return_sequences;
        self
    }

    /// The same, giving its states beside its output, or not.
    pub fn return_state(mut self, return_state: bool) -> Self {
        self.return_state = return_state;
        self
    }

    /// The same, running from the end to the beginning, or not.
    pub fn go_backwards(mut self, go_backwards: bool) -> Self {
        self.go_backwards = go_backwards;
        self
    }

    /// The same, beginning each call with the states that the one before ended with, or not. The size of the batch must be
    /// known.
    pub fn stateful(mut self, stateful: bool) -> Self {
        self.stateful = stateful;
        self
    }

    /// The same, giving zeros at masked time steps instead of the output before.
    pub fn zero_output_for_mask(mut self, zero_output_for_mask: bool) -> Self {
        self.zero_output_for_mask = zero_output_for_mask;
        self
    }
}

impl<C: Cell> Recurrent<C> {
    /// What one step gets of an input.
    fn step(&self, input: &Spec) -> Result<Spec> {
        match input.dims()? {
            [first, second, rest @ ..] if !rest.is_empty() => {
                let batch = if self.time_major { *second } else { *first };
                Ok(input.with_shape(std::iter::once(batch).chain(rest.iter().copied()).collect::<Vec<_>>()))
            }
            _ => Err(Error::mismatch(format!("it takes at least 3 dimensions, but got {}", input.shape))),
        }
    }

    /// What a step gives: its output, then the states.
    fn given_by_step(&self, cell: &Instance, step: Spec) -> Result<Vec<Spec>> {
        let states = cell.states(&step)?;
        cell.output(&std::iter::once(step).chain(states).collect::<Vec<_>>())
    }
}

impl<C: Cell> Layer for Recurrent<C> {
    fn class_name(&self) -> &str {
        C::LAYER
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("return_sequences", &mut self.return_sequences);
        f.field("return_state", &mut self.return_state);
        f.field("go_backwards", &mut self.go_backwards);
        f.field("stateful", &mut self.stateful);
        f.field("unroll", &mut self.unroll);
        f.keras2("time_major", &mut self.time_major);
        f.sparse("zero_output_for_mask", &mut self.zero_output_for_mask);
        f.sparse("num_constants", &mut self.num_constants);
        if self.num_constants > 0 {
            f.only_in(Dialect::Keras2);
        }
        self.cell.visit_in_layer(f);
        f.sparse("activity_regularizer", &mut self.activity_regularizer);
        for key in ["input_dim", "input_length", "consume_less"] {
            f.constant(key, &[], Value::Null);
        }
    }

    fn kept(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        if !self.stateful {
            return Ok(Vec::new());
        }
        let dtype = inputs.policy().variable()?;
        let states = self.cell.instance(inputs.policy()).states(&self.step(inputs.first()?)?)?;
        Ok(states.into_iter().map(|state| Spec { dtype, ..state }).collect())
    }

    fn sublayers(&self, inputs: &Inputs) -> Result<Vec<Sublayer>> {
        let step = self.step(inputs.first()?)?;
        Ok(vec![Sublayer::new("cell", &self.cell.instance(inputs.policy()), vec![step])])
    }

    fn arguments(&self) -> &[&str] {
        &["sequence", "initial_state"]
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = inputs.first()?;
        let cell = self.cell.instance(inputs.policy());
        let mut given = self.given_by_step(&cell, self.step(input)?)?;
        if self.return_sequences {
            let (leading, last) = (input.dims()?, given.first().map(Spec::dims).transpose()?);
            let last = last.unwrap_or_default().iter().skip(1);
            let all = leading.iter().take(2).chain(last).copied().collect::<Vec<_>>();
            if let Some(first) = given.first_mut() {
                *first = input.with_shape(all);
            }
        }
        if !self.return_state {
            given.truncate(1);
        }
        Ok(given)
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let cell = self.cell.instance(call.inputs().policy());
        let (given, constants) = split_constants(call, given);
        let (&x, initial) = given.split_first().ok_or_else(|| Error::mismatch("it takes a sequence"))?;
        let step = self.step(call.inputs().first()?)?;
        let specs = cell.states(&step)?;
        let mut initial = initial.to_vec();
        if initial.is_empty() && self.stateful {
            initial = (0..specs.len()).map(|i| call.kept(i)).collect::<Result<_>>()?;
        } else if initial.is_empty() {
            let batch = call.extent(x, usize::from(self.time_major))?;
            for spec in &specs {
                initial.push(zeros(call, batch, spec, x)?);
            }
        }
        if initial.len() != specs.len() {
            return Err(Error::mismatch(format!(
                "it takes a sequence and {} states, but got {} states",
                specs.len(),
                initial.len()
            )));
        }
        let [sequence, last, states @ ..] = &match fused(&cell, call.inputs())? {
            Some(_) if !constants.is_empty() => {
                return Err(Error::mismatch("the cell takes no constants").at(cell_place(&cell)));
            }
            Some(fused) => self.run_fused(call, fused, x, &initial)?,
            None => self.scan(call, &cell, x, &initial, constants)?,
        }[..] else {
            return Err(Error::mismatch("a recurrent op gives an output and states"));
        };
        if self.stateful {
            for (i, &state) in states.iter().enumerate() {
                call.keep(i, state)?;
            }
        }
        let mut out = vec![if self.return_sequences { *sequence } else { *last }];
        if self.return_state {
            out.extend(states);
        }
        Ok(out)
    }

    fn takes_ragged(&self) -> bool {
        true
    }

    fn masks(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Option<Sym>>> {
        let mask = given.first().and_then(|&x| call.mask(x));
        Ok(vec![mask.filter(|_| self.return_sequences)])
    }
}

/// The tensors of a call without the constants, and these.
pub(super) fn split_constants<'a>(call: &Call<'_>, given: &'a [Sym]) -> (&'a [Sym], &'a [Sym]) {
    let count = call.inputs().argument(CONSTANTS).map_or(0, |a| a.tensors().len());
    given.split_at(given.len().saturating_sub(count))
}

/// Constants as a keyword argument of a call.
pub(super) fn constants_keyword(constants: &[Sym]) -> Vec<(String, Argument<Sym>)> {
    let list = || Argument::List(constants.iter().map(|&c| Argument::Tensor(c)).collect());
    if constants.is_empty() { Vec::new() } else { vec![(CONSTANTS.to_owned(), list())] }
}

const CONSTANTS: &str = "constants";

/// A cell that has an op which runs a whole sequence.
pub(super) struct Fused<'a> {
    pub op: &'static str,
    pub use_bias: bool,
    pub activation: &'a Activation,
    pub recurrent_activation: Option<&'a Activation>,
    pub reset_after: Option<bool>,
}

/// The op for a cell, where there is one that knows its activations.
fn fused<'a>(cell: &'a Instance, inputs: &Inputs) -> Result<Option<Fused<'a>>> {
    if cell.policy().compute()? != inputs.compute_dtype() {
        return Ok(None);
    }
    let lstm = cell.downcast::<LSTMCell>().map(LSTMCell::fused);
    let gru = || cell.downcast::<GRUCell>().map(GRUCell::fused);
    let simple = || cell.downcast::<SimpleRNNCell>().map(SimpleRNNCell::fused);
    let found = lstm.or_else(gru).or_else(simple);
    Ok(found.filter(|f| op_name(f.activation).is_some() && f.recurrent_activation.is_none_or(|a| op_name(a).is_some())))
}

/// What the recurrent ops call an activation function, if they have it.
fn op_name(activation: &Activation) -> Option<&'static str> {
    const KNOWN: &[&str] = &[
        "linear", "tanh", "sigmoid", "hard_sigmoid", "relu", "relu6", "elu", "selu", "softplus", "softsign",
        "silu", "exponential",
    ];
    if activation.is_keras2s_own() {
        return (activation.name() == "hard_sigmoid").then_some("hard_sigmoid_2");
    }
    KNOWN.iter().copied().find(|&k| *activation == Activation::named(k))
}

impl<C: Cell> Recurrent<C> {
    fn run_fused(&self, call: &mut Call<'_>, fused: Fused<'_>, x: Sym, initial: &[Sym]) -> Result<Vec<Sym>> {
        let mut all = vec![x];
        all.extend_from_slice(initial);
        for (name, there) in [("kernel", true), ("recurrent_kernel", true), ("bias", fused.use_bias)] {
            if there {
                all.push(call.weight_of("cell", name)?);
            }
        }
        let mask = call.mask(x);
        all.extend(mask);
        let run = call.op(fused.op).inputs(&all).name(C::LAYER);
        let run = run.attr("use_bias", i64::from(fused.use_bias)).attr("masked", i64::from(mask.is_some()));
        let mut run = run.attr("activation", op_name(fused.activation).unwrap_or_default());
        if let Some(name) = fused.recurrent_activation.and_then(op_name) {
            run = run.attr("recurrent_activation", name);
        }
        if let Some(reset_after) = fused.reset_after {
            run = run.attr("reset_after", reset_after);
        }
        let run = run.attr("go_backwards", self.go_backwards).attr("time_major", self.time_major);
        Ok(run.attr("zero_output_for_mask", self.zero_output_for_mask).all()?)
    }

    /// Runs any cell in a loop: the outputs of all steps, the last one, and the states.
    fn scan(
        &self,
        call: &mut Call<'_>,
        cell: &Instance,
        x: Sym,
        initial: &[Sym],
        constants: &[Sym],
    ) -> Result<Vec<Sym>> {
        let constant_specs: Vec<Spec> = constants.iter().map(|&c| call.spec(c)).collect();
        let input = call.inputs().first()?.clone();
        let step = self.step(&input)?;
        let known = self.given_by_step(cell, step.clone())?;
        let (output, state_specs) =
            known.split_first().ok_or_else(|| Error::mismatch("the cell gives nothing").at(cell_place(cell)))?;
        let (element, made, dtype) = (step.rank()?, output.rank()?, call.dtype(x));
        let batch = call.extent(x, usize::from(self.time_major))?;
        // Before the first step that counts, outputs are zeros, whatever state the layer starts from.
        let nothing = zeros(call, batch, output, x)?;
        let x_mask = call.mask(x);
        let x = self.time_first(call, x, element + 1)?;
        let steps = call.extent(x, 0)?;
        let anything = call.ints(&vec![-1; element])?;
        let xs = call.apply("TensorListFromTensor", &[x, anything])?;
        let anything = call.ints(&vec![-1; made])?;
        let reserve = call.op("TensorListReserve").inputs(&[anything, steps]).attr("element_dtype", dtype);
        let outs = reserve.one()?;
        let mut captures = vec![steps, xs];
        captures.extend_from_slice(constants);
        if let Some(mask) = x_mask {
            let mask = self.time_first(call, mask, 2)?;
            let anything = call.ints(&[-1])?;
            captures.push(call.apply("TensorListFromTensor", &[mask, anything])?);
        }
        let zero = call.int(0)?;
        let mut state = vec![zero, outs, nothing];
        state.extend_from_slice(initial);
        let counting = |b: &mut Builder, state: &[Sym], captures: &[Sym]| b.less(state[0], captures[0]);
        let done = call.while_loop(&state, &captures, counting, |call, state, captures| {
            let [time, outs, last, before @ ..] = state else {
                return Err(Error::mismatch("the loop has a time, outputs and states"));
            };
            let [_, xs, rest @ ..] = captures else { return Err(Error::mismatch("the loop has a sequence")) };
            let (constants, masks) = rest.split_at(constant_specs.len().min(rest.len()));
            let (xs, masks) = (*xs, masks.first().copied());
            for (&constant, spec) in constants.iter().zip(constant_specs) {
                call.describe(constant, spec);
            }
            let x = item(call, xs, *time, element, dtype)?;
            call.describe(x, step.clone());
            for (&state, spec) in before.iter().zip(state_specs) {
                call.describe(state, spec.clone());
            }
            let given: Vec<Sym> = std::iter::once(x).chain(before.iter().copied()).collect();
            let made = call.sublayer_with("cell", cell, &given, &constants_keyword(constants))?;
            let (&y, states) = made.split_first().ok_or_else(|| Error::mismatch("the cell gives nothing"))?;
            let mut out = call.cast(y, dtype)?;
            let counts = masks.map(|masks| item(call, masks, *time, 1, DType::Bool)).transpose()?;
            if let Some(counts) = counts {
                let otherwise =
                    if self.zero_output_for_mask { call.apply("ZerosLike", &[*last])? } else { *last };
                out = choose(call, counts, out, otherwise, output)?;
            }
            let mut next = Vec::with_capacity(states.len());
            for ((&new, &old), spec) in states.iter().zip(before).zip(state_specs) {
                let new = call.cast(new, call.dtype(old))?;
                next.push(match counts {
                    Some(counts) => choose(call, counts, new, old, spec)?,
                    None => new,
                });
            }
            let outs = call.apply("TensorListSetItem", &[*outs, *time, out])?;
            let one = call.int(1)?;
            let time = call.apply("AddV2", &[*time, one])?;
            Ok([time, outs, out].into_iter().chain(next).collect())
        })?;
        let [_, outs, last, states @ ..] = &done[..] else {
            return Err(Error::mismatch("the loop gives outputs and states"));
        };
        let shape = call.apply("Shape", &[nothing])?;
        let stack = call.op("TensorListStack").inputs(&[*outs, shape]).attr("element_dtype", dtype);
        let sequence = stack.one()?;
        let sequence = if self.time_major { sequence } else { call.transpose(sequence, &swapped(made + 1))? };
        Ok([sequence, *last].into_iter().chain(states.iter().copied()).collect())
    }

    /// Time before batch, and in the order in which the layer goes.
    fn time_first(&self, call: &mut Call<'_>, x: Sym, rank: usize) -> Result<Sym> {
        let x = if self.time_major { x } else { call.transpose(x, &swapped(rank))? };
        if !self.go_backwards {
            return Ok(x);
        }
        let axis = call.ints(&[0])?;
        call.apply("ReverseV2", &[x, axis])
    }
}

fn cell_place(cell: &Instance) -> String {
    format!("cell {:?} ({})", cell.name(), cell.class_name())
}

/// The axes with the first two swapped.
fn swapped(rank: usize) -> Vec<usize> {
    [1, 0].into_iter().chain(2..rank).collect()
}

/// Zeros of a shape of which only the batch isn't known, in the dtype of `like`.
fn zeros(call: &mut Call<'_>, batch: Sym, spec: &Spec, like: Sym) -> Result<Sym> {
    let mut extents = vec![batch];
    for axis in 1..spec.rank()? {
        let known = spec.known(axis as i64)?;
        extents.push(call.int(known as i64)?);
    }
    let (shape, zero) = (call.shape(&extents)?, call.scalar(0.0, like)?);
    call.apply("Fill", &[shape, zero])
}

fn item(call: &mut Call<'_>, list: Sym, index: Sym, rank: usize, dtype: DType) -> Result<Sym> {
    let shape = call.ints(&vec![-1; rank])?;
    let item = call.op("TensorListGetItem").inputs(&[list, index, shape]).attr("element_dtype", dtype);
    let [item] = inputs(&item.all()?)?;
    Ok(item)
}

/// Rows of `new` where the step counts, else of `old`.
fn choose(call: &mut Call<'_>, counts: Sym, new: Sym, old: Sym, spec: &Spec) -> Result<Sym> {
    let shape: Vec<i64> = std::iter::once(-1).chain((1..spec.rank()?).map(|_| 1)).collect();
    let counts = call.reshape(counts, &shape)?;
    call.apply("SelectV2", &[counts, new, old])
}
