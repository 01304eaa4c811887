//! Bessel functions of orders 0 and 1, in double precision.

use std::f64::consts::PI;

const EULER: f64 = 0.577_215_664_901_532_9;

/// The factors `x / 2` to the order, and the reciprocals of the order's products, are all that tells orders apart.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Order {
    Zero,
    One,
}

impl Order {
    fn number(self) -> f64 {
        if self == Order::Zero { 0.0 } else { 1.0 }
    }
}

/// `I(x) e^-|x|`, modified, of the first kind.
pub(super) fn i_scaled(order: Order, x: f64) -> f64 {
    let v = order.number();
    let size = x.abs();
    let value = if size.is_infinite() {
        0.0
    } else if size < 20.0 {
        i_series(v, size) * (-size).exp()
    } else {
        // Terms shrink until they are as small as e^-2x.
        let (mut term, mut sum) = (1.0, 1.0);
        for k in 1..40 {
            let odd = f64::from(2 * k - 1);
            term *= (odd * odd - 4.0 * v * v) / (8.0 * f64::from(k) * size);
            sum += term;
            if term.abs() < f64::EPSILON * sum {
                break;
            }
        }
        sum / (2.0 * PI * size).sqrt()
    };
    if order == Order::One && x < 0.0 { -value } else { value }
}

fn i_series(v: f64, x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let start = if v == 0.0 { 1.0 } else { x / 2.0 };
    let (mut term, mut sum, mut k) = (start, start, 0.0);
    while term > f64::EPSILON * 0.1 * sum {
        k += 1.0;
        term *= quarter / (k * (k + v));
        sum += term;
    }
    if x.is_nan() { x } else { sum }
}

/// `I(x)`, modified, of the first kind.
pub(super) fn i(order: Order, x: f64) -> f64 {
    if x.abs() < 20.0 && x != 0.0 {
        let value = i_series(order.number(), x.abs());
        return if order == Order::One && x < 0.0 { -value } else { value };
    }
    i_scaled(order, x) * x.abs().exp()
}

/// `K(x) e^x`, modified, of the second kind: infinite where `x` isn't positive.
pub(super) fn k_scaled(order: Order, x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    if x <= 0.0 {
        return f64::INFINITY;
    }
    if x.is_infinite() {
        return 0.0;
    }
    if x <= 1.0 {
        return k_series(order, x) * x.exp();
    }
    // The integral of e^-x(cosh t - 1) cosh vt: sums of such smooth peaks are exact once steps are small beside them.
    let step = (0.7 / x.sqrt()).min(0.25);
    let mut sum = 0.5;
    for i in 1..1000 {
        let t = step * f64::from(i);
        // cosh t - 1, without cancelling.
        let rise = 2.0 * (t / 2.0).sinh().powi(2);
        let weight = if order == Order::Zero { 1.0 } else { rise + 1.0 };
        let term = (-x * rise).exp() * weight;
        sum += term;
        if term < f64::EPSILON * 0.01 * sum {
            break;
        }
    }
    sum * step
}

/// `K(x)` of a small positive `x`.
fn k_series(order: Order, x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let log = (x / 2.0).ln();
    // What the digamma function is at k + 1, and at k + 2.
    let (mut low, mut high) = (-EULER, 1.0 - EULER);
    let (mut term, mut sum) = (1.0, 0.0);
    for k in 0..30 {
        sum += term * if order == Order::Zero { low } else { low + high };
        let k = f64::from(k) + 1.0;
        term *= quarter / (k * if order == Order::Zero { k } else { k + 1.0 });
        low += 1.0 / k;
        high += 1.0 / (k + 1.0);
        if term < f64::EPSILON * 0.01 {
            break;
        }
    }
    match order {
        Order::Zero => sum - log * i_series(0.0, x),
        Order::One => 1.0 / x + log * i_series(1.0, x) - x / 4.0 * sum,
    }
}

/// `K(x)`, modified, of the second kind.
pub(super) fn k(order: Order, x: f64) -> f64 {
    if x > 0.0 && x <= 1.0 { k_series(order, x) } else { k_scaled(order, x) * (-x.max(0.0)).exp() }
}

/// `J(x)`, of the first kind.
pub(super) fn j(order: Order, x: f64) -> f64 {
    match order {
        _ if x.is_infinite() => f64::NAN,
        Order::Zero => libm::j0(x),
        Order::One => libm::j1(x),
    }
}

/// `Y(x)`, of the second kind: infinite where `x` isn't positive.
pub(super) fn y(order: Order, x: f64) -> f64 {
    match order {
        _ if x <= 0.0 => f64::NEG_INFINITY,
        _ if x.is_infinite() => f64::NAN,
        Order::Zero => libm::y0(x),
        Order::One => libm::y1(x),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kinds_go_together() {
        // I0 K1 + I1 K0 = 1 / x.
        for x in [1e-5, 0.1, 0.9, 1.0, 1.1, 3.0, 19.9, 20.0, 55.0, 1e3, 1e6] {
            let whole = i_scaled(Order::Zero, x) * k_scaled(Order::One, x)
                + i_scaled(Order::One, x) * k_scaled(Order::Zero, x);
            assert!((whole * x - 1.0).abs() < 4e-15, "{x}: {}", whole * x);
        }
        assert!((i(Order::Zero, 1.0) - 1.266_065_877_752_008_4).abs() < 1e-15);
        assert!((k(Order::Zero, 1.0) - 0.421_024_438_240_708_3).abs() < 1e-15);
        assert_eq!(i(Order::One, -2.0), -i(Order::One, 2.0));
        assert_eq!(k(Order::Zero, 0.0), f64::INFINITY);
        assert!(k(Order::One, f64::NAN).is_nan() && i(Order::Zero, f64::NAN).is_nan());
    }
}
