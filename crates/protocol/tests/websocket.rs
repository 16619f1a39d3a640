//! The WebSocket decoder, read with frames that a client makes: tables of what is right and wrong,
//! and properties for everything in between.

#![expect(clippy::unwrap_used, reason = "helpers of tests, too, fail by panicking")]

use proptest::collection::vec;
use proptest::prelude::*;
use rsgi_protocol::fuzzing::{self, Frame, compression, read_frames};
use rsgi_protocol::websocket::deflate::Compressor;
use rsgi_protocol::websocket::{Close, Decoder, Kind, WebSocketError};

const LIMIT: usize = 1 << 20;
const MASK: [u8; 4] = [0x12, 0xf0, 0x55, 0xaa];

const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | u8::try_from(short).unwrap()),
        medium @ 126..=0xffff => {
            frame.push(0xfe);
            frame.extend_from_slice(&u16::try_from(medium).unwrap().to_be_bytes());
        }
        long => {
            frame.push(0xff);
            frame.extend_from_slice(&u64::try_from(long).unwrap().to_be_bytes());
        }
    }
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    frame
}

fn text(text: &str) -> Frame {
    Frame::Message(Kind::Text, text.as_bytes().to_vec())
}

fn read(bytes: &[u8]) -> Vec<Frame> {
    read_frames([bytes], LIMIT, None)
}

/// The error that the bytes end with, and how many of them are needed to see it.
fn error(frames: &[Vec<u8>], limit: usize) -> Option<(WebSocketError, usize)> {
    let bytes = frames.concat();
    let mut decoder = Decoder::new(limit, compression());
    let mut pending = Vec::new();
    for (at, byte) in bytes.iter().enumerate() {
        pending.push(*byte);
        match decoder.decode(&mut pending) {
            Ok(decoded) => {
                let used = decoded.used;
                pending.drain(..used);
            }
            Err(error) => return Some((error, at + 1)),
        }
    }
    None
}

#[test]
fn messages_are_put_together_around_control_frames() {
    let bytes = [
        frame(TEXT, b"He"),
        frame(FIN | PING, b"1"),
        frame(CONTINUATION, b""),
        frame(FIN | PONG, b"2"),
        frame(CONTINUATION, b"l"),
        frame(FIN | CONTINUATION, b"lo"),
        frame(FIN | BINARY, &[0xff; 126]),
        frame(FIN | TEXT, b""),
        frame(FIN | CLOSE, b"\x03\xe8bye"),
        frame(FIN | TEXT, b"ignored"),
    ]
    .concat();
    let expected = [
        Frame::Ping(b"1".to_vec()),
        Frame::Pong(b"2".to_vec()),
        text("Hello"),
        Frame::Message(Kind::Binary, vec![0xff; 126]),
        text(""),
        Frame::Close(Close::with_reason(1000, "bye")),
    ];
    assert_eq!(read(&bytes), expected);
    assert_eq!(read_frames(bytes.chunks(1), LIMIT, None), expected);
}

#[test]
fn mistakes_are_seen_as_soon_as_they_can_be() {
    use WebSocketError as E;
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    let table: [(&str, Vec<Vec<u8>>, E, usize); 15] = [
        ("RSV2", vec![vec![0xa1]], E::ReservedBit, 1),
        ("RSV1 on a ping", vec![frame(FIN | RSV1 | PING, b"")], E::ReservedBit, 6),
        (
            "RSV1 on a continuation",
            vec![frame(TEXT, b""), frame(FIN | RSV1 | CONTINUATION, b"")],
            E::ReservedBit,
            12,
        ),
        ("opcode", vec![vec![0x83]], E::ReservedOpcode, 1),
        ("control in fragments", vec![vec![PING]], E::FragmentedControl, 1),
        ("long control", vec![vec![FIN | PING, 0xfe]], E::ControlTooLong, 2),
        ("unmasked", vec![vec![FIN | TEXT, 1]], E::NotMasked, 2),
        ("lone continuation", vec![frame(FIN, b"x")], E::UnexpectedContinuation, 6),
        ("two messages", vec![frame(TEXT, b""), frame(TEXT, b"")], E::ExpectedContinuation, 12),
        ("half a close code", vec![frame(FIN | CLOSE, b"\x03")], E::InvalidCloseCode, 7),
        ("reserved close code", vec![frame(FIN | CLOSE, b"\x03\xed")], E::InvalidCloseCode, 8),
        ("close reason", vec![frame(FIN | CLOSE, b"\x03\xe8\xff")], E::InvalidUtf8, 9),
        // The third byte can never become a character, though most of the frame is to come.
        (
            "text",
            vec![half(frame(FIN | TEXT, b"\xce\xba\xf4\x90xxxxxxxxxxxxxxxx"))],
            E::InvalidUtf8,
            10,
        ),
        ("text in fragments", vec![frame(TEXT, b"\xe2"), frame(FIN, b"\x82")], E::InvalidUtf8, 14),
        ("a length", vec![frame(FIN | BINARY, &[0; 5001])[..8].to_vec()], E::TooBig, 8),
    ];
    for (what, frames, expected, at) in table {
        assert_eq!(error(&frames, 5000), Some((expected, at)), "{what}");
    }
}

#[test]
fn the_limit_is_that_of_the_whole_message() {
    let parts = |last: usize| {
        vec![frame(BINARY, &[0; 3000]), frame(FIN | PING, b""), frame(FIN, &vec![0; last])]
    };
    assert_eq!(error(&parts(2000), 5000), None);
    assert_eq!(error(&parts(2001), 5000).unwrap().0, WebSocketError::TooBig);
    // Compressed, both sizes count.
    let mut compressor = Compressor::new(compression().unwrap());
    let data = compressor.compress(&[0; 5001]).unwrap();
    let bomb = [frame(FIN | RSV1 | BINARY, &data)];
    assert_eq!(error(&bomb, 5000).unwrap().0, WebSocketError::TooBig);
    assert_eq!(error(&bomb, 5001), None);
}

#[test]
fn a_length_that_is_only_announced_takes_no_memory() {
    let mut decoder = Decoder::new(usize::MAX / 2, None);
    let mut start = frame(FIN | BINARY, &vec![1; 100_000]);
    start.splice(2..10, (1_u64 << 40).to_be_bytes());
    // Reserving a tebibyte would end the process.
    assert!(decoder.decode(&mut start).unwrap().event.is_none());
}

#[test]
fn compression_needs_an_agreement() {
    let mut compressor = Compressor::new(compression().unwrap());
    let data = compressor.compress("compressed ".repeat(50).as_bytes()).unwrap();
    let bytes = frame(FIN | RSV1 | TEXT, &data);
    assert_eq!(read(&bytes), [Frame::Refused]);
    let expected = [text(&"compressed ".repeat(50))];
    assert_eq!(read_frames([&bytes[..]], LIMIT, compression()), expected);
    assert_eq!(read_frames(bytes.chunks(1), LIMIT, compression()), expected);
}

/// A message in fragments, with pings between them.
#[derive(Debug, Clone)]
struct Sent {
    kind: Kind,
    data: Vec<u8>,
    cuts: Vec<prop::sample::Index>,
    compressed: bool,
}

impl Sent {
    fn frames(&self, compressor: &mut Compressor) -> Vec<u8> {
        let data = if self.compressed {
            compressor.compress(&self.data).unwrap()
        } else {
            self.data.clone()
        };
        let mut cuts: Vec<usize> = self.cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
        cuts.sort_unstable();
        cuts.push(data.len());
        let last = cuts.len() - 1;
        let (mut frames, mut start) = (Vec::new(), 0);
        for (number, end) in cuts.into_iter().enumerate() {
            let opcode = match (number, self.kind) {
                (0, Kind::Text) => TEXT,
                (0, Kind::Binary) => BINARY,
                _ => CONTINUATION,
            };
            let fin = if number == last { FIN } else { 0 };
            let rsv1 = if self.compressed && number == 0 { RSV1 } else { 0 };
            frames.extend(frame(fin | rsv1 | opcode, &data[start..end]));
            frames.extend(frame(FIN | PING, b"between"));
            start = end;
        }
        frames
    }
}

fn sent() -> impl Strategy<Value = Sent> {
    let data = prop_oneof![
        any::<String>().prop_map(|text| (Kind::Text, text.into_bytes())),
        vec(any::<u8>(), 0..300).prop_map(|data| (Kind::Binary, data)),
        (0..40_000_usize).prop_map(|length| (Kind::Binary, vec![b'x'; length])),
    ];
    (data, vec(any::<prop::sample::Index>(), 0..4), any::<bool>()).prop_map(
        |((kind, data), cuts, compressed)| {
            // Flushing nothing makes nothing: such a message is always sent as it is.
            let compressed = compressed && !data.is_empty();
            Sent { kind, data, cuts, compressed }
        },
    )
}

proptest! {
    #[test]
    fn whatever_is_sent_arrives_however_it_is_cut(
        messages in vec(sent(), 1..5),
        cuts in vec(any::<prop::sample::Index>(), 0..5),
    ) {
        let mut compressor = Compressor::new(compression().unwrap());
        let bytes: Vec<u8> =
            messages.iter().flat_map(|message| message.frames(&mut compressor)).collect();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len())).collect();
        cuts.sort_unstable();
        let mut parts = Vec::new();
        let mut start = 0;
        for cut in cuts.into_iter().chain([bytes.len()]) {
            parts.push(&bytes[start..cut]);
            start = cut;
        }
        let frames = read_frames(parts, LIMIT, compression());
        let received: Vec<_> =
            frames.into_iter().filter(|frame| *frame != Frame::Ping(b"between".to_vec())).collect();
        let expected: Vec<_> =
            messages.into_iter().map(|sent| Frame::Message(sent.kind, sent.data)).collect();
        prop_assert_eq!(received, expected);
    }

    #[test]
    fn any_bytes_are_read_the_same_in_pieces(bytes in vec(any::<u8>(), 0..300)) {
        fuzzing::websocket(&bytes);
    }

    #[test]
    fn one_changed_byte_never_panics(
        message in sent(),
        at in any::<prop::sample::Index>(),
        byte: u8,
    ) {
        let mut compressor = Compressor::new(compression().unwrap());
        let mut bytes = message.frames(&mut compressor);
        bytes.truncate(2000);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        fuzzing::websocket(&bytes);
    }
}
