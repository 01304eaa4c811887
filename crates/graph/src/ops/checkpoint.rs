//! The ops by which a graph would read and write checkpoints itself.
//!
//! Reading and writing files is the caller's business: a loaded model already has its variables, and is saved by
//! whoever holds it. A graph can name these ops, and is refused only when it would run one.

use super::args::{int, one};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::Tensor;
use crate::{Error, Result};

fn refuse(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, _| {
        Err(Error::unsupported("a graph may not read or write files itself; load or save the model instead"))
    }))
}

/// The name of a shard, or of all of them.
fn named(base: &Tensor, shard: &str, shards: &Tensor) -> Result<Values> {
    let mut name = base.strings()?.first().map(|s| s.to_vec()).unwrap_or_default();
    name.extend(format!("-{shard}-of-{:05}", int(shards, "the number of shards")?).bytes());
    one(Tensor::scalar_string(name))
}

pub(super) const OPS: &[Op] = &[
    Op::new("SaveV2(prefix: string, tensor_names: string, shape_and_slices: string, tensors: [dtypes]) -> (); dtypes: list(type); stateful", refuse),
    Op::new("Save(filename: string, tensor_names: string, data: [T]) -> (); T: list(type); stateful", refuse),
    Op::new("SaveSlices(filename: string, tensor_names: string, shapes_and_slices: string, data: [T]) -> (); T: list(type); stateful", refuse),
    Op::new("RestoreV2(prefix: string, tensor_names: string, shape_and_slices: string) -> (tensors: [dtypes]); dtypes: list(type); stateful", refuse),
    Op::new("Restore(file_pattern: string, tensor_name: string) -> (tensor: dt); dt: type; preferred_shard: int = -1; stateful", refuse),
    Op::new("RestoreSlice(file_pattern: string, tensor_name: string, shape_and_slice: string) -> (tensor: dt); dt: type; preferred_shard: int = -1; stateful", refuse),
    Op::new("MergeV2Checkpoints(checkpoint_prefixes: string, destination_prefix: string) -> (); delete_old_dirs: bool = true; allow_missing_files: bool = false; stateful", refuse),
    Op::new("ReadFile(filename: string) -> (contents: string)", refuse),
    Op::new("WriteFile(filename: string, contents: string) -> (); stateful", refuse),
    Op::new("MatchingFiles(pattern: string) -> (filenames: string)", refuse),
    Op::new("ShardedFilename(basename: string, shard: int32, num_shards: int32) -> (filename: string)", |_| {
        Ok(kernel(|_, inputs| {
            let [base, shard, shards] = super::args::tensors(inputs)?;
            named(&base, &format!("{:05}", int(&shard, "the shard")?), &shards)
        }))
    }).ranks("0 0 0"),
    Op::new("ShardedFilespec(basename: string, num_shards: int32) -> (filename: string)", |_| {
        Ok(kernel(|_, inputs| {
            let [base, shards] = super::args::tensors(inputs)?;
            named(&base, "?????", &shards)
        }))
    }).ranks("0 0"),
];
