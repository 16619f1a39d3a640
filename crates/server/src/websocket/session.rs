//! An open WebSocket from the connection's side: frames in, frames out, pings, and the end.
//!
//! ```text
//!        the server stops          the application is done, or out of time
//!  Open ─────────────────► Draining ─────────────────────────────────────► Closing
//!    │                        │        close frame sent, client's awaited     │
//!    │ the client closes, breaks the rules, does not answer a ping, or leaves  │
//!    └────────────────────────┴───────────► Over ◄────────────────────────────┘
//! ```
//!
//! Works on bytes and moments. Must not know what carries them.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use rsgi_protocol::websocket::close::{self, Close};
use rsgi_protocol::websocket::deflate::Agreement;
use rsgi_protocol::websocket::frame::{Coding, Opcode, encode_header};
use rsgi_protocol::websocket::{Decoder, Event, Message, WebSocketError};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::WebSocketOptions;
use super::shared::{Content, Kept, Taken, WebSocket};
use super::turnstile::Inflation;
use crate::http1::write_queue::WriteQueue;

/// How long the client's close frame is awaited, as in uvicorn.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What is decompressed before other connections get their turn: with the step that passes it less
/// than a millisecond's work.
const INFLATED_IN_A_ROW: usize = 256 * 1024;

/// One open WebSocket.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) websocket: Arc<WebSocket>,
    decoder: Decoder,
    phase: Phase,
    ping: Ping,
    /// How long the last message was.
    last_length: usize,
    /// How many have been sent.
    pings: u32,
    interval: Option<Duration>,
    timeout: Option<Duration>,
    grace: Duration,
    log: Log,
    is_laden: bool,
    pub(super) inflation: Inflation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Draining { until: Instant },
    Closing { until: Instant },
    Over(End),
}

/// How the connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing more will come.
    Clean,
    /// The client may still be sending.
    Linger,
}

/// Where the keep-alive stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ping {
    Off,
    Due { at: Instant },
    Sent { payload: [u8; 4], at: Instant, until: Instant },
}

/// Whether opening and closing are logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    Lines,
    Nothing,
}

impl Session {
    pub(crate) fn new(
        websocket: Arc<WebSocket>,
        options: &WebSocketOptions,
        deflate: Option<Agreement>,
        log: Log,
        now: Instant,
    ) -> Self {
        if log == Log::Lines {
            log::info!("connection open");
        }
        let mut session = Self {
            websocket,
            decoder: Decoder::new(options.max_size, deflate),
            phase: Phase::Open,
            ping: Ping::Off,
            last_length: 0,
            pings: 0,
            interval: options.ping_interval,
            timeout: options.ping_timeout,
            grace: options.drain_grace,
            log,
            is_laden: false,
            inflation: Inflation::default(),
        };
        session.schedule_ping(now, now);
        session
    }

    /// Moves what the application has sent to `out`.
    pub(crate) fn take(&mut self, out: &mut WriteQueue, now: impl FnOnce() -> Instant) {
        if matches!(self.phase, Phase::Over(_)) {
            return;
        }
        let is_closing = matches!(self.phase, Phase::Closing { .. });
        if self.websocket.take(out) == Taken::Closed && !is_closing {
            self.phase = Phase::Closing { until: now() + CLOSE_TIMEOUT };
        }
    }

    /// Whether messages go both ways, and nothing has to be seen to.
    pub(crate) fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// How the connection is to end, once it is.
    pub(crate) fn end(&self) -> Option<End> {
        match self.phase {
            Phase::Over(end) => Some(end),
            _ => None,
        }
    }

    /// Whether more bytes would be taken now.
    pub(crate) fn wants_input(&self) -> bool {
        match self.phase {
            Phase::Open => self.websocket.has_room(),
            Phase::Draining { .. } | Phase::Closing { .. } => true,
            Phase::Over(_) => false,
        }
    }

    /// Whether the next message, or the rest of this one, is likely to be longer than `length`.
    pub(crate) fn expects_more_than(&self, length: usize) -> bool {
        self.last_length.max(self.decoder.missing()) > length
    }

    /// Takes what has come from the client; what is to be answered at once goes to `out`. Returns
    /// how many bytes are used up; the rest has to come again with more behind it, once there is
    /// room, or in the next turn ([`Self::take_is_laden`]). `on_message` is called for every message,
    /// and may keep it.
    pub(super) fn feed(
        &mut self,
        bytes: &mut [u8],
        out: &mut WriteQueue,
        now: impl Fn() -> Instant,
        on_message: impl Fn(&Message<'_>) -> Option<Kept>,
    ) -> usize {
        let mut used = 0;
        let inflated = self.decoder.inflated();
        while let Some(rest) = bytes.get_mut(used..).filter(|rest| !rest.is_empty())
            && self.wants_input()
        {
            match self.decoder.decode(rest) {
                Ok(decoded) if decoded.used == 0 => break,
                Ok(decoded) => {
                    used += decoded.used;
                    if let Some(event) = decoded.event {
                        self.on_event(event, out, &now, &on_message);
                    }
                    if self.decoder.inflated().wrapping_sub(inflated) >= INFLATED_IN_A_ROW {
                        self.is_laden = true;
                        break;
                    }
                }
                Err(error) => {
                    self.fail(error, out);
                    return bytes.len();
                }
            }
        }
        used
    }

    /// Whether decompressing has taken so long that it is somebody else's turn.
    pub(super) fn take_is_laden(&mut self) -> bool {
        std::mem::take(&mut self.is_laden)
    }

    fn on_event(
        &mut self,
        event: Event<'_>,
        out: &mut WriteQueue,
        now: impl Fn() -> Instant,
        on_message: impl Fn(&Message<'_>) -> Option<Kept>,
    ) {
        match event {
            Event::Message(message) => {
                let (kind, length) = (message.kind(), message.len());
                self.last_length = length;
                let content = if let Some(object) = on_message(&message) {
                    Content::Kept { object, length }
                } else {
                    Content::Bytes(match message.into_data() {
                        Cow::Borrowed(slice) => SmallVec::from_slice(slice),
                        Cow::Owned(data) => SmallVec::from_vec(data),
                    })
                };
                self.websocket.push(kind, content);
            }
            Event::Ping(payload) => {
                if !matches!(self.phase, Phase::Closing { .. }) {
                    control(out, Opcode::Pong, payload);
                }
            }
            Event::Pong(payload) => {
                if let Ping::Sent { payload: sent, at, .. } = self.ping
                    && sent == payload
                {
                    self.schedule_ping(at, now());
                }
            }
            Event::Close(close) => self.on_close(close, out),
        }
    }

    fn on_close(&mut self, close: Close, out: &mut WriteQueue) {
        if !matches!(self.phase, Phase::Closing { .. }) {
            // What the application has sent before comes before the answer.
            if self.websocket.take(out) == Taken::Open {
                control(out, Opcode::Close, &Close::new(close.code).payload());
            }
        }
        self.websocket.disconnect(close);
        self.phase = Phase::Over(End::Clean);
    }

    /// The client broke the rules.
    fn fail(&mut self, error: WebSocketError, out: &mut WriteQueue) {
        log::debug!("a WebSocket client broke the protocol: {error}");
        self.end_with(Close::with_reason(error.close_code(), &error.to_string()), out);
    }

    /// Closes without waiting for an answer.
    fn end_with(&mut self, close: Close, out: &mut WriteQueue) {
        if !matches!(self.phase, Phase::Closing { .. } | Phase::Over(_))
            && self.websocket.take(out) == Taken::Open
        {
            control(out, Opcode::Close, &close.payload());
        }
        self.websocket.disconnect(close);
        self.phase = Phase::Over(End::Linger);
    }

    /// The connection is gone.
    pub(crate) fn lose(&mut self) {
        self.websocket.lose();
        self.phase = Phase::Over(End::Clean);
    }

    /// The server is stopping: the application gets to know, and a while to end by itself.
    pub(crate) fn drain(&mut self, now: Instant) {
        if self.phase == Phase::Open {
            self.phase = Phase::Draining { until: now + self.grace };
            self.websocket.drain();
        }
    }

    /// The server's time is up.
    pub(crate) fn cut(&mut self, out: &mut WriteQueue) {
        self.end_with(Close::new(close::SERVICE_RESTART), out);
    }

    /// When [`Self::on_deadline`] is to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let ping = match self.ping {
            Ping::Off => None,
            Ping::Due { at } => Some(at),
            Ping::Sent { until, .. } => Some(until),
        };
        match self.phase {
            Phase::Open => ping,
            Phase::Draining { until } => Some(ping.map_or(until, |ping| ping.min(until))),
            Phase::Closing { until } => Some(until),
            Phase::Over(_) => None,
        }
    }

    /// A moment has come.
    pub(crate) fn on_deadline(&mut self, out: &mut WriteQueue, now: Instant) {
        match self.phase {
            Phase::Draining { until } if until <= now => {
                return self.websocket.shut(Close::new(close::SERVICE_RESTART));
            }
            Phase::Closing { until } if until <= now => {
                self.websocket.lose();
                self.phase = Phase::Over(End::Clean);
                return;
            }
            _ => {}
        }
        match self.ping {
            Ping::Due { at } if at <= now => self.send_ping(out, now),
            Ping::Sent { payload, at, until } if until <= now => {
                if self.wants_input() {
                    return self.end_with(
                        Close::with_reason(close::INTERNAL_ERROR, "keepalive ping timeout"),
                        out,
                    );
                }
                // It may have been answered: nobody has read for want of room.
                let until = now + self.timeout.unwrap_or(CLOSE_TIMEOUT);
                self.ping = Ping::Sent { payload, at, until };
            }
            _ => {}
        }
    }

    fn send_ping(&mut self, out: &mut WriteQueue, now: Instant) {
        // Only has to differ from the one before.
        self.pings = self.pings.wrapping_add(1);
        let payload = self.pings.to_be_bytes();
        control(out, Opcode::Ping, &payload);
        match self.timeout {
            Some(timeout) => self.ping = Ping::Sent { payload, at: now, until: now + timeout },
            None => self.schedule_ping(now, now),
        }
    }

    fn schedule_ping(&mut self, last: Instant, now: Instant) {
        self.ping = match self.interval {
            Some(interval) => Ping::Due { at: (last + interval).max(now) },
            None => Ping::Off,
        };
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.log == Log::Lines {
            log::info!("connection closed");
        }
    }
}

fn control(out: &mut WriteQueue, opcode: Opcode, payload: &[u8]) {
    out.append(|out| {
        encode_header(out, opcode, Coding::Plain, payload.len());
        out.extend_from_slice(payload);
    });
}
