//! What waits for Python's `logging`, which a thread of its own calls.
//!
//! Handlers are somebody else's code: they may be slow, block on a full pipe, or use the event loop.
//! So none is called from the loop, nor from under any lock: records are put into this bounded
//! queue, and `rsgi._logging` takes them out. What finds no room is counted, and the count logged.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::Level;
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use rsgi_server::{AccessRecord, Records};

/// How many records may wait.
const LIMIT: usize = 10_000;
/// How many are taken at once.
const BATCH: usize = 256;
/// How long the last ones may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Records on their way to Python.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Something has come, or been dealt with.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<Item>,
    lost: u64,
    reader: Reader,
}

/// What the thread is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Reader {
    #[default]
    Waiting,
    /// Calls handlers.
    Busy,
    /// Nobody takes anything any more.
    Gone,
}

/// One record.
#[derive(Debug)]
pub(super) enum Item {
    Server(ServerItem),
    Access(Box<AccessItem>),
}

/// A line of the server's own.
#[derive(Debug)]
pub(super) struct ServerItem {
    pub(super) level: Level,
    pub(super) message: String,
    pub(super) created: SystemTime,
    pub(super) request_id: Option<String>,
    pub(super) traceback: Option<String>,
    pub(super) exception: Option<Py<PyBaseException>>,
}

/// A request.
#[derive(Debug)]
pub(super) struct AccessItem {
    created: SystemTime,
    client: String,
    method: String,
    full_path: Vec<u8>,
    http_version: &'static str,
    is_websocket: bool,
    status: u16,
    duration: Duration,
    bytes: u64,
    request_id: Option<String>,
    traceparent: Option<String>,
}

impl ServerItem {
    pub(super) fn new(level: Level, message: String, request_id: Option<&str>) -> Self {
        Self {
            level,
            message,
            created: SystemTime::now(),
            request_id: request_id.map(str::to_owned),
            traceback: None,
            exception: None,
        }
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a record, or counts it where there is no room. Returns whether anybody will care.
    pub(super) fn push(&self, item: impl FnOnce() -> Item) -> bool {
        let mut state = self.lock();
        if state.reader == Reader::Gone {
            return false;
        }
        if state.items.len() >= LIMIT {
            state.lost += 1;
            return true;
        }
        state.items.push_back(item());
        let is_first = state.items.len() == 1;
        drop(state);
        if is_first {
            self.changed.notify_all();
        }
        true
    }

    /// Waits for records; `None` once the queue is closed and empty.
    fn take(&self) -> Option<(Vec<Item>, u64)> {
        let mut state = self.lock();
        if state.reader == Reader::Busy {
            state.reader = Reader::Waiting;
            self.changed.notify_all();
        }
        while state.items.is_empty() {
            if state.reader == Reader::Gone {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let count = state.items.len().min(BATCH);
        let items = state.items.drain(..count).collect();
        if state.reader == Reader::Waiting {
            state.reader = Reader::Busy;
        }
        Some((items, std::mem::take(&mut state.lost)))
    }

    /// Takes no more, and waits a moment for what is there to be dealt with.
    fn close(&self) {
        let state = self.lock();
        let is_busy = |state: &mut State| !state.items.is_empty() || state.reader == Reader::Busy;
        let waited = self.changed.wait_timeout_while(state, CLOSE_TIMEOUT, is_busy);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.reader = Reader::Gone;
        drop(state);
        self.changed.notify_all();
    }
}

/// The side of a queue that requests go in at.
pub(super) struct Requests(pub(super) Arc<Queue>);

impl Records for Requests {
    fn record(&self, record: &AccessRecord<'_>) {
        self.0.push(|| {
            Item::Access(Box::new(AccessItem {
                created: SystemTime::now(),
                client: record.client(),
                method: record.method().to_owned(),
                full_path: record.full_path().to_vec(),
                http_version: record.http_version(),
                is_websocket: record.is_websocket(),
                status: record.status(),
                duration: record.duration(),
                bytes: record.bytes(),
                request_id: record.request_id().map(str::to_owned),
                traceparent: record.traceparent().map(str::to_owned),
            }))
        });
    }
}

/// The reader's side of the records that wait for Python's `logging`.
#[pyclass(frozen, module = "rsgi._native")]
#[derive(Debug)]
pub struct LogQueue {
    queue: Arc<Queue>,
}

impl LogQueue {
    pub(crate) fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }
}

#[pymethods]
impl LogQueue {
    /// Wait for records, and return them and how many were lost before them; None once there will
    /// be no more.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<(Vec<Bound<'py, PyDict>>, u64)>> {
        let Some((items, lost)) = py.detach(|| self.queue.take()) else { return Ok(None) };
        let records = items.into_iter().map(|item| item.into_python(py));
        Ok(Some((records.collect::<PyResult<_>>()?, lost)))
    }

    /// Let everything from this level on come, as `logging` numbers it.
    #[staticmethod]
    fn set_level(level: u8) {
        log::set_max_level(match level {
            0..=5 => log::LevelFilter::Trace,
            6..=10 => log::LevelFilter::Debug,
            11..=20 => log::LevelFilter::Info,
            21..=30 => log::LevelFilter::Warn,
            _ => log::LevelFilter::Error,
        });
    }
}

/// Ends the use of Python's `logging`: what has gathered gets a moment.
pub(crate) fn close(py: Python<'_>, queue: &Arc<Queue>) {
    py.detach(|| queue.close());
}

impl Item {
    fn into_python(self, py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let record = PyDict::new(py);
        match self {
            Self::Server(item) => {
                record.set_item("created", seconds(item.created))?;
                record.set_item("level", python_level(item.level))?;
                record.set_item("message", item.message)?;
                record.set_item("request_id", item.request_id)?;
                record.set_item("traceback", item.traceback)?;
                record.set_item("exception", item.exception)?;
            }
            Self::Access(item) => {
                record.set_item("created", seconds(item.created))?;
                record.set_item("client", item.client)?;
                record.set_item("method", item.method)?;
                record.set_item("full_path", text(py, &item.full_path)?)?;
                record.set_item("http_version", item.http_version)?;
                record.set_item("is_websocket", item.is_websocket)?;
                record.set_item("status", item.status)?;
                record.set_item("duration", item.duration.as_secs_f64())?;
                record.set_item("bytes", item.bytes)?;
                record.set_item("request_id", item.request_id)?;
                record.set_item("traceparent", item.traceparent)?;
            }
        }
        Ok(record)
    }
}

/// A client's text with nothing in it that could end a line.
fn text<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    let mut escaped = Vec::with_capacity(bytes.len());
    rsgi_server::push_escaped(&mut escaped, bytes, rsgi_server::Escape::Word, usize::MAX);
    PyString::from_bytes(py, &escaped)
}

fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn python_level(level: Level) -> u8 {
    match level {
        Level::Error => 40,
        Level::Warn => 30,
        Level::Info => 20,
        Level::Debug => 10,
        Level::Trace => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> Item {
        Item::Server(ServerItem::new(Level::Info, "x".to_owned(), None))
    }

    #[test]
    fn what_finds_no_room_is_counted_and_the_rest_is_taken_in_order() {
        let queue = Queue::default();
        for _ in 0..LIMIT + 5 {
            assert!(queue.push(item));
        }
        let mut taken = 0;
        let mut lost = 0;
        while taken < LIMIT {
            let (items, before) = queue.take().unwrap();
            taken += items.len();
            lost += before;
        }
        assert_eq!((taken, lost), (LIMIT, 5));
    }

    #[test]
    fn closing_waits_until_the_handlers_are_done_and_then_nobody_takes_anything() {
        let queue = Arc::new(Queue::default());
        assert!(queue.push(item));
        let reading = Arc::clone(&queue);
        let reader = std::thread::spawn(move || {
            let mut taken = 0;
            while let Some((items, _)) = reading.take() {
                taken += items.len();
            }
            taken
        });
        queue.close();
        assert_eq!(reader.join().unwrap(), 1);
        assert!(!queue.push(item));
    }
}
