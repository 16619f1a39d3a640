//! The supervisor's loop: turns signals, reports, deaths and time into events, asks the policy, and
//! does what it says.
//!
//! Owns: the doing. Must not know: why (that is `policy`). It wakes only when something happens or
//! a deadline of the policy has come; an idle server's supervisor uses no processor time.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use log::{debug, error, info, log, warn};
use rsgi_config::{MemoryLimit, WorkerCount};
use rustix::process::{Pid as RawPid, Signal, WaitOptions, WaitStatus};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admin::Admin;
use crate::capacity::{self, Capacity, Choice, Sizes};
use crate::control::{FromWorker, Report, SupervisorControl, ToWorker};
use crate::exit;
use crate::hooks::Hooks;
use crate::memory::{self, Cgroup, OomWatch};
use crate::on_start::OnStart;
use crate::policy::{Action, Event, Exit, KILL_MARGIN, Pid, Policy, PolicySettings, Reason};
use crate::preload::{Failure, Gift, News, Preload};
use crate::scoreboard::{MAX_SLOTS, Phase, Scoreboard, monotonic_ns};
use crate::service_manager::{Limits, ServiceManager};
use crate::settings::Settings;
use crate::signals::{Request, Signals};
use crate::silence::Silence;
use crate::sockets::Listener;
use crate::spawn::{self, Place, Spawned, WorkerCommand};
use crate::status::Status;
use crate::sys::clock::local_time;
use crate::sys::descriptor::watch;

/// Where the log lines go: the logger that the command's users configure.
pub(crate) const LOG: &str = "rsgi";

/// How often the workers' memory is looked at if it is limited: seldom enough to cost nothing.
pub const MEMORY_INTERVAL: Duration = Duration::from_secs(10);

/// How the workers are run.
#[derive(Debug)]
pub struct SupervisorOptions {
    /// How many workers there should be, at least 1 and less than [`MAX_SLOTS`].
    pub workers: WorkerCount,
    /// How a worker is started.
    pub command: WorkerCommand,
    /// What every worker is told first, of any size.
    pub setup: serde_json::Value,
    /// What is added to that, key by key. Whenever it changes, those that run are told, too, as an
    /// [`Order::Update`](crate::Order::Update). Of a reload's options it is not used.
    pub updates: Option<Updates>,
    /// How long a worker may take to finish what is running; `None` is no limit.
    pub timeout_graceful_shutdown: Option<Duration>,
    /// How long the workers go on accepting once a stop was asked for.
    pub shutdown_delay: Duration,
    /// How long a worker may take until it is ready; `None` is no limit.
    pub timeout_worker_startup: Option<Duration>,
    /// Who wants to be told how it goes.
    pub service_manager: Option<ServiceManager>,
    /// How long a ready worker may show no sign of life; `None` is no limit.
    pub timeout: Option<Duration>,
    /// The name of what runs once before any worker, in a process that its settings tell what to do.
    pub on_start: Option<String>,
    /// Whether workers are forked from a process that has done what they have in common.
    pub preload: bool,
    /// A worker with more resident memory is replaced.
    pub workers_max_rss: Option<MemoryLimit>,
    /// How often that is looked at; usually [`MEMORY_INTERVAL`].
    pub memory_interval: Duration,
    /// A worker that has served for longer is replaced.
    pub workers_lifetime: Option<Duration>,
    /// What the program around knows.
    pub hooks: Hooks,
}

/// What is added to the set-up, each time as a whole.
pub type Updates = watch::Receiver<serde_json::Value>;

/// Runs workers on these sockets until a signal or a failure ends it; the process's exit code.
/// Health and metrics are told on the sockets `admin`.
///
/// Takes over the process: handlers for the signals stay installed, and *every* child of the
/// process is reaped, also those that the workers' children leave behind when it is process 1.
pub fn run(options: SupervisorOptions, listeners: Vec<Listener>, admin: Vec<Listener>) -> u8 {
    if let WorkerCount::Exactly(count) = options.workers
        && !(1..MAX_SLOTS).contains(&usize::try_from(count).unwrap_or(usize::MAX))
    {
        error!(target: LOG, "number of workers must be 1 to {}: `{count}`", MAX_SLOTS - 1);
        return exit::USAGE;
    }
    let pid = std::process::id();
    let code = start(options, listeners, admin).unwrap_or_else(|error| {
        error!(target: LOG, "The supervisor cannot run: {error}");
        exit::STARTUP
    });
    info!(target: LOG, "Stopped parent process [{pid}]");
    code
}

fn start(
    mut options: SupervisorOptions,
    listeners: Vec<Listener>,
    admin: Vec<Listener>,
) -> io::Result<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anything slow: from here on no signal is lost or deadly.
        let signals = Signals::install()?;
        info!(target: LOG, "Started parent process [{}]", std::process::id());
        let updates = options.updates.take();
        let supervisor = Supervisor::new(options, listeners, updates.as_ref())?;
        let _admin = Admin::start(admin, &supervisor.status)?;
        Ok(supervisor.serve(signals, updates).await)
    })
}

/// Room for replacements and scaling: workers read all slots, so not simply the most there can be.
fn slots_for(workers: usize) -> usize {
    (2 * workers + 14).min(MAX_SLOTS)
}

/// How many workers there are at first, and what is to be decided when the first one is ready.
fn scale(count: WorkerCount) -> (usize, Option<Choice>) {
    match count {
        WorkerCount::Exactly(count) => (usize::try_from(count).unwrap_or(MAX_SLOTS), None),
        WorkerCount::Auto => {
            let capacity = Capacity::of_this_process();
            let choice = capacity.by_processors(MAX_SLOTS - 1);
            if capacity.is_limited_by_memory() {
                return (1, Some(choice));
            }
            info!(target: LOG, "{choice}");
            (choice.workers, None)
        }
    }
}

/// A worker that exists and has not been reaped, so its number cannot mean another process.
#[derive(Debug)]
struct Running {
    slot: usize,
    index: usize,
    /// `None` once the worker has closed its end.
    control: Option<AsyncFd<SupervisorControl>>,
    /// Whether it was we who killed it.
    was_killed: bool,
}

/// What a reload that fails puts back.
#[derive(Debug)]
struct Before {
    settings: Settings,
    environment: Vec<(OsString, OsString)>,
}

#[derive(Debug)]
struct Supervisor {
    command: WorkerCommand,
    settings: Settings,
    /// What there was before a reload whose end is not known yet.
    before: Option<Before>,
    /// What somebody adds to all of them.
    added: serde_json::Value,
    hooks: Hooks,
    cgroup: Option<Cgroup>,
    oom: OomWatch,
    sampling: Option<Sampling>,
    listeners: Vec<Listener>,
    scoreboard: Arc<Scoreboard>,
    status: Arc<Status>,
    policy: Policy,
    workers: BTreeMap<Pid, Running>,
    silence: Silence,
    started: Instant,
    service_manager: Option<ServiceManager>,
    limits: Limits,
    /// Run before anything else.
    on_start: Option<OnStart>,
    /// Where workers come from, unless they are exec'ed.
    preload: Option<Preload>,
    /// To be settled by the first worker's size.
    choice: Option<Choice>,
}

impl Supervisor {
    fn new(
        options: SupervisorOptions,
        listeners: Vec<Listener>,
        updates: Option<&Updates>,
    ) -> io::Result<Self> {
        let added = updates.map(|updates| updates.borrow().clone()).unwrap_or_default();
        let (workers, choice) = scale(options.workers);
        let slots = slots_for(choice.map_or(workers, |choice| choice.workers));
        let cgroup = Cgroup::of_this_process();
        let settings = policy_settings(&options, workers, slots, cgroup.as_ref());
        let (startup, graceful) = (settings.startup, settings.graceful);
        let preload =
            options.preload.then(|| Preload::new(&options.command, startup)).transpose()?;
        let on_start = options.on_start.map(|name| OnStart {
            name,
            command: options.command.clone(),
            limit: startup,
            grace: graceful,
        });
        let scoreboard = Arc::new(Scoreboard::create(slots)?);
        Ok(Self {
            settings: Settings::new(options.setup, &added)?,
            before: None,
            added,
            hooks: options.hooks,
            oom: OomWatch::new(cgroup.clone()),
            cgroup,
            sampling: Sampling::of(&settings, options.memory_interval),
            command: options.command,
            listeners,
            status: Arc::new(Status::new(Arc::clone(&scoreboard))),
            scoreboard,
            policy: Policy::new(settings),
            workers: BTreeMap::new(),
            silence: Silence::new(options.timeout, Instant::now()),
            started: Instant::now(),
            service_manager: options.service_manager,
            limits: Limits {
                start: options.timeout_worker_startup.map(|limit| limit + KILL_MARGIN),
                // Twice the margin: the killed worker has to be reaped, too.
                stop: options
                    .timeout_graceful_shutdown
                    .map(|limit| options.shutdown_delay + limit + 2 * KILL_MARGIN),
            },
            on_start,
            preload,
            choice,
        })
    }

    async fn serve(mut self, mut signals: Signals, mut updates: Option<Updates>) -> u8 {
        if let Some(on_start) = self.on_start.take()
            && let Err(code) =
                on_start.run(&self.scoreboard, self.settings.file(), &mut signals).await
        {
            return code;
        }
        let mut outcome = self.handle(Event::Tick);
        loop {
            if let Some(service_manager) = &mut self.service_manager {
                service_manager.tell(self.policy.summary(), self.limits);
            }
            if let Some(code) = outcome {
                if let Some(preload) = &mut self.preload {
                    preload.reap();
                }
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
        let keep_alive = self.service_manager.as_ref().and_then(ServiceManager::next_keep_alive);
        let next_look = self.silence.next_look();
        let of_policy = self.policy.next_deadline().and_then(|at| self.started.checked_add(at));
        let of_preload = self.preload.as_ref().and_then(Preload::next_deadline);
        let deadline = of_policy.into_iter().chain(of_preload).min();
        let sample_at = self.sampling.map(|sampling| sampling.next);
        tokio::select! {
            biased;
            request = signals.requests.next() => self.request(request),
            (pid, report) = std::future::poll_fn(|cx| self.poll_report(cx)) => {
                self.report(pid, report)
            }
            () = signals.children.changed() => self.reap(),
            added = next_update(updates) => self.update(added),
            () = sleep_until(deadline) => self.tick(),
            () = sleep_until(keep_alive) => {
                self.service_manager.as_mut().map(ServiceManager::keep_alive);
                None
            }
            () = sleep_until(next_look) => self.look_for_signs_of_life(),
            () = sleep_until(sample_at) => self.sample_memory(),
        }
    }

    fn tick(&mut self) -> Option<u8> {
        if let Some(preload) = &mut self.preload {
            preload.enforce_deadlines(Instant::now());
        }
        self.handle(Event::Tick)
    }

    fn report(&mut self, pid: Pid, report: Report) -> Option<u8> {
        let (preload, gift) = self.preload();
        if let Some(preload) = preload.filter(|preload| preload.is_template(pid)) {
            let news = preload.report(pid, report, gift);
            return self.follow(news);
        }
        let is_ready = report == Report::Ready;
        let outcome = event_of(pid, report).and_then(|event| self.handle(event));
        match self.choice.take_if(|_| is_ready) {
            Some(choice) => outcome.or(self.make_use_of_memory(choice, pid)),
            None => outcome,
        }
    }

    /// Starts as many workers as have room beside the first one, which is ready and can be measured.
    fn make_use_of_memory(&mut self, choice: Choice, first: Pid) -> Option<u8> {
        let templates = self.preload.iter().flat_map(Preload::pids);
        let others = templates.chain([std::process::id()]).filter_map(capacity::size_of).sum();
        let sizes = capacity::size_of(first).map(|worker| Sizes { worker, others });
        let choice = choice.within_memory(sizes);
        info!(target: LOG, "{choice}");
        self.handle(Event::RoomFor { workers: choice.workers })
    }

    /// The templates, and what they need.
    fn preload(&mut self) -> (Option<&mut Preload>, Gift<'_>) {
        let gift = Gift {
            listeners: &self.listeners,
            scoreboard: &self.scoreboard,
            settings: self.settings.file(),
        };
        (self.preload.as_mut(), gift)
    }

    /// Acts on what the templates have brought about.
    fn follow(&mut self, news: Vec<News>) -> Option<u8> {
        let mut outcome = None;
        for one in news {
            outcome = outcome.or(match one {
                News::Forked { slot, worker, exit } => {
                    let pid = worker.pid;
                    let event = self.spawned(slot, worker);
                    let outcome = self.handle(event);
                    outcome.or(exit.and_then(|exit| self.bury(pid, exit)))
                }
                News::Failed(failure) => {
                    let event = self.spawn_failed(failure);
                    self.handle(event)
                }
                News::Reload => self.handle(Event::ReloadRequested),
            });
        }
        outcome
    }

    fn request(&mut self, request: Request) -> Option<u8> {
        match request {
            Request::Stop => self.handle(Event::StopRequested),
            Request::Quit => self.handle(Event::QuitRequested),
            Request::Dump => {
                self.want_dumps();
                None
            }
            Request::Reload => self.reload(),
            Request::ScaleUp => self.handle(Event::ScaleUp),
            Request::ScaleDown => self.handle(Event::ScaleDown),
            Request::ReopenLogs => {
                self.reopen_logs();
                None
            }
            Request::Unused(name) => {
                debug!(target: LOG, "Ignoring {name}");
                None
            }
        }
    }

    /// Reads the settings again and has all workers replaced; on a mistake everything stays.
    fn reload(&mut self) -> Option<u8> {
        let clock = local_time();
        let renewed = self.hooks.reload().transpose().and_then(|options| {
            let Some(mut options) = options else { return Ok(None) };
            let settings = Settings::new(options.setup.take(), &self.added);
            Ok(Some((options, settings.map_err(|error| error.to_string())?)))
        });
        match renewed {
            Ok(None) => {}
            Ok(Some((mut options, renewed))) => {
                let environment = std::mem::take(&mut options.command.env);
                let environment = std::mem::replace(&mut self.command.env, environment);
                let settings = std::mem::replace(&mut self.settings, renewed);
                self.before.get_or_insert(Before { settings, environment });
                let workers = match options.workers {
                    WorkerCount::Exactly(count) => usize::try_from(count).unwrap_or(usize::MAX),
                    WorkerCount::Auto => self.policy.summary().wanted,
                };
                let slots = self.scoreboard.len();
                let settings = policy_settings(&options, workers, slots, self.cgroup.as_ref());
                self.sampling = Sampling::of(&settings, options.memory_interval);
                self.handle(Event::SettingsRenewed { settings, clock });
            }
            Err(message) => return self.handle(Event::ReloadRefused { message, clock }),
        }
        match self.preload() {
            (Some(preload), gift) => {
                preload.reload(gift);
                None
            }
            (None, _) => self.handle(Event::ReloadRequested),
        }
    }

    /// Somebody has moved the log files away.
    fn reopen_logs(&self) {
        self.hooks.reopen_logs();
        info!(target: LOG, "Received SIGUSR1, opening the log files anew");
        for &pid in self.workers.keys() {
            self.order(pid, &ToWorker::ReopenLogs);
        }
    }

    /// Tells the policy how much memory each worker has.
    fn sample_memory(&mut self) -> Option<u8> {
        self.sampling = self.sampling.map(Sampling::again);
        let samples: Vec<_> = self
            .workers
            .keys()
            .filter_map(|&pid| memory::resident(pid).map(|resident| (pid, resident)))
            .collect();
        let mut outcome = None;
        for (pid, resident) in samples {
            outcome = outcome.or(self.handle(Event::MemorySampled { pid, resident }));
        }
        outcome
    }

    /// Asks the policy and does what it says, until it says no more; the code if that was the end.
    fn handle(&mut self, event: Event) -> Option<u8> {
        let mut events = VecDeque::from([event]);
        let mut outcome = None;
        while let Some(event) = events.pop_front() {
            for action in self.policy.on(event, self.started.elapsed()) {
                match action {
                    Action::Spawn { slot, index, generation } => {
                        events.extend(self.spawn(Place { slot, index }, generation));
                    }
                    Action::Announce { pid } => self.order(pid, &ToWorker::Announce),
                    Action::MeasureMemory { pid } => {
                        let memory = memory::measure(self.cgroup.as_ref(), pid);
                        events.push_back(Event::MemoryMeasured { pid, memory });
                    }
                    Action::KeepSettings => self.before = None,
                    Action::RevertSettings => {
                        if let Some(before) = self.before.take() {
                            self.settings = before.settings;
                            self.command.env = before.environment;
                        }
                    }
                    Action::Drain { pid } => self.order(pid, &ToWorker::Drain),
                    Action::Quit { pid } => self.order(pid, &ToWorker::Quit),
                    Action::Terminate { pid } => {
                        self.order(pid, &ToWorker::Drain);
                        self.kill(pid, Signal::TERM);
                    }
                    Action::Abort { pid } => self.kill(pid, Signal::ABORT),
                    Action::Kill { pid } => {
                        self.kill(pid, Signal::KILL);
                        if let Some(worker) = self.workers.get_mut(&pid) {
                            worker.was_killed = true;
                        }
                    }
                    Action::AnnounceRunning => self.announce(),
                    Action::CloseListeners => {
                        self.listeners.clear();
                        // Templates have the sockets, too.
                        for slot in self.preload.as_mut().map(Preload::close).unwrap_or_default() {
                            let message = "the server is stopping".to_owned();
                            events.push_back(self.spawn_failed(Failure { slot, message }));
                        }
                    }
                    Action::Log(notice) => {
                        log!(target: LOG, notice.level(), "{notice}");
                        if let Some(preload) = &mut self.preload {
                            preload.follow(&notice);
                        }
                        notice.restart().into_iter().for_each(|it| self.status.count_restart(it));
                    }
                    Action::Exit { code } => outcome = Some(code),
                }
            }
        }
        self.status.update(self.policy.overview());
        outcome
    }

    /// Starts a worker, or asks a template for it; then the answer comes when there is one.
    fn spawn(&mut self, place: Place, generation: u32) -> Vec<Event> {
        let slot = place.slot;
        self.scoreboard.slot(slot).assign(generation);
        if let (Some(preload), gift) = self.preload() {
            let failures = preload.request(place, gift);
            return failures.into_iter().map(|failure| self.spawn_failed(failure)).collect();
        }
        match spawn::spawn(&self.command, &self.listeners, &self.scoreboard, place) {
            Ok(spawned) => vec![self.spawned(slot, spawned)],
            Err(error) => {
                let program = self.command.program.to_string_lossy();
                let message = format!("{error}: `{program}`");
                vec![self.spawn_failed(Failure { slot, message })]
            }
        }
    }

    fn spawned(&mut self, slot: usize, spawned: Spawned) -> Event {
        let Spawned { pid, control } = spawned;
        self.scoreboard.slot(slot).set_pid(pid);
        // What fails from here on shows in the worker, which gives up without its settings.
        if let Err(error) = control.send_setup(self.settings.file()) {
            warn!(target: LOG, "Cannot send the settings to worker [{pid}]: {error}");
        }
        let control = watch(control)
            .inspect_err(|error| error!(target: LOG, "Cannot listen to worker [{pid}]: {error}"))
            .ok();
        let index = self.policy.index_of(slot).unwrap_or_default();
        self.workers.insert(pid, Running { slot, index, control, was_killed: false });
        Event::Spawned { slot, pid }
    }

    fn spawn_failed(&self, failure: Failure) -> Event {
        let Failure { slot, message } = failure;
        self.scoreboard.slot(slot).release();
        Event::SpawnFailed { slot, message }
    }

    /// Tells all workers, and those to come.
    fn update(&mut self, added: serde_json::Value) -> Option<u8> {
        let before = self.before.as_ref().map(|before| before.settings.renewed(&added));
        match (self.settings.renewed(&added), before.transpose()) {
            (Ok(settings), Ok(before)) => {
                self.settings = settings;
                if let (Some(kept), Some(settings)) = (&mut self.before, before) {
                    kept.settings = settings;
                }
                self.added = added;
            }
            (Err(error), _) | (_, Err(error)) => {
                error!(target: LOG, "Cannot pass new settings to the workers: {error}");
                return None;
            }
        }
        for (pid, worker) in &self.workers {
            let control = worker.control.as_ref();
            let sent = control.map(|control| control.get_ref().send_update(self.settings.file()));
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

    /// Asks through the scoreboard: it is heard by a worker whose loop is blocked, and harmless to
    /// one that does not listen yet.
    fn want_dumps(&self) {
        info!(target: LOG, "Received SIGUSR2, asking {} worker(s) for their stacks", self.workers.len());
        for worker in self.workers.values() {
            self.scoreboard.slot(worker.slot).want_dump();
        }
    }

    fn look_for_signs_of_life(&mut self) -> Option<u8> {
        let slot_of = |worker: &Running| self.scoreboard.slot(worker.slot);
        let slots = self.workers.iter().map(|(&pid, worker)| (pid, slot_of(worker)));
        let seen = slots
            .filter(|(_, slot)| slot.phase() == Phase::Ready)
            .map(|(pid, slot)| (pid, slot.watchdog_seen_ns()));
        let silent = self.silence.look(seen, monotonic_ns(), Instant::now());
        let mut outcome = None;
        for (pid, duration) in silent {
            let state = process_state(pid);
            outcome = outcome.or(self.handle(Event::WorkerSilent { pid, duration, state }));
        }
        outcome
    }

    fn announce(&self) {
        for listener in &self.listeners {
            info!(target: LOG, "rsgi running on {} (Press CTRL+C to quit)", listener.address);
        }
    }

    /// The next report of any worker. Cancel-safe: a report is taken only to be returned.
    fn poll_report(&mut self, cx: &mut Context<'_>) -> Poll<(Pid, Report)> {
        for (&pid, worker) in &mut self.workers {
            if let Poll::Ready(report) = poll_control(pid, &mut worker.control, cx) {
                return Poll::Ready((pid, report));
            }
        }
        self.preload.as_mut().map_or(Poll::Pending, |preload| preload.poll_report(cx))
    }

    /// Reaps all dead children: workers, and orphans that became ours.
    fn reap(&mut self) -> Option<u8> {
        let mut outcome = None;
        // Counted before the victim dies, so that whoever can be reaped has been counted.
        let mut oom_kills = self.oom.look();
        // An error means that there are no children.
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let (Ok(pid), Some(exit)) = (Pid::try_from(pid.as_raw_pid()), exit_of(status)) else {
                continue; // stopped or continued, which we do not ask for
            };
            let was_killed = self.workers.get(&pid).is_none_or(|worker| worker.was_killed);
            let is_kill = exit == Exit::Signal(libc::SIGKILL) && !was_killed;
            let exit = if is_kill && oom_kills > 0 { Exit::OutOfMemory } else { exit };
            oom_kills = oom_kills.saturating_sub(u64::from(exit == Exit::OutOfMemory));
            outcome = outcome.or(self.bury(pid, exit));
        }
        outcome
    }

    /// Deals with the end of a child.
    fn bury(&mut self, pid: Pid, exit: Exit) -> Option<u8> {
        let Some(worker) = self.workers.remove(&pid) else {
            let (preload, gift) = self.preload();
            if !preload.as_ref().is_some_and(|preload| preload.is_template(pid)) {
                debug!(target: LOG, "Reaped process [{pid}], an orphan: it {exit}");
            }
            let news = preload.map(|preload| preload.exited(pid, exit, gift));
            return self.follow(news.unwrap_or_default());
        };
        let mut outcome = None;
        for event in
            last_reports(worker.control.as_ref()).into_iter().filter_map(|r| event_of(pid, r))
        {
            outcome = outcome.or(self.handle(event));
        }
        let slot = self.scoreboard.slot(worker.slot);
        slot.set_phase(Phase::Gone);
        self.status.retire(worker.index, slot);
        slot.release();
        outcome.or(self.handle(Event::WorkerExited { pid, exit }))
    }
}

/// The next report through a channel, which becomes `None` at its end.
pub(crate) fn poll_control(
    pid: Pid,
    channel: &mut Option<AsyncFd<SupervisorControl>>,
    cx: &mut Context<'_>,
) -> Poll<Report> {
    while let Some(control) = channel {
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
            Ok(FromWorker::Report(report)) => return Poll::Ready(report),
            Ok(FromWorker::Nothing) => {}
            Ok(FromWorker::End) => *channel = None,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                warn!(target: LOG, "Worker [{pid}] sent nonsense: {error}");
            }
            Err(error) => {
                warn!(target: LOG, "Lost the channel to worker [{pid}]: {error}");
                *channel = None;
            }
        }
    }
    Poll::Pending
}

/// The policy's part of the options.
fn policy_settings(
    options: &SupervisorOptions,
    workers: usize,
    slots: usize,
    cgroup: Option<&Cgroup>,
) -> PolicySettings {
    let whole = || cgroup.and_then(Cgroup::limit).or_else(memory::of_this_machine);
    let max_rss = options.workers_max_rss.and_then(|limit| match limit {
        MemoryLimit::Bytes(bytes) => Some(bytes),
        MemoryLimit::Percent(percent) => whole().map(|whole| whole / 100 * u64::from(percent)),
    });
    PolicySettings {
        workers,
        slots,
        graceful: options.timeout_graceful_shutdown,
        delay: options.shutdown_delay,
        startup: options.timeout_worker_startup,
        max_rss,
        lifetime: options.workers_lifetime,
        seed: monotonic_ns() ^ u64::from(std::process::id()),
    }
}

/// When the workers' memory is looked at next.
#[derive(Debug, Clone, Copy)]
struct Sampling {
    interval: Duration,
    next: Instant,
}

impl Sampling {
    /// Not at all without a limit.
    fn of(settings: &PolicySettings, interval: Duration) -> Option<Self> {
        settings.max_rss?;
        Some(Self { interval, next: Instant::now() + interval })
    }

    fn again(self) -> Self {
        Self { next: Instant::now() + self.interval, ..self }
    }
}

/// What a worker said before it died and nobody read yet.
pub(crate) fn last_reports(control: Option<&AsyncFd<SupervisorControl>>) -> Vec<Report> {
    let mut reports = Vec::new();
    while let Some(Ok(FromWorker::Report(report))) =
        control.map(|control| control.get_ref().try_receive())
    {
        reports.push(report);
    }
    reports
}

/// What a worker's report means; `None` for one that only a template can make.
fn event_of(pid: Pid, report: Report) -> Option<Event> {
    Some(match report {
        Report::Ready => Event::WorkerReady { pid },
        Report::Failed { message } => Event::WorkerFailedToStart { pid, message },
        Report::Recycle { served, limit } => {
            Event::WorkerWantsRecycle { pid, reason: Reason::Requests { served, limit } }
        }
        Report::Blocked { for_ms } => {
            Event::WorkerBlocked { pid, duration: Duration::from_millis(for_ms) }
        }
        Report::Forked { .. } | Report::NotForked { .. } => return None,
    })
}

/// The kernel's letter for what a process does (proc(5)): the first field behind its name.
fn process_state(pid: Pid) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

pub(crate) fn exit_of(status: WaitStatus) -> Option<Exit> {
    status.exit_status().map(Exit::Code).or(status.terminating_signal().map(Exit::Signal))
}

/// What is added from now on. Cancel-safe: nothing is lost where it is not polled to its end.
async fn next_update(updates: &mut Option<Updates>) -> serde_json::Value {
    if let Some(updates) = updates
        && updates.changed().await.is_ok()
    {
        return updates.borrow_and_update().clone();
    }
    std::future::pending().await
}

pub(crate) async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
