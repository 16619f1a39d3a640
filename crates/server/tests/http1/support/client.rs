//! A client that reads strictly: what it does not expect fails the test.

use std::str;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

/// A server that has something to say, or room for more, does not wait: time is paused, and only
/// stands still for work.
const PATIENCE: Duration = Duration::from_secs(1);
/// An end may have to wait for the server's deadlines; none is longer.
const PATIENCE_FOR_THE_END: Duration = Duration::from_secs(600);

/// The client's end of a connection.
pub(crate) struct Client {
    io: DuplexStream,
    buffer: Vec<u8>,
}

/// A response, or the head of one.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, String)>,
    pub(crate) content: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Message {
    /// The value of the one field with this name.
    #[track_caller]
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(other, _)| other == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} is there twice: {self:?}");
        value
    }

    /// Whether the connection ends with this response.
    #[track_caller]
    pub(crate) fn closes(&self) -> bool {
        self.field("connection") == Some("close")
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.content).expect("tests send text")
    }
}

impl Client {
    pub(super) fn new(io: DuplexStream) -> Self {
        Self { io, buffer: Vec::new() }
    }

    /// Sends all of it.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let sent = timeout(PATIENCE, self.io.write_all(bytes.as_ref())).await;
        sent.expect("the server reads").expect("the server is there");
    }

    /// Sends as much as is taken now; returns how much that was.
    pub(crate) async fn send_what_is_taken(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match timeout(Duration::from_millis(1), self.io.write(rest)).await {
                Ok(count) => sent += count.expect("the server is there"),
                Err(_) => break,
            }
        }
        sent
    }

    /// Sends as long as the server is there.
    pub(crate) async fn send_until_closed(&mut self, bytes: &[u8]) {
        let sent = timeout(PATIENCE, self.io.write_all(bytes)).await;
        // An error is what the server's end looks like.
        drop(sent.expect("the server reads or closes"));
    }

    /// Has no more to send, and says so.
    pub(crate) async fn finish_sending(&mut self) {
        self.io.shutdown().await.expect("a duplex stream can always be shut down");
    }

    /// Reads one response to a request that was not HEAD. Interim responses count as one each.
    pub(crate) async fn response(&mut self) -> Message {
        let mut message = self.head().await;
        if message.status < 200 || matches!(message.status, 204 | 304) {
            return message;
        }
        if let Some(length) = message.field("content-length") {
            let length = length.parse().expect("a length");
            assert_eq!(message.field("transfer-encoding"), None, "one framing");
            message.content = self.exactly(length).await;
        } else if message.field("transfer-encoding") == Some("chunked") {
            loop {
                let chunk = self.chunk().await;
                if chunk.is_empty() {
                    break;
                }
                message.content.extend_from_slice(&chunk);
            }
            message.trailers = self.fields().await;
        } else {
            assert!(message.closes(), "a response without an end: {message:?}");
            message.content = self.rest().await;
        }
        message
    }

    /// Reads a head and nothing behind it.
    pub(crate) async fn head(&mut self) -> Message {
        let line = self.line().await;
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or_else(|| panic!("no status line: {line:?}"));
        let fields = self.fields().await;
        Message { status, fields, content: Vec::new(), trailers: Vec::new() }
    }

    async fn fields(&mut self) -> Vec<(String, String)> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await;
            if line.is_empty() {
                return fields;
            }
            let (name, value) = line.split_once(": ").expect("a field");
            fields.push((name.to_owned(), value.to_owned()));
        }
    }

    /// Reads one chunk; the last one is empty, and its trailer section is left where it is.
    pub(crate) async fn chunk(&mut self) -> Vec<u8> {
        let line = self.line().await;
        let size = usize::from_str_radix(&line, 16).expect("a chunk size");
        if size == 0 {
            return Vec::new();
        }
        let data = self.exactly(size).await;
        assert_eq!(self.line().await, "", "a line end behind the chunk");
        data
    }

    async fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.drain(..at + 2).take(at).collect();
                return String::from_utf8(line).expect("tests send text");
            }
            self.fill().await;
        }
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            self.fill().await;
        }
        self.buffer.drain(..length).collect()
    }

    async fn fill(&mut self) {
        let count = timeout(PATIENCE, self.io.read_buf(&mut self.buffer)).await;
        let count = count.expect("the server goes on").expect("a duplex stream cannot fail");
        assert_ne!(count, 0, "closed behind {:?}", String::from_utf8_lossy(&self.buffer));
    }

    /// Everything up to the end of the connection, which has to come.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let end = timeout(PATIENCE_FOR_THE_END, self.io.read_to_end(&mut self.buffer)).await;
        end.expect("the server closes").expect("a duplex stream cannot fail");
        std::mem::take(&mut self.buffer)
    }

    /// Asserts that the server closes without another byte.
    pub(crate) async fn is_closed(&mut self) {
        let rest = self.rest().await;
        assert_eq!(String::from_utf8_lossy(&rest), "", "nothing before the end");
    }

    /// Asserts that the server neither sends anything nor closes while nothing else happens.
    pub(crate) async fn hears_nothing(&mut self) {
        assert_eq!(String::from_utf8_lossy(&self.buffer), "", "nothing is left over");
        let read = timeout(Duration::from_millis(1), self.io.read_buf(&mut self.buffer)).await;
        assert!(read.is_err(), "{read:?}: {:?}", String::from_utf8_lossy(&self.buffer));
    }

    /// Takes what the server has sent by now, `limit` bytes at most.
    pub(crate) async fn take_what_is_there(&mut self, limit: usize) -> Vec<u8> {
        while self.buffer.len() < limit {
            let read = self.io.read_buf(&mut self.buffer);
            match timeout(Duration::from_millis(1), read).await {
                Ok(Ok(1..)) => {}
                Ok(Ok(0) | Err(_)) | Err(_) => break,
            }
        }
        let count = self.buffer.len().min(limit);
        self.buffer.drain(..count).collect()
    }
}
