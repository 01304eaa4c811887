//! A recurrent layer in both directions.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Dialect, Error, Result};
use serde_json::{Value, json};

use super::rnn::{constants_keyword, split_constants};
use super::{Entry, LSTM};
use crate::config::{ConfigValue, Fields, Reader, Writer, expected};
use crate::layer::Sublayer;
use crate::{Call, Inputs, Instance, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<Bidirectional>(&["Bidirectional"])];

/// How the outputs of both directions become one (Keras: `merge_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MergeMode {
    /// One after the other along the last axis.
    #[default]
    Concat,
    /// Their sum.
    Sum,
    /// Their product.
    Mul,
    /// Their mean.
    Ave,
    /// They stay apart: two outputs.
    Apart,
}

impl ConfigValue for MergeMode {
    fn read(value: &Value, _: &Reader<'_>) -> Result<Self> {
        Ok(match value.as_str() {
            Some("concat") => MergeMode::Concat,
            Some("sum") => MergeMode::Sum,
            Some("mul") => MergeMode::Mul,
            Some("ave") => MergeMode::Ave,
            None if value.is_null() => MergeMode::Apart,
            _ => return Err(expected("concat, sum, mul, ave or null", value)),
        })
    }

    fn write(&self, _: &mut Writer) -> Value {
        match self {
            MergeMode::Concat => json!("concat"),
            MergeMode::Sum => json!("sum"),
            MergeMode::Mul => json!("mul"),
            MergeMode::Ave => json!("ave"),
            MergeMode::Apart => Value::Null,
        }
    }
}

const FORWARD: &str = "forward_layer";
const BACKWARD: &str = "backward_layer";

/// A recurrent layer in both directions (Keras: `Bidirectional`). Its states are those of the layer that goes forward,
/// then those of the other.
///
/// ```
/// use modelark_nn::{Apply, input, layers::{Bidirectional, LSTM}};
///
/// let y = Bidirectional::new(LSTM::new(8).return_sequences(true)).apply(&input([5, 3]))?;
/// assert_eq!(y.spec().shape.to_string(), "(None, 5, 16)");
/// # Ok::<(), modelark_nn::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Bidirectional {
    layer: Instance,
    backward: Option<Instance>,
    merge_mode: MergeMode,
    /// Whether a masked step gives what the step before gave, as before TensorFlow 2, and not zeros.
    repeats_where_masked: bool,
    /// How many constants a call has that Keras 2 lists after the states.
    num_constants: usize,
}

impl Default for Bidirectional {
    fn default() -> Self {
        Bidirectional::new(LSTM::default())
    }
}

impl Bidirectional {
    /// This layer forward and one like it backward, their outputs one after the other along the last axis.
    pub fn new(layer: impl Into<Instance>) -> Self {
        Bidirectional {
            layer: layer.into(),
            backward: None,
            merge_mode: MergeMode::Concat,
            repeats_where_masked: false,
            num_constants: 0,
        }
    }

    /// The same with another layer backward, which must go backwards itself.
    pub fn backward_layer(mut self, layer: impl Into<Instance>) -> Self {
        self.backward = Some(layer.into());
        self
    }

    /// The same with outputs that become one in this way.
    pub fn merge_mode(mut self, merge_mode: MergeMode) -> Self {
        self.merge_mode = merge_mode;
        self
    }

    /// The layer's name without what Keras puts before it.
    fn base(layer: &Instance) -> String {
        let name = layer.name();
        match name.is_empty() {
            true => crate::model::snake_case(layer.class_name()),
            false => name.strip_prefix("forward_").unwrap_or(name).to_owned(),
        }
    }

    /// With zeros at masked steps, so that what is turned round stays in place.
    fn zeros_where_masked(&self, layer: Instance) -> Result<Instance> {
        if self.repeats_where_masked {
            return Ok(layer);
        }
        let sequences = layer.flag("return_sequences");
        layer.with_option("zero_output_for_mask", json!(sequences))
    }

    fn forward(&self) -> Result<Instance> {
        let layer = self.zeros_where_masked(self.layer.clone())?;
        Ok(layer.named(&format!("forward_{}", Self::base(&self.layer))))
    }

    fn backward(&self) -> Result<Instance> {
        let layer = match &self.backward {
            Some(layer) => layer.clone(),
            None => {
                let turned = !self.layer.flag("go_backwards");
                let layer = self.layer.with_option("go_backwards", json!(turned))?;
                layer.named(&format!("backward_{}", Self::base(&self.layer)))
            }
        };
        self.zeros_where_masked(layer)
    }

    fn sequences(&self) -> bool {
        self.layer.flag("return_sequences")
    }

    /// In Keras 2 the layer has its own name, and one backward is named only where it differs.
    fn visit_keras2(&mut self, f: &mut Fields<'_>) {
        let plain = |layer: Instance, name: &str| {
            let layer = layer.with_option("zero_output_for_mask", json!(false))?;
            Ok::<_, Error>(layer.named(name))
        };
        let base = Self::base(&self.layer);
        let given = self.backward.clone().filter(|given| {
            let mut own = Bidirectional { backward: None, ..self.clone() };
            own.layer = self.layer.clone();
            let config = |layer: Result<Instance>| layer?.write(&mut Writer::new(Dialect::Keras3));
            config(own.backward()).ok() != config(self.zeros_where_masked(given.clone())).ok()
        });
        let parts = plain(self.layer.clone(), &base).and_then(|layer| {
            let backward = given.map(|g| {
                let name = g.name().to_owned();
                plain(g, name.strip_prefix("backward_").unwrap_or(&name))
            });
            Ok((layer, backward.transpose()?))
        });
        match parts {
            Ok((mut layer, mut backward)) => {
                f.required("layer", &mut layer);
                if let Some(backward) = &mut backward {
                    f.field(BACKWARD, backward);
                }
            }
            Err(error) => f.fail(error),
        }
    }
}

impl Layer for Bidirectional {
    fn class_name(&self) -> &str {
        "Bidirectional"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("merge_mode", &mut self.merge_mode);
        self.repeats_where_masked |= f.is_former();
        if self.repeats_where_masked && !f.is_reading() && self.sequences() {
            f.note("where steps are masked it gives zeros; before Keras 2.4 it gave what the step before gave");
        }
        f.sparse("num_constants", &mut self.num_constants);
        if self.num_constants > 0 {
            f.only_in(Dialect::Keras2);
        }
        if f.is_reading() {
            f.required("layer", &mut self.layer);
            f.field(BACKWARD, &mut self.backward);
        } else if f.dialect() == Dialect::Keras3 {
            match (self.forward(), self.backward()) {
                (Ok(mut forward), Ok(mut backward)) => {
                    f.required("layer", &mut forward);
                    f.field(BACKWARD, &mut backward);
                }
                (Err(error), _) | (_, Err(error)) => f.fail(error),
            }
        } else {
            self.visit_keras2(f);
        }
    }

    fn sublayers(&self, inputs: &Inputs) -> Result<Vec<Sublayer>> {
        let input = inputs.first()?;
        Ok(vec![
            Sublayer::new(FORWARD, &self.forward()?, vec![input.clone()]).copied(),
            Sublayer::new(BACKWARD, &self.backward()?, vec![input.clone()]).copied(),
        ])
    }

    fn arguments(&self) -> &[&str] {
        &["sequence", "initial_state"]
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let input = std::slice::from_ref(inputs.first()?);
        let split = |mut made: Vec<Spec>| {
            let states = made.split_off(made.len().min(1));
            made.pop().map(|y| (y, states)).ok_or_else(|| Error::mismatch("its layer gives nothing"))
        };
        let (y, states) = split(self.forward()?.output(input)?)?;
        let (back, back_states) = split(self.backward()?.output(input)?)?;
        let mut out = match self.merge_mode {
            MergeMode::Apart => vec![y, back],
            MergeMode::Concat => {
                let (mut dims, last) = (y.dims()?.to_vec(), back.dims()?.last().copied().flatten());
                if let Some(end) = dims.last_mut() {
                    *end = end.zip(last).and_then(|(a, b)| a.checked_add(b));
                }
                vec![y.with_shape(dims)]
            }
            _ => vec![y],
        };
        out.extend(states);
        out.extend(back_states);
        Ok(out)
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let (given, constants) = split_constants(call, given);
        let keywords = constants_keyword(constants);
        let (&x, initial) = given.split_first().ok_or_else(|| Error::mismatch("it takes a sequence"))?;
        if initial.len() % 2 > 0 {
            return Err(Error::mismatch("it takes as many states for one direction as for the other"));
        }
        let (first, second) = initial.split_at(initial.len() / 2);
        let mut run = |attribute: &str, layer: Instance, states: &[Sym]| {
            let all: Vec<Sym> = std::iter::once(x).chain(states.iter().copied()).collect();
            let mut made = call.sublayer_with(attribute, &layer, &all, &keywords)?;
            let states = made.split_off(made.len().min(1));
            made.pop().map(|y| (y, states)).ok_or_else(|| Error::mismatch("its layer gives nothing"))
        };
        let (y, states) = run(FORWARD, self.forward()?, first)?;
        let (mut back, back_states) = run(BACKWARD, self.backward()?, second)?;
        if self.sequences() {
            let axis = call.ints(&[i64::from(!self.layer.flag("time_major"))])?;
            back = call.apply("ReverseV2", &[back, axis])?;
        }
        let mut out = match self.merge_mode {
            MergeMode::Apart => vec![y, back],
            MergeMode::Concat => {
                let axis = call.int(-1)?;
                vec![call.apply("ConcatV2", &[y, back, axis])?]
            }
            MergeMode::Sum => vec![call.apply("AddV2", &[y, back])?],
            MergeMode::Mul => vec![call.apply("Mul", &[y, back])?],
            MergeMode::Ave => {
                let sum = call.apply("AddV2", &[y, back])?;
                let two = call.scalar(2.0, sum)?;
                vec![call.apply("RealDiv", &[sum, two])?]
            }
        };
        out.extend(states);
        out.extend(back_states);
        Ok(out)
    }

    fn takes_ragged(&self) -> bool {
        true
    }

    fn masks(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Option<Sym>>> {
        let mask = given.first().and_then(|&x| call.mask(x)).filter(|_| self.sequences());
        let outputs = if self.merge_mode == MergeMode::Apart { 2 } else { 1 };
        Ok(vec![mask; outputs])
    }
}
