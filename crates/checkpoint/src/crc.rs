//! Checksums as TensorFlow stores them: CRC-32C, masked so that a checksum of bytes that hold checksums stays useful.

pub(crate) use crc32c::crc32c_append as extend;

const DELTA: u32 = 0xa282_ead8;

/// What is stored for a checksum.
pub(crate) fn mask(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(DELTA)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_castagnolis_and_masked() {
        assert_eq!(extend(0, b"123456789"), 0xe306_9283);
        assert_eq!(extend(extend(0, b"1234"), b"56789"), 0xe306_9283);
        assert_eq!(mask(extend(0, b"")), 0xa282_ead8);
    }
}
