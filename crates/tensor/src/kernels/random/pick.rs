//! Shuffling, and choosing classes to compare with.

use std::collections::HashSet;

use super::{Philox, Words};
use crate::{Error, Result};

/// The numbers under `n` in random order (`RandomShuffle`).
pub fn permutation(generator: &Philox, n: usize) -> Vec<i64> {
    let mut words = Words::new(*generator);
    let mut order: Vec<i64> = (0..n as i64).collect();
    for i in 0..n.saturating_sub(1) {
        // Fewer than 2^32 rows, as TensorFlow has them.
        let by = words.word() % u32::try_from(n - i).unwrap_or(u32::MAX);
        order.swap(i, i + by as usize);
    }
    order
}

/// Where `index` goes when the numbers up to `last` are shuffled, without shuffling them (`RandomIndexShuffle`): a block
/// cipher, applied until it stays within.
///
/// # Errors
/// When `index` is over `last`, or `rounds` isn't even and at least 4.
pub fn shuffled_index(index: u64, key: [u32; 3], last: u64, rounds: usize) -> Result<u64> {
    if index > last {
        return Err(Error::value(format!("the index {index} is over the last one, {last}")));
    }
    if rounds < 4 || !rounds.is_multiple_of(2) || rounds > 1 << 16 {
        return Err(Error::value(format!("{rounds} rounds aren't an even number from 4")));
    }
    if last == 0 {
        return Ok(0);
    }
    let bits = (last as f64).log2().ceil() as u32;
    let half = ((bits + bits % 2).max(16) / 2).min(32);
    let mask = u64::MAX >> (64 - half);
    let left = |x: u64, by: u32| (x << by | x >> (half - by)) & mask;
    let right = |x: u64, by: u32| (x >> by | x << (half - by)) & mask;
    let mut keys: Vec<u64> = key.iter().map(|k| u64::from(*k) & mask).collect();
    let mut z = 0x7369_f885_192c_0ef5u64 & mask;
    for i in 3..rounds {
        let mixed = 0xffff_fffc ^ (z & 1) ^ keys[i - 3] ^ right(keys[i - 1], 3) ^ right(keys[i - 1], 4);
        keys.push(mixed & mask);
        z >>= 1;
    }
    let f = |x: u64| (left(x, 1) & left(x, 8)) ^ left(x, 2);
    let mut value = index;
    loop {
        let (mut high, mut low) = (value >> half & mask, value & mask);
        for pair in keys[..rounds].chunks_exact(2) {
            high ^= f(low) ^ pair[0];
            low ^= f(high) ^ pair[1];
        }
        value = high << half | low;
        if value <= last {
            return Ok(value);
        }
    }
}

/// How classes are chosen.
#[derive(Debug, Clone)]
pub enum Classes {
    /// Every class, in order.
    All,
    /// Each as likely as the others.
    Uniform(u64),
    /// The first the likeliest, as words by their rank.
    LogUniform(u64),
    /// As often as each was seen, and one time more.
    Seen(Vec<u32>),
    /// By weight.
    Weighted(Weights),
}

/// Weights, with the table that a weighted choice takes one step by (Walker's and Vose's).
#[derive(Debug, Clone)]
pub struct Weights {
    weights: Vec<f32>,
    total: f32,
    table: Vec<(f32, usize)>,
}

impl Weights {
    /// The table of these weights.
    ///
    /// # Errors
    /// When there are none, or one is negative or not finite.
    pub fn new(weights: Vec<f32>) -> Result<Weights> {
        if weights.is_empty() || weights.iter().any(|w| !w.is_finite() || *w < 0.0) {
            return Err(Error::value("weights must be finite and not negative, and there must be one"));
        }
        let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        let n = weights.len();
        let mut shares: Vec<f64> = weights.iter().map(|w| f64::from(*w) * n as f64 / sum).collect();
        let (mut low, mut high): (Vec<usize>, Vec<usize>) = (0..n).partition(|i| shares[*i] < 1.0);
        let mut other: Vec<usize> = (0..n).collect();
        let mut full = vec![true; n];
        while let (Some(l), Some(h)) = (low.last().copied(), high.last().copied()) {
            low.pop();
            high.pop();
            other[l] = h;
            full[l] = false;
            shares[h] -= 1.0 - shares[l];
            if shares[h] < 1.0 { low.push(h) } else { high.push(h) }
        }
        let table = (0..n).map(|i| (if full[i] { 1.0 } else { shares[i] as f32 }, other[i])).collect();
        let total = weights.iter().sum();
        Ok(Weights { weights, total, table })
    }
}

/// Classes that were chosen, and how often each, and each true class, was to be expected.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// The classes.
    pub classes: Vec<i64>,
    /// For each of them.
    pub expected: Vec<f32>,
    /// For each true class.
    pub expected_true: Vec<f32>,
}

impl Classes {
    /// How many classes there are; `count` if all are chosen.
    pub fn range(&self, count: usize) -> u64 {
        match self {
            Classes::All => count as u64,
            Classes::Uniform(n) | Classes::LogUniform(n) => *n,
            Classes::Seen(counts) => counts.len() as u64,
            Classes::Weighted(w) => w.weights.len() as u64,
        }
    }

    fn draw(&self, words: &mut Words) -> i64 {
        match self {
            Classes::All => 0,
            Classes::Uniform(n) => words.below_wide(*n) as i64,
            Classes::LogUniform(n) => {
                let value = (words.double() * (*n as f64).ln_1p()).exp() as i64 - 1;
                value.rem_euclid((*n).max(1) as i64)
            }
            Classes::Seen(counts) => {
                let total: u32 = counts.iter().fold(0, |a, c| a.saturating_add(*c));
                let mut left = words.below(total);
                let found = counts.iter().position(|c| {
                    let here = left < *c;
                    left = left.wrapping_sub(*c);
                    here
                });
                found.unwrap_or_default() as i64
            }
            Classes::Weighted(w) => {
                let share = words.single();
                let at = words.below(w.table.len() as u32) as usize;
                let (own, other) = w.table[at];
                (if share < own { at } else { other }) as i64
            }
        }
    }

    fn probability(&self, class: i64) -> f32 {
        match self {
            Classes::All => 1.0,
            Classes::Uniform(n) => (1.0 / *n as f64) as f32,
            Classes::LogUniform(n) => {
                (((class as f64 + 2.0) / (class as f64 + 1.0)).ln() / (*n as f64).ln_1p()) as f32
            }
            Classes::Seen(counts) => {
                let total: u32 = counts.iter().fold(0, |a, c| a.saturating_add(*c));
                let own = usize::try_from(class).ok().and_then(|c| counts.get(c)).copied();
                own.unwrap_or_default() as f32 / total as f32
            }
            Classes::Weighted(w) => {
                let own = usize::try_from(class).ok().and_then(|c| w.weights.get(c)).copied();
                own.unwrap_or_default() / w.total
            }
        }
    }

    /// `count` classes, each at most once if `unique`.
    ///
    /// # Errors
    /// When there are too few classes, a true one isn't among them, or as `check` says, which is called for each draw.
    pub fn choose(
        &self,
        generator: &Philox,
        count: usize,
        unique: bool,
        truth: &[i64],
        mut check: impl FnMut() -> Result<()>,
    ) -> Result<Chosen> {
        let range = self.range(count);
        if unique && count as u64 > range {
            return Err(Error::value(format!("{count} different classes can't be chosen of {range}")));
        }
        if let Some(odd) = truth.iter().find(|t| u64::try_from(**t).map_or(true, |t| t >= range)) {
            return Err(Error::value(format!("the true class {odd} isn't among {range}")));
        }
        if matches!(self, Classes::All) {
            let classes = (0..count as i64).collect();
            return Ok(Chosen { classes, expected: vec![1.0; count], expected_true: vec![1.0; truth.len()] });
        }
        let mut words = Words::new(*generator);
        let mut classes = Vec::new();
        let mut used = HashSet::new();
        let mut tries = 0u32;
        while classes.len() < count {
            check()?;
            tries = tries.checked_add(1).ok_or_else(|| Error::value("too many classes were drawn twice"))?;
            let class = self.draw(&mut words);
            if !unique || used.insert(class) {
                classes.push(class);
            }
        }
        let expected = |class: &i64| {
            let p = self.probability(*class);
            if tries as usize == count { p * count as f32 } else { -((tries as f32 * (-p).ln_1p()).exp_m1()) }
        };
        let expected_true = truth.iter().map(expected).collect();
        Ok(Chosen { expected: classes.iter().map(expected).collect(), classes, expected_true })
    }

    /// Counts the true classes, where the choice is by how often each was seen.
    pub fn learn(&mut self, truth: &[i64]) {
        if let Classes::Seen(counts) = self {
            for class in truth {
                if let Some(c) = usize::try_from(*class).ok().and_then(|c| counts.get_mut(c)) {
                    *c = c.saturating_add(1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_there_once() {
        let mut order = permutation(&Philox::from_seeds(1, 2), 50);
        assert_ne!(order, (0..50).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..50).collect::<Vec<_>>());
        let mut places: Vec<u64> =
            (0..100).map(|i| shuffled_index(i, [1, 2, 3], 99, 4).expect("index")).collect();
        places.sort_unstable();
        assert_eq!(places, (0..100).collect::<Vec<_>>());
        assert!(shuffled_index(5, [1, 2, 3], 4, 4).is_err() && shuffled_index(1, [1, 2, 3], 4, 5).is_err());
    }

    #[test]
    fn classes_come_as_often_as_expected() {
        let weights = Weights::new(vec![1.0, 2.0, 0.0, 5.0]).expect("weights");
        for classes in [
            Classes::Uniform(4),
            Classes::LogUniform(4),
            Classes::Seen(vec![1, 2, 0, 5]),
            Classes::Weighted(weights),
        ] {
            let chosen = classes
                .choose(&Philox::from_seeds(5, 5), 20_000, false, &[0, 1, 2, 3], || Ok(()))
                .expect("classes");
            for (class, expected) in chosen.expected_true.iter().enumerate() {
                let n = chosen.classes.iter().filter(|c| **c == class as i64).count();
                assert!(
                    (n as f32 - expected).abs() < 600.0,
                    "{classes:?}: {class} {n} times, not {expected}"
                );
            }
            assert!(classes.choose(&Philox::from_seeds(5, 5), 5, true, &[], || Ok(())).is_err());
            assert!(classes.choose(&Philox::from_seeds(5, 5), 1, true, &[4], || Ok(())).is_err());
        }
        assert!(Weights::new(vec![-1.0]).is_err());
    }
}
