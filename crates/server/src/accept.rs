//! Accepting connections from a socket that several workers share, by load.
//!
//! Every worker is told of every new connection. One that has more to do than a worker that is
//! awake leaves it alone and looks again after [`LOOK_AGAIN`]: the listener is registered
//! edge-triggered, so the kernel will not tell twice. Who has more to do is the
//! [`Telemetry`](crate::Telemetry)'s to know.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags};
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep};

use crate::http1::ConnectionTask;
use crate::metered::Metered;
use crate::redirect::Redirect;
use crate::service::{App, ConnectionInfo, Service};
use crate::tls::{self, Tls};
use crate::transport::Transport;

/// How long a connection is left to another worker; a worker that has been running for this long
/// without a pause does not count as awake.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How long to wait when the process or the system has no file descriptor left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// A listening stream socket, TCP or Unix.
#[derive(Debug)]
pub struct Listener {
    fd: AsyncFd<OwnedFd>,
    family: AddressFamily,
    path: Option<String>,
    tls: Option<Arc<Tls>>,
    redirect: Option<Redirect>,
}

impl Listener {
    /// Takes over a bound, listening, non-blocking socket that has been registered for reading.
    /// (Registering is the caller's, because it is `unsafe` in tokio and this crate has no
    /// unsafe code.)
    pub fn new(fd: AsyncFd<OwnedFd>) -> io::Result<Self> {
        let address = rustix::net::getsockname(&fd)?;
        let family = address.address_family();
        let path = (family == AddressFamily::UNIX).then(|| unix_path(address));
        Ok(Self { fd, family, path, tls: None, redirect: None })
    }

    /// Speaks TLS.
    #[must_use]
    pub fn with_tls(self, tls: Arc<Tls>) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Sends clients elsewhere.
    #[must_use]
    pub fn with_redirect(self, redirect: Redirect) -> Self {
        Self { redirect: Some(redirect), ..self }
    }

    fn accept(&self) -> rustix::io::Result<(OwnedFd, Option<SocketAddrAny>)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        rustix::net::acceptfrom_with(&self.fd, flags)
    }

    fn info(
        &self,
        client: Option<(String, u16)>,
        server: Option<(String, Option<u16>)>,
    ) -> ConnectionInfo {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        ConnectionInfo { client, server, scheme, tls: None, redirect: self.redirect }
    }

    /// Whether a connection waits.
    fn has_pending(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        !matches!(poll(&mut fds, Some(&zero)), Ok(0))
    }
}

/// Accepts connections and spawns a task for each, until it is aborted. Only a broken listener ends
/// it.
pub async fn accept_connections<A>(listener: Listener, service: Arc<Service<A>>) -> io::Result<()>
where
    A: App,
{
    let mut left_alone = false;
    let mut is_exhausted = false;
    loop {
        // A connection that was left to another worker is looked at again soon; a new one at once.
        tokio::select! {
            ready = listener.fd.readable() => ready?.clear_ready(),
            () = sleep(LOOK_AGAIN), if left_alone => {}
        }
        left_alone = false;
        loop {
            if service.is_full() {
                if !listener.has_pending() {
                    break;
                }
                // What waits in the backlog is other workers' to take as well.
                service.has_room().await;
            }
            if !service.may_accept() {
                left_alone = listener.has_pending();
                break;
            }
            let accepted = listener.accept();
            // The kernel looks for a descriptor first: whatever else it says, there is one.
            if is_exhausted && !accepted.as_ref().is_err_and(|error| is_exhaustion(*error)) {
                is_exhausted = false;
                service.recovered();
            }
            match accepted {
                Ok((socket, peer)) => {
                    if let Err(error) = spawn(&listener, socket, peer, &service) {
                        log::debug!("a connection ended before it began: {error}");
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(error) if is_exhaustion(error) => {
                    is_exhausted = true;
                    service.exhausted(error.into(), Instant::now());
                    // Trying again at once would be a busy loop: the kernel keeps the connection.
                    tokio::select! {
                        () = service.one_closed() => {}
                        () = sleep(OUT_OF_DESCRIPTORS) => {}
                    }
                }
                Err(error) => check(error)?,
            }
            // What a connection brings is work before the next one is: its worker may be busy with it.
            tokio::task::yield_now().await;
        }
    }
}

/// Whether the process or the system has run out of what a connection takes.
fn is_exhaustion(error: Errno) -> bool {
    matches!(error, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
}

/// What to do about a failed `accept`. Most errors are the failed connection's own (accept(2)).
fn check(error: Errno) -> io::Result<()> {
    match error {
        Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP => Err(error.into()),
        _ => Ok(()),
    }
}

fn spawn<A>(
    listener: &Listener,
    socket: OwnedFd,
    peer: Option<SocketAddrAny>,
    service: &Arc<Service<A>>,
) -> io::Result<()>
where
    A: App,
{
    if listener.family == AddressFamily::UNIX {
        let stream = UnixStream::from_std(std::os::unix::net::UnixStream::from(socket))?;
        let server = Some((listener.path.clone().unwrap_or_default(), None));
        let info = listener.info(None, server);
        serve_on(listener, stream, service, info);
        return Ok(());
    }
    let stream = std::net::TcpStream::from(socket);
    stream.set_nodelay(true)?;
    let server = stream.local_addr()?;
    let client = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
    let info = listener.info(
        client.map(|client| (host(client), client.port())),
        Some((host(server), Some(server.port()))),
    );
    serve_on(listener, TcpStream::from_std(stream)?, service, info);
    Ok(())
}

/// Serves one connection of a listener, encrypted if the listener is.
fn serve_on<T, A>(listener: &Listener, stream: T, service: &Arc<Service<A>>, info: ConnectionInfo)
where
    T: Transport,
    A: App,
{
    match &listener.tls {
        Some(tls) => tls::serve(stream, service, tls, info),
        None => serve(stream, service, info),
    }
}

/// Serves one connection in a task of its own.
pub fn serve<T, A>(stream: T, service: &Arc<Service<A>>, info: ConnectionInfo)
where
    T: Transport,
    A: App,
{
    // The task ends with its connection; a drain reaches it through the service's list.
    let stream = Metered::new(stream, service.telemetry());
    drop(tokio::spawn(ConnectionTask::new(stream, service.enter(), info)));
}

/// An address without its port; an IPv4 client of a dual-stack socket is an IPv4 client.
fn host(address: SocketAddr) -> String {
    address.ip().to_canonical().to_string()
}

fn unix_path(address: SocketAddrAny) -> String {
    let address = rustix::net::SocketAddrUnix::try_from(address);
    let path = address
        .ok()
        .and_then(|address| address.path().map(|path| path.to_string_lossy().into_owned()));
    path.unwrap_or_default()
}
