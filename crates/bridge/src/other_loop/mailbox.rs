//! What one thread has for a loop in another, without the interpreter: a list, and a descriptor that
//! the loop watches with `add_reader`.

use std::fmt;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pyo3::intern;
use pyo3::prelude::*;
use rustix::event::{EventfdFlags, eventfd};
use tokio::runtime::Handle;

use super::{FirstStep, OtherLoop};
use crate::reactor::Deferred;

/// Something for the loop to do.
pub(crate) enum Letter {
    /// Begin a call of the application.
    Begin(Arc<OtherLoop>, FirstStep),
    /// Wake a task that waits.
    Run(Arc<dyn Deferred>),
    /// Cancel a task.
    Cancel(Py<PyAny>),
}

/// Letters for one loop. There are at most a few for every request in flight.
pub(crate) struct Mailbox {
    letters: Mutex<Vec<Letter>>,
    /// Readable as long as there are letters.
    bell: OwnedFd,
    /// The address of the event loop, to be compared only.
    event_loop: usize,
    /// Where the connections are driven, while they are. Not longer: it leads back here by way of the
    /// runtime's hooks.
    runtime: Mutex<Option<Handle>>,
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailbox").field("bell", &self.bell).finish_non_exhaustive()
    }
}

impl Mailbox {
    pub(super) fn new(event_loop: &Bound<'_, PyAny>) -> io::Result<Self> {
        Self::of(event_loop.as_ptr().addr())
    }

    fn of(event_loop: usize) -> io::Result<Self> {
        let bell = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { letters: Mutex::default(), bell, event_loop, runtime: Mutex::default() })
    }

    /// Whether it is that loop's.
    pub(super) fn belongs_to(&self, event_loop: &Bound<'_, PyAny>) -> bool {
        self.event_loop == event_loop.as_ptr().addr()
    }

    /// Says where the connections are driven; `None` for nowhere any more.
    pub(super) fn set_runtime(&self, runtime: Option<Handle>) {
        let before = mem::replace(&mut *self.lock_runtime(), runtime);
        drop(before);
    }

    pub(super) fn runtime(&self) -> Option<Handle> {
        self.lock_runtime().clone()
    }

    fn lock_runtime(&self) -> MutexGuard<'_, Option<Handle>> {
        self.runtime.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The descriptor to watch.
    pub(super) fn number(&self) -> RawFd {
        self.bell.as_raw_fd()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Letter>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From any thread, attached or not.
    pub(crate) fn post(&self, letter: Letter) {
        let mut letters = self.lock();
        letters.push(letter);
        let is_first = letters.len() == 1;
        drop(letters);
        if is_first {
            self.ring();
        }
    }

    fn ring(&self) {
        // It can only fail where it has been rung 2^64 times.
        if let Err(error) = rustix::io::write(&self.bell, &1_u64.to_ne_bytes()) {
            log::debug!("cannot ring: {error}");
        }
    }

    fn take(&self) -> Vec<Letter> {
        // Before the letters: what comes behind them rings again.
        let mut count = [0; 8];
        if let Err(error) = rustix::io::read(&self.bell, &mut count) {
            log::debug!("nobody has rung: {error}");
        }
        mem::take(&mut *self.lock())
    }

    /// Puts letters back that come before all others.
    fn put_back(&self, mut letters: Vec<Letter>) {
        if letters.is_empty() {
            return;
        }
        let mut newer = self.lock();
        letters.append(&mut newer);
        *newer = letters;
        drop(newer);
        self.ring();
    }
}

/// The loop's callback for its mailbox.
#[pyclass(frozen, module = "rsgi._native")]
#[derive(Debug)]
pub struct Reader {
    mailbox: Arc<Mailbox>,
}

impl Reader {
    pub(super) fn new(mailbox: Arc<Mailbox>) -> Self {
        Self { mailbox }
    }
}

#[pymethods]
impl Reader {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let mut letters = self.mailbox.take().into_iter();
        while let Some(letter) = letters.next() {
            if let Err(error) = open(py, letter) {
                self.mailbox.put_back(letters.collect());
                return Err(error);
            }
        }
        Ok(())
    }
}

fn open(py: Python<'_>, letter: Letter) -> PyResult<()> {
    match letter {
        Letter::Begin(event_loop, step) => event_loop.call_soon(py, step),
        Letter::Run(deferred) => deferred.run(py),
        Letter::Cancel(task) => task.bind(py).call_method0(intern!(py, "cancel")).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use pyo3::types::PyString;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn rings(mailbox: &Mailbox) -> bool {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut [PollFd::new(&mailbox.bell, PollFlags::IN)], Some(&zero)).unwrap() == 1
    }

    fn letter(name: &str) -> Letter {
        Letter::Cancel(Python::attach(|py| PyString::new(py, name).into_any().unbind()))
    }

    fn names(letters: Vec<Letter>) -> Vec<String> {
        let name = |letter| match letter {
            Letter::Cancel(task) => task.to_string(),
            Letter::Begin(..) | Letter::Run(_) => String::new(),
        };
        letters.into_iter().map(name).collect()
    }

    #[test]
    fn it_rings_until_all_letters_are_taken() {
        let mailbox = Mailbox::of(0).unwrap();
        assert!(!rings(&mailbox));
        mailbox.post(letter("a"));
        mailbox.post(letter("b"));
        assert!(rings(&mailbox));
        assert_eq!(names(mailbox.take()), ["a", "b"]);
        assert!(!rings(&mailbox));
        mailbox.post(letter("c"));
        assert!(rings(&mailbox));
    }

    #[test]
    fn what_is_put_back_comes_first_and_rings() {
        let mailbox = Mailbox::of(0).unwrap();
        mailbox.put_back(Vec::new());
        assert!(!rings(&mailbox));
        mailbox.post(letter("a"));
        let taken = mailbox.take();
        mailbox.put_back(taken);
        assert!(rings(&mailbox));
        let taken = mailbox.take();
        mailbox.post(letter("b"));
        mailbox.put_back(taken);
        assert_eq!(names(mailbox.take()), ["a", "b"]);
    }
}
