//! Layers of several inputs: Add and its relations, Concatenate, Dot.

use modelark_artifact::graph::Sym;
use modelark_artifact::tensor::DType;
use modelark_artifact::{Dialect, Error, Result};

use super::Entry;
use crate::config::{Axes, Fields, resolve_axis};
use crate::{Call, Inputs, Layer, Spec};

pub(super) const LAYERS: &[Entry] = &[
    Entry::of::<Add>(&["Add"]),
    Entry::of::<Subtract>(&["Subtract"]),
    Entry::of::<Multiply>(&["Multiply"]),
    Entry::of::<Average>(&["Average"]),
    Entry::of::<Maximum>(&["Maximum"]),
    Entry::of::<Minimum>(&["Minimum"]),
    Entry::of::<Concatenate>(&["Concatenate", "TFDConcat"]),
    Entry::of::<Dot>(&["Dot"]),
];

/// The shape of tensors that are merged element by element. Those of fewer dimensions gain some at this axis.
pub(crate) fn broadcast(inputs: &Inputs, axis: usize) -> Result<Vec<Option<usize>>> {
    let rank = inputs.all().iter().map(Spec::rank).collect::<Result<Vec<_>>>()?.into_iter().max();
    let rank = rank.ok_or_else(|| Error::mismatch("it takes at least 2 inputs, but got none"))?;
    let mut out: Vec<Option<usize>> = vec![Some(1); rank];
    for input in inputs.all() {
        let mut dims = input.dims()?.to_vec();
        while dims.len() < rank {
            dims.insert(axis.min(dims.len()), Some(1));
        }
        for (o, d) in out.iter_mut().zip(dims) {
            *o = match (*o, d) {
                (Some(1), d) => d,
                (o, Some(1)) => o,
                (Some(a), Some(b)) if a != b => {
                    let shapes: Vec<String> = inputs.all().iter().map(|s| s.shape.to_string()).collect();
                    return Err(Error::mismatch(format!("inputs of shapes {} can't be merged", shapes.join(", "))));
                }
                (Some(a), _) | (None, Some(a)) => Some(a),
                (None, None) => None,
            };
        }
    }
    Ok(out)
}

/// The inputs with as many dimensions each.
fn aligned(call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
    let ranks = given.iter().map(|&x| call.spec(x).rank()).collect::<Result<Vec<_>>>()?;
    let most = ranks.iter().copied().max().unwrap_or_default();
    let mut out = Vec::with_capacity(given.len());
    for (&x, rank) in given.iter().zip(ranks) {
        let mut x = x;
        for _ in rank..most {
            let axis = call.int(1)?;
            x = call.apply("ExpandDims", &[x, axis])?;
        }
        out.push(x);
    }
    Ok(out)
}

/// An op over all inputs, one after the other.
fn fold(call: &mut Call<'_>, op: &str, given: &[Sym]) -> Result<Sym> {
    let given = aligned(call, given)?;
    let (&first, rest) = given.split_first().ok_or_else(|| Error::mismatch("it takes at least one input"))?;
    rest.iter().try_fold(first, |y, &x| call.apply(op, &[y, x]))
}

/// The masks of the inputs as one. Keras 2 keeps what all masks keep; Keras 3 what any keeps, where all inputs have one.
fn merged_mask(call: &mut Call<'_>, given: &[Sym], keras2: bool) -> Result<Vec<Option<Sym>>> {
    let masks: Vec<Sym> = given.iter().filter_map(|&x| call.mask(x)).collect();
    let Some((&first, rest)) = masks.split_first().filter(|_| keras2 || masks.len() == given.len()) else {
        return Ok(Vec::new());
    };
    let op = if keras2 { "LogicalAnd" } else { "LogicalOr" };
    let mut others = rest.iter().filter(|&&mask| mask != first);
    Ok(vec![Some(others.try_fold(first, |y, &x| call.apply(op, &[y, x]))?)])
}

/// An op over all inputs; Keras 3 leaves out of it what a mask excludes.
fn masked(call: &mut Call<'_>, op: &str, given: &[Sym], keras2: bool) -> Result<Sym> {
    if keras2 || given.iter().all(|&x| call.mask(x).is_none()) {
        return fold(call, op, given);
    }
    let last = call.int(-1)?;
    let mut merged: Option<(Sym, Option<Sym>)> = None;
    for (&original, mut x) in given.iter().zip(aligned(call, given)?) {
        let mask = match call.mask(original) {
            Some(mask) => {
                let (mask, shape) = (call.apply("ExpandDims", &[mask, last])?, call.apply("Shape", &[x])?);
                Some(call.apply("BroadcastTo", &[mask, shape])?)
            }
            None => None,
        };
        if let (Some(mask), true) = (mask, op == "Mul") {
            let one = call.scalar(1.0, x)?;
            x = call.apply("SelectV2", &[mask, x, one])?;
        }
        let Some((mut y, kept)) = merged else {
            merged = Some((x, mask));
            continue;
        };
        if let (Some(mask), true) = (mask, op != "Mul") {
            x = call.apply("SelectV2", &[mask, x, y])?;
        }
        if let (Some(kept), true) = (kept, op != "Mul") {
            y = call.apply("SelectV2", &[kept, y, x])?;
        }
        let kept = match (kept, mask) {
            (Some(a), Some(b)) => Some(call.apply("LogicalOr", &[a, b])?),
            _ => None,
        };
        merged = Some((call.apply(op, &[y, x])?, kept));
    }
    match merged {
        Some((y, Some(kept))) if op == "Mul" => {
            let zero = call.scalar(0.0, y)?;
            call.apply("SelectV2", &[kept, y, zero])
        }
        Some((y, _)) => Ok(y),
        None => Err(Error::mismatch("it takes at least one input")),
    }
}

macro_rules! merges {
    ($($(#[$doc:meta])* $name:ident: |$call:ident, $given:ident, $keras2:ident| $body:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        pub struct $name {
            /// Whether the config was of a dialect in which masks merge as in Keras 2.
            keras2: bool,
        }

        impl $name {
            /// A layer that merges its inputs.
            pub fn new() -> Self {
                $name::default()
            }
        }

        impl Layer for $name {
            fn class_name(&self) -> &str {
                stringify!($name)
            }

            fn visit(&mut self, f: &mut Fields<'_>) {
                if f.is_reading() {
                    self.keras2 = f.dialect() != Dialect::Keras3;
                }
            }

            fn masks_by_dialect(&self) -> bool {
                true
            }

            fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
                Ok(vec![inputs.first()?.with_shape(broadcast(inputs, 1)?)])
            }

            fn call(&self, $call: &mut Call<'_>, $given: &[Sym]) -> Result<Vec<Sym>> {
                let $keras2 = self.keras2;
                Ok(vec![$body])
            }

            fn takes_ragged(&self) -> bool {
                true
            }

            fn masks(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Option<Sym>>> {
                merged_mask(call, given, self.keras2)
            }
        }
    )*};
}

merges! {
    /// The sum of the inputs (Keras: `Add`).
    Add: |call, given, _keras2| fold(call, "AddV2", given)?;
    /// The first input less the second (Keras: `Subtract`).
    Subtract: |call, given, _keras2| match given {
        [_, _] => fold(call, "Sub", given)?,
        _ => return Err(Error::mismatch(format!("it takes 2 inputs, but got {}", given.len()))),
    };
    /// The product of the inputs (Keras: `Multiply`).
    Multiply: |call, given, keras2| masked(call, "Mul", given, keras2)?;
    /// The mean of the inputs (Keras: `Average`).
    Average: |call, given, _keras2| {
        let sum = fold(call, "AddV2", given)?;
        let count = call.scalar(given.len() as f64, sum)?;
        call.apply("RealDiv", &[sum, count])?
    };
    /// The largest of the inputs (Keras: `Maximum`).
    Maximum: |call, given, keras2| masked(call, "Maximum", given, keras2)?;
    /// The smallest of the inputs (Keras: `Minimum`).
    Minimum: |call, given, keras2| masked(call, "Minimum", given, keras2)?;
}

/// The inputs one after the other along an axis (Keras: `Concatenate`).
#[derive(Debug, Clone, PartialEq)]
pub struct Concatenate {
    axis: i64,
}

impl Default for Concatenate {
    fn default() -> Self {
        Concatenate { axis: -1 }
    }
}

impl Concatenate {
    /// Along this axis; negative ones count from the end.
    pub fn new(axis: i64) -> Self {
        Concatenate { axis }
    }
}

impl Layer for Concatenate {
    fn class_name(&self) -> &str {
        "Concatenate"
    }

    fn masks_by_dialect(&self) -> bool {
        true
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.field("axis", &mut self.axis);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let first = inputs.first()?;
        let mut dims = first.dims()?.to_vec();
        let axis = resolve_axis(self.axis, dims.len())?;
        for input in inputs.all().get(1..).unwrap_or_default() {
            let other = input.dims()?;
            let fits = other.len() == dims.len()
                && dims.iter().zip(other).enumerate().all(|(i, (a, b))| i == axis || a.is_none() || b.is_none() || a == b);
            if !fits {
                return Err(Error::mismatch(format!(
                    "inputs of shapes {} and {} can't be concatenated along axis {}",
                    first.shape, input.shape, self.axis
                )));
            }
            for (i, (d, o)) in dims.iter_mut().zip(other).enumerate() {
                *d = if i == axis { d.zip(*o).and_then(|(a, b)| a.checked_add(b)) } else { d.or(*o) };
            }
        }
        Ok(vec![first.with_shape(dims)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        if let [one] = given {
            return Ok(vec![*one]);
        }
        let axis = call.int(self.axis)?;
        let given: Vec<Sym> = given.iter().copied().chain([axis]).collect();
        Ok(vec![call.apply("ConcatV2", &given)?])
    }

    fn masks(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Option<Sym>>> {
        if given.iter().all(|&x| call.mask(x).is_none()) {
            return Ok(Vec::new());
        }
        let mut masks = Vec::with_capacity(given.len() + 1);
        for &x in given {
            let zeros = call.apply("ZerosLike", &[x])?;
            let zeros = call.cast(zeros, DType::Bool)?;
            masks.push(match call.mask(x) {
                None => call.apply("LogicalNot", &[zeros])?,
                Some(mask) => {
                    let axis = call.int(-1)?;
                    let mask = call.apply("ExpandDims", &[mask, axis])?;
                    call.apply("LogicalOr", &[mask, zeros])?
                }
            });
        }
        masks.push(call.int(self.axis)?);
        let joined = if given.len() == 1 { masks.first().copied() } else { None };
        let joined = match joined {
            Some(one) => one,
            None => call.apply("ConcatV2", &masks)?,
        };
        // Keras 2 keeps a step where all features are kept, Keras 3 where any is; within one mask all agree.
        Ok(vec![Some(call.reduce("All", joined, &[-1], false)?)])
    }
}

/// Products of two inputs' vectors along an axis each (Keras: `Dot`).
#[derive(Debug, Clone, PartialEq)]
pub struct Dot {
    axes: Axes,
    normalize: bool,
}

impl Default for Dot {
    fn default() -> Self {
        Dot { axes: Axes::one(-1), normalize: false }
    }
}

impl Dot {
    /// Along this axis of both inputs.
    pub fn new(axis: i64) -> Self {
        Dot { axes: Axes::one(axis), normalize: false }
    }

    /// The axis of each of the two inputs.
    fn axes(&self, inputs: &[Spec]) -> Result<[usize; 2]> {
        let (Some(&first), Some(&last)) = (self.axes.axes.first(), self.axes.axes.last()) else {
            return Err(Error::corrupt("\"axes\" is empty"));
        };
        match inputs {
            [a, b] => Ok([resolve_axis(first, a.rank()?)?, resolve_axis(last, b.rank()?)?]),
            _ => Err(Error::mismatch(format!("it takes 2 inputs, but got {}", inputs.len()))),
        }
    }
}

impl Layer for Dot {
    fn class_name(&self) -> &str {
        "Dot"
    }

    fn visit(&mut self, f: &mut Fields<'_>) {
        f.required("axes", &mut self.axes);
        f.field("normalize", &mut self.normalize);
    }

    fn output(&self, inputs: &Inputs) -> Result<Vec<Spec>> {
        let axes = self.axes(inputs.all())?;
        let mut dims: Vec<Option<usize>> = Vec::new();
        // The second input's batch is the first's.
        for ((input, axis), from) in inputs.all().iter().zip(axes).zip([0, 1]) {
            let rest = input.dims()?.iter().enumerate().skip(from).filter(|(a, _)| *a != axis);
            dims.extend(rest.map(|(_, d)| *d));
        }
        if dims.len() == 1 {
            dims.push(Some(1));
        }
        Ok(vec![inputs.first()?.with_shape(dims)])
    }

    fn call(&self, call: &mut Call<'_>, given: &[Sym]) -> Result<Vec<Sym>> {
        let axes = self.axes(call.inputs().all())?;
        let [mut a, mut b] = crate::layer::inputs(given)?;
        let (rank_a, rank_b) = (call.spec(a).rank()?, call.spec(b).rank()?);
        if self.normalize {
            a = l2_normalized(call, a, &[axes[0] as i64])?;
            b = l2_normalized(call, b, &[axes[1] as i64])?;
        }
        let letters = |rank: usize, axis: usize, from: u8| -> String {
            (0..rank)
                .map(|i| match i {
                    0 => 'a',
                    i if i == axis => 'z',
                    i => char::from(from + i as u8),
                })
                .collect()
        };
        if rank_a > 8 || rank_b > 8 {
            return Err(Error::unsupported("it takes inputs of up to 8 dimensions"));
        }
        let (left, right) = (letters(rank_a, axes[0], b'a'), letters(rank_b, axes[1], b'i'));
        let out: String = left.chars().chain(right.chars().skip(1)).filter(|c| *c != 'z').collect();
        let y = call.op("Einsum").inputs(&[a, b]).attr("equation", format!("{left},{right}->{out}")).one()?;
        if out.len() > 1 {
            return Ok(vec![y]);
        }
        let last = call.int(1)?;
        Ok(vec![call.apply("ExpandDims", &[y, last])?])
    }
}

/// `x / sqrt(max(sum(x ** 2), 1e-12))` along axes, as TensorFlow's `l2_normalize`.
pub(crate) fn l2_normalized(call: &mut Call<'_>, x: Sym, axes: &[i64]) -> Result<Sym> {
    let least = call.scalar(1e-12, x)?;
    let y = call.apply("Square", &[x])?;
    let y = call.reduce("Sum", y, axes, true)?;
    let y = call.apply("Maximum", &[y, least])?;
    let y = call.apply("Rsqrt", &[y])?;
    call.apply("Mul", &[x, y])
}
