//! The supervisor's loop: turns signals, reports, deaths and time into events, asks the policy, and
//! does what it says.
//!
//! Owns: the doing. Must not know: why (that is `policy`). It wakes only when something happens or
//! a deadline of the policy has come; an idle server's supervisor uses no processor time.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};
use std::time::Duration;

use log::{debug, error, info, log, warn};
use rustix::process::{Pid as RawPid, Signal, WaitOptions, WaitStatus};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::control::{self, FromWorker, Report, SupervisorControl, ToWorker};
use crate::exit;
use crate::policy::{Action, Event, Exit, Pid, Policy, PolicySettings};
use crate::scoreboard::{MAX_SLOTS, Phase, Scoreboard, monotonic_ns};
use crate::signals::{Request, Signals};
use crate::sockets::Listener;
use crate::spawn::{self, Place, WorkerCommand};
use crate::sys::descriptor::watch;

/// Where the log lines go: the logger that the command's users configure.
const LOG: &str = "rsgi";

/// How the workers are run.
#[derive(Debug, Clone)]
pub struct SupervisorOptions {
    /// How many workers there should be, at least 1 and less than [`MAX_SLOTS`].
    pub workers: usize,
    /// How a worker is started.
    pub command: WorkerCommand,
    /// What every worker is told first, of any size.
    pub setup: serde_json::Value,
    /// What workers are told first from now on, and those that run as an
    /// [`Order::Update`](crate::Order::Update), whenever it changes.
    pub updates: Option<Updates>,
    /// How long a worker may take to finish what is running; `None` is no limit.
    pub timeout_graceful_shutdown: Option<Duration>,
    /// How long a worker may take until it is ready; `None` is no limit.
    pub timeout_worker_startup: Option<Duration>,
}

/// New settings for the workers, each time as a whole.
pub type Updates = watch::Receiver<serde_json::Value>;

/// Runs workers on these sockets until a signal or a failure ends it; the process's exit code.
///
/// Takes over the process: handlers for the signals stay installed, and *every* child of the
/// process is reaped, also those that the workers' children leave behind when it is process 1.
pub fn run(options: SupervisorOptions, listeners: Vec<Listener>) -> u8 {
    if options.workers == 0 || options.workers >= MAX_SLOTS {
        error!(target: LOG, "number of workers must be 1 to {}: `{}`", MAX_SLOTS - 1, options.workers);
        return exit::USAGE;
    }
    let pid = std::process::id();
    let code = start(options, listeners).unwrap_or_else(|error| {
        error!(target: LOG, "The supervisor cannot run: {error}");
        exit::STARTUP
    });
    info!(target: LOG, "Stopped parent process [{pid}]");
    code
}

fn start(mut options: SupervisorOptions, listeners: Vec<Listener>) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anything slow: from here on no signal is lost or deadly.
        let signals = Signals::install()?;
        info!(target: LOG, "Started parent process [{}]", std::process::id());
        let updates = options.updates.take();
        Ok(Supervisor::new(options, listeners)?.serve(signals, updates).await)
    })
}

/// Room for replacements and scaling: workers read all slots, so not simply the most there can be.
fn slots_for(workers: usize) -> usize {
    (2 * workers + 14).min(MAX_SLOTS)
}

/// A worker that exists and has not been reaped, so its number cannot mean another process.
#[derive(Debug)]
struct Running {
    slot: usize,
    /// `None` once the worker has closed its end.
    control: Option<AsyncFd<SupervisorControl>>,
}

#[derive(Debug)]
struct Supervisor {
    command: WorkerCommand,
    settings: OwnedFd,
    listeners: Vec<Listener>,
    scoreboard: Scoreboard,
    policy: Policy,
    workers: BTreeMap<Pid, Running>,
    started: Instant,
}

impl Supervisor {
    fn new(options: SupervisorOptions, listeners: Vec<Listener>) -> io::Result<Self> {
        let slots = slots_for(options.workers);
        Ok(Self {
            settings: control::settings_file(&options.setup)?,
            command: options.command,
            listeners,
            scoreboard: Scoreboard::create(slots)?,
            policy: Policy::new(PolicySettings {
                workers: options.workers,
                slots,
                graceful: options.timeout_graceful_shutdown,
                startup: options.timeout_worker_startup,
                seed: monotonic_ns() ^ u64::from(std::process::id()),
            }),
            workers: BTreeMap::new(),
            started: Instant::now(),
        })
    }

    async fn serve(mut self, mut signals: Signals, mut updates: Option<Updates>) -> u8 {
        let mut outcome = self.handle(Event::Tick);
        loop {
            if let Some(code) = outcome {
                return code;
            }
            outcome = self.turn(&mut signals, &mut updates).await;
        }
    }

    /// Waits for the next thing to happen and deals with it.
    ///
    /// Requests come first: a signal to the whole process group also ends the workers, and their
    /// deaths must be seen as part of the stop. Reports come before deaths: they are the cause.
    async fn turn(&mut self, signals: &mut Signals, updates: &mut Option<Updates>) -> Option<u8> {
        let deadline = self.policy.next_deadline().and_then(|at| self.started.checked_add(at));
        tokio::select! {
            biased;
            request = signals.requests.next() => self.request(request),
            (pid, report) = std::future::poll_fn(|cx| self.poll_report(cx)) => {
                self.handle(event_of(pid, report))
            }
            () = signals.children.changed() => self.reap(),
            settings = next_update(updates) => self.update(&settings),
            () = sleep_until(deadline) => self.handle(Event::Tick),
        }
    }

    fn request(&mut self, request: Request) -> Option<u8> {
        match request {
            Request::Stop => self.handle(Event::StopRequested),
            Request::Quit => self.handle(Event::QuitRequested),
            Request::Reload => self.handle(Event::ReloadRequested),
            Request::ScaleUp => self.handle(Event::ScaleUp),
            Request::ScaleDown => self.handle(Event::ScaleDown),
            Request::Unused(name) => {
                debug!(target: LOG, "Ignoring {name}");
                None
            }
        }
    }

    /// Asks the policy and does what it says, until it says no more; the code if that was the end.
    fn handle(&mut self, event: Event) -> Option<u8> {
        let mut events = VecDeque::from([event]);
        let mut outcome = None;
        while let Some(event) = events.pop_front() {
            for action in self.policy.on(event, self.started.elapsed()) {
                match action {
                    Action::Spawn { slot, index, generation } => {
                        events.push_back(self.spawn(Place { slot, index }, generation));
                    }
                    Action::Drain { pid } => self.order(pid, &ToWorker::Drain),
                    Action::Quit { pid } => self.order(pid, &ToWorker::Quit),
                    Action::Terminate { pid } => {
                        self.order(pid, &ToWorker::Drain);
                        self.kill(pid, Signal::TERM);
                    }
                    Action::Kill { pid } => self.kill(pid, Signal::KILL),
                    Action::AnnounceRunning => self.announce(),
                    Action::CloseListeners => self.listeners.clear(),
                    Action::Log(notice) => log!(target: LOG, notice.level(), "{notice}"),
                    Action::Exit { code } => outcome = Some(code),
                }
            }
        }
        outcome
    }

    fn spawn(&mut self, place: Place, generation: u32) -> Event {
        let slot = place.slot;
        self.scoreboard.slot(slot).assign(generation);
        match self.try_spawn(place) {
            Ok(pid) => Event::Spawned { slot, pid },
            Err(error) => {
                self.scoreboard.slot(slot).release();
                let program = self.command.program.to_string_lossy();
                Event::SpawnFailed { slot, message: format!("{error}: `{program}`") }
            }
        }
    }

    fn try_spawn(&mut self, place: Place) -> io::Result<Pid> {
        let spawned = spawn::spawn(&self.command, &self.listeners, &self.scoreboard, place)?;
        let pid = spawned.pid;
        self.scoreboard.slot(place.slot).set_pid(pid);
        // What fails from here on shows in the worker, which gives up without its settings.
        if let Err(error) = spawned.control.send_setup(&self.settings) {
            warn!(target: LOG, "Cannot send the settings to worker [{pid}]: {error}");
        }
        let control = watch(spawned.control)
            .inspect_err(|error| error!(target: LOG, "Cannot listen to worker [{pid}]: {error}"))
            .ok();
        self.workers.insert(pid, Running { slot: place.slot, control });
        Ok(pid)
    }

    /// Tells all workers, and those to come.
    fn update(&mut self, settings: &serde_json::Value) -> Option<u8> {
        match control::settings_file(settings) {
            Ok(settings) => self.settings = settings,
            Err(error) => {
                error!(target: LOG, "Cannot pass new settings to the workers: {error}");
                return None;
            }
        }
        for (pid, worker) in &self.workers {
            let control = worker.control.as_ref();
            let sent = control.map(|control| control.get_ref().send_update(&self.settings));
            if let Some(Err(error)) = sent {
                warn!(target: LOG, "Cannot send new settings to worker [{pid}]: {error}");
            }
        }
        None
    }

    fn order(&self, pid: Pid, order: &ToWorker) {
        let Some(control) = self.workers.get(&pid).and_then(|worker| worker.control.as_ref())
        else {
            return; // it has closed its end, so it is about to exit or will be killed in time
        };
        if let Err(error) = control.get_ref().send_order(order) {
            debug!(target: LOG, "Worker [{pid}] does not take orders any more: {error}");
        }
    }

    /// Signals a worker. Only one that was not reaped: until then nobody else can have its number.
    fn kill(&self, pid: Pid, signal: Signal) {
        let target = i32::try_from(pid).ok().and_then(RawPid::from_raw);
        if let Some(target) = target.filter(|_| self.workers.contains_key(&pid))
            && let Err(error) = rustix::process::kill_process(target, signal)
        {
            warn!(target: LOG, "Cannot signal worker [{pid}]: {error}");
        }
    }

    fn announce(&self) {
        for listener in &self.listeners {
            info!(target: LOG, "rsgi running on {} (Press CTRL+C to quit)", listener.address);
        }
    }

    /// The next report of any worker. Cancel-safe: a report is taken only to be returned.
    fn poll_report(&mut self, cx: &mut Context<'_>) -> Poll<(Pid, Report)> {
        for (&pid, worker) in &mut self.workers {
            while let Some(control) = &worker.control {
                let Poll::Ready(ready) = control.poll_read_ready(cx) else {
                    break;
                };
                match ready.and_then(|mut guard| {
                    let received = control.get_ref().try_receive();
                    if matches!(received, Ok(FromWorker::Nothing)) {
                        guard.clear_ready();
                    }
                    received
                }) {
                    Ok(FromWorker::Report(report)) => return Poll::Ready((pid, report)),
                    Ok(FromWorker::Nothing) => {}
                    Ok(FromWorker::End) => worker.control = None,
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        warn!(target: LOG, "Worker [{pid}] sent nonsense: {error}");
                    }
                    Err(error) => {
                        warn!(target: LOG, "Lost the channel to worker [{pid}]: {error}");
                        worker.control = None;
                    }
                }
            }
        }
        Poll::Pending
    }

    /// Reaps all dead children: workers, and orphans that became ours.
    fn reap(&mut self) -> Option<u8> {
        let mut outcome = None;
        // An error means that there are no children.
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let (Ok(pid), Some(exit)) = (Pid::try_from(pid.as_raw_pid()), exit_of(status)) else {
                continue; // stopped or continued, which we do not ask for
            };
            let Some(worker) = self.workers.remove(&pid) else {
                debug!(target: LOG, "Reaped process [{pid}], an orphan: it {exit}");
                continue;
            };
            for report in last_reports(worker.control.as_ref()) {
                outcome = outcome.or(self.handle(event_of(pid, report)));
            }
            self.scoreboard.slot(worker.slot).set_phase(Phase::Gone);
            self.scoreboard.slot(worker.slot).release();
            outcome = outcome.or(self.handle(Event::WorkerExited { pid, exit }));
        }
        outcome
    }
}

/// What a worker said before it died and nobody read yet.
fn last_reports(control: Option<&AsyncFd<SupervisorControl>>) -> Vec<Report> {
    let mut reports = Vec::new();
    while let Some(Ok(FromWorker::Report(report))) =
        control.map(|control| control.get_ref().try_receive())
    {
        reports.push(report);
    }
    reports
}

fn event_of(pid: Pid, report: Report) -> Event {
    match report {
        Report::Ready => Event::WorkerReady { pid },
        Report::Failed { message } => Event::WorkerFailedToStart { pid, message },
        Report::Recycle => Event::WorkerWantsRecycle { pid },
    }
}

fn exit_of(status: WaitStatus) -> Option<Exit> {
    status.exit_status().map(Exit::Code).or(status.terminating_signal().map(Exit::Signal))
}

/// The next settings. Cancel-safe: nothing is lost where it is not polled to its end.
async fn next_update(updates: &mut Option<Updates>) -> serde_json::Value {
    if let Some(updates) = updates
        && updates.changed().await.is_ok()
    {
        return updates.borrow_and_update().clone();
    }
    std::future::pending().await
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
