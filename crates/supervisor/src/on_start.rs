//! `--on-start`: a function of the application's that runs once, before any worker.
//!
//! It runs in a process of its own, so that the supervisor never holds application code; the
//! process is a worker's command line in another role, with a channel and without sockets.
//!
//! Owns: that process, from its start to its end. Must not know: what it runs.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use log::{debug, error, info, warn};
use rustix::process::{Pid as RawPid, Signal, WaitOptions};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::control::{Report, SupervisorControl};
use crate::exit;
use crate::policy::{Exit, SAME_STOP};
use crate::run::{LOG, exit_of, last_reports, sleep_until};
use crate::scoreboard::Scoreboard;
use crate::signals::{Request, Signals};
use crate::spawn::{self, Place, WorkerCommand};
use crate::sys::descriptor::watch;

/// What [`crate::ROLE_VARIABLE`] says in the process.
const ROLE: &str = "on_start";

/// What runs, and how long it may take.
#[derive(Debug, Clone)]
pub(crate) struct OnStart {
    /// `module:function`, for the log; the process knows it from the settings.
    pub(crate) name: String,
    pub(crate) command: WorkerCommand,
    pub(crate) limit: Option<Duration>,
    /// How long it may take to end when the server is stopped.
    pub(crate) grace: Option<Duration>,
}

#[derive(Debug)]
struct Process {
    pid: RawPid,
    control: AsyncFd<SupervisorControl>,
}

/// Why there will be no workers.
#[derive(Debug)]
pub(crate) struct Unprepared {
    /// What the server exits with.
    pub(crate) code: u8,
    /// For whoever looks; it has been logged.
    pub(crate) why: String,
}

/// Why the process was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Stopped { since: Instant },
    TooLate,
}

impl OnStart {
    /// Runs it to its end. Why it is the server's end, too, if it is.
    pub(crate) async fn run(
        &self,
        scoreboard: &Scoreboard,
        settings: &OwnedFd,
        signals: &mut Signals,
    ) -> Result<(), Unprepared> {
        let name = &self.name;
        let failed = |why: String| {
            error!(target: LOG, "{why}");
            Err(Unprepared { code: exit::STARTUP, why })
        };
        let process = match self.start(scoreboard, settings) {
            Ok(process) => process,
            Err(error) => return failed(format!("{name} could not be started: {error}")),
        };
        info!(target: LOG, "Running {name} in process [{}]", process.pid.as_raw_pid());
        let begun = Instant::now();
        let (ended, ending) = self.wait(&process, signals).await;
        let message = last_reports(Some(&process.control)).into_iter().find_map(|report| {
            if let Report::Failed { message } = report { Some(message) } else { None }
        });
        match (ending, ended, message) {
            (Some(Ending::Stopped { .. }), ..) => {
                info!(target: LOG, "Stopped {name}, which {ended}");
                Err(Unprepared { code: exit::CLEAN, why: String::new() })
            }
            (Some(Ending::TooLate), ..) => {
                let why = format!("{name} did not finish in time (--timeout-worker-startup)");
                Err(Unprepared { code: exit::STARTUP, why })
            }
            (None, Exit::Code(0), None) => {
                info!(target: LOG, "Finished {name} in {:.1} s", begun.elapsed().as_secs_f64());
                Ok(())
            }
            (None, _, Some(message)) => failed(format!("{name} failed: {message}")),
            (None, ended, None) => failed(format!("{name} failed: its process {ended}")),
        }
    }

    fn start(&self, scoreboard: &Scoreboard, settings: &OwnedFd) -> io::Result<Process> {
        let place = Place { slot: 0, index: 0 }; // of no meaning to it
        let spawned = spawn::spawn(&self.command.in_role(ROLE), &[], scoreboard, place)?;
        spawned.control.send_setup(settings)?;
        let pid = i32::try_from(spawned.pid).ok().and_then(RawPid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Process { pid, control: watch(spawned.control)? })
    }

    async fn wait(&self, process: &Process, signals: &mut Signals) -> (Exit, Option<Ending>) {
        let from_now =
            |limit: Option<Duration>| limit.and_then(|limit| Instant::now().checked_add(limit));
        let mut ending = None;
        let mut deadline = from_now(self.limit);
        loop {
            tokio::select! {
                biased;
                request = signals.requests.next() => match (request, ending) {
                    (Request::Stop, None) => {
                        info!(target: LOG, "Shutting down, waiting for {} (CTRL+C to force quit)", self.name);
                        ending = Some(Ending::Stopped { since: Instant::now() });
                        deadline = from_now(self.grace);
                        process.kill(Signal::TERM);
                    }
                    // `timeout` and a terminal send the same stop twice.
                    (Request::Stop, Some(Ending::Stopped { since })) if since.elapsed() < SAME_STOP => {}
                    (Request::Stop | Request::Quit, _) => {
                        ending = ending.or(Some(Ending::Stopped { since: Instant::now() }));
                        process.kill(Signal::KILL);
                    }
                    (other, _) => debug!(target: LOG, "Ignoring {other:?} before the start"),
                },
                () = signals.children.changed() => {
                    if let Some(exit) = process.reap() {
                        return (exit, ending);
                    }
                }
                () = sleep_until(deadline) => {
                    deadline = None;
                    if ending.is_none() {
                        let limit = self.limit.unwrap_or_default().as_secs_f64();
                        error!(target: LOG, "{} did not finish within {limit} s (--timeout-worker-startup), killing it", self.name);
                        ending = Some(Ending::TooLate);
                    } else {
                        warn!(target: LOG, "{} did not end in time, killing it", self.name);
                    }
                    process.kill(Signal::KILL);
                }
            }
        }
    }
}

impl Process {
    /// Signals it; it has not been reaped, so nobody else can have its number.
    fn kill(&self, signal: Signal) {
        if let Err(error) = rustix::process::kill_process(self.pid, signal) {
            warn!(target: LOG, "Cannot signal [{}]: {error}", self.pid.as_raw_pid());
        }
    }

    /// Reaps all dead children: this one, and orphans that became ours. How this one ended.
    fn reap(&self) -> Option<Exit> {
        let mut ended = None;
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            if pid == self.pid {
                ended = ended.or(exit_of(status));
            }
        }
        ended
    }
}
