//! Taking over file descriptors that arrive as numbers.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_getfd, fcntl_setfd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::control::SupervisorControl;

/// Numbers already taken over: a second owner of one number would close it twice.
static ADOPTED: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// The first number that is not a standard stream.
const FIRST_ORDINARY: RawFd = 3;

/// Takes ownership of descriptor `fd`, which the process was started with, and sets close-on-exec.
///
/// A number can be taken over once in the life of a process. Standard input is replaced by
/// `/dev/null` (supervisord passes a socket there); the other two standard streams are refused.
pub(crate) fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 || fd == 1 || fd == 2 {
        return Err(rustix::io::Errno::BADF.into());
    }
    // SAFETY: `fd` is not -1. The borrow ends within this function, and until then nothing here
    // closes it; if it is not open at all, the first call below says so and nothing else is done.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = fcntl_getfd(borrowed)?;
    if !ADOPTED.lock().unwrap_or_else(PoisonError::into_inner).insert(fd) {
        return Err(rustix::io::Errno::BUSY.into());
    }
    if fd < FIRST_ORDINARY {
        let owned = fcntl_dupfd_cloexec(borrowed, FIRST_ORDINARY)?;
        let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
        rustix::stdio::dup2_stdin(null)?;
        return Ok(owned);
    }
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC)?;
    // SAFETY: it is open (checked above). It was inherited across exec, so no value in this process
    // owns it, and the registry above keeps this function from making a second owner.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes a copy of a descriptor that somebody else in this process owns.
pub(crate) fn copy(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(rustix::io::Errno::BADF.into());
    }
    // SAFETY: `fd` is not -1. The borrow ends within this function; if it is not open, the call below
    // says so. Should its owner close it meanwhile, the copy is of what the number then names, or none.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    Ok(fcntl_dupfd_cloexec(borrowed, FIRST_ORDINARY)?)
}

/// Registers a descriptor with the runtime, for reading.
pub(crate) fn watch_descriptor(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open until it is dropped, and `as_raw_fd` returns the same number
    // every time.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}

/// Registers a control channel with the runtime, for reading.
pub(crate) fn watch(control: SupervisorControl) -> io::Result<AsyncFd<SupervisorControl>> {
    // SAFETY: a control channel owns its socket in a private field that nothing replaces or closes
    // before drop, and `as_raw_fd` returns that one's number every time.
    Ok(unsafe { AsyncFd::register_with_interest(control, Interest::READABLE) }?)
}
