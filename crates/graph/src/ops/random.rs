//! Random numbers: of a node's own generator, of a seed, of a key and counter, or of a generator that is a variable.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex, PoisonError};

use super::args::{extents, int, one};
use super::kept::Kept;
use super::{NodeAttrs, Op};
use crate::engine::{Context, Kernel, Value, Values, Variable, kernel};
use crate::tensor::kernels::random::fill::{self, RESERVED};
use crate::tensor::kernels::random::{Philox, ThreeFry, pick, sample};
use crate::tensor::kernels::{array, broadcast_shape};
use crate::tensor::{self, DType, Shape, Tensor, checked_elements};
use crate::{Error, Result};

/// The number that TensorFlow has for Philox.
const PHILOX: i64 = 1;
/// The number for ThreeFry, which TensorFlow runs where XLA compiles.
const THREEFRY: i64 = 2;
/// The number for "whatever suits", which is Philox here.
const AUTO: i64 = 3;

/// A number that nobody can know before.
pub(super) fn entropy() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// Where an op's random numbers come from.
pub(super) enum Source {
    /// A generator that the node keeps, seeded by its attributes.
    Node(Kept<Philox>),
    /// A seed of two numbers, the second input.
    Seed,
    /// A key, a counter and an algorithm, from the second input on.
    Key,
    /// A variable with the generator's state, and an algorithm, the first two inputs.
    Variable,
    /// A variable whose state tells the algorithm, the first input.
    Tagged,
}

/// A generator that is about to draw.
pub(super) enum Ready {
    Node(Arc<Mutex<Philox>>),
    Fixed(Philox),
    Other(ThreeFry),
    Variable(Arc<Variable>, bool),
}

impl Source {
    /// A generator seeded by the node's attributes `seed` and `seed2`, or by chance where both are 0.
    pub(super) fn node(a: &NodeAttrs<'_>) -> Result<Source> {
        let seeds = (a.int("seed")?, a.int("seed2")?);
        Ok(Source::Node(Kept::new(move || match seeds {
            (0, 0) => Philox::from_seeds(entropy(), entropy()),
            (a, b) => Philox::from_seeds(a as u64, b as u64),
        })))
    }

    /// The generator, the first of the other inputs, and the rest.
    fn split(&self, context: &dyn Context, inputs: Values) -> Result<(Ready, Tensor, Vec<Tensor>)> {
        let mut inputs = inputs.into_vec();
        let too_few = || Error::graph("there are too few inputs");
        let ready = match self {
            Source::Node(state) => Ready::Node(state.among(context.resources())?),
            Source::Seed => {
                let [seed] = drain(&mut inputs, 1)?;
                Ready::Fixed(Philox::from_seed_pair(seed_pair(seed.tensor()?)?))
            }
            Source::Key => {
                let [key, counter, algorithm] = drain(&mut inputs, 1)?;
                keyed(key.tensor()?, counter.tensor()?, algorithm.tensor()?)?
            }
            Source::Variable => {
                let [handle, algorithm] = drain(&mut inputs, 0)?;
                check_algorithm(int(algorithm.tensor()?, "the algorithm")?)?;
                Ready::Variable(handle.resource()?.variable()?.clone(), false)
            }
            Source::Tagged => {
                let [handle] = drain(&mut inputs, 0)?;
                Ready::Variable(handle.resource()?.variable()?.clone(), true)
            }
        };
        let mut rest = inputs.into_iter().map(Value::into_tensor);
        let first = rest.next().ok_or_else(too_few)??;
        Ok((ready, first, rest.collect::<Result<_>>()?))
    }
}

/// `N` values from place `at` on, taken out.
fn drain<const N: usize>(values: &mut Vec<Value>, at: usize) -> Result<[Value; N]> {
    if values.len() < at + N {
        return Err(Error::graph(format!("takes {} inputs at least, got {}", at + N, values.len())));
    }
    super::args::take(values.drain(at..at + N).collect())
}

/// What numbers are drawn with.
enum Generator {
    Philox(Philox),
    ThreeFry(ThreeFry),
}

impl Ready {
    /// As [`Ready::reserve`], whichever the algorithm.
    fn draw(self, samples: u128) -> Result<Generator> {
        match self {
            Ready::Other(generator) => Ok(Generator::ThreeFry(generator)),
            ready => ready.reserve(samples).map(Generator::Philox),
        }
    }

    /// The generator as it is, and the state behind it `samples` further on.
    pub(super) fn reserve(self, samples: u128) -> Result<Philox> {
        match self {
            Ready::Fixed(generator) => Ok(generator),
            Ready::Other(_) => Err(Error::compute("the op draws by Philox alone, not by ThreeFry")),
            Ready::Node(state) => {
                let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
                let now = *state;
                state.skip(samples);
                Ok(now)
            }
            Ready::Variable(variable, tagged) => {
                let mut now = None;
                variable.update(|state| {
                    let skip = usize::from(tagged);
                    let mut values = state.elements::<i64>()?.into_owned();
                    if tagged {
                        check_algorithm(values.first().copied().unwrap_or_default())?;
                    }
                    let Some([low, high, key]) = values.get_mut(skip..skip + 3) else {
                        return Err(Error::compute(format!("a generator's state has 3 numbers, not {}", values.len())));
                    };
                    let counter = u128::from(*low as u64) | u128::from(*high as u64) << 64;
                    let generator = Philox::new(counter, *key as u64);
                    now = Some(generator);
                    let after = generator.skipped(samples).counter();
                    (*low, *high) = (after as u64 as i64, (after >> 64) as u64 as i64);
                    let n = values.len();
                    Ok(Tensor::from_vec(values, [n])?)
                })?;
                now.ok_or_else(|| Error::compute("the generator has no state"))
            }
        }
    }
}

fn check_algorithm(algorithm: i64) -> Result<()> {
    if algorithm == PHILOX || algorithm == AUTO {
        return Ok(());
    }
    Err(Error::compute(format!("the op has no random numbers by algorithm {algorithm}; Philox is {PHILOX}")))
}

pub(super) fn seed_pair(seed: &Tensor) -> Result<[u64; 2]> {
    match seed.to_i64_vec()?[..] {
        [a, b] if seed.rank() == 1 => Ok([a as u64, b as u64]),
        _ => Err(Error::compute(format!("a seed has two numbers, got shape {:?}", seed.shape()))),
    }
}

fn words_of(t: &Tensor, what: &str) -> Result<Vec<u64>> {
    if t.dtype() != DType::U64 || t.rank() != 1 {
        return Err(Error::compute(format!("{what} is a list of uint64, got {} {:?}", t.dtype(), t.shape())));
    }
    Ok(t.elements::<u64>()?.into_owned())
}

/// The generator with this key and counter.
fn keyed(key: &Tensor, counter: &Tensor, algorithm: &Tensor) -> Result<Ready> {
    let algorithm = int(algorithm, "the algorithm")?;
    let (key, counter) = (words_of(key, "the key")?, words_of(counter, "the counter")?);
    match (algorithm, &key[..], &counter[..]) {
        (THREEFRY, [key], [counter, ..]) => Ok(Ready::Other(ThreeFry::new(*counter, *key))),
        (PHILOX | AUTO, [key], [low, high, ..]) => {
            Ok(Ready::Fixed(Philox::new(u128::from(*low) | u128::from(*high) << 64, *key)))
        }
        (PHILOX | AUTO | THREEFRY, ..) => Err(Error::compute(format!(
            "a key has 1 number, a counter 2 for Philox and 1 for ThreeFry; got {} and {}",
            key.len(),
            counter.len()
        ))),
        _ => Err(Error::compute(format!("there is no algorithm {algorithm}; Philox is {PHILOX}, ThreeFry {THREEFRY}"))),
    }
}

/// A distribution that is drawn from in tensors: from a generator, a dtype, a shape and bounds.
type Fill = fn(&Generator, DType, &[usize], &[Tensor]) -> tensor::Result<Tensor>;

macro_rules! fills {
    ($($name:ident)*) => {
        $(fn $name(g: &Generator, dtype: DType, shape: &[usize], _: &[Tensor]) -> tensor::Result<Tensor> {
            match g {
                Generator::Philox(g) => fill::$name(g, dtype, shape),
                Generator::ThreeFry(g) => g.$name(dtype, shape),
            }
        })*
    };
}

fills!(bits normal truncated_normal uniform);

fn uniform_int(g: &Generator, _: DType, shape: &[usize], bounds: &[Tensor]) -> tensor::Result<Tensor> {
    match (g, bounds) {
        (Generator::Philox(g), [low, high]) => fill::uniform_int(g, low, high, shape),
        (Generator::ThreeFry(g), [low, high]) => g.uniform_int(low, high, shape),
        _ => Err(tensor::Error::value("the least number and the end are missing")),
    }
}

fn drawing(a: &NodeAttrs<'_>, source: Source, f: Fill) -> Result<Box<dyn Kernel>> {
    let dtype = if a.get("dtype").is_some() { a.dtype("dtype")? } else { a.dtype("Tout")? };
    Ok(kernel(move |context, inputs| {
        let (ready, shape, rest) = source.split(context, inputs)?;
        let shape = extents(&shape, "the shape")?;
        let count = checked_elements(&shape)? as u128;
        one(f(&ready.draw(count * RESERVED)?, dtype, &shape, &rest)?)
    }))
}

/// A kernel's check for whoever draws, whose error is kept.
struct Check<'a> {
    context: &'a dyn Context,
    failed: Option<Error>,
}

impl Check<'_> {
    fn ask(&mut self) -> tensor::Result<()> {
        self.context.check().map_err(|e| {
            let message = e.to_string();
            self.failed = Some(e);
            tensor::Error::value(message)
        })
    }
}

/// Runs what draws number by number, asking the context now and then.
pub(super) fn checked<T>(
    context: &dyn Context,
    f: impl FnOnce(&mut dyn FnMut() -> tensor::Result<()>) -> tensor::Result<T>,
) -> Result<T> {
    let mut check = Check { context, failed: None };
    let done = f(&mut || check.ask());
    match check.failed {
        Some(e) => Err(e),
        None => Ok(done?),
    }
}

fn gamma(source: Source, whole: bool) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |context, inputs| {
        let (ready, shape, rest) = source.split(context, inputs)?;
        let [alpha] = &rest[..] else { return Err(Error::graph("takes alpha")) };
        let shape = whole_shape(&shape, alpha, whole)?;
        let generator = ready.reserve(checked_elements(&shape)? as u128 * RESERVED)?;
        one(checked(context, |check| sample::gamma(&generator, &shape, alpha, check))?)
    }))
}

fn poisson(a: &NodeAttrs<'_>, source: Source, whole: bool) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("dtype")?;
    Ok(kernel(move |context, inputs| {
        let (ready, shape, rest) = source.split(context, inputs)?;
        let [rate] = &rest[..] else { return Err(Error::graph("takes a rate")) };
        let shape = whole_shape(&shape, rate, whole)?;
        let generator = ready.reserve(checked_elements(&shape)? as u128 * RESERVED)?;
        one(checked(context, |check| sample::poisson(&generator, &shape, rate, dtype, check))?)
    }))
}

/// The result's shape: the one given, with the parameter's behind it unless it is there already.
fn whole_shape(shape: &Tensor, parameter: &Tensor, whole: bool) -> Result<Vec<usize>> {
    let mut shape = extents(shape, "the shape")?;
    if !whole {
        shape.extend_from_slice(parameter.shape());
    }
    Ok(shape)
}

fn binomial(a: &NodeAttrs<'_>, source: Source) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("dtype")?;
    Ok(kernel(move |context, inputs| {
        let (ready, shape, rest) = source.split(context, inputs)?;
        let [counts, probabilities] = &rest[..] else { return Err(Error::graph("takes counts and probabilities")) };
        let shape = extents(&shape, "the shape")?;
        let total = checked_elements(&shape)?;
        let batches = checked_elements(&broadcast_shape(counts.shape(), probabilities.shape())?)?;
        let samples = total / batches.max(1);
        let reserved = batches as u128 * 200 * (samples as u128 + 3) / 4 * RESERVED;
        let generator = ready.reserve(reserved)?;
        one(checked(context, |check| sample::binomial(&generator, &shape, counts, probabilities, dtype, check))?)
    }))
}

/// Logits, the number of samples and what the source needs.
fn multinomial(a: &NodeAttrs<'_>, seeded: bool) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("output_dtype")?;
    let node = if seeded { None } else { Some(Source::node(a)?) };
    Ok(kernel(move |context, inputs| {
        let mut inputs = inputs.into_vec();
        let [logits, count] = drain(&mut inputs, 0)?;
        let (logits, count) = (logits.into_tensor()?, int(count.tensor()?, "the number of samples")?);
        let count = usize::try_from(count).map_err(|_| Error::compute(format!("{count} samples")))?;
        let rows = logits.shape().first().copied().unwrap_or_default();
        checked_elements(&[rows, count, 8])?;
        // A number takes two words.
        let reserved = rows as u128 * (count.div_ceil(4) * 8) as u128 * RESERVED;
        let ready = match &node {
            Some(Source::Node(state)) => Ready::Node(state.among(context.resources())?),
            _ => {
                let [seed] = drain(&mut inputs, 0)?;
                Ready::Fixed(Philox::from_seed_pair(seed_pair(seed.tensor()?)?))
            }
        };
        let generator = if rows * count == 0 { ready.reserve(0)? } else { ready.reserve(reserved)? };
        one(array::cast(&sample::multinomial(&generator, &logits, count)?, dtype)?)
    }))
}

/// The rows of a tensor in random order.
fn shuffle(source: Source) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |context, inputs| {
        let (ready, value, _) = source.split(context, inputs)?;
        let rows = value.shape().first().copied().unwrap_or_default();
        if value.len() <= 1 || rows <= 1 {
            return one(value);
        }
        let generator = ready.reserve((rows as u128 - 1).div_ceil(4))?;
        let order = Tensor::from_vec(pick::permutation(&generator, rows), [rows])?;
        one(array::gather(&value, &order, 0, 0)?)
    }))
}

/// Where indices go when everything up to a last index is shuffled.
fn index_shuffle(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let rounds = usize::try_from(a.int("rounds")?).unwrap_or_default();
    Ok(kernel(move |_, inputs| {
        let [index, seed, last] = super::args::tensors(inputs)?;
        let seeds = if seed.dtype() == DType::U32 || seed.dtype().is_integer() {
            array::cast(&seed, DType::I64)?.elements::<i64>()?.into_owned()
        } else {
            return Err(Error::compute(format!("a seed of {}", seed.dtype())));
        };
        if seed.shape().last() != Some(&3) || seed.rank() > 2 {
            return Err(Error::compute(format!("a seed has three numbers, got shape {:?}", seed.shape())));
        }
        let (indices, lasts) = (index.to_i64_vec()?, last.to_i64_vec()?);
        let many = seeds.len() / 3;
        let count = indices.len().max(lasts.len()).max(many);
        let fits = |n: usize| n == 1 || n == count;
        if index.rank() > 1 || last.rank() > 1 || ![indices.len(), lasts.len(), many].into_iter().all(fits) {
            return Err(Error::compute("indices, seeds and last indices don't go together"));
        }
        let at = |n: usize, i: usize| if n == 1 { 0 } else { i };
        let one_of = |i: usize| -> Result<i64> {
            let key = &seeds[at(many, i) * 3..][..3];
            let (index, last) = (indices[at(indices.len(), i)], lasts[at(lasts.len(), i)]);
            let wide = |v: i64| u64::try_from(v).map_err(|_| Error::compute(format!("an index is {v}")));
            let key = [key[0] as u32, key[1] as u32, key[2] as u32];
            Ok(pick::shuffled_index(wide(index)?, key, wide(last)?, rounds)? as i64)
        };
        let values = (0..count).map(one_of).collect::<Result<Vec<_>>>()?;
        let scalar = index.rank() == 0 && last.rank() == 0 && seed.rank() == 1;
        let shape: &[usize] = if scalar { &[] } else { &[count] };
        one(array::cast(&Tensor::from_vec(values, shape)?, index.dtype())?)
    }))
}

/// Numbers between bounds of their own for each row.
fn parameterized(a: &NodeAttrs<'_>, source: Source) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("dtype")?;
    /// Rows of one distribution are drawn in parts of so many.
    const PART: usize = 100;
    Ok(kernel(move |context, inputs| {
        let (ready, shape, rest) = source.split(context, inputs)?;
        let [means, deviations, least, greatest] = &rest[..] else {
            return Err(Error::graph("takes means, deviations and bounds"));
        };
        let shape = extents(&shape, "the shape")?;
        let Some(&rows) = shape.first() else { return Err(Error::compute("the shape has no dimension")) };
        let all = [means, deviations, least, greatest];
        if let Some(odd) = all.iter().find(|t| t.rank() > 1 || (t.len() != 1 && t.len() != rows)) {
            return Err(Error::compute(format!("parameters of shape {:?} don't go with {rows} rows", odd.shape())));
        }
        let total = checked_elements(&shape)?;
        let (parts, part) = if all.iter().all(|t| t.len() == 1) {
            (total.div_ceil(PART), PART)
        } else {
            (rows, total / rows.max(1))
        };
        let generator = ready.reserve(parts as u128 * 2000 * (part as u128 + 3) / 4)?;
        let wide = all.iter().map(|t| array::cast(t, DType::F64)).collect::<tensor::Result<Vec<_>>>()?;
        let values = wide.iter().map(|t| t.elements::<f64>()).collect::<tensor::Result<Vec<_>>>()?;
        let at = |k: usize, b: usize| values[k][if values[k].len() == 1 { 0 } else { b }];
        let mut out = Tensor::zeros(DType::F64, &shape)?;
        let of = |b: usize| sample::Truncated {
            mean: at(0, b),
            deviation: at(1, b),
            least: at(2, b),
            greatest: at(3, b),
        };
        sample::truncated(&generator, out.make_mut::<f64>()?, part, dtype != DType::F64, of)?;
        one(array::cast(&out, dtype)?)
    }))
}

/// The same of a seed, for parameters that are broadcast to the last dimensions of the shape.
fn stateless_truncated(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("dtype")?;
    Ok(kernel(move |context, inputs| {
        let (ready, shape, rest) = Source::Seed.split(context, inputs)?;
        let generator = ready.reserve(0)?;
        let shape = extents(&shape, "the shape")?;
        let [means, deviations, least, greatest] = &rest[..] else {
            return Err(Error::graph("takes means, deviations and bounds"));
        };
        let all = [means, deviations, least, greatest];
        let mut common = Shape::new();
        for t in all {
            common = broadcast_shape(&common, t.shape())?;
        }
        if !shape.ends_with(&common) {
            return Err(Error::compute(format!("parameters of shape {common:?} don't end the shape {shape:?}")));
        }
        let (total, batch) = (checked_elements(&shape)?, checked_elements(&common)?);
        let wide = all
            .iter()
            .map(|t| array::broadcast_to(&array::cast(t, DType::F64)?, &common))
            .collect::<tensor::Result<Vec<_>>>()?;
        let values = wide.iter().map(|t| t.elements::<f64>()).collect::<tensor::Result<Vec<_>>>()?;
        let samples = total / batch.max(1);
        // All numbers of one distribution are drawn before those of the next, and lie beside each other no more.
        let mut drawn = Tensor::zeros(DType::F64, [batch, samples])?;
        let of = |b: usize| {
            let [mean, deviation, least, greatest] = std::array::from_fn(|k| values[k][b]);
            sample::Truncated { mean, deviation, least, greatest }
        };
        sample::truncated(&generator, drawn.make_mut::<f64>()?, samples, dtype != DType::F64, of)?;
        let out = array::transpose(&drawn, &[1, 0])?.reshape(&shape)?;
        one(array::cast(&out, dtype)?)
    }))
}

fn key_and_counter(with_algorithm: bool) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [seed] = super::args::tensors(inputs)?;
        let generator = Philox::from_seed_pair(seed_pair(&seed)?);
        let counter = vec![generator.counter() as u64, (generator.counter() >> 64) as u64];
        let mut out = vec![Tensor::from_vec(vec![generator.key()], [1])?, Tensor::from_vec(counter, [2])?];
        if with_algorithm {
            out.push(Tensor::scalar(PHILOX as i32));
        }
        super::args::many(out)
    }))
}

/// The counter and the key that ThreeFry's state is.
fn pair(state: &Tensor) -> Result<(i64, i64)> {
    match state.elements::<i64>()?[..] {
        [counter, key] => Ok((counter, key)),
        _ => Err(Error::compute(format!("ThreeFry's state has 2 numbers, not {}", state.len()))),
    }
}

/// Moves a generator's state on.
fn skip(gives: bool) -> Result<Box<dyn Kernel>> {
    Ok(kernel(move |_, inputs| {
        let [handle, algorithm, delta] = super::args::take(inputs)?;
        let algorithm = int(algorithm.tensor()?, "the algorithm")?;
        let delta = delta.tensor()?;
        let by = match delta.dtype() {
            DType::U64 => u128::from(delta.item::<u64>()?),
            // A negative number goes back.
            _ => int(delta, "the number to skip")? as i128 as u128,
        };
        let variable = handle.resource()?.variable()?.clone();
        let before = variable.read()?;
        let by = by.wrapping_mul(RESERVED);
        if algorithm == THREEFRY {
            let (counter, key) = pair(&before)?;
            variable.assign(Tensor::from_vec(vec![counter.wrapping_add(by as i64), key], [2])?)?;
            // What is read has the length of Philox's state all the same.
            return if gives { one(Tensor::from_vec(vec![counter, key, 0], [3])?) } else { Ok(Values::new()) };
        }
        check_algorithm(algorithm)?;
        Ready::Variable(variable, false).reserve(by)?;
        if gives { one(before) } else { Ok(Values::new()) }
    }))
}

fn non_deterministic(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let dtype = a.dtype("dtype")?;
    Ok(kernel(move |_, inputs| {
        let [shape] = super::args::tensors(inputs)?;
        let generator = Philox::new(u128::from(entropy()) << 64, entropy());
        one(fill::bits(&generator, dtype, &extents(&shape, "the shape")?)?)
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("RandomUniform(shape: T) -> (output: dtype); seed: int = 0; seed2: int = 0; dtype: type; T: type; stateful", |a| drawing(a, Source::node(a)?, uniform)).ranks("1"),
    Op::new("RandomUniformInt(shape: T, minval: Tout, maxval: Tout) -> (output: Tout); seed: int = 0; seed2: int = 0; Tout: type; T: type; stateful", |a| drawing(a, Source::node(a)?, uniform_int)).ranks("1 0 0"),
    Op::new("RandomStandardNormal(shape: T) -> (output: dtype); seed: int = 0; seed2: int = 0; dtype: type; T: type; stateful", |a| drawing(a, Source::node(a)?, normal)).ranks("1"),
    Op::new("TruncatedNormal(shape: T) -> (output: dtype); seed: int = 0; seed2: int = 0; dtype: type; T: type; stateful", |a| drawing(a, Source::node(a)?, truncated_normal)).ranks("1"),
    Op::new("StatelessRandomUniform(shape: T, seed: Tseed) -> (output: dtype); dtype: type = float32; T: type = int32; Tseed: type = int64", |a| drawing(a, Source::Seed, uniform)),
    Op::new("StatelessRandomUniformInt(shape: T, seed: Tseed, minval: dtype, maxval: dtype) -> (output: dtype); dtype: type; T: type; Tseed: type = int64", |a| drawing(a, Source::Seed, uniform_int)),
    Op::new("StatelessRandomUniformFullInt(shape: T, seed: Tseed) -> (output: dtype); dtype: type = uint64; T: type = int32; Tseed: type = int64", |a| drawing(a, Source::Seed, bits)),
    Op::new("StatelessRandomNormal(shape: T, seed: Tseed) -> (output: dtype); dtype: type = float32; T: type = int32; Tseed: type = int64", |a| drawing(a, Source::Seed, normal)),
    Op::new("StatelessTruncatedNormal(shape: T, seed: Tseed) -> (output: dtype); dtype: type = float32; T: type = int32; Tseed: type = int64", |a| drawing(a, Source::Seed, truncated_normal)),
    Op::new("StatelessRandomUniformV2(shape: Tshape, key: uint64, counter: uint64, alg: int32) -> (output: dtype); dtype: type = float32; Tshape: type = int32", |a| drawing(a, Source::Key, uniform)),
    Op::new("StatelessRandomUniformIntV2(shape: Tshape, key: uint64, counter: uint64, alg: int32, minval: dtype, maxval: dtype) -> (output: dtype); dtype: type; Tshape: type = int32", |a| drawing(a, Source::Key, uniform_int)),
    Op::new("StatelessRandomUniformFullIntV2(shape: Tshape, key: uint64, counter: uint64, alg: int32) -> (output: dtype); dtype: type = uint64; Tshape: type = int32", |a| drawing(a, Source::Key, bits)),
    Op::new("StatelessRandomNormalV2(shape: Tshape, key: uint64, counter: uint64, alg: int32) -> (output: dtype); dtype: type = float32; Tshape: type = int32", |a| drawing(a, Source::Key, normal)),
    Op::new("StatelessTruncatedNormalV2(shape: Tshape, key: uint64, counter: uint64, alg: int32) -> (output: dtype); dtype: type = float32; Tshape: type = int32", |a| drawing(a, Source::Key, truncated_normal)),
    Op::new("StatefulUniform(resource: resource, algorithm: int64, shape: shape_dtype) -> (output: dtype); dtype: type = float32; shape_dtype: type = int64; stateful", |a| drawing(a, Source::Variable, uniform)),
    Op::new("StatefulUniformInt(resource: resource, algorithm: int64, shape: shape_dtype, minval: dtype, maxval: dtype) -> (output: dtype); dtype: type = int64; shape_dtype: type = int64; stateful", |a| drawing(a, Source::Variable, uniform_int)),
    Op::new("StatefulUniformFullInt(resource: resource, algorithm: int64, shape: shape_dtype) -> (output: dtype); dtype: type = uint64; shape_dtype: type = int64; stateful", |a| drawing(a, Source::Variable, bits)),
    Op::new("StatefulStandardNormalV2(resource: resource, algorithm: int64, shape: shape_dtype) -> (output: dtype); dtype: type = float32; shape_dtype: type = int64; stateful", |a| drawing(a, Source::Variable, normal)),
    Op::new("StatefulStandardNormal(resource: resource, shape: shape_dtype) -> (output: dtype); dtype: type = float32; shape_dtype: type = int64; stateful", |a| drawing(a, Source::Tagged, normal)),
    Op::new("StatefulTruncatedNormal(resource: resource, algorithm: int64, shape: shape_dtype) -> (output: dtype); dtype: type = float32; shape_dtype: type = int64; stateful", |a| drawing(a, Source::Variable, truncated_normal)),
    Op::new("RandomGamma(shape: S, alpha: T) -> (output: T); seed: int = 0; seed2: int = 0; S: type; T: type; stateful", |a| gamma(Source::node(a)?, false)),
    Op::new("StatelessRandomGammaV2(shape: T, seed: Tseed, alpha: dtype) -> (output: dtype); dtype: type; T: type; Tseed: type = int64", |_| gamma(Source::Seed, true)),
    Op::new("StatelessRandomGammaV3(shape: shape_dtype, key: uint64, counter: uint64, alg: int32, alpha: dtype) -> (output: dtype); dtype: type; shape_dtype: type = int32", |_| gamma(Source::Key, true)),
    Op::new("RandomPoisson(shape: S, rate: dtype) -> (output: dtype); seed: int = 0; seed2: int = 0; S: type; dtype: type; stateful", |a| poisson(a, Source::node(a)?, false)),
    Op::new("RandomPoissonV2(shape: S, rate: R) -> (output: dtype); seed: int = 0; seed2: int = 0; S: type; R: type = float64; dtype: type = int64; stateful", |a| poisson(a, Source::node(a)?, false)),
    Op::new("StatelessRandomPoisson(shape: T, seed: Tseed, lam: Rtype) -> (output: dtype); Rtype: type; dtype: type; T: type; Tseed: type = int64", |a| poisson(a, Source::Seed, true)),
    Op::new("StatelessRandomBinomial(shape: S, seed: Tseed, counts: T, probs: T) -> (output: dtype); S: type; Tseed: type = int64; T: type = float64; dtype: type = int64", |a| binomial(a, Source::Seed)),
    Op::new("StatefulRandomBinomial(resource: resource, algorithm: int64, shape: S, counts: T, probs: T) -> (output: dtype); S: type; T: type = float64; dtype: type = int64; stateful", |a| binomial(a, Source::Variable)),
    Op::new("Multinomial(logits: T, num_samples: int32) -> (output: output_dtype); seed: int = 0; seed2: int = 0; T: type; output_dtype: type = int64; stateful", |a| multinomial(a, false)),
    Op::new("StatelessMultinomial(logits: T, num_samples: int32, seed: Tseed) -> (output: output_dtype); T: type; Tseed: type = int64; output_dtype: type = int64", |a| multinomial(a, true)),
    Op::new("RandomShuffle(value: T) -> (output: T); seed: int = 0; seed2: int = 0; T: type; stateful", |a| shuffle(Source::node(a)?)),
    Op::new("StatelessShuffle(value: T, key: uint64, counter: uint64, alg: int32) -> (output: T); T: type", |_| shuffle(Source::Key)),
    Op::new("RandomIndexShuffle(index: dtype, seed: Tseed, max_index: dtype) -> (output: dtype); rounds: int = 4; dtype: type; Tseed: type", index_shuffle),
    Op::new("ParameterizedTruncatedNormal(shape: T, means: dtype, stdevs: dtype, minvals: dtype, maxvals: dtype) -> (output: dtype); seed: int = 0; seed2: int = 0; dtype: type; T: type; stateful", |a| parameterized(a, Source::node(a)?)),
    Op::new("StatelessRandomGetKeyCounter(seed: Tseed) -> (key: uint64, counter: uint64); Tseed: type = int64", |_| key_and_counter(false)),
    Op::new("StatelessRandomGetKeyCounterAlg(seed: Tseed) -> (key: uint64, counter: uint64, alg: int32); Tseed: type = int64", |_| key_and_counter(true)),
    Op::new("StatelessRandomGetAlg() -> (alg: int32); stateful", |_| Ok(kernel(|_, _| one(Tensor::scalar(PHILOX as i32))))),
    Op::new("RngSkip(resource: resource, algorithm: int64, delta: int64) -> (); stateful", |_| skip(false)),
    Op::new("RngReadAndSkip(resource: resource, alg: int32, delta: uint64) -> (value: int64); stateful", |_| skip(true)),
    Op::new("NonDeterministicInts(shape: shape_dtype) -> (output: dtype); dtype: type = int64; shape_dtype: type = int64; stateful", non_deterministic),
    Op::new("StatelessParameterizedTruncatedNormal(shape: S, seed: Tseed, means: dtype, stddevs: dtype, minvals: dtype, maxvals: dtype) -> (output: dtype); S: type; Tseed: type = int64; dtype: type", stateless_truncated),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Executable, Resource, Resources};
    use crate::{Attr, Builder};

    /// Runs one op of no other inputs than constants twice.
    fn twice(op: &str, inputs: &[Tensor], attrs: &[(&str, Attr)]) -> [Vec<f64>; 2] {
        let mut b = Builder::new("f");
        let inputs: Vec<_> = inputs.iter().map(|t| b.constant(t.clone()).expect("constant")).collect();
        let mut call = b.op(op).inputs(&inputs).attr("seed", 1i64).attr("seed2", 2i64);
        for (name, attr) in attrs {
            call = call.attr(name, attr.clone());
        }
        let out = call.all().expect(op)[0];
        let (f, library) = b.finish(&[("out", out)]).expect("function");
        let fetches: Vec<_> = f.results.iter().map(|r| r.output).collect();
        let run = Executable::new(&f.graph, &library, &[], &fetches, &[]).expect("plan");
        let resources = Resources::new();
        std::array::from_fn(|_| {
            let out = run.run(&resources, Values::new()).expect(op);
            let wide = array::cast(out[0].tensor().expect("tensor"), DType::F64).expect("cast");
            wide.elements::<f64>().expect("f64").to_vec()
        })
    }

    /// What TensorFlow's ops give when they run a second time, with seeds 1 and 2.
    #[test]
    fn generators_go_on_as_tensorflows() {
        let near = |got: &[f64], want: &[f64]| {
            assert_eq!(got.len(), want.len());
            assert!(got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-6), "{got:?} isn't {want:?}");
        };
        let ints = |v: &[i32]| Tensor::from_slice(v, [v.len()]).expect("ints");
        let float = [("dtype", Attr::Type(DType::F32))];
        let [a, b] = twice("RandomUniform", &[ints(&[3])], &float);
        near(&a, &[0.406396746635437, 0.8575996160507202, 0.05539584159851074]);
        near(&b, &[0.16840732097625732, 0.8891061544418335, 0.5354969501495361]);
        let [a, b] = twice("RandomShuffle", &[ints(&[0, 1, 2, 3, 4, 5])], &[]);
        near(&a, &[5.0, 1.0, 4.0, 0.0, 3.0, 2.0]);
        near(&b, &[5.0, 1.0, 4.0, 0.0, 2.0, 3.0]);
        let truth = Tensor::from_vec(vec![0i64], [1, 1]).expect("truth");
        let attrs = [
            ("num_true", Attr::Int(1)),
            ("num_sampled", Attr::Int(4)),
            ("unique", Attr::Bool(false)),
            ("range_max", Attr::Int(100)),
        ];
        near(&twice("UniformCandidateSampler", &[truth], &attrs)[1], &[53.0, 10.0, 67.0, 56.0]);
        let logits = Tensor::from_vec(vec![0.0f32, 1.0, 2.0], [1, 3]).expect("logits");
        let drawn = twice("Multinomial", &[logits, Tensor::scalar(5i32)], &[]);
        near(&drawn[1], &[1.0, 2.0, 1.0, 2.0, 2.0]);
        let drawn = twice("RandomGamma", &[ints(&[2]), Tensor::scalar(2.0f32)], &[]);
        near(&drawn[1], &[1.8044788837432861, 1.2996736764907837]);
        let p = [0.0f32, 1.0, -1.0, 2.0].map(Tensor::scalar);
        let mut inputs = vec![ints(&[2, 2])];
        inputs.extend(p);
        let drawn = twice("ParameterizedTruncatedNormal", &inputs, &float);
        near(&drawn[1], &[0.3164469599723816, 1.6462761163711548, -0.036053773015737534, 1.0968745946884155]);
    }

    #[test]
    fn without_a_seed_nobody_knows() {
        let attrs = crate::Attrs::default();
        let signature = super::super::signature("RandomUniform").expect("signature");
        let Source::Node(state) = Source::node(&NodeAttrs { signature, attrs: &attrs }).expect("source") else {
            panic!("a node's")
        };
        let draw = |r: &Resources| Ready::Node(state.among(r).expect("state")).reserve(1).expect("generator").words();
        let (one, other) = (Resources::new(), Resources::new());
        assert_ne!(draw(&one), draw(&other));
        assert_ne!(draw(&one), draw(&one));
    }

    /// What a generator of state [5, 6, 7] gives under TensorFlow.
    #[test]
    fn a_generator_in_a_variable_goes_on() {
        let state = Tensor::from_vec(vec![5i64, 6, 7], [3]).expect("state");
        let variable = Arc::new(Variable::with_value("g", state));
        let attrs = crate::Attrs::from([("dtype".to_owned(), Attr::Type(DType::I64))]);
        let signature = super::super::signature("StatefulRandomBinomial").expect("signature");
        let made = binomial(&NodeAttrs { signature, attrs: &attrs }, Source::Variable).expect("kernel");
        struct Alone(Resources);
        impl Context for Alone {
            fn resources(&self) -> &Resources {
                &self.0
            }
            fn node(&self) -> &str {
                "g"
            }
            fn call(&mut self, _: &crate::FuncRef, _: Values) -> Result<Values> {
                Err(Error::graph("there are no functions"))
            }
            fn check(&self) -> Result<()> {
                Ok(())
            }
        }
        for (want, after) in [([7i64, 6, 5, 8], 89605i64), ([4, 5, 6, 4], 179205)] {
            let inputs: Values = [
                Value::Resource(Resource::Variable(variable.clone())),
                Tensor::scalar(1i64).into(),
                Tensor::from_vec(vec![4i32], [1]).expect("shape").into(),
                Tensor::scalar(10.0f32).into(),
                Tensor::scalar(0.5f32).into(),
            ]
            .into_iter()
            .collect();
            let out = made.run(&mut Alone(Resources::new()), inputs).expect("drawn");
            assert_eq!(out[0].tensor().expect("tensor").to_i64_vec().expect("ints"), want);
            assert_eq!(variable.read().expect("state").to_i64_vec().expect("ints"), [after, 6, 7]);
        }
    }
}
