//! Huffman codes (T.81, annexes C and F).

use super::source::{Source, Step, bad};

/// Codes up to this length are found at once.
const SHORT: u32 = 8;
/// How many bits are read ahead.
const AHEAD: u32 = 57;

/// A table of codes, for decoding.
#[derive(Clone)]
pub(super) struct Table {
    /// By the next eight bits: length and symbol, or length 9 for a longer code.
    short: [(u8, u8); 1 << SHORT],
    /// The largest code of each length; -1 for none.
    largest: [i32; 18],
    /// What leads from a code to its symbol's place.
    offset: [i32; 18],
    symbols: [u8; 256],
}

impl Table {
    /// A table of how many codes there are of each length, and the symbols in their order.
    pub(super) fn new(counts: &[u8; 16], values: &[u8], of_dc: bool) -> Step<Table> {
        let mut table =
            Table { short: [(9, 0); 1 << SHORT], largest: [-1; 18], offset: [0; 18], symbols: [0; 256] };
        for (symbol, value) in table.symbols.iter_mut().zip(values) {
            *symbol = *value;
        }
        let (mut code, mut place) = (0i32, 0usize);
        let first = counts.iter().position(|n| *n > 0).unwrap_or(16);
        for (length, &count) in (1u32..).zip(counts).skip(first) {
            if place == counts.iter().map(|n| usize::from(*n)).sum::<usize>() {
                break;
            }
            if count > 0 {
                table.offset[length as usize] = place as i32 - code;
                for _ in 0..count {
                    let symbol = table.symbols.get(place).copied().unwrap_or(0);
                    if of_dc && symbol > 15 {
                        return bad("a Huffman table has a symbol that can't be");
                    }
                    if length <= SHORT {
                        let from = (code as usize) << (SHORT - length);
                        for entry in table.short.iter_mut().skip(from).take(1 << (SHORT - length)) {
                            *entry = (length as u8, symbol);
                        }
                    }
                    (code, place) = (code + 1, place + 1);
                }
                table.largest[length as usize] = code - 1;
            }
            if code >= 1 << length {
                return bad("a Huffman table has more codes than there can be");
            }
            code <<= 1;
        }
        table.largest[17] = i32::MAX;
        Ok(table)
    }
}

/// The bits of a scan.
pub(super) struct Bits {
    buffer: u64,
    left: u32,
    /// Whether a marker stopped the bits: zeros follow.
    pub dry: bool,
}

impl Bits {
    pub(super) fn new() -> Bits {
        Bits { buffer: 0, left: 0, dry: false }
    }

    /// Drops what was read ahead.
    pub(super) fn clear(&mut self) {
        (self.buffer, self.left) = (0, 0);
    }

    #[inline]
    fn fill(&mut self, source: &mut Source<'_>, needed: u32) -> Step<()> {
        if source.marker == 0 {
            if let Some(word) = source.plain() {
                let bytes = (64 - self.left) / 8;
                if bytes > 0 {
                    self.buffer = if bytes == 8 { word } else { self.buffer << (8 * bytes) | word >> (64 - 8 * bytes) };
                    self.left += 8 * bytes;
                    source.pass(bytes as usize);
                }
                return Ok(());
            }
            return self.fill_slowly(source, needed);
        }
        self.pad(needed);
        Ok(())
    }

    #[inline(never)]
    fn fill_slowly(&mut self, source: &mut Source<'_>, needed: u32) -> Step<()> {
        while self.left < AHEAD {
            let mut byte = source.byte()?;
            if byte == 0xff {
                while byte == 0xff {
                    byte = source.byte()?;
                }
                if byte != 0 {
                    source.marker = byte;
                    self.pad(needed);
                    return Ok(());
                }
                byte = 0xff;
            }
            self.buffer = self.buffer << 8 | u64::from(byte);
            self.left += 8;
        }
        Ok(())
    }

    /// Zeros stand for what a marker cut off.
    fn pad(&mut self, needed: u32) {
        if needed > self.left {
            self.dry = true;
            self.buffer <<= AHEAD - self.left;
            self.left = AHEAD;
        }
    }

    #[inline(always)]
    fn take(&mut self, n: u32) -> u32 {
        self.left -= n;
        (self.buffer >> self.left) as u32 & ((1 << n) - 1)
    }

    /// The next `n` bits, at most 16.
    #[inline(always)]
    pub(super) fn bits(&mut self, source: &mut Source<'_>, n: u32) -> Step<u32> {
        if self.left < n {
            self.fill(source, n)?;
        }
        Ok(self.take(n))
    }

    /// A number of `n` bits, of which a first bit 0 means a negative one.
    #[inline(always)]
    pub(super) fn number(&mut self, source: &mut Source<'_>, n: u32) -> Step<i32> {
        let bits = self.bits(source, n)? as i32;
        Ok(if n > 0 && bits < 1 << (n - 1) { bits - (1 << n) + 1 } else { bits })
    }

    /// The symbol of the next code.
    #[inline(always)]
    pub(super) fn symbol(&mut self, source: &mut Source<'_>, table: &Table) -> Step<u8> {
        if self.left < SHORT {
            self.fill(source, 0)?;
            if self.left < SHORT {
                return self.long(source, table, 1);
            }
        }
        let ahead = (self.buffer >> (self.left - SHORT)) as usize & ((1 << SHORT) - 1);
        let (length, symbol) = table.short[ahead];
        if u32::from(length) <= SHORT {
            self.left -= u32::from(length);
            return Ok(symbol);
        }
        self.long(source, table, SHORT + 1)
    }

    /// A code of at least so many bits; one that isn't in the table counts as the symbol 0.
    #[inline(never)]
    fn long(&mut self, source: &mut Source<'_>, table: &Table, least: u32) -> Step<u8> {
        let mut code = self.bits(source, least)? as i32;
        let mut length = least as usize;
        while table.largest.get(length).is_some_and(|l| code > *l) {
            code = code << 1 | self.bits(source, 1)? as i32;
            length += 1;
        }
        if length > 16 {
            return Ok(0);
        }
        let place = table.offset.get(length).map_or(0, |o| code + o);
        Ok(table.symbols.get(place as usize).copied().unwrap_or(0))
    }
}

/// The tables of T.81's annex K, which files without tables mean: of brightness and of colour, for DC and for AC.
pub(super) mod standard {
    /// How many codes of each length, and their symbols.
    pub(in super::super) type Spec = ([u8; 16], &'static [u8]);

    pub(in super::super) const DC: [Spec; 2] = [
        ([0, 1, 5, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
        ([0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]),
    ];

    #[rustfmt::skip]
    pub(in super::super) const AC: [Spec; 2] = [
        ([0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 0x7d], &[
            0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07,
            0x22, 0x71, 0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0,
            0x24, 0x33, 0x62, 0x72, 0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28,
            0x29, 0x2a, 0x34, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49,
            0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69,
            0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89,
            0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7,
            0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3, 0xc4, 0xc5,
            0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
            0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
            0xf9, 0xfa,
        ]),
        ([0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 0x77], &[
            0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71,
            0x13, 0x22, 0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0,
            0x15, 0x62, 0x72, 0xd1, 0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26,
            0x27, 0x28, 0x29, 0x2a, 0x35, 0x36, 0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48,
            0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68,
            0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87,
            0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3, 0xa4, 0xa5,
            0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
            0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
            0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8,
            0xf9, 0xfa,
        ]),
    ];
}
