//! Cells one above the other as one cell.

use modelark_artifact::graph::Sym;
use modelark_artifact::{Error, ErrorKind, Result};

use super::Entry;
use crate::config::Fields;
use crate::layer::Sublayer;
use crate::{Call, Inputs, Instance, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[Entry::of::<StackedRNNCells>(&["StackedRNNCells"])];

/// Cells of which each takes what the one before gives (Keras: `StackedRNNCells`); its states are theirs, in order.
#[derive(Debug, Clone, Default)]
pub struct StackedRNNCells {
    cells: Vec<Instance>,
}

/// What a cell takes, and its states.
type Walked = (Spec, Vec<Spec>);

impl StackedRNNCells {
    /// A stack of these cells, the first one taking the input.
    pub fn new(cells: impl IntoIterator<Item = Instance>) -> Self {
        StackedRNNCells { cells: cells.into_iter().collect() }
    }

    /// For each cell what it takes and what its states are; then what the last one gives.
    fn walk(&self, inputs: &Inputs) -> Result<(Vec<Walked>, Spec)> {
        let mut input = inputs.first()?.clone();
        let mut cells = Vec::with_capacity(self.cells.len());
        for cell in &self.cells {
            let (states, output) = step(cell, &input)?;
            cells.push((std::mem::replace(&mut input, output), states));
        }
        Ok((cells, input))
    }
}

/// A cell's states, and what it gives for an input.
fn step(cell: &Instance, input: &Spec) -> Result<(Vec<Spec>, Spec)> {
    let states = cell.states(input)?;
    let given: Vec<Spec> = std::iter::once(input.clone()).chain(states.iter().cloned()).collect();
    let output = cell.output(&given)?.into_iter().next();
    Ok((states, output.ok_or_else(|| Error::mismatch("a cell that gives nothing"))?))
}

fn attribute(index: usize) -> String {
    format!("cells/{index}")
}

impl Layer for StackedRNNCells {
    fn class_name(&self) -> &str {
        "StackedRNNCells"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("cells", &mut self.cells);
    }

    fn sublayers(&self, inputs: &Inputs) -> Result<Vec<Sublayer>> {
        let mut input = inputs.first()?.clone();
        let mut held = Vec::with_capacity(self.cells.len());
        for (i, cell) in self.cells.iter().enumerate() {
            held.push(Sublayer::new(attribute(i), cell, vec![input.clone()]));
            input = match step(cell, &input) {
                Ok((_, output)) => output,
                // What a cell gives that nobody has isn't known.
                Err(e) if e.kind() == ErrorKind::UnknownClass => Spec::unknown(input.dtype),
                Err(e) => return Err(e),
            };
        }
        Ok(held)
    }

    fn arguments(&self) -> &[&str] {
        &["inputs", "states"]
    }

    fn states(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        Ok(self.walk(inputs)?.0.into_iter().flat_map(|(_, states)| states).collect())
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let (cells, output) = self.walk(inputs)?;
        Ok(std::iter::once(output).chain(cells.into_iter().flat_map(|(_, states)| states)).collect())
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let (walked, _) = self.walk(call.inputs())?;
        let wrong = || Error::mismatch("it takes an input and the states of all its cells");
        let (&first, mut states) = given.split_first().ok_or_else(wrong)?;
        let (mut x, mut next) = (first, Vec::new());
        for (i, (cell, (_, own))) in self.cells.iter().zip(walked).enumerate() {
            let (before, rest) = states.split_at_checked(own.len()).ok_or_else(wrong)?;
            let all: Vec<Sym> = std::iter::once(x).chain(before.iter().copied()).collect();
            let made = call.sublayer(&attribute(i), cell, &all)?;
            let (&y, after) = made.split_first().ok_or_else(wrong)?;
            next.extend_from_slice(after);
            (x, states) = (y, rest);
        }
        if !states.is_empty() {
            return Err(wrong());
        }
        next.insert(0, x);
        Ok(next)
    }
}
