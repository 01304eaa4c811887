//! Shapes: known ones of tensors, and partly known ones of signatures.

use std::fmt;

use smallvec::SmallVec;

use crate::{Error, Result};

/// The extents of a tensor, outermost first; empty for a scalar.
pub type Shape = SmallVec<[usize; 6]>;

/// The number of elements of a shape, or an error when it overflows what memory could ever hold, or is over the whole
/// [budget](crate::memory::Budget) of the thread even at a byte each.
pub fn checked_elements(shape: &[usize]) -> Result<usize> {
    // A zero extent makes the tensor empty, even where the others' product would overflow.
    if shape.contains(&0) {
        return Ok(0);
    }
    let n = shape
        .iter()
        .try_fold(1usize, |n, &d| n.checked_mul(d))
        .filter(|&n| n <= isize::MAX as usize)
        .ok_or_else(|| {
            Error::too_large(format!("shape {shape:?} has more elements than memory could hold"))
        })?;
    crate::memory::check(n)?;
    Ok(n)
}

/// Strides in elements of a C-ordered tensor of this shape.
pub fn contiguous_strides(shape: &[usize]) -> Shape {
    let mut strides: Shape = SmallVec::from_elem(1, shape.len());
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis].saturating_mul(shape[axis]);
    }
    strides
}

/// A shape of which the rank, or some extents, may be unknown until a call.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PartialShape(Option<Vec<Option<usize>>>);

impl PartialShape {
    /// A shape of which nothing is known.
    pub const UNKNOWN: PartialShape = PartialShape(None);

    /// A shape of known rank, with `None` for an unknown extent.
    pub fn new(dims: impl Into<Vec<Option<usize>>>) -> Self {
        PartialShape(Some(dims.into()))
    }

    /// A scalar's shape.
    pub fn scalar() -> Self {
        PartialShape(Some(Vec::new()))
    }

    /// The extents, or `None` when the rank is unknown.
    pub fn dims(&self) -> Option<&[Option<usize>]> {
        self.0.as_deref()
    }

    /// The rank, when known.
    pub fn rank(&self) -> Option<usize> {
        self.0.as_ref().map(Vec::len)
    }

    /// The full shape, when every extent is known.
    pub fn known(&self) -> Option<Shape> {
        self.0.as_ref()?.iter().copied().collect()
    }

    /// Whether a tensor of `shape` could be meant.
    pub fn matches(&self, shape: &[usize]) -> bool {
        match &self.0 {
            None => true,
            Some(dims) => {
                dims.len() == shape.len() && dims.iter().zip(shape).all(|(d, s)| d.is_none_or(|d| d == *s))
            }
        }
    }
}

impl From<&[usize]> for PartialShape {
    fn from(shape: &[usize]) -> Self {
        PartialShape(Some(shape.iter().map(|&d| Some(d)).collect()))
    }
}

impl fmt::Display for PartialShape {
    /// As TensorFlow and Keras print shapes: `(None, 28, 28)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(dims) = &self.0 else { return f.write_str("<unknown>") };
        f.write_str("(")?;
        for (i, d) in dims.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            match d {
                Some(d) => write!(f, "{d}")?,
                None => f.write_str("None")?,
            }
        }
        f.write_str(if dims.len() == 1 { ",)" } else { ")" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_counted_without_overflow() {
        assert_eq!(checked_elements(&[]).expect("scalar"), 1);
        assert_eq!(checked_elements(&[2, 3, 4]).expect("small"), 24);
        assert_eq!(checked_elements(&[usize::MAX, 2, 0]).expect("empty"), 0);
        assert!(checked_elements(&[usize::MAX, 2]).is_err());
    }

    #[test]
    fn partial_shapes_match_and_print() {
        let s = PartialShape::new([None, Some(3)]);
        assert!(s.matches(&[7, 3]) && !s.matches(&[7, 4]) && !s.matches(&[3]));
        assert!(PartialShape::UNKNOWN.matches(&[1, 2, 3]));
        assert_eq!(s.to_string(), "(None, 3)");
        assert_eq!(PartialShape::new([None]).to_string(), "(None,)");
        assert_eq!(PartialShape::scalar().known().expect("known").len(), 0);
        assert_eq!(s.known(), None);
    }
}
