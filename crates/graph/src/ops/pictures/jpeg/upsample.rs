//! Components with fewer samples than the picture has pixels: rows of all pixels from them.

/// How a component's samples are spread.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Spread {
    /// Each as often as this, across and down.
    Repeat(usize, usize),
    /// Twice as many across: three parts of the nearer, one of the further.
    Across,
    /// Twice as many down, likewise.
    Down,
    /// Both.
    Both,
}

impl Spread {
    /// What spreads groups of so many samples (across, down) to groups of pixels, if anything does.
    pub(super) fn of(from: (usize, usize), to: (usize, usize), smooth: bool, width: usize) -> Option<Spread> {
        let twice = (from.0 * 2 == to.0, from.1 * 2 == to.1);
        let same = (from.0 == to.0, from.1 == to.1);
        if smooth && width > 2 && twice.0 && same.1 {
            return Some(Spread::Across);
        }
        if smooth && same.0 && twice.1 {
            return Some(Spread::Down);
        }
        if smooth && width > 2 && twice.0 && twice.1 {
            return Some(Spread::Both);
        }
        let (across, down) = (to.0.checked_div(from.0)?, to.1.checked_div(from.1)?);
        (across * from.0 == to.0 && down * from.1 == to.1).then_some(Spread::Repeat(across, down))
    }

    /// Whether a row's pixels depend on the row of samples above or below.
    pub(super) fn looks_around(self) -> bool {
        matches!(self, Spread::Down | Spread::Both)
    }

    /// Writes the pixels of one row. `line` gives a row of samples, of at least as many as are looked at; rows outside
    /// count as the outermost, of which the last is `rows - 1`.
    pub(super) fn row<'a>(self, row: usize, rows: usize, line: impl Fn(usize) -> &'a [u8], out: &mut [u8]) {
        let neighbour = || {
            let beside = if row.is_multiple_of(2) { (row / 2).saturating_sub(1) } else { row / 2 + 1 };
            line(beside.min(rows.saturating_sub(1)))
        };
        match self {
            Spread::Repeat(1, down) => {
                for (o, s) in out.iter_mut().zip(line(row / down)) {
                    *o = *s;
                }
            }
            Spread::Repeat(across, down) => {
                for (group, s) in out.chunks_mut(across).zip(line(row / down)) {
                    group.fill(*s);
                }
            }
            Spread::Across => across(line(row), out),
            Spread::Down => {
                let bias = 1 + (row % 2) as u16;
                for ((o, near), far) in out.iter_mut().zip(line(row / 2)).zip(neighbour()) {
                    *o = ((u16::from(*near) * 3 + u16::from(*far) + bias) >> 2) as u8;
                }
            }
            Spread::Both => both(line(row / 2), neighbour(), out),
        }
    }
}

/// Writes two pixels for each value of a row: three parts of it and one of its neighbour, scaled down after a bias that
/// differs left and right. The outermost values are their own neighbours.
fn doubled<const SCALE: u32>(values: impl ExactSizeIterator<Item = u16>, bias: [u16; 2], out: &mut [u8]) {
    let mut padded = Vec::with_capacity(values.len() + 2);
    padded.push(0);
    padded.extend(values);
    if let [_, first, ..] = padded[..] {
        padded[0] = first;
        padded.extend(padded.last().copied());
    }
    let pixels = padded.windows(3).map(|w| {
        let (left, middle, right) = (w[0], 3 * w[1], w[2]);
        [((middle + left + bias[0]) >> SCALE) as u8, ((middle + right + bias[1]) >> SCALE) as u8]
    });
    // The last pixel of a row may be one alone.
    for (pixel, pair) in pixels.zip(out.chunks_mut(2)) {
        match pair {
            [a, b] => [*a, *b] = pixel,
            [a] => *a = pixel[0],
            _ => {}
        }
    }
}

fn across(samples: &[u8], out: &mut [u8]) {
    doubled::<2>(samples.iter().map(|s| u16::from(*s)), [1, 2], out);
}

fn both(near: &[u8], far: &[u8], out: &mut [u8]) {
    doubled::<4>(near.iter().zip(far).map(|(n, f)| 3 * u16::from(*n) + u16::from(*f)), [8, 7], out);
}
