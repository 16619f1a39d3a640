//! Who waits, most often one: for the other side of an exchange or a WebSocket, or to be woken at all.

use std::task::{Context, Waker};

use smallvec::SmallVec;

/// A waker that wakes nobody, for a look whether there is something. One object, which can be told from others.
pub static NOBODY: &Waker = Waker::noop();

/// Their wakers; most often there is one.
pub(crate) type Waiting = SmallVec<[Waker; 1]>;

/// Leaves a waker, unless it is there already or wakes nobody (a look whether there is anything).
pub(crate) fn wait(waiting: &mut Waiting, cx: &Context<'_>) {
    let is_known = waiting.iter().any(|waker| waker.will_wake(cx.waker()));
    if !is_known && !cx.waker().will_wake(NOBODY) {
        waiting.push(cx.waker().clone());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::Wake;

    use super::*;

    struct Somebody;

    impl Wake for Somebody {
        fn wake(self: Arc<Self>) {}
    }

    #[test]
    fn everybody_is_there_once_and_a_look_leaves_nothing() {
        let (one, other) = (Waker::from(Arc::new(Somebody)), Waker::from(Arc::new(Somebody)));
        let mut waiting = Waiting::new();
        for (waker, count) in [(NOBODY, 0), (&one, 1), (&one, 1), (&other, 2), (NOBODY, 2)] {
            wait(&mut waiting, &Context::from_waker(waker));
            assert_eq!(waiting.len(), count);
        }
    }
}
