//! How attention may be spelled: products of queries with keys, a softmax, and its product with values.

use super::recognise::Spelling;
use crate::tensor::DType;
use crate::{Attr, Attrs, Builder, Error, Result, Sym};

/// The op that all of them are; see `ops/attention.rs`.
pub(super) const ATTENTION: &str = "ModelarkAttention";

/// How the two products are spelled.
#[derive(Clone, Copy)]
enum Products {
    /// Equations of queries with keys (in this order, or in the other), and of shares with values; a row holds all heads.
    Equations(&'static str, &'static str, bool),
    /// Products of matrices; a head holds all rows.
    Matrices,
}

const PRODUCTS: &[Products] = &[
    Products::Equations("BTNH,BSNH->BNTS", "BNTS,BSNH->BTNH", true),
    Products::Equations("aecd,abcd->acbe", "acbe,aecd->abcd", false),
    Products::Matrices,
];

/// How scores are masked: by a summand, by two of them, or by a number in place of those that don't count.
const MASKS: &[&str] = &["add twice", "add", "where", "where not", ""];
const SCALES: &[&str] = &["queries", "scores", "scores by", ""];

/// The greater ones first.
pub(super) fn spellings() -> Vec<Spelling> {
    let mut all = Vec::new();
    for products in PRODUCTS {
        for mask in MASKS {
            for scale in SCALES {
                all.push(spelling(*products, scale, mask));
            }
        }
    }
    all
}

/// Of queries, keys and values; then what scales, and one or two that mask, where there are such.
fn spelling(products: Products, scale: &'static str, mask: &'static str) -> Spelling {
    const NUMBERS: &[DType] = &[DType::F32; 6];
    const CHOSEN: &[DType] = &[DType::F32, DType::F32, DType::F32, DType::Bool, DType::F32];
    const SCALED_CHOSEN: &[DType] =
        &[DType::F32, DType::F32, DType::F32, DType::F32, DType::Bool, DType::F32];
    let masks = match mask {
        "" => 0,
        "add" => 1,
        _ => 2,
    };
    let count = 3 + usize::from(!scale.is_empty()) + masks;
    let dtypes = match (mask.starts_with("where"), scale) {
        (true, "") => CHOSEN,
        (true, _) => SCALED_CHOSEN,
        (false, _) => &NUMBERS[..count],
    };
    let by_rows = matches!(products, Products::Equations(..));
    Spelling {
        dtypes,
        op: ATTENTION,
        telling: if by_rows { &["Softmax", "Einsum"] } else { &["Softmax", "BatchMatMulV2"] },
        free: &[],
        attrs: Box::new(move |_, _| {
            Some(Attrs::from([
                ("by_rows".to_owned(), Attr::Bool(by_rows)),
                ("scale".to_owned(), Attr::from(scale)),
                ("mask".to_owned(), Attr::from(mask)),
                ("N".to_owned(), Attr::Int(count as i64)),
            ]))
        }),
        trace: Box::new(move |b, args| trace(b, args, products, scale, mask)),
    }
}

fn trace(b: &mut Builder, args: &[Sym], products: Products, scale: &str, mask: &str) -> Result<Sym> {
    let unfit = || Error::graph("attention of other arguments");
    let &[q, k, v, ref rest @ ..] = args else { return Err(unfit()) };
    let by = || rest.first().copied().ok_or_else(unfit);
    let q = if scale == "queries" { b.mul(q, by()?)? } else { q };
    let mut scores = match products {
        Products::Equations(equation, _, true) => {
            b.op("Einsum").inputs(&[q, k]).attr("equation", equation).one()?
        }
        Products::Equations(equation, _, false) => {
            b.op("Einsum").inputs(&[k, q]).attr("equation", equation).one()?
        }
        Products::Matrices => b.op("BatchMatMulV2").inputs(&[q, k]).attr("adj_y", true).one()?,
    };
    scores = match scale {
        "scores" => b.mul(scores, by()?)?,
        "scores by" => b.div(scores, by()?)?,
        _ => scores,
    };
    let masks = if scale.is_empty() { rest } else { rest.get(1..).unwrap_or_default() };
    scores = match (mask, masks) {
        ("add", &[mask]) => b.add(scores, mask)?,
        ("add twice", &[mask, more]) => {
            let masked = b.add(scores, mask)?;
            b.add(masked, more)?
        }
        ("where", &[counts, otherwise]) => b.select(counts, scores, otherwise)?,
        ("where not", &[counts, otherwise]) => b.select(counts, otherwise, scores)?,
        ("", []) => scores,
        _ => return Err(unfit()),
    };
    let shares = b.op("Softmax").input(scores).one()?;
    match products {
        Products::Equations(_, equation, _) => {
            b.op("Einsum").inputs(&[shares, v]).attr("equation", equation).one()
        }
        Products::Matrices => b.op("BatchMatMulV2").inputs(&[shares, v]).one(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::testing::{agree, numbers};
    use crate::tensor::{Bool, Tensor};

    fn one_number(v: f32) -> Tensor {
        Tensor::from_vec(vec![v], [1]).expect("one number")
    }

    #[test]
    fn spelled_attention_is_one_step() {
        for products in PRODUCTS {
            for scale in SCALES {
                for mask in MASKS {
                    check(*products, scale, mask, &one_number(0.4), -1e9);
                }
            }
        }
    }

    #[test]
    fn what_isnt_one_number_scales_as_it_is_written() {
        for products in PRODUCTS {
            // A number for each element of a query, and for each score of a row.
            check(*products, "queries", "add", &numbers(&[4], 7), 0.0);
            check(*products, "scores", "", &numbers(&[5], 7), 0.0);
        }
    }

    #[test]
    fn a_number_that_counts_masks_as_it_is_written() {
        check(Products::Matrices, "", "where", &one_number(1.0), 0.5);
        check(PRODUCTS[0], "scores", "where not", &one_number(1.0), -2.0);
    }

    #[test]
    fn what_is_masked_after_the_softmax_is_another_thing() {
        let inputs = [
            numbers(&[2, 3, 6, 4], 1),
            numbers(&[2, 3, 5, 4], 2),
            numbers(&[2, 3, 5, 8], 3),
            numbers(&[5], 4),
        ];
        let ops = agree(&inputs, &[], |b, x, _| {
            let scores = b.op("BatchMatMulV2").inputs(&[x[0], x[1]]).attr("adj_y", true).one()?;
            let shares = b.op("Softmax").input(scores).one()?;
            let masked = b.mul(shares, x[3])?;
            Ok(vec![b.op("BatchMatMulV2").inputs(&[masked, x[2]]).one()?])
        });
        assert!(!ops.contains(&ATTENTION.to_owned()), "{ops:?}");
    }

    /// With `otherwise` for scores that don't count.
    fn check(products: Products, scale: &'static str, mask: &'static str, by: &Tensor, otherwise: f32) {
        let shape = |rows: usize, size: usize| match products {
            Products::Equations(..) => [2, rows, 3, size],
            Products::Matrices => [2, 3, rows, size],
        };
        let mut inputs = vec![numbers(&shape(6, 4), 1), numbers(&shape(5, 4), 2), numbers(&shape(5, 8), 3)];
        if !scale.is_empty() {
            inputs.push(by.clone());
        }
        // In the first, every query has a key; in the second, one has none.
        let masks: Vec<Vec<Tensor>> = match mask {
            "" => vec![Vec::new()],
            "add" => vec![vec![numbers(&[2, 1, 6, 5], 4)]],
            "add twice" => vec![vec![numbers(&[2, 1, 6, 5], 4), one_number(1e-3)]],
            _ => [1, 6]
                .into_iter()
                .map(|from| {
                    let counts =
                        (0..60).map(|i| Bool::from((i >= from * 5 || from == 1) && i % 5 <= i / 5 % 6));
                    let counts: Vec<Bool> = if mask == "where not" {
                        counts.map(|c| Bool::from(!c.get())).collect()
                    } else {
                        counts.collect()
                    };
                    vec![Tensor::from_vec(counts, [2, 1, 6, 5]).expect("mask"), Tensor::scalar(otherwise)]
                })
                .collect(),
        };
        for masks in masks {
            let inputs: Vec<Tensor> = inputs.iter().cloned().chain(masks).collect();
            let ops = agree(&inputs, &[], |b, x, _| Ok(vec![trace(b, x, products, scale, mask)?]));
            assert_eq!(ops, [ATTENTION], "{scale:?} {mask:?}");
        }
    }
}
