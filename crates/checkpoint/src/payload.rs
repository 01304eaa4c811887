//! The bytes of a tensor in a data file, and their checksum.
//!
//! Numbers are their elements. Strings are their lengths as varints, a checksum of the lengths, then the bytes of all;
//! that checksum runs over the lengths as fixed integers, and the tensor's own goes on from it.

use std::io::Write;

use modelark_artifact::{Error, Result};
use modelark_tensor::{ByteString, DType, SharedBytes, Tensor, checked_elements};
use rayon::prelude::*;

use crate::{crc, varint};

/// As much as is checksummed and then written while it is still in the cache.
const CHUNK: usize = 1 << 20;

/// Reads a tensor whose bytes are `bytes`; `stored` is its masked checksum, when it is to be compared.
///
/// # Errors
/// When the bytes are too many or too few, or the checksum differs.
pub(crate) fn read(
    dtype: DType,
    shape: &[usize],
    bytes: SharedBytes,
    big_endian: bool,
    stored: Option<u32>,
) -> Result<Tensor> {
    if dtype == DType::String {
        let (strings, crc) = read_strings(&bytes, checked_elements(shape)?, big_endian)?;
        compare(crc, stored)?;
        return Ok(Tensor::from_strings(strings, shape)?);
    }
    let Some(width) = dtype.size() else {
        return Err(Error::unsupported(format!("{dtype} tensors aren't read: they are no plain values")));
    };
    let wanted = checked_elements(shape)?.checked_mul(width);
    if wanted != Some(bytes.len()) {
        return Err(Error::corrupt(format!(
            "a {dtype} tensor of shape {shape:?} doesn't take {} bytes",
            bytes.len()
        )));
    }
    if stored.is_some() {
        compare(checksum(&bytes), stored)?;
    }
    let part = if dtype.is_complex() { width / 2 } else { width };
    let bytes = if big_endian && part > 1 { swapped(bytes, part) } else { bytes };
    Ok(Tensor::from_bytes(dtype, shape, extended(dtype, bytes))?)
}

/// How far a signed integer of so few bits must be shifted to fill its byte; TensorFlow stores only its low bits.
fn spare_bits(dtype: DType) -> Option<u32> {
    match dtype {
        DType::I4 => Some(4),
        DType::I2 => Some(6),
        _ => None,
    }
}

/// Bytes of small signed integers with their sign in the bits that TensorFlow leaves zero; others as they are.
pub(crate) fn extended(dtype: DType, mut bytes: SharedBytes) -> SharedBytes {
    let Some(spare) = spare_bits(dtype) else { return bytes };
    let extend = |b: u8| ((b << spare) as i8 >> spare) as u8;
    if bytes.iter().any(|&b| extend(b) != b) {
        bytes.make_mut().iter_mut().for_each(|b| *b = extend(*b));
    }
    bytes
}

/// Writes a tensor's bytes; gives how many and their checksum, not masked.
pub(crate) fn write(tensor: &Tensor, out: &mut impl Write) -> Result<(u64, u32)> {
    if tensor.dtype() == DType::String {
        return write_strings(tensor.strings()?, out);
    }
    let mut bytes = tensor.bytes()?.clone();
    if let Some(spare) = spare_bits(tensor.dtype()) {
        bytes.make_mut().iter_mut().for_each(|b| *b &= u8::MAX >> spare);
    }
    let mut crc = 0;
    for chunk in bytes.chunks(CHUNK) {
        crc = crc::extend(crc, chunk);
        out.write_all(chunk)?;
    }
    Ok((bytes.len() as u64, crc))
}

/// The checksum of many bytes, by as many threads as there are.
fn checksum(bytes: &[u8]) -> u32 {
    if bytes.len() <= 4 * CHUNK {
        return crc::extend(0, bytes);
    }
    bytes
        .par_chunks(CHUNK)
        .map(|chunk| (crc::extend(0, chunk), chunk.len()))
        .reduce(|| (0, 0), |(a, m), (b, n)| (crc32c::crc32c_combine(a, b, n), m + n))
        .0
}

fn compare(crc: u32, stored: Option<u32>) -> Result<()> {
    let actual = crc::mask(crc);
    match stored {
        Some(stored) if stored != actual => Err(Error::corrupt(format!(
            "the checksum of its data is {actual:#010x}, but {stored:#010x} is stored"
        ))
        .help("the data file is damaged or belongs to another save: restore it from a copy")),
        _ => Ok(()),
    }
}

fn swapped(mut bytes: SharedBytes, width: usize) -> SharedBytes {
    for element in bytes.make_mut().chunks_exact_mut(width) {
        element.reverse();
    }
    bytes
}

/// The checksum over one more length, which counts as 32 bits unless it needs more.
fn extend_length(crc: u32, length: u64, big_endian: bool) -> u32 {
    match u32::try_from(length) {
        Ok(l) if big_endian => crc::extend(crc, &l.to_be_bytes()),
        Ok(l) => crc::extend(crc, &l.to_le_bytes()),
        Err(_) if big_endian => crc::extend(crc, &length.to_be_bytes()),
        Err(_) => crc::extend(crc, &length.to_le_bytes()),
    }
}

fn read_strings(bytes: &[u8], n: usize, big_endian: bool) -> Result<(Vec<ByteString>, u32)> {
    let short = || Error::corrupt("the strings are cut short");
    // Every string takes a byte for its length at least.
    if n > bytes.len() {
        return Err(short());
    }
    let mut rest = bytes;
    let mut lengths = Vec::with_capacity(n);
    let mut crc = 0;
    for _ in 0..n {
        let length = varint::read(&mut rest).ok_or_else(short)?;
        crc = extend_length(crc, length, big_endian);
        lengths.push(usize::try_from(length).map_err(|_| short())?);
    }
    let (stored, after) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    rest = after;
    let of_lengths = if big_endian { u32::from_be_bytes(*stored) } else { u32::from_le_bytes(*stored) };
    if of_lengths != crc::mask(crc) {
        return Err(Error::corrupt("the checksum of its strings' lengths differs")
            .help("the data file is damaged or belongs to another save: restore it from a copy"));
    }
    crc = crc::extend(crc, stored);
    let mut strings = Vec::with_capacity(n);
    for length in lengths {
        let (string, after) = rest.split_at_checked(length).ok_or_else(short)?;
        strings.push(ByteString::from(string));
        rest = after;
        crc = crc::extend(crc, string);
    }
    if !rest.is_empty() {
        return Err(Error::corrupt(format!("{} bytes are left over after its strings", rest.len())));
    }
    Ok((strings, crc))
}

fn write_strings(strings: &[ByteString], out: &mut impl Write) -> Result<(u64, u32)> {
    let mut head = Vec::new();
    let mut crc = 0;
    for s in strings {
        varint::write(&mut head, s.len() as u64);
        crc = extend_length(crc, s.len() as u64, false);
    }
    let of_lengths = crc::mask(crc).to_le_bytes();
    crc = crc::extend(crc, &of_lengths);
    head.extend_from_slice(&of_lengths);
    out.write_all(&head)?;
    let mut size = head.len() as u64;
    for s in strings {
        crc = crc::extend(crc, s);
        out.write_all(s)?;
        size += s.len() as u64;
    }
    Ok((size, crc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_integers_have_their_sign_in_memory_and_not_in_the_file() {
        let stored: &[u8] = &[0x08, 0x07, 0x0f];
        let tensor = read(DType::I4, &[3], SharedBytes::copy_from(stored), false, None).expect("int4");
        assert_eq!(&**tensor.bytes().expect("bytes"), &[0xf8, 0x07, 0xff]);
        let mut out = Vec::new();
        write(&tensor, &mut out).expect("written");
        assert_eq!(out, stored);
    }

    fn bytes_of(tensor: &Tensor) -> (Vec<u8>, u32) {
        let mut out = Vec::new();
        let (size, crc) = write(tensor, &mut out).expect("write");
        assert_eq!(size, out.len() as u64);
        (out, crc::mask(crc))
    }

    #[test]
    fn strings_survive_and_damage_is_noticed() {
        let long = "x".repeat(300);
        let t = Tensor::from_strings(["", "ab", &long].map(str::as_bytes), [3]).expect("strings");
        let (bytes, crc) = bytes_of(&t);
        let back = |b: &[u8]| read(DType::String, &[3], b.into(), false, Some(crc));
        assert!(back(&bytes).expect("read").bit_eq(&t));
        for at in [1, 5, 8, 20] {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert!(back(&bad).is_err(), "{at}");
        }
        assert!(back(&bytes[..bytes.len() - 1]).is_err());
        assert!(back(&[&bytes[..], b"x"].concat()).is_err());
        let none = Tensor::from_strings(Vec::<ByteString>::new(), [0]).expect("strings");
        assert_eq!(bytes_of(&none).0, [0xd8, 0xea, 0x82, 0xa2]);
    }

    #[test]
    fn big_endian_elements_are_turned_around() {
        let t = read(DType::I16, &[2], vec![0, 1, 0xff, 0xfe].into(), true, None).expect("read");
        assert_eq!(t.as_slice::<i16>().expect("i16"), [1, -2]);
        let raw = [1f32.to_be_bytes(), 2f32.to_be_bytes()].concat();
        let t = read(DType::C64, &[], raw.into(), true, None).expect("read");
        let c = t.item::<modelark_tensor::Complex32>().expect("c64");
        assert_eq!((c.re, c.im), (1.0, 2.0));
    }

    #[test]
    fn many_bytes_have_the_checksum_of_one_pass() {
        let bytes: Vec<u8> = (0..5 * CHUNK + 17).map(|i| (i * 7 + i / 255) as u8).collect();
        assert_eq!(checksum(&bytes), crc::extend(0, &bytes));
    }
}
