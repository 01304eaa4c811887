//! What an encoder writes a scan's symbols to: counts, from which codes are made (T.81, annex K.2), and bits.

use super::huffman::standard::Spec;

/// The tables of a scan: two for DC, then two for AC.
pub(super) const TABLES: usize = 4;

/// Takes a scan's symbols.
pub(super) trait Sink {
    /// A symbol of one of the tables.
    fn symbol(&mut self, table: usize, symbol: u8);
    /// The lower `n` bits, at most 16, as they are.
    fn bits(&mut self, bits: u32, n: u32);
}

/// How often each symbol comes.
pub(super) struct Counts([[usize; 256]; TABLES]);

impl Counts {
    pub(super) fn new() -> Counts {
        Counts([[0; 256]; TABLES])
    }

    /// The best codes for a table's symbols; none if it has no symbols.
    pub(super) fn best(&self, table: usize) -> Option<Codes> {
        let counts = self.0.get(table)?;
        counts.iter().any(|n| *n > 0).then(|| Codes::best(counts))
    }
}

impl Sink for Counts {
    fn symbol(&mut self, table: usize, symbol: u8) {
        if let Some(n) = self.0.get_mut(table).and_then(|t| t.get_mut(usize::from(symbol))) {
            *n += 1;
        }
    }

    fn bits(&mut self, _: u32, _: u32) {}
}

/// A Huffman table, for encoding.
#[derive(Clone)]
pub(super) struct Codes {
    /// How many codes there are of each length, and the symbols in their order: what a file holds.
    pub counts: [u8; 16],
    pub symbols: Vec<u8>,
    /// By symbol: the code and its length.
    codes: [(u16, u8); 256],
}

impl Codes {
    pub(super) fn new((counts, symbols): Spec) -> Codes {
        Codes::of(counts, symbols.to_vec())
    }

    fn of(counts: [u8; 16], symbols: Vec<u8>) -> Codes {
        let mut codes = [(0, 0); 256];
        let lengths = (1u8..).zip(counts).flat_map(|(length, n)| std::iter::repeat_n(length, n.into()));
        let (mut code, mut before) = (0u32, 0);
        for (symbol, length) in symbols.iter().zip(lengths) {
            code <<= length - before;
            codes[usize::from(*symbol)] = (code as u16, length);
            (code, before) = (code + 1, length);
        }
        Codes { counts, symbols, codes }
    }

    /// Codes of at most 16 bits, none of them all ones, by how often each symbol comes.
    fn best(counts: &[usize; 256]) -> Codes {
        // One symbol more, the rarest, gets the code of ones.
        const ONES: usize = 256;
        let mut trees: Vec<(usize, Vec<usize>)> =
            counts.iter().enumerate().filter(|(_, n)| **n > 0).map(|(symbol, n)| (*n, vec![symbol])).collect();
        trees.push((1, vec![ONES]));
        let mut lengths = [0usize; ONES + 1];
        while trees.len() > 1 {
            // Of those that are as rare, the one that has come furthest in the order of symbols.
            let rarest = |trees: &[(usize, Vec<usize>)]| {
                trees.iter().enumerate().min_by_key(|(_, (n, of))| (*n, std::cmp::Reverse(of[0]))).map_or(0, |(i, _)| i)
            };
            let (n, first) = trees.remove(rarest(&trees));
            let (m, second) = trees.remove(rarest(&trees));
            let joined: Vec<usize> = first.into_iter().chain(second).collect();
            for symbol in &joined {
                lengths[*symbol] += 1;
            }
            trees.push((n + m, joined));
        }
        let mut of_length = [0usize; ONES + 1];
        for length in lengths.into_iter().filter(|l| *l > 0) {
            of_length[length] += 1;
        }
        // Two leaves that lie too deep: one takes their parent's place, the other goes beside a leaf further up.
        for length in (17..of_length.len()).rev() {
            while of_length[length] > 0 {
                let above = (1..length - 1).rev().find(|l| of_length[*l] > 0).unwrap_or(1);
                of_length[length] -= 2;
                of_length[length - 1] += 1;
                of_length[above + 1] += 2;
                of_length[above] -= 1;
            }
        }
        if let Some(last) = of_length.iter_mut().rev().find(|n| **n > 0) {
            *last -= 1;
        }
        let mut symbols: Vec<u8> = (0..=255).filter(|s| lengths[usize::from(*s)] > 0).collect();
        symbols.sort_by_key(|s| lengths[usize::from(*s)]);
        Codes::of(std::array::from_fn(|i| of_length[i + 1] as u8), symbols)
    }
}

/// Writes bits, with a zero after each byte of ones.
pub(super) struct Writer<'a> {
    tables: &'a [Option<Codes>; TABLES],
    out: &'a mut Vec<u8>,
    /// Bits that aren't a byte yet.
    pending: u64,
    count: u32,
}

impl<'a> Writer<'a> {
    pub(super) fn new(tables: &'a [Option<Codes>; TABLES], out: &'a mut Vec<u8>) -> Writer<'a> {
        Writer { tables, out, pending: 0, count: 0 }
    }

    /// Fills the last byte with ones.
    pub(super) fn finish(mut self) {
        self.bits(0x7f, 7);
    }
}

impl Sink for Writer<'_> {
    #[inline]
    fn symbol(&mut self, table: usize, symbol: u8) {
        if let Some(Some(table)) = self.tables.get(table) {
            let (code, length) = table.codes[usize::from(symbol)];
            self.bits(code.into(), length.into());
        }
    }

    #[inline]
    fn bits(&mut self, bits: u32, n: u32) {
        self.pending = self.pending << n | u64::from(bits & ((1 << n) - 1));
        self.count += n;
        while self.count >= 8 {
            self.count -= 8;
            let byte = (self.pending >> self.count) as u8;
            self.out.push(byte);
            if byte == 0xff {
                self.out.push(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_as_long_as_their_symbols_are_rare_and_never_all_ones() {
        let mut counts = [0; 256];
        counts[7] = 1;
        let codes = Codes::best(&counts);
        assert_eq!((codes.counts[0], &codes.symbols[..], codes.codes[7]), (1, &[7][..], (0, 1)));
        // Counts as of Fibonacci make the deepest of trees.
        let (mut a, mut b) = (1, 1);
        for n in counts.iter_mut().take(40) {
            *n = a;
            (a, b) = (b, a + b);
        }
        let codes = Codes::best(&counts);
        let n: usize = codes.counts.iter().map(|n| usize::from(*n)).sum();
        assert_eq!((n, codes.symbols.len()), (40, 40));
        for symbol in &codes.symbols {
            let (code, length) = codes.codes[usize::from(*symbol)];
            assert!((1..=16).contains(&length) && u32::from(code) < (1 << length) - 1);
        }
    }

    #[test]
    fn bits_fill_bytes_and_a_byte_of_ones_is_followed_by_zero() {
        let (tables, mut out) = ([None, None, None, None], Vec::new());
        let mut writer = Writer::new(&tables, &mut out);
        writer.bits(0xff, 8);
        writer.bits(0b10, 2);
        writer.finish();
        assert_eq!(out, [0xff, 0, 0b1011_1111]);
    }
}
