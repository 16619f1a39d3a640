//! One HTTP request to a server nearby, for `rsgi status` and `rsgi health`.
//!
//! Blocking, with one deadline for everything and a limit on what is read. Not hyper's client: that
//! would be a second runtime and a connector for one GET. Owns: connecting, the request and
//! telling an HTTP response from anything else.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rsgi_config::BindAddr;

/// What is read of an answer: the document about 255 workers has a tenth of this.
const ANSWER_LIMIT: u64 = 1024 * 1024;

/// What a server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The content, as far as it is text.
    pub content: String,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody can be asked at this address.
    #[error("a descriptor cannot be asked, give --port or --url: `{0}`")]
    Descriptor(BindAddr),
    /// It would take TLS.
    #[error("an encrypted address cannot be asked, give --admin or --url: `{0}`")]
    Encrypted(BindAddr),
    /// Nobody listens there, or what listens does not answer.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// Who was asked.
        address: BindAddr,
        /// What happened.
        source: io::Error,
    },
    /// Something else than HTTP came back.
    #[error("what listens on {0} does not speak HTTP")]
    NotHttp(BindAddr),
}

/// Sends `METHOD path` and reads the answer, all of it within `patience`.
pub fn ask(
    address: &BindAddr,
    method: &str,
    path: &str,
    patience: Duration,
) -> Result<Answer, AskError> {
    let host = match address {
        BindAddr::Fd(_) => return Err(AskError::Descriptor(address.clone())),
        BindAddr::Tls(_) => return Err(AskError::Encrypted(address.clone())),
        BindAddr::Unix { .. } => "localhost".to_owned(),
        BindAddr::Tcp { .. } => address.to_string(),
    };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: rsgi\r\nconnection: close\r\n\r\n"
    );
    let deadline = Instant::now() + patience;
    let answer = exchange(address, request.as_bytes(), deadline).map_err(|source| {
        // What a timeout of the socket is called depends on the call.
        let is_late = source.kind() == io::ErrorKind::WouldBlock;
        let source = if is_late { io::ErrorKind::TimedOut.into() } else { source };
        AskError::Unreachable { address: address.clone(), source }
    })?;
    parse(&answer).ok_or_else(|| AskError::NotHttp(address.clone()))
}

trait Stream: Read + Write {
    fn limit(&self, time: Duration) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn limit(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

impl Stream for UnixStream {
    fn limit(&self, time: Duration) -> io::Result<()> {
        self.set_read_timeout(Some(time))?;
        self.set_write_timeout(Some(time))
    }
}

fn exchange(address: &BindAddr, request: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
    let mut stream: Box<dyn Stream> = match address {
        BindAddr::Tcp { host, port } => Box::new(connect(host, *port, deadline)?),
        BindAddr::Unix { path, .. } => Box::new(connect_unix(path)?),
        BindAddr::Fd(_) | BindAddr::Tls(_) => return Err(io::ErrorKind::Unsupported.into()),
    };
    stream.limit(left(deadline)?)?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while answer.len() as u64 <= ANSWER_LIMIT {
        stream.limit(left(deadline)?)?;
        match stream.read(&mut part) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(part.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // The head says all there is to know; its server may close in its own way.
            Err(_) if parse(&answer).is_some() => break,
            Err(error) => return Err(error),
        }
    }
    Ok(answer)
}

/// What a server that listens everywhere, or on a name, can be reached by.
fn connect(host: &str, port: u16, deadline: Instant) -> io::Result<TcpStream> {
    let host = match host {
        "" | "*" | "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        host => host,
    };
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    let mut failure = io::ErrorKind::NotFound.into();
    for address in addresses {
        match TcpStream::connect_timeout(&address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    match path.to_string_lossy().strip_prefix('@') {
        Some(name) => {
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name)?;
            UnixStream::connect_addr(&address)
        }
        None => UnixStream::connect(path),
    }
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

/// `HTTP/1.1 200 OK`, fields, an empty line, content.
fn parse(answer: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(answer);
    let (head, content) = text.split_once("\r\n\r\n")?;
    let (version, rest) = head.split_once(' ')?;
    let status = rest.get(..3)?.parse().ok()?;
    version.starts_with("HTTP/1.").then(|| Answer { status, content: content.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A server that says `answer` to the first client and closes.
    fn server(answer: &'static [u8]) -> BindAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(answer);
        });
        BindAddr::Tcp { host: "127.0.0.1".to_owned(), port }
    }

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn an_answer_is_read_to_its_end() {
        let address = server(b"HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\nnot\r\n\r\nyet");
        let answer = ask(&address, "GET", "/", PATIENCE).unwrap();
        assert_eq!(answer, Answer { status: 503, content: "not\r\n\r\nyet".to_owned() });
    }

    #[test]
    fn what_is_not_http_is_said_to_be_so() {
        for answer in [&b""[..], b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 \r\n\r\n", b"HTTP/1.1 200 OK\r\n"]
        {
            let error = ask(&server(answer), "GET", "/", PATIENCE).unwrap_err();
            assert!(error.to_string().contains("does not speak HTTP"), "{error}");
        }
    }

    #[test]
    fn an_answer_without_end_is_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        let address = BindAddr::Tcp { host: "127.0.0.1".to_owned(), port };
        let answer = ask(&address, "GET", "/", PATIENCE).unwrap();
        assert!(answer.content.len() as u64 <= ANSWER_LIMIT + 4096);
    }

    #[test]
    fn who_does_not_answer_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "0.0.0.0"] {
            let address = BindAddr::Tcp { host: host.to_owned(), port };
            let error = ask(&address, "GET", "/", Duration::from_millis(50)).unwrap_err();
            assert!(error.to_string().contains("timed out"), "{error}");
        }
    }

    #[test]
    fn nobody_there_is_told_with_the_address() {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = BindAddr::Tcp { host: "127.0.0.1".to_owned(), port };
        let message = ask(&address, "GET", "/", PATIENCE).unwrap_err().to_string();
        assert!(message.starts_with(&format!("cannot reach 127.0.0.1:{port}: ")), "{message}");
        assert!(ask(&BindAddr::Fd(3), "GET", "/", PATIENCE).is_err());
        let address = BindAddr::Tls(Box::new(address));
        let error = ask(&address, "GET", "/", PATIENCE).unwrap_err();
        assert!(matches!(error, AskError::Encrypted(_)), "{error}");
    }

    #[test]
    fn unix_sockets_are_asked_too() {
        use std::os::unix::net::UnixListener;
        let name = format!("rsgi-ask-{}", std::process::id());
        let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
        let listener = UnixListener::bind_addr(&address).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        });
        let address: BindAddr = format!("unix:@{name}").parse().unwrap();
        assert_eq!(ask(&address, "GET", "/", PATIENCE).unwrap().status, 200);
    }
}
