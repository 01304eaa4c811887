//! The segments of a file: frame, scans and tables (T.81, annex B).

use super::huffman::{Table, standard};
use super::source::{Source, Step, bad};

/// Where the coefficients of a file's order lie in a block, with room for runs that lead out of it.
#[rustfmt::skip]
pub(super) const ZIGZAG: [u8; 80] = [
     0,  1,  8, 16,  9,  2,  3, 10, 17, 24, 32, 25, 18, 11,  4,  5,
    12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13,  6,  7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51,
    58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
    63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63, 63,
];

/// The largest side of a picture.
pub(super) const LARGEST_SIDE: usize = 65500;
/// The most blocks that a unit of a scan with several components has.
const MOST_BLOCKS: usize = 10;

/// A component as the frame declares it.
#[derive(Clone)]
pub(super) struct Component {
    pub id: u8,
    /// Samples across and down, for each unit of the picture.
    pub across: usize,
    pub down: usize,
    /// Which table quantizes it.
    pub quantizer: u8,
    /// That table, as it was when the component's first scan came.
    pub quants: Option<[u16; 64]>,
}

impl Component {
    /// The segment of its table.
    pub(super) fn quantizer_segment(&self) -> Vec<u8> {
        let quants = self.quants.unwrap_or([1; 64]);
        let in_order = ZIGZAG.iter().take(64).map(|place| quants[usize::from(place & 63)] as u8);
        std::iter::once(self.quantizer).chain(in_order).collect()
    }
}

/// What the frame header says.
pub(super) struct Frame {
    pub height: usize,
    pub width: usize,
    pub progressive: bool,
    pub components: Vec<Component>,
}

impl Frame {
    /// Its segment; sides are at most `LARGEST_SIDE`.
    pub(super) fn segment(&self) -> Vec<u8> {
        let mut out = vec![8];
        out.extend([self.height, self.width].iter().flat_map(|side| (*side as u16).to_be_bytes()));
        out.push(self.components.len() as u8);
        for c in &self.components {
            out.extend([c.id, (c.across << 4 | c.down) as u8, c.quantizer]);
        }
        out
    }

    /// The largest sampling factors: across and down.
    pub(super) fn finest(&self) -> (usize, usize) {
        let most = |of: fn(&Component) -> usize| self.components.iter().map(of).max().unwrap_or(1);
        (most(|c| c.across), most(|c| c.down))
    }

    /// How many units, across and down, cover the picture.
    pub(super) fn units(&self) -> (usize, usize) {
        let (across, down) = self.finest();
        (self.width.div_ceil(8 * across), self.height.div_ceil(8 * down))
    }

    /// How many blocks of a component, across and down, cover the picture.
    pub(super) fn blocks(&self, c: &Component) -> (usize, usize) {
        let (across, down) = self.finest();
        ((self.width * c.across).div_ceil(8 * across), (self.height * c.down).div_ceil(8 * down))
    }
}

/// What the header of a scan says.
pub(super) struct Scan {
    /// The components by their places in the frame, each with its tables for DC and AC.
    pub components: Vec<(usize, u8, u8)>,
    /// The first and last coefficient.
    pub band: (usize, usize),
    /// The bits that earlier scans left out, and those that this one does.
    pub high: u8,
    pub low: u8,
}

impl Scan {
    /// Its segment. A table that it has no need of is called 0.
    pub(super) fn segment(&self, frame: &Frame) -> Vec<u8> {
        let ((first, last), mut out) = (self.band, vec![self.components.len() as u8]);
        for (place, dc, ac) in &self.components {
            let dc = if first == 0 && self.high == 0 { *dc } else { 0 };
            let ac = if last > 0 { *ac } else { 0 };
            out.extend([frame.components.get(*place).map_or(0, |c| c.id), dc << 4 | ac]);
        }
        out.extend([first as u8, last as u8, self.high << 4 | self.low]);
        out
    }
}

/// What colours a file says that it has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Colours {
    Grey,
    Rgb,
    YCbCr,
    Cmyk,
    Ycck,
    Unknown,
}

/// What the segments up to some place say.
#[derive(Default)]
pub(super) struct Segments {
    pub frame: Option<Frame>,
    quantizers: [Option<[u16; 64]>; 4],
    dc: [Option<Box<Table>>; 4],
    ac: [Option<Box<Table>>; 4],
    raw_dc: [Option<Codes>; 4],
    raw_ac: [Option<Codes>; 4],
    pub restart_interval: usize,
    jfif: bool,
    /// The transform that Adobe's segment names.
    pub adobe: Option<u8>,
    pub scans: usize,
    started: bool,
}

/// A Huffman table as a segment holds it: only a scan that uses it finds out whether it can be.
type Codes = ([u8; 16], Vec<u8>);

impl Segments {
    /// Reads segments until a scan starts (its header) or the file ends (none).
    pub(super) fn next_scan(&mut self, source: &mut Source<'_>) -> Step<Option<Scan>> {
        loop {
            if source.marker == 0 {
                if self.started {
                    source.next_marker()?;
                } else {
                    if (source.byte()?, source.byte()?) != (0xff, 0xd8) {
                        return bad("it doesn't start as one");
                    }
                    source.keep();
                    self.started = true;
                    continue;
                }
            }
            let marker = source.marker;
            match marker {
                0x01 | 0xd0..=0xd7 => {}
                0xc0..=0xc2 => self.start_frame(source, marker == 0xc2)?,
                0xc4 => self.huffman(source)?,
                0xd9 => return if self.frame.is_some() && self.scans == 0 { bad("it has no scan") } else { Ok(None) },
                0xda => {
                    let scan = self.start_scan(source)?;
                    source.marker = 0;
                    source.keep();
                    return Ok(Some(scan));
                }
                0xdb => self.quantizers(source)?,
                0xdd => {
                    if source.length()? != 2 {
                        return bad("the segment of restarts has a wrong length");
                    }
                    self.restart_interval = source.word()?.into();
                }
                0xe0 | 0xee => self.application(source, marker)?,
                0xcc | 0xdc | 0xe1..=0xef | 0xfe => {
                    let n = source.length()?;
                    source.skip(n);
                }
                0xc9 | 0xca => return Err(crate::Error::unsupported("a JPEG with arithmetic coding").into()),
                0xd8 => return bad("it starts twice"),
                0xc3 | 0xc5..=0xc7 | 0xcb | 0xcd..=0xcf => return bad("it is lossless or hierarchical"),
                _ => return bad(format!("it has a marker {marker:#04x}")),
            }
            source.marker = 0;
            source.keep();
        }
    }

    fn start_frame(&mut self, source: &mut Source<'_>, progressive: bool) -> Step<()> {
        let length = source.length()?;
        let precision = source.byte()?;
        let (height, width) = (usize::from(source.word()?), usize::from(source.word()?));
        let count = usize::from(source.byte()?);
        if self.frame.is_some() {
            return bad("it has several frames");
        }
        if height == 0 || width == 0 || count == 0 {
            return bad("it is empty");
        }
        if length != 6 + 3 * count {
            return bad("the frame header has a wrong length");
        }
        let mut components = Vec::new();
        for _ in 0..count {
            let (id, sampling, quantizer) = (source.byte()?, source.byte()?, source.byte()?);
            let (across, down) = (usize::from(sampling >> 4), usize::from(sampling & 15));
            components.push(Component { id, across, down, quantizer, quants: None });
        }
        if height > LARGEST_SIDE || width > LARGEST_SIDE {
            return bad(format!("a side is longer than {LARGEST_SIDE}"));
        }
        if precision != 8 {
            return bad(format!("its samples have {precision} bits"));
        }
        if count > 10 || components.iter().any(|c| !(1..=4).contains(&c.across) || !(1..=4).contains(&c.down)) {
            return bad("it has too many components, or sampling factors that can't be");
        }
        self.frame = Some(Frame { height, width, progressive, components });
        Ok(())
    }

    fn start_scan(&mut self, source: &mut Source<'_>) -> Step<Scan> {
        let Some(frame) = &mut self.frame else { return bad("a scan comes before the frame") };
        let length = source.length()?;
        let count = usize::from(source.byte()?);
        if !(1..=4).contains(&count) || length != 4 + 2 * count {
            return bad("a scan's header has a wrong length");
        }
        let mut components: Vec<(usize, u8, u8)> = Vec::new();
        for i in 0..count {
            let (id, tables) = (source.byte()?, source.byte()?);
            // A place that an earlier one of the scan's components has taken isn't looked at.
            let place = frame.components.iter().take(4).enumerate().position(|(at, c)| c.id == id && at >= i);
            let Some(place) = place.filter(|p| components.iter().all(|c| c.0 != *p)) else {
                return bad("a scan names a component that it can't have");
            };
            components.push((place, tables >> 4, tables & 15));
        }
        let (first, last, bits) = (source.byte()?, source.byte()?, source.byte()?);
        self.scans += 1;
        let mut blocks = 0;
        for (place, ..) in &components {
            let Some(c) = frame.components.get_mut(*place) else { return bad("a scan is of no component") };
            blocks += c.across * c.down;
            if c.quants.is_none() {
                c.quants = self.quantizers.get(usize::from(c.quantizer)).copied().flatten();
                if c.quants.is_none() {
                    return bad("a table that quantizes is missing");
                }
            }
        }
        if count > 1 && blocks > MOST_BLOCKS {
            return bad("a scan's units are too large");
        }
        Ok(Scan { components, band: (first.into(), last.into()), high: bits >> 4, low: bits & 15 })
    }

    fn quantizers(&mut self, source: &mut Source<'_>) -> Step<()> {
        let mut left = source.length()?;
        while left > 0 {
            let which = source.byte()?;
            let Some(slot) = self.quantizers.get_mut(usize::from(which & 15)) else {
                return bad("a table that quantizes has a number that can't be");
            };
            let mut table = [0; 64];
            let wide = which >> 4 != 0;
            for place in ZIGZAG.iter().take(64) {
                let value = if wide { source.word()? } else { source.byte()?.into() };
                if let Some(q) = table.get_mut(usize::from(*place)) {
                    *q = value;
                }
            }
            *slot = Some(table);
            let Some(rest) = left.checked_sub(if wide { 129 } else { 65 }) else {
                return bad("the segment of tables that quantize has a wrong length");
            };
            left = rest;
        }
        Ok(())
    }

    fn huffman(&mut self, source: &mut Source<'_>) -> Step<()> {
        let mut left = source.length()?;
        while left > 16 {
            let which = source.byte()?;
            let mut counts = [0; 16];
            for c in &mut counts {
                *c = source.byte()?;
            }
            left -= 17;
            let n: usize = counts.iter().map(|c| usize::from(*c)).sum();
            if n > 256 || n > left {
                return bad("a Huffman table has more codes than there can be");
            }
            let values = (0..n).map(|_| source.byte()).collect::<Step<Vec<u8>>>()?;
            left -= n;
            let of_ac = which & 0x10 != 0;
            let (raw, made) = if of_ac { (&mut self.raw_ac, &mut self.ac) } else { (&mut self.raw_dc, &mut self.dc) };
            let place = usize::from(if of_ac { which - 0x10 } else { which });
            let (Some(raw), Some(made)) = (raw.get_mut(place), made.get_mut(place)) else {
                return bad("a Huffman table has a number that can't be");
            };
            (*raw, *made) = (Some((counts, values)), None);
        }
        if left != 0 { bad("the segment of Huffman tables has a wrong length") } else { Ok(()) }
    }

    /// Whether samples are brightness and colour, and whether inverted: what JFIF's and Adobe's segments tell.
    fn application(&mut self, source: &mut Source<'_>, marker: u8) -> Step<()> {
        let length = source.length()?;
        let mut start = [0; 14];
        let n = length.min(14);
        for b in start.iter_mut().take(n) {
            *b = source.byte()?;
        }
        if marker == 0xe0 && n >= 14 && start.starts_with(b"JFIF\0") {
            self.jfif = true;
        }
        if marker == 0xee && n >= 12 && start.starts_with(b"Adobe") {
            self.adobe = Some(start[11]);
        }
        source.skip(length - n);
        Ok(())
    }

    /// What the components are, by the segments or, without any, by their names.
    pub(super) fn colours(&self) -> Colours {
        let components = self.frame.as_ref().map_or(&[][..], |f| &f.components);
        match (components, self.adobe) {
            ([_], _) => Colours::Grey,
            ([_, _, _], _) if self.jfif => Colours::YCbCr,
            ([_, _, _], Some(0)) => Colours::Rgb,
            ([_, _, _], Some(_)) => Colours::YCbCr,
            ([a, b, c], None) if [a.id, b.id, c.id] == *b"RGB" => Colours::Rgb,
            ([_, _, _], None) => Colours::YCbCr,
            ([_, _, _, _], None | Some(0)) => Colours::Cmyk,
            ([_, _, _, _], Some(_)) => Colours::Ycck,
            _ => Colours::Unknown,
        }
    }

    /// The tables that frames without any mean.
    pub(super) fn standard_tables(&mut self) {
        for (raw, specs) in [(&mut self.raw_dc, standard::DC), (&mut self.raw_ac, standard::AC)] {
            for (slot, (counts, values)) in raw.iter_mut().zip(specs) {
                slot.get_or_insert_with(|| (counts, values.to_vec()));
            }
        }
    }

    /// Makes ready the tables of a scan's component.
    pub(super) fn prepare(&mut self, number: u8, of_dc: bool) -> Step<()> {
        let (raw, made) = if of_dc { (&self.raw_dc, &mut self.dc) } else { (&self.raw_ac, &mut self.ac) };
        let place = usize::from(number);
        let (Some(Some((counts, values))), Some(made)) = (raw.get(place), made.get_mut(place)) else {
            return bad(format!("the Huffman table {number} is missing"));
        };
        if made.is_none() {
            *made = Some(Box::new(Table::new(counts, values, of_dc)?));
        }
        Ok(())
    }

    /// A table that was made ready.
    pub(super) fn table(&self, number: u8, of_dc: bool) -> Step<&Table> {
        let made = if of_dc { &self.dc } else { &self.ac };
        match made.get(usize::from(number)) {
            Some(Some(table)) => Ok(table),
            _ => bad(format!("the Huffman table {number} is missing")),
        }
    }
}
