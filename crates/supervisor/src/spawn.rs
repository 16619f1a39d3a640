//! Starting one worker: a command line, three kinds of descriptors, one variable.
//!
//! The worker is exec'ed, never forked from a running interpreter, so that the supervisor may have
//! threads and a runtime. It stays in the supervisor's process group: Ctrl-C reaches both, and a
//! worker treats a stray TERM or INT as the same stop that its supervisor is about to order.
//!
//! Owns: the command and what it inherits. Must not know: when to start what (see `policy`).

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::control::{self, SupervisorControl};
use crate::inherited::{Passed, PassedListener, ROLE_VARIABLE, WORKER_VARIABLE};
use crate::scoreboard::Scoreboard;
use crate::sockets::Listener;
use crate::sys::child::inherit_only;

/// Variables of the service manager that are meant for the supervisor alone.
const NOT_FOR_WORKERS: [&str; 6] = [
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
];

/// How a worker is started.
#[derive(Debug, Clone)]
pub struct WorkerCommand {
    /// The program to execute.
    pub program: OsString,
    /// Its arguments, without the program's name.
    pub args: Vec<OsString>,
    /// Variables to set beside the inherited ones.
    pub env: Vec<(OsString, OsString)>,
}

impl WorkerCommand {
    /// The same command for a process that is no worker.
    pub(crate) fn in_role(&self, role: &str) -> Self {
        let mut command = self.clone();
        command.env.push((ROLE_VARIABLE.into(), role.into()));
        command
    }
}

/// Where a new worker belongs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) slot: usize,
    pub(crate) index: usize,
}

/// A running worker process and the channel to it.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: u32,
    pub(crate) control: SupervisorControl,
}

impl Spawned {
    /// Kills it and waits for its end: for a process that nothing has begun in.
    pub(crate) fn end(self) {
        // It has not been reaped, so that the number is its own.
        if let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw)
            && kill_process(pid, Signal::KILL).is_ok()
        {
            let _ = waitpid(Some(pid), WaitOptions::empty());
        }
    }
}

/// Starts a worker. It keeps the standard streams, input too: `breakpoint()` must work. Dropping what comes back does not end it: the caller reaps by number.
pub(crate) fn spawn(
    worker: &WorkerCommand,
    listeners: &[Listener],
    scoreboard: &Scoreboard,
    place: Place,
) -> io::Result<Spawned> {
    let (ours, theirs) = control::pair()?;
    let passed = Passed {
        listeners: listeners.iter().map(PassedListener::of).collect(),
        scoreboard: scoreboard.as_fd().as_raw_fd(),
        control: theirs.as_raw_fd(),
        slot: place.slot,
        index: place.index,
        slots: scoreboard.len(),
    };
    let mut command = Command::new(&worker.program);
    command.args(&worker.args);
    for name in NOT_FOR_WORKERS {
        command.env_remove(name);
    }
    command.envs(worker.env.iter().map(|(name, value)| (name, value)));
    command.env(WORKER_VARIABLE, serde_json::to_string(&passed)?);
    inherit_only(&mut command, passed.descriptors());
    let child: Child = command.spawn()?;
    Ok(Spawned { pid: child.id(), control: ours })
}
