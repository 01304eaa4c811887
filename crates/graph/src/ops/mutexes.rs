//! Mutexes, of which one run at a time holds one (`tf.CriticalSection`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::Duration;

use super::args::{one, take};
use super::shared::{Named, held, locked};
use super::{NodeAttrs, Op};
use crate::engine::{Kernel, Resource, Value, Values, Variant, kernel};
use crate::{Error, Result};

/// Who holds a mutex, if anybody does.
type Holder = Arc<Mutex<Option<ThreadId>>>;

/// A mutex that is held, until this is consumed or gone.
struct Lock {
    of: Holder,
    released: AtomicBool,
}

impl Lock {
    fn release(&self) {
        if !self.released.swap(true, Ordering::AcqRel) {
            *locked(&self.of) = None;
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.release();
    }
}

fn mutex(a: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    let name = Named::read(a, "mutex")?;
    Ok(kernel(move |context, _| one(name.get(context, |_| Holder::default())?)))
}

/// Waits until nobody holds the mutex. A run doesn't wait for itself: its ops follow one another.
fn lock(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|context, inputs| {
        let [handle] = take(inputs)?;
        let holder = held::<Holder>(&handle, "a mutex")?;
        let me = thread::current().id();
        loop {
            {
                let mut now = locked(&holder);
                match *now {
                    None => {
                        *now = Some(me);
                        break;
                    }
                    Some(other) if other == me => {
                        return Err(Error::compute("this run holds the mutex already, and would wait for itself"));
                    }
                    Some(_) => {}
                }
            }
            context.check()?;
            thread::sleep(Duration::from_micros(100));
        }
        let lock = Lock { of: Holder::clone(&holder), released: AtomicBool::new(false) };
        one(Variant::Composite(Arc::new(vec![Resource::Other(Arc::new(lock)).into()])))
    }))
}

fn consume(_: &NodeAttrs<'_>) -> Result<Box<dyn Kernel>> {
    Ok(kernel(|_, inputs| {
        let [lock] = take(inputs)?;
        let Value::Variant(Variant::Composite(parts)) = &lock else {
            return Err(Error::compute(format!("expected a mutex's lock, got a {}", lock.dtype())));
        };
        let [lock] = &parts[..] else { return Err(Error::compute("expected a mutex's lock, got another variant")) };
        held::<Lock>(lock, "a mutex's lock")?.release();
        Ok(Values::new())
    }))
}

pub(super) const OPS: &[Op] = &[
    Op::new("ConsumeMutexLock(mutex_lock: variant) -> (); stateful", consume),
    Op::new("MutexLock(mutex: resource) -> (mutex_lock: variant); stateful", lock),
    Op::new("MutexV2() -> (resource: resource); container: string = \"\"; shared_name: string = \"\"; stateful", mutex),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Executable, Resources};
    use crate::{Builder, Output};

    /// A graph that takes one mutex so many times, and gives each back in between or not.
    fn run(resources: &Resources, times: usize, back: bool) -> Result<()> {
        let mut b = Builder::new("f");
        let mutex = b.op("MutexV2").attr("shared_name", "m").one()?;
        let locks = (0..times).map(|_| b.op("MutexLock").input(mutex).one()).collect::<Result<Vec<_>>>()?;
        if back {
            for lock in &locks {
                b.op("ConsumeMutexLock").input(*lock).run()?;
            }
        }
        let (f, library) = b.finish(&[])?;
        let targets: Vec<usize> = (0..f.graph.nodes.len()).collect();
        Executable::new(&f.graph, &library, &[], &[] as &[Output], &targets)?.run(resources, Values::new())?;
        Ok(())
    }

    #[test]
    fn a_mutex_is_given_back() {
        let resources = Resources::new();
        for _ in 0..2 {
            run(&resources, 1, true).expect("free");
            run(&resources, 1, false).expect("free again at the run's end");
        }
        // The first is given back after the second was asked for.
        let error = run(&resources, 2, true).expect_err("held").to_string();
        assert!(error.contains("wait for itself"), "{error}");
        run(&resources, 1, true).expect("free after a failure");
    }

    #[test]
    fn threads_wait_for_each_other() {
        let resources = Resources::new();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..20).for_each(|_| run(&resources, 1, true).expect("after the others")));
            }
        });
    }
}
