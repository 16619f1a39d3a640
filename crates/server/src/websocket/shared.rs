//! One WebSocket, shared by the connection that carries it and the application behind it: the
//! counterpart of [`Exchange`], which it begins as.
//!
//! Frames are made where a message is sent, so that the connection only moves bytes. Both
//! directions are bounded: an application that does not receive stops the connection's reading, a
//! client that does not read makes `send()` wait.

use std::any::Any;
use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use rsgi_protocol::http::cycle::{More, Trailers};
use rsgi_protocol::http::response::ResponseHead;
use rsgi_protocol::websocket::close::{self, Close};
use rsgi_protocol::websocket::cycle::CloseMeaning;
use rsgi_protocol::websocket::deflate::{Agreement, Compressor, SMALLEST};
use rsgi_protocol::websocket::frame::{Coding, Opcode, encode_header};
use rsgi_protocol::websocket::handshake::Acceptance;
use rsgi_protocol::websocket::{Kind, WebSocketCycle};
use smallvec::SmallVec;

use super::WebSocketOptions;
use crate::between_turns;
use crate::exchange::{Driver, Exchange, Flow, HIGH_WATER, Listener, Outcome, Outlet, SendError};
use crate::http1::write_queue::WriteQueue;
use crate::waiting::{Waiting, wait};

/// What may be sent without a pause before others get their turn, to a client that reads as fast.
const UNBROKEN: usize = 4 * HIGH_WATER;

/// A message's bytes; short ones need no memory of their own.
type Data = SmallVec<[u8; SHORT]>;

/// The length up to which a message needs no memory of its own.
pub(crate) const SHORT: usize = 64;

/// A message on its way to the application.
#[derive(Debug)]
pub(super) enum Content {
    Bytes(Data),
    Kept { object: Kept, length: usize },
}

impl Content {
    fn len(&self) -> usize {
        match self {
            Self::Bytes(data) => data.len(),
            Self::Kept { length, .. } => *length,
        }
    }
}

/// What an application has made of a message ([`App::keep`](crate::App::keep)), for nobody else to
/// look into.
pub type Kept = Box<dyn Any + Send + Sync>;

/// What `receive()` gives.
#[derive(Debug)]
pub enum MessageReceived {
    /// `websocket.connect`.
    Connect,
    /// `websocket.receive`; a text is UTF-8.
    Message(Kind, Data),
    /// The same, as the application has kept it.
    Kept(Kind, Kept),
    /// `websocket.disconnect`.
    Disconnect(Close),
}

/// A message to send.
#[derive(Debug)]
pub enum Outgoing<'a> {
    /// To be copied.
    Slice(&'a [u8]),
    /// To be kept until it has left.
    Shared(Bytes),
}

impl Outgoing<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Slice(slice) => slice,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// One WebSocket.
#[derive(Debug)]
pub struct WebSocket {
    /// Carries the handshake, and the response where it is refused.
    exchange: Arc<Exchange>,
    max_queue: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    cycle: WebSocketCycle,
    connect: Connect,
    inbound: VecDeque<(Kind, Content)>,
    /// Bytes in `inbound`.
    length: usize,
    /// What the application accepted with, until the connection has answered.
    acceptance: Option<Box<Acceptance>>,
    /// Whole frames.
    outbound: WriteQueue,
    /// Bytes sent since the application last waited.
    unbroken: usize,
    compressor: Option<Box<Compressor>>,
    link: Link,
    /// Whether the application's call has ended.
    has_ended: bool,
    receivers: Waiting,
    senders: Waiting,
    connection: Driver,
}

/// Whether the application has been given `websocket.connect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connect {
    Due,
    Given,
}

/// Whether there is anybody to talk to.
#[derive(Debug)]
enum Link {
    Up,
    /// The server is stopping: `receive()` says so, and what is still sent is sent.
    Draining,
    Down(Close),
}

/// Where the application stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// More may follow.
    Open,
    /// The last frame has been taken.
    Closed,
}

impl WebSocket {
    /// A WebSocket whose handshake is `exchange`.
    pub(crate) fn new(
        exchange: Arc<Exchange>,
        options: &WebSocketOptions,
        deflate: Option<Agreement>,
    ) -> Arc<Self> {
        Arc::new(Self {
            exchange,
            max_queue: options.max_queue,
            state: Mutex::new(State {
                cycle: WebSocketCycle::default(),
                connect: Connect::Due,
                inbound: VecDeque::new(),
                length: 0,
                acceptance: None,
                outbound: WriteQueue::default(),
                unbroken: 0,
                compressor: deflate.map(Compressor::new).map(Box::new),
                link: Link::Up,
                has_ended: false,
                receivers: Waiting::new(),
                senders: Waiting::new(),
                connection: Driver::Inside,
            }),
        })
    }

    /// The lock; see [`Exchange`].
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The application's side.
impl WebSocket {
    /// The request that asked for it.
    pub fn handshake(&self) -> &Exchange {
        &self.exchange
    }

    /// The next message for the application. Cancel-safe: nothing is taken out unless it is
    /// returned.
    pub fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<MessageReceived> {
        let mut state = self.lock();
        if state.connect == Connect::Due {
            state.connect = Connect::Given;
            return Poll::Ready(MessageReceived::Connect);
        }
        if let Some((kind, content)) = state.inbound.pop_front() {
            let was_full = !self.has_room_in(&state, 1);
            state.length -= content.len();
            if was_full && self.has_room_in(&state, 0) {
                state.wake_connection();
            }
            return Poll::Ready(match content {
                Content::Bytes(data) => MessageReceived::Message(kind, data),
                Content::Kept { object, .. } => MessageReceived::Kept(kind, object),
            });
        }
        match &state.link {
            Link::Down(close) => return Poll::Ready(MessageReceived::Disconnect(close.clone())),
            Link::Draining => {
                let close = Close::new(close::SERVICE_RESTART);
                return Poll::Ready(MessageReceived::Disconnect(close));
            }
            Link::Up => {}
        }
        state.unbroken = 0;
        wait(&mut state.receivers, cx);
        Poll::Pending
    }

    /// `websocket.accept`.
    pub fn accept(&self, acceptance: Acceptance) -> Result<Flow, SendError> {
        let mut state = self.lock();
        state.check_up()?;
        state.cycle.accept()?;
        state.acceptance = Some(Box::new(acceptance));
        drop(state);
        self.exchange.wake();
        Ok(Flow::Yield)
    }

    /// `websocket.send`.
    pub fn send(&self, kind: Kind, message: Outgoing<'_>) -> Result<Flow, SendError> {
        let mut state = self.lock();
        state.cycle.send()?;
        state.check_up()?;
        state.encode(kind, message);
        let unbroken = state.unbroken;
        // The connection then holds all of it, or less than it would have taken more of.
        let has_left = state.write_now();
        if has_left && unbroken < UNBROKEN {
            return Ok(Flow::Open);
        }
        let mut state = self.lock();
        if state.outbound.len() >= HIGH_WATER {
            state.unbroken = 0;
            return Ok(Flow::Full);
        }
        state.unbroken = 0;
        Ok(Flow::Yield)
    }

    /// `websocket.close`.
    pub fn close(&self, close: &Close) -> Result<Flow, SendError> {
        let mut state = self.lock();
        let is_down = matches!(state.link, Link::Down(_));
        match state.cycle.close()? {
            _ if is_down => return Err(SendError::Disconnected),
            CloseMeaning::Close => {
                // Whoever closes does not want to hear any more.
                let unheard = mem::take(&mut state.inbound);
                state.length = 0;
                state.encode_close(close);
                state.write_now();
                drop(unheard);
            }
            CloseMeaning::Refuse => {
                let waiting = state.go_down(Close::new(close::ABNORMAL));
                drop(state);
                waiting.into_iter().for_each(Waker::wake);
                if let Ok(head) = ResponseHead::new(403) {
                    self.exchange.start(head, Trailers::No)?;
                    self.exchange.body(Bytes::new(), More::Last)?;
                }
            }
        }
        Ok(Flow::Open)
    }

    /// `websocket.http.response.start`.
    pub fn response_start(&self, head: ResponseHead) -> Result<Flow, SendError> {
        let mut state = self.lock();
        state.check_up()?;
        state.cycle.response_start()?;
        drop(state);
        self.exchange.start(head, Trailers::No)
    }

    /// `websocket.http.response.body`.
    pub fn response_body(&self, data: Bytes, more: More) -> Result<Flow, SendError> {
        let mut state = self.lock();
        state.cycle.response_body(more)?;
        state.check_up()?;
        let waiting = match more {
            More::Last => state.go_down(Close::new(close::ABNORMAL)),
            More::Follows => Waiting::new(),
        };
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        self.exchange.body(data, more)
    }

    /// Waits until the connection has taken what was sent. Ready, too, when the client has gone.
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.cycle.is_accepted() {
            drop(state);
            return self.exchange.poll_drained(cx);
        }
        if state.outbound.len() < HIGH_WATER || matches!(state.link, Link::Down(_)) {
            return Poll::Ready(());
        }
        wait(&mut state.senders, cx);
        Poll::Pending
    }

    /// The application's call has ended. What it has left open is closed.
    pub fn finish(&self, outcome: Outcome) {
        let mut state = self.lock();
        state.has_ended = true;
        if !state.cycle.is_accepted() {
            drop(state);
            return self.exchange.finish(outcome);
        }
        if !state.cycle.is_open() {
            return;
        }
        let code = match (&state.link, outcome) {
            (Link::Down(_), _) => return,
            (_, Outcome::Failed) => close::INTERNAL_ERROR,
            (Link::Draining, Outcome::Returned) => close::SERVICE_RESTART,
            (Link::Up, Outcome::Returned) => close::NORMAL,
        };
        // The state allows it: it is open.
        let _ = state.cycle.close();
        state.encode_close(&Close::new(code));
        state.write_now();
    }

    /// Whether nothing more can come of it: the client has gone, or the application has closed it
    /// or refused it.
    pub fn is_over(&self) -> bool {
        let state = self.lock();
        let is_complete = self.exchange.is_complete();
        matches!(state.link, Link::Down(_))
            || is_complete
            || (state.cycle.is_accepted() && !state.cycle.is_open())
    }

    /// Whether the client has gone (or the server has closed).
    pub fn is_disconnected(&self) -> bool {
        matches!(self.lock().link, Link::Down(_))
    }

    fn has_room_in(&self, state: &State, more: usize) -> bool {
        state.inbound.len() + more < self.max_queue && state.length < HIGH_WATER
    }
}

/// The connection's side.
impl WebSocket {
    /// Whether the application's call has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.lock().has_ended
    }

    /// Whether the application has accepted, and the client has not been told.
    pub(crate) fn is_accepted(&self) -> bool {
        self.lock().acceptance.is_some()
    }

    /// What it accepted with.
    pub(crate) fn take_acceptance(&self) -> Option<Box<Acceptance>> {
        self.lock().acceptance.take()
    }

    /// From now on the connection wants to be told.
    pub(crate) fn wait(&self, waker: &Waker, outlet: Weak<dyn Outlet>) {
        self.lock().connection = Driver::Waiting(Listener { waker: waker.clone(), outlet });
    }

    /// A message from the client.
    pub(super) fn push(&self, kind: Kind, content: Content) {
        let mut state = self.lock();
        if !matches!(state.link, Link::Up) || !state.cycle.is_open() {
            drop(state);
            return;
        }
        state.length += content.len();
        state.inbound.push_back((kind, content));
        let receivers = mem::take(&mut state.receivers);
        drop(state);
        receivers.into_iter().for_each(Waker::wake);
    }

    /// Whether another message would be taken now.
    pub(crate) fn has_room(&self) -> bool {
        self.has_room_in(&self.lock(), 0)
    }

    /// Moves everything that can leave to `write`, and gives memory back that is not needed then.
    pub(crate) fn take(&self, write: &mut WriteQueue) -> Taken {
        let mut state = self.lock();
        if state.outbound.len() > 0 {
            write.take_from(&mut state.outbound);
        }
        state.outbound.shrink();
        let taken = if state.cycle.is_open() && !matches!(state.link, Link::Down(_)) {
            Taken::Open
        } else {
            Taken::Closed
        };
        if !state.senders.is_empty() {
            let senders = mem::take(&mut state.senders);
            drop(state);
            senders.into_iter().for_each(Waker::wake);
        }
        taken
    }

    /// The server is stopping: the application is told, and may still say goodbye.
    pub(crate) fn drain(&self) {
        let mut state = self.lock();
        if matches!(state.link, Link::Up) {
            state.link = Link::Draining;
            let receivers = mem::take(&mut state.receivers);
            drop(state);
            receivers.into_iter().for_each(Waker::wake);
        }
    }

    /// The server closes: behind what has been sent, and without asking the application.
    pub(crate) fn shut(&self, close: Close) {
        let mut state = self.lock();
        if state.cycle.is_open() && !matches!(state.link, Link::Down(_)) {
            state.encode_close(&close);
        }
        state.link = Link::Down(close);
        let waiting = state.everybody();
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// It is over. What has not left never will.
    pub(crate) fn disconnect(&self, close: Close) {
        let mut state = self.lock();
        if matches!(state.link, Link::Down(_)) {
            return;
        }
        let waiting = state.go_down(close);
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The connection has ended without a close frame.
    pub(crate) fn lose(&self) {
        self.disconnect(Close::new(close::ABNORMAL));
    }
}

impl State {
    fn check_up(&self) -> Result<(), SendError> {
        if matches!(self.link, Link::Down(_)) { Err(SendError::Disconnected) } else { Ok(()) }
    }

    fn encode(&mut self, kind: Kind, message: Outgoing<'_>) {
        let opcode = Opcode::Message(kind);
        let length = message.as_slice().len();
        self.unbroken += length;
        let compressor = self.compressor.as_mut().filter(|_| length >= SMALLEST);
        let compressed = compressor.and_then(|it| it.compress(message.as_slice()));
        if let Some(data) = compressed {
            self.outbound.append(|out| encode_header(out, opcode, Coding::Deflate, data.len()));
            return self.outbound.push(Bytes::from(data));
        }
        self.outbound.append(|out| {
            encode_header(out, opcode, Coding::Plain, length);
            if let Outgoing::Slice(slice) = message {
                out.extend_from_slice(slice);
            }
        });
        if let Outgoing::Shared(bytes) = message {
            self.outbound.push(bytes);
        }
    }

    fn encode_close(&mut self, close: &Close) {
        let payload = close.payload();
        self.outbound.append(|out| {
            encode_header(out, Opcode::Close, Coding::Plain, payload.len());
            out.extend_from_slice(&payload);
        });
    }

    fn go_down(&mut self, close: Close) -> Waiting {
        self.link = Link::Down(close);
        self.outbound = WriteQueue::default();
        self.compressor = None;
        self.everybody()
    }

    fn everybody(&mut self) -> Waiting {
        let mut waiting = mem::take(&mut self.receivers);
        waiting.append(&mut self.senders);
        waiting
    }

    /// Wakes the connection's task, if it waits. A tokio waker only marks its task, so the lock may
    /// be held.
    fn wake_connection(&self) {
        if let Driver::Waiting(listener) = &self.connection {
            between_turns::wake(&listener.waker);
        }
    }
}

/// Lets the connection write at once. Returns whether it did.
trait WriteNow {
    fn write_now(self) -> bool;
}

impl WriteNow for MutexGuard<'_, State> {
    fn write_now(self) -> bool {
        let listener = match &self.connection {
            Driver::Waiting(listener) => Some(listener.clone()),
            Driver::Inside | Driver::Left => None,
        };
        drop(self);
        listener.is_some_and(Listener::write_now)
    }
}
