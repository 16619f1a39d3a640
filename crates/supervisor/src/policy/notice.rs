//! The supervisor's log lines, as data.
//!
//! Owns: their wording and level. Workers are counted from 1 here, as people do.

use std::fmt;
use std::time::Duration;

use log::Level;

use super::recycle::Memory;
use super::reload::ClockTime;
use super::{CRASH_LIMIT, CRASH_WINDOW, Exit, Pid};

/// Why a worker is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// HUP.
    Reload,
    /// It has answered as many requests as it may.
    Requests {
        /// How many.
        served: u64,
        /// `--limit-max-requests`, without the jitter.
        limit: u64,
    },
    /// It has grown.
    Memory {
        /// Resident bytes.
        resident: u64,
        /// `--workers-max-rss` in bytes.
        limit: u64,
    },
    /// It is old.
    Lifetime {
        /// How long it was ready.
        age: Duration,
        /// `--workers-lifetime`.
        limit: Duration,
    },
}

/// One log line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the text of each is in `fmt` below")]
pub enum Notice {
    WorkerStarted { index: usize, pid: Pid },
    SpawnFailed { index: usize, message: String },
    StartFailed { index: usize, pid: Pid, message: String },
    StartTimedOut { index: usize, pid: Pid, limit: Duration },
    DiedStarting { index: usize, pid: Pid, exit: Exit },
    Died { index: usize, pid: Pid, exit: Exit },
    Respawning { index: usize, delay: Duration },
    Finished { index: usize, pid: Pid, exit: Exit },
    Replacing { index: usize, pid: Pid, reason: Reason },
    ReplacingInPlace { index: usize, pid: Pid, reason: Reason, memory: Memory },
    ReplacementFailed { index: usize, reason: Reason, in_place: bool },
    ReloadRefused { message: String },
    StillOld { clock: ClockTime, message: String, old: usize, workers: usize },
    Reloading { workers: usize },
    Reloaded,
    Changed { files: Vec<String> },
    Restarting { workers: usize },
    Trouble,
    KilledDraining { index: usize, pid: Pid },
    Blocked { index: usize, pid: Pid, duration: Duration },
    KilledBlocked { index: usize, pid: Pid },
    Silent { index: usize, pid: Pid, duration: Duration, state: Option<char> },
    ScaledTo { workers: usize },
    ScaleLimit { workers: usize },
    CrashLoop { last: String },
    StartupFailed,
    Stopping,
    Announcing { delay: Duration },
    Quitting,
    Forcing,
}

impl Notice {
    /// How loud.
    pub fn level(&self) -> Level {
        match self {
            Self::SpawnFailed { .. }
            | Self::StartFailed { .. }
            | Self::StartTimedOut { .. }
            | Self::DiedStarting { .. }
            | Self::Died { .. }
            | Self::Blocked { .. }
            | Self::Silent { .. }
            | Self::ReplacementFailed { .. }
            | Self::ReloadRefused { .. }
            | Self::StillOld { .. }
            | Self::CrashLoop { .. }
            | Self::StartupFailed => Level::Error,
            Self::Finished { exit, .. } if !exit.is_orderly() => Level::Error,
            Self::Respawning { .. }
            | Self::KilledDraining { .. }
            | Self::KilledBlocked { .. }
            | Self::ScaleLimit { .. }
            | Self::Changed { .. }
            | Self::Trouble
            | Self::Forcing => Level::Warn,
            Self::WorkerStarted { .. }
            | Self::Finished { .. }
            | Self::Replacing { .. }
            | Self::ReplacingInPlace { .. }
            | Self::Reloading { .. }
            | Self::Reloaded
            | Self::Restarting { .. }
            | Self::ScaledTo { .. }
            | Self::Stopping
            | Self::Announcing { .. }
            | Self::Quitting => Level::Info,
        }
    }
}

/// `Worker 1 [4711]`.
struct Name(usize, Pid);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Worker {} [{}]", self.0 + 1, self.1)
    }
}

/// Bytes as people say them.
struct MiB(u64);

impl fmt::Display for MiB {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.0 >> 20)
    }
}

/// Seconds with one digit behind the point.
pub(super) fn tenths(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64())
}

/// What is known of a process that shows no sign of life (proc(5), `/proc/PID/stat`).
fn state_of(state: Option<char>) -> &'static str {
    match state {
        Some('T') => "it is stopped (state T, by SIGSTOP or SIGTSTP)",
        Some('t') => "it is stopped by a debugger (state t)",
        Some('D') => "it waits in the kernel and cannot be interrupted (state D)",
        Some('R') => "it runs, but its watchdog does not (state R)",
        Some('S') => "it sleeps, and its watchdog does not run (state S)",
        Some('Z' | 'X') => "it is dying",
        _ => "its state is not known",
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reload => f.write_str("reload"),
            Self::Requests { served, limit } => {
                write!(f, "requests: {served} answered, --limit-max-requests is {limit}")
            }
            Self::Memory { resident, limit } => {
                write!(f, "memory: {} is over --workers-max-rss {}", MiB(*resident), MiB(*limit))
            }
            Self::Lifetime { age, limit } => {
                let (age, limit) = (age.as_secs_f64(), limit.as_secs_f64());
                write!(f, "lifetime: {age:.1} s is over --workers-lifetime {limit} s")
            }
        }
    }
}

impl fmt::Display for Notice {
    #[expect(clippy::too_many_lines, reason = "one arm for each line of the log")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WorkerStarted { pid, .. } => write!(f, "Started worker [{pid}]"),
            Self::SpawnFailed { index, message } => {
                write!(f, "Worker {} could not be started: {message}", index + 1)
            }
            Self::StartFailed { index, pid, message } => {
                write!(f, "{} failed to start: {message}", Name(*index, *pid))
            }
            Self::StartTimedOut { index, pid, limit } => write!(
                f,
                "{} was not ready within {} s (--timeout-worker-startup), killing it",
                Name(*index, *pid),
                limit.as_secs_f64()
            ),
            Self::DiedStarting { index, pid, exit } => {
                write!(f, "{} {exit} before it was ready", Name(*index, *pid))
            }
            Self::Died { index, pid, exit } | Self::Finished { index, pid, exit } => {
                write!(f, "{} {exit}", Name(*index, *pid))
            }
            Self::Respawning { index, delay } => write!(
                f,
                "Worker {} keeps dying, starting it again in {:.1} s",
                index + 1,
                delay.as_secs_f64()
            ),
            Self::Replacing { index, pid, reason } => {
                write!(f, "Replacing {} ({reason})", Name(*index, *pid))
            }
            Self::ReplacingInPlace { index, pid, reason, memory } => write!(
                f,
                "Replacing {} ({reason}) in place: {} of {} are used, another {} do not fit beside it",
                Name(*index, *pid),
                MiB(memory.used),
                MiB(memory.limit),
                MiB(memory.worker)
            ),
            Self::ReplacementFailed { index, reason, in_place } => {
                let (the_new, number, others) = match (reason, in_place) {
                    (Reason::Reload, false) => {
                        ("Reload abandoned: the", index + 1, "old ones serve")
                    }
                    (Reason::Reload, true) => ("Reload abandoned: the", index + 1, "others serve"),
                    (_, false) => ("The", index + 1, "old one serves"),
                    (_, true) => ("The", index + 1, "others serve"),
                };
                write!(f, "{the_new} new worker {number} did not start, the {others} on")
            }
            Self::ReloadRefused { message } => {
                write!(f, "Reload abandoned, the settings stay as they were: {message}")
            }
            Self::StillOld { clock, message, old, workers } if old == workers => {
                write!(f, "Still serving the code from before the reload at {clock}: {message}")
            }
            Self::StillOld { clock, message, old, workers } => write!(
                f,
                "{old} of {workers} workers still serve the code from before the reload at {clock}: {message}"
            ),
            Self::Reloading { workers } => {
                write!(f, "Received SIGHUP, replacing {workers} workers one by one")
            }
            Self::Reloaded => f.write_str("Reload complete"),
            Self::Changed { files } => {
                write!(f, "rsgi detected changes in {}. Reloading...", files.join(", "))
            }
            Self::Restarting { workers } => {
                write!(f, "Received SIGHUP, restarting {workers} worker(s)")
            }
            Self::Trouble => f.write_str(
                "The application did not start; browsers are shown why until a file changes",
            ),
            Self::KilledDraining { index, pid } => {
                write!(f, "{} did not finish in time, killing it", Name(*index, *pid))
            }
            Self::Blocked { index, pid, duration } => write!(
                f,
                "{} was blocked for {} s (--timeout), replacing it",
                Name(*index, *pid),
                tenths(*duration)
            ),
            Self::KilledBlocked { index, pid } => {
                write!(f, "{} did not end after SIGABRT, killing it", Name(*index, *pid))
            }
            Self::Silent { index, pid, duration, state } => write!(
                f,
                "{} has shown no sign of life for {} s (--timeout), {}; replacing it",
                Name(*index, *pid),
                tenths(*duration),
                state_of(*state)
            ),
            Self::ScaledTo { workers } => write!(f, "Scaling to {workers} workers"),
            Self::ScaleLimit { workers } => {
                write!(f, "Not scaling, {workers} workers is the limit")
            }
            Self::CrashLoop { last } => write!(
                f,
                "{CRASH_LIMIT} workers died within {} s, giving up; the last one {last}",
                CRASH_WINDOW.as_secs()
            ),
            Self::StartupFailed => f.write_str("No worker could be started, giving up"),
            Self::Stopping => {
                f.write_str("Shutting down, waiting for workers (CTRL+C to force quit)")
            }
            Self::Announcing { delay } => write!(
                f,
                "Accepting connections for another {} s (--shutdown-delay)",
                delay.as_secs_f64()
            ),
            Self::Quitting => f.write_str("Received SIGQUIT, shutting down without draining"),
            Self::Forcing => f.write_str("Forced to quit, killing the workers"),
        }
    }
}
