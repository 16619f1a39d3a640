//! permessage-deflate (RFC 7692): what is agreed on, and the two directions of it.
//!
//! Owns the bounds on memory: windows of 12 bits where the client lets us choose (as uvicorn does),
//! no context before the first compressed message, and never more output than a message may have.

use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Inflate, InflateFlush, Status};

use super::error::WebSocketError;
use crate::http::head::Field;

/// The window that is asked for: 4 KiB.
const WINDOW_BITS: u8 = 12;
/// The smallest window that zlib compresses a raw stream with.
const MIN_WINDOW_BITS: u8 = 9;
/// 16 KiB for the hash chains, as in websockets and uvicorn.
const MEMORY_LEVEL: i32 = 5;
/// What zlib calls its default; a level of less costs ratio and saves little at windows this small.
const LEVEL: i32 = 6;
/// What ends a flushed block, and is left out on the wire (RFC 7692 section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// How much output is made room for at once.
const STEP: usize = 16 * 1024;
/// A message that has become so long is likely to become much longer. (More than the server has a
/// connection make in its first turn, so that only one of many makes this room at a time.)
const LARGE: usize = 1024 * 1024;
/// Messages below this are sent as they are: compressed or not, they are one packet, and the
/// processor time is the larger cost. (`ws` of Node draws the line at 1024.)
pub const SMALLEST: usize = 256;

/// What a side keeps from one message to the next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Context {
    /// Its window.
    Kept,
    /// Nothing.
    Dropped,
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Agreement {
    /// The server's context.
    pub server: Context,
    /// The server's window.
    pub server_bits: u8,
    /// The client's context.
    pub client: Context,
    /// The client's window, where it offered to be told.
    pub client_bits: Option<u8>,
}

impl Agreement {
    /// Takes the first acceptable offer out of `Sec-WebSocket-Extensions`. What is malformed is
    /// declined, not an error (RFC 7692 section 5.1).
    pub fn negotiate(fields: &[Field<'_>]) -> Option<Self> {
        fields
            .iter()
            .filter(|field| field.name.eq_ignore_ascii_case("sec-websocket-extensions"))
            .flat_map(|field| field.value.split(|&byte| byte == b','))
            .find_map(|offer| Self::accept(std::str::from_utf8(offer).ok()?))
    }

    fn accept(offer: &str) -> Option<Self> {
        let mut parts = offer.split(';').map(str::trim);
        if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
            return None;
        }
        let (mut server, mut client) = (None, None);
        let (mut server_bits, mut client_bits) = (None, None);
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(unquoted(value.trim_start()))),
                None => (part, None),
            };
            let is_new = match (name, value) {
                ("server_no_context_takeover", None) => server.replace(Context::Dropped).is_none(),
                ("client_no_context_takeover", None) => client.replace(Context::Dropped).is_none(),
                ("server_max_window_bits", Some(value)) => {
                    server_bits.replace(window_bits(value)?).is_none()
                }
                ("client_max_window_bits", None) => client_bits.replace(15).is_none(),
                ("client_max_window_bits", Some(value)) => {
                    client_bits.replace(window_bits(value)?).is_none()
                }
                _ => false,
            };
            if !is_new {
                return None;
            }
        }
        let server_bits = server_bits.unwrap_or(15).min(WINDOW_BITS);
        if server_bits < MIN_WINDOW_BITS {
            return None;
        }
        Some(Self {
            server: server.unwrap_or(Context::Kept),
            server_bits,
            client: client.unwrap_or(Context::Kept),
            client_bits: client_bits.map(|bits| bits.min(WINDOW_BITS)),
        })
    }

    /// The value of the answer's `Sec-WebSocket-Extensions`.
    pub fn to_field(self) -> String {
        let mut value = format!("permessage-deflate; server_max_window_bits={}", self.server_bits);
        if let Some(bits) = self.client_bits {
            value.push_str("; client_max_window_bits=");
            value.push_str(itoa::Buffer::new().format(bits));
        }
        if self.server == Context::Dropped {
            value.push_str("; server_no_context_takeover");
        }
        if self.client == Context::Dropped {
            value.push_str("; client_no_context_takeover");
        }
        value
    }
}

fn unquoted(value: &str) -> &str {
    value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value)
}

/// `8` to `15`, without a leading zero (RFC 7692 section 7.1.2).
fn window_bits(value: &str) -> Option<u8> {
    let bits = value.parse().ok().filter(|bits| (8..=15).contains(bits))?;
    (!value.starts_with(['0', '+'])).then_some(bits)
}

/// Compresses the server's messages.
pub struct Compressor {
    stream: Option<Box<Deflate>>,
    bits: u8,
    context: Context,
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compressor").field("bits", &self.bits).finish_non_exhaustive()
    }
}

impl Compressor {
    /// For what was agreed on. Costs nothing until it is used.
    pub fn new(agreement: Agreement) -> Self {
        Self { stream: None, bits: agreement.server_bits, context: agreement.server }
    }

    /// The compressed form of a message; `None` if compressing fails, and then the message goes
    /// out as it is.
    pub fn compress(&mut self, message: &[u8]) -> Option<Vec<u8>> {
        let stream = self.stream.get_or_insert_with(|| {
            Box::new(Deflate::new_with_config(DeflateConfig {
                level: LEVEL,
                window_bits: i32::from(self.bits).saturating_neg(),
                mem_level: MEMORY_LEVEL,
                ..DeflateConfig::default()
            }))
        });
        let compressed = flush(stream, message);
        if self.context == Context::Dropped || compressed.is_none() {
            // With nothing kept, there is no use in holding on to the memory.
            self.stream = None;
        }
        compressed
    }
}

fn flush(stream: &mut Deflate, message: &[u8]) -> Option<Vec<u8>> {
    let mut out = vec![0; message.len().checked_div(2)?.max(64)];
    let (start_in, start_out) = (stream.total_in(), stream.total_out());
    loop {
        let used = usize::try_from(stream.total_in().checked_sub(start_in)?).ok()?;
        let made = usize::try_from(stream.total_out().checked_sub(start_out)?).ok()?;
        let room = out.get_mut(made..)?;
        let before = room.len();
        let status = stream.compress(message.get(used..)?, room, DeflateFlush::SyncFlush).ok()?;
        let made = usize::try_from(stream.total_out().checked_sub(start_out)?).ok()?;
        let used = usize::try_from(stream.total_in().checked_sub(start_in)?).ok()?;
        // A flush is complete once it leaves room behind it (zlib's manual, `deflate`).
        if used == message.len() && made < out.len() {
            out.truncate(made);
            out.truncate(out.strip_suffix(&TAIL)?.len());
            return Some(out);
        }
        if status == Status::BufError && before > 0 && made < out.len() {
            return None;
        }
        out.resize(out.len().checked_add(out.len().max(STEP))?, 0);
    }
}

/// Decompresses the client's messages.
pub(super) struct Decompressor {
    stream: Option<Box<Inflate>>,
    context: Context,
    /// Whether the stream has come to an end of its own, which a message may (RFC 7692 section
    /// 7.2.3.4).
    has_ended: bool,
}

impl std::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decompressor").field("context", &self.context).finish_non_exhaustive()
    }
}

impl Decompressor {
    pub(super) fn new(agreement: Agreement) -> Self {
        Self { stream: None, context: agreement.client, has_ended: false }
    }

    /// Appends what `data` decompresses to. `message` never grows beyond `limit`.
    pub(super) fn push(
        &mut self,
        mut data: &[u8],
        message: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), WebSocketError> {
        // Whatever the client's window, ours holds it: zlib-rs always allocates the largest one.
        let stream = self.stream.get_or_insert_with(|| Box::new(Inflate::new(false, 15)));
        let mut made = message.len();
        loop {
            if self.has_ended && !data.is_empty() {
                stream.reset(false);
                self.has_ended = false;
            }
            if message.len() == made {
                if made > limit {
                    return Err(WebSocketError::TooBig);
                }
                // One byte more than allowed tells a message that is too big from one that fits.
                let step = data.len().saturating_mul(4).clamp(256, STEP).max(made);
                let most = limit.saturating_add(1);
                let length = made.saturating_add(step).min(most);
                if made >= LARGE && length > message.capacity() {
                    // Address space, which becomes memory only as it is filled: growing step by step
                    // would copy it, and hold it twice meanwhile.
                    let room = made.saturating_mul(16).min(most);
                    message.reserve_exact(room.saturating_sub(made));
                }
                message.resize(length, 0);
            }
            let room = message.get_mut(made..).unwrap_or_default();
            let (start_in, start_out) = (stream.total_in(), stream.total_out());
            let status = stream
                .decompress(data, room, InflateFlush::SyncFlush)
                .map_err(|_| WebSocketError::InvalidDeflate)?;
            let used = usize::try_from(stream.total_in().saturating_sub(start_in));
            let new = usize::try_from(stream.total_out().saturating_sub(start_out));
            data = data.get(used.unwrap_or(usize::MAX)..).unwrap_or_default();
            made = made.saturating_add(new.unwrap_or(usize::MAX));
            self.has_ended = status == Status::StreamEnd;
            let is_full = made >= message.len();
            let is_done = data.is_empty() && !is_full;
            if is_done || (status == Status::BufError && !is_full) {
                break;
            }
            if self.has_ended && data.is_empty() {
                break;
            }
        }
        if made > limit {
            return Err(WebSocketError::TooBig);
        }
        message.truncate(made);
        if data.is_empty() { Ok(()) } else { Err(WebSocketError::InvalidDeflate) }
    }

    /// The message is complete.
    pub(super) fn finish(
        &mut self,
        message: &mut Vec<u8>,
        limit: usize,
    ) -> Result<(), WebSocketError> {
        if !self.has_ended {
            self.push(&TAIL, message, limit)?;
        }
        if self.context == Context::Dropped {
            self.stream = None;
            self.has_ended = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiate(offers: &str) -> Option<String> {
        let field = Field { name: "Sec-WebSocket-Extensions", value: offers.as_bytes() };
        Agreement::negotiate(&[field]).map(Agreement::to_field)
    }

    #[test]
    fn the_first_acceptable_offer_is_taken() {
        let plain = "permessage-deflate; server_max_window_bits=12";
        let told = "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12";
        let table = [
            ("permessage-deflate", Some(plain)),
            ("x-webkit-deflate-frame, permessage-deflate", Some(plain)),
            ("permessage-deflate; client_max_window_bits", Some(told)),
            ("Permessage-Deflate ; client_max_window_bits = \"13\"", Some(told)),
            (
                "permessage-deflate; client_max_window_bits=8; server_max_window_bits=9",
                Some("permessage-deflate; server_max_window_bits=9; client_max_window_bits=8"),
            ),
            (
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                Some(
                    "permessage-deflate; server_max_window_bits=12; server_no_context_takeover; \
                     client_no_context_takeover",
                ),
            ),
            ("permessage-deflate; server_max_window_bits=8", None),
            ("permessage-deflate; server_max_window_bits=8, permessage-deflate", Some(plain)),
            ("permessage-deflate; server_max_window_bits", None),
            ("permessage-deflate; server_max_window_bits=16", None),
            ("permessage-deflate; server_max_window_bits=012", None),
            ("permessage-deflate; client_max_window_bits=7", None),
            ("permessage-deflate; client_no_context_takeover=1", None),
            ("permessage-deflate; server_no_context_takeover; server_no_context_takeover", None),
            ("permessage-deflate; unknown", None),
            ("permessage-bzip2", None),
            ("", None),
        ];
        for (offers, answer) in table {
            assert_eq!(negotiate(offers).as_deref(), answer, "{offers}");
        }
    }

    fn agreement(context: Context, bits: u8) -> Agreement {
        Agreement { server: context, server_bits: bits, client: context, client_bits: None }
    }

    fn decompress(stream: &mut Decompressor, data: &[u8], step: usize) -> Vec<u8> {
        let mut message = Vec::new();
        for piece in data.chunks(step) {
            stream.push(piece, &mut message, usize::MAX - 1).unwrap();
        }
        stream.finish(&mut message, usize::MAX - 1).unwrap();
        message
    }

    #[test]
    fn what_is_compressed_comes_back_whatever_the_pieces() {
        let mut noise = Vec::new();
        let mut state = 1_u32;
        for _ in 0..100_000 {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            noise.push(state.to_ne_bytes()[0]);
        }
        let messages = [b"hello hello hello".repeat(50), vec![0; 300_000], noise, b"x".to_vec()];
        for context in [Context::Kept, Context::Dropped] {
            for bits in 9..=15 {
                let agreement = agreement(context, bits);
                for step in [1, 100, usize::MAX] {
                    let mut compressor = Compressor::new(agreement);
                    let mut decompressor = Decompressor::new(agreement);
                    for message in messages.iter().filter(|it| step > 1 || it.len() < 1000) {
                        let data = compressor.compress(message).unwrap();
                        assert!(decompress(&mut decompressor, &data, step) == *message);
                    }
                }
            }
        }
    }

    #[test]
    fn a_kept_context_makes_the_second_message_smaller() {
        let message: Vec<u8> = (0..=255).collect();
        let twice = |context| {
            let mut compressor = Compressor::new(agreement(context, 12));
            [(); 2].map(|()| compressor.compress(&message).unwrap().len())
        };
        let [first, second] = twice(Context::Kept);
        assert!(second < first / 4, "{first} {second}");
        let [first, second] = twice(Context::Dropped);
        assert_eq!(first, second);
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit() {
        let mut compressor = Compressor::new(agreement(Context::Kept, 15));
        let bomb = compressor.compress(&vec![0; 10_000_000]).unwrap();
        let mut message = Vec::new();
        let mut decompressor = Decompressor::new(agreement(Context::Kept, 15));
        let pushed = decompressor.push(&bomb, &mut message, 100_000);
        assert_eq!(pushed, Err(WebSocketError::TooBig));
        assert!(message.capacity() <= 200_002, "{}", message.capacity());

        let mut compressor = Compressor::new(agreement(Context::Dropped, 15));
        let exact = compressor.compress(&vec![0; 100_000]).unwrap();
        let mut decompressor = Decompressor::new(agreement(Context::Dropped, 15));
        let mut message = Vec::new();
        decompressor.push(&exact, &mut message, 100_000).unwrap();
        decompressor.finish(&mut message, 100_000).unwrap();
        assert_eq!(message.len(), 100_000);
    }

    /// The examples of RFC 7692 section 7.2.3.
    #[test]
    fn the_examples_of_the_rfc_are_read() {
        let table: [&[u8]; 5] = [
            &[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00],
            &[0xf2, 0x00, 0x11, 0x00, 0x00],
            &[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00],
            &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00],
            &[0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00],
        ];
        let mut stream = Decompressor::new(agreement(Context::Kept, 15));
        for data in table {
            for step in [1, usize::MAX] {
                // The second refers to the first one's window.
                if data.len() == 5 && step == usize::MAX {
                    continue;
                }
                let message = decompress(&mut stream, data, step);
                assert_eq!(message, b"Hello", "{data:x?}");
            }
        }
    }

    #[test]
    fn what_is_not_deflate_is_refused() {
        let mut stream = Decompressor::new(agreement(Context::Kept, 15));
        let pushed = stream.push(&[0xff; 20], &mut Vec::new(), 1000);
        assert_eq!(pushed, Err(WebSocketError::InvalidDeflate));
    }
}
