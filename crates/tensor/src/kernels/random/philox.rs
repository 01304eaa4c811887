//! Philox 4x32-10, a random generator that counts.

/// The generator: a 128-bit counter and a 64-bit key, which make four words for each value of the counter
/// (TensorFlow: `PhiloxRandom`; `tf.random.Algorithm.PHILOX`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Philox {
    counter: u128,
    key: u64,
}

impl Philox {
    /// A generator with this key at this value of its counter.
    pub const fn new(counter: u128, key: u64) -> Self {
        Philox { counter, key }
    }

    /// What TensorFlow makes of an op's attributes `seed` and `seed2`.
    pub const fn from_seeds(seed: u64, seed2: u64) -> Self {
        Philox { counter: (seed2 as u128) << 64, key: seed }
    }

    /// What TensorFlow makes of the two numbers that are the seed of a stateless op: they are mixed first, so that any
    /// two do.
    pub fn from_seed_pair(seed: [u64; 2]) -> Self {
        let start = Philox::new(u128::from(seed[0]) | u128::from(seed[1]) << 64, 0x0246_1e29_3ec8_f720);
        let [a, b, c, d] = start.words();
        Philox::new((u128::from(c) | u128::from(d) << 32) << 64, u64::from(a) | u64::from(b) << 32)
    }

    /// The counter.
    pub const fn counter(&self) -> u128 {
        self.counter
    }

    /// The key.
    pub const fn key(&self) -> u64 {
        self.key
    }

    /// The four words at this value of the counter.
    pub fn words(&self) -> [u32; 4] {
        let mut c: [u32; 4] = std::array::from_fn(|i| (self.counter >> (32 * i)) as u32);
        let mut key = [self.key as u32, (self.key >> 32) as u32];
        for _ in 0..10 {
            let low = u64::from(c[0]) * 0xd251_1f53;
            let high = u64::from(c[2]) * 0xcd9e_8d57;
            c = [
                (high >> 32) as u32 ^ c[1] ^ key[0],
                high as u32,
                (low >> 32) as u32 ^ c[3] ^ key[1],
                low as u32,
            ];
            key = [key[0].wrapping_add(0x9e37_79b9), key[1].wrapping_add(0xbb67_ae85)];
        }
        c
    }

    /// The four words, the counter going on.
    pub fn next_words(&mut self) -> [u32; 4] {
        let words = self.words();
        self.skip(1);
        words
    }

    /// Goes on by so many values of the counter.
    pub fn skip(&mut self, by: u128) {
        self.counter = self.counter.wrapping_add(by);
    }

    /// The same generator further on.
    pub fn skipped(mut self, by: u128) -> Self {
        self.skip(by);
        self
    }
}

/// A generator's words one by one (TensorFlow: `SingleSampleAdapter`, `SimplePhilox`).
#[derive(Debug, Clone)]
pub struct Words {
    generator: Philox,
    words: [u32; 4],
    used: usize,
}

impl Words {
    /// The words of `generator` from its counter on.
    pub const fn new(generator: Philox) -> Self {
        Words { generator, words: [0; 4], used: 4 }
    }

    /// The next word.
    pub fn word(&mut self) -> u32 {
        if self.used == 4 {
            self.words = self.generator.next_words();
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// A number from 0 up to, but not, 1.
    pub fn single(&mut self) -> f32 {
        unit_f32(self.word())
    }

    /// A number from 0 up to, but not, 1, of two words.
    pub fn double(&mut self) -> f64 {
        let first = self.word();
        unit_f64(first, self.word())
    }

    /// A number under `n`, all being equally likely; 0 for 0.
    pub fn below(&mut self, n: u32) -> u32 {
        if n & n.wrapping_sub(1) == 0 {
            return self.word() & n.wrapping_sub(1);
        }
        let rest = (u32::MAX % n) + 1;
        loop {
            let word = self.word();
            if word >= rest {
                return word % n;
            }
        }
    }

    /// As [`Words::below`], of 64 bits.
    pub fn below_wide(&mut self, n: u64) -> u64 {
        let mut wide = || {
            let low = u64::from(self.word());
            low | u64::from(self.word()) << 32
        };
        if n & n.wrapping_sub(1) == 0 {
            return wide() & n.wrapping_sub(1);
        }
        let rest = (u64::MAX % n) + 1;
        loop {
            let word = wide();
            if word >= rest {
                return word % n;
            }
        }
    }
}

/// A word as a number from 0 up to, but not, 1.
pub(super) fn unit_f32(word: u32) -> f32 {
    f32::from_bits(127 << 23 | word & 0x7f_ffff) - 1.0
}

/// Two words as a number from 0 up to, but not, 1.
pub(super) fn unit_f64(high: u32, low: u32) -> f64 {
    f64::from_bits(1023 << 52 | u64::from(high & 0xf_ffff) << 32 | u64::from(low)) - 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors that the generator's authors published.
    #[test]
    fn words_are_as_published() {
        assert_eq!(Philox::new(0, 0).words(), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            Philox::new(u128::MAX, u64::MAX).words(),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
    }

    #[test]
    fn skipping_is_drawing() {
        let mut a = Philox::from_seeds(1, 2);
        for _ in 0..3 {
            a.next_words();
        }
        assert_eq!(a, Philox::from_seeds(1, 2).skipped(3));
        let mut words = Words::new(Philox::from_seeds(1, 2));
        let drawn: Vec<u32> = (0..5).map(|_| words.word()).collect();
        assert_eq!(drawn[4], Philox::from_seeds(1, 2).skipped(1).words()[0]);
        for n in [1, 3, 8, 1000] {
            assert!(words.below(n) < n && words.below_wide(n.into()) < n.into());
        }
    }
}
