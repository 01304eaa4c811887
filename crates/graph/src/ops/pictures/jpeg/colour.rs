//! From components to pixels.

use super::markers::Colours;

/// How rows of components become a row of pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Conversion {
    /// The first component as it is.
    Grey,
    /// Grey of red, green and blue.
    GreyOfRgb,
    RgbOfGrey,
    Rgb,
    RgbOfYCbCr,
    /// Of four colours, which may be inverted.
    RgbOfCmyk(bool),
    /// The same, of which three are brightness and colour.
    RgbOfYcck(bool),
}

impl Conversion {
    /// What makes pixels of so many channels, if anything does. Files with Adobe's segment hold inverted inks.
    pub(super) fn of(colours: Colours, channels: usize, inverted: bool) -> Option<Conversion> {
        Some(match (colours, channels) {
            (Colours::Grey | Colours::YCbCr, 1) => Conversion::Grey,
            (Colours::Rgb, 1) => Conversion::GreyOfRgb,
            (Colours::Grey, 3) => Conversion::RgbOfGrey,
            (Colours::Rgb, 3) => Conversion::Rgb,
            (Colours::YCbCr, 3) => Conversion::RgbOfYCbCr,
            (Colours::Cmyk, 3) => Conversion::RgbOfCmyk(inverted),
            (Colours::Ycck, 3) => Conversion::RgbOfYcck(inverted),
            _ => return None,
        })
    }

    /// How many of the components count.
    pub(super) fn components(self) -> usize {
        match self {
            Conversion::Grey | Conversion::RgbOfGrey => 1,
            Conversion::GreyOfRgb | Conversion::Rgb | Conversion::RgbOfYCbCr => 3,
            Conversion::RgbOfCmyk(_) | Conversion::RgbOfYcck(_) => 4,
        }
    }

    /// Writes a row of pixels.
    pub(super) fn row(self, rows: &[Vec<u8>], out: &mut [u8]) {
        match (self, rows) {
            (Conversion::Grey, [grey, ..]) => {
                for (o, g) in out.iter_mut().zip(grey) {
                    *o = *g;
                }
            }
            (Conversion::RgbOfGrey, [grey, ..]) => {
                for (o, g) in out.chunks_exact_mut(3).zip(grey) {
                    o.fill(*g);
                }
            }
            (Conversion::GreyOfRgb, [r, g, b, ..]) => {
                for (((o, r), g), b) in out.iter_mut().zip(r).zip(g).zip(b) {
                    *o = luma(*r, *g, *b);
                }
            }
            (Conversion::Rgb, [r, g, b, ..]) => {
                for (((o, r), g), b) in out.chunks_exact_mut(3).zip(r).zip(g).zip(b) {
                    o.copy_from_slice(&[*r, *g, *b]);
                }
            }
            (Conversion::RgbOfYCbCr, [y, cb, cr, ..]) => {
                for (((o, y), cb), cr) in out.chunks_exact_mut(3).zip(y).zip(cb).zip(cr) {
                    o.copy_from_slice(&rgb(*y, *cb, *cr));
                }
            }
            (Conversion::RgbOfCmyk(inverted), [c, m, y, k, ..]) => {
                for ((((o, c), m), y), k) in out.chunks_exact_mut(3).zip(c).zip(m).zip(y).zip(k) {
                    o.copy_from_slice(&of_inks([*c, *m, *y], *k, inverted));
                }
            }
            (Conversion::RgbOfYcck(inverted), [y, cb, cr, k, ..]) => {
                for ((((o, y), cb), cr), k) in out.chunks_exact_mut(3).zip(y).zip(cb).zip(cr).zip(k) {
                    o.copy_from_slice(&of_inks(rgb(*y, *cb, *cr).map(|v| 255 - v), *k, inverted));
                }
            }
            _ => {}
        }
    }
}

/// Red, green and blue of brightness and colour, in fixed point of 16 bits.
#[inline(always)]
fn rgb(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let r = y + ((91881 * cr + 32768) >> 16);
    let g = y + ((-22554 * cb - 46802 * cr + 32768) >> 16);
    let b = y + ((116130 * cb + 32768) >> 16);
    [r.clamp(0, 255) as u8, g.clamp(0, 255) as u8, b.clamp(0, 255) as u8]
}

/// Brightness and colour of red, green and blue, likewise.
#[inline(always)]
pub(super) fn ycc(r: u8, g: u8, b: u8) -> [u8; 3] {
    let [red, green, blue] = [r, g, b].map(i32::from);
    let around = |sum: i32| ((sum + (128 << 16) + 32767) >> 16) as u8;
    let cb = around(-11059 * red - 21709 * green + 32768 * blue);
    let cr = around(32768 * red - 27439 * green - 5329 * blue);
    [luma(r, g, b), cb, cr]
}

/// The brightness of red, green and blue, in fixed point of 16 bits.
#[inline(always)]
pub(super) fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((19595 * u32::from(r) + 38470 * u32::from(g) + 7471 * u32::from(b) + 32768) >> 16) as u8
}

/// What is left of white under three inks and black.
fn of_inks(inks: [u8; 3], black: u8, inverted: bool) -> [u8; 3] {
    inks.map(|ink| {
        let (ink, black) = if inverted { (ink, black) } else { (255 - ink, 255 - black) };
        (u32::from(ink) * u32::from(black) / 255) as u8
    })
}
