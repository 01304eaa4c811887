//! State that runs of one model share, by a name or by a handle to it: queues, accumulators, staging areas.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::NodeAttrs;
use crate::Result;
use crate::engine::{Context, Resource, Value};

/// The name that something of one kind goes by: the one that the node shares, or else the node's own.
pub(super) struct Named {
    kind: &'static str,
    shared: String,
}

impl Named {
    pub(super) fn read(a: &NodeAttrs<'_>, kind: &'static str) -> Result<Named> {
        Ok(Named { kind, shared: a.str("shared_name")?.to_owned() })
    }

    /// What goes by the name, made by `make` where there is none yet.
    pub(super) fn get<T: Any + Send + Sync>(
        &self,
        context: &dyn Context,
        make: impl FnOnce(&str) -> T,
    ) -> Result<Resource> {
        let name = if self.shared.is_empty() { context.node() } else { &self.shared };
        context.resources().get_or_insert(self.kind, name, || Ok(Resource::Other(Arc::new(make(name)))))
    }
}

/// What a handle leads to.
pub(super) fn held<T: Any + Send + Sync>(handle: &Value, what: &str) -> Result<Arc<T>> {
    handle.resource()?.downcast(what)
}

/// The state, also where a thread that had it broke off: every change here is whole.
pub(super) fn locked<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
