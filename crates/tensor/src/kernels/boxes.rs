//! Boxes on images: choosing among boxes that overlap, and drawing them.
//!
//! A box is `[y1, x1, y2, x2]`, any two opposite corners.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::array::cast;
use crate::{DType, Error, Result, Tensor};

/// When a box yields to one that was chosen before.
#[derive(Debug, Clone, Copy)]
pub struct Suppression {
    /// No more boxes than this are chosen.
    pub most: usize,
    /// A box that overlaps a chosen one by more is dropped.
    pub overlap: f32,
    /// A box whose score isn't above this is dropped.
    pub score: f32,
    /// Over 0, overlapping boxes aren't dropped: their scores sink (soft NMS).
    pub sigma: f32,
}

/// A box that may be chosen: the best score first, of equal ones the first.
struct Candidate {
    score: f32,
    index: usize,
    /// How many of the chosen it was compared with.
    seen: usize,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then(other.index.cmp(&self.index))
    }
}

/// The indices of the boxes chosen by their scores, best first, and the scores that they were chosen with.
///
/// `similarity(i, j)` tells how much two boxes overlap.
pub fn non_max_suppression(
    scores: &[f32],
    rule: &Suppression,
    similarity: impl Fn(usize, usize) -> f32,
) -> (Vec<usize>, Vec<f32>) {
    let candidates = scores.iter().enumerate().filter(|(_, s)| **s > rule.score);
    let mut queue: BinaryHeap<Candidate> =
        candidates.map(|(index, &s)| Candidate { score: s + 0.0, index, seen: 0 }).collect();
    let soft = rule.sigma > 0.0;
    let (mut chosen, mut kept): (Vec<usize>, Vec<f32>) = (Vec::new(), Vec::new());
    while chosen.len() < rule.most
        && let Some(mut next) = queue.pop()
    {
        let before = next.score;
        let mut dropped = false;
        for &other in chosen[next.seen..].iter().rev() {
            let overlap = similarity(next.index, other);
            if soft {
                next.score *= (-0.5 / rule.sigma * overlap * overlap).exp();
            } else if overlap > rule.overlap {
                dropped = true;
                break;
            }
            if next.score <= rule.score {
                break;
            }
        }
        next.seen = chosen.len();
        if dropped {
            continue;
        }
        if next.score == before {
            chosen.push(next.index);
            kept.push(next.score);
        } else if next.score > rule.score {
            queue.push(next);
        }
    }
    (chosen, kept)
}

/// The area that two boxes share, relative to the area that they cover together.
pub fn intersection_over_union(a: [f32; 4], b: [f32; 4]) -> f32 {
    let sorted = |[y1, x1, y2, x2]: [f32; 4]| [y1.min(y2), x1.min(x2), y1.max(y2), x1.max(x2)];
    let area = |[y1, x1, y2, x2]: [f32; 4]| (y2 - y1) * (x2 - x1);
    let (a, b) = (sorted(a), sorted(b));
    let (area_a, area_b) = (area(a), area(b));
    if area_a <= 0.0 || area_b <= 0.0 {
        return 0.0;
    }
    let shared = (a[2].min(b[2]) - a[0].max(b[0])).max(0.0) * (a[3].min(b[3]) - a[1].max(b[1])).max(0.0);
    shared / (area_a + area_b - shared)
}

/// The colours that boxes take in turn when the caller gives none: red, green, blue, opacity.
const COLOURS: [[f32; 4]; 10] = [
    [1.0, 1.0, 0.0, 1.0],
    [0.0, 0.0, 1.0, 1.0],
    [1.0, 0.0, 0.0, 1.0],
    [0.0, 1.0, 0.0, 1.0],
    [0.5, 0.0, 0.5, 1.0],
    [0.5, 0.5, 0.0, 1.0],
    [0.5, 0.0, 0.0, 1.0],
    [0.0, 0.0, 0.5, 1.0],
    [0.0, 1.0, 1.0, 1.0],
    [1.0, 0.0, 1.0, 1.0],
];

/// Images `[batch, height, width, depth]` of `float32` or half precision with the outlines of `boxes` `[batch, count, 4]`
/// (relative to the image) on them; a box takes a row of `colours` `[rows, depth]`, if there are any, or one of ten.
///
/// # Errors
/// When shapes don't go together, or the depth is neither 1, 3 nor 4.
pub fn draw_boxes(images: &Tensor, boxes: &Tensor, colours: Option<&Tensor>) -> Result<Tensor> {
    let (&[batch, height, width, depth], &[box_batch, count, 4]) = (images.shape(), boxes.shape()) else {
        return Err(Error::shape(format!("can't draw boxes {:?} on {:?}", boxes.shape(), images.shape())));
    };
    if box_batch != batch || ![1, 3, 4].contains(&depth) {
        return Err(Error::shape(format!("can't draw boxes {:?} on {:?}", boxes.shape(), images.shape())));
    }
    let mut table: Vec<Vec<f32>> = COLOURS.iter().map(|c| c[..depth].to_vec()).collect();
    if depth == 1 {
        table.fill(vec![1.0]);
    }
    if let Some(colours) = colours.filter(|c| !c.is_empty()) {
        if colours.rank() != 2 || colours.shape()[1] < depth {
            return Err(Error::shape(format!(
                "colours {:?} have less than {depth} channels",
                colours.shape()
            )));
        }
        let values = cast(colours, DType::F32)?;
        table = values.elements::<f32>()?.chunks(colours.shape()[1]).map(|c| c[..depth].to_vec()).collect();
    }
    let mut out = cast(images, DType::F32)?;
    if height == 0 || width == 0 {
        return Ok(images.clone());
    }
    let boxes = cast(boxes, DType::F32)?;
    let boxes = boxes.elements::<f32>()?;
    let canvas = out.make_mut::<f32>()?;
    let (last_row, last_column) = (height as i64 - 1, width as i64 - 1);
    for (i, b) in boxes.chunks_exact(4).enumerate() {
        let image = &mut canvas[i / count * height * width * depth..][..height * width * depth];
        let colour = &table[i % count % table.len()];
        let (top, bottom) = ((b[0] * last_row as f32) as i64, (b[2] * last_row as f32) as i64);
        let (left, right) = ((b[1] * last_column as f32) as i64, (b[3] * last_column as f32) as i64);
        let outside = top > last_row || bottom < 0 || left > last_column || right < 0;
        if outside || top > bottom || left > right {
            continue;
        }
        let rows = top.max(0) as usize..=bottom.min(last_row) as usize;
        let columns = left.max(0) as usize..=right.min(last_column) as usize;
        let mut dot = |row: usize, column: usize| {
            image[(row * width + column) * depth..][..depth].copy_from_slice(colour);
        };
        for row in [top, bottom].into_iter().filter(|r| (0..=last_row).contains(r)) {
            columns.clone().for_each(|column| dot(row as usize, column));
        }
        for column in [left, right].into_iter().filter(|c| (0..=last_column).contains(c)) {
            rows.clone().for_each(|row| dot(row, column as usize));
        }
    }
    cast(&out, images.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_overlapping_boxes_is_chosen() {
        let boxes = [[0.0, 0.0, 1.0, 1.0], [0.0, 0.1, 1.0, 1.1], [2.0, 2.0, 3.0, 3.0]];
        let rule = Suppression { most: 9, overlap: 0.5, score: 0.0, sigma: 0.0 };
        let similarity = |i: usize, j: usize| intersection_over_union(boxes[i], boxes[j]);
        let scores = [0.5, 0.9, f32::NAN];
        assert_eq!(non_max_suppression(&scores, &rule, similarity).0, [1]);
        assert_eq!(non_max_suppression(&[0.5, 0.5, 0.7], &rule, similarity).0, [2, 0]);
        let soft = Suppression { sigma: 0.5, ..rule };
        let (chosen, kept) = non_max_suppression(&[0.5, 0.9, 0.7], &soft, similarity);
        assert_eq!(chosen, [1, 2, 0]);
        assert!(kept[2] < 0.5 && kept[2] > 0.0);
    }

    #[test]
    fn boxes_beyond_the_image_are_cut() {
        let images = Tensor::zeros(DType::F32, [1, 3, 3, 1]).expect("tensor");
        let boxes = Tensor::from_vec(vec![-5.0f32, 0.5, 9.0, 0.5], [1, 1, 4]).expect("tensor");
        let out = draw_boxes(&images, &boxes, None).expect("drawn");
        assert_eq!(out.as_slice::<f32>().expect("f32"), [0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
    }
}
