//! Which request goes to the application now, which waits for its turn, and which is turned away.
//!
//! A place is one of `--limit-concurrency`. Whoever finds none free may wait, first come first
//! served, in a queue of bounded length; how long is the waiting connection's to limit. Without a
//! limit nothing here is touched.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::service::Telemetry;

/// The places of one worker.
pub(crate) struct Admission {
    limit: Option<u32>,
    /// How many may wait.
    length: usize,
    queue: Mutex<Queue>,
    telemetry: Arc<dyn Telemetry>,
}

#[derive(Debug, Default)]
struct Queue {
    next: u64,
    /// Who waits, by number; no waker where it has not been polled yet.
    waiting: BTreeMap<u64, Option<Waker>>,
    /// Places that are kept for tickets which have not been used yet.
    granted: u32,
}

/// What a request comes to.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It may go to the application.
    Admitted,
    /// Once the ticket is ready.
    Wait(Ticket),
    /// Neither now nor soon.
    Busy,
}

/// A place in the queue, given up when dropped.
pub(crate) struct Ticket {
    admission: Arc<Admission>,
    number: u64,
    is_used: bool,
}

impl Admission {
    pub(crate) fn new(limit: Option<u32>, length: u32, telemetry: Arc<dyn Telemetry>) -> Arc<Self> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        Arc::new(Self { limit, length, queue: Mutex::default(), telemetry })
    }

    /// Decides about a request that has no ticket, with `in_flight` of them at the application.
    pub(crate) fn ask(self: &Arc<Self>, in_flight: u32) -> Verdict {
        let Some(limit) = self.limit else { return Verdict::Admitted };
        let mut queue = self.lock();
        if in_flight.saturating_add(queue.granted) < limit {
            return Verdict::Admitted;
        }
        if queue.waiting.len() >= self.length {
            return Verdict::Busy;
        }
        let number = queue.next;
        queue.next += 1;
        queue.waiting.insert(number, None);
        self.tell(&queue);
        drop(queue);
        Verdict::Wait(Ticket { admission: Arc::clone(self), number, is_used: false })
    }

    /// A request has left its place.
    pub(crate) fn place_freed(&self) {
        if self.limit.is_some() {
            self.grant(self.lock());
        }
    }

    /// Keeps a free place for whoever has waited longest.
    fn grant(&self, mut queue: MutexGuard<'_, Queue>) {
        let Some((_, waker)) = queue.waiting.pop_first() else { return };
        queue.granted += 1;
        self.tell(&queue);
        drop(queue);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn tell(&self, queue: &Queue) {
        self.telemetry.queue_changed(u32::try_from(queue.waiting.len()).unwrap_or(u32::MAX));
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// Ready when the request may go to the application.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.admission.lock().waiting.get_mut(&self.number) {
            Some(waker) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(()),
        }
    }

    /// Takes the place that was kept; from now on the request counts by itself.
    pub(crate) fn redeem(mut self) {
        let mut queue = self.admission.lock();
        queue.granted = queue.granted.saturating_sub(1);
        drop(queue);
        self.is_used = true;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.is_used {
            return;
        }
        let mut queue = self.admission.lock();
        if queue.waiting.remove(&self.number).is_some() {
            self.admission.tell(&queue);
        } else {
            // Its turn had come: the next one's has now.
            queue.granted = queue.granted.saturating_sub(1);
            self.admission.grant(queue);
        }
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ticket").field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::NoTelemetry;

    /// Requests at the application, as a service counts them.
    struct Desk {
        admission: Arc<Admission>,
        in_flight: u32,
    }

    impl Desk {
        fn new(limit: u32, length: u32) -> Self {
            let admission = Admission::new(Some(limit), length, Arc::new(NoTelemetry));
            Self { admission, in_flight: 0 }
        }

        fn arrive(&mut self) -> Verdict {
            let verdict = self.admission.ask(self.in_flight);
            self.in_flight += u32::from(matches!(verdict, Verdict::Admitted));
            verdict
        }

        fn wait(&mut self) -> Ticket {
            match self.arrive() {
                Verdict::Wait(ticket) => ticket,
                other => panic!("{other:?}"),
            }
        }

        fn leave(&mut self) {
            self.in_flight -= 1;
            self.admission.place_freed();
        }

        fn redeem(&mut self, ticket: Ticket) {
            assert!(is_ready(&ticket));
            ticket.redeem();
            self.in_flight += 1;
        }
    }

    fn is_ready(ticket: &Ticket) -> bool {
        ticket.poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn a_place_goes_to_whoever_has_waited_longest_and_not_to_a_newcomer() {
        let mut desk = Desk::new(1, 3);
        assert!(matches!(desk.arrive(), Verdict::Admitted));
        let (first, second) = (desk.wait(), desk.wait());
        desk.leave();
        assert_eq!((is_ready(&first), is_ready(&second)), (true, false));
        let third = desk.wait();
        desk.redeem(first);
        assert!(!is_ready(&second));
        desk.leave();
        desk.redeem(second);
        desk.leave();
        desk.redeem(third);
    }

    #[test]
    fn who_finds_the_queue_full_is_turned_away() {
        let mut desk = Desk::new(2, 1);
        assert!(matches!(desk.arrive(), Verdict::Admitted));
        assert!(matches!(desk.arrive(), Verdict::Admitted));
        let ticket = desk.wait();
        assert!(matches!(desk.arrive(), Verdict::Busy));
        drop(ticket);
        assert!(matches!(desk.arrive(), Verdict::Wait(_)));
    }

    #[test]
    fn who_leaves_the_queue_makes_room_and_loses_nobody_a_place() {
        let mut desk = Desk::new(1, 3);
        assert!(matches!(desk.arrive(), Verdict::Admitted));
        let (first, second, third) = (desk.wait(), desk.wait(), desk.wait());
        drop(second);
        desk.leave();
        // Its turn has come, and it goes all the same.
        assert!(is_ready(&first));
        drop(first);
        desk.redeem(third);
        desk.leave();
        assert!(matches!(desk.arrive(), Verdict::Admitted));
        assert!(matches!(desk.arrive(), Verdict::Wait(_)));
    }

    #[test]
    fn nobody_waits_without_a_limit_or_without_a_queue() {
        let unlimited = Admission::new(None, 5, Arc::new(NoTelemetry));
        assert!(matches!(unlimited.ask(u32::MAX), Verdict::Admitted));
        let mut desk = Desk::new(1, 0);
        assert!(matches!(desk.arrive(), Verdict::Admitted));
        assert!(matches!(desk.arrive(), Verdict::Busy));
        desk.leave();
        assert!(matches!(desk.arrive(), Verdict::Admitted));
    }
}
