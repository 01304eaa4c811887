//! Boxes on images: choosing among those that overlap, and drawing.

use super::args::{int, many, one, tensors};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Values, kernel};
use crate::tensor::kernels::array::cast;
use crate::tensor::kernels::boxes::{
    Suppression, draw_boxes, intersection_over_union, non_max_suppression,
};
use crate::tensor::{DType, Tensor};
use crate::{Error, Result};

/// A scalar of any float dtype.
fn float(t: &Tensor, what: &str) -> Result<f32> {
    match cast(t, DType::F32)?.elements::<f32>()?[..] {
        [one] => Ok(one),
        _ => Err(Error::compute(format!("{what} must be one number, got shape {:?}", t.shape()))),
    }
}

fn count(t: &Tensor, what: &str) -> Result<usize> {
    let n = int(t, what)?;
    usize::try_from(n).map_err(|_| Error::compute(format!("{what} must not be negative, got {n}")))
}

/// A threshold between 0 and 1.
fn share(t: &Tensor, what: &str) -> Result<f32> {
    let v = float(t, what)?;
    if (0.0..=1.0).contains(&v) { Ok(v) } else { Err(Error::compute(format!("{what} must be in [0, 1], got {v}"))) }
}

fn corners(boxes: &[f32], i: usize) -> [f32; 4] {
    std::array::from_fn(|k| boxes.get(i * 4 + k).copied().unwrap_or(f32::NAN))
}

/// What a version of the op takes as attributes, and gives beside the indices.
#[derive(Clone, Copy, PartialEq)]
struct Version {
    scores: bool,
    valid: bool,
}

/// All versions of `NonMaxSuppression`: boxes, scores and the most boxes, then up to three numbers that earlier versions lack.
fn suppression(a: &NodeAttrs<'_>, version: Version) -> Result<Box<dyn Kernel>> {
    let overlap = a.get("iou_threshold").and_then(|t| t.as_float());
    let padded = a.get("pad_to_max_output_size").and_then(|p| p.as_bool()).unwrap_or_default();
    Ok(kernel(move |_, mut inputs| {
        let rest: Vec<Tensor> = inputs.drain(3.min(inputs.len())..).map(|v| v.into_tensor()).collect::<Result<_>>()?;
        let [boxes, scores, most] = tensors(inputs)?;
        let n = scores.len();
        if scores.rank() != 1 || boxes.shape() != [n, 4] {
            return Err(Error::compute(format!(
                "boxes of shape {:?} don't go with scores of shape {:?}",
                boxes.shape(),
                scores.shape()
            )));
        }
        let rule = Suppression {
            most: count(&most, "max_output_size")?,
            overlap: match (rest.first(), overlap) {
                (Some(t), _) => share(t, "iou_threshold")?,
                (None, Some(v)) => v,
                (None, None) => return Err(Error::graph("has no iou_threshold")),
            },
            score: rest.get(1).map_or(Ok(f32::MIN), |t| float(t, "score_threshold"))?,
            sigma: rest.get(2).map_or(Ok(0.0), |t| float(t, "soft_nms_sigma"))?,
        };
        if rule.sigma < 0.0 {
            return Err(Error::compute(format!("soft_nms_sigma is negative: {}", rule.sigma)));
        }
        let boxes = cast(&boxes, DType::F32)?;
        let boxes = boxes.elements::<f32>()?;
        let similarity = |i, j| intersection_over_union(corners(&boxes, i), corners(&boxes, j));
        let wide = cast(&scores, DType::F32)?;
        let (chosen, kept) = non_max_suppression(&wide.elements::<f32>()?, &rule, similarity);
        let valid = chosen.len();
        let mut out = vec![filled(chosen.iter().map(|i| *i as i32), valid, padded.then_some(rule.most))?];
        if version.scores {
            let kept = filled(kept.into_iter(), valid, padded.then_some(rule.most))?;
            out.push(cast(&kept, scores.dtype())?);
        }
        if version.valid {
            out.push(Tensor::scalar(valid as i32));
        }
        many(out)
    }))
}

/// A vector of `n` values with zeros behind them up to `length`, if there is one.
fn filled<T: crate::tensor::Element>(
    values: impl Iterator<Item = T>,
    n: usize,
    length: Option<usize>,
) -> Result<Tensor> {
    let mut out = Tensor::zeros(T::DTYPE, [length.unwrap_or(n).max(n)])?;
    out.make_mut::<T>()?.iter_mut().zip(values).for_each(|(o, v)| *o = v);
    Ok(out)
}

fn with_overlaps(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [overlaps, scores, most, overlap, score] = tensors(inputs)?;
        let n = scores.len();
        if scores.rank() != 1 || overlaps.shape() != [n, n] {
            return Err(Error::compute(format!("overlaps of shape {:?} don't go with {n} scores", overlaps.shape())));
        }
        let rule = Suppression {
            most: count(&most, "max_output_size")?,
            overlap: float(&overlap, "overlap_threshold")?,
            score: float(&score, "score_threshold")?,
            sigma: 0.0,
        };
        let overlaps = overlaps.elements::<f32>()?;
        let (chosen, _) = non_max_suppression(&scores.elements::<f32>()?, &rule, |i, j| overlaps[i * n + j]);
        one(filled(chosen.iter().map(|i| *i as i32), chosen.len(), None)?)
    }))
}

/// Boxes chosen for each class, then the best of all classes, for each image of a batch.
fn combined(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let (pad_per_class, clip) = (a.bool("pad_per_class")?, a.bool("clip_boxes")?);
    Ok(kernel(move |context, inputs| {
        let [boxes, scores, per_class, total, overlap, score] = tensors(inputs)?;
        let (&[batch, n, q, 4], &[score_batch, score_n, classes]) = (boxes.shape(), scores.shape()) else {
            return Err(Error::compute(format!("boxes {:?}, scores {:?}", boxes.shape(), scores.shape())));
        };
        if (batch, n) != (score_batch, score_n) || (q != 1 && q != classes) {
            return Err(Error::compute(format!("boxes {:?} don't go with scores {:?}", boxes.shape(), scores.shape())));
        }
        let (per_class, total) = (count(&per_class, "max_output_size_per_class")?, count(&total, "max_total_size")?);
        if per_class == 0 || total == 0 {
            return Err(Error::compute("max_output_size_per_class and max_total_size must be positive"));
        }
        let rule = Suppression {
            most: per_class,
            overlap: share(&overlap, "iou_threshold")?,
            score: float(&score, "score_threshold")?,
            sigma: 0.0,
        };
        let size = if pad_per_class { total.min(per_class.saturating_mul(classes)) } else { total };
        let mut out_boxes = Tensor::zeros(DType::F32, [batch, size, 4])?;
        let mut out_scores = Tensor::zeros(DType::F32, [batch, size])?;
        let mut out_classes = Tensor::zeros(DType::F32, [batch, size])?;
        let mut valid = Vec::with_capacity(batch);
        let (boxes, scores) = (boxes.elements::<f32>()?, scores.elements::<f32>()?);
        for image in 0..batch {
            let mut found: Vec<(f32, usize, [f32; 4])> = Vec::new();
            for class in 0..classes {
                context.check()?;
                let of = |i: usize| corners(&boxes, (image * n + i) * q + if q > 1 { class } else { 0 });
                let column: Vec<f32> = (0..n).map(|i| scores[(image * n + i) * classes + class]).collect();
                let (chosen, kept) =
                    non_max_suppression(&column, &rule, |i, j| intersection_over_union(of(i), of(j)));
                found.extend(chosen.into_iter().zip(kept).map(|(i, s)| (s, class, of(i))));
            }
            found.sort_by(|a, b| b.0.total_cmp(&a.0));
            found.truncate(size);
            for (k, (score, class, corners)) in found.iter().enumerate() {
                let corners = if clip { corners.map(|v| v.clamp(0.0, 1.0)) } else { *corners };
                out_boxes.make_mut::<f32>()?[(image * size + k) * 4..][..4].copy_from_slice(&corners);
                out_scores.make_mut::<f32>()?[image * size + k] = *score;
                out_classes.make_mut::<f32>()?[image * size + k] = *class as f32;
            }
            valid.push(found.len() as i32);
        }
        many([out_boxes, out_scores, out_classes, Tensor::from_vec(valid, [batch])?])
    }))
}

fn draw(inputs: Values) -> Result<Values> {
    let mut inputs = inputs;
    let colours = if inputs.len() > 2 { inputs.pop().map(|c| c.into_tensor()).transpose()? } else { None };
    let [images, boxes] = tensors(inputs)?;
    one(draw_boxes(&images, &boxes, colours.as_ref())?)
}

const INDICES: Version = Version { scores: false, valid: false };

pub(super) const OPS: &[Op] = &[
    Op::new("NonMaxSuppression(boxes: float32, scores: float32, max_output_size: int32) -> (selected_indices: int32); iou_threshold: float = 0.5", |a| suppression(a, INDICES)),
    Op::new("NonMaxSuppressionV2(boxes: T, scores: T, max_output_size: int32, iou_threshold: T_threshold) -> (selected_indices: int32); T: type = float32; T_threshold: type = float32", |a| suppression(a, INDICES)),
    Op::new("NonMaxSuppressionV3(boxes: T, scores: T, max_output_size: int32, iou_threshold: T_threshold, score_threshold: T_threshold) -> (selected_indices: int32); T: type = float32; T_threshold: type = float32", |a| suppression(a, INDICES)),
    Op::new("NonMaxSuppressionV4(boxes: T, scores: T, max_output_size: int32, iou_threshold: T_threshold, score_threshold: T_threshold) -> (selected_indices: int32, valid_outputs: int32); T: type = float32; T_threshold: type = float32; pad_to_max_output_size: bool = false", |a| suppression(a, Version { scores: false, valid: true })),
    Op::new("NonMaxSuppressionV5(boxes: T, scores: T, max_output_size: int32, iou_threshold: T, score_threshold: T, soft_nms_sigma: T) -> (selected_indices: int32, selected_scores: T, valid_outputs: int32); T: type = float32; pad_to_max_output_size: bool = false", |a| suppression(a, Version { scores: true, valid: true })),
    Op::new("NonMaxSuppressionWithOverlaps(overlaps: float32, scores: float32, max_output_size: int32, overlap_threshold: float32, score_threshold: float32) -> (selected_indices: int32)", with_overlaps),
    Op::new("CombinedNonMaxSuppression(boxes: float32, scores: float32, max_output_size_per_class: int32, max_total_size: int32, iou_threshold: float32, score_threshold: float32) -> (nmsed_boxes: float32, nmsed_scores: float32, nmsed_classes: float32, valid_detections: int32); pad_per_class: bool = false; clip_boxes: bool = true", combined),
    Op::new("DrawBoundingBoxes(images: T, boxes: float32) -> (output: T); T: type = float32", |_| Ok(kernel(|_, inputs| draw(inputs)))),
    Op::new("DrawBoundingBoxesV2(images: T, boxes: float32, colors: float32) -> (output: T); T: type = float32", |_| Ok(kernel(|_, inputs| draw(inputs)))),
];
