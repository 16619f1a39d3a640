//! A deadline that moves often, without a timer operation each time.
//!
//! A keep-alive connection moves its deadline with every request, nearly always to a later moment;
//! so does an event loop whose next timer is far away. Re-arming a tokio
//! timer each time costs more than the rest of the bookkeeping together, so the timer is left where
//! it is as long as it fires before the deadline does; when it fires early, it is armed again for
//! what is left.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

/// One deadline over one reused timer. Belongs to one task.
#[derive(Debug, Default)]
pub struct Deadline {
    at: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer holds this task's waker.
    is_armed: bool,
}

impl Deadline {
    /// Moves the deadline; `None` (a moment too far away to be told) is none.
    pub fn set(&mut self, at: Option<Instant>) {
        self.at = at;
    }

    /// Moves the deadline to `at` unless it is earlier already.
    pub(crate) fn set_earlier(&mut self, at: Instant) {
        self.at = Some(self.at.map_or(at, |before| before.min(at)));
    }

    /// Whether there is no deadline.
    pub fn is_unset(&self) -> bool {
        self.at.is_none()
    }

    /// Ready when the deadline has passed.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else {
            return Poll::Pending;
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if timer.deadline() > at {
            timer.as_mut().reset(at);
            self.is_armed = false;
        }
        loop {
            if self.is_armed && !timer.is_elapsed() {
                return Poll::Pending;
            }
            if timer.as_mut().poll(cx).is_pending() {
                self.is_armed = true;
                return Poll::Pending;
            }
            if timer.deadline() >= at {
                return Poll::Ready(());
            }
            timer.as_mut().reset(at);
            self.is_armed = false;
        }
    }
}

/// The time, asked for once in a while: within one poll of a connection it hardly moves.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    now: Option<Instant>,
}

impl Clock {
    pub(crate) fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    /// Asks again: the application may have taken its time.
    pub(crate) fn refresh(&mut self) -> Instant {
        let now = Instant::now();
        self.now = Some(now);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moves_is_met_exactly_once_it_passes() {
        let start = Instant::now();
        let mut deadline = Deadline::default();
        let mut moves = [5_u64, 7, 20, 12].into_iter();
        std::future::poll_fn(|cx| {
            for seconds in moves.by_ref() {
                deadline.set(Some(start + Duration::from_secs(seconds)));
                assert!(deadline.poll(cx).is_pending());
            }
            deadline.poll(cx)
        })
        .await;
        assert_eq!(start.elapsed().as_secs(), 12);
    }
}
