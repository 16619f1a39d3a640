//! The invariants of the WebSocket decoder.

use crate::http::head::Field;
use crate::websocket::deflate::Agreement;
use crate::websocket::{Close, Decoder, Event, Kind};

/// What a client sent, owned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Frame {
    /// A message.
    Message(Kind, Vec<u8>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The end.
    Close(Close),
    /// The end, too: the rules were broken here.
    Refused,
}

/// What is agreed on with a client that offers compression.
pub fn compression() -> Option<Agreement> {
    let value = b"permessage-deflate; client_max_window_bits";
    Agreement::negotiate(&[Field { name: "sec-websocket-extensions", value }])
}

/// Reads frames from bytes that arrive in `parts`, as a connection would, up to the first close
/// frame or mistake.
pub fn read_frames<'a>(
    parts: impl IntoIterator<Item = &'a [u8]>,
    limit: usize,
    deflate: Option<Agreement>,
) -> Vec<Frame> {
    let mut decoder = Decoder::new(limit, deflate);
    let (mut buffer, mut frames) = (Vec::new(), Vec::new());
    for part in parts {
        buffer.extend_from_slice(part);
        let mut used = 0_usize;
        while let Some(rest) = buffer.get_mut(used..).filter(|rest| !rest.is_empty()) {
            let Ok(decoded) = decoder.decode(rest) else {
                frames.push(Frame::Refused);
                return frames;
            };
            if decoded.used == 0 {
                assert!(decoded.event.is_none(), "an event out of nothing");
                break;
            }
            used = used.saturating_add(decoded.used);
            match decoded.event {
                Some(Event::Message(message)) => {
                    let kind = message.kind();
                    let data = message.into_data();
                    assert!(data.len() <= limit, "a message beyond the limit");
                    assert!(
                        kind == Kind::Binary || std::str::from_utf8(&data).is_ok(),
                        "a text that is none"
                    );
                    frames.push(Frame::Message(kind, data.into_owned()));
                }
                Some(Event::Ping(payload)) => frames.push(Frame::Ping(payload.to_vec())),
                Some(Event::Pong(payload)) => frames.push(Frame::Pong(payload.to_vec())),
                Some(Event::Close(close)) => {
                    frames.push(Frame::Close(close));
                    return frames;
                }
                None => {}
            }
        }
        buffer.drain(..used);
        // A header and a control frame's payload are all that has to wait for more.
        assert!(buffer.len() < 14 + 125, "bytes pile up");
    }
    frames
}

/// The same frames come out however the bytes are split, within the limit, with and without
/// compression.
pub fn websocket(bytes: &[u8]) {
    for deflate in [None, compression()] {
        let whole = read_frames([bytes], 10_000, deflate);
        assert_eq!(read_frames(bytes.chunks(1), 10_000, deflate), whole, "byte by byte");
        let (first, second) = bytes.split_at(bytes.len() / 2);
        assert_eq!(read_frames([first, second], 10_000, deflate), whole, "in two halves");
    }
}
