//! The watchdog of a worker: a thread that sees the event loop stop, and says why.
//!
//! It looks at what the loop leaves behind anyway (the time it woke up, on the scoreboard, and a
//! count of its turns) a few times a second, and needs neither the loop nor the interpreter for
//! that. Everything expensive happens only once the loop is blocked.
//!
//! Owns: the thread, what is asked of it (SIGUSR2, the supervisor's order on the scoreboard), and
//! what it does about a verdict. Must not know: whether a blocked worker is replaced; it reports
//! it. Whatever it calls must not wait for Python: its log lines included.

mod frames;
mod judge;
mod report;
mod stacks;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

use pyo3::prelude::*;
use rsgi_config::WorkerOptions;
use rsgi_server::{LiveRequest, LiveRequests};
use rsgi_supervisor::{Phase, monotonic_ns};
use signal_hook::SigId;
use signal_hook::consts::SIGUSR2;
use tokio::time::Instant;

use self::judge::{Judge, Limits, Pulse, Verdict};
use self::report::{Report, tenths};
pub(crate) use self::stacks::Inspector;
use self::stacks::{Interpreter, Stacks, Wanted};
use crate::telemetry::Board;

/// SIGUSR2, sent to this process: somebody wants to see its stacks.
#[derive(Debug)]
pub(crate) struct DumpRequests {
    asked: Arc<AtomicBool>,
    handler: Option<SigId>,
}

impl DumpRequests {
    /// Listens from now on. An application that installs a handler of its own later replaces this.
    pub(crate) fn listen() -> Self {
        let asked = Arc::default();
        let handler = signal_hook::flag::register(SIGUSR2, Arc::clone(&asked))
            .inspect_err(|error| log::warn!("cannot listen to SIGUSR2: {error}"))
            .ok();
        Self { asked, handler }
    }

    /// Listens unless the program that calls us has a use of its own for the signal.
    pub(crate) fn listen_if_free(py: Python<'_>) -> PyResult<Self> {
        let signals = py.import("signal")?;
        let is_free =
            signals.call_method1("getsignal", (SIGUSR2,))?.eq(signals.getattr("SIG_DFL")?)?;
        Ok(if is_free { Self::listen() } else { Self { asked: Arc::default(), handler: None } })
    }

    pub(crate) fn asked(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.asked)
    }
}

impl Drop for DumpRequests {
    fn drop(&mut self) {
        if let Some(handler) = self.handler {
            signal_hook::low_level::unregister(handler);
        }
    }
}

/// What the watchdog watches, and whom it tells.
pub(crate) struct Watched {
    pub(crate) board: Arc<Board>,
    pub(crate) turns: Arc<AtomicU64>,
    pub(crate) requests: Arc<LiveRequests>,
    pub(crate) inspector: Inspector,
    pub(crate) dump_asked: Arc<AtomicBool>,
    pub(crate) limits: (Duration, Duration),
    /// Takes the news that the loop has been blocked for too long to whoever may replace this
    /// worker. Returns whether there is anybody.
    pub(crate) replace: Box<dyn Fn(Duration) -> bool + Send>,
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A running watchdog; it ends with this value.
#[derive(Debug)]
pub(crate) struct Watchdog {
    ended: Arc<AtomicBool>,
    thread: Thread,
}

/// The two limits of the settings, of which 0 is none.
pub(crate) fn limits(options: &WorkerOptions) -> (Duration, Duration) {
    (options.slow_loop_warning, options.timeout)
}

impl Watchdog {
    pub(crate) fn start(watched: Watched) -> io::Result<Self> {
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = thread::Builder::new()
            .name("rsgi-watchdog".to_owned())
            .spawn(move || watched.watch(&seen))?
            .thread()
            .clone();
        Ok(Self { ended, thread })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Not joined: it may be waiting for the interpreter, which the caller holds.
        self.thread.unpark();
    }
}

impl Watched {
    fn watch(mut self, ended: &AtomicBool) {
        let limit = |limit: Duration| Some(limit).filter(|limit| !limit.is_zero());
        let (slow, timeout) = self.limits;
        let mut judge = Judge::new(Limits { slow: limit(slow), timeout: limit(timeout) });
        let mut dumps = 0;
        let mut held = None;
        while !ended.load(Ordering::Relaxed) {
            let now = monotonic_ns();
            let slot = self.board.slot();
            slot.set_watchdog_seen(now);
            let wanted = slot.dumps_wanted();
            let counts = slot.phase() == Phase::Ready;
            // Both, when a whole process group was signalled, are one dump.
            let is_asked = self.dump_asked.swap(false, Ordering::Relaxed);
            if is_asked || wanted != dumps {
                dumps = wanted;
                self.dump();
            }
            match judge.look(self.pulse(), counts, now) {
                Some(Verdict::Slow(duration)) => {
                    let seen = self.see(Wanted::Loop);
                    if self.is_debugged(&seen, &mut held) {
                        judge.excuse(monotonic_ns());
                    } else {
                        self.warn(duration, &seen);
                    }
                }
                Some(Verdict::TimedOut(duration)) => {
                    let seen = self.see(Wanted::All);
                    if self.is_debugged(&seen, &mut held) {
                        judge.excuse(monotonic_ns());
                    } else {
                        self.give_up(duration, &seen);
                    }
                }
                Some(Verdict::Recovered(duration)) => {
                    log::warn!(
                        "The event loop moves again, it was blocked for {} s",
                        tenths(duration)
                    );
                }
                None => {}
            }
            thread::park_timeout(judge.patience(monotonic_ns()));
        }
    }

    fn pulse(&self) -> Pulse {
        Pulse {
            running_since_ns: self.board.slot().running_since_ns(),
            turns: self.turns.load(Ordering::Relaxed),
        }
    }

    /// Looks at a blocked loop.
    fn see(&mut self, wanted: Wanted) -> Seen {
        Seen { before: self.pulse(), found: self.look(wanted) }
    }

    /// Whether the loop waits for somebody at a debugger. Says so once; `held` is when it last did.
    fn is_debugged(&self, seen: &Seen, held: &mut Option<Pulse>) -> bool {
        let of_the_loop = seen.found.stacks.threads.first().filter(|thread| thread.is_loop);
        let is_debugged = of_the_loop
            .and_then(|thread| thread.stack.as_ref().ok())
            .is_some_and(|stack| self.inspector.directories.is_debugged(stack));
        if is_debugged && held.replace(seen.before) != Some(seen.before) {
            log::info!("A debugger holds the event loop, which does not count as blocked");
        }
        is_debugged
    }

    fn dump(&mut self) {
        let found = self.look(Wanted::All);
        let pid = std::process::id();
        log::warn!("Stacks of process [{pid}], asked for by SIGUSR2{}", self.report(&found));
    }

    fn warn(&self, duration: Duration, Seen { before, found }: &Seen) {
        let (duration, report) = (tenths(duration), self.report(found));
        // Where C code held the GIL, the stacks come from a signal, which may have set it free: they
        // are from before that.
        if self.pulse() == *before || found.stacks.interpreter == Interpreter::Held {
            let place = report.place();
            log::warn!("The event loop has been blocked for {duration} s{place}{report}");
        } else {
            log::warn!(
                "The event loop was blocked for {duration} s, and moved before anybody saw where"
            );
        }
    }

    fn give_up(&self, duration: Duration, Seen { before, found }: &Seen) {
        let report = self.report(found);
        let (seconds, place) = (tenths(duration), report.place());
        log::error!("The event loop has been blocked for {seconds} s (--timeout){place}{report}");
        if self.pulse() != *before {
            log::warn!("The event loop has just moved, this worker is not replaced");
        } else if !(self.replace)(duration) {
            log::error!("There is no supervisor that could replace this process, it goes on");
        }
    }

    fn look(&mut self, wanted: Wanted) -> Found {
        // First: a request may end while stacks are being taken.
        let requests = self.requests.list();
        Found { stacks: self.inspector.look(wanted), requests }
    }

    fn report<'a>(&'a self, found: &'a Found) -> Report<'a> {
        Report {
            stacks: &found.stacks,
            requests: &found.requests,
            now: Instant::now(),
            directories: &self.inspector.directories,
        }
    }
}

/// A blocked loop, looked at.
struct Seen {
    /// What it showed right before.
    before: Pulse,
    found: Found,
}

/// What there is to tell.
struct Found {
    stacks: Stacks,
    requests: Vec<LiveRequest>,
}
