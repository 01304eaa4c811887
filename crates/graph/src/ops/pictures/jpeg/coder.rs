//! The symbols of a scan (T.81, annexes F.1 and G.1).

use super::codes::Sink;
use super::markers::{Frame, Scan};

/// A component's coefficients.
pub(super) struct Coefficients {
    /// Blocks in a file's order of coefficients, row by row, with room for whole units.
    pub blocks: Vec<[i16; 64]>,
    /// How many a row has.
    pub across: usize,
}

impl Coefficients {
    fn block(&self, row: usize, column: usize) -> [i16; 64] {
        self.blocks.get(row * self.across + column).copied().unwrap_or([0; 64])
    }
}

/// As many bits as wait at most for a run of blocks to end; as TensorFlow's encoder has it.
const MOST_WAITING: usize = 1000 - 64 + 1;
/// The longest run of blocks without anything more.
const LONGEST_RUN: u32 = 0x7fff;

/// What is known while a scan is written.
struct Coder<'a, S> {
    sink: &'a mut S,
    scan: &'a Scan,
    /// The longest run of blocks of which nothing is left: one, where scans aren't progressive.
    longest: u32,
    /// The last DC of each component.
    last: [i32; 4],
    /// Blocks that had nothing more, whose table of AC it is.
    run: u32,
    of: usize,
    /// Bits of coefficients that were begun earlier: they follow the run.
    waiting: Vec<bool>,
}

/// Writes a scan's symbols.
pub(super) fn encode<S: Sink>(frame: &Frame, planes: &[Coefficients], scan: &Scan, sink: &mut S) {
    let longest = if frame.progressive { LONGEST_RUN } else { 1 };
    let mut coder = Coder { sink, scan, longest, last: [0; 4], run: 0, of: 0, waiting: Vec::new() };
    let parts: Vec<_> = scan
        .components
        .iter()
        .filter_map(|(place, dc, ac)| Some((planes.get(*place)?, frame.components.get(*place)?, *dc, *ac)))
        .collect();
    if let [(plane, component, dc, ac)] = parts[..] {
        let (across, down) = frame.blocks(component);
        for row in 0..down {
            for column in 0..across {
                coder.block(0, &plane.block(row, column), dc, ac);
            }
        }
    } else {
        let (across, down) = frame.units();
        for (row, column) in (0..down).flat_map(|row| (0..across).map(move |column| (row, column))) {
            for (i, (plane, c, dc, ac)) in parts.iter().enumerate() {
                for (y, x) in (0..c.down).flat_map(|y| (0..c.across).map(move |x| (y, x))) {
                    coder.block(i, &plane.block(row * c.down + y, column * c.across + x), *dc, *ac);
                }
            }
        }
    }
    coder.end_run();
}

/// How many bits a size has, and the bits that stand for a number: those of one less where it is negative.
#[inline(always)]
fn number(size: u32, negative: bool) -> (u32, u32) {
    (if negative { !size } else { size }, u32::BITS - size.leading_zeros())
}

impl<S: Sink> Coder<'_, S> {
    fn block(&mut self, component: usize, block: &[i16; 64], dc: u8, ac: u8) {
        let (first, last) = self.scan.band;
        self.of = 2 + usize::from(ac);
        if first == 0 {
            let value = i32::from(block[0]) >> self.scan.low;
            match (self.scan.high, self.last.get_mut(component)) {
                (0, Some(before)) => {
                    let difference = value - *before;
                    *before = value;
                    let (bits, n) = number(difference.unsigned_abs(), difference < 0);
                    self.sink.symbol(dc.into(), n as u8);
                    self.sink.bits(bits, n);
                }
                _ => self.sink.bits(value as u32 & 1, 1),
            }
        }
        let Some(band) = block.get(first.max(1)..=last) else { return };
        match self.scan.high {
            _ if band.is_empty() => {}
            0 => self.begin(band),
            _ => self.refine(band),
        }
    }

    /// Coefficients of which nothing was written.
    fn begin(&mut self, band: &[i16]) {
        let mut zeros = 0u8;
        for value in band {
            let size = u32::from(value.unsigned_abs()) >> self.scan.low;
            if size == 0 {
                zeros += 1;
                continue;
            }
            self.end_run();
            while zeros > 15 {
                self.sink.symbol(self.of, 0xf0);
                zeros -= 16;
            }
            let (bits, n) = number(size, *value < 0);
            self.sink.symbol(self.of, zeros << 4 | n as u8);
            self.sink.bits(bits, n);
            zeros = 0;
        }
        if zeros > 0 {
            self.run += 1;
            if self.run == self.longest {
                self.end_run();
            }
        }
    }

    /// Coefficients of which some were begun: one more bit of those, and such as only now aren't zero.
    fn refine(&mut self, band: &[i16]) {
        let size = |value: i16| value.unsigned_abs() >> self.scan.low;
        let newest = band.iter().rposition(|v| size(*v) == 1).unwrap_or(0);
        let mut zeros = 0u8;
        // Bits of what was begun since the last symbol.
        let mut since: Vec<bool> = Vec::new();
        for (k, value) in band.iter().enumerate() {
            let size = size(*value);
            if size == 0 {
                zeros += 1;
                continue;
            }
            while zeros > 15 && k <= newest {
                self.end_run();
                self.sink.symbol(self.of, 0xf0);
                zeros -= 16;
                self.raw(&mut since);
            }
            if size > 1 {
                since.push(size & 1 != 0);
                continue;
            }
            self.end_run();
            self.sink.symbol(self.of, zeros << 4 | 1);
            self.sink.bits(u32::from(*value >= 0), 1);
            self.raw(&mut since);
            zeros = 0;
        }
        if zeros > 0 || !since.is_empty() {
            self.run += 1;
            self.waiting.append(&mut since);
            if self.run == self.longest || self.waiting.len() > MOST_WAITING {
                self.end_run();
            }
        }
    }

    fn end_run(&mut self) {
        if self.run == 0 {
            return;
        }
        let n = self.run.ilog2();
        self.sink.symbol(self.of, (n as u8) << 4);
        self.sink.bits(self.run, n);
        self.run = 0;
        let mut waiting = std::mem::take(&mut self.waiting);
        self.raw(&mut waiting);
        self.waiting = waiting;
    }

    fn raw(&mut self, bits: &mut Vec<bool>) {
        for bit in bits.drain(..) {
            self.sink.bits(bit.into(), 1);
        }
    }
}
