//! Element by element: arithmetic, comparisons, logic, bits, and the functions of one number.
//!
//! Functions take tensors by value: where an operand is the last holder of its elements and has the result's
//! shape, they are overwritten instead of allocating. Cloning a tensor to keep it costs nothing. Operands
//! broadcast by NumPy's rules. Half precision is computed in `float32` and rounded once.

mod arith;
mod bessel;
mod bits;
mod compare;
mod compiled;
mod complex;
mod float;
mod gamma;
mod gradient;
mod higher;
mod integrals;
mod map;
pub(crate) mod math;
mod number;
mod special;

pub use arith::{
    abs, add, div, div_no_nan, floor_div, floor_mod, maximum, minimum, mul, mul_no_nan, neg, pow, sign,
    square, squared_difference, sub, truncated_mod,
};
pub use bits::{
    bitwise_and, bitwise_not, bitwise_or, bitwise_xor, logical_and, logical_not, logical_or,
    population_count, shift_left, shift_right,
};
pub use compare::{approximate_equal, equal, greater, greater_equal, less, less_equal, not_equal};
pub use compiled::{
    cubic_root, divide, leading_zeros, power, reduce_precision, remainder, round_half_away, shift_out_left,
    shift_out_right, shift_out_right_signed, to_integer,
};
pub use complex::{angle, complex, conj, imag, magnitude, real};
pub use float::{
    acos, acosh, asin, asinh, atan, atan2, atanh, ceil, cos, cosh, digamma, elu, erf, erfc, erfinv, exp,
    expm1, floor, is_finite, is_inf, is_nan, leaky_relu, lgamma, log, log1p, ndtri, next_after, reciprocal,
    relu, relu6, round_half_even, rsqrt, selu, sigmoid, sin, sinh, softplus, softsign, sqrt, tan, tanh,
    truncate, xdivy, xlog1py, xlogy,
};
pub(crate) use float::{selu_f64, sigmoid_f64, softplus_f64};
pub use gradient::{
    elu_grad, leaky_relu_grad, reciprocal_grad, relu_grad, relu6_grad, rsqrt_grad, selu_grad, softplus_grad,
    softsign_grad, sqrt_grad,
};
pub use higher::{
    bessel_i0, bessel_i0e, bessel_i1, bessel_i1e, bessel_j0, bessel_j1, bessel_k0, bessel_k0e, bessel_k1,
    bessel_k1e, bessel_y0, bessel_y1, betainc, dawsn, expint, fresnel_cos, fresnel_sin, igamma,
    igamma_grad_a, igammac, polygamma, spence, zeta,
};
pub(crate) use map::same_dtype;
pub(crate) use number::{Number, Real};
