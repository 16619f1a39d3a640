//! All unsafe code of this crate: file descriptors that Python hands over as numbers, giving up
//! the interpreter while the loop sleeps, signals to a thread, who holds an object, and what asyncio itself does in C.

#![expect(unsafe_code, reason = "the only module of this crate where it is allowed")]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use pyo3::ffi;
use pyo3::prelude::*;
use rustix::thread::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Lends a file descriptor that Python owns to one system call.
pub(crate) fn with_fd<R>(fd: RawFd, call: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
    if fd < 0 {
        return None;
    }
    // SAFETY: the number is not -1, and the borrow ends with the call. Whether it is open is for
    // the kernel to say: epoll_ctl answers EBADF, as it does to `selectors.EpollSelector`.
    Some(call(unsafe { BorrowedFd::borrow_raw(fd) }))
}

/// Registers a descriptor for reading with the current tokio runtime.
pub(crate) fn register_for_reading(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives, and `AsyncFd`
    // keeps it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Sends a signal to one thread of this process.
pub(crate) fn signal_thread(id: Pid, number: i32) -> io::Result<()> {
    let process = rustix::process::getpid().as_raw_nonzero().get();
    // SAFETY: takes three numbers and no pointer. A thread that has ended is an error, and so is
    // one of another process that has got its number: that is what the first argument is for.
    let sent =
        unsafe { libc::syscall(libc::SYS_tgkill, process, id.as_raw_nonzero().get(), number) };
    if sent == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How many references there are to an object.
pub(crate) fn reference_count<T>(object: &Bound<'_, T>) -> isize {
    // SAFETY: a `Bound` points to an object that lives, and its thread is attached.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

/// The address of the function in C that this object calls, if that is all it does.
pub(crate) fn native_function(object: &Bound<'_, PyAny>) -> Option<usize> {
    if object.get_type_ptr() != &raw mut ffi::PyCFunction_Type {
        return None;
    }
    // SAFETY: the object lives, its thread is attached, and its type has just been looked at. The address
    // is not called.
    let function = unsafe { ffi::PyCFunction_GetFunction(object.as_ptr()) };
    function.map(|function| function as usize)
}

/// What `contextvars.Context.run` does, without looking it up.
pub(crate) fn run_in<'py>(
    context: &Bound<'py, PyAny>,
    function: &Bound<'py, PyAny>,
    argument: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: both live, and their thread is attached. Anything but a context that can be entered is an
    // exception.
    if unsafe { ffi::PyContext_Enter(context.as_ptr()) } < 0 {
        return Err(PyErr::fetch(context.py()));
    }
    let result = function.call1((argument,));
    // SAFETY: as above; it has been entered by this thread.
    if unsafe { ffi::PyContext_Exit(context.as_ptr()) } < 0 {
        return Err(PyErr::fetch(context.py()));
    }
    result
}

/// The interpreter's thread state while the loop's thread sleeps without it.
#[derive(Debug)]
pub(crate) struct ParkedThread {
    state: AtomicPtr<ffi::PyThreadState>,
}

impl ParkedThread {
    pub(crate) const fn new() -> Self {
        Self { state: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Lets other threads run Python. The caller is attached, and nothing touches Python until
    /// [`Self::attach`].
    pub(crate) fn detach(&self) {
        // SAFETY: called from the park hook of a runtime that runs inside `Selector.select`, which
        // Python called: the thread is attached. Between the two hooks tokio only waits in
        // `epoll_wait` and marks tasks as ready.
        let state = unsafe { ffi::PyEval_SaveThread() };
        self.state.store(state, Ordering::Relaxed);
    }

    /// Attaches to Python again, if detached.
    pub(crate) fn attach(&self) {
        let state = self.state.swap(ptr::null_mut(), Ordering::Relaxed);
        if !state.is_null() {
            // SAFETY: `state` came from `PyEval_SaveThread` on this very thread (the hooks run on
            // the thread that drives the runtime) and is used once.
            unsafe { ffi::PyEval_RestoreThread(state) };
        }
    }
}
