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

/// The greater ones first.
pub(super) fn spellings() -> Vec<Spelling> {
    let mut all = Vec::new();
    for products in PRODUCTS {
        for scale in ["queries", "scores", "scores by", ""] {
            for masked in [true, false] {
                all.push(spelling(*products, scale, masked));
            }
        }
    }
    all
}

/// Of queries, keys and values; then what scales, and a mask, where there are such.
fn spelling(products: Products, scale: &'static str, masked: bool) -> Spelling {
    const DTYPES: &[DType] = &[DType::F32; 5];
    let count = 3 + usize::from(!scale.is_empty()) + usize::from(masked);
    let by_rows = matches!(products, Products::Equations(..));
    Spelling {
        dtypes: &DTYPES[..count],
        op: ATTENTION,
        free: &[],
        attrs: Box::new(move |_, _| {
            Some(Attrs::from([
                ("by_rows".to_owned(), Attr::Bool(by_rows)),
                ("scale".to_owned(), Attr::from(scale)),
                ("masked".to_owned(), Attr::Bool(masked)),
                ("N".to_owned(), Attr::Int(count as i64)),
            ]))
        }),
        trace: Box::new(move |b, args| trace(b, args, products, scale, masked)),
    }
}

fn trace(b: &mut Builder, args: &[Sym], products: Products, scale: &str, masked: bool) -> Result<Sym> {
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
    if masked {
        scores = b.add(scores, rest.last().copied().ok_or_else(unfit)?)?;
    }
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
    use crate::tensor::Tensor;

    #[test]
    fn spelled_attention_is_one_step() {
        for products in PRODUCTS {
            for scale in ["queries", "scores", "scores by", ""] {
                for masked in [true, false] {
                    check(*products, scale, masked, &Tensor::from_vec(vec![0.4f32], [1]).expect("scale"));
                }
            }
        }
    }

    #[test]
    fn what_isnt_one_number_scales_as_it_is_written() {
        for products in PRODUCTS {
            // A number for each element of a query, and for each score of a row.
            check(*products, "queries", true, &numbers(&[4], 7));
            check(*products, "scores", false, &numbers(&[5], 7));
        }
    }

    fn check(products: Products, scale: &'static str, masked: bool, by: &Tensor) {
        let shape = |rows: usize, size: usize| match products {
            Products::Equations(..) => [2, rows, 3, size],
            Products::Matrices => [2, 3, rows, size],
        };
        let mut inputs = vec![numbers(&shape(6, 4), 1), numbers(&shape(5, 4), 2), numbers(&shape(5, 8), 3)];
        if !scale.is_empty() {
            inputs.push(by.clone());
        }
        if masked {
            inputs.push(numbers(&[2, 1, 6, 5], 4));
        }
        let ops = agree(&inputs, &[], |b, x, _| Ok(vec![trace(b, x, products, scale, masked)?]));
        assert_eq!(ops, [ATTENTION], "{scale:?} {masked}");
    }
}
