//! A worker's page on the scoreboard: what it does, and whether it should take the next connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rsgi_server::Telemetry;
use rsgi_supervisor::{Phase, Scoreboard, Slot, Version, monotonic_ns};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::queue::QueueClock;

/// A worker that has shown no progress for longer than this is busy, and no connection is left to it.
/// Long enough for a worker that only waits for a processor (a scheduler's time slice is 3 to 4 ms),
/// short enough to be no delay that anybody notices.
const BUSY_AFTER_NS: u64 = 5_000_000;

/// One worker's counters, and its view of the others'.
#[derive(Debug)]
pub(crate) struct Board {
    scoreboard: Arc<Scoreboard>,
    slot: usize,
    recycle: Recycle,
    /// The most connections that a worker may have.
    connection_limit: u64,
    queue: QueueClock,
    /// One moment on both clocks.
    epoch: (Instant, u64),
}

/// When the worker has served its share.
#[derive(Debug)]
struct Recycle {
    /// How many there are; never reached where there is no limit.
    limit: u64,
    /// How many requests are left.
    left: AtomicU64,
    due: Notify,
}

impl Recycle {
    /// One more has been served. One thread counts, the loop's: a load and a store will do.
    fn count(&self) {
        let left = self.left.load(Ordering::Relaxed);
        self.left.store(left.wrapping_sub(1), Ordering::Relaxed);
        if left == 1 {
            self.due.notify_one();
        }
    }
}

impl Board {
    pub(crate) fn new(scoreboard: Scoreboard, slot: usize, max_requests: Option<u64>) -> Self {
        Self {
            scoreboard: Arc::new(scoreboard),
            slot,
            recycle: Recycle {
                limit: max_requests.unwrap_or(u64::MAX),
                left: AtomicU64::new(max_requests.unwrap_or(u64::MAX)),
                due: Notify::new(),
            },
            connection_limit: u64::MAX,
            queue: QueueClock::default(),
            epoch: (Instant::now(), monotonic_ns()),
        }
    }

    /// No worker has more than `limit` connections.
    pub(crate) fn with_connection_limit(mut self, limit: Option<u32>) -> Self {
        self.connection_limit = limit.map_or(u64::MAX, u64::from);
        self
    }

    /// Whether a worker can take a connection at all.
    fn can_accept(&self, slot: &Slot) -> bool {
        slot.phase() == Phase::Ready
            && slot.connections() < self.connection_limit
            && !slot.is_exhausted()
    }

    pub(crate) fn slot(&self) -> &Slot {
        self.scoreboard.slot(self.slot)
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        // What the last phase took is no stall of this one.
        self.slot().set_running(monotonic_ns());
        self.slot().set_phase(phase);
    }

    /// Says which interpreter this is.
    pub(crate) fn set_interpreter(&self, interpreter: Version) {
        let part = |text: &str| text.parse().unwrap_or(0);
        let package = Version([
            part(env!("CARGO_PKG_VERSION_MAJOR")),
            part(env!("CARGO_PKG_VERSION_MINOR")),
            part(env!("CARGO_PKG_VERSION_PATCH")),
        ]);
        self.slot().set_versions(package, interpreter);
    }

    /// The loop is about to sleep: this worker is free.
    pub(crate) fn parked(&self) {
        let now = monotonic_ns();
        self.queue.parked(now);
        self.slot().set_running(now); // what it did until now may have been a stall
        self.slot().set_parked();
    }

    /// The loop is awake.
    pub(crate) fn running(&self) {
        let now = monotonic_ns();
        self.queue.unparked(now);
        self.slot().set_running(now);
    }

    /// The loop makes progress: under constant load it never sleeps, and is alive all the same.
    fn progressed(&self, now: Instant) -> u64 {
        let (instant, nanoseconds) = self.epoch;
        let since = now.saturating_duration_since(instant).as_nanos();
        let now = nanoseconds + u64::try_from(since).unwrap_or(u64::MAX >> 1);
        self.slot().set_running(now);
        now
    }

    /// Waits until no other worker is on its way out, or as long as `limit`.
    pub(crate) async fn predecessors_gone(&self, limit: Duration) {
        let until = Instant::now() + limit;
        let is_leaving = |slot: usize| {
            slot != self.slot && self.scoreboard.slot(slot).phase() == Phase::Draining
        };
        // Shared memory tells nobody that it has changed.
        while (0..self.scoreboard.len()).any(is_leaving) && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until the worker has answered as many requests as it may; how many that are.
    pub(crate) async fn recycle_due(&self) -> u64 {
        self.recycle.due.notified().await;
        self.recycle.limit
    }
}

/// How much a worker has to do. Every connection will bring work; a request in flight is some
/// already, and half as telling: it may be over in a moment, while the connection stays.
fn load(slot: &Slot) -> u64 {
    2 * slot.connections() + slot.requests_in_flight()
}

impl Telemetry for Board {
    /// A connection is left to another worker that has less to do, if that one is awake to take it:
    /// asleep, or not running for long.
    fn may_accept(&self) -> bool {
        let own = load(self.slot());
        let mut now = None;
        !self.scoreboard.slots().iter().enumerate().any(|(number, slot)| {
            number != self.slot && load(slot) < own && self.can_accept(slot) && {
                let since = slot.running_since_ns();
                since == 0
                    || now.get_or_insert_with(monotonic_ns).saturating_sub(since) < BUSY_AFTER_NS
            }
        })
    }

    fn connection_opened(&self, _open: u32) {
        self.slot().connection_opened();
    }

    fn connection_closed(&self, _open: u32) {
        self.slot().connection_closed();
    }

    fn request_started(&self, _in_flight: u32, now: Instant) {
        let now = self.progressed(now);
        let slot = self.slot();
        slot.request_started();
        slot.count_queue(self.queue.waited(now));
    }

    fn request_finished(&self, _in_flight: u32, status: u16, duration: Duration, now: Instant) {
        self.progressed(now);
        let slot = self.slot();
        slot.request_finished();
        slot.response_sent(status);
        slot.count_latency(duration);
        self.recycle.count();
    }

    /// A message is as much work as a request, and counts as one.
    fn message_received(&self) {
        self.recycle.count();
    }

    fn queue_changed(&self, waiting: u32) {
        self.slot().set_requests_waiting(u64::from(waiting));
    }

    fn request_turned_away(&self) {
        self.slot().request_turned_away();
    }

    fn request_timed_out(&self) {
        self.slot().request_timed_out();
    }

    fn set_accepting(&self, accepting: bool) {
        self.slot().set_accepting(accepting);
    }

    fn request_refused(&self, status: u16) {
        self.slot().response_sent(status);
    }

    fn bytes_read(&self, count: usize) {
        self.slot().add_bytes_in(count as u64);
    }

    fn bytes_written(&self, count: usize) {
        self.slot().add_bytes_out(count as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (connections, requests in flight, running for this long; `None` is asleep)
    type Other = (u64, u64, Option<u64>);

    fn may_accept(own: (u64, u64), others: &[Other]) -> bool {
        let board = Board::new(Scoreboard::create(others.len() + 1).unwrap(), 0, None);
        let fill = |slot: &Slot, connections: u64, requests: u64| {
            slot.set_phase(Phase::Ready);
            (0..connections).for_each(|_| slot.connection_opened());
            (0..requests).for_each(|_| slot.request_started());
        };
        fill(board.slot(), own.0, own.1);
        for (number, &(connections, requests, running)) in others.iter().enumerate() {
            let slot = board.scoreboard.slot(number + 1);
            fill(slot, connections, requests);
            match running {
                Some(nanoseconds) => slot.set_running(monotonic_ns() - nanoseconds),
                None => slot.set_parked(),
            }
        }
        board.may_accept()
    }

    #[test]
    fn the_worker_with_the_least_to_do_takes_the_connection() {
        const BLOCKED: Option<u64> = Some(200_000_000);
        let cases: [((u64, u64), &[Other], bool); 10] = [
            ((0, 0), &[], true),
            ((3, 0), &[(3, 0, None)], true),
            ((3, 0), &[(2, 0, None)], false),
            ((3, 0), &[(2, 0, Some(10_000))], false),
            ((3, 0), &[(2, 0, Some(4_000_000))], false),
            ((3, 0), &[(2, 0, BLOCKED)], true),
            ((3, 0), &[(2, 0, BLOCKED), (1, 0, None)], false),
            ((2, 0), &[(2, 1, None)], true),
            ((2, 2), &[(3, 0, None)], true),
            ((2, 3), &[(3, 0, None)], false),
        ];
        for (own, others, expected) in cases {
            assert_eq!(may_accept(own, others), expected, "{own:?} {others:?}");
        }
    }

    #[test]
    fn a_worker_that_does_not_serve_yet_is_not_waited_for() {
        let board = Board::new(Scoreboard::create(2).unwrap(), 0, None);
        board.set_phase(Phase::Ready);
        board.connection_opened(1);
        board.scoreboard.slot(1).set_phase(Phase::Starting);
        assert!(board.may_accept());
    }

    #[test]
    fn a_worker_that_cannot_accept_is_not_waited_for() {
        let board =
            Board::new(Scoreboard::create(2).unwrap(), 0, None).with_connection_limit(Some(2));
        let other = board.scoreboard.slot(1);
        for slot in [board.slot(), other] {
            slot.set_phase(Phase::Ready);
            slot.connection_opened();
            slot.set_parked();
        }
        board.slot().request_started();
        assert!(!board.may_accept());
        other.set_accepting(false);
        assert!(board.may_accept());
        other.set_accepting(true);
        assert!(!board.may_accept());
        // As many as it may have, and still less to do than this one.
        other.connection_opened();
        (0..3).for_each(|_| board.slot().request_started());
        assert!(board.may_accept());
    }
}
