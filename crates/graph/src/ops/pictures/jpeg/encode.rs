//! Encoding: coefficients from pixels, a file from coefficients.
//!
//! The files are those of TensorFlow's encoder, byte for byte.

use super::codes::{Codes, Counts, TABLES, Writer};
use super::coder::{self, Coefficients};
use super::fdct;
use super::huffman::standard;
use super::markers::{Component, Frame, LARGEST_SIDE, Scan};
use super::samples::Samples;
use crate::{Error, Result};

/// How a JPEG is written: `EncodeJpeg`'s attributes.
#[derive(Clone)]
pub(in super::super) struct Settings {
    /// From 0 to 100.
    pub quality: u8,
    pub progressive: bool,
    /// Whether codes are made for the picture.
    pub optimized: bool,
    /// Whether colour has half the resolution of brightness, both ways.
    pub coarse_colour: bool,
    /// Whether the density is that of an inch, not of a centimeter.
    pub inches: bool,
    pub density: [u16; 2],
    /// Metadata of Adobe's XMP; none if empty.
    pub xmp: Vec<u8>,
}

impl Default for Settings {
    /// What TensorFlow does when nothing is asked.
    fn default() -> Settings {
        Settings {
            quality: 95,
            progressive: false,
            optimized: false,
            coarse_colour: true,
            inches: true,
            density: [300, 300],
            xmp: Vec::new(),
        }
    }
}

/// What XMP metadata start with.
const XMP: &[u8] = b"http://ns.adobe.com/xap/1.0/\0";

/// Tables of T.81's annex K.1, of brightness and of colour.
#[rustfmt::skip]
const QUANTS: [[u8; 64]; 2] = [
    [
        16, 11, 10, 16, 24, 40, 51, 61,
        12, 12, 14, 19, 26, 58, 60, 55,
        14, 13, 16, 24, 40, 57, 69, 56,
        14, 17, 22, 29, 51, 87, 80, 62,
        18, 22, 37, 56, 68, 109, 103, 77,
        24, 35, 55, 64, 81, 104, 113, 92,
        49, 64, 78, 87, 103, 121, 120, 101,
        72, 92, 95, 98, 112, 100, 103, 99,
    ],
    [
        17, 18, 24, 47, 99, 99, 99, 99,
        18, 21, 26, 66, 99, 99, 99, 99,
        24, 26, 56, 99, 99, 99, 99, 99,
        47, 66, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99,
        99, 99, 99, 99, 99, 99, 99, 99,
    ],
];

/// A table of annex K.1 for a quality: halved at 75, doubled at 25.
fn quants(of_colour: bool, quality: u8) -> [u16; 64] {
    let percent = match u16::from(quality) {
        0 => 5000,
        q @ 1..50 => 5000 / q,
        q => 200 - 2 * q.min(100),
    };
    QUANTS[usize::from(of_colour)].map(|q| ((u32::from(q) * u32::from(percent) + 50) / 100).clamp(1, 255) as u16)
}

/// Encodes grey (1 channel) or colour (3).
pub(in super::super) fn encode(pixels: &[u8], size: [usize; 2], channels: usize, how: &Settings) -> Result<Vec<u8>> {
    let wrong = |why: String| Err(Error::compute(format!("the picture can't be a JPEG: {why}")));
    let [height, width] = size;
    if channels != 1 && channels != 3 {
        return wrong(format!("it has {channels} channels, not 1 or 3"));
    }
    if height > LARGEST_SIDE || width > LARGEST_SIDE {
        return wrong(format!("a side is longer than {LARGEST_SIDE}"));
    }
    if how.xmp.len() + XMP.len() > usize::from(u16::MAX) - 2 {
        return wrong(format!("its XMP metadata have {} bytes, too many for a segment", how.xmp.len()));
    }
    let coarse = channels == 3 && how.coarse_colour;
    let component = |i: u8| {
        let (of_colour, finer) = (i > 0, if coarse && i == 0 { 2 } else { 1 });
        Component {
            id: i + 1,
            across: finer,
            down: finer,
            quantizer: of_colour.into(),
            quants: Some(quants(of_colour, how.quality)),
        }
    };
    let components = (0..channels as u8).map(component).collect();
    let frame = Frame { height, width, progressive: how.progressive, components };
    let planes = planes(pixels, &frame);

    let mut out = vec![0xff, 0xd8];
    let mut jfif = b"JFIF\0\x01\x01".to_vec();
    jfif.push(if how.inches { 1 } else { 2 });
    jfif.extend(how.density.iter().flat_map(|d| d.to_be_bytes()));
    jfif.extend([0, 0]);
    segment(&mut out, 0xe0, &jfif);
    if !how.xmp.is_empty() {
        segment(&mut out, 0xe1, &[XMP, &how.xmp].concat());
    }
    for number in 0..channels.min(2) as u8 {
        if let Some(c) = frame.components.iter().find(|c| c.quantizer == number) {
            segment(&mut out, 0xdb, &c.quantizer_segment());
        }
    }
    segment(&mut out, if how.progressive { 0xc2 } else { 0xc0 }, &frame.segment());
    for scan in scans(channels, how.progressive) {
        let tables = tables(&frame, &planes, &scan, how.optimized);
        // Brightness before colour, DC before AC.
        for number in 0..2 {
            for (class, codes) in [(0, &tables[number]), (0x10, &tables[2 + number])] {
                let Some(codes) = codes else { continue };
                let mut table = vec![class | number as u8];
                table.extend(codes.counts);
                table.extend(&codes.symbols);
                segment(&mut out, 0xc4, &table);
            }
        }
        segment(&mut out, 0xda, &scan.segment(&frame));
        let mut writer = Writer::new(&tables, &mut out);
        coder::encode(&frame, &planes, &scan, &mut writer);
        writer.finish();
    }
    out.extend([0xff, 0xd9]);
    Ok(out)
}

/// Writes a marker with what belongs to it, which isn't longer than a segment can be.
fn segment(out: &mut Vec<u8>, marker: u8, data: &[u8]) {
    out.extend([0xff, marker]);
    out.extend(((data.len() + 2) as u16).to_be_bytes());
    out.extend(data);
}

/// The coefficients of all components. Blocks that only fill a unit have the DC of the block before.
fn planes(pixels: &[u8], frame: &Frame) -> Vec<Coefficients> {
    let (units_across, units_down) = frame.units();
    let plane = |(c, samples): (&Component, Samples)| {
        let (across, down) = (units_across * c.across, units_down * c.down);
        let (has_across, has_down) = frame.blocks(c);
        let quants = c.quants.unwrap_or([1; 64]);
        let mut blocks: Vec<[i16; 64]> = Vec::with_capacity(across * down);
        for row in 0..down {
            for column in 0..across {
                let before = match (row < has_down, column < has_across) {
                    (true, true) => {
                        blocks.push(fdct::coefficients(&samples.block(row, column), &quants));
                        continue;
                    }
                    (true, false) => blocks.last(),
                    // The last of the unit's blocks in the row above.
                    (false, _) => blocks.get((row - 1) * across + column / c.across * c.across + c.across - 1),
                };
                let mut filling = [0; 64];
                filling[0] = before.map_or(0, |b| b[0]);
                blocks.push(filling);
            }
        }
        Coefficients { blocks, across }
    };
    frame.components.iter().zip(Samples::of(pixels, frame)).map(plane).collect()
}

/// The scans of a file: one of everything, or those in which TensorFlow's encoder sends a picture little by little.
fn scans(channels: usize, progressive: bool) -> Vec<Scan> {
    let scan = |components: std::ops::Range<usize>, band, high, low| {
        let number = |place: usize| u8::from(place > 0);
        Scan { components: components.map(|c| (c, number(c), number(c))).collect(), band, high, low }
    };
    match (progressive, channels) {
        (false, _) => vec![scan(0..channels, (0, 63), 0, 0)],
        (true, 3) => vec![
            scan(0..3, (0, 0), 0, 1),
            scan(0..1, (1, 5), 0, 2),
            scan(2..3, (1, 63), 0, 1),
            scan(1..2, (1, 63), 0, 1),
            scan(0..1, (6, 63), 0, 2),
            scan(0..1, (1, 63), 2, 1),
            scan(0..3, (0, 0), 1, 0),
            scan(2..3, (1, 63), 1, 0),
            scan(1..2, (1, 63), 1, 0),
            scan(0..1, (1, 63), 1, 0),
        ],
        (true, _) => vec![
            scan(0..1, (0, 0), 0, 1),
            scan(0..1, (1, 5), 0, 2),
            scan(0..1, (6, 63), 0, 2),
            scan(0..1, (1, 63), 2, 1),
            scan(0..1, (0, 0), 1, 0),
            scan(0..1, (1, 63), 1, 0),
        ],
    }
}

/// The codes that a scan needs: those of annex K.3, or the best.
fn tables(frame: &Frame, planes: &[Coefficients], scan: &Scan, optimized: bool) -> [Option<Codes>; TABLES] {
    if optimized || frame.progressive {
        let mut counts = Counts::new();
        coder::encode(frame, planes, scan, &mut counts);
        return std::array::from_fn(|table| counts.best(table));
    }
    let [dc, ac] = [standard::DC, standard::AC].map(|specs| specs.map(|spec| Some(Codes::new(spec))));
    let ([dc0, dc1], [ac0, ac1]) = (dc, ac);
    let coloured = frame.components.len() > 1;
    [dc0, dc1.filter(|_| coloured), ac0, ac1.filter(|_| coloured)]
}
