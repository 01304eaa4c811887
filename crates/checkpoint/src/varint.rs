//! Variable-length integers: seven bits a byte, lowest first, the top bit set on all but the last.

/// Takes one off the front, or `None` when it is cut short or over 64 bits.
pub(crate) fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for (i, &b) in bytes.iter().enumerate().take(10) {
        // The tenth byte holds the one bit that is left.
        if i == 9 && b > 1 {
            return None;
        }
        value |= u64::from(b & 0x7f) << (7 * i);
        if b & 0x80 == 0 {
            *bytes = bytes.get(i + 1..)?;
            return Some(value);
        }
    }
    None
}

/// Appends one.
pub(crate) fn write(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_length_survive() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
                let mut bytes = Vec::new();
                write(&mut bytes, value);
                bytes.push(0xaa);
                let mut rest = &bytes[..];
                assert_eq!((read(&mut rest), rest), (Some(value), &[0xaa][..]));
            }
        }
    }

    #[test]
    fn what_is_cut_short_or_too_long_is_refused() {
        for bad in [&[][..], &[0x80], &[0xff; 10], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 2]]
        {
            let mut rest = bad;
            assert_eq!(read(&mut rest), None, "{bad:?}");
        }
    }
}
