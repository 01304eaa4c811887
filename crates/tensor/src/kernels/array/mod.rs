//! Moving elements: reordering, joining, cutting, picking, repeating, and making tensors from nothing.
//!
//! Elements are moved by their width, whatever they mean; strings move too. Axes are counted from the front and
//! in range; slices come with their masks and bounds resolved. Reshaping is [`Tensor::reshape`](crate::Tensor::reshape).

mod cast;
mod create;
mod diagonals;
mod gather;
mod join;
mod mover;
mod order;
mod pad;
mod select;
mod small_float;
mod strided;

pub use cast::cast;
pub use create::{band_part, eye, fill, linspace, one_hot, range};
pub use diagonals::{Align, Diagonals, diag, diag_part, set_diag};
pub use gather::{Scatter, gather, gather_nd, scatter, scatter_nd};
pub use join::{concat, expand_dims, split, squeeze, stack, unstack};
pub use order::{bin_count, invert_permutation, list_diff, nth_element, search_sorted, top_k, unique};
pub use pad::{Mirror, mirror_pad, pad};
pub use select::{coordinates, select, select_slices};
pub use strided::{
    broadcast_to, matrix_transpose, put_slice, reverse, roll, slice, strided_put, strided_slice, tile,
    transpose,
};
