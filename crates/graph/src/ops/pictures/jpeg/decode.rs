//! Decoding: components from scans, pixels from components.
//!
//! Pixels are those of TensorFlow's decoder, bit for bit, also where a file is damaged in ways that it passes over. Not
//! so where a progressive file lacks its last scans, of which TensorFlow smooths what it has.

use super::colour::Conversion;
use super::idct::Transform;
use super::markers::{Component, Frame, Segments};
use super::scan::{self, Block, Blocks};
use super::source::{Source, Step, Stop, bad, wrong};
use super::upsample::Spread;
use crate::ops::pictures::picture::{Picture, Samples, room};
use crate::tensor::memory;
use crate::Result;

/// The most scans that a file may have: each of them can cost a pass over the whole picture.
const MOST_SCANS: usize = 1000;

/// What is asked of the decoder: `DecodeJpeg`'s attributes.
#[derive(Debug, Clone)]
pub(in super::super) struct Options {
    /// 1, 3, or 0 for what the file has.
    pub channels: usize,
    /// By what the sides are divided: 1, 2, 4 or 8.
    pub ratio: usize,
    /// Whether colour of a lower resolution is interpolated.
    pub fancy_upscaling: bool,
    /// Whether the transform is the coarse one.
    pub fast: bool,
    pub try_recover_truncated: bool,
    /// How much of the rows must be there.
    pub acceptable_fraction: f32,
}

impl Default for Options {
    /// What TensorFlow does when nothing is asked.
    fn default() -> Options {
        Options {
            channels: 0,
            ratio: 1,
            fancy_upscaling: true,
            fast: true,
            try_recover_truncated: false,
            acceptable_fraction: 1.0,
        }
    }
}

/// Row, column, height and width of what is wanted of a picture.
pub(in super::super) type Window = [usize; 4];

/// Asked now and then; its error ends the decoding.
pub(in super::super) type Check<'a> = &'a dyn Fn() -> Result<()>;

/// Decodes a file, or a window of it.
pub(in super::super) fn decode(
    bytes: &[u8],
    how: &Options,
    window: Option<Window>,
    check: Check<'_>,
) -> Result<Picture> {
    let mut source = Source::new(bytes, how.try_recover_truncated);
    decoded(&mut source, how, window, check).map_err(|stop| match stop {
        Stop::Short => wrong("it ends too early"),
        Stop::Bad(e) => e,
    })
}

/// A component's samples, and how they come to be.
struct Plane {
    samples: Vec<u8>,
    stride: usize,
    /// Samples a block has, each way.
    size: usize,
    transform: Option<Transform>,
    /// Blocks that cover the picture, across and down.
    blocks: (usize, usize),
    /// Samples that cover the picture, across and down.
    extents: (usize, usize),
    /// How the samples are spread over the pixels.
    spread: Spread,
    /// All coefficients, where a file has several scans, with room for whole units in each row.
    coefficients: Vec<Block>,
    row_of_blocks: usize,
}

impl Plane {
    fn write(&mut self, row: usize, column: usize, block: &Block) {
        let (across, down) = self.blocks;
        let Some(transform) = self.transform.as_ref().filter(|_| row < down && column < across) else { return };
        if let Some(out) = self.samples.get_mut((row * self.stride + column) * self.size..) {
            transform.write(block, out, self.stride);
        }
    }

    /// Transforms what was collected.
    fn finish(&mut self) {
        let blocks = std::mem::take(&mut self.coefficients);
        for (row, line) in blocks.chunks(self.row_of_blocks.max(1)).enumerate() {
            for (column, block) in line.iter().enumerate() {
                self.write(row, column, block);
            }
        }
    }

    /// A row of samples from a column on, `width` of them.
    fn line(&self, row: usize, column: usize, width: usize) -> &[u8] {
        let start = row * self.stride + column;
        self.samples.get(start..(start + width).min((row + 1) * self.stride)).unwrap_or_default()
    }
}

/// Blocks that are transformed as they come.
struct AtOnce<'a>(&'a mut [Plane]);

impl Blocks for AtOnce<'_> {
    #[inline]
    fn fill(
        &mut self,
        component: usize,
        row: usize,
        column: usize,
        fill: impl FnOnce(&mut Block) -> Step<()>,
    ) -> Step<()> {
        let mut block = [0; 64];
        fill(&mut block)?;
        if let Some(plane) = self.0.get_mut(component) {
            plane.write(row, column, &block);
        }
        Ok(())
    }
}

/// Blocks that several scans fill.
struct Collected<'a>(&'a mut [Plane]);

impl Blocks for Collected<'_> {
    #[inline]
    fn fill(
        &mut self,
        component: usize,
        row: usize,
        column: usize,
        fill: impl FnOnce(&mut Block) -> Step<()>,
    ) -> Step<()> {
        let place = self.0.get_mut(component).and_then(|p| p.coefficients.get_mut(row * p.row_of_blocks + column));
        fill(place.unwrap_or(&mut [0; 64]))
    }
}

fn decoded(
    source: &mut Source<'_>,
    how: &Options,
    window: Option<Window>,
    check: Check<'_>,
) -> Step<Picture> {
    let mut segments = Segments::default();
    let Some(first) = segments.next_scan(source)? else { return bad("it has no scan") };
    let Some(frame) = &segments.frame else { return bad("it has no frame header") };
    let channels = if how.channels == 0 { frame.components.len().min(3) } else { how.channels };
    let Some(conversion) = Conversion::of(segments.colours(), channels, segments.adobe.is_some()) else {
        let has = frame.components.len();
        return bad(format!("{channels} channels can't be made of its {has} components"));
    };
    let (height, width) = (frame.height.div_ceil(how.ratio), frame.width.div_ceil(how.ratio));
    room(1, height, width, frame.components.len())?;
    let whole = [0, 0, height, width];
    let window = window.unwrap_or(whole);
    if !fits(window, height, width) {
        return bad(format!("the crop window leaves the picture of {height} rows and {width} columns"));
    }
    let several = first.components.len() < frame.components.len() || frame.progressive;
    let mut planes = planes(frame, how, conversion, several)?;
    let (unit_rows, height_of_unit) = (frame.units().1, frame.finest().1 * 8 / how.ratio);
    // The last row of samples waits for the one below, if that is looked at.
    let waiting = if planes.iter().any(|p| p.spread.looks_around()) { frame.finest().1 } else { 0 };
    let there = |complete: usize| match complete {
        n if n == unit_rows => height,
        n => (n * height_of_unit).saturating_sub(waiting),
    };
    let bottom = window[0] + window[2];
    let mut complete = 0;
    if several {
        let progressive = frame.progressive;
        if !progressive {
            segments.standard_tables();
        }
        let mut scan = first;
        loop {
            // The frame is lent out while the tables in the segments are made ready.
            let Some(frame) = segments.frame.take() else { return bad("it has no frame header") };
            scan::read(&mut segments, &frame, &scan, source, &mut Collected(&mut planes), || check().map(|()| false))?;
            segments.frame = Some(frame);
            match segments.next_scan(source)? {
                Some(_) if segments.scans > MOST_SCANS => return bad(format!("it has over {MOST_SCANS} scans")),
                Some(next) => scan = next,
                None => break,
            }
        }
        make_transforms(&segments, how, &mut planes);
        for plane in &mut planes {
            check()?;
            plane.finish();
        }
        complete = unit_rows;
    } else {
        segments.standard_tables();
        make_transforms(&segments, how, &mut planes);
        let Some(frame) = segments.frame.take() else { return bad("it has no frame header") };
        let read = scan::read(&mut segments, &frame, &first, source, &mut AtOnce(&mut planes), || {
            complete += 1;
            // Nobody looks at what follows a window, whatever it is.
            check().map(|()| bottom < height && there(complete) >= bottom)
        });
        segments.frame = Some(frame);
        match read {
            Ok(()) if bottom < height => complete = unit_rows,
            Ok(()) => {
                complete = unit_rows;
                match segments.next_scan(source) {
                    Ok(None) | Err(Stop::Short) => {}
                    Ok(Some(_)) => return bad("a scan follows the last one"),
                    Err(e) => return Err(e),
                }
            }
            Err(Stop::Short) => {}
            Err(e) => return Err(e),
        }
    }
    let Some(frame) = &segments.frame else { return bad("it has no frame header") };
    let rows = there(complete);
    let read = rows.saturating_sub(window[0]).min(window[2]);
    if (read as f32 / window[2] as f32) < how.acceptable_fraction.min(1.0) {
        return Err(Stop::Short);
    }
    let samples = pixels(frame, how, conversion, &mut planes, (rows, width), window, check)?;
    Ok(Picture { frames: None, height: window[2], width: window[3], channels, samples: Samples::Bytes(samples) })
}

/// Whether a window isn't empty and lies within a picture.
fn fits([y, x, rows, columns]: Window, height: usize, width: usize) -> bool {
    let inside = |from: usize, len: usize, all: usize| len > 0 && from.checked_add(len).is_some_and(|end| end <= all);
    inside(y, rows, height) && inside(x, columns, width)
}

/// The samples that a component's block has each way when the finest's are divided by `ratio`: colour of a lower
/// resolution is divided less.
fn block_size(frame: &Frame, across: usize, down: usize, ratio: usize) -> usize {
    let (finest, least) = (frame.finest(), 8 / ratio);
    let mut size = least;
    while size < 8 && finest.0 * least % (across * size * 2) == 0 && finest.1 * least % (down * size * 2) == 0 {
        size *= 2;
    }
    size
}

fn planes(frame: &Frame, how: &Options, conversion: Conversion, several: bool) -> Step<Vec<Plane>> {
    let finest = frame.finest();
    let (units_across, units_down) = frame.units();
    let mut bytes = 0usize;
    for c in &frame.components {
        let blocks = units_across * c.across * units_down * c.down;
        bytes = bytes.saturating_add(blocks * if several { 3 * 64 } else { 64 });
    }
    memory::check(bytes)?;
    let mut planes = Vec::new();
    for (i, c) in frame.components.iter().enumerate() {
        let size = block_size(frame, c.across, c.down, how.ratio);
        let (across, down) = frame.blocks(c);
        let needed = i < conversion.components();
        let extent = |side: usize, factor: usize, finest: usize| (side * factor * size).div_ceil(8 * finest);
        let extents = (extent(frame.width, c.across, finest.0), extent(frame.height, c.down, finest.1));
        let spread = match spread(frame, c, size, how, extents.0) {
            Some(spread) => spread,
            None if !needed => Spread::Repeat(1, 1),
            None => return bad("the sampling factors of its components don't divide each other"),
        };
        let row_of_blocks = across.next_multiple_of(c.across);
        let collected = if several { row_of_blocks * down.next_multiple_of(c.down) } else { 0 };
        planes.push(Plane {
            // A block without coefficients is grey.
            samples: vec![128; if needed { across * size * down * size } else { 0 }],
            stride: across * size,
            size,
            transform: None,
            blocks: (across, down),
            extents,
            spread,
            coefficients: vec![[0; 64]; collected],
            row_of_blocks,
        });
    }
    Ok(planes)
}

/// How the samples of a component, `size` to a block's side and `width` to a row, are spread over the pixels.
fn spread(frame: &Frame, c: &Component, size: usize, how: &Options, width: usize) -> Option<Spread> {
    let least = 8 / how.ratio;
    let group = (c.across * size / least, c.down * size / least);
    Spread::of(group, frame.finest(), how.fancy_upscaling && least > 1, width)
}

fn make_transforms(segments: &Segments, how: &Options, planes: &mut [Plane]) {
    let components = segments.frame.iter().flat_map(|f| &f.components);
    for (plane, c) in planes.iter_mut().zip(components) {
        plane.transform = c.quants.as_ref().map(|q| Transform::new(plane.size, how.fast, q));
    }
}

/// The pixels of a window, black below the rows that are there.
fn pixels(
    frame: &Frame,
    how: &Options,
    conversion: Conversion,
    planes: &mut Vec<Plane>,
    (rows, width): (usize, usize),
    [top, left, height, columns]: Window,
    check: Check<'_>,
) -> Step<Vec<u8>> {
    let (finest, least) = (frame.finest(), 8 / how.ratio);
    planes.truncate(conversion.components());
    let channels = if matches!(conversion, Conversion::Grey | Conversion::GreyOfRgb) { 1 } else { 3 };
    // A window's columns are decoded from where a unit starts, and nothing outside is looked at.
    let unit = if frame.components.len() == 1 { least } else { least * finest.0 };
    let cut = columns < width;
    let start = if cut { left / unit } else { 0 };
    let reach = if cut { left + columns - start * unit } else { width };
    let mut widths = Vec::new();
    let mut narrow = false;
    for (plane, c) in planes.iter().zip(&frame.components) {
        let w = if cut { (reach * c.across * plane.size / least).div_ceil(finest.0) } else { plane.extents.0 };
        narrow |= cut && w < 2 && plane.extents.0 >= 2;
        widths.push(w);
    }
    if narrow {
        for ((plane, c), w) in planes.iter_mut().zip(&frame.components).zip(&widths) {
            if let Some(spread) = spread(frame, c, plane.size, how, *w) {
                plane.spread = spread;
            }
        }
    }
    let bytes = room(1, height, columns, channels)?;
    memory::check(bytes)?;
    let mut out = vec![0; bytes];
    let mut lines = vec![vec![0; reach]; planes.len()];
    let mut row = vec![0; reach * channels];
    for (y, target) in (top..rows.min(top + height)).zip(out.chunks_exact_mut(columns * channels)) {
        if y % 64 == 0 {
            check()?;
        }
        for (((plane, c), line), w) in planes.iter().zip(&frame.components).zip(&mut lines).zip(&widths) {
            let across = if frame.components.len() == 1 { 1 } else { c.across };
            let column = start * across * plane.size;
            plane.spread.row(y, plane.extents.1, |r| plane.line(r, column, *w), line);
        }
        if cut {
            conversion.row(&lines, &mut row);
            if let Some(wanted) = row.get((left - start * unit) * channels..) {
                target.copy_from_slice(wanted);
            }
        } else {
            conversion.row(&lines, target);
        }
    }
    Ok(out)
}
