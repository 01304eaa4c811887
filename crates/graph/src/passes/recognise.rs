//! Ideas that TensorFlow spells with many ops become the ops that they are: activations, layer normalisation, attention.

use std::sync::{LazyLock, OnceLock};

use foldhash::{HashMap, HashSet};

use super::attention;
use super::part::{Part, Readers, is_single};
use super::pattern::{Match, Pattern, canonical};
use crate::tensor::{DType, Tensor};
use crate::{Attr, Attrs, Builder, Error, Output, Result, Sym};

/// How something may be spelled, and the op that it is.
pub(super) struct Spelling {
    /// Of its arguments, as it is traced.
    pub(super) dtypes: &'static [DType],
    pub(super) op: &'static str,
    /// Some of the ops that it is spelled with, few of which a graph without it has.
    pub(super) telling: &'static [&'static str],
    /// Attributes of its ops that may have any value.
    pub(super) free: &'static [&'static str],
    /// The attributes of the op, from where the spelling was found.
    pub(super) attrs: Taken,
    pub(super) trace: Trace,
}

pub(super) type Taken = Box<dyn Fn(&Part, &Match) -> Option<Attrs> + Send + Sync>;
pub(super) type Trace = Box<dyn Fn(&mut Builder, &[Sym]) -> Result<Sym> + Send + Sync>;

struct Rule {
    spelling: Spelling,
    /// Traced when a graph first has what is telling of it.
    pattern: OnceLock<Option<Pattern>>,
}

impl Rule {
    fn pattern(&self) -> Option<&Pattern> {
        // It is traced from our own ops; a test sees to it that it can be.
        let trace = || Pattern::new(self.spelling.dtypes, self.spelling.free, &self.spelling.trace).ok();
        self.pattern.get_or_init(trace).as_ref()
    }
}

/// The greater ones first: what they are made of may be a lesser one.
static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    let all = attention::spellings().into_iter().chain(layer_norms()).chain([softmax()]).chain(activations());
    all.map(|spelling| Rule { spelling, pattern: OnceLock::new() }).collect()
});

/// Rules by the ops that they end in.
type ByOp = HashMap<&'static str, Vec<(&'static Spelling, &'static Pattern)>>;

/// The rules that may fit somewhere in the graph.
fn rules(part: &Part) -> ByOp {
    let ops: HashSet<&str> = part.graph.nodes.iter().map(|n| canonical(&n.op)).collect();
    let mut by_op = ByOp::default();
    for rule in RULES.iter().filter(|r| r.spelling.telling.iter().all(|op| ops.contains(op))) {
        if let Some(pattern) = rule.pattern() {
            by_op.entry(pattern.op()).or_default().push((&rule.spelling, pattern));
        }
    }
    by_op
}

pub(super) fn run(part: &mut Part) {
    let by_op = rules(part);
    if by_op.is_empty() {
        return;
    }
    let readers = Readers::of(part);
    let mut taken = vec![false; part.graph.nodes.len()];
    // From the end, so that what a greater match takes up isn't matched by itself before.
    for &index in part.ordered().iter().rev() {
        let node = &part.graph.nodes[index];
        let Some(rules) = by_op.get(canonical(&node.op)).filter(|_| !taken[index] && is_single(node)) else {
            continue;
        };
        let output = Output::new(index, 0);
        let found = rules.iter().find_map(|(spelling, pattern)| {
            let found = pattern.find(part, &readers, output)?;
            Some((spelling.op, (spelling.attrs)(part, &found)?, found))
        });
        let Some((op, mut attrs, found)) = found else { continue };
        found.members().for_each(|n| taken[n] = true);
        attrs.insert("T".to_owned(), Attr::Type(DType::F32));
        let node = &mut part.graph.nodes[index];
        node.op = op.to_owned();
        node.inputs = found.args;
        node.attrs = attrs;
    }
}

/// An activation is one op of this name.
pub(super) const ACTIVATION: &str = "ModelarkActivation";
const LAYER_NORM: &str = "ModelarkLayerNorm";
const SOFTMAX: &str = "ModelarkSoftmax";

fn activation(
    name: &'static str,
    telling: &'static [&'static str],
    trace: impl Fn(&mut Builder, Sym) -> Result<Sym> + Send + Sync + 'static,
) -> Spelling {
    Spelling {
        dtypes: &[DType::F32],
        op: ACTIVATION,
        telling,
        free: &[],
        attrs: Box::new(move |_, _| Some(Attrs::from([("activation".to_owned(), Attr::from(name))]))),
        trace: Box::new(move |b, args| trace(b, first(args)?)),
    }
}

fn first(args: &[Sym]) -> Result<Sym> {
    args.first().copied().ok_or_else(|| Error::graph("a spelling without arguments"))
}

fn times(b: &mut Builder, x: Sym, by: f32) -> Result<Sym> {
    let by = b.scalar(by)?;
    b.mul(by, x)
}

/// `1 + erf(x / √2)`, by a quotient or a product.
fn one_and_erf(b: &mut Builder, x: Sym, by_quotient: bool) -> Result<Sym> {
    let inner = if by_quotient {
        let root = b.scalar(std::f32::consts::SQRT_2)?;
        b.div(x, root)?
    } else {
        times(b, x, std::f32::consts::FRAC_1_SQRT_2)?
    };
    let erf = b.op("Erf").input(inner).one()?;
    let one = b.scalar(1.0f32)?;
    b.add(one, erf)
}

/// `1 + tanh(√(2/π) (x + 0.044715 x³))`.
fn one_and_tanh(b: &mut Builder, x: Sym, by_pow: bool) -> Result<Sym> {
    let cube = if by_pow {
        let three = b.scalar(3.0f32)?;
        b.op("Pow").input(x).input(three).one()?
    } else {
        let square = b.op("Square").input(x).one()?;
        b.mul(square, x)?
    };
    let cube = times(b, cube, 0.044_715)?;
    let sum = b.add(x, cube)?;
    let scaled = times(b, sum, 0.797_884_6)?;
    let tanh = b.op("Tanh").input(scaled).one()?;
    let one = b.scalar(1.0f32)?;
    b.add(one, tanh)
}

/// `x / 2 * factor(x)`, in either grouping.
fn half_times(b: &mut Builder, x: Sym, factor: Sym, first: bool) -> Result<Sym> {
    if first {
        let half = times(b, x, 0.5)?;
        return b.mul(half, factor);
    }
    let half = times(b, factor, 0.5)?;
    b.mul(x, half)
}

/// How a hard sigmoid is spelled.
#[derive(Clone, Copy, PartialEq)]
enum Hard {
    /// `max(min(x / 5 + 1/2, 1), 0)`.
    Fifth,
    /// `max(min(x / 6 + 1/2, 1), 0)`, by a product or a quotient.
    Sixth,
    SixthByQuotient,
    /// `relu6(x + 3) / 6`, likewise.
    Relu6,
    Relu6ByQuotient,
}

impl Hard {
    fn telling(self) -> &'static [&'static str] {
        match self {
            Hard::Fifth | Hard::Sixth | Hard::SixthByQuotient => &["Minimum", "Maximum"],
            Hard::Relu6 | Hard::Relu6ByQuotient => &["Relu6"],
        }
    }
}

const HARD: [Hard; 5] = [Hard::Fifth, Hard::Sixth, Hard::SixthByQuotient, Hard::Relu6, Hard::Relu6ByQuotient];

fn hard_sigmoid(b: &mut Builder, x: Sym, way: Hard) -> Result<Sym> {
    let six = b.scalar(6.0f32)?;
    let line = match way {
        Hard::Fifth => times(b, x, 0.2)?,
        Hard::Sixth => times(b, x, 1.0 / 6.0)?,
        Hard::SixthByQuotient => b.div(x, six)?,
        Hard::Relu6 | Hard::Relu6ByQuotient => {
            let three = b.scalar(3.0f32)?;
            let sum = b.add(x, three)?;
            let gate = b.op("Relu6").input(sum).one()?;
            return if way == Hard::Relu6 { times(b, gate, 1.0 / 6.0) } else { b.div(gate, six) };
        }
    };
    let (half, one, zero) = (b.scalar(0.5f32)?, b.scalar(1.0f32)?, b.scalar(0.0f32)?);
    let line = b.add(line, half)?;
    let line = b.minimum(line, one)?;
    b.maximum(line, zero)
}

/// `y relu6(x + 3)`.
fn times_relu6(b: &mut Builder, y: Sym, x: Sym) -> Result<Sym> {
    let three = b.scalar(3.0f32)?;
    let sum = b.add(x, three)?;
    let gate = b.op("Relu6").input(sum).one()?;
    b.mul(y, gate)
}

/// The softmax as quotients of powers, along whatever axes.
fn softmax() -> Spelling {
    Spelling {
        dtypes: &[DType::F32, DType::I32, DType::I32],
        op: SOFTMAX,
        telling: &["Max", "Exp"],
        free: &[],
        attrs: Box::new(|_, _| Some(Attrs::from([("N".to_owned(), Attr::Int(3))]))),
        trace: Box::new(|b, args| {
            let &[x, axes, again] = args else { return Err(unfit()) };
            let greatest = b.op("Max").input(x).input(axes).attr("keep_dims", true).one()?;
            let moved = b.sub(x, greatest)?;
            let powers = b.op("Exp").input(moved).one()?;
            let sum = b.op("Sum").input(powers).input(again).attr("keep_dims", true).one()?;
            b.div(powers, sum)
        }),
    }
}

fn activations() -> Vec<Spelling> {
    let mut all = vec![
        activation("Swish", &["Sigmoid"], |b, x| {
            let gate = b.op("Sigmoid").input(x).one()?;
            b.mul(x, gate)
        }),
        activation("Swish", &["Sigmoid"], |b, x| {
            let same = times(b, x, 1.0)?;
            let gate = b.op("Sigmoid").input(same).one()?;
            b.mul(x, gate)
        }),
        activation("GeluExact", &["Erfc"], |b, x| {
            let negative = b.op("Neg").input(x).one()?;
            let scaled = times(b, negative, std::f32::consts::FRAC_1_SQRT_2)?;
            let share = b.op("Erfc").input(scaled).one()?;
            half_times(b, x, share, true)
        }),
    ];
    for way in HARD {
        let name = if way == Hard::Fifth { "HardSigmoid:0.2" } else { "HardSigmoid:0.16666667" };
        all.push(activation(name, way.telling(), move |b, x| hard_sigmoid(b, x, way)));
        if way != Hard::Fifth {
            all.push(activation("HardSwish", way.telling(), move |b, x| {
                let gate = hard_sigmoid(b, x, way)?;
                b.mul(x, gate)
            }));
        }
    }
    all.push(activation("HardSwish", &["Relu6"], |b, x| {
        let product = times_relu6(b, x, x)?;
        times(b, product, 1.0 / 6.0)
    }));
    all.push(activation("HardSwish", &["Relu6"], |b, x| {
        let product = times_relu6(b, x, x)?;
        let six = b.scalar(6.0f32)?;
        b.div(product, six)
    }));
    all.push(activation("HardSwish", &["Relu6"], |b, x| {
        let sixth = times(b, x, 1.0 / 6.0)?;
        times_relu6(b, sixth, x)
    }));
    for (first, way) in [(true, true), (true, false), (false, true), (false, false)] {
        all.push(activation("GeluExact", &["Erf"], move |b, x| {
            let factor = one_and_erf(b, x, way)?;
            half_times(b, x, factor, first)
        }));
        all.push(activation("GeluApproximate", &["Tanh"], move |b, x| {
            let factor = one_and_tanh(b, x, way)?;
            half_times(b, x, factor, first)
        }));
    }
    all
}

/// Layer normalisation as an op of `x`, scale, offset, and what says along which axes.
fn layer_norms() -> Vec<Spelling> {
    let by_moments = |with_negative: bool| Spelling {
        dtypes: &[DType::F32, DType::F32, DType::F32, DType::F32, DType::I32, DType::I32],
        op: LAYER_NORM,
        telling: &["SquaredDifference", "Rsqrt"],
        free: &[],
        attrs: Box::new(|_, _| Some(Attrs::new())),
        trace: Box::new(move |b, args| {
            let &[x, scale, offset, epsilon, axes, again] = args else { return Err(unfit()) };
            let mean = b.op("Mean").input(x).input(axes).attr("keep_dims", true).one()?;
            let squares = b.op("SquaredDifference").input(x).input(mean).one()?;
            let variance = b.op("Mean").input(squares).input(again).attr("keep_dims", true).one()?;
            let sum = b.add(variance, epsilon)?;
            let root = b.op("Rsqrt").input(sum).one()?;
            let factor = b.mul(root, scale)?;
            let scaled = b.mul(x, factor)?;
            let shift = if with_negative {
                let negative = b.op("Neg").input(mean).one()?;
                let moved = b.mul(negative, factor)?;
                b.add(moved, offset)?
            } else {
                let moved = b.mul(mean, factor)?;
                b.sub(offset, moved)?
            };
            b.add(scaled, shift)
        }),
    };
    let by_batch_norm = Spelling {
        dtypes: &[DType::F32, DType::F32, DType::F32, DType::I32, DType::I32],
        op: LAYER_NORM,
        telling: &["FusedBatchNormV3", "Fill"],
        free: &["epsilon"],
        attrs: Box::new(|part, found| {
            let node = found.node(part, "FusedBatchNormV3")?;
            let epsilon = part.attr(node, "epsilon").and_then(Attr::as_float)?;
            Some(Attrs::from([("epsilon".to_owned(), Attr::Float(epsilon))]))
        }),
        trace: Box::new(trace_by_batch_norm),
    };
    vec![by_moments(true), by_moments(false), by_batch_norm]
}

fn unfit() -> Error {
    Error::graph("a spelling of other arguments")
}

/// Keras 2's way: batch normalisation in training of a matrix whose "channels" are the rows.
fn trace_by_batch_norm(b: &mut Builder, args: &[Sym]) -> Result<Sym> {
    let &[x, scale, offset, end, begin] = args else { return Err(unfit()) };
    let shape = b.shape(x)?;
    let (zero, one) = (b.ints(&[0])?, b.ints(&[1])?);
    let leading = b.op("StridedSlice").inputs(&[shape, zero, end, one]).attr("begin_mask", 1i64).one()?;
    let trailing = b.op("StridedSlice").inputs(&[shape, begin, zero, one]).attr("end_mask", 1i64).one()?;
    let rows = b.op("Prod").input(leading).input(zero).one()?;
    let columns = b.op("Prod").input(trailing).input(zero).one()?;
    let unit = b.scalar(1i32)?;
    let matrix = b.op("Pack").inputs(&[unit, rows, columns, unit]).attr("axis", 0i64).one()?;
    let matrix = b.reshape_to(x, matrix)?;
    let full = |b: &mut Builder, v: f32| -> Result<Sym> {
        let row = b.op("Pack").input(rows).attr("axis", 0i64).one()?;
        let v = b.scalar(v)?;
        b.op("Fill").input(row).input(v).one()
    };
    let (ones, zeros) = (full(b, 1.0)?, full(b, 0.0)?);
    let nothing = b.constant(Tensor::zeros(DType::F32, [0])?)?;
    let call = b.op("FusedBatchNormV3").inputs(&[matrix, ones, zeros, nothing, nothing]);
    let normal = first(&call.attr("data_format", "NCHW").attr("is_training", true).all()?)?;
    let normal = b.reshape_to(normal, shape)?;
    let scaled = b.mul(normal, scale)?;
    b.add(scaled, offset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{agree, numbers};

    #[test]
    fn every_spelling_can_be_traced_and_has_what_is_telling_of_it() {
        for (i, rule) in RULES.iter().enumerate() {
            let pattern = rule.pattern().unwrap_or_else(|| panic!("spelling {i} can't be traced"));
            let telling = rule.spelling.telling;
            assert!(
                !telling.is_empty() && telling.iter().all(|op| pattern.has(op)),
                "spelling {i}: {telling:?}"
            );
        }
    }

    #[test]
    fn spelled_activations_are_one_step() {
        for (i, spelling) in activations().into_iter().enumerate() {
            // Far enough out for what is flat there.
            let wide = |x: Tensor| {
                Tensor::from_vec(x.as_slice::<f32>().expect("f32").iter().map(|v| v * 5.0).collect(), [3, 50])
            };
            let x = wide(numbers(&[3, 50], 1)).expect("tensor");
            let ops = agree(&[x], &[], |b, x, _| Ok(vec![(spelling.trace)(b, x)?]));
            assert_eq!(ops, [ACTIVATION], "spelling {i}");
        }
    }

    #[test]
    fn spelled_layer_norms_are_one_step() {
        for n in [5, 40] {
            check_layer_norms(n);
        }
    }

    /// With rows of `n` elements.
    fn check_layer_norms(n: usize) {
        let weights = [numbers(&[n], 2), numbers(&[n], 3)];
        let x = [numbers(&[2, 3, n], 1)];
        for (i, spelling) in layer_norms().into_iter().enumerate() {
            for axis in [2, -1, 1] {
                // The way by batch normalisation knows no negative axes, and in the middle the scale wouldn't fit.
                if spelling.dtypes.len() == 5 && axis < 0 {
                    continue;
                }
                let ops = agree(&x, &weights, |b, x, w| {
                    let axes = b.ints(&[axis])?;
                    let epsilon = b.scalar(1e-3f32)?;
                    let mut args = vec![x[0], w[0], w[1]];
                    args.extend(if spelling.dtypes.len() == 5 {
                        vec![axes, axes]
                    } else {
                        vec![epsilon, axes, axes]
                    });
                    Ok(vec![(spelling.trace)(b, &args)?])
                });
                assert_eq!(ops, [LAYER_NORM], "spelling {i}, axis {axis}");
            }
        }
    }

    #[test]
    fn a_spelled_softmax_is_one_step() {
        for axes in [&[2][..], &[-1], &[1], &[1, 2]] {
            let ops = agree(&[numbers(&[2, 3, 5], 1)], &[], |b, x, _| {
                let axes = b.ints(axes)?;
                Ok(vec![(softmax().trace)(b, &[x[0], axes, axes])?])
            });
            assert_eq!(ops, [SOFTMAX], "{axes:?}");
        }
        // Powers that are divided by another's sum are none, nor those that others read.
        let ops = agree(&[numbers(&[2, 5], 1)], &[], |b, x, _| {
            let axis = b.ints(&[1])?;
            let greatest = b.op("Max").input(x[0]).input(axis).attr("keep_dims", true).one()?;
            let moved = b.sub(x[0], greatest)?;
            let powers = b.op("Exp").input(moved).one()?;
            let sum = b.op("Sum").input(powers).input(axis).attr("keep_dims", true).one()?;
            let twice = b.op("Sum").input(moved).input(axis).attr("keep_dims", true).one()?;
            Ok(vec![b.div(powers, sum)?, b.div(powers, twice)?])
        });
        assert!(!ops.contains(&SOFTMAX.to_owned()), "{ops:?}");
    }

    #[test]
    fn other_lines_are_no_hard_sigmoids() {
        for (slope, offset, top) in [(0.3f32, 0.5f32, 1.0f32), (0.2, 0.4, 1.0), (0.2, 0.5, 2.0)] {
            let ops = agree(&[numbers(&[3, 50], 1)], &[], |b, x, _| {
                let line = times(b, x[0], slope)?;
                let (offset, top, zero) = (b.scalar(offset)?, b.scalar(top)?, b.scalar(0.0f32)?);
                let line = b.add(line, offset)?;
                let line = b.minimum(line, top)?;
                Ok(vec![b.maximum(line, zero)?])
            });
            assert!(!ops.contains(&ACTIVATION.to_owned()), "{ops:?}");
        }
    }

    #[test]
    fn what_is_read_elsewhere_is_no_spelling() {
        let ops = agree(&[numbers(&[3, 4], 1)], &[], |b, x, _| {
            let gate = b.op("Sigmoid").input(x[0]).one()?;
            Ok(vec![b.mul(x[0], gate)?, gate])
        });
        assert_eq!(ops, ["Sigmoid", "Mul"]);
    }
}
