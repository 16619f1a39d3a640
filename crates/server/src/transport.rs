//! What a connection runs over. TLS will be another one.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

/// A byte stream with a client at its end.
pub trait Transport: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Makes the coming close an abortive one, so that a client whose response ends with the
    /// connection can tell that it is not whole.
    fn make_close_abortive(&self) {}
}

impl Transport for tokio::net::TcpStream {
    fn make_close_abortive(&self) {
        // A socket on which this fails is gone already.
        let _ = socket2::SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

impl Transport for tokio::net::UnixStream {}

impl Transport for tokio::io::DuplexStream {}
