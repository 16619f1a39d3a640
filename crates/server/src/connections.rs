//! The connections of a worker: how many there are, how they hear of a drain, and which of them leaves
//! where another one could not be let in otherwise.
//!
//! That is the one that has waited for its next request for longest. What it takes to know is a store
//! at the beginning and at the end of a request, to memory that belongs to the connection
//! ([`Standing`]); the search is left to the moment somebody waits.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::Duration;

use slab::Slab;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use crate::service::{App, Service};

/// How long other workers have for taking a connection before one is closed for it here: one that is
/// asleep takes it within some microseconds.
const OTHERS_FIRST: Duration = Duration::from_millis(1);
/// How long to wait for a place before looking for one again.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// How long the log keeps silent about missing descriptors, once it has said so.
const EXHAUSTION_SILENCE: Duration = Duration::from_secs(30);

/// All connections of a worker.
pub(crate) struct Connections {
    places: Mutex<Slab<Place>>,
    /// What [`Standing`]s count from.
    since: Instant,
    emptied: Notify,
    /// A connection has closed, or one that was asked to is not going to.
    closed: Notify,
    /// Whether connections wait to be accepted until others close.
    is_crowded: AtomicBool,
    exhaustion: Exhaustion,
}

struct Place {
    /// Set once the connection's task has run.
    waker: Option<Waker>,
    standing: Arc<Standing>,
}

/// Whether a connection is between two requests.
///
/// ```text
///   Busy ───────► Idle { since } ───────► Asked to leave
///     ▲                │                        │
///     └────────────────┴────────────────────────┘ the next request comes
/// ```
///
/// One that has had no request yet counts as busy: its client might not send the first one again.
#[derive(Debug, Default)]
pub(crate) struct Standing(AtomicU64);

const BUSY: u64 = 0;
const ASKED: u64 = u64::MAX;

impl Standing {
    fn idle_since(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|it| !matches!(*it, BUSY | ASKED))
    }

    /// Whether the connection is to close, being idle.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed) == ASKED
    }
}

impl Connections {
    pub(crate) fn new() -> Self {
        Self {
            places: Mutex::new(Slab::new()),
            since: Instant::now(),
            emptied: Notify::new(),
            closed: Notify::new(),
            is_crowded: AtomicBool::new(false),
            exhaustion: Exhaustion::default(),
        }
    }

    fn places(&self) -> MutexGuard<'_, Slab<Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has every connection look at what has changed.
    pub(crate) fn wake_all(&self) {
        let wakers: Vec<Waker> =
            self.places().iter().filter_map(|(_, place)| place.waker.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A request is over, and the next one has not begun.
    pub(crate) fn set_idle(&self, standing: &Standing, now: Instant) {
        let since = now.saturating_duration_since(self.since);
        let micros = since.as_secs().saturating_mul(1_000_000) + u64::from(since.subsec_micros());
        standing.0.store(micros.clamp(BUSY + 1, ASKED - 1), Ordering::Relaxed);
    }

    /// A request begins.
    pub(crate) fn set_busy(&self, standing: &Standing) {
        if standing.is_asked() {
            self.closed.notify_waiters();
        }
        standing.0.store(BUSY, Ordering::Relaxed);
    }

    /// Asks the connection to leave that has been idle for longest, if there is one.
    fn ask_longest_idle(&self) {
        let places = self.places();
        let idle =
            places.iter().filter_map(|(_, place)| Some((place.standing.idle_since()?, place)));
        let Some((_, place)) = idle.min_by_key(|(since, _)| *since) else {
            return;
        };
        place.standing.0.store(ASKED, Ordering::Relaxed);
        let waker = place.waker.clone();
        drop(places);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for a place: for a connection to close, after a moment for one that is asked to, if one is
    /// still wanted then. Returns before long in any case.
    pub(crate) async fn one_left(&self, is_wanted: impl Fn() -> bool) {
        if timeout(OTHERS_FIRST, self.closed.notified()).await.is_ok() {
            return;
        }
        let closed = self.closed.notified();
        if is_wanted() {
            self.ask_longest_idle();
        }
        let _ = timeout(LOOK_AGAIN, closed).await;
    }
}

impl<A: App> Service<A> {
    /// Waits until no connection is open.
    pub async fn emptied(&self) {
        loop {
            let notified = self.connections.emptied.notified();
            if self.open_connections() == 0 {
                return;
            }
            notified.await;
        }
    }

    /// How many connections are open.
    pub fn open_connections(&self) -> usize {
        self.connections.places().len()
    }

    /// Whether no further connection may be opened.
    pub(crate) fn is_full(&self) -> bool {
        let limit = self.options.overload.connection_limit;
        limit.is_some_and(|limit| clamp(self.open_connections()) >= limit)
    }

    /// Waits until a connection may be opened, or none is wanted any more. Meanwhile connections are
    /// not kept alive.
    pub(crate) async fn has_room(&self, is_wanted: impl Fn() -> bool) {
        while self.is_full() && is_wanted() {
            self.connections.is_crowded.store(true, Ordering::Relaxed);
            self.connections.one_left(&is_wanted).await;
        }
        self.connections.is_crowded.store(false, Ordering::Relaxed);
    }

    /// Whether a connection is better closed behind its response.
    pub(crate) fn is_crowded(&self) -> bool {
        self.connections.is_crowded.load(Ordering::Relaxed)
    }

    /// A connection could not be accepted for want of file descriptors or memory.
    pub(crate) fn exhausted(&self, error: std::io::Error, now: Instant) {
        self.telemetry().set_accepting(false);
        if let Some(missed) = self.connections.exhaustion.admit(now) {
            let open = self.open_connections();
            log::error!(
                "cannot accept connections: {error}; {open} are open, others wait. Raise the limit \
                 of open files (ulimit -n, LimitNOFILE=) or lower --limit-connections ({missed} \
                 such failures since the last message)"
            );
        }
    }

    /// Connections can be accepted again.
    pub(crate) fn recovered(&self) {
        self.telemetry().set_accepting(true);
    }

    /// Counts a connection for as long as the returned entry lives.
    pub(crate) fn enter(self: &Arc<Self>) -> Entry<A> {
        let standing = Arc::<Standing>::default();
        let mut places = self.connections.places();
        let key = places.insert(Place { waker: None, standing: Arc::clone(&standing) });
        self.telemetry().connection_opened(clamp(places.len()));
        drop(places);
        Entry { service: Arc::clone(self), key, standing }
    }
}

/// One connection in a service's list.
pub(crate) struct Entry<A: App> {
    pub(crate) service: Arc<Service<A>>,
    key: usize,
    pub(crate) standing: Arc<Standing>,
}

impl<A: App> Entry<A> {
    /// Leaves the waker that a drain uses.
    pub(crate) fn register(&self, waker: &Waker) {
        if let Some(place) = self.service.connections.places().get_mut(self.key) {
            place.waker = Some(waker.clone());
        }
    }

    /// A request is over, and the next one has not begun.
    pub(crate) fn set_idle(&self, now: Instant) {
        self.service.connections.set_idle(&self.standing, now);
    }

    /// A request begins.
    pub(crate) fn set_busy(&self) {
        self.service.connections.set_busy(&self.standing);
    }
}

impl<A: App> Drop for Entry<A> {
    fn drop(&mut self) {
        let connections = &self.service.connections;
        let mut places = connections.places();
        places.try_remove(self.key);
        let open = places.len();
        drop(places);
        self.service.telemetry().connection_closed(clamp(open));
        connections.closed.notify_waiters();
        if open == 0 {
            connections.emptied.notify_waiters();
        }
    }
}

/// When the log last said that descriptors are missing.
#[derive(Debug, Default)]
struct Exhaustion(Mutex<(Option<Instant>, u64)>);

impl Exhaustion {
    /// Whether to say it now, and how often it happened unsaid.
    fn admit(&self, now: Instant) -> Option<u64> {
        let (said, missed) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_some_and(|said| now.saturating_duration_since(said) < EXHAUSTION_SILENCE) {
            *missed += 1;
            return None;
        }
        *said = Some(now);
        Some(std::mem::take(missed))
    }
}

fn clamp(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use tokio::time::advance;

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicBool);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    struct Hall {
        connections: Connections,
        bells: Vec<Arc<Bell>>,
        standings: Vec<Arc<Standing>>,
    }

    impl Hall {
        /// Connections without a request.
        fn of(count: usize) -> Self {
            let connections = Connections::new();
            let bells: Vec<_> = (0..count).map(|_| Arc::<Bell>::default()).collect();
            let standings: Vec<_> = (0..count).map(|_| Arc::<Standing>::default()).collect();
            for (bell, standing) in bells.iter().zip(&standings) {
                let waker = Some(Arc::clone(bell).into());
                connections.places().insert(Place { waker, standing: Arc::clone(standing) });
            }
            Self { connections, bells, standings }
        }

        /// One after the other becomes idle.
        async fn rest(&self, order: &[usize]) {
            for &number in order {
                self.connections.set_idle(&self.standings[number], Instant::now());
                advance(Duration::from_secs(1)).await;
            }
        }

        fn asked(&self) -> Vec<usize> {
            let asked = |number: &usize| {
                let is_asked = self.standings[*number].is_asked();
                assert_eq!(is_asked, self.bells[*number].0.load(Ordering::Relaxed));
                is_asked
            };
            (0..self.standings.len()).filter(asked).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_idle_for_longest_is_asked_first_and_nobody_else() {
        let hall = Hall::of(5);
        hall.rest(&[3, 1, 4, 2]).await;
        hall.connections.set_busy(&hall.standings[1]);
        for expected in [vec![3], vec![3, 4], vec![2, 3, 4], vec![2, 3, 4]] {
            let start = Instant::now();
            hall.connections.one_left(|| true).await;
            assert_eq!(hall.asked(), expected);
            assert_eq!(start.elapsed(), OTHERS_FIRST + LOOK_AGAIN);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_asked_for_what_another_worker_takes() {
        let hall = Hall::of(1);
        hall.rest(&[0]).await;
        hall.connections.one_left(|| false).await;
        assert_eq!(hall.asked(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_a_request_after_all_says_so() {
        let hall = Hall::of(1);
        hall.rest(&[0]).await;
        let start = Instant::now();
        tokio::join!(hall.connections.one_left(|| true), async {
            tokio::time::sleep(OTHERS_FIRST * 2).await;
            assert_eq!(hall.asked(), [0]);
            hall.connections.set_busy(&hall.standings[0]);
        });
        assert!(start.elapsed() < LOOK_AGAIN);
        assert!(!hall.standings[0].is_asked());
    }
}
