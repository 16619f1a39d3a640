//! One worker's life: an application served on an event loop, from start-up to the last response.
//!
//! ```text
//! startup ──► serve ──► announce ──► drain ──► shutdown ──► the event loop stops
//!    └── failed: exit status 3 │        (stop() starts the announcement; the supervisor's order,
//!                              │        or its end, the drain)
//!                              `- still accepts, for `--shutdown-delay`
//! ```

use std::future::pending;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rsgi_config::Config;
use rsgi_protocol::lifespan::{ShutdownOutcome, StartupOutcome};
use rsgi_server::tls::Tls;
use rsgi_server::{DrainPhase, Listener, Opening, ProxyProtocol, Service, accept_connections};
use rsgi_supervisor::{Listener as Listening, Order, Phase, WorkerControl, exit};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::control::{Control, Stop};
use crate::app::PyApp;
use crate::ffi::register_for_reading;
use crate::lifespan::{LifespanRun, describe};
use crate::logging::Queue;
use crate::options;
use crate::reactor::ParkHooks;
use crate::telemetry::Board;
use crate::watchdog::Watchdog;
use crate::{logging, tls};

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

/// What the loop's thread does around its sleep.
pub(super) struct Hooks {
    pub(super) service: Arc<Service<PyApp>>,
    pub(super) board: Arc<Board>,
}

impl ParkHooks for Hooks {
    fn before_park(&self) {
        self.service.access_log().flush();
        self.board.parked();
    }

    fn after_park(&self) {
        self.board.running();
    }
}

/// A worker's life.
pub(super) struct Run {
    pub(super) service: Arc<Service<PyApp>>,
    pub(super) board: Arc<Board>,
    pub(super) _watchdog: Watchdog,
    pub(super) lifespan: LifespanRun,
    pub(super) control: Arc<Control>,
    pub(super) times: Times,
    /// `--limit-max-requests`, without the jitter.
    pub(super) max_requests: u64,
    pub(super) on_ready: Py<PyAny>,
    pub(super) tls: Option<Arc<Tls>>,
    /// What waits for Python's `logging`, where that is used.
    pub(super) queue: Option<Arc<Queue>>,
    pub(super) config: Config,
}

/// How long the phases of a stop take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Before the listeners close.
    pub(super) delay: Duration,
    /// From then on, for everything in flight.
    pub(super) grace: Duration,
    /// In the same time, for responses that have begun; `None` for the whole of it.
    pub(super) streams: Option<Duration>,
}

impl Run {
    pub(super) async fn to_end(&self, listeners: Vec<Listening>) {
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
            () = self.service.access_log().write_gathered() => {}
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
            biased;
            () = emptied => true,
            () = streams => false,
            () = sleep_until(deadline) => false,
            () = self.control.requested(Stop::Now) => false,
        };
        if !is_empty {
            let tasks = &self.service.app.tasks;
            match (tasks.count(), self.service.open_connections()) {
                (0, connections) => log::warn!(
                    "Cutting {connections} connection(s), timeout graceful shutdown exceeded"
                ),
                (running, _) => log::error!(
                    "Cancel {running} running task(s), timeout graceful shutdown exceeded"
                ),
            }
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

/// Calls what the program left to be called; what that raises is logged.
/// Calls what a program gave to be called; what that raises is logged.
pub(super) fn call_back(callback: &Py<PyAny>) {
    Python::attach(|py| {
        if let Err(error) = callback.call0(py) {
            log::error!("a callback of the server's failed: {error}");
        }
    });
}
