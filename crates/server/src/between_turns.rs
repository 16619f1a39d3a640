//! Waking a connection's task from outside of its runtime, on the runtime's own thread.
//!
//! Whoever drives a runtime in turns runs other things between two of them: an application that
//! goes on after it has waited, say. What it wakes there, tokio takes for woken by another thread,
//! for which it writes to an eventfd, and reads of that in the next turn. [`BetweenTurns`] keeps it
//! until that turn begins.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::thread::{self, ThreadId};

use crate::waiting::Waiting;

thread_local! {
    /// What keeps wake-ups of this thread.
    static HERE: RefCell<Option<Arc<BetweenTurns>>> = const { RefCell::new(None) };
}

/// The wake-ups between two turns of one runtime.
#[derive(Debug, Default)]
pub struct BetweenTurns(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Whose wake-ups are kept: of the thread that made the last turn, while it makes none.
    thread: Option<ThreadId>,
    wakers: Waiting,
}

impl BetweenTurns {
    /// A turn begins: wakes what has been kept. To be called within the runtime.
    pub fn end(&self) {
        let mut kept = self.lock();
        kept.thread = None;
        let wakers = std::mem::take(&mut kept.wakers);
        drop(kept);
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A turn of this thread has ended: from now on its wake-ups are kept.
    pub fn begin(self: &Arc<Self>) {
        self.lock().thread = Some(thread::current().id());
        HERE.with_borrow_mut(|here| {
            if !here.as_ref().is_some_and(|here| Arc::ptr_eq(here, self)) {
                *here = Some(Arc::clone(self));
            }
        });
    }

    fn keep(&self, waker: &Waker) -> bool {
        let mut kept = self.lock();
        let is_ours = kept.thread == Some(thread::current().id());
        if is_ours && !kept.wakers.last().is_some_and(|last| last.will_wake(waker)) {
            kept.wakers.push(waker.clone());
        }
        is_ours
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the task of a connection: now, or as the next turn of this thread's runtime begins.
pub(crate) fn wake(waker: &Waker) {
    let is_kept = HERE.with_borrow(|here| here.as_ref().is_some_and(|here| here.keep(waker)));
    if !is_kept {
        waker.wake_by_ref();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Count {
        fn new() -> (Arc<Self>, Waker) {
            let count = Arc::<Self>::default();
            (Arc::clone(&count), Waker::from(count))
        }

        fn woken(&self) -> usize {
            self.0.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn a_thread_without_turns_wakes_at_once() {
        let (count, waker) = Count::new();
        wake(&waker);
        assert_eq!(count.woken(), 1);
    }

    #[test]
    fn between_two_turns_wake_ups_are_kept_and_told_once() {
        let turns = Arc::<BetweenTurns>::default();
        let ((first, one), (second, other)) = (Count::new(), Count::new());
        turns.begin();
        wake(&one);
        wake(&one);
        wake(&other);
        assert_eq!((first.woken(), second.woken()), (0, 0));
        turns.end();
        assert_eq!((first.woken(), second.woken()), (1, 1));
        wake(&one);
        assert_eq!(first.woken(), 2, "within a turn nothing is kept");
        turns.end();
        assert_eq!((first.woken(), second.woken()), (2, 1));
    }

    #[test]
    fn a_loop_that_went_on_in_another_thread_keeps_nothing_of_the_first_one() {
        let turns = Arc::<BetweenTurns>::default();
        turns.begin();
        let other = Arc::clone(&turns);
        thread::spawn(move || other.begin()).join().unwrap();
        let (count, waker) = Count::new();
        wake(&waker);
        assert_eq!(count.woken(), 1);
    }
}
