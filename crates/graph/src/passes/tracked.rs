//! Values that know when they change.

use std::ops::{Deref, DerefMut};

/// A value and how often it was taken to be changed, which tells whether what was found out about it still holds.
#[derive(Debug, Default)]
pub(crate) struct Tracked<T> {
    value: T,
    changes: u64,
}

impl<T> Tracked<T> {
    /// How often it was taken to be changed.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// The value itself.
    pub(super) fn into_inner(self) -> T {
        self.value
    }
}

impl<T> From<T> for Tracked<T> {
    fn from(value: T) -> Self {
        Tracked { value, changes: 0 }
    }
}

impl<T> Deref for Tracked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> DerefMut for Tracked<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.changes += 1;
        &mut self.value
    }
}
