//! The PROXY protocol on a new connection: from a trusted peer the header comes first, or nothing does.

use std::io;

use bytes::{Buf, BytesMut};
use rsgi_protocol::forwarded::{Peer, Trust};
use rsgi_protocol::proxy_header::{ProxyHeader, ProxyHeaderError, Versions, parse};
use tokio::time::{Instant, timeout};

use crate::connections::Entry;
use crate::opening::{read_some, until_cut};
use crate::service::{App, ConnectionInfo};
use crate::transport::Transport;

/// What is read at once: a header, and what its proxy has sent with it. What belongs to the protocol
/// behind it is handed on.
const READ: usize = 512;

/// From whom headers are taken. Others speak for themselves: a header is nonsense to the protocol that
/// they have to begin with.
#[derive(Debug, Clone)]
pub struct ProxyProtocol {
    /// Which versions are taken.
    pub versions: Versions,
    /// Who has to send a header.
    pub trust: Trust,
}

/// Why no connection came of it.
enum Failure {
    /// The proxy left without having said anything, or the server stops.
    Silent,
    Late,
    Malformed(ProxyHeaderError),
    Lost(io::Error),
}

/// A connection whose header has been read.
pub(crate) struct Received {
    /// What has been read behind the header.
    pub(crate) rest: BytesMut,
    pub(crate) info: ConnectionInfo,
    pub(crate) peer: Peer,
}

impl ProxyProtocol {
    /// Waits for the header; nothing if the connection has to be closed, which has been logged then.
    pub(crate) async fn receive<T: Transport, A: App>(
        &self,
        io: &mut T,
        entry: &Entry<A>,
        info: ConnectionInfo,
        peer: Peer,
    ) -> Option<Received> {
        let patience = entry.service.options.head_timeout;
        let read = timeout(patience, self.read(io, entry));
        let failure = match until_cut(entry, read).await? {
            Ok(Ok((header, rest))) => {
                let (info, peer) = info.proxied(header, peer);
                return Some(Received { rest, info, peer });
            }
            Ok(Err(failure)) => failure,
            Err(_) => Failure::Late,
        };
        let reason = match failure {
            Failure::Silent => {
                log::debug!("{info} left without a PROXY header");
                return None;
            }
            Failure::Late => "it took too long".to_owned(),
            Failure::Malformed(error) => error.to_string(),
            Failure::Lost(error) => error.to_string(),
        };
        entry.service.rejections.report_proxy(&info, &reason, Instant::now());
        None
    }

    async fn read<T: Transport, A: App>(
        &self,
        io: &mut T,
        entry: &Entry<A>,
    ) -> Result<(ProxyHeader, BytesMut), Failure> {
        let mut read = BytesMut::new();
        loop {
            let mut space = [0; READ];
            let is_first = read.is_empty();
            let count = match read_some(io, entry, &mut space, is_first).await {
                Ok(0) | Err(_) if is_first => return Err(Failure::Silent),
                Ok(0) => return Err(Failure::Lost(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(error) => return Err(Failure::Lost(error)),
            };
            read.extend_from_slice(space.get(..count).unwrap_or_default());
            if let Some((header, length)) =
                parse(&read, self.versions).map_err(Failure::Malformed)?
            {
                read.advance(length);
                return Ok((header, read));
            }
        }
    }
}
