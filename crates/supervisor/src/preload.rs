//! `--preload`: a template process imports the application once, and workers are forked from it.
//!
//! ```text
//! supervisor ─ exec ─► template: import, collect and freeze the heap, ready
//!     │                   │ fork { slot, index } + the worker's end of a channel
//!     │                   ├─ fork ─► in between ─ fork ─► worker
//!     │                   │             ▼ exits
//!     │ ◄── becomes the worker's parent
//!     │ ◄──────────────── forked { slot, pid }
//!     └─ set-up through the channel, for which the worker waits
//! ```
//!
//! A worker must be the supervisor's child, which reaps it and learns how it ended. Linux could
//! make it so at birth (`CLONE_PARENT`), but only through a bare system call, past libc's `fork`:
//! then handlers of `pthread_atfork` do not run, and libc's idea of the main thread's number is
//! the template's, so that `pthread_kill` fails. Instead the process in between ends at once, and
//! the supervisor, as the nearest subreaper, inherits the worker. Both forks are Python's own.
//!
//! There is one current template. A reload makes a candidate beside it, which takes its place once
//! it has imported the application; the old one is kept until the workers have been replaced, and
//! is current again if they could not be. One template that died is made anew when a worker is
//! wanted. Requests are sent one at a time, so that an answer can only mean one of them.
//!
//! Longer than other files because a template's roles, its stages and the queue change together.
//!
//! Owns: templates and the workers being forked. Must not know: when a worker is wanted (`policy`),
//! or what a template imports.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll};
use std::time::Duration;

use log::{error, info, warn};
use rustix::process::{Pid as RawPid, Signal, WaitOptions};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

use crate::control::{self, Report, SupervisorControl};
use crate::policy::{EXIT_LIMIT, Exit, Notice, Pid, Reason};
use crate::run::{LOG, last_reports, poll_control};
use crate::scoreboard::Scoreboard;
use crate::sockets::Listener;
use crate::spawn::{self, Place, Spawned, WorkerCommand};
use crate::sys::descriptor::watch;

/// What [`crate::ROLE_VARIABLE`] says in a template.
const ROLE: &str = "template";
/// So many templates may die over one worker.
const MOST_TRIES: u32 = 2;

/// What every template is given.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gift<'a> {
    pub(crate) listeners: &'a [Listener],
    pub(crate) scoreboard: &'a Scoreboard,
    pub(crate) settings: &'a OwnedFd,
}

/// What came of it.
#[derive(Debug)]
pub(crate) enum News {
    /// A worker exists. It may have ended already.
    Forked { slot: usize, worker: Spawned, exit: Option<Exit> },
    /// A worker does not.
    Failed(Failure),
    /// A new template is there: the workers are to be replaced.
    Reload,
}

/// A worker that could not be made.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) slot: usize,
    pub(crate) message: String,
}

#[derive(Debug)]
pub(crate) struct Preload {
    command: WorkerCommand,
    /// How long an import, or a fork, may take.
    limit: Option<Duration>,
    templates: Vec<Template>,
    /// Workers that are wanted, without the one being forked.
    queue: VecDeque<Wanted>,
    forking: Option<Forking>,
    /// Children that ended while a worker was being forked: one of them may be that worker.
    strays: Vec<(Pid, Exit)>,
    /// No more workers are wanted.
    is_closed: bool,
}

#[derive(Debug)]
struct Template {
    pid: Pid,
    role: Role,
    stage: Stage,
    /// `None` once the template has closed its end.
    control: Option<AsyncFd<SupervisorControl>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Workers are forked from it.
    Current,
    /// It is to be the next current one.
    Candidate,
    /// It was the current one, and is again if the workers cannot be replaced.
    Previous,
    /// It was killed and has not been reaped.
    Doomed,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Importing { deadline: Option<Instant> },
    Ready,
    Failed { message: String, deadline: Instant },
}

#[derive(Debug)]
struct Wanted {
    place: Place,
    tries: u32,
}

#[derive(Debug)]
struct Forking {
    wanted: Wanted,
    template: Pid,
    control: SupervisorControl,
    deadline: Option<Instant>,
}

impl Preload {
    /// Makes this process the one that inherits the workers. Starts nothing yet.
    pub(crate) fn new(command: &WorkerCommand, limit: Option<Duration>) -> io::Result<Self> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        Ok(Self {
            command: command.in_role(ROLE),
            limit,
            templates: Vec::new(),
            queue: VecDeque::new(),
            forking: None,
            strays: Vec::new(),
            is_closed: false,
        })
    }

    /// Asks for a worker. It comes as news, unless it fails at once.
    pub(crate) fn request(&mut self, place: Place, gift: Gift<'_>) -> Vec<Failure> {
        self.queue.push_back(Wanted { place, tries: 0 });
        self.advance(gift)
    }

    /// Asks for a new template, which brings news when it is ready. The latest request counts.
    pub(crate) fn reload(&mut self, gift: Gift<'_>) {
        if self.is_closed {
            return;
        }
        self.doom(Role::Candidate);
        info!(target: LOG, "Received SIGHUP, importing the application anew");
        if let Err(error) = self.start(Role::Candidate, gift) {
            error!(target: LOG, "Reload abandoned, the template could not be started: {error}");
        }
    }

    /// Takes note of how a reload ended.
    pub(crate) fn follow(&mut self, notice: &Notice) {
        let has_previous = self.find(Role::Previous).is_some();
        match notice {
            Notice::Reloaded => self.doom(Role::Previous),
            Notice::ReplacementFailed { reason: Reason::Reload, .. } if has_previous => {
                self.doom(Role::Current);
                self.cast(Role::Previous, Role::Current);
            }
            _ => {}
        }
    }

    /// Ends all templates: no more workers are wanted. The slots of those that never came.
    pub(crate) fn close(&mut self) -> Vec<usize> {
        self.is_closed = true;
        for role in [Role::Current, Role::Candidate, Role::Previous] {
            self.doom(role);
        }
        let forking = self.forking.take().map(|forking| forking.wanted);
        forking.into_iter().chain(self.queue.drain(..)).map(|wanted| wanted.place.slot).collect()
    }

    /// Waits for the templates that [`Self::close`] has killed, which takes no time worth a runtime.
    pub(crate) fn reap(&mut self) {
        for template in self.templates.drain(..) {
            if let Some(pid) = raw(template.pid) {
                let wait = || rustix::process::waitpid(Some(pid), WaitOptions::empty());
                let _ = rustix::io::retry_on_intr(wait);
            }
        }
    }

    /// Whether a process is one of ours.
    pub(crate) fn is_template(&self, pid: Pid) -> bool {
        self.templates.iter().any(|template| template.pid == pid)
    }

    /// The templates that exist.
    pub(crate) fn pids(&self) -> impl Iterator<Item = Pid> {
        self.templates.iter().map(|template| template.pid)
    }

    /// The next report of any template. Cancel-safe: a report is taken only to be returned.
    pub(crate) fn poll_report(&mut self, cx: &mut Context<'_>) -> Poll<(Pid, Report)> {
        for template in &mut self.templates {
            if let Poll::Ready(report) = poll_control(template.pid, &mut template.control, cx) {
                return Poll::Ready((template.pid, report));
            }
        }
        Poll::Pending
    }

    /// When [`Self::enforce_deadlines`] is due.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let of_templates = self.templates.iter().filter_map(Template::deadline);
        of_templates.chain(self.forking.as_ref().and_then(|forking| forking.deadline)).min()
    }

    /// Kills whoever has had enough time; the rest follows when it has been reaped.
    pub(crate) fn enforce_deadlines(&mut self, now: Instant) {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        let limit = self.limit.unwrap_or_default().as_secs_f64();
        let message = format!("not ready within {limit} s (--timeout-worker-startup)");
        if let Some(forking) = self.forking.as_mut().filter(|forking| is_due(forking.deadline)) {
            forking.deadline = None;
            error!(target: LOG, "Template [{}] does not fork, killing it", forking.template);
            kill(forking.template);
        }
        for template in self.templates.iter_mut().filter(|template| is_due(template.deadline())) {
            match &mut template.stage {
                Stage::Failed { deadline, .. } => *deadline = now + EXIT_LIMIT,
                stage => {
                    let message = message.clone();
                    *stage = Stage::Failed { message, deadline: now + EXIT_LIMIT };
                }
            }
            kill(template.pid);
        }
    }

    /// Deals with what a template says.
    pub(crate) fn report(&mut self, pid: Pid, report: Report, gift: Gift<'_>) -> Vec<News> {
        match report {
            Report::Ready => self.ready(pid),
            Report::Failed { message } => {
                if let Some(template) = self.templates.iter_mut().find(|one| one.pid == pid) {
                    // It has until then to write what it has to say, and to exit.
                    let deadline = Instant::now() + EXIT_LIMIT;
                    template.stage = Stage::Failed { message, deadline };
                }
                None
            }
            Report::Forked { slot, pid: worker } => self.forked(slot, worker),
            Report::NotForked { slot, message } => self
                .forking
                .take_if(|forking| forking.wanted.place.slot == slot)
                .map(|_| News::Failed(Failure { slot, message })),
            Report::Recycle { .. } | Report::Blocked { .. } => None,
        }
        .into_iter()
        .chain(self.advance(gift).into_iter().map(News::Failed))
        .collect()
    }

    /// Deals with the end of a child that is no worker as far as anyone knows.
    pub(crate) fn exited(&mut self, pid: Pid, exit: Exit, gift: Gift<'_>) -> Vec<News> {
        let Some(position) = self.templates.iter().position(|template| template.pid == pid) else {
            if self.forking.is_some() {
                self.strays.push((pid, exit));
            }
            return Vec::new();
        };
        let mut news = Vec::new();
        let control = self.templates.get(position).and_then(|template| template.control.as_ref());
        for report in last_reports(control) {
            news.extend(self.report(pid, report, gift));
        }
        let Some(position) = self.templates.iter().position(|template| template.pid == pid) else {
            return news;
        };
        let template = self.templates.remove(position);
        if let Some(forking) = self.forking.take_if(|forking| forking.template == pid) {
            // If the worker exists after all, it finds its channel closed, and ends.
            let Wanted { place, tries } = forking.wanted;
            if tries + 1 < MOST_TRIES {
                self.queue.push_front(Wanted { place, tries: tries + 1 });
            } else {
                let message = "the template died over it".to_owned();
                news.push(News::Failed(Failure { slot: place.slot, message }));
            }
        }
        let failure = match template.stage {
            Stage::Ready => None,
            Stage::Failed { message, .. } => Some(message),
            Stage::Importing { .. } => Some(format!("it {exit}")),
        };
        match (template.role, failure) {
            (Role::Doomed | Role::Previous, _) => {}
            (Role::Candidate, failure) => {
                let message = failure.unwrap_or_else(|| format!("it {exit}"));
                error!(target: LOG, "Template [{pid}] failed to start: {message}");
                let reason = message.lines().next_back().unwrap_or_default();
                error!(target: LOG, "Reload abandoned, the old workers serve on: {reason}");
            }
            (Role::Current, Some(message)) => {
                news.extend(self.fail_all(&message).into_iter().map(News::Failed));
            }
            (Role::Current, None) => {
                warn!(target: LOG, "Template [{pid}] {exit}, the next worker makes a new one");
            }
        }
        news.extend(self.advance(gift).into_iter().map(News::Failed));
        news
    }

    fn ready(&mut self, pid: Pid) -> Option<News> {
        let template = self.templates.iter_mut().find(|template| template.pid == pid)?;
        template.stage = Stage::Ready;
        if template.role == Role::Doomed {
            return None;
        }
        info!(target: LOG, "Template [{pid}] has imported the application");
        match template.role {
            Role::Candidate => {
                if self.find(Role::Previous).is_none() {
                    self.cast(Role::Current, Role::Previous);
                }
                self.doom(Role::Current);
                self.cast(Role::Candidate, Role::Current);
                Some(News::Reload)
            }
            Role::Current | Role::Previous | Role::Doomed => None,
        }
    }

    fn forked(&mut self, slot: usize, pid: Pid) -> Option<News> {
        let forking = self.forking.take_if(|forking| forking.wanted.place.slot == slot)?;
        let exit = self.strays.iter().find(|(stray, _)| *stray == pid).map(|(_, exit)| *exit);
        self.strays.clear();
        Some(News::Forked { slot, worker: Spawned { pid, control: forking.control }, exit })
    }

    /// Sends the next request, and makes a template for it if there is none.
    fn advance(&mut self, gift: Gift<'_>) -> Vec<Failure> {
        let mut failures = Vec::new();
        while self.forking.is_none() && !self.is_closed {
            if self.queue.is_empty() {
                break;
            }
            match self.find(Role::Current).map(|template| (template.pid, &template.stage)) {
                None => {
                    if let Err(error) = self.start(Role::Current, gift) {
                        failures.extend(self.fail_all(&error.to_string()));
                    }
                    break;
                }
                Some((pid, Stage::Ready)) => failures.extend(self.fork(pid)),
                Some((_, Stage::Importing { .. } | Stage::Failed { .. })) => break,
            }
        }
        failures
    }

    /// Asks the template for the first worker of the queue.
    fn fork(&mut self, template: Pid) -> Option<Failure> {
        let wanted = self.queue.pop_front()?;
        let Place { slot, index } = wanted.place;
        let asked = control::pair().and_then(|(ours, theirs)| {
            let control = self.find(Role::Current).and_then(|template| template.control.as_ref());
            let control = control.ok_or(io::ErrorKind::BrokenPipe)?;
            control.get_ref().send_fork(slot, index, &theirs)?;
            Ok(ours)
        });
        match asked {
            Ok(control) => {
                let deadline = self.limit.and_then(|limit| Instant::now().checked_add(limit));
                self.strays.clear();
                self.forking = Some(Forking { wanted, template, control, deadline });
                None
            }
            Err(error) => {
                // Whatever it is, a new template has another channel.
                self.doom(Role::Current);
                Some(Failure { slot, message: format!("cannot ask the template: {error}") })
            }
        }
    }

    fn start(&mut self, role: Role, gift: Gift<'_>) -> io::Result<()> {
        let place = Place { slot: 0, index: 0 }; // of no meaning to a template
        let Gift { listeners, scoreboard, settings } = gift;
        let spawned = spawn::spawn(&self.command, listeners, scoreboard, place)?;
        let pid = spawned.pid;
        info!(target: LOG, "Started template [{pid}]");
        let control = spawned.control.send_setup(settings).and_then(|()| watch(spawned.control));
        let control = control
            .inspect_err(|error| {
                error!(target: LOG, "Cannot talk to template [{pid}]: {error}");
                kill(pid);
            })
            .ok();
        let deadline = self.limit.and_then(|limit| Instant::now().checked_add(limit));
        let stage = Stage::Importing { deadline };
        self.templates.push(Template { pid, role, stage, control });
        Ok(())
    }

    fn fail_all(&mut self, message: &str) -> Vec<Failure> {
        let mut messages = std::iter::once(format!("the template failed to start: {message}"))
            .chain(std::iter::repeat("as the one before".to_owned()));
        let slots = self.queue.drain(..).map(|wanted| wanted.place.slot);
        slots.map(|slot| Failure { slot, message: messages.next().unwrap_or_default() }).collect()
    }

    fn find(&self, role: Role) -> Option<&Template> {
        self.templates.iter().find(|template| template.role == role)
    }

    fn cast(&mut self, from: Role, to: Role) {
        for template in self.templates.iter_mut().filter(|template| template.role == from) {
            template.role = to;
        }
    }

    /// Kills a template, which has nothing of its own to put in order.
    fn doom(&mut self, role: Role) {
        for template in self.templates.iter_mut().filter(|template| template.role == role) {
            template.role = Role::Doomed;
            kill(template.pid);
        }
    }
}

impl Template {
    fn deadline(&self) -> Option<Instant> {
        match self.stage {
            _ if self.role == Role::Doomed => None,
            Stage::Importing { deadline } => deadline,
            Stage::Failed { deadline, .. } => Some(deadline),
            Stage::Ready => None,
        }
    }
}

/// Kills a template that has not been reaped: until then nobody else can have its number.
fn kill(pid: Pid) {
    if let Some(target) = raw(pid)
        && let Err(error) = rustix::process::kill_process(target, Signal::KILL)
    {
        warn!(target: LOG, "Cannot kill template [{pid}]: {error}");
    }
}

fn raw(pid: Pid) -> Option<RawPid> {
    i32::try_from(pid).ok().and_then(RawPid::from_raw)
}
