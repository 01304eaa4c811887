//! Hashes of strings and of tensors.

use siphasher::sip::SipHasher24;

use super::args::{map1, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, kernel};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// A kernel that puts each string into one of `num_buckets` buckets by its hash.
fn buckets(a: &NodeAttrs<'_>, hash: impl Fn(&[u8]) -> u64 + Send + Sync + 'static) -> Result<Box<dyn Kernel>> {
    let n = a.int("num_buckets")?;
    let n = u64::try_from(n).ok().filter(|n| *n > 0).ok_or_else(|| Error::graph(format!("num_buckets is {n}")))?;
    map1(move |x| Tensor::from_vec(x.strings()?.iter().map(|s| (hash(s) % n) as i64).collect(), x.shape()))
}

/// The hash of `StringToHashBucket`: MurmurHash64A with a seed of TensorFlow's own.
fn legacy(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0xc6a4_a793_5bd1_e995;
    const SEED: u64 = 0x00de_cafc_affe;
    let mix = |k: u64| k ^ (k >> 47);
    let mut h = SEED ^ (bytes.len() as u64).wrapping_mul(FACTOR);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let k = mix(u64::from_le_bytes(*word).wrapping_mul(FACTOR)).wrapping_mul(FACTOR);
        h = (h ^ k).wrapping_mul(FACTOR);
    }
    if !rest.is_empty() {
        let tail = rest.iter().rev().fold(0u64, |k, b| k << 8 | u64::from(*b));
        h = (h ^ tail).wrapping_mul(FACTOR);
    }
    mix(mix(h).wrapping_mul(FACTOR))
}

fn strong(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let [first, second] = a.ints("key")?[..] else {
        return Err(Error::graph("attribute \"key\" must be two integers"));
    };
    let hasher = SipHasher24::new_with_keys(first as u64, second as u64);
    buckets(a, move |s| hasher.hash(s))
}

/// For each slice along the first dimension, the bytes of its fingerprint.
fn fingerprint(inputs: crate::engine::Values) -> Result<crate::engine::Values> {
    let [x, method] = tensors(inputs)?;
    if method.strings()?.first().is_none_or(|m| **m != *b"farmhash64") {
        return Err(Error::compute("the only method of fingerprints is \"farmhash64\""));
    }
    let Some(&rows) = x.shape().first() else {
        return Err(Error::compute("a fingerprint is of a tensor with dimensions, got a scalar"));
    };
    let per_row = x.len().checked_div(rows).unwrap_or_default();
    let mut out = Vec::with_capacity(rows.saturating_mul(8).min(1 << 20));
    if x.dtype() == DType::String {
        let strings = x.strings()?;
        for row in 0..rows {
            let row = &strings[row * per_row..(row + 1) * per_row];
            let hash = match row {
                [one] => farmhash::fingerprint64(one),
                several => {
                    let each = several.iter().flat_map(|s| farmhash::fingerprint64(s).to_le_bytes());
                    farmhash::fingerprint64(&each.collect::<Vec<u8>>())
                }
            };
            out.extend(hash.to_le_bytes());
        }
    } else {
        let bytes = x.bytes()?;
        let len = bytes.len().checked_div(rows).unwrap_or_default();
        for row in 0..rows {
            out.extend(farmhash::fingerprint64(&bytes[row * len..(row + 1) * len]).to_le_bytes());
        }
    }
    one(Tensor::from_vec(out, [rows, 8])?)
}

pub(super) const OPS: &[Op] = &[
    Op::new("StringToHashBucketFast(input: string) -> (output: int64); num_buckets: int", |a| buckets(a, farmhash::fingerprint64)),
    Op::new("StringToHashBucket(string_tensor: string) -> (output: int64); num_buckets: int", |a| buckets(a, legacy)),
    Op::new("StringToHashBucketStrong(input: string) -> (output: int64); num_buckets: int; key: list(int)", strong),
    Op::new("Fingerprint(data: T, method: string) -> (fingerprint: uint8); T: type", |_| Ok(kernel(|_, inputs| fingerprint(inputs)))),
];
