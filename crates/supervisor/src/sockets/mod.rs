//! The listening sockets: made once by the supervisor, inherited by every worker.
//!
//! Owns: turning configured addresses into listening sockets, and their names, which say whether TLS is
//! spoken on them. Must not know: how anything is spoken.

mod tcp;
#[cfg(test)]
mod tests;
mod unix;

use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};

use rsgi_config::BindAddr;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::net::{AddressFamily, SocketType};
use socket2::SockRef;

use crate::error::BindError;
use crate::sys::descriptor::{adopt, copy};
use unix::SocketFile;

/// The first descriptor of socket activation, `SD_LISTEN_FDS_START` in `sd_listen_fds(3)`.
const ACTIVATION_START: RawFd = 3;

/// What kind of socket a listener is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerKind {
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// A Unix stream socket.
    Unix,
}

/// A listening, non-blocking socket.
///
/// The one that made a Unix socket's file removes it when dropped, if the file is still the same;
/// the copies that workers inherit leave it alone. So the process that bound keeps this value for as
/// long as it listens; a socket taken out of it must not outlive the rest.
#[derive(Debug)]
pub struct Listener {
    /// First, so that it is removed while the socket is open: afterwards a successor could have put
    /// its own there that cannot be told from ours.
    file: Option<SocketFile>,
    /// The socket.
    pub fd: OwnedFd,
    /// Where it listens, as people write it: `http://127.0.0.1:8000`, `unix:/run/app.sock`.
    pub address: String,
    /// What kind of socket it is.
    pub kind: ListenerKind,
}

impl Listener {
    /// A listener that the supervisor passed on, with the name it gave it.
    pub(crate) fn inherited(fd: OwnedFd, address: String) -> io::Result<Self> {
        let kind = kind_of(&fd)?;
        Ok(Self { fd, address, kind, file: None })
    }

    /// The same socket, with a name that says that TLS is spoken on it: `https://127.0.0.1:8443`,
    /// `https+unix:/run/app.sock`.
    #[must_use]
    pub fn encrypted(mut self) -> Self {
        self.address = match self.address.strip_prefix("http://") {
            Some(rest) => format!("https://{rest}"),
            None => format!("https+{}", self.address),
        };
        self
    }

    /// Whether its name says that TLS is spoken on it.
    pub fn is_tls(&self) -> bool {
        self.address.starts_with("https")
    }

    /// Gives the file, if we made one, to the user that the process is going to be.
    pub(crate) fn give_to(&self, uid: u32, gid: u32) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.give_to(uid, gid))
    }
}

/// Binds every address, in order. All or nothing: on an error the ones already bound are closed.
pub fn bind_all(addresses: &[BindAddr], backlog: i32) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    for address in addresses {
        match address {
            BindAddr::Tcp { host, port } => listeners.extend(tcp::bind(host, *port, backlog)?),
            BindAddr::Unix { path, permissions } => {
                listeners.push(unix::bind(path, *permissions, backlog)?);
            }
            BindAddr::Fd(fd) => listeners.push(take_over(*fd)?),
            BindAddr::Tls(address) => {
                let bound = bind_all(std::slice::from_ref(address), backlog)?;
                listeners.extend(bound.into_iter().map(Listener::encrypted));
            }
        }
    }
    Ok(listeners)
}

/// The sockets that a service manager passed to process `pid`, by the values of `LISTEN_PID` and
/// `LISTEN_FDS`; none if they are absent or meant for another process. See `sd_listen_fds(3)`.
pub fn activated(
    pid: u32,
    listen_pid: Option<&str>,
    listen_fds: Option<&str>,
) -> Result<Vec<Listener>, BindError> {
    let (Some(listen_pid), Some(listen_fds)) = (listen_pid, listen_fds) else {
        return Ok(Vec::new());
    };
    if listen_pid.parse() != Ok(pid) {
        return Ok(Vec::new());
    }
    let malformed = || BindError::Activation { value: listen_fds.to_owned() };
    let count: u16 = listen_fds.parse().map_err(|_| malformed())?;
    (0..RawFd::from(count)).map(|n| take_over(ACTIVATION_START + n)).collect()
}

/// Listens on sockets of the program's own, which stay its own: what is returned are copies. They are
/// bound; those that do not listen yet will.
pub fn share_all(numbers: &[RawFd], backlog: i32) -> Result<Vec<Listener>, BindError> {
    numbers.iter().map(|number| share(*number, backlog)).collect()
}

fn share(number: RawFd, backlog: i32) -> Result<Listener, BindError> {
    let fd = copy(number).map_err(|error| explain(number, error))?;
    // A socket that was never bound would get any port: nobody wants to find that out later.
    let is_bound = SockRef::from(&fd)
        .local_addr()
        .is_ok_and(|address| address.as_socket().is_none_or(|address| address.port() != 0));
    if kind_of(&fd).is_err() || !is_bound {
        return Err(BindError::NotListening { fd: number });
    }
    SockRef::from(&fd).listen(backlog).map_err(|error| explain(number, error))?;
    into_listener(fd, number)
}

/// Makes a listener of a socket that this process was started with.
fn take_over(number: RawFd) -> Result<Listener, BindError> {
    let fd = adopt(number).map_err(|error| explain(number, error))?;
    let is_listener = kind_of(&fd).is_ok()
        && rustix::net::sockopt::socket_acceptconn(&fd).is_ok_and(|listening| listening);
    if !is_listener {
        return Err(BindError::NotListening { fd: number });
    }
    into_listener(fd, number)
}

fn into_listener(fd: OwnedFd, number: RawFd) -> Result<Listener, BindError> {
    let failed = |error| explain(number, error);
    SockRef::from(&fd).set_nonblocking(true).map_err(failed)?;
    let address = name_of(&fd).map_err(failed)?;
    Listener::inherited(fd, address).map_err(failed)
}

fn explain(number: RawFd, source: io::Error) -> BindError {
    match rustix::io::Errno::from_io_error(&source) {
        Some(rustix::io::Errno::BADF) => BindError::NotOpen { fd: number },
        _ => BindError::Io { address: format!("fd://{number}"), source },
    }
}

/// The kind of a stream socket; an error for anything else.
fn kind_of(fd: &OwnedFd) -> io::Result<ListenerKind> {
    let unsuitable = || io::Error::new(io::ErrorKind::InvalidInput, "not a stream socket");
    if rustix::net::sockopt::socket_type(fd)? != SocketType::STREAM {
        return Err(unsuitable());
    }
    match rustix::net::sockopt::socket_domain(fd)? {
        AddressFamily::INET | AddressFamily::INET6 => Ok(ListenerKind::Tcp),
        AddressFamily::UNIX => Ok(ListenerKind::Unix),
        _ => Err(unsuitable()),
    }
}

/// Where a socket listens, as people write it.
fn name_of(fd: &impl AsFd) -> io::Result<String> {
    let address = SockRef::from(fd).local_addr()?;
    if let Some(address) = address.as_socket() {
        return Ok(format!("http://{address}"));
    }
    if let Some(path) = address.as_pathname() {
        return Ok(format!("unix:{}", path.display()));
    }
    if let Some(name) = address.as_abstract_namespace() {
        return Ok(format!("unix:@{}", String::from_utf8_lossy(name)));
    }
    Ok("unix:".to_owned())
}

/// Makes the socket non-inheritable and non-blocking, the state every listener of ours is in.
fn prepare(socket: &socket2::Socket) -> io::Result<()> {
    fcntl_setfd(socket, FdFlags::CLOEXEC)?;
    socket.set_nonblocking(true)
}
