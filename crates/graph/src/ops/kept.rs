//! State that a kernel keeps from run to run, such as a generator's place in its sequence.

use std::any::Any;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use crate::Result;
use crate::engine::{Resource, Resources};

/// The state of one kernel, made anew for each set of resources that it runs with: two models, or two sessions of one,
/// don't share it.
pub(super) struct Kept<T> {
    name: String,
    first: Box<dyn Fn() -> T + Send + Sync>,
}

impl<T: Any + Send> Kept<T> {
    /// State that is what `first` gives until it is changed.
    pub(super) fn new(first: impl Fn() -> T + Send + Sync + 'static) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = COUNT.fetch_add(1, Ordering::Relaxed).to_string();
        Kept { name, first: Box::new(first) }
    }

    /// The state among these resources.
    pub(super) fn among(&self, resources: &Resources) -> Result<Arc<Mutex<T>>> {
        let made = || Ok(Resource::Other(Arc::new(Mutex::new((self.first)()))));
        resources.get_or_insert("state", &self.name, made)?.downcast("the state of a kernel")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_resources_has_its_own() {
        let (state, other) = (Kept::new(|| 1), Kept::new(|| 5));
        let (a, b) = (Resources::new(), Resources::new());
        let next = |of: &Kept<i32>, r: &Resources| {
            let held = of.among(r).expect("state");
            let mut held = held.lock().expect("lock");
            *held += 1;
            *held
        };
        assert_eq!([next(&state, &a), next(&state, &a), next(&state, &b), next(&other, &a)], [2, 3, 2, 6]);
    }
}
