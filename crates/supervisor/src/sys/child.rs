//! What happens in a new process between fork and exec.

use std::io;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The signals a supervisor handles or may have been started with as ignored (`nohup`, a shell's
/// background job). Ignored stays ignored over exec, so the child sets them all back.
const RESET: [libc::c_int; 10] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGCHLD,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGWINCH,
];

/// Lets the child inherit exactly the descriptors `keep` beside its standard streams, and gives it
/// default signal handling. (The signal mask is emptied by `Command` itself.)
///
/// The numbers stay those of the parent, in which every descriptor stays close-on-exec: another
/// program started by the parent at the same moment inherits nothing.
pub(crate) fn inherit_only(command: &mut Command, keep: Vec<RawFd>) {
    let prepare = move || {
        for signal in RESET {
            reset(signal)?;
        }
        close_others_on_exec();
        keep.iter().try_for_each(|&fd| keep_over_exec(fd))
    };
    // SAFETY: between fork and exec the closure only makes system calls (signal, close_range,
    // fcntl), all async-signal-safe; it allocates nothing, takes no lock and cannot panic: the
    // vector is only read, and its errors carry a number.
    unsafe { command.pre_exec(prepare) };
}

fn reset(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: the default action is no function pointer of ours; the number is a valid signal.
    if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whatever the supervisor itself was started with stays out of the workers. A kernel before 5.11,
/// or a sandbox, may not have the call; then only what somebody left without close-on-exec passes.
fn close_others_on_exec() {
    // SAFETY: marks descriptors only, closes none, and takes no pointer.
    unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3 as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
}

fn keep_over_exec(fd: RawFd) -> io::Result<()> {
    // SAFETY: takes a number and no pointer; a number that is not open gives an error.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
