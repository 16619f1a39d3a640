//! The supervisor's decisions: `(state, event, now) -> actions`, without processes or clocks.
//!
//! Owns: how many workers there should be, when one is started, replaced, drained or killed, and
//! when all of it ends with which exit code. Must not know: how any of that is done (`run`), what
//! time it is (an argument) or chance (a seed).
//!
//! [`Policy`] compares what there is with what there should be after every event; what a worker goes
//! through is in `machine.rs`, what there should be in `target.rs`. Two small machines exist.
//!
//! One per worker process:
//!
//! ```text
//!  Spawn          WorkerReady          replaced, scaled down, stop: Drain
//! -------> Starting -------> Ready ------------------------------------.
//!             |  stop: Terminate                                       v
//!             |  WorkerFailedToStart                                   |
//!             |------------------------------------------------->  Leaving
//!             |  too late: Kill                                        | too late: Kill
//!             '-------------------------------.                        v
//!                                              '------------------> Killed
//!
//! WorkerBlocked: Ready -> Aborted -> Killed, WorkerSilent: Ready -> Killed; both are a death, and
//! count at once (`blocked.rs`).
//!
//! WorkerExited ends it from every state; from Starting and Ready it is a death, and counts.
//! ```
//!
//! One for the whole, plus at most one rollout at a time while it is running:
//!
//! ```text
//!            StopRequested, failed start-up, crash loop       no worker left
//! Running ------------------------------------------> Stopping -------------> Exited
//!
//! Stopping: Announce ---- the delay is over, or there is none: CloseListeners, Drain ----> (above)
//!
//! Rollout:  MeasureMemory -- fits --> replacement Spawn ---- ready ----> old one Drain ---- exited ----> next
//!                 |                          '---- failed: the old one stays, the rest of a reload is dropped
//!                 '-- does not --> old one Drain ---- exited ----> Spawn ---- ready ----> next
//!                                                                    '---- failed: back-off, the rest is dropped
//! ```
//!
//! The rules beside the diagrams:
//!
//! - A worker has a stable index, 0 to N-1. Its replacement has the same index and a spare slot, so
//!   that both can live; the old one leaves only when the new one is ready.
//! - Rollouts go one at a time and wait for the old process to be gone: there is never more than one
//!   worker too many, which is what a memory limit has room for. None begins while a worker is starting anyway.
//! - Where a memory limit has no room even for that, a worker is replaced in place: it drains, then its
//!   successor starts. That is one worker too few, never two.
//! - A worker that dies is replaced at once; when it dies again, after a delay that doubles (see
//!   `backoff`). A worker that stayed ready for [`STABLE`] clears its index's record.
//! - A stop that was asked for begins with the delay in which the workers still serve; nothing is
//!   started or replaced any more. Every other end, and a stop while no worker is ready, has none.
//! - If no worker ever became ready, the first failed start ends everything: nothing was working
//!   that could be kept, and whoever started us should learn of it.
//! - In development (`development.rs`) all of that is different: the old code goes first.
//! - After a reload whose code does not start, failed starts do not make a crash loop as long as old
//!   code serves.

mod backoff;
mod blocked;
mod development;
mod machine;
mod notice;
pub(crate) mod overview;
mod recycle;
mod reload;
mod summary;
mod target;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use machine::Policy;
pub use notice::{Notice, Reason};
pub use recycle::{Memory, SPREAD};
pub use reload::{ClockTime, REMINDER};
pub use summary::{Condition, Summary};

/// A worker that was ready for this long is healthy: its earlier deaths are forgotten.
pub const STABLE: Duration = Duration::from_secs(60);
/// This many deaths within [`CRASH_WINDOW`] are a crash loop.
pub const CRASH_LIMIT: usize = 10;
/// The time over which deaths are counted.
pub const CRASH_WINDOW: Duration = Duration::from_secs(60);
/// What a worker gets beyond the graceful limit: at the limit it cancels what still runs, lets the application shut down
/// and leaves threads that hang behind, a second for each.
pub const KILL_MARGIN: Duration = Duration::from_secs(4);
/// A second stop within this time is the first one again, not somebody in a hurry.
pub const SAME_STOP: Duration = Duration::from_millis(200);
/// How long a worker that reported a failed start, or was told to quit, may take to exit.
pub const EXIT_LIMIT: Duration = Duration::from_secs(5);
/// How long a blocked worker may take to end after ABRT.
pub const ABORT_GRACE: Duration = Duration::from_secs(2);
/// After a failed replacement, how long until a worker that wants to be recycled gets another try.
pub const RECYCLE_RETRY: Duration = Duration::from_secs(30);

/// A process number.
pub type Pid = u32;

/// What the policy is to keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PolicySettings {
    /// How many workers there should be at first.
    pub workers: usize,
    /// How many processes there may be at one time; one is kept for a replacement.
    pub slots: usize,
    /// How long a draining worker may take; `None` is no limit.
    pub graceful: Option<Duration>,
    /// How long the workers go on accepting once a stop was asked for.
    pub delay: Duration,
    /// How long a worker may take to become ready; `None` is no limit.
    pub startup: Option<Duration>,
    /// A worker with more resident bytes than this, and its part of [`SPREAD`], is replaced.
    pub max_rss: Option<u64>,
    /// A worker that was ready for longer than this, and its part of [`SPREAD`], is replaced.
    pub lifetime: Option<Duration>,
    /// Whether code is being worked on: see `development.rs`.
    pub development: bool,
    /// What the jitter of the back-off grows from.
    pub seed: u64,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// The kernel killed it because a memory limit was reached.
    OutOfMemory,
}

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The process asked for by [`Action::Spawn`] exists.
    Spawned {
        /// The slot of the action.
        slot: usize,
        /// Its number.
        pid: Pid,
    },
    /// The process asked for by [`Action::Spawn`] could not be made.
    SpawnFailed {
        /// The slot of the action.
        slot: usize,
        /// Why.
        message: String,
    },
    /// A worker takes connections.
    WorkerReady {
        /// Which.
        pid: Pid,
    },
    /// A worker says that it cannot start; it exits next.
    WorkerFailedToStart {
        /// Which.
        pid: Pid,
        /// Why, in its own words.
        message: String,
    },
    /// A worker was reaped.
    WorkerExited {
        /// Which.
        pid: Pid,
        /// How.
        exit: Exit,
    },
    /// A worker asks to be replaced.
    WorkerWantsRecycle {
        /// Which.
        pid: Pid,
        /// Why.
        reason: Reason,
    },
    /// How much memory a worker has resident.
    MemorySampled {
        /// Which.
        pid: Pid,
        /// In bytes.
        resident: u64,
    },
    /// The answer to [`Action::MeasureMemory`].
    MemoryMeasured {
        /// Which worker is to be replaced.
        pid: Pid,
        /// `None` if there is no limit, or it cannot be told.
        memory: Option<Memory>,
    },
    /// The settings have been read again; [`Event::ReloadRequested`] follows. Slots and seed stay.
    SettingsRenewed {
        /// What is to be kept from now on.
        settings: PolicySettings,
        /// When.
        clock: ClockTime,
    },
    /// HUP, but the settings are wrong.
    ReloadRefused {
        /// Why.
        message: String,
        /// When.
        clock: ClockTime,
    },
    /// A worker says that its event loop does not move.
    WorkerBlocked {
        /// Which.
        pid: Pid,
        /// Since then.
        duration: Duration,
    },
    /// A worker says nothing at all any more: its watchdog does not run.
    WorkerSilent {
        /// Which.
        pid: Pid,
        /// Since then.
        duration: Duration,
        /// The kernel's letter for the state of the process.
        state: Option<char>,
    },
    /// TERM or INT; the second one forces.
    StopRequested,
    /// QUIT: stop without draining.
    QuitRequested,
    /// HUP: replace all workers.
    ReloadRequested,
    /// Files of the application have changed.
    FilesChanged {
        /// Some of them, as the log names them.
        files: Vec<String>,
    },
    /// TTIN: one worker more.
    ScaleUp,
    /// TTOU: one worker less.
    ScaleDown,
    /// The machine turned out to have room for this many workers (`--workers auto`).
    RoomFor {
        /// How many; fewer than there are is no reason to stop any.
        workers: usize,
    },
    /// [`Policy::next_deadline`] has passed.
    Tick,
}

/// Something to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a worker, and answer with [`Event::Spawned`] or [`Event::SpawnFailed`].
    Spawn {
        /// The scoreboard slot, free until now.
        slot: usize,
        /// The worker's stable number.
        index: usize,
        /// Which start of a worker this is, rising.
        generation: u32,
    },
    /// Start a process that takes connections in place of the application, and answer in the same way.
    StandIn {
        /// The scoreboard slot, free until now.
        slot: usize,
        /// The number of the worker that it is in place of.
        index: usize,
        /// Which start of a worker this is, rising.
        generation: u32,
        /// Why the application does not start.
        why: String,
    },
    /// Order a worker to announce the end in its responses and to serve on.
    Announce {
        /// Which.
        pid: Pid,
    },
    /// Find out about memory, and answer with [`Event::MemoryMeasured`].
    MeasureMemory {
        /// The worker that is to be replaced.
        pid: Pid,
    },
    /// The reload has succeeded: forget the settings from before it.
    KeepSettings,
    /// The reload has failed: start workers with the settings from before it.
    RevertSettings,
    /// Order a worker to drain.
    Drain {
        /// Which.
        pid: Pid,
    },
    /// Order a worker that may not be listening yet to drain, and send it TERM: a program that has
    /// not got round to handling it just ends, which loses nothing before it is ready.
    Terminate {
        /// Which.
        pid: Pid,
    },
    /// Order a worker to exit now.
    Quit {
        /// Which.
        pid: Pid,
    },
    /// Send ABRT.
    Abort {
        /// Which.
        pid: Pid,
    },
    /// Send KILL.
    Kill {
        /// Which.
        pid: Pid,
    },
    /// The first worker is ready: say where the server listens.
    AnnounceRunning,
    /// Close the listening sockets: what the workers close next is then closed for good, and new
    /// connections are refused instead of waiting in a queue that nobody empties.
    CloseListeners,
    /// Write a line to the log.
    Log(Notice),
    /// End the supervisor. The last action there is.
    Exit {
        /// With this code.
        code: u8,
    },
}

impl Exit {
    /// Whether a worker that was told to leave left in a way that we know: by itself, by a signal
    /// that came to the whole process group, or killed by us.
    fn is_orderly(self) -> bool {
        match self {
            Self::Code(_) => true,
            Self::OutOfMemory => false,
            Self::Signal(number) => {
                matches!(signal_name(number), Some("SIGINT" | "SIGQUIT" | "SIGTERM" | "SIGKILL"))
            }
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::OutOfMemory => f.write_str("was killed by SIGKILL (out of memory)"),
            Self::Signal(number) => match signal_name(number) {
                Some(name) => write!(f, "was killed by {name}"),
                None => write!(f, "was killed by signal {number}"),
            },
        }
    }
}

/// The name of a signal by Linux's number on the platforms we run on.
fn signal_name(number: i32) -> Option<&'static str> {
    Some(match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        11 => "SIGSEGV",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        31 => "SIGSYS",
        _ => return None,
    })
}
