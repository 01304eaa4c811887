//! Threads that share one kernel's work, and look out for the next kernel's for a moment before they sleep.
//!
//! A run is a row of kernels with little between them; threads that must be woken for each come too late. These spin for
//! [`PATIENCE`] after each piece of work. Nobody waits for a thread that is still asleep: whoever brings the work does as
//! much of it as the others leave.
#![allow(
    unsafe_code,
    reason = "work is lent to other threads until the call returns, which the type system can't say"
)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

/// How long an idle thread looks out for work before it sleeps.
const PATIENCE: Duration = Duration::from_micros(200);

/// Calls `f` once with each index below `count`, on the threads of the team that are free, and returns when all calls have.
///
/// As many threads take part as Rayon would use here; when the team is at work for somebody else, only this one.
///
/// # Panics
/// When `f` does.
pub(crate) fn each(count: usize, f: &(dyn Fn(usize) + Sync)) {
    let threads = rayon::current_num_threads().min(count);
    if threads > 1 && !TEAM.helpers.is_empty() && !TEAM.taken.swap(true, Ordering::Acquire) {
        return TEAM.work(count, threads - 1, f);
    }
    (0..count).for_each(f);
}

/// Calls `f` with each index below `count`, each on a thread of its own, at the same time: they may wait for each other.
/// False, and nothing done, when there aren't as many threads at once.
///
/// # Panics
/// When `f` does.
pub(crate) fn together(count: usize, f: &(dyn Fn(usize, &Barrier) + Sync)) -> bool {
    const OFF: usize = usize::MAX / 2;
    if count > rayon::current_num_threads() || TEAM.taken.load(Ordering::Relaxed) {
        return false;
    }
    let present = AtomicUsize::new(0);
    let barrier = Barrier {
        count,
        waiting: AtomicUsize::new(0),
        round: AtomicUsize::new(0),
        broken: AtomicBool::new(false),
    };
    each(count, &|index| {
        let mut seen = present.fetch_add(1, Ordering::SeqCst) + 1;
        let since = Instant::now();
        while seen < count {
            std::hint::spin_loop();
            if since.elapsed() > PATIENCE
                && present.compare_exchange(seen, OFF, Ordering::SeqCst, Ordering::SeqCst).is_ok()
            {
                return;
            }
            seen = present.load(Ordering::SeqCst);
        }
        if seen < OFF {
            let _guard = Breaks(&barrier);
            f(index, &barrier);
        }
    });
    present.into_inner() < OFF
}

/// Where threads wait for each other.
pub(crate) struct Barrier {
    count: usize,
    waiting: AtomicUsize,
    round: AtomicUsize,
    /// Whether one of them will never come again.
    broken: AtomicBool,
}

impl Barrier {
    /// Returns when all are here. False when one never will be.
    pub(crate) fn wait(&self) -> bool {
        let round = self.round.load(Ordering::Acquire);
        if self.waiting.fetch_add(1, Ordering::AcqRel) + 1 == self.count {
            self.waiting.store(0, Ordering::Relaxed);
            self.round.store(round.wrapping_add(1), Ordering::Release);
            return true;
        }
        let mut spins = 0u32;
        while self.round.load(Ordering::Acquire) == round {
            if self.broken.load(Ordering::Relaxed) {
                return false;
            }
            pause(&mut spins);
        }
        true
    }
}

/// Says so when its thread panics.
struct Breaks<'a>(&'a Barrier);

impl Drop for Breaks<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Relaxed);
        }
    }
}

/// Waits for a moment; for longer, when that didn't help, as a thread that was interrupted may need this core to go on.
fn pause(spins: &mut u32) {
    *spins = spins.saturating_add(1);
    if *spins < 2000 { std::hint::spin_loop() } else { std::thread::yield_now() }
}

static TEAM: LazyLock<Team> = LazyLock::new(Team::new);

struct Team {
    /// Whether somebody's work is being done.
    taken: AtomicBool,
    /// Changes when there is work.
    turn: AtomicUsize,
    /// The work, as long as threads may join in it.
    work: AtomicPtr<Work<'static>>,
    /// Threads that may be reading `work`, or what it points to.
    inside: AtomicUsize,
    helpers: Vec<Helper>,
}

struct Helper {
    asleep: &'static AtomicBool,
    thread: Thread,
}

/// Something to be done for each index below `count`.
struct Work<'a> {
    f: &'a (dyn Fn(usize) + Sync),
    count: usize,
    next: AtomicUsize,
    /// Threads that may still join.
    seats: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Work<'_> {
    fn take_part(&self) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= self.count {
                return;
            }
            (self.f)(index);
        }
    }
}

impl Team {
    fn new() -> Team {
        let helpers = (1..rayon::current_num_threads()).map_while(|index| {
            let asleep: &'static AtomicBool = Box::leak(Box::default());
            let builder = std::thread::Builder::new().name(format!("modelark-{index}"));
            let spawned = builder.spawn(move || TEAM.help(asleep));
            spawned.ok().map(|handle| Helper { asleep, thread: handle.thread().clone() })
        });
        Team {
            taken: AtomicBool::new(false),
            turn: AtomicUsize::new(0),
            work: AtomicPtr::new(std::ptr::null_mut()),
            inside: AtomicUsize::new(0),
            helpers: helpers.collect(),
        }
    }

    /// Does work together with at most `others`. The team has been taken for it.
    fn work(&self, count: usize, others: usize, f: &(dyn Fn(usize) + Sync)) {
        let work = Work {
            f,
            count,
            next: AtomicUsize::new(0),
            seats: AtomicUsize::new(others),
            panic: Mutex::new(None),
        };
        {
            // However this block is left, `work` outlives everybody who reads it.
            let _ended = Ended(self);
            self.work.store((&raw const work).cast_mut().cast(), Ordering::SeqCst);
            self.turn.fetch_add(1, Ordering::SeqCst);
            for helper in self.helpers.iter().take(others) {
                if helper.asleep.swap(false, Ordering::SeqCst) {
                    helper.thread.unpark();
                }
            }
            work.take_part();
        }
        if let Some(panic) = work.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }

    /// A helper's life.
    fn help(&self, asleep: &AtomicBool) {
        let mut seen = 0;
        let mut idle = Instant::now();
        let mut spins = 0u32;
        loop {
            let turn = self.turn.load(Ordering::SeqCst);
            if turn != seen {
                seen = turn;
                self.join();
                idle = Instant::now();
                continue;
            }
            std::hint::spin_loop();
            spins = spins.wrapping_add(1);
            if spins.is_multiple_of(64) && idle.elapsed() > PATIENCE {
                asleep.store(true, Ordering::SeqCst);
                // Who brings work changes the turn first, and looks for sleepers then.
                while asleep.load(Ordering::SeqCst) && self.turn.load(Ordering::SeqCst) == seen {
                    std::thread::park();
                }
                asleep.store(false, Ordering::SeqCst);
                idle = Instant::now();
            }
        }
    }

    /// Takes part in the work that there is, if there still is any.
    fn join(&self) {
        // Either this thread finds no work any more, or whoever brought it finds this thread inside, and waits.
        self.inside.fetch_add(1, Ordering::SeqCst);
        let work = self.work.load(Ordering::SeqCst);
        // SAFETY: the work is there until nobody is inside.
        if let Some(work) = unsafe { work.as_ref() }
            && work
                .seats
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |seats| seats.checked_sub(1))
                .is_ok()
            && let Err(panic) = catch_unwind(AssertUnwindSafe(|| work.take_part()))
        {
            *work.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
        }
        self.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Lets nobody join any more, waits for those who have, and sets the team free.
struct Ended<'a>(&'a Team);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.work.store(std::ptr::null_mut(), Ordering::SeqCst);
        let mut spins = 0u32;
        while self.0.inside.load(Ordering::SeqCst) > 0 {
            pause(&mut spins);
        }
        self.0.taken.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(count: usize) -> usize {
        let sum = AtomicUsize::new(0);
        each(count, &|index| {
            sum.fetch_add(index + 1, Ordering::Relaxed);
        });
        sum.into_inner()
    }

    #[test]
    fn each_index_comes_once() {
        for count in [0, 1, 2, 3, 10, 1000] {
            for _ in 0..200 {
                assert_eq!(sum(count), count * (count + 1) / 2);
            }
        }
    }

    #[test]
    fn sleepers_wake() {
        for _ in 0..5 {
            std::thread::sleep(PATIENCE * 5);
            assert_eq!(sum(100), 5050);
        }
    }

    #[test]
    fn many_bring_work_at_once_and_from_within() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let outer = AtomicUsize::new(0);
                        each(8, &|_| {
                            outer.fetch_add(sum(5), Ordering::Relaxed);
                        });
                        assert_eq!(outer.into_inner(), 8 * 15);
                    }
                });
            }
        });
    }

    #[test]
    fn those_together_wait_for_each_other() {
        let threads = rayon::current_num_threads();
        for _ in 0..50 {
            let steps: Vec<AtomicUsize> = (0..threads).map(|_| AtomicUsize::new(0)).collect();
            let done = together(threads, &|index, barrier| {
                for step in 1..=20 {
                    steps[index].store(step, Ordering::Relaxed);
                    assert!(barrier.wait());
                    assert!(steps.iter().all(|s| s.load(Ordering::Relaxed) == step));
                    assert!(barrier.wait());
                }
            });
            let want = if done { 20 } else { 0 };
            assert!(steps.iter().all(|s| s.load(Ordering::Relaxed) == want));
        }
        assert!(!together(threads + 1, &|_, _| unreachable!("there aren't as many threads")));
    }

    #[test]
    fn nobody_waits_for_one_that_panicked() {
        let threads = rayon::current_num_threads();
        let came = AtomicBool::new(false);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            together(threads, &|index, barrier| {
                came.store(true, Ordering::Relaxed);
                assert!(index > 0, "the first one");
                while barrier.wait() {}
            })
        }));
        assert_eq!(caught.is_err(), came.into_inner());
        assert_eq!(sum(100), 5050);
    }

    #[test]
    fn a_panic_reaches_who_brought_the_work_and_the_team_goes_on() {
        for bad in [0, 3, 7] {
            let caught = catch_unwind(|| {
                each(8, &|index| {
                    std::thread::sleep(Duration::from_micros(50));
                    assert!(index != bad, "number {index}");
                })
            });
            assert!(caught.is_err());
            assert_eq!(sum(100), 5050);
        }
    }
}
