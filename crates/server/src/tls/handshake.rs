//! The handshake of one connection, in a task of its own that ends with it.
//!
//! ```text
//!   accepted ──► first bytes ──► ClientHello ──► certificate chosen ──► keys agreed ──► served
//!                    │                │                 │
//!                    ▼                ▼                 ▼
//!               plain HTTP: 400    an alert, one line in the log, closed
//! ```

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use super::info::TlsInfo;
use super::{Choice, Tls};
use crate::connections::Entry;
use crate::http1::ConnectionTask;
use crate::http2::Http2Connection;
use crate::metered::Metered;
use crate::opening::{read_some, until_cut};
use crate::service::{App, ConnectionInfo};
use crate::transport::Transport;

/// What is read at once; rustls takes no more of a handshake at a time.
const READ: usize = 4096;
/// How long, and how much, a client that does not speak TLS may go on sending.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
const LINGER_LIMIT: usize = 64 * 1024;
/// The first byte of a handshake (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
/// The name of HTTP/2 in a handshake (RFC 9113 section 3.2).
const HTTP2: &[u8] = b"h2";
/// What somebody reads who has forgotten the `s` of `https://`.
const PLAIN_HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    content-length: 59\r\n\
    connection: close\r\n\
    \r\n\
    This port speaks TLS: use https:// in front of the address.";

/// Why no connection came of it.
enum Failure {
    /// The client left without having said anything, as a port scan or a health check does, or the
    /// server stops.
    Silent,
    /// It speaks something else.
    Plain,
    /// It was not quick enough.
    Late,
    /// The two did not agree.
    Broken(io::Error),
}

/// Serves one connection once it is encrypted.
/// `rest` has been read from the client already.
pub(crate) fn serve<T, A>(
    io: T,
    rest: BytesMut,
    entry: Entry<A>,
    tls: &Arc<Tls>,
    info: ConnectionInfo,
) where
    T: Transport,
    A: App,
{
    let tls = Arc::clone(tls);
    // Ends in time by itself; a shutdown that has run out of time reaches it through the list of
    // connections.
    drop(tokio::spawn(async move {
        let agreed = until_cut(
            &entry,
            timeout(tls.options.handshake_timeout, agree(io, rest, &tls, &entry)),
        );
        let failure = match agreed.await {
            None => return,
            Some(Ok(Ok((stream, choice)))) => {
                let tls = TlsInfo::new(stream.get_ref().1, &choice.certified);
                let is_http2 = tls.protocol.as_deref() == Some(HTTP2);
                let info = ConnectionInfo { tls: Some(Arc::new(tls)), ..info };
                let stream = Metered::new(stream, entry.service.telemetry());
                // In a task of its own: it lives longer, and does not need a handshake's room.
                if is_http2 {
                    drop(tokio::spawn(Http2Connection::new(stream, entry, info)));
                } else {
                    let task = ConnectionTask::new(stream, BytesMut::new(), entry, info);
                    drop(tokio::spawn(task));
                }
                return;
            }
            Some(Ok(Err(failure))) => failure,
            Some(Err(_)) => Failure::Late,
        };
        report(&tls, &info, &failure);
    }));
}

fn report(tls: &Tls, peer: &ConnectionInfo, failure: &Failure) {
    let reason = match failure {
        Failure::Silent => return log::debug!("{peer} left without a TLS handshake"),
        Failure::Plain => "it does not speak TLS".to_owned(),
        Failure::Late => "it took too long".to_owned(),
        Failure::Broken(error) => error.to_string(),
    };
    tls.failures.report_handshake(peer, &reason, Instant::now());
}

/// The handshake. An application protocol that both know is chosen in it.
async fn agree<T: Transport, A: App>(
    mut io: T,
    rest: BytesMut,
    tls: &Tls,
    entry: &Entry<A>,
) -> Result<(TlsStream<T>, Arc<Choice>), Failure> {
    let accepted = match hello(&mut io, &rest, entry).await {
        Ok(accepted) => accepted,
        Err(Failure::Plain) => {
            answer_plainly(&mut io).await;
            return Err(Failure::Plain);
        }
        Err(failure) => return Err(failure),
    };
    let choice = tls.choose(&accepted.client_hello()).ok_or(Failure::Silent)?;
    let handshake =
        StartHandshake::from_parts(accepted, io).into_stream(Arc::clone(&choice.config));
    let stream = handshake.await.map_err(Failure::Broken)?;
    Ok((stream, choice))
}

/// Reads a client's first message.
async fn hello<T: Transport, A: App>(
    io: &mut T,
    rest: &[u8],
    entry: &Entry<A>,
) -> Result<Accepted, Failure> {
    let mut acceptor = Acceptor::default();
    let mut is_first = true;
    loop {
        let mut space = [0; READ];
        let mut bytes = if is_first && !rest.is_empty() {
            rest
        } else {
            let count = match read_some(io, entry, &mut space, is_first).await {
                Ok(0) | Err(_) if is_first => return Err(Failure::Silent),
                Ok(0) => return Err(Failure::Broken(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => count,
                Err(error) => return Err(Failure::Broken(error)),
            };
            space.get(..count).unwrap_or_default()
        };
        if is_first && bytes.first() != Some(&HANDSHAKE) {
            let is_method = bytes.first().is_some_and(u8::is_ascii_uppercase);
            let unknown = || io::Error::new(io::ErrorKind::InvalidData, "it does not speak TLS");
            return Err(if is_method { Failure::Plain } else { Failure::Broken(unknown()) });
        }
        is_first = false;
        while !bytes.is_empty() {
            acceptor.read_tls(&mut bytes).map_err(Failure::Broken)?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) if bytes.is_empty() => return Ok(accepted),
                // rustls has taken all that fits beside a hello, which is more than was read.
                Ok(Some(_)) => return Err(Failure::Broken(io::ErrorKind::InvalidData.into())),
                Err((error, mut alert)) => {
                    let mut bytes = Vec::new();
                    if alert.write_all(&mut bytes).is_ok() {
                        let _ = io.write_all(&bytes).await;
                        let _ = io.shutdown().await;
                    }
                    return Err(Failure::Broken(io::Error::new(io::ErrorKind::InvalidData, error)));
                }
            }
        }
    }
}

/// Says what is wrong, and reads on for a moment: closing at once would take the answer back.
async fn answer_plainly<T: Transport>(io: &mut T) {
    let answer = async {
        io.write_all(PLAIN_HTTP).await?;
        io.shutdown().await?;
        let mut left = LINGER_LIMIT;
        let mut space = [0; READ];
        while left > 0 {
            match io.read(&mut space).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        io::Result::Ok(())
    };
    // A client that does not listen has been told.
    let _ = timeout(LINGER_TIMEOUT, answer).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_answer_has_the_length_it_says() {
        let text = std::str::from_utf8(PLAIN_HTTP).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }
}
