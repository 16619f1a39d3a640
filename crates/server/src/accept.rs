//! Accepting connections from a socket that several workers share, by load.
//!
//! Every worker is told of every new connection. One that has more to do than a worker that is
//! awake leaves it alone and looks again after [`LOOK_AGAIN`]: the listener is registered
//! edge-triggered, so the kernel will not tell twice. Who has more to do is the
//! [`Telemetry`](crate::Telemetry)'s to know.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rsgi_protocol::forwarded::Peer;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrAny, SocketFlags};
use socket2::SockRef;
use tokio::io::unix::AsyncFd;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep};

use crate::connections::Entry;
use crate::forwarding::host;
use crate::http1::ConnectionTask;
use crate::metered::Metered;
use crate::proxy_protocol::{ProxyProtocol, Received};
use crate::redirect::Redirect;
use crate::service::{App, ConnectionInfo, Service};
use crate::tls::{self, Tls};
use crate::transport::Transport;

/// How long a connection is left to another worker; a worker that has been running for this long
/// without a pause does not count as awake.
const LOOK_AGAIN: Duration = Duration::from_millis(1);
/// How many connections are accepted in a row while more of them keep coming than one at a time:
/// some milliseconds of work.
const BURST: u32 = 256;
/// How much of what is written to a connection the kernel keeps before it sends it: some hundred Mbit/s
/// for a loop that comes back after a few milliseconds. Left to itself it takes megabytes from an
/// application whose client does not read.
const UNSENT: u32 = 256 * 1024;

/// A listening stream socket, TCP or Unix.
#[derive(Debug)]
pub struct Listener {
    fd: AsyncFd<OwnedFd>,
    family: AddressFamily,
    path: Option<String>,
    opening: Opening,
    redirect: Option<Redirect>,
}

/// What comes on a new connection before HTTP.
#[derive(Debug, Clone, Default)]
pub struct Opening {
    /// First of all, a PROXY header.
    pub proxy_protocol: Option<Arc<ProxyProtocol>>,
    /// Then a handshake.
    pub tls: Option<Arc<Tls>>,
}

impl Listener {
    /// Takes over a bound, listening, non-blocking socket that has been registered for reading.
    /// (Registering is the caller's, because it is `unsafe` in tokio and this crate has no
    /// unsafe code.)
    pub fn new(fd: AsyncFd<OwnedFd>) -> io::Result<Self> {
        let address = rustix::net::getsockname(&fd)?;
        let family = address.address_family();
        let path = (family == AddressFamily::UNIX).then(|| unix_path(address));
        if family != AddressFamily::UNIX {
            limit_unsent(&fd);
        }
        Ok(Self { fd, family, path, opening: Opening::default(), redirect: None })
    }

    /// Expects this of new connections.
    #[must_use]
    pub fn with_opening(self, opening: Opening) -> Self {
        Self { opening, ..self }
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
        let scheme = if self.opening.tls.is_some() { "https" } else { "http" };
        let redirect = self.redirect;
        ConnectionInfo { client, server, scheme, tls: None, redirect, forwarding: None }
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
        // What a connection brings is work before the next one is: its worker may be busy with it.
        // Where that leaves a queue, the next ones come in growing bursts: a crowd that connects at
        // once is not let in one by one, with everybody's requests in between.
        let (mut burst, mut taken) = (1, 0);
        loop {
            if service.is_full() {
                if !listener.has_pending() {
                    break;
                }
                // What waits in the backlog is other workers' to take as well.
                service.has_room(|| listener.has_pending()).await;
                continue;
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
                    service.connections.one_left(|| listener.has_pending()).await;
                }
                Err(error) => check(error)?,
            }
            taken += 1;
            if taken >= burst {
                tokio::task::yield_now().await;
                (burst, taken) = ((burst * 4).min(BURST), 0);
            }
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

/// Limits what the kernel keeps for each connection that is accepted from a listener (tcp(7),
/// `TCP_NOTSENT_LOWAT`: they inherit it).
fn limit_unsent(listener: &impl AsFd) {
    if let Err(error) = SockRef::from(listener).set_tcp_notsent_lowat(UNSENT) {
        log::debug!("the kernel keeps as much unsent as it likes: {error}");
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
        open(stream, service, &listener.opening, Peer::Unix, info);
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
    // The kernel tells who has connected, always.
    let peer = client.map_or(Peer::Unknown, |client| Peer::Address(client.ip()));
    open(TcpStream::from_std(stream)?, service, &listener.opening, peer, info);
    Ok(())
}

/// Serves one connection that has just been opened by `peer`: what comes before HTTP first.
pub fn open<T, A>(
    stream: T,
    service: &Arc<Service<A>>,
    opening: &Opening,
    peer: Peer,
    info: ConnectionInfo,
) where
    T: Transport,
    A: App,
{
    let entry = service.enter();
    let tls = opening.tls.clone();
    let proxy_protocol = opening.proxy_protocol.as_ref().filter(|it| it.trust.trusts(peer));
    let Some(proxy_protocol) = proxy_protocol.map(Arc::clone) else {
        let info = info.trusting(peer, service.options.forwarding.as_ref());
        return begin(stream, BytesMut::new(), entry, tls.as_ref(), info);
    };
    // Ends in time by itself; a shutdown that has run out of time reaches it through the list of
    // connections.
    drop(tokio::spawn(async move {
        let mut stream = stream;
        if let Some(Received { rest, info, peer }) =
            proxy_protocol.receive(&mut stream, &entry, info, peer).await
        {
            let info = info.trusting(peer, entry.service.options.forwarding.as_ref());
            begin(stream, rest, entry, tls.as_ref(), info);
        }
    }));
}

/// Goes on with TLS or with HTTP, in a task of its own.
fn begin<T, A>(
    stream: T,
    rest: BytesMut,
    entry: Entry<A>,
    tls: Option<&Arc<Tls>>,
    info: ConnectionInfo,
) where
    T: Transport,
    A: App,
{
    match tls {
        Some(tls) => tls::serve(stream, rest, entry, tls, info),
        None => serve_plain(stream, rest, entry, info),
    }
}

/// Serves one plain connection in a task of its own.
pub fn serve<T, A>(stream: T, service: &Arc<Service<A>>, info: ConnectionInfo)
where
    T: Transport,
    A: App,
{
    serve_plain(stream, BytesMut::new(), service.enter(), info);
}

fn serve_plain<T, A>(stream: T, rest: BytesMut, entry: Entry<A>, info: ConnectionInfo)
where
    T: Transport,
    A: App,
{
    let telemetry = entry.service.telemetry();
    if !rest.is_empty() {
        telemetry.bytes_read(rest.len());
    }
    let stream = Metered::new(stream, telemetry);
    // The task ends with its connection; a drain reaches it through the service's list.
    drop(tokio::spawn(ConnectionTask::new(stream, rest, entry, info)));
}

fn unix_path(address: SocketAddrAny) -> String {
    let address = rustix::net::SocketAddrUnix::try_from(address);
    let path = address
        .ok()
        .and_then(|address| address.path().map(|path| path.to_string_lossy().into_owned()));
    path.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn accepted_connections_keep_little_unsent() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        limit_unsent(&listener);
        let address = listener.local_addr().expect("it is bound");
        let client = TcpStream::connect(address).expect("it listens");
        let (accepted, _) = listener.accept().expect("somebody has connected");
        assert_eq!(SockRef::from(&accepted).tcp_notsent_lowat().expect("Linux"), UNSENT);
        drop(client);
    }
}
