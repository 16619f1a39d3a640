//! A client that writes frames as it likes.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::time::timeout;

use crate::support::Stage;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// `GET / http://x` in HPACK's static table.
pub(crate) const GET: &[u8] = b"\x82\x84\x86\x41\x01x";

/// One frame (RFC 9113, section 4.1).
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// The client's end of a connection.
pub(crate) struct Raw {
    io: DuplexStream,
}

impl Raw {
    pub(crate) fn silent(stage: &Stage) -> Self {
        Self { io: stage.wire_over(64 * 1024) }
    }

    /// Has sent its preface and its settings.
    pub(crate) async fn new(stage: &Stage) -> Self {
        let mut raw = Self::silent(stage);
        assert!(raw.send(PREFACE).await && raw.send(&frame(SETTINGS, 0, 0, &[])).await);
        raw
    }

    /// Sends all of it; returns whether the server took it.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> bool {
        let sent = timeout(Duration::from_secs(1), self.io.write_all(bytes)).await;
        matches!(sent, Ok(Ok(())))
    }

    /// Everything up to the end of the connection, which has to come, as frames.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut read = Vec::new();
        let end = timeout(Duration::from_secs(600), self.io.read_to_end(&mut read)).await;
        end.expect("the server closes").expect("a duplex stream cannot fail");
        let mut rest = read.as_slice();
        let mut frames = Vec::new();
        while let Some((head, behind)) = rest.split_at_checked(9) {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let (payload, behind) = behind.split_at(length);
            frames.push(Frame { kind: head[3], stream, payload: payload.to_vec() });
            rest = behind;
        }
        frames
    }

    /// The error code of the GOAWAY that ends the connection.
    pub(crate) async fn last_words(&mut self) -> Option<u32> {
        let frames = self.rest().await;
        let goaway = frames.into_iter().rfind(|frame| frame.kind == GOAWAY)?;
        Some(u32::from_be_bytes(goaway.payload[4..8].try_into().expect("four bytes")))
    }
}
