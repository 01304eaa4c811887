//! From pixels to components: their samples, over whole blocks.

use super::colour::ycc;
use super::markers::{Component, Frame};

/// A component's samples, row by row.
pub(super) struct Samples {
    width: usize,
    data: Vec<u8>,
}

impl Samples {
    /// The components of a picture of 1 or 3 channels, as a frame spreads them.
    pub(super) fn of(pixels: &[u8], frame: &Frame) -> Vec<Samples> {
        let channels = frame.components.len();
        let width = frame.units().0 * frame.finest().0 * 8;
        let mut whole: Vec<Vec<u8>> = (0..channels).map(|_| Vec::with_capacity(width * frame.height)).collect();
        for row in pixels.chunks_exact(frame.width * channels) {
            for pixel in row.chunks_exact(channels) {
                match (pixel, &mut whole[..]) {
                    ([r, g, b], [luma, blue, red]) => {
                        let [y, cb, cr] = ycc(*r, *g, *b);
                        luma.push(y);
                        blue.push(cb);
                        red.push(cr);
                    }
                    ([grey, ..], [luma, ..]) => luma.push(*grey),
                    _ => {}
                }
            }
            // What lies right of the picture is its last column.
            for samples in &mut whole {
                let last = samples.last().copied().unwrap_or(0);
                samples.resize(samples.len() + width - frame.width, last);
            }
        }
        let finest = frame.finest();
        let component = |(c, data): (&Component, Vec<u8>)| {
            let fine = Samples { width, data };
            if (c.across, c.down) == finest { fine } else { fine.halved() }
        };
        frame.components.iter().zip(whole).map(component).collect()
    }

    /// Half as many, both ways: means of four, of which every other one of a row is rounded up.
    fn halved(&self) -> Samples {
        let width = self.width / 2;
        let mut data = Vec::with_capacity(width * self.data.len().div_ceil(self.width.max(1)).div_ceil(2));
        for pair in self.data.chunks(2 * self.width.max(1)) {
            let (upper, lower) = pair.split_at(self.width.min(pair.len()));
            // The last row of an odd number stands for the next.
            let lower = if lower.is_empty() { upper } else { lower };
            let sums = upper.chunks_exact(2).zip(lower.chunks_exact(2)).enumerate();
            data.extend(sums.map(|(i, (a, b))| {
                let sum: u16 = a.iter().chain(b).map(|s| u16::from(*s)).sum();
                ((sum + 1 + (i % 2) as u16) >> 2) as u8
            }));
        }
        Samples { width, data }
    }

    /// A block; below the picture its last row goes on.
    pub(super) fn block(&self, row: usize, column: usize) -> [[u8; 8]; 8] {
        let rows = self.data.len() / self.width.max(1);
        std::array::from_fn(|r| {
            let start = (8 * row + r).min(rows.saturating_sub(1)) * self.width + 8 * column;
            self.data.get(start..).and_then(|d| d.first_chunk::<8>()).copied().unwrap_or_default()
        })
    }
}
