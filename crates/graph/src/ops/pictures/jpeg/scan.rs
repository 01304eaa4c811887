//! The scans: coefficients from bits (T.81, annexes F and G).

use super::huffman::{Bits, Table};
use super::markers::{Frame, Scan, Segments, ZIGZAG};
use super::source::{Source, Step, bad};
use crate::Result;

/// The coefficients of a block, row by row.
pub(super) type Block = [i16; 64];

/// What becomes of a block's coefficients.
pub(super) trait Blocks {
    /// Lets a block of a component be filled, in a row and a column; both may lie beyond the picture's edge.
    fn fill(
        &mut self,
        component: usize,
        row: usize,
        column: usize,
        fill: impl FnOnce(&mut Block) -> Step<()>,
    ) -> Step<()>;
}

/// What a scan's bits say of a block.
#[derive(Clone, Copy)]
enum Mode {
    Whole,
    FirstOfDc,
    MoreOfDc,
    FirstOfAc,
    MoreOfAc,
}

struct Entropy<'a> {
    mode: Mode,
    bits: Bits,
    /// The tables of the scan's components, for DC and for AC.
    tables: Vec<(Option<&'a Table>, Option<&'a Table>)>,
    /// Each component's last DC coefficient.
    last: [i32; 4],
    /// How many blocks still end here.
    run: u32,
    first: usize,
    end: usize,
    low: u8,
    interval: usize,
    to_restart: usize,
    restart: u8,
}

/// Reads one scan. `done` hears of every row of units that is complete, and says whether they are enough.
pub(super) fn read(
    segments: &mut Segments,
    frame: &Frame,
    scan: &Scan,
    source: &mut Source<'_>,
    blocks: &mut impl Blocks,
    mut done: impl FnMut() -> Result<bool>,
) -> Step<()> {
    let mut entropy = Entropy::new(segments, frame.progressive, scan)?;
    if let [(place, ..)] = scan.components[..] {
        let Some(component) = frame.components.get(place) else { return bad("a scan is of no component") };
        let (across, down) = frame.blocks(component);
        for row in 0..down {
            for column in 0..across {
                if entropy.start(source)? {
                    blocks.fill(place, row, column, |b| entropy.block(source, 0, b))?;
                }
                source.keep();
                if entropy.exhausted(source) {
                    return Ok(());
                }
            }
            if ((row + 1) % component.down == 0 || row + 1 == down) && done()? {
                break;
            }
        }
        return Ok(());
    }
    let (across, down) = frame.units();
    for row in 0..down {
        for column in 0..across {
            if entropy.start(source)? {
                for (member, (place, ..)) in scan.components.iter().enumerate() {
                    let Some(c) = frame.components.get(*place) else { return bad("a scan is of no component") };
                    for y in 0..c.down {
                        for x in 0..c.across {
                            let (row, column) = (row * c.down + y, column * c.across + x);
                            blocks.fill(*place, row, column, |b| entropy.block(source, member, b))?;
                        }
                    }
                }
            }
            source.keep();
            if entropy.exhausted(source) {
                return Ok(());
            }
        }
        if done()? {
            break;
        }
    }
    Ok(())
}

impl<'a> Entropy<'a> {
    fn new(segments: &'a mut Segments, progressive: bool, scan: &Scan) -> Step<Self> {
        let (first, last) = scan.band;
        let (mode, needs_dc, needs_ac) = match (progressive, first, scan.high) {
            (false, ..) => (Mode::Whole, true, true),
            (true, 0, 0) => (Mode::FirstOfDc, true, false),
            (true, 0, _) => (Mode::MoreOfDc, false, false),
            (true, _, 0) => (Mode::FirstOfAc, false, true),
            (true, ..) => (Mode::MoreOfAc, false, true),
        };
        if progressive {
            let band = if first == 0 { last == 0 } else { first <= last && last < 64 && scan.components.len() == 1 };
            if !band || (scan.high != 0 && scan.low + 1 != scan.high) || scan.low > 13 {
                return bad("a scan is of coefficients or bits that can't be");
            }
        }
        for (_, dc, ac) in &scan.components {
            if needs_dc {
                segments.prepare(*dc, true)?;
            }
            if needs_ac {
                segments.prepare(*ac, false)?;
            }
        }
        let segments = &*segments;
        let tables = scan.components.iter().map(|(_, dc, ac)| {
            let dc = needs_dc.then(|| segments.table(*dc, true)).transpose()?;
            Ok((dc, needs_ac.then(|| segments.table(*ac, false)).transpose()?))
        });
        Ok(Entropy {
            mode,
            bits: Bits::new(),
            tables: tables.collect::<Step<_>>()?,
            last: [0; 4],
            run: 0,
            first: if progressive { first } else { 1 },
            end: if progressive { last } else { 63 },
            low: scan.low,
            interval: segments.restart_interval,
            to_restart: segments.restart_interval,
            restart: 0,
        })
    }

    /// Starts a unit, after a restart where one is due; whether bits are left for it.
    fn start(&mut self, source: &mut Source<'_>) -> Step<bool> {
        if self.interval > 0 {
            if self.to_restart == 0 {
                self.bits.clear();
                source.restart(self.restart)?;
                self.restart = (self.restart + 1) & 7;
                (self.last, self.run, self.to_restart) = ([0; 4], 0, self.interval);
                if source.marker == 0 {
                    self.bits.dry = false;
                }
            }
            self.to_restart -= 1;
        }
        Ok(!self.bits.dry)
    }

    /// Whether nothing can follow in this scan.
    fn exhausted(&self, source: &Source<'_>) -> bool {
        self.bits.dry && (self.interval == 0 || matches!(source.marker, 0xc0..=0xcf | 0xd8..))
    }

    #[inline]
    fn block(&mut self, source: &mut Source<'_>, member: usize, block: &mut Block) -> Step<()> {
        match self.mode {
            Mode::Whole => self.whole(source, member, block),
            Mode::FirstOfDc => {
                block[0] = (self.dc(source, member)? << self.low) as i16;
                Ok(())
            }
            Mode::MoreOfDc => {
                if self.bits.bits(source, 1)? != 0 {
                    block[0] |= 1 << self.low;
                }
                Ok(())
            }
            Mode::FirstOfAc => self.first_of_ac(source, block),
            Mode::MoreOfAc => self.more_of_ac(source, block),
        }
    }

    #[inline]
    fn dc(&mut self, source: &mut Source<'_>, member: usize) -> Step<i32> {
        let (Some((Some(table), _)), Some(last)) = (self.tables.get(member), self.last.get_mut(member)) else {
            return bad("a scan lacks a table");
        };
        let length = self.bits.symbol(source, table)?;
        let difference = self.bits.number(source, length.into())?;
        let Some(dc) = last.checked_add(difference) else { return bad("a coefficient is too large") };
        *last = dc;
        Ok(dc)
    }

    #[inline]
    fn whole(&mut self, source: &mut Source<'_>, member: usize, block: &mut Block) -> Step<()> {
        block[0] = self.dc(source, member)? as i16;
        let Some((_, Some(table))) = self.tables.get(member) else { return bad("a scan lacks a table") };
        let mut k = 1;
        while k < 64 {
            let symbol = self.bits.symbol(source, table)?;
            let (run, length) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if length > 0 {
                k += run;
                block[at(k)] = self.bits.number(source, length)? as i16;
            } else if run == 15 {
                k += 15;
            } else {
                break;
            }
            k += 1;
        }
        Ok(())
    }

    /// The length of a run of blocks that end, of which this is the first.
    fn run(&mut self, source: &mut Source<'_>, power: usize) -> Step<u32> {
        Ok((1 << power) + self.bits.bits(source, power as u32)?)
    }

    fn first_of_ac(&mut self, source: &mut Source<'_>, block: &mut Block) -> Step<()> {
        if self.run > 0 {
            self.run -= 1;
            return Ok(());
        }
        let Some((_, Some(table))) = self.tables.first().copied() else { return bad("a scan lacks a table") };
        let mut k = self.first;
        while k <= self.end {
            let symbol = self.bits.symbol(source, table)?;
            let (run, length) = (usize::from(symbol >> 4), u32::from(symbol & 15));
            if length > 0 {
                k += run;
                block[at(k)] = (self.bits.number(source, length)? << self.low) as i16;
            } else if run == 15 {
                k += 15;
            } else {
                self.run = self.run(source, run)? - 1;
                break;
            }
            k += 1;
        }
        Ok(())
    }

    fn more_of_ac(&mut self, source: &mut Source<'_>, block: &mut Block) -> Step<()> {
        let Some((_, Some(table))) = self.tables.first().copied() else { return bad("a scan lacks a table") };
        let bit = 1i16 << self.low;
        let mut k = self.first;
        if self.run == 0 {
            while k <= self.end {
                let symbol = self.bits.symbol(source, table)?;
                let (mut run, length) = (usize::from(symbol >> 4), symbol & 15);
                let mut new = 0;
                if length > 0 {
                    new = if self.bits.bits(source, 1)? != 0 { bit } else { -bit };
                } else if run != 15 {
                    self.run = self.run(source, run)?;
                    break;
                }
                // Past as many zeros as the run says, with a bit more of what isn't zero.
                while k <= self.end {
                    let place = &mut block[at(k)];
                    if *place != 0 {
                        self.refine(source, place, bit)?;
                    } else if run == 0 {
                        break;
                    } else {
                        run -= 1;
                    }
                    k += 1;
                }
                if new != 0 {
                    block[at(k)] = new;
                }
                k += 1;
            }
        }
        if self.run > 0 {
            while k <= self.end {
                let place = &mut block[at(k)];
                if *place != 0 {
                    self.refine(source, place, bit)?;
                }
                k += 1;
            }
            self.run -= 1;
        }
        Ok(())
    }

    fn refine(&mut self, source: &mut Source<'_>, place: &mut i16, bit: i16) -> Step<()> {
        if self.bits.bits(source, 1)? != 0 && *place & bit == 0 {
            *place = if *place >= 0 { place.wrapping_add(bit) } else { place.wrapping_sub(bit) };
        }
        Ok(())
    }
}

/// Where the coefficient of a number lies in a block.
#[inline(always)]
fn at(k: usize) -> usize {
    usize::from(ZIGZAG.get(k).copied().unwrap_or(63) & 63)
}
