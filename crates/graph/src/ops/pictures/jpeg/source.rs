//! The bytes of a file, the markers among them, and what happens where they end.

use crate::Error;

/// How often a damaged file may be read again from where its last whole piece ended.
const MOST_RETURNS: u32 = 1 << 16;

/// Why decoding stops.
#[derive(Debug)]
pub(super) enum Stop {
    /// The bytes end within a piece: rows before it are good.
    Short,
    /// The file can't be decoded, or only what TensorFlow doesn't decode either.
    Bad(Error),
}

impl From<Error> for Stop {
    fn from(e: Error) -> Stop {
        Stop::Bad(e)
    }
}

impl From<crate::tensor::Error> for Stop {
    fn from(e: crate::tensor::Error) -> Stop {
        Stop::Bad(e.into())
    }
}

pub(super) type Step<T> = Result<T, Stop>;

/// Refuses a file, for a reason.
pub(super) fn bad<T>(why: impl std::fmt::Display) -> Step<T> {
    Err(Stop::Bad(wrong(why)))
}

/// The error of a file that is refused.
pub(super) fn wrong(why: impl std::fmt::Display) -> Error {
    Error::compute(format!("the picture isn't a JPEG that can be decoded: {why}"))
}

/// Where in a file a decoder is.
pub(super) struct Source<'a> {
    data: &'a [u8],
    at: usize,
    /// Where the last whole piece ended (a marker, a unit of coefficients).
    kept: usize,
    /// Whether what is missing at the end is made up, as `try_recover_truncated` asks.
    recover: bool,
    returns: u32,
    /// A marker that was met and not yet dealt with; 0 for none.
    pub marker: u8,
}

impl<'a> Source<'a> {
    pub(super) fn new(data: &'a [u8], recover: bool) -> Self {
        Source { data, at: 0, kept: 0, recover, returns: 0, marker: 0 }
    }

    /// The next byte.
    #[inline]
    pub(super) fn byte(&mut self) -> Step<u8> {
        loop {
            if let Some(b) = self.data.get(self.at) {
                self.at += 1;
                return Ok(*b);
            }
            self.refill()?;
        }
    }

    /// What follows the end: a file cut within a piece stops there, or is read from the piece's start again when it
    /// is to be recovered; after a whole piece an end marker is made up.
    #[cold]
    fn refill(&mut self) -> Step<()> {
        match (self.kept < self.data.len(), self.recover) {
            (true, false) => Err(Stop::Short),
            (false, false) => bad("it ends too early"),
            (true, true) => {
                self.returns += 1;
                if self.returns > MOST_RETURNS {
                    return bad("what is missing at its end can't be recovered");
                }
                self.at = self.kept;
                Ok(())
            }
            (false, true) => {
                (self.data, self.at, self.kept) = (&[0xff, 0xd9], 0, 0);
                Ok(())
            }
        }
    }

    /// The next eight bytes, where there are as many and none starts a marker.
    #[inline]
    pub(super) fn plain(&self) -> Option<u64> {
        let (eight, _) = self.data.get(self.at..)?.split_first_chunk::<8>()?;
        let word = u64::from_be_bytes(*eight);
        let inverse = !word;
        let has_ff = inverse.wrapping_sub(0x0101_0101_0101_0101) & word & 0x8080_8080_8080_8080;
        (has_ff == 0).then_some(word)
    }

    /// Passes over bytes that `plain` gave.
    #[inline]
    pub(super) fn pass(&mut self, bytes: usize) {
        self.at += bytes;
    }

    pub(super) fn word(&mut self) -> Step<u16> {
        Ok(u16::from_be_bytes([self.byte()?, self.byte()?]))
    }

    /// A segment's length without the two bytes that say it.
    pub(super) fn length(&mut self) -> Step<usize> {
        match usize::from(self.word()?).checked_sub(2) {
            Some(n) => Ok(n),
            None => bad("a segment is shorter than its length"),
        }
    }

    pub(super) fn skip(&mut self, bytes: usize) {
        self.at = self.at.saturating_add(bytes).min(self.data.len());
        self.keep();
    }

    /// A piece ends here.
    #[inline]
    pub(super) fn keep(&mut self) {
        self.kept = self.at;
    }

    /// Finds the next marker, past whatever lies before it.
    pub(super) fn next_marker(&mut self) -> Step<()> {
        loop {
            while self.byte()? != 0xff {
                self.keep();
            }
            let mut marker = 0xff;
            while marker == 0xff {
                marker = self.byte()?;
            }
            self.keep();
            if marker != 0 {
                self.marker = marker;
                return Ok(());
            }
        }
    }

    /// Takes the restart marker of a number. Where another one stands, it is passed over if it came too late, and left
    /// where it is if what should precede it seems lost.
    pub(super) fn restart(&mut self, number: u8) -> Step<()> {
        if self.marker == 0 {
            self.next_marker()?;
        }
        loop {
            match self.marker {
                0..0xc0 => self.next_marker()?,
                marker @ 0xd0..=0xd7 => match (marker - 0xd0).wrapping_sub(number) & 7 {
                    1 | 2 => return Ok(()),
                    6 | 7 => self.next_marker()?,
                    _ => {
                        self.marker = 0;
                        return Ok(());
                    }
                },
                _ => return Ok(()),
            }
        }
    }
}
