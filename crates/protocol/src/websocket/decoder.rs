//! A client's bytes to messages and control frames (RFC 6455 section 5).
//!
//! Works in place: the mask is taken off in the caller's buffer, or left to whoever copies, and a
//! message that came in one piece is lent from there. Only what is fragmented, compressed or larger
//! than a read is put together here, and never beyond the limit.

use std::borrow::Cow;

use super::close::Close;
use super::deflate::{Agreement, Decompressor};
use super::error::WebSocketError;
use super::frame::{Coding, Fin, Header, Kind, Mask, Opcode};
use super::message::{Masked, Message};
use super::utf8::{self, Utf8};

/// What is made room for at once, so that a length that was only announced costs nothing.
const STEP: usize = 64 * 1024;
/// Compressed bytes that are decompressed in one step: at the most (a thousandfold) they make 0.5 MiB.
const INFLATED_AT_ONCE: usize = 512;

/// One client's frames.
#[derive(Debug)]
pub struct Decoder {
    limit: usize,
    /// How many bytes have come of decompressing.
    inflated: usize,
    decompressor: Option<Decompressor>,
    payload: Option<Payload>,
    message: Option<Assembly>,
}

/// What is left of a message's frame.
#[derive(Debug)]
struct Payload {
    left: usize,
    mask: Mask,
    fin: Fin,
}

/// A message of which a part has come.
#[derive(Debug)]
struct Assembly {
    kind: Kind,
    coding: Coding,
    data: Vec<u8>,
    /// Bytes of it on the wire, up to the end of the frame that is being read.
    announced: usize,
    text: Utf8,
}

/// What came of some bytes.
#[derive(Debug)]
pub struct Decoded<'a> {
    /// How many bytes at the start are used up.
    pub used: usize,
    /// What they were, if it is complete.
    pub event: Option<Event<'a>>,
}

/// What a client sent.
#[derive(Debug)]
pub enum Event<'a> {
    /// A whole message.
    Message(Message<'a>),
    /// To be answered with the same payload.
    Ping(&'a [u8]),
    /// The answer to a ping.
    Pong(&'a [u8]),
    /// The last frame.
    Close(Close),
}

impl Decoder {
    /// For messages of at most `limit` bytes.
    pub fn new(limit: usize, deflate: Option<Agreement>) -> Self {
        let decompressor = deflate.map(Decompressor::new);
        Self { limit, decompressor, payload: None, message: None, inflated: 0 }
    }

    /// How many bytes have come of decompressing so far, for whoever has other things to do, too.
    pub fn inflated(&self) -> usize {
        self.inflated
    }

    /// How many bytes of the frame that is being read have not come.
    pub fn missing(&self) -> usize {
        self.payload.as_ref().map_or(0, |payload| payload.left)
    }

    /// Takes the next event out of `input`, or as much as there is of it. What is not used has to
    /// come again, with more behind it; without progress (nothing used, no event) more has to come
    /// first. After an error there is nothing more to decode.
    pub fn decode<'a>(&mut self, input: &'a mut [u8]) -> Result<Decoded<'a>, WebSocketError> {
        let mut used = 0;
        if self.payload.is_none() {
            let Some(header) = Header::read(input)? else {
                return Ok(Decoded { used: 0, event: None });
            };
            let length = usize::try_from(header.length).unwrap_or(usize::MAX);
            let rest = input.len().saturating_sub(header.size);
            match header.opcode {
                Opcode::Message(kind) => {
                    self.begin(kind, &header, length)?;
                    let is_whole = header.fin == Fin::Last && rest >= length;
                    if is_whole && header.coding == Coding::Plain {
                        return self.lend(kind, header, input, length);
                    }
                }
                Opcode::Continuation => self.go_on(&header, length)?,
                control => {
                    if header.coding != Coding::Plain {
                        return Err(WebSocketError::ReservedBit);
                    }
                    if rest < length {
                        return Ok(Decoded { used: 0, event: None });
                    }
                    return control_event(control, header, input, length);
                }
            }
            self.payload = Some(Payload { left: length, mask: header.mask, fin: header.fin });
            used = header.size;
        }
        let (taken, event) = self.assemble(input.get_mut(used..).unwrap_or_default())?;
        Ok(Decoded { used: used.saturating_add(taken), event })
    }

    /// The first frame of a message.
    fn begin(&mut self, kind: Kind, header: &Header, length: usize) -> Result<(), WebSocketError> {
        if self.message.is_some() {
            return Err(WebSocketError::ExpectedContinuation);
        }
        if header.coding == Coding::Deflate && self.decompressor.is_none() {
            return Err(WebSocketError::ReservedBit);
        }
        if length > self.limit {
            return Err(WebSocketError::TooBig);
        }
        self.message = Some(Assembly {
            kind,
            coding: header.coding,
            data: Vec::new(),
            announced: length,
            text: Utf8::default(),
        });
        Ok(())
    }

    fn go_on(&mut self, header: &Header, length: usize) -> Result<(), WebSocketError> {
        let message = self.message.as_mut().ok_or(WebSocketError::UnexpectedContinuation)?;
        if header.coding == Coding::Deflate {
            return Err(WebSocketError::ReservedBit);
        }
        message.announced = message.announced.saturating_add(length);
        if message.announced > self.limit { Err(WebSocketError::TooBig) } else { Ok(()) }
    }

    /// A message that has come whole, in one frame and as it is: nothing is copied.
    fn lend<'a>(
        &mut self,
        kind: Kind,
        mut header: Header,
        input: &'a mut [u8],
        length: usize,
    ) -> Result<Decoded<'a>, WebSocketError> {
        self.message = None;
        let end = header.size.saturating_add(length);
        let payload = input.get_mut(header.size..end).unwrap_or_default();
        let message = match kind {
            Kind::Text => {
                header.mask.apply(payload);
                utf8::check(payload)?;
                Message::Text(Cow::Borrowed(payload))
            }
            Kind::Binary => Message::Masked(Masked::new(payload, header.mask)),
        };
        Ok(Decoded { used: end, event: Some(Event::Message(message)) })
    }

    /// Adds what has come of a frame's payload to its message.
    fn assemble<'a>(
        &mut self,
        input: &mut [u8],
    ) -> Result<(usize, Option<Event<'a>>), WebSocketError> {
        let (Some(payload), Some(message)) = (&mut self.payload, &mut self.message) else {
            return Ok((0, None));
        };
        let mut taken = payload.left.min(input.len());
        if message.coding == Coding::Deflate {
            taken = taken.min(INFLATED_AT_ONCE);
        }
        let data = input.get_mut(..taken).unwrap_or_default();
        payload.mask.apply(data);
        payload.left = payload.left.saturating_sub(taken);
        let is_last = payload.left == 0 && payload.fin == Fin::Last;
        let before = message.data.len();
        match (message.coding, &mut self.decompressor) {
            (Coding::Deflate, Some(decompressor)) => {
                if !data.is_empty() {
                    decompressor.push(data, &mut message.data, self.limit)?;
                }
                if is_last {
                    decompressor.finish(&mut message.data, self.limit)?;
                }
                self.inflated =
                    self.inflated.wrapping_add(message.data.len().saturating_sub(before));
            }
            _ => message.append(data, payload.left),
        }
        if message.kind == Kind::Text {
            message.text.push(message.data.get(before..).unwrap_or_default())?;
        }
        if payload.left == 0 {
            self.payload = None;
        }
        if !is_last {
            return Ok((taken, None));
        }
        let Some(message) = self.message.take() else {
            return Ok((taken, None));
        };
        message.text.finish()?;
        let data = Cow::Owned(message.data);
        let message = match message.kind {
            Kind::Text => Message::Text(data),
            Kind::Binary => Message::Binary(data),
        };
        Ok((taken, Some(Event::Message(message))))
    }
}

impl Assembly {
    /// Adds `data`, of whose frame `left` bytes are still to come.
    fn append(&mut self, data: &[u8], left: usize) {
        if self.data.capacity().saturating_sub(self.data.len()) < data.len() {
            // In the end exactly as much as it needs, but room only for what seems to be coming.
            let coming = left.min(self.data.len().max(STEP));
            self.data.reserve_exact(data.len().saturating_add(coming));
        }
        self.data.extend_from_slice(data);
    }
}

fn control_event(
    opcode: Opcode,
    mut header: Header,
    input: &mut [u8],
    length: usize,
) -> Result<Decoded<'_>, WebSocketError> {
    let end = header.size.saturating_add(length);
    let payload = input.get_mut(header.size..end).unwrap_or_default();
    header.mask.apply(payload);
    let event = match opcode {
        Opcode::Ping => Event::Ping(payload),
        Opcode::Pong => Event::Pong(payload),
        _ => Event::Close(Close::read(payload)?),
    };
    Ok(Decoded { used: end, event: Some(event) })
}
