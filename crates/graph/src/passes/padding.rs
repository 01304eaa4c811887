//! Zeros that are laid around an image for a convolution become the convolution's own padding, which copies nothing.

use super::part::Part;
use crate::{Attr, Node};

pub(super) fn run(part: &mut Part) {
    for &index in part.needed().iter() {
        let node = &part.graph.nodes[index];
        if !["Conv2D", "DepthwiseConv2dNative"].contains(&node.op.as_str()) {
            continue;
        }
        let Some((image, amounts)) = padded(part, node) else { continue };
        let node = &mut part.graph.nodes[index];
        node.inputs[0] = image;
        node.attrs.insert("padding".to_owned(), Attr::from("EXPLICIT"));
        let amounts = amounts.into_iter().map(Attr::Int).collect();
        node.attrs.insert("explicit_paddings".to_owned(), Attr::List(amounts));
    }
}

/// The image that a convolution's input is when the zeros around it are left out, and how many there are on each side.
fn padded(part: &Part, node: &Node) -> Option<(crate::Output, Vec<i64>)> {
    let text = |name: &str| part.attr(node, name).and_then(Attr::as_str);
    if text("padding") != Some("VALID") || text("data_format") != Some("NHWC") {
        return None;
    }
    let pad = part.made_by(*node.inputs.first()?, "Pad").filter(|pad| pad.controls.is_empty())?;
    let [image, amounts] = pad.inputs[..] else { return None };
    let amounts = part.constant(amounts).filter(|t| t.shape() == [4, 2])?.to_i64_vec().ok()?;
    let spatial =
        amounts.iter().all(|n| *n >= 0) && amounts.iter().take(2).chain(&amounts[6..]).all(|n| *n == 0);
    spatial.then_some((image, amounts))
}

#[cfg(test)]
mod tests {
    use crate::passes::testing::{agree, numbers};
    use crate::tensor::Tensor;
    use crate::{Builder, Result, Sym};

    fn around(b: &mut Builder, x: Sym, amounts: [[i32; 2]; 4]) -> Result<Sym> {
        let amounts = b.constant(Tensor::from_vec(amounts.concat(), [4, 2])?)?;
        b.op("Pad").input(x).input(amounts).one()
    }

    fn conv(b: &mut Builder, op: &str, x: Sym, w: Sym, padding: &str) -> Result<Sym> {
        b.op(op).input(x).input(w).attr("strides", vec![1, 2, 2, 1]).attr("padding", padding).one()
    }

    #[test]
    fn zeros_around_an_image_are_the_convolutions_own() {
        let weights = [numbers(&[3, 3, 4, 6], 2), numbers(&[3, 3, 6, 1], 3)];
        let ops = agree(&[numbers(&[2, 9, 7, 4], 1)], &weights, |b, x, w| {
            let y = around(b, x[0], [[0, 0], [3, 2], [0, 1], [0, 0]])?;
            let y = conv(b, "Conv2D", y, w[0], "VALID")?;
            let y = around(b, y, [[0, 0], [0, 1], [0, 1], [0, 0]])?;
            Ok(vec![conv(b, "DepthwiseConv2dNative", y, w[1], "VALID")?])
        });
        assert!(!ops.iter().any(|op| op == "Pad"), "{ops:?}");
    }

    #[test]
    fn others_stay() {
        for (amounts, padding) in [
            ([[0, 0], [1, 1], [1, 1], [0, 0]], "SAME"),
            ([[1, 0], [1, 1], [1, 1], [0, 0]], "VALID"),
            ([[0, 0], [1, 1], [1, 1], [0, 1]], "VALID"),
        ] {
            let channels = 4 + amounts[3][1] as usize;
            let ops = agree(&[numbers(&[2, 9, 7, 4], 1)], &[numbers(&[3, 3, channels, 6], 2)], |b, x, w| {
                let y = around(b, x[0], amounts)?;
                Ok(vec![conv(b, "Conv2D", y, w[0], padding)?])
            });
            assert!(ops.iter().any(|op| op == "Pad"), "{ops:?}");
        }
    }
}
