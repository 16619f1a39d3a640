//! TCP listeners.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Listener, ListenerKind, name_of};
use crate::error::BindError;

/// How often a free port is looked for that is free on every address of a name.
const PORT_TRIES: usize = 20;

/// Listens on every address the host name has, as asyncio does: `localhost` is usually two.
/// An empty name and `*` mean everywhere, IPv6 and IPv4 on one socket where there is IPv6.
///
/// With port 0 all of them get the port that the first one got, so that there is one to tell.
pub(super) fn bind(host: &str, port: u16, backlog: i32) -> Result<Vec<Listener>, BindError> {
    if host.is_empty() || host == "*" {
        let everywhere = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
        return match listen(everywhere, backlog) {
            Ok((listener, _)) => Ok(vec![listener]),
            Err(error) if is_family_missing(&error) => bind("0.0.0.0", port, backlog),
            Err(error) => Err(explain("*", port, error)),
        };
    }
    let addresses = resolve(host, port)?;
    let mut tries = if port == 0 && addresses.len() > 1 { PORT_TRIES } else { 1 };
    loop {
        tries -= 1;
        match bind_each(host, &addresses, backlog) {
            // The port that was free on the first address is taken on another: take a new one.
            Err(BindError::AddressInUse { .. }) if tries > 0 => {}
            result => return result,
        }
    }
}

/// Listens on all of these; those with port 0 share the first one's port.
pub(super) fn bind_each(
    host: &str,
    addresses: &[SocketAddr],
    backlog: i32,
) -> Result<Vec<Listener>, BindError> {
    let mut listeners = Vec::new();
    let mut chosen = 0;
    let mut skipped = None;
    for &(mut address) in addresses {
        if address.port() == 0 {
            address.set_port(chosen);
        }
        match listen(address, backlog) {
            Ok((listener, bound)) => {
                chosen = bound.port();
                listeners.push(listener);
            }
            // A name may have an address of a family this machine has switched off: `localhost`
            // with `::1` in /etc/hosts inside a container without IPv6. The others still count.
            Err(error) if is_family_missing(&error) => {
                log::debug!(target: "rsgi", "`{host}` is also {address}, not available: {error}");
                skipped = Some(explain(host, address.port(), error));
            }
            Err(error) => return Err(explain(host, address.port(), error)),
        }
    }
    match skipped {
        Some(error) if listeners.is_empty() => Err(error),
        _ => Ok(listeners),
    }
}

/// The addresses of a host, each once, in the resolver's order.
fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, BindError> {
    let found = (host, port)
        .to_socket_addrs()
        .map_err(|source| BindError::Unresolved { host: host.to_owned(), source })?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        let source = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        return Err(BindError::Unresolved { host: host.to_owned(), source });
    }
    Ok(addresses)
}

fn listen(address: SocketAddr, backlog: i32) -> io::Result<(Listener, SocketAddr)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    super::prepare(&socket)?;
    // A restart must not wait for the connections of the last run to leave TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        // `::` serves IPv4 as well, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    let bound = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::InvalidData)?;
    let name = name_of(&socket)?;
    let listener =
        Listener { fd: socket.into(), address: name, kind: ListenerKind::Tcp, file: None };
    Ok((listener, bound))
}

fn is_family_missing(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

fn explain(host: &str, port: u16, source: io::Error) -> BindError {
    let address = match host.parse::<Ipv6Addr>() {
        Ok(v6) => format!("[{v6}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    };
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::AddressInUse { address },
        io::ErrorKind::AddrNotAvailable => BindError::AddressNotAvailable { address },
        io::ErrorKind::PermissionDenied => BindError::PermissionDenied { address },
        _ => BindError::Io { address, source },
    }
}
