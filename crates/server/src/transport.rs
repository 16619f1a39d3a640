//! What a connection runs over: a socket, or TLS over one.

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

impl<T: Transport> Transport for tokio_rustls::server::TlsStream<T> {
    fn make_close_abortive(&self) {
        self.get_ref().0.make_close_abortive();
    }
}
