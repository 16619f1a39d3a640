//! One worker: what Python sees of it. Its life is in `life.rs`, what ends it in `control.rs`.

mod control;
mod life;

use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind};
use std::os::fd::RawFd;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use rsgi_config::{Config, LogConfig, LogOptions};
use rsgi_protocol::lifespan::LifespanMode;
use rsgi_server::tls::{Tls, TlsError};
use rsgi_server::{Residence, Service};
use rsgi_supervisor::{
    Inherited, Listener as Listening, STAND_IN, Scoreboard, Version, bind_all, exit, share_all,
};

use self::control::{Control, Stop};
use self::life::{Hooks, Run, Times, call_back};
use crate::app::{Home, PyApp};
use crate::keywords::Keywords;
use crate::lifespan::LifespanRun;
use crate::logging::{LogQueue, Queue};
use crate::options;
use crate::other_loop::{Beside, LoopHandle};
use crate::tasks::Tasks;
use crate::telemetry::Board;
use crate::watchdog::{DumpRequests, Inspector, Watchdog, Watched, limits};
use crate::{errors, keywords, logging, tls};

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

#[pymethods]
impl Worker {
    /// Take over what the supervisor passed in the environment variable `RSGI_WORKER`; as a spare
    /// process, once a worker is wanted. None if it is not wanted any more.
    #[staticmethod]
    #[pyo3(signature = (value, is_spare=false))]
    fn inherited(value: &str, is_spare: bool) -> PyResult<Option<Self>> {
        let mut inherited = Inherited::from_env_value(value).map_err(errors::from_inherit)?;
        if is_spare {
            match inherited.wait_for_place() {
                Err(error) if is_end(&error) => return Ok(None),
                found => found?,
            }
        }
        Self::supervised(inherited)
    }

    /// A worker with these settings, for a program that serves by itself and calls `bind()` next.
    #[staticmethod]
    fn alone(py: Python<'_>, keywords: &Keywords) -> PyResult<Self> {
        let mut loaded = keywords.loaded.clone();
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
        keywords::set_environment(py, &loaded.launch.environment)?;
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
            dumps: DumpRequests::listen_if_free(py)?,
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
    /// from another thread if the loop is another one.
    ///
    /// On rsgi's loop `on_end` is called when all is over. Beside another one a future is returned
    /// instead, of that loop's, which must not be cancelled.
    fn serve(
        &self,
        event_loop: &Bound<'_, PyAny>,
        application: &Bound<'_, PyAny>,
        on_ready: Bound<'_, PyAny>,
        on_end: Bound<'_, PyAny>,
    ) -> PyResult<Option<Py<PyAny>>> {
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
        if let Some(other) = other {
            let life = async move { run.to_end(listeners).await };
            let (beside, ended) = Beside::start(py, other, life, Arc::new(hooks))?;
            *self.beside.lock().unwrap_or_else(PoisonError::into_inner) = Some(beside);
            return Ok(Some(ended));
        }
        let LoopHandle::Own(reactor) = handle else { return Ok(None) };
        let on_end = on_end.unbind();
        let handle = reactor.handle();
        let handle = handle.ok_or_else(|| PyRuntimeError::new_err("the event loop is closed"))?;
        reactor.set_hooks(Arc::new(hooks));
        drop(handle.spawn(async move {
            run.to_end(listeners).await;
            call_back(&on_end);
        }));
        Ok(None)
    }

    /// Wait for the thread beside another event loop, once what `serve()` returned is done. Called by
    /// the loop.
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
            Err(error) if is_end(&error) => return Ok(None),
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

/// Whether the supervisor has closed its end.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset)
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
