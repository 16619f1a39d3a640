//! One worker: an application served on an event loop, from start-up to the last response.
//!
//! ```text
//! startup ──► serve ──► announce ──► drain ──► shutdown ──► the event loop stops
//!    └── failed: exit status 3 │        (stop() starts the announcement; the supervisor's order,
//!                              │        or its end, the drain)
//!                              `- still accepts, for `--shutdown-delay`
//! ```

use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::io::ErrorKind::UnexpectedEof;
use std::os::fd::{AsFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rsgi_config::{Config, LogConfig, LogOptions};
use rsgi_protocol::lifespan::{LifespanMode, ShutdownOutcome, StartupOutcome};
use rsgi_server::tls::{Tls, TlsError};
use rsgi_server::{
    DrainPhase, Listener, Opening, ProxyProtocol, Residence, Service, accept_connections,
};
use rsgi_supervisor::{
    Inherited, Listener as Listening, Order, Phase, STAND_IN, Scoreboard, Version, WorkerControl,
    bind_all, exit, share_all,
};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::app::{Home, PyApp};
use crate::ffi::register_for_reading;
use crate::lifespan::{LifespanRun, describe};
use crate::logging::{LogQueue, Queue};
use crate::options;
use crate::other_loop::{Beside, LoopHandle};
use crate::reactor::ParkHooks;
use crate::tasks::Tasks;
use crate::telemetry::Board;
use crate::watchdog::{DumpRequests, Inspector, Watchdog, Watched, limits};
use crate::{errors, keywords, logging, tls};

/// How long cancelled tasks may take to clean up before their connections are cut.
const CANCEL_GRACE: Duration = Duration::from_secs(1);

/// In development: how long tasks without a connection may take to end by themselves.
const COURTESY: Duration = Duration::from_millis(50);

/// In development: how long a new worker waits for the old ones to end. They have a second.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(3);

/// The key of the worker's number in the lifespan's state.
const WORKER_INDEX: &str = "rsgi.worker_index";

/// The least that the application's shutdown may take.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// A worker process, or the serving part of a program that called `rsgi.run()`.
#[pyclass(frozen, module = "rsgi._native")]
#[derive(Debug)]
pub struct Worker {
    config: Config,
    /// Taken when serving starts.
    place: Mutex<Option<Place>>,
    /// What waits for Python's `logging`, once that is used.
    queue: OnceLock<Arc<Queue>>,
    tls: Option<Arc<Tls>>,
    control: Arc<Control>,
    dumps: DumpRequests,
    /// Where connections are driven if the event loop is not rsgi's.
    beside: Mutex<Option<Beside>>,
    /// Why the application cannot be served, and this worker is there in its place.
    stand_in: Option<String>,
    /// Why this worker did not start.
    failure: OnceLock<String>,
}

/// What a worker serves on.
#[derive(Debug)]
struct Place {
    listeners: Vec<Listening>,
    scoreboard: Scoreboard,
    slot: usize,
}

/// What tells a worker to end, and how it ended.
#[derive(Debug)]
struct Control {
    /// `None` without a supervisor.
    supervisor: Option<WorkerControl>,
    index: usize,
    stop: AtomicU8,
    stopped: Notify,
    /// Somebody has moved the log files away.
    logs_moved: Notify,
    status: AtomicU8,
    has_started: AtomicBool,
}

/// What has been asked for; each is more urgent than the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Stop {
    No = 0,
    /// Serve on for the shutdown's delay, then as for the next.
    Announced = 1,
    Graceful = 2,
    Now = 3,
}

impl Control {
    fn new(supervisor: Option<WorkerControl>, index: usize) -> Arc<Self> {
        Arc::new(Self {
            supervisor,
            index,
            stop: AtomicU8::new(Stop::No as u8),
            stopped: Notify::new(),
            logs_moved: Notify::new(),
            status: AtomicU8::new(exit::CLEAN),
            has_started: AtomicBool::new(false),
        })
    }

    fn request(&self, stop: Stop) {
        self.stop.fetch_max(stop as u8, Ordering::Relaxed);
        self.stopped.notify_waiters();
    }

    async fn requested(&self, stop: Stop) {
        loop {
            let stopped = self.stopped.notified();
            if self.stop.load(Ordering::Relaxed) >= stop as u8 {
                return;
            }
            stopped.await;
        }
    }

    /// Tells the supervisor, if there is one.
    fn report(&self, report: impl FnOnce(&WorkerControl) -> std::io::Result<()>) {
        if let Some(Err(error)) = self.supervisor.as_ref().map(report) {
            log::debug!("the supervisor does not listen: {error}");
        }
    }
}

#[pymethods]
impl Worker {
    /// Take over what the supervisor passed in the environment variable `RSGI_WORKER`; as a spare
    /// process, once a worker is wanted.
    #[staticmethod]
    #[pyo3(signature = (value, is_spare=false))]
    fn inherited(value: &str, is_spare: bool) -> PyResult<Self> {
        let mut inherited = Inherited::from_env_value(value).map_err(errors::from_inherit)?;
        if is_spare {
            inherited.wait_for_place()?;
        }
        Self::supervised(inherited)?.ok_or_else(|| std::io::Error::from(UnexpectedEof).into())
    }

    /// A worker with these settings, for a program that serves by itself and calls `bind()` next.
    #[staticmethod]
    fn alone(settings: &Bound<'_, PyDict>) -> PyResult<Self> {
        let mut loaded = keywords::load(settings)?;
        logging::make_absolute(&mut loaded.config.log)?;
        logging::install(&loaded.config.log, None)?;
        for notice in &loaded.notices {
            log::warn!("{notice}");
        }
        let workers = &loaded.config.workers;
        if loaded.config.reload.is_on {
            let hint = "reload needs an import string: rsgi.run(\"module:app\", reload=True)";
            return Err(PyValueError::new_err(hint));
        }
        if workers.pid.is_some() || workers.user.is_some() || workers.group.is_some() {
            let hint = "pid, user and group are the supervisor's: use the command, or an import string and several workers";
            return Err(PyValueError::new_err(hint));
        }
        let tls =
            tls_alone(&loaded.config).map_err(|error| PyValueError::new_err(error.to_string()))?;
        keywords::set_environment(settings.py(), &loaded.launch.environment)?;
        let bind = &loaded.config.bind;
        if let Some(address) = &bind.admin {
            log::warn!("admin_bind={address} has no effect: there is no supervisor to serve it");
        }
        let scoreboard = Scoreboard::create(1)?;
        Ok(Self {
            config: loaded.config,
            tls,
            queue: OnceLock::new(),
            place: Mutex::new(Some(Place { listeners: Vec::new(), scoreboard, slot: 0 })),
            control: Control::new(None, 0),
            dumps: DumpRequests::listen_if_free(settings.py())?,
            beside: Mutex::default(),
            stand_in: None,
            failure: OnceLock::new(),
        })
    }

    /// Bind the addresses that the settings name, or listen on these sockets instead. Return whether
    /// that was possible; if not, it has been reported as by `fail()`.
    #[pyo3(signature = (sockets=None))]
    fn bind(&self, py: Python<'_>, sockets: Option<Vec<RawFd>>) -> PyResult<bool> {
        let bind = &self.config.bind;
        let bound = match sockets {
            None => bind_all(&bind.addresses, options::backlog(bind)),
            Some(sockets) => share_all(&sockets, options::backlog(bind)).map(|listeners| {
                let is_tls = self.tls.is_some();
                let encrypt = |it: Listening| if is_tls { it.encrypted() } else { it };
                listeners.into_iter().map(encrypt).collect()
            }),
        };
        match bound {
            Ok(listeners) => {
                let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(place) = place.as_mut() {
                    place.listeners = listeners;
                }
                Ok(true)
            }
            Err(error) => {
                self.fail(py, &error.to_string())?;
                Ok(false)
            }
        }
    }

    /// The application to import, as in `module:attribute`; None if an object was given.
    #[getter]
    fn target(&self) -> Option<&str> {
        self.config.app.target.as_deref()
    }

    /// Whether the target makes the application.
    #[getter]
    fn factory(&self) -> bool {
        self.config.app.factory
    }

    /// Which protocol the application speaks.
    #[getter]
    fn interface(&self) -> &'static str {
        self.config.app.interface.as_str()
    }

    /// How many calls of a WSGI application may run at once.
    #[getter]
    fn wsgi_threads(&self) -> u32 {
        self.config.app.wsgi_threads
    }

    /// The directory to import from.
    #[getter]
    fn app_dir(&self) -> &str {
        &self.config.app.app_dir
    }

    /// Why the application does not start, if this worker is to say so in its place.
    #[getter]
    fn stand_in(&self) -> Option<&str> {
        self.stand_in.as_deref()
    }

    /// Whether changed files restart the worker.
    #[getter]
    fn reload(&self) -> bool {
        self.config.reload.is_on
    }

    /// What runs once before any worker, as `module:function`.
    #[getter]
    fn on_start(&self) -> Option<&str> {
        self.config.workers.on_start.as_deref()
    }

    /// This worker's stable number, from 0.
    #[getter]
    fn index(&self) -> usize {
        self.control.index
    }

    /// How long requests in flight may take after a stop, in seconds.
    #[getter]
    fn grace(&self) -> f64 {
        self.config.workers.timeout_graceful_shutdown.as_secs_f64()
    }

    /// What the process should exit with.
    #[getter]
    fn exit_status(&self) -> u8 {
        self.control.status.load(Ordering::Relaxed)
    }

    /// What `fail()` was told, if it was.
    #[getter]
    fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// The addresses that are listened on, as URLs.
    #[getter]
    fn addresses(&self) -> Vec<String> {
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        let listeners = place.iter().flat_map(|place| &place.listeners);
        listeners.map(|listener| listener.address.clone()).collect()
    }

    /// Log where the worker can be reached.
    fn announce(&self, py: Python<'_>) -> PyResult<()> {
        self.python_logging(py)?;
        for address in self.addresses() {
            log::info!("rsgi running on {address} (Press CTRL+C to quit)");
        }
        Ok(())
    }

    /// Report that the application could not be loaded.
    fn fail(&self, py: Python<'_>, message: &str) -> PyResult<()> {
        // A supervisor says it for the worker, with the worker's name.
        if self.control.supervisor.is_none() {
            let queue = self.python_logging(py)?;
            log::error!("{message}");
            if let Some(queue) = queue {
                logging::close(py, &queue);
            }
        }
        self.control.status.store(exit::STARTUP, Ordering::Relaxed);
        self.control.report(|supervisor| supervisor.failed(message));
        // The first one is the cause.
        let _ = self.failure.set(message.to_owned());
        Ok(())
    }

    /// Start to stop: first gracefully, then, when asked again, at once.
    ///
    /// Under a supervisor it is the supervisor that says when to hurry: a signal to the whole
    /// process group (Ctrl-C, `timeout`, `tini -g`) reaches both, and is one and the same stop.
    fn stop(&self) {
        let asked = self.control.stop.load(Ordering::Relaxed) != Stop::No as u8;
        let is_supervised = self.control.supervisor.is_some();
        self.control.request(if asked && !is_supervised { Stop::Now } else { Stop::Announced });
    }

    /// Open the log files anew, once the event loop runs: they have been moved away.
    fn reopen_logs(&self) {
        self.control.logs_moved.notify_one();
    }

    /// How Python's `logging` is configured: `file` and a path, `json` and a text, or `none` if that
    /// is left to the application. None if it is not used.
    #[getter]
    fn logging(&self) -> Option<(&'static str, String)> {
        logging_config(&self.config.log)
    }

    /// Whether connections are accepted, or have been.
    #[getter]
    fn has_started(&self) -> bool {
        self.control.has_started.load(Ordering::Relaxed)
    }

    /// Serve `application` on `event_loop`: on rsgi's, which has to run or to be run next, or beside
    /// any other, which has to be the running one. `on_ready` is called once connections are accepted,
    /// and `on_end` when all is over, both from another thread if the loop is another one.
    fn serve(
        &self,
        event_loop: &Bound<'_, PyAny>,
        application: &Bound<'_, PyAny>,
        on_ready: Bound<'_, PyAny>,
        on_end: Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let py = event_loop.py();
        let home = Home::of(event_loop)?;
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Place { listeners, scoreboard, slot }) = place else {
            return Err(PyRuntimeError::new_err("this worker has served already"));
        };
        let handle = home.handle();
        let other = match &home {
            Home::Own(_) => None,
            Home::Other(other) => Some(Arc::clone(other)),
        };
        let limit = self.config.http.limit_connections;
        let board = Board::new(scoreboard, slot, self.max_requests()).with_connection_limit(limit);
        let board = Arc::new(board);
        let python = py.version_info();
        board.set_interpreter(Version([python.major, python.minor, python.patch].map(u16::from)));
        let queue = self.python_logging(py)?;
        let mut tasks = Tasks::new(py, event_loop.clone(), handle.clone())?;
        if self.config.app.reset_contextvars {
            tasks = tasks.in_fresh_contexts(py)?;
        }
        let app = PyApp::new(
            traced(application)?.unbind(),
            home,
            tasks,
            self.config.app.root_path.clone(),
        );
        let worker = self.control.supervisor.is_some().then_some(self.control.index);
        let access_log = logging::access_log(&self.config.log, worker, queue.as_ref())?;
        let telemetry = Arc::clone(&board);
        let residence = match &handle {
            LoopHandle::Own(_) => Residence::SameThread,
            LoopHandle::Other(_) => Residence::OtherThread,
        };
        let options = options::server(&self.config, residence);
        let service = Service::new(app, options, access_log, telemetry);
        let hooks = Hooks { service: Arc::clone(&service), board: Arc::clone(&board) };
        let mode = lifespan_mode(self.config.app.lifespan);
        let lifespan = LifespanRun::new(
            mode,
            handle.clone(),
            Tasks::new(py, event_loop.clone(), handle.clone())?,
            self.config.reload.is_on,
        );
        let control = Arc::clone(&self.control);
        let watchdog = Watchdog::start(Watched {
            board: Arc::clone(&board),
            turns: match &handle {
                LoopHandle::Own(reactor) => reactor.turns(),
                LoopHandle::Other(_) => Arc::default(),
            },
            requests: Arc::clone(service.live_requests()),
            inspector: Inspector::new(py)?,
            dump_asked: self.dumps.asked(),
            // How long another loop may do other things is its program's business.
            limits: if other.is_none() { limits(&self.config.workers) } else { Default::default() },
            replace: Box::new(move |duration| {
                control.report(|supervisor| supervisor.blocked(duration));
                control.supervisor.is_some()
            }),
        })?;
        let run = Run {
            service,
            board,
            _watchdog: watchdog,
            lifespan,
            control: Arc::clone(&self.control),
            on_ready: on_ready.unbind(),
            times: Times {
                delay: self.config.workers.shutdown_delay,
                grace: self.config.workers.timeout_graceful_shutdown,
                streams: self.config.workers.timeout_stream_shutdown,
            },
            max_requests: self.config.workers.limit_max_requests.unwrap_or_default(),
            tls: self.tls.clone(),
            queue,
            config: self.config.clone(),
        };
        let on_end = on_end.unbind();
        if let Some(other) = other {
            let life = async move { run.to_end(listeners).await };
            let beside = Beside::start(other, life, Arc::new(hooks), move || call_back(&on_end))?;
            *self.beside.lock().unwrap_or_else(PoisonError::into_inner) = Some(beside);
            return Ok(());
        }
        let LoopHandle::Own(reactor) = handle else { return Ok(()) };
        let handle = reactor.handle();
        let handle = handle.ok_or_else(|| PyRuntimeError::new_err("the event loop is closed"))?;
        reactor.set_hooks(Arc::new(hooks));
        drop(handle.spawn(async move {
            run.to_end(listeners).await;
            call_back(&on_end);
        }));
        Ok(())
    }

    /// Wait for the thread beside another event loop, which has called `on_end`. Called by the loop.
    fn join(&self, py: Python<'_>) {
        let beside = self.beside.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(beside) = beside {
            beside.join(py);
        }
    }
}

impl Worker {
    /// A worker of a supervisor, whose settings it waits for. `None` if it is not wanted any more.
    pub(crate) fn supervised(inherited: Inherited) -> PyResult<Option<Self>> {
        let Inherited { listeners, scoreboard, slot, index, control } = inherited;
        let setup = match control.receive_setup_blocking() {
            Err(error) if error.kind() == UnexpectedEof => return Ok(None),
            setup => setup?,
        };
        let broken = |error: serde_json::Error| PyRuntimeError::new_err(error.to_string());
        let stand_in = setup.get(STAND_IN).and_then(|why| why.as_str()).map(str::to_owned);
        let tls = tls::State::from_setup(&setup).map_err(broken)?;
        let config: Config = serde_json::from_value(setup).map_err(broken)?;
        logging::install(&config.log, Some(index))?;
        let tls = tls.map(|state| state.start(&config)).transpose();
        let tls = tls.map_err(|error| PyRuntimeError::new_err(error.to_string()))?;
        Ok(Some(Self {
            config,
            tls: tls.map(Arc::new),
            queue: OnceLock::new(),
            place: Mutex::new(Some(Place { listeners, scoreboard, slot })),
            dumps: DumpRequests::listen(),
            stand_in,
            failure: OnceLock::new(),
            control: Control::new(Some(control), index),
            beside: Mutex::default(),
        }))
    }

    /// Starts passing records to Python's `logging`, where that is asked for.
    fn python_logging(&self, py: Python<'_>) -> PyResult<Option<Arc<Queue>>> {
        let options = &self.config.log;
        if !options.python {
            return Ok(None);
        }
        if let Some(queue) = self.queue.get() {
            return Ok(Some(Arc::clone(queue)));
        }
        let queue = Arc::new(Queue::default());
        let level = options.level.python_number();
        py.import("rsgi._logging")?.call_method1(
            "deliver",
            (LogQueue::new(Arc::clone(&queue)), level, options.use_colors),
        )?;
        logging::to_python(&queue);
        Ok(Some(Arc::clone(self.queue.get_or_init(|| queue))))
    }

    fn max_requests(&self) -> Option<u64> {
        let workers = &self.config.workers;
        let limit = workers.limit_max_requests?;
        let most = workers.limit_max_requests_jitter.unwrap_or(limit / 10);
        // Not a secret: any number that differs between workers will do.
        let random = RandomState::new().hash_one(std::process::id());
        let jitter = most.checked_add(1).map_or(random, |choices| random % choices);
        Some(limit.saturating_add(jitter))
    }
}

/// The application, with every message logged if that is what the level asks for.
fn traced<'py>(application: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    if logging::is_tracing() {
        let tracing = application.py().import("rsgi._tracing")?;
        return tracing.call_method1("TracedApplication", (application,));
    }
    Ok(application.clone())
}

/// See `Worker.logging`.
pub(crate) fn logging_config(options: &LogOptions) -> Option<(&'static str, String)> {
    if !options.python {
        return None;
    }
    Some(match &options.config {
        Some(LogConfig::File(path)) => ("file", path.to_string_lossy().into_owned()),
        Some(LogConfig::Json(text)) => ("json", text.clone()),
        None => ("none", String::new()),
    })
}

fn call_back(callback: &Py<PyAny>) {
    Python::attach(|py| {
        if let Err(error) = callback.call0(py) {
            log::error!("a callback of the server's failed: {error}");
        }
    });
}

/// What the lifespan's state holds before the application adds to it.
fn initial_state(py: Python<'_>, index: usize) -> PyResult<Py<PyDict>> {
    let state = PyDict::new(py);
    state.set_item(WORKER_INDEX, index)?;
    Ok(state.unbind())
}

/// Takes what the application's import has left out of the garbage collector's sight: it lives as
/// long as the worker, and looking through it again and again is most of a full collection's time.
fn freeze_heap(py: Python<'_>) {
    let frozen = py.import("gc").and_then(|gc| {
        gc.call_method0("collect")?;
        gc.call_method0("freeze")
    });
    if let Err(error) = frozen {
        log::debug!("cannot freeze the heap: {error}");
    }
}

/// TLS for a process without a supervisor, which watches the files itself.
fn tls_alone(config: &Config) -> Result<Option<Arc<Tls>>, TlsError> {
    let Some(keeper) = tls::Keeper::new(config)? else { return Ok(None) };
    let tls = Arc::new(keeper.state().start(config)?);
    let watched = Arc::downgrade(&tls);
    keeper.watch(move |state| {
        let Some(tls) = watched.upgrade() else { return false };
        if let Err(error) = state.apply_to(&tls) {
            log::error!("new certificates cannot be used: {error}");
        }
        true
    });
    Ok(Some(tls))
}

fn lifespan_mode(mode: rsgi_config::Lifespan) -> LifespanMode {
    match mode {
        rsgi_config::Lifespan::Auto => LifespanMode::Auto,
        rsgi_config::Lifespan::On => LifespanMode::On,
        rsgi_config::Lifespan::Off => LifespanMode::Off,
    }
}

/// What the loop's thread does around its sleep.
struct Hooks {
    service: Arc<Service<PyApp>>,
    board: Arc<Board>,
}

impl ParkHooks for Hooks {
    fn before_park(&self) {
        self.service.flush_access_log();
        self.board.parked();
    }

    fn after_park(&self) {
        self.board.running();
    }
}

/// A worker's life.
struct Run {
    service: Arc<Service<PyApp>>,
    board: Arc<Board>,
    _watchdog: Watchdog,
    lifespan: LifespanRun,
    control: Arc<Control>,
    times: Times,
    /// `--limit-max-requests`, without the jitter.
    max_requests: u64,
    on_ready: Py<PyAny>,
    tls: Option<Arc<Tls>>,
    /// What waits for Python's `logging`, where that is used.
    queue: Option<Arc<Queue>>,
    config: Config,
}

/// How long the phases of a stop take.
#[derive(Debug, Clone, Copy)]
struct Times {
    /// Before the listeners close.
    delay: Duration,
    /// From then on, for everything in flight.
    grace: Duration,
    /// In the same time, for responses that have begun; `None` for the whole of it.
    streams: Option<Duration>,
}

impl Run {
    async fn to_end(&self, listeners: Vec<Listening>) {
        let pid = std::process::id();
        log::info!("Started server process [{pid}]");
        let orders = self.follow_orders();
        let life = async {
            if self.start_up().await {
                let deadline = self.serve(listeners).await;
                self.shut_down(deadline).await;
            }
        };
        tokio::select! {
            () = life => {}
            () = orders => {}
        }
        self.service.access_log().close();
        self.board.set_phase(Phase::Gone);
        log::info!("Finished server process [{pid}]");
        if let Some(queue) = &self.queue {
            Python::attach(|py| logging::close(py, queue));
        }
    }

    /// Runs the application's start-up. Returns whether to serve.
    async fn start_up(&self) -> bool {
        if self.lifespan.is_on() {
            log::info!("Waiting for application startup.");
        }
        if self.config.reload.is_on {
            // What it holds, a port or a file, is free before it is wanted again.
            self.board.predecessors_gone(PREDECESSOR_LIMIT).await;
        }
        let state = Python::attach(|py| initial_state(py, self.control.index));
        let startup = async {
            let state = state?;
            let outcome = self.lifespan.startup(&self.service.app, &state).await?;
            Ok::<_, PyErr>((outcome, state))
        };
        let outcome = tokio::select! {
            outcome = startup => outcome,
            () = self.control.requested(Stop::Announced) => {
                Python::attach(|py| self.lifespan.cancel(py));
                return false;
            }
        };
        let prepared = outcome.and_then(|(outcome, state)| {
            Python::attach(|py| {
                if outcome == StartupOutcome::Unsupported {
                    // Nobody has asked for a state, and every request would copy it.
                    state.bind(py).call_method1(intern!(py, "pop"), (WORKER_INDEX, py.None()))?;
                }
                self.service.app.prepare(py, state)
            })?;
            Ok(outcome)
        });
        match prepared {
            Ok(StartupOutcome::Complete) => {
                log::info!("Application startup complete.");
            }
            Ok(StartupOutcome::Unsupported) if self.lifespan.is_on() => {
                log::info!("ASGI 'lifespan' protocol appears unsupported.");
            }
            Ok(StartupOutcome::Unsupported) => {}
            Ok(StartupOutcome::Failed(failure)) => {
                let raised = self.exception();
                self.fail(describe(&failure).or(raised.as_deref()));
                return false;
            }
            Err(error) => {
                self.fail(Some(&error.to_string()));
                return false;
            }
        }
        if self.control.supervisor.is_some() {
            Python::attach(freeze_heap);
        }
        true
    }

    /// What the application's lifespan raised, as the log has it.
    fn exception(&self) -> Option<String> {
        let traceback = self.lifespan.take_traceback()?;
        Some(format!("Exception in 'lifespan' protocol\n{traceback}"))
    }

    fn fail(&self, message: Option<&str>) {
        // In development the supervisor says it, and a browser.
        if let Some(message) = message.filter(|_| !self.config.reload.is_on) {
            log::error!("{message}");
        }
        let last = "Application startup failed. Exiting.";
        log::error!("{last}");
        self.control.status.store(exit::STARTUP, Ordering::Relaxed);
        self.control.report(|supervisor| supervisor.failed(message.unwrap_or(last)));
    }

    /// Accepts connections until it is time to stop, then lets what is in flight finish.
    /// Returns the moment by which everything should be over.
    async fn serve(&self, listeners: Vec<Listening>) -> Instant {
        let mut acceptors = JoinSet::new();
        let proxy_protocol = options::proxy_protocol(&self.config);
        for listener in &listeners {
            let address = listener.address.clone();
            let shared = listener.fd.try_clone();
            match shared.and_then(register_for_reading).and_then(Listener::new) {
                Ok(accepting) => {
                    let proxy_protocol = proxy_protocol.clone();
                    let accepting = self.prepared(accepting, listener, &listeners, proxy_protocol);
                    acceptors.spawn(accept_connections(accepting, Arc::clone(&self.service)));
                }
                Err(error) => {
                    self.fail(Some(&format!("cannot listen on {address}: {error}")));
                    return Instant::now();
                }
            }
        }
        self.board.set_phase(Phase::Ready);
        self.control.report(WorkerControl::ready);
        self.control.has_started.store(true, Ordering::Relaxed);
        call_back(&self.on_ready);
        tokio::select! {
            () = self.control.requested(Stop::Announced) => {}
            () = self.recycle() => {}
            Some(ended) = acceptors.join_next() => {
                log::error!("cannot accept connections any more: {ended:?}");
                self.control.status.store(exit::FAILURE, Ordering::Relaxed);
            }
        }
        log::info!("Shutting down");
        self.announce().await;
        self.board.set_phase(Phase::Draining);
        // A listener that is closed here stays open in the other workers: no queued connection is
        // lost.
        acceptors.shutdown().await;
        drop(listeners);
        let closed = Instant::now();
        let deadline = closed + self.times.grace;
        let streams_end = self.times.streams.map(|limit| closed + limit);
        self.drain(deadline, streams_end.filter(|at| *at < deadline)).await;
        deadline
    }

    /// A listener that speaks what its address says.
    fn prepared(
        &self,
        accepting: Listener,
        listener: &Listening,
        all: &[Listening],
        proxy_protocol: Option<Arc<ProxyProtocol>>,
    ) -> Listener {
        let tls = self.tls.clone().filter(|_| listener.is_tls());
        let is_plain = tls.is_none();
        let accepting = accepting.with_opening(Opening { proxy_protocol, tls });
        match tls::redirect(&self.config, all, listener) {
            Some(redirect) if is_plain => accepting.with_redirect(redirect),
            _ => accepting,
        }
    }

    /// Goes on with what the supervisor says has changed.
    fn update(&self, settings: &serde_json::Value) {
        let Some(tls) = &self.tls else { return };
        let applied = match tls::State::from_setup(settings) {
            Ok(Some(state)) => state.apply_to(tls).map_err(|error| error.to_string()),
            Ok(None) => Ok(()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = applied {
            log::error!("new certificates cannot be used: {error}");
        }
    }

    /// Serves on, as long as the shutdown's delay says and nobody is in a greater hurry.
    async fn announce(&self) {
        let is_announced = self.control.stop.load(Ordering::Relaxed) == Stop::Announced as u8;
        if is_announced && !self.times.delay.is_zero() {
            self.service.advance(DrainPhase::Announcing);
            tokio::select! {
                () = sleep(self.times.delay) => {}
                () = self.control.requested(Stop::Graceful) => {}
            }
        }
    }

    /// Asks for a replacement once this worker has served its share; without a supervisor, simply
    /// ends.
    async fn recycle(&self) {
        let served = self.board.recycle_due().await;
        log::info!("Maximum request limit reached.");
        if self.control.supervisor.is_some() {
            self.control.report(|supervisor| supervisor.recycle(served, self.max_requests));
            pending::<()>().await;
        }
    }

    async fn drain(&self, deadline: Instant, streams_end: Option<Instant>) {
        self.service.advance(DrainPhase::Draining);
        if self.service.open_connections() > 0 {
            log::info!("Waiting for connections to close. (CTRL+C to force quit)");
        }
        let emptied = async {
            self.service.emptied().await;
            if self.config.reload.is_on {
                // Nobody waits for what they still do.
                let _ = timeout(COURTESY, self.service.app.tasks.emptied()).await;
                Python::attach(|py| self.service.app.tasks.cancel_all(py));
            } else if self.service.app.tasks.count() > 0 {
                log::info!("Waiting for background tasks to complete. (CTRL+C to force quit)");
            }
            self.service.app.tasks.emptied().await;
        };
        let streams = async {
            if let Some(at) = streams_end {
                sleep_until(at).await;
                self.service.advance(DrainPhase::EndingStreams);
            }
            pending::<()>().await;
        };
        let is_empty = tokio::select! {
            () = emptied => true,
            () = streams => false,
            () = sleep_until(deadline) => false,
            () = self.control.requested(Stop::Now) => false,
        };
        if !is_empty {
            let tasks = &self.service.app.tasks;
            log::error!(
                "Cancel {} running task(s), timeout graceful shutdown exceeded",
                tasks.count()
            );
            Python::attach(|py| tasks.cancel_all(py));
            // A task that swallows its cancellation is left behind.
            let _ = timeout(CANCEL_GRACE, tasks.emptied()).await;
        }
        self.service.advance(DrainPhase::Cut);
        let _ = timeout(CANCEL_GRACE, self.service.emptied()).await;
    }

    /// Runs the application's shutdown, which gets a moment even where requests have used up the
    /// time.
    async fn shut_down(&self, deadline: Instant) {
        if !self.lifespan.begin_shutdown() {
            return;
        }
        log::info!("Waiting for application shutdown.");
        let hurry = async {
            tokio::select! {
                () = sleep_until(deadline.max(Instant::now() + SHUTDOWN_GRACE)) => {}
                () = self.control.requested(Stop::Now) => {}
            }
        };
        let outcome = tokio::select! {
            outcome = self.lifespan.shutdown() => outcome,
            () = hurry => {
                log::error!("Application shutdown took too long. Exiting.");
                Python::attach(|py| self.lifespan.cancel(py));
                self.control.status.store(exit::FAILURE, Ordering::Relaxed);
                None
            }
        };
        match outcome {
            Some(ShutdownOutcome::Failed(failure)) => {
                if let Some(message) = describe(&failure) {
                    log::error!("{message}");
                }
                log::error!("Application shutdown failed. Exiting.");
                self.control.status.store(exit::FAILURE, Ordering::Relaxed);
            }
            Some(ShutdownOutcome::Complete) => log::info!("Application shutdown complete."),
            None => {}
        }
    }

    /// Somebody has moved the log files away.
    fn reopen_logs(&self) {
        logging::reopen();
        if let Err(error) = self.service.access_log().reopen() {
            log::error!("cannot open the access log anew: {error}");
        }
    }

    /// Does what the supervisor says; never ends by itself.
    async fn follow_orders(&self) {
        let Some(supervisor) = &self.control.supervisor else {
            loop {
                self.control.logs_moved.notified().await;
                self.reopen_logs();
            }
        };
        let registered = supervisor.as_fd().try_clone_to_owned().and_then(register_for_reading);
        let Ok(readable) = registered else {
            log::error!("cannot listen to the supervisor");
            return pending().await;
        };
        loop {
            let Ok(mut ready) = readable.readable().await else {
                return pending().await;
            };
            match supervisor.try_receive() {
                Ok(Some(Order::Update(settings))) => self.update(&settings),
                Ok(Some(Order::Announce)) => self.control.request(Stop::Announced),
                Ok(Some(Order::Drain)) => self.control.request(Stop::Graceful),
                Ok(Some(Order::Quit)) => self.control.request(Stop::Now),
                Ok(Some(Order::ReopenLogs)) => self.reopen_logs(),
                Ok(Some(Order::SupervisorGone)) => {
                    log::warn!("the supervisor has gone, stopping");
                    self.control.request(Stop::Graceful);
                    return pending().await;
                }
                Ok(None) => ready.clear_ready(),
                Err(error) => {
                    log::warn!("an order of the supervisor's cannot be read: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}
