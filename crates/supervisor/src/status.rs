//! What the supervisor knows, for whoever asks: the workers, their counters, restarts and why.
//!
//! Owns: the totals of workers that are gone, and since when a worker has been what it is. Must not
//! know: how any of it is shown (see `admin`). The supervisor's loop writes, and a reader never
//! waits for more than a copy of this.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use crate::policy::Pid;
use crate::policy::overview::{CAUSES, Overview, State};
use crate::scoreboard::{Scoreboard, Slot, Version, monotonic_ns};
use crate::totals::Totals;

/// A worker's index and why it was restarted.
pub(crate) type Restart = (usize, &'static str);

/// The state, shared by the supervisor's loop and the admin listener.
#[derive(Debug)]
pub(crate) struct Status {
    scoreboard: Arc<Scoreboard>,
    started: SystemTime,
    ledger: Mutex<Ledger>,
}

#[derive(Debug, Default)]
struct Ledger {
    overview: Overview,
    /// Since when the worker of a generation has had its state.
    since: BTreeMap<u32, (State, SystemTime)>,
    /// What workers that are gone have counted, by their index.
    retired: BTreeMap<usize, Totals>,
    restarts: BTreeMap<Restart, u64>,
    has_been_complete: bool,
}

/// Whether the server can serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) ready: usize,
    pub(crate) wanted: usize,
    pub(crate) is_stopping: bool,
    /// Whether all workers that there should be have been ready at one time.
    pub(crate) has_been_complete: bool,
}

/// Everything at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Snapshot {
    pub(crate) at: SystemTime,
    pub(crate) started: SystemTime,
    pub(crate) health: Health,
    pub(crate) supervisor_rss: Option<u64>,
    pub(crate) processes: Vec<Process>,
    /// By index: of all processes that have had it.
    pub(crate) totals: BTreeMap<usize, Totals>,
    pub(crate) restarts: BTreeMap<Restart, u64>,
}

/// One worker process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) index: usize,
    pub(crate) generation: u32,
    pub(crate) pid: Pid,
    pub(crate) state: State,
    pub(crate) since: SystemTime,
    pub(crate) connections: u64,
    pub(crate) in_flight: u64,
    pub(crate) waiting: u64,
    pub(crate) requests: u64,
    pub(crate) rss: Option<u64>,
    /// How long its loop has been running without a sign of progress; zero while it sleeps.
    pub(crate) lag: Duration,
    pub(crate) versions: Option<[Version; 2]>,
}

impl Status {
    pub(crate) fn new(scoreboard: Arc<Scoreboard>) -> Self {
        Self { scoreboard, started: SystemTime::now(), ledger: Mutex::default() }
    }

    /// Takes note of what there is now.
    pub(crate) fn update(&self, overview: Overview) {
        let now = SystemTime::now();
        let ledger = &mut *self.ledger();
        let known = |generation: &u32| overview.workers.iter().any(|w| w.generation == *generation);
        ledger.since.retain(|generation, _| known(generation));
        for worker in &overview.workers {
            let entry = ledger.since.entry(worker.generation).or_insert((worker.state, now));
            if entry.0 != worker.state {
                *entry = (worker.state, now);
            }
            for cause in CAUSES {
                ledger.restarts.entry((worker.index, cause)).or_default();
            }
        }
        let is_complete = !overview.is_stopping && count_ready(&overview) >= overview.wanted;
        ledger.has_been_complete |= is_complete;
        ledger.overview = overview;
    }

    /// A worker is restarted.
    pub(crate) fn count_restart(&self, (index, cause): Restart) {
        *self.ledger().restarts.entry((index, cause)).or_default() += 1;
    }

    /// Keeps what the worker in this slot has counted. Right before the slot is zeroed: until both
    /// are done, nobody may look.
    pub(crate) fn retire(&self, index: usize, slot: &Slot) {
        let ledger = &mut *self.ledger();
        ledger.retired.entry(index).or_default().add(&Totals::of(slot));
        ledger.overview.workers.retain(|worker| worker.generation != slot.generation());
    }

    pub(crate) fn health(&self) -> Health {
        self.ledger().health()
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        let ledger = self.ledger();
        let (at, now_ns) = (SystemTime::now(), monotonic_ns());
        let mut totals = ledger.retired.clone();
        let mut processes = Vec::with_capacity(ledger.overview.workers.len());
        for worker in &ledger.overview.workers {
            let slot = self.scoreboard.slot(worker.slot);
            totals.entry(worker.index).or_default().add(&Totals::of(slot));
            let running_since = match slot.running_since_ns() {
                0 => now_ns,
                since => since,
            };
            processes.push(Process {
                index: worker.index,
                generation: worker.generation,
                pid: worker.pid,
                state: worker.state,
                since: ledger.since.get(&worker.generation).map_or(at, |&(_, since)| since),
                connections: slot.connections(),
                in_flight: slot.requests_in_flight(),
                waiting: slot.requests_waiting(),
                requests: slot.requests_total(),
                rss: resident_bytes(worker.pid),
                lag: Duration::from_nanos(now_ns.saturating_sub(running_since)),
                versions: slot.versions(),
            });
        }
        Snapshot {
            at,
            started: self.started,
            health: ledger.health(),
            supervisor_rss: resident_bytes(std::process::id()),
            processes,
            totals,
            restarts: ledger.restarts.clone(),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    fn health(&self) -> Health {
        let Overview { is_stopping, wanted, .. } = self.overview;
        Health {
            // During a replacement there can be one more.
            ready: count_ready(&self.overview).min(wanted),
            wanted,
            is_stopping,
            has_been_complete: self.has_been_complete,
        }
    }
}

fn count_ready(overview: &Overview) -> usize {
    overview.workers.iter().filter(|worker| worker.state == State::Ready).count()
}

/// The second field of `/proc/PID/statm`, in pages (proc(5)); it takes no lock of the process.
fn resident_bytes(pid: Pid) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(u64::try_from(rustix::param::page_size()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::overview::Seen;

    fn seen(slot: usize, index: usize, generation: u32, state: State) -> Seen {
        Seen { slot, index, generation, pid: std::process::id(), state }
    }

    fn overview(wanted: usize, workers: &[Seen]) -> Overview {
        Overview { is_stopping: false, wanted, workers: workers.to_vec() }
    }

    fn status(slots: usize) -> Status {
        Status::new(Arc::new(Scoreboard::create(slots).unwrap()))
    }

    fn serve(slot: &Slot, requests: u64) {
        for _ in 0..requests {
            slot.request_started();
            slot.response_sent(200);
            slot.count_latency(Duration::from_millis(1));
            slot.request_finished();
        }
    }

    fn requests(status: &Status, index: usize) -> u64 {
        status.snapshot().totals[&index].requests
    }

    #[test]
    fn totals_of_an_index_survive_its_workers() {
        let status = status(3);
        let board = Arc::clone(&status.scoreboard);
        board.slot(0).assign(1);
        status.update(overview(1, &[seen(0, 0, 1, State::Ready)]));
        serve(board.slot(0), 5);
        assert_eq!(requests(&status, 0), 5);

        // Its replacement serves beside it, and in another slot.
        board.slot(2).assign(2);
        let both = [seen(0, 0, 1, State::Draining), seen(2, 0, 2, State::Ready)];
        status.update(overview(1, &both));
        serve(board.slot(2), 3);
        assert_eq!(requests(&status, 0), 8);

        status.retire(0, board.slot(0));
        board.slot(0).release();
        assert_eq!(requests(&status, 0), 8);
        status.update(overview(1, &both[1..]));
        assert_eq!(requests(&status, 0), 8);
        assert_eq!(status.snapshot().totals[&0].latency.buckets[10], 8);

        // No worker is left, the count is.
        status.retire(0, board.slot(2));
        board.slot(2).release();
        status.update(overview(1, &[]));
        assert_eq!(requests(&status, 0), 8);
        assert_eq!(status.snapshot().processes.len(), 0);
    }

    #[test]
    fn indices_are_kept_apart() {
        let status = status(2);
        status.update(overview(2, &[seen(1, 0, 1, State::Ready), seen(0, 1, 2, State::Ready)]));
        serve(status.scoreboard.slot(1), 4);
        assert_eq!((requests(&status, 0), requests(&status, 1)), (4, 0));
    }

    #[test]
    fn restarts_are_counted_by_index_and_cause_and_known_causes_start_at_0() {
        let status = status(2);
        status.update(overview(1, &[seen(0, 0, 1, State::Ready)]));
        status.count_restart((0, "crash"));
        status.count_restart((0, "crash"));
        status.count_restart((0, "moon phase"));
        let restarts = status.snapshot().restarts;
        assert_eq!(restarts[&(0, "crash")], 2);
        assert_eq!(restarts[&(0, "moon phase")], 1);
        assert_eq!(restarts[&(0, "reload")], 0);
    }

    #[test]
    fn health_counts_ready_workers_and_remembers_that_all_were() {
        let status = status(3);
        let (first, second) = (seen(0, 0, 1, State::Ready), seen(1, 1, 2, State::Starting));
        status.update(overview(2, &[first, second]));
        let health = status.health();
        assert_eq!((health.ready, health.wanted, health.has_been_complete), (1, 2, false));

        let second = Seen { state: State::Ready, ..second };
        status.update(overview(2, &[first, second, seen(2, 0, 3, State::Ready)]));
        let health = status.health();
        assert_eq!((health.ready, health.wanted, health.has_been_complete), (2, 2, true));

        status.update(Overview { is_stopping: true, ..overview(2, &[]) });
        let health = status.health();
        assert_eq!((health.ready, health.is_stopping, health.has_been_complete), (0, true, true));
    }

    #[test]
    fn a_server_that_stops_before_its_workers_are_ready_was_never_complete() {
        let status = status(2);
        status.update(Overview { is_stopping: true, ..overview(0, &[]) });
        assert!(!status.health().has_been_complete);
    }

    #[test]
    fn a_state_keeps_its_beginning_until_it_changes() {
        let status = status(1);
        let since = |state| {
            status.update(overview(1, &[seen(0, 0, 1, state)]));
            status.snapshot().processes[0].since
        };
        let starting = since(State::Starting);
        assert_eq!(since(State::Starting), starting);
        let ready = since(State::Ready);
        assert!(ready >= starting);
        assert_eq!(since(State::Ready), ready);
        assert_eq!(status.ledger().since.len(), 1);
        status.update(overview(1, &[]));
        assert_eq!(status.ledger().since.len(), 0);
    }

    #[test]
    fn a_sleeping_loop_does_not_lag_and_a_running_one_does() {
        let status = status(1);
        let slot = status.scoreboard.slot(0);
        status.update(overview(1, &[seen(0, 0, 1, State::Ready)]));
        slot.set_parked();
        assert_eq!(status.snapshot().processes[0].lag, Duration::ZERO);
        slot.set_running(monotonic_ns() - 2_000_000_000);
        assert!(status.snapshot().processes[0].lag >= Duration::from_secs(2));
    }

    #[test]
    fn memory_is_read_from_the_kernel() {
        assert!(resident_bytes(std::process::id()).is_some_and(|bytes| bytes > 100_000));
        assert_eq!(resident_bytes(u32::MAX), None);
    }
}
