//! The supervisor's loop: turns signals, reports, deaths and time into events, asks the policy, and
//! does what it says.
//!
//! Owns: the doing. Must not know: why (that is `policy`). It wakes only when something happens or
//! a deadline of the policy has come; an idle server's supervisor uses no processor time.

mod options;
mod workers;

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::io;
use std::sync::Arc;

use log::{debug, error, info, log, warn};
use rsgi_config::WorkerCount;
use rustix::process::Signal;
use tokio::time::Instant;

pub use self::options::{MEMORY_INTERVAL, SupervisorOptions, Updates};
use self::options::{Sampling, policy_settings, scale, slots_for};
pub use self::workers::STAND_IN;
use self::workers::{Running, event_of, process_state};
pub(crate) use self::workers::{exit_of, last_reports, poll_control};
use crate::admin::Admin;
use crate::capacity::{self, Choice, Sizes};
use crate::changes::Changes;
use crate::control::{Report, ToWorker};
use crate::exit;
use crate::hooks::Hooks;
use crate::memory::{self, Cgroup, OomWatch};
use crate::on_start::{OnStart, Unprepared};
use crate::policy::{Action, Event, KILL_MARGIN, Notice, Pid, Policy};
use crate::preload::{Failure, Gift, News, Preload};
use crate::scoreboard::{MAX_SLOTS, Phase, Scoreboard, monotonic_ns};
use crate::service_manager::{Limits, ServiceManager};
use crate::settings::Settings;
use crate::signals::{Request, Signals};
use crate::silence::Silence;
use crate::sockets::Listener;
use crate::spare::Spare;
use crate::spawn::{Place, WorkerCommand};
use crate::status::Status;
use crate::sys::clock::local_time;

/// Where the log lines go: the logger that the command's users configure.
pub(crate) const LOG: &str = "rsgi";

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
        // Before any worker reads a file.
        let changes = options.reload.as_ref().map(Changes::watch).transpose();
        let changes = changes.map_err(io::Error::other)?;
        let updates = options.updates.take();
        let supervisor = Supervisor::new(options, listeners, updates.as_ref())?;
        let _admin = Admin::start(admin, &supervisor.status)?;
        Ok(supervisor.serve(Sources { signals, updates, changes }).await)
    })
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
    /// What the next worker is made of, in development.
    spare: Option<Spare>,
    /// To be settled by the first worker's size.
    choice: Option<Choice>,
}

/// Where events come from, beside the workers and time.
#[derive(Debug)]
struct Sources {
    signals: Signals,
    updates: Option<Updates>,
    changes: Option<Changes>,
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
            spare: options.reload.is_some().then(Spare::default),
            choice,
        })
    }

    async fn serve(mut self, mut sources: Sources) -> u8 {
        if let Some(on_start) = self.on_start.take()
            && let Err(code) = self.prepare(&on_start, &mut sources).await
        {
            return code;
        }
        let mut outcome = self.handle(Event::Tick);
        loop {
            if let Some(service_manager) = &mut self.service_manager {
                service_manager.tell(self.policy.summary(), self.limits);
            }
            if let Some(code) = outcome {
                if let Some(spare) = &mut self.spare {
                    spare.end();
                }
                if let Some(preload) = &mut self.preload {
                    preload.reap();
                }
                return code;
            }
            outcome = self.turn(&mut sources).await;
        }
    }

    /// Runs what comes before the first worker; in development again and again, until it succeeds.
    async fn prepare(&self, on_start: &OnStart, sources: &mut Sources) -> Result<(), u8> {
        loop {
            let signals = &mut sources.signals;
            let ended = on_start.run(&self.scoreboard, self.settings.file(), signals).await;
            let Err(Unprepared { code, why }) = ended else { return Ok(()) };
            let Some(changes) = sources.changes.as_mut().filter(|_| code == exit::STARTUP) else {
                return Err(code);
            };
            warn!(target: LOG, "Running it again when a file changes; browsers are shown why");
            let page = self.stand_in_before_workers(&why);
            let is_over = tokio::select! {
                biased;
                () = sources.signals.requests.end() => true,
                files = changes.next() => {
                    let notice = Notice::Changed { files };
                    log!(target: LOG, notice.level(), "{notice}");
                    false
                }
            };
            if let Some(page) = page {
                page.end();
                self.scoreboard.slot(0).release();
            }
            if is_over {
                return Err(exit::CLEAN);
            }
        }
    }

    /// Waits for the next thing to happen and deals with it.
    ///
    /// Requests come first: a signal to the whole process group also ends the workers, and their
    /// deaths must be seen as part of the stop. Reports come before deaths: they are the cause.
    async fn turn(&mut self, sources: &mut Sources) -> Option<u8> {
        let Sources { signals, updates, changes } = sources;
        let keep_alive = self.service_manager.as_ref().and_then(ServiceManager::next_keep_alive);
        let next_look = self.silence.next_look();
        let of_policy = self.policy.next_deadline().and_then(|at| self.started.checked_add(at));
        let of_preload = self.preload.as_ref().and_then(Preload::next_deadline);
        let deadline = of_policy.into_iter().chain(of_preload).min();
        let sample_at = self.sampling.map(|sampling| sampling.next);
        let spare_at = self.spare.as_ref().and_then(Spare::due);
        tokio::select! {
            biased;
            request = signals.requests.next() => {
                if let (Request::Reload, Some(changes)) = (request, changes) {
                    changes.forget();
                }
                self.request(request)
            }
            (pid, report) = std::future::poll_fn(|cx| self.poll_report(cx)) => {
                self.report(pid, report)
            }
            () = signals.children.changed() => self.reap(),
            added = next_update(updates) => self.update(added),
            files = next_change(changes.as_mut()) => self.handle(Event::FilesChanged { files }),
            () = sleep_until(deadline) => self.tick(),
            () = sleep_until(keep_alive) => {
                self.service_manager.as_mut().map(ServiceManager::keep_alive);
                None
            }
            () = sleep_until(next_look) => self.look_for_signs_of_life(),
            () = sleep_until(sample_at) => self.sample_memory(),
            () = sleep_until(spare_at) => {
                if let Some(spare) = &mut self.spare {
                    spare.start(&self.command, &self.listeners, &self.scoreboard);
                }
                None
            }
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
        if let Some(spare) = self.spare.as_mut().filter(|_| is_ready) {
            spare.plan();
        }
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
                // It has the variables of before.
                if let Some(spare) = &mut self.spare {
                    spare.end();
                }
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
                    Action::StandIn { slot, index, generation, why } => {
                        events.extend(self.stand_in(Place { slot, index }, generation, &why));
                    }
                    Action::Announce { pid } => self.order(pid, &ToWorker::Announce),
                    Action::MeasureMemory { pid } => {
                        let memory = memory::measure(self.cgroup.as_ref(), pid);
                        events.push_back(Event::MemoryMeasured { pid, memory });
                    }
                    Action::KeepSettings => {
                        self.before = None;
                        self.hooks.settled(true);
                    }
                    Action::RevertSettings => {
                        if let Some(before) = self.before.take() {
                            self.settings = before.settings;
                            self.command.env = before.environment;
                            self.hooks.settled(false);
                            if let Some(spare) = &mut self.spare {
                                spare.end();
                            }
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
                        if let Some(spare) = &mut self.spare {
                            spare.end();
                        }
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

    pub(super) fn announce(&self) {
        for listener in &self.listeners {
            info!(target: LOG, "rsgi running on {} (Press CTRL+C to quit)", listener.address);
        }
    }
}

/// The files that have changed. Cancel-safe.
async fn next_change(changes: Option<&mut Changes>) -> Vec<String> {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
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
