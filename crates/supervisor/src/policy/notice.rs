//! The supervisor's log lines, as data.
//!
//! Owns: their wording and level. Workers are counted from 1 here, as people do.

use std::fmt;
use std::time::Duration;

use log::Level;

use super::{CRASH_LIMIT, CRASH_WINDOW, Exit, Pid};

/// Why a worker is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// HUP.
    Reload,
    /// It asked for it.
    Recycle,
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
    ReplacementFailed { index: usize, reason: Reason },
    Reloading { workers: usize },
    Reloaded,
    KilledDraining { index: usize, pid: Pid },
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
            | Self::ReplacementFailed { .. }
            | Self::CrashLoop { .. }
            | Self::StartupFailed => Level::Error,
            Self::Finished { exit, .. } if !exit.is_orderly() => Level::Error,
            Self::Respawning { .. }
            | Self::KilledDraining { .. }
            | Self::ScaleLimit { .. }
            | Self::Forcing => Level::Warn,
            Self::WorkerStarted { .. }
            | Self::Finished { .. }
            | Self::Replacing { .. }
            | Self::Reloading { .. }
            | Self::Reloaded
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

/// Of a KILL that we did not send, the usual sender is the kernel at a memory limit.
fn hint(exit: Exit) -> &'static str {
    if exit == Exit::SIGKILL { " (out of memory?)" } else { "" }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reload => "reload",
            Self::Recycle => "recycling",
        })
    }
}

impl fmt::Display for Notice {
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
                write!(f, "{} {exit} before it was ready{}", Name(*index, *pid), hint(*exit))
            }
            Self::Died { index, pid, exit } => {
                write!(f, "{} {exit}{}", Name(*index, *pid), hint(*exit))
            }
            Self::Finished { index, pid, exit } => {
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
            Self::ReplacementFailed { index, reason: Reason::Reload } => write!(
                f,
                "Reload abandoned: the new worker {} did not start, the old ones serve on",
                index + 1
            ),
            Self::ReplacementFailed { index, reason: Reason::Recycle } => {
                write!(f, "The new worker {} did not start, the old one serves on", index + 1)
            }
            Self::Reloading { workers } => {
                write!(f, "Received SIGHUP, replacing {workers} workers one by one")
            }
            Self::Reloaded => f.write_str("Reload complete"),
            Self::KilledDraining { index, pid } => {
                write!(f, "{} did not finish in time, killing it", Name(*index, *pid))
            }
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
