//! One worker's page of the scoreboard: its layout, and the meaning of its numbers.
//!
//! Long because it is one list of counters.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::histogram::{Durations, Histogram};

/// Bytes of one slot: a page, so that a worker's counters share no cache line with another's.
pub(crate) const SLOT_SIZE: usize = 4096;
/// A loop that makes no progress for this long has stalled: everybody on it has waited noticeably.
pub(crate) const STALL_NS: u64 = 100_000_000;
/// Status classes 1xx to 5xx.
const CLASSES: usize = 5;

/// Where a worker is in its life.
///
/// ```text
/// Empty -> Starting -> Ready -> Draining -> Gone -> Empty
///              `--------------------------^
/// ```
///
/// The supervisor writes `Starting`, `Gone` and `Empty`, the worker `Ready` and `Draining`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Phase {
    /// No worker has the slot.
    Empty = 0,
    /// The process exists and is not ready yet.
    Starting = 1,
    /// It takes connections.
    Ready = 2,
    /// It finishes what it has and takes nothing new.
    Draining = 3,
    /// It is dead and not yet forgotten.
    Gone = 4,
}

impl Phase {
    fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Starting,
            2 => Self::Ready,
            3 => Self::Draining,
            4 => Self::Gone,
            _ => Self::Empty,
        }
    }
}

/// Own cache lines: 128 bytes, because x86 fetches lines in pairs.
#[repr(C, align(128))]
struct Line<T>(T);

#[repr(C)]
struct Identity {
    pid: AtomicU32,
    generation: AtomicU32,
    phase: AtomicU32,
    /// Of this package and of the interpreter, see [`Version`]; 0 before the worker has said it.
    versions: [AtomicU64; 2],
}

/// Major, minor and patch number of what a worker runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(pub [u16; 3]);

impl Version {
    fn from_number(number: u64) -> Option<Self> {
        let [_, parts @ ..] = [48, 32, 16, 0].map(|shift| (number >> shift & 0xffff) as u16);
        (number != 0).then_some(Self(parts))
    }

    fn number(self) -> u64 {
        self.0.iter().fold(0, |number, part| number << 16 | u64::from(*part))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.0;
        write!(f, "{major}.{minor}.{patch}")
    }
}

/// Numbers that begin at zero with each worker.
trait Numbers {
    /// Sets all of them to zero.
    fn clear(&self);
}

impl Numbers for AtomicU64 {
    fn clear(&self) {
        self.store(0, Ordering::Relaxed);
    }
}

impl<T: Numbers, const N: usize> Numbers for [T; N] {
    fn clear(&self) {
        self.iter().for_each(T::clear);
    }
}

impl Numbers for Histogram {
    fn clear(&self) {
        self.counters().for_each(AtomicU64::clear);
    }
}

impl<T: Numbers> Numbers for Line<T> {
    fn clear(&self) {
        self.0.clear();
    }
}

/// A struct of [`Numbers`], which is one itself: what is added to the list is not forgotten in
/// `clear`.
macro_rules! numbers {
    ($(#[$about:meta])* struct $name:ident { $($(#[$what:meta])* $field:ident: $kind:ty,)* }) => {
        $(#[$about])*
        #[repr(C)]
        struct $name {
            $($(#[$what])* $field: $kind,)*
        }

        impl Numbers for $name {
            fn clear(&self) {
                $(self.$field.clear();)*
            }
        }
    };
}

numbers! {
    struct Load {
        connections: AtomicU64,
        requests_in_flight: AtomicU64,
        requests_waiting: AtomicU64,
        /// 1 while the worker cannot accept connections.
        exhausted: AtomicU64,
    }
}

numbers! {
    struct Totals {
        accepted: AtomicU64,
        requests: AtomicU64,
        responses: [AtomicU64; CLASSES],
        unanswered: AtomicU64,
        turned_away: AtomicU64,
        timed_out: AtomicU64,
        bytes_in: AtomicU64,
        bytes_out: AtomicU64,
        stalls: AtomicU64,
        stalled_ns: AtomicU64,
    }
}

numbers! {
    /// What the watchdog thread of the worker and the supervisor have to say to each other.
    struct Watch {
        seen_ns: AtomicU64,
        dumps_wanted: AtomicU64,
    }
}

/// The numbers of one worker.
///
/// Any process may read any slot. Only the loop's thread of the worker that owns the slot may call
/// the counting methods: two writers would lose counts (nothing worse).
#[repr(C, align(4096))]
pub struct Slot {
    identity: Line<Identity>,
    running_since_ns: Line<AtomicU64>,
    watch: Line<Watch>,
    load: Line<Load>,
    totals: Line<Totals>,
    latency: Line<Histogram>,
    queue: Line<Histogram>,
}

const _: () = assert!(size_of::<Slot>() == SLOT_SIZE, "a slot is exactly one page");

/// Adds with one writer: a plain load and store.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
}

/// Takes one off, never below zero: a gauge that is wrong by one must not read as 2^64.
fn take_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).saturating_sub(1), Ordering::Relaxed);
}

impl Slot {
    /// The process that has the slot, 0 for none.
    pub fn pid(&self) -> u32 {
        self.identity.0.pid.load(Ordering::Relaxed)
    }

    /// Which start of a worker this is: unique and rising over the life of a supervisor.
    pub fn generation(&self) -> u32 {
        self.identity.0.generation.load(Ordering::Relaxed)
    }

    /// Where the worker is in its life. Whoever sees `Ready` sees everything written before it.
    pub fn phase(&self) -> Phase {
        Phase::from_number(self.identity.0.phase.load(Ordering::Acquire))
    }

    /// Moves the worker to another phase.
    pub fn set_phase(&self, phase: Phase) {
        self.identity.0.phase.store(phase as u32, Ordering::Release);
    }

    /// Writes the process number.
    pub fn set_pid(&self, pid: u32) {
        self.identity.0.pid.store(pid, Ordering::Relaxed);
    }

    /// Since when the loop has been running ([`monotonic_ns`]); 0 while it is parked.
    pub fn running_since_ns(&self) -> u64 {
        self.running_since_ns.0.load(Ordering::Relaxed)
    }

    /// The loop runs since `now_ns`: it unparked, or ended one turn and began the next.
    pub fn set_running(&self, now_ns: u64) {
        let before = self.running_since_ns();
        let stretch = now_ns.saturating_sub(before);
        // Nobody waits for a worker that is not ready yet.
        if before != 0 && stretch >= STALL_NS && self.phase() != Phase::Starting {
            add(&self.totals.0.stalls, 1);
            add(&self.totals.0.stalled_ns, stretch);
        }
        self.running_since_ns.0.store(now_ns, Ordering::Relaxed);
    }

    /// How often the loop made no progress for a tenth of a second or more.
    pub fn stalls_total(&self) -> u64 {
        self.totals.0.stalls.load(Ordering::Relaxed)
    }

    /// How long all of that took together.
    pub fn stalled_ns_total(&self) -> u64 {
        self.totals.0.stalled_ns.load(Ordering::Relaxed)
    }

    /// The loop is about to sleep in the kernel.
    pub fn set_parked(&self) {
        self.running_since_ns.0.store(0, Ordering::Relaxed);
    }

    /// When the worker's watchdog was last seen ([`monotonic_ns`]); 0 if it has not begun.
    pub fn watchdog_seen_ns(&self) -> u64 {
        self.watch.0.seen_ns.load(Ordering::Relaxed)
    }

    /// The watchdog runs. For its own thread.
    pub fn set_watchdog_seen(&self, now_ns: u64) {
        self.watch.0.seen_ns.store(now_ns, Ordering::Relaxed);
    }

    /// How often the supervisor has asked for the stacks of this worker.
    pub fn dumps_wanted(&self) -> u64 {
        self.watch.0.dumps_wanted.load(Ordering::Relaxed)
    }

    /// Asks the watchdog for the stacks of its process. For the supervisor.
    pub(crate) fn want_dump(&self) {
        add(&self.watch.0.dumps_wanted, 1);
    }

    /// Open connections.
    pub fn connections(&self) -> u64 {
        self.load.0.connections.load(Ordering::Relaxed)
    }

    /// A connection was accepted.
    pub fn connection_opened(&self) {
        add(&self.load.0.connections, 1);
        add(&self.totals.0.accepted, 1);
    }

    /// A connection is gone.
    pub fn connection_closed(&self) {
        take_one(&self.load.0.connections);
    }

    /// Requests begun and not finished.
    pub fn requests_in_flight(&self) -> u64 {
        self.load.0.requests_in_flight.load(Ordering::Relaxed)
    }

    /// Requests that wait for a place at the application.
    pub fn requests_waiting(&self) -> u64 {
        self.load.0.requests_waiting.load(Ordering::Relaxed)
    }

    /// So many wait now.
    pub fn set_requests_waiting(&self, waiting: u64) {
        self.load.0.requests_waiting.store(waiting, Ordering::Relaxed);
    }

    /// Whether the worker cannot accept connections: it has no descriptors left.
    pub fn is_exhausted(&self) -> bool {
        self.load.0.exhausted.load(Ordering::Relaxed) != 0
    }

    /// Whether it can.
    pub fn set_accepting(&self, accepting: bool) {
        self.load.0.exhausted.store(u64::from(!accepting), Ordering::Relaxed);
    }

    /// A request was turned away because there was no place.
    pub fn request_turned_away(&self) {
        add(&self.totals.0.turned_away, 1);
    }

    /// Requests turned away so far.
    pub fn turned_away_total(&self) -> u64 {
        self.totals.0.turned_away.load(Ordering::Relaxed)
    }

    /// The application took too long over a request.
    pub fn request_timed_out(&self) {
        add(&self.totals.0.timed_out, 1);
    }

    /// Requests given up so far because the application took too long.
    pub fn timed_out_total(&self) -> u64 {
        self.totals.0.timed_out.load(Ordering::Relaxed)
    }

    /// A request began.
    pub fn request_started(&self) {
        add(&self.load.0.requests_in_flight, 1);
        add(&self.totals.0.requests, 1);
    }

    /// A request ended, with or without a response.
    pub fn request_finished(&self) {
        take_one(&self.load.0.requests_in_flight);
    }

    /// A request ended with this status, 0 for none. Another number outside 100 to 599 is not
    /// counted.
    pub fn response_sent(&self, status: u16) {
        if status == 0 {
            add(&self.totals.0.unanswered, 1);
        } else if let Some(counter) = self.class(status / 100) {
            add(counter, 1);
        }
    }

    /// Requests that ended without a response so far: the client left, or the server stopped.
    pub fn unanswered_total(&self) -> u64 {
        self.totals.0.unanswered.load(Ordering::Relaxed)
    }

    /// Connections accepted so far.
    pub fn accepted_total(&self) -> u64 {
        self.totals.0.accepted.load(Ordering::Relaxed)
    }

    /// Requests begun so far.
    pub fn requests_total(&self) -> u64 {
        self.totals.0.requests.load(Ordering::Relaxed)
    }

    /// Responses of one status class, 1 for 1xx to 5 for 5xx; 0 for any other class.
    pub fn responses_total(&self, class: u16) -> u64 {
        self.class(class).map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    fn class(&self, class: u16) -> Option<&AtomicU64> {
        self.totals.0.responses.get(usize::from(class.checked_sub(1)?))
    }

    /// Bytes read from clients so far.
    pub fn bytes_in_total(&self) -> u64 {
        self.totals.0.bytes_in.load(Ordering::Relaxed)
    }

    /// Counts bytes read.
    pub fn add_bytes_in(&self, bytes: u64) {
        add(&self.totals.0.bytes_in, bytes);
    }

    /// Bytes written to clients so far.
    pub fn bytes_out_total(&self) -> u64 {
        self.totals.0.bytes_out.load(Ordering::Relaxed)
    }

    /// Counts bytes written.
    pub fn add_bytes_out(&self, bytes: u64) {
        add(&self.totals.0.bytes_out, bytes);
    }

    /// Counts how long a request took.
    pub fn count_latency(&self, duration: Duration) {
        self.latency.0.record(duration);
    }

    pub(crate) fn latency(&self) -> Durations {
        self.latency.0.read()
    }

    /// Counts how long a request waited until the application was called.
    pub fn count_queue(&self, duration: Duration) {
        self.queue.0.record(duration);
    }

    pub(crate) fn queue(&self) -> Durations {
        self.queue.0.read()
    }

    /// Writes what the worker runs: the version of this package, and of the interpreter.
    pub fn set_versions(&self, package: Version, interpreter: Version) {
        let [own, runtime] = &self.identity.0.versions;
        own.store(package.number(), Ordering::Relaxed);
        runtime.store(interpreter.number(), Ordering::Relaxed);
    }

    /// What the worker runs, if it has said so.
    pub(crate) fn versions(&self) -> Option<[Version; 2]> {
        let [package, interpreter] = &self.identity.0.versions;
        let read = |number: &AtomicU64| Version::from_number(number.load(Ordering::Relaxed));
        Some([read(package)?, read(interpreter)?])
    }

    /// Gives the slot to a new worker: every number back to zero, then `Starting`.
    ///
    /// Only for the supervisor, and only while no process has the slot.
    pub(crate) fn assign(&self, generation: u32) {
        self.clear();
        self.identity.0.generation.store(generation, Ordering::Relaxed);
        self.set_phase(Phase::Starting);
    }

    /// Empties the slot after its worker was reaped.
    pub(crate) fn release(&self) {
        self.clear();
    }

    fn clear(&self) {
        self.set_phase(Phase::Empty);
        let Self { identity, running_since_ns, watch, load, totals, latency, queue } = self;
        let groups: [&dyn Numbers; 7] =
            [&identity.0.versions, running_since_ns, watch, load, totals, latency, queue];
        for group in groups {
            group.clear();
        }
        self.set_pid(0);
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("pid", &self.pid())
            .field("generation", &self.generation())
            .field("phase", &self.phase())
            .field("connections", &self.connections())
            .field("requests_in_flight", &self.requests_in_flight())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scoreboard::{MAX_SLOTS, Scoreboard, monotonic_ns};
    use std::os::fd::AsFd;

    #[test]
    fn numbers_written_through_one_mapping_are_read_through_another() {
        let ours = Scoreboard::create(3).unwrap();
        let theirs = Scoreboard::from_fd(ours.as_fd().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!(theirs.len(), 3);

        theirs.slot(1).connection_opened();
        theirs.slot(1).request_started();
        theirs.slot(1).response_sent(404);
        theirs.slot(1).count_latency(Duration::from_micros(100));
        theirs.slot(1).set_running(42);
        theirs.slot(1).set_phase(Phase::Ready);

        assert_eq!(ours.slot(1).connections(), 1);
        assert_eq!(ours.slot(1).accepted_total(), 1);
        assert_eq!(ours.slot(1).requests_in_flight(), 1);
        assert_eq!(ours.slot(1).responses_total(4), 1);
        assert_eq!(ours.slot(1).latency().buckets[7], 1);
        assert_eq!(ours.slot(1).running_since_ns(), 42);
        assert_eq!(ours.slot(1).phase(), Phase::Ready);
        assert_eq!(ours.slot(0).connections(), 0);
        assert_eq!(ours.slot(2).phase(), Phase::Empty);
    }

    #[test]
    fn a_slot_given_to_a_new_worker_starts_at_zero() {
        let board = Scoreboard::create(1).unwrap();
        let slot = board.slot(0);
        slot.set_pid(99);
        slot.connection_opened();
        slot.request_started();
        for status in [0, 100, 200, 300, 400, 500] {
            slot.response_sent(status);
        }
        slot.add_bytes_in(10);
        slot.add_bytes_out(20);
        slot.set_phase(Phase::Ready);
        slot.set_running(5);
        slot.set_watchdog_seen(6);
        slot.want_dump();
        slot.set_running(5 + STALL_NS);
        slot.count_latency(Duration::MAX);
        slot.count_queue(Duration::from_micros(1));
        slot.set_versions(Version([0, 1, 2]), Version([3, 13, 1]));
        let shown = slot.versions().map(|versions| versions.map(|version| version.to_string()));
        assert_eq!(shown, Some(["0.1.2".to_owned(), "3.13.1".to_owned()]));

        slot.assign(7);

        assert_eq!((slot.pid(), slot.generation(), slot.phase()), (0, 7, Phase::Starting));
        assert_eq!(slot.connections() + slot.requests_in_flight() + slot.running_since_ns(), 0);
        assert_eq!(slot.watchdog_seen_ns() + slot.dumps_wanted(), 0);
        assert_eq!(crate::totals::Totals::of(slot), crate::totals::Totals::default());
        assert_eq!(slot.versions(), None);
    }

    #[test]
    fn only_long_stretches_without_progress_of_a_worker_that_serves_are_stalls() {
        let board = Scoreboard::create(1).unwrap();
        let slot = board.slot(0);
        let stalls = |phase, stretch| {
            slot.set_phase(phase);
            slot.set_running(1);
            let before = (slot.stalls_total(), slot.stalled_ns_total());
            slot.set_running(1 + stretch);
            slot.set_parked();
            slot.set_running(1 + 10 * stretch); // asleep until then
            slot.set_parked();
            (slot.stalls_total() - before.0, slot.stalled_ns_total() - before.1)
        };
        assert_eq!(stalls(Phase::Starting, STALL_NS), (0, 0));
        assert_eq!(stalls(Phase::Ready, STALL_NS - 1), (0, 0));
        assert_eq!(stalls(Phase::Ready, STALL_NS), (1, STALL_NS));
        assert_eq!(stalls(Phase::Draining, 3 * STALL_NS), (1, 3 * STALL_NS));
    }

    #[test]
    fn a_gauge_never_goes_below_zero() {
        let board = Scoreboard::create(1).unwrap();
        board.slot(0).connection_closed();
        board.slot(0).request_finished();
        assert_eq!(board.slot(0).connections(), 0);
        assert_eq!(board.slot(0).requests_in_flight(), 0);
    }

    #[test]
    fn impossible_statuses_and_buckets_are_harmless() {
        let board = Scoreboard::create(1).unwrap();
        for status in [1, 99, 600, u16::MAX] {
            board.slot(0).response_sent(status);
        }
        board.slot(0).count_latency(Duration::MAX);
        assert_eq!((0..=9).map(|class| board.slot(0).responses_total(class)).sum::<u64>(), 0);
        assert_eq!(board.slot(0).latency().buckets.last(), Some(&1));
    }

    #[test]
    fn the_number_of_slots_is_bounded() {
        assert!(Scoreboard::create(0).is_err());
        assert!(Scoreboard::create(MAX_SLOTS + 1).is_err());
        assert_eq!(Scoreboard::create(MAX_SLOTS).unwrap().len(), MAX_SLOTS);
    }

    #[test]
    fn a_descriptor_that_is_no_scoreboard_is_refused() {
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(Scoreboard::from_fd(null.into()).is_err());
        let unsealed = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        rustix::fs::ftruncate(&unsealed, 4096).unwrap();
        assert!(Scoreboard::from_fd(unsealed).is_err());
    }

    #[test]
    fn the_hot_counters_lie_on_different_cache_lines() {
        let offsets = [
            std::mem::offset_of!(Slot, identity),
            std::mem::offset_of!(Slot, running_since_ns),
            std::mem::offset_of!(Slot, watch),
            std::mem::offset_of!(Slot, load),
            std::mem::offset_of!(Slot, totals),
            std::mem::offset_of!(Slot, latency),
            std::mem::offset_of!(Slot, queue),
        ];
        let lines: std::collections::BTreeSet<_> = offsets.iter().map(|o| o / 128).collect();
        assert_eq!(lines.len(), offsets.len());
    }

    #[test]
    fn the_clock_moves_forward() {
        let first = monotonic_ns();
        assert!(first > 0);
        assert!(monotonic_ns() >= first);
    }
}
