//! One request and its response, shared by the connection that carries it and the application that
//! answers it.
//!
//! The two sides never call each other: the connection puts body data in and takes the response
//! out, the application does the reverse, and each leaves a [`Waker`] where it has to wait. Both
//! directions are bounded, so that a side that does not keep up holds the other one back. The same
//! type serves every HTTP version. Longer than other files because both sides are behind one lock, and
//! what one does is to be read beside what the other expects.
//!
//! The application may sit on other threads than the connection (an executor, a garbage collector),
//! so the state is behind a mutex; nothing is called while it is held.

use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use rsgi_protocol::http::cycle::{MessageError, More, ResponseCycle, Trailers};
use rsgi_protocol::http::fields::FieldBlock;
use rsgi_protocol::http::response::ResponseHead;
use smallvec::SmallVec;
use thiserror::Error;

use crate::between_turns;
use crate::waiting::{Waiting, wait};

/// How many bytes may wait in one direction before its producer has to wait; uvicorn and asyncio
/// use the same number.
pub const HIGH_WATER: usize = 64 * 1024;

/// In how many pieces: small ones cost more than their length.
const PIECES: usize = 1024;

/// What `receive()` gives.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// `http.request`.
    Body {
        /// Content bytes; may be empty in the last message.
        data: Bytes,
        /// Whether more follows.
        more: More,
    },
    /// `http.disconnect`: the client has gone, the response is complete, or the server stops and
    /// has waited long enough for this response to end.
    Disconnect,
}

/// What a sender does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Nothing: the message is on its way as soon as the connection runs.
    Open,
    /// Let the connection run once, so that the message leaves now and not when the application
    /// happens to wait.
    Yield,
    /// Wait for [`Exchange::poll_drained`]: the client reads slower than the application writes.
    Full,
}

/// Why a message was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum SendError {
    /// The client has gone.
    #[error("the client disconnected before the response was complete")]
    Disconnected,
    /// The application broke the rules.
    #[error(transparent)]
    Message(#[from] MessageError),
}

/// How the application's call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It returned.
    Returned,
    /// It raised (and that has been logged), or was cancelled.
    Failed,
}

/// One request and its response.
#[derive(Debug)]
pub struct Exchange {
    state: Mutex<State>,
    is_head: bool,
    /// The application's own name for what runs of it, or [`NO_TASK`].
    task: AtomicUsize,
}

/// No task has that number.
const NO_TASK: usize = usize::MAX;

#[derive(Debug)]
struct State {
    inbound: Inbound,
    outbound: Outbound,
    outcome: Option<Outcome>,
    link: Link,
    receivers: Waiting,
    senders: Waiting,
    connection: Driver,
}

#[derive(Debug)]
struct Inbound {
    chunks: VecDeque<Bytes>,
    length: usize,
    end: InboundEnd,
    demand: Demand,
}

/// Content on its way out; most responses are one piece, which needs no memory of its own.
pub(crate) type Chunks = SmallVec<[Bytes; 1]>;

/// Where the request's content stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InboundEnd {
    /// More may come from the client.
    Open,
    /// All of it has come.
    Arrived,
    /// All of it has come, and the application has the last message.
    Delivered,
}

/// Whether the application has ever asked for content (`Expect: 100-continue` waits for this).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    NotYet,
    Asked,
}

#[derive(Debug, Default)]
struct Outbound {
    cycle: ResponseCycle,
    head: Option<ResponseHead>,
    chunks: Chunks,
    length: usize,
    /// Bytes sent since the sender last let the loop run: a stream that never waits for anything
    /// has to leave others their turn all the same.
    unbroken: usize,
    announced: Trailers,
    trailers: FieldBlock,
    hints: Vec<FieldBlock>,
    /// Whether a file ended before all of it was sent.
    is_broken: bool,
}

/// Whether the client is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    /// It has said that it sends no more, and may have gone: only writing to it would tell.
    HalfClosed,
    /// It is, but the server stops: `receive()` says that it has gone, so that the application ends
    /// what it is at; what is sent until then still leaves.
    Ending,
    Down,
}

/// Where the connection's task is.
pub(crate) enum Driver {
    /// Calling the application right now: it looks for itself when the call comes back.
    Inside,
    /// Wants to be told.
    Waiting(Listener),
    /// Has nothing more to do with this exchange.
    Left,
}

/// A connection that can be told of something to write.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) waker: Waker,
    pub(crate) outlet: Weak<dyn Outlet>,
}

/// Where a response leaves.
pub(crate) trait Outlet: Send + Sync {
    /// Writes what the exchange holds now, as far as the client takes it.
    fn write_now(&self, cx: &mut Context<'_>) -> Written;
}

/// An outlet that is never there, for a connection that writes in its own time only.
pub(crate) struct NoOutlet;

impl Outlet for NoOutlet {
    fn write_now(&self, _: &mut Context<'_>) -> Written {
        Written::Busy
    }
}

/// What came of writing at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// Nothing: the connection is at work, and looks for itself.
    Busy,
    /// All of it, and nothing else is to do.
    Settled,
    /// What was possible; the connection has to look at the rest.
    Unsettled,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inside => "Inside",
            Self::Waiting(_) => "Waiting",
            Self::Left => "Left",
        })
    }
}

/// What the connection takes out at once.
#[derive(Debug, Default)]
pub(crate) struct Output {
    pub(crate) hints: Vec<FieldBlock>,
    pub(crate) head: Option<ResponseHead>,
    pub(crate) chunks: Chunks,
    pub(crate) has_trailers: bool,
    pub(crate) end: OutputEnd,
}

/// Where the response stands after what was taken out.
#[derive(Debug, Default)]
pub(crate) enum OutputEnd {
    #[default]
    Open,
    /// The response is complete, with these trailers where some were announced.
    Complete(FieldBlock),
    /// The application has ended without completing it.
    Abandoned,
    /// The application has been told that the client is gone.
    Disconnected,
}

impl Exchange {
    /// A new exchange. `complete` is whether the request has no content.
    pub fn new(is_head: bool, complete: bool) -> Arc<Self> {
        Arc::new(Self {
            is_head,
            task: AtomicUsize::new(NO_TASK),
            state: Mutex::new(State {
                inbound: Inbound {
                    chunks: VecDeque::new(),
                    length: 0,
                    end: if complete { InboundEnd::Arrived } else { InboundEnd::Open },
                    demand: Demand::NotYet,
                },
                outbound: Outbound::default(),
                outcome: None,
                link: Link::Up,
                receivers: Waiting::new(),
                senders: Waiting::new(),
                connection: Driver::Inside,
            }),
        })
    }

    /// The lock. Poisoning is ignored: no code that can panic runs under it, and a poisoned
    /// exchange would only turn one failed request into two.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The application's side.
impl Exchange {
    /// The next message for the application. Cancel-safe: nothing is taken out unless it is
    /// returned.
    pub fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<Received> {
        let mut state = self.lock();
        let State { inbound, outbound, link, receivers, .. } = &mut *state;
        if outbound.cycle.is_complete() {
            return Poll::Ready(Received::Disconnect);
        }
        let was_full = !inbound.has_room();
        if let Some(data) = inbound.chunks.pop_front() {
            inbound.length -= data.len();
            let last = inbound.chunks.is_empty() && inbound.end == InboundEnd::Arrived;
            if last {
                inbound.end = InboundEnd::Delivered;
            }
            let wake = was_full && inbound.has_room();
            let message = Received::Body { data, more: More::from(!last) };
            if wake {
                state.wake_connection();
            }
            return Poll::Ready(message);
        }
        if inbound.end == InboundEnd::Arrived {
            inbound.end = InboundEnd::Delivered;
            return Poll::Ready(Received::Body { data: Bytes::new(), more: More::Last });
        }
        match link {
            Link::Up => {}
            Link::Ending | Link::Down => return Poll::Ready(Received::Disconnect),
            Link::HalfClosed => {
                // Nothing else can come any more, so this is what there is to receive.
                let waiting = state.go_down();
                state.wake_connection();
                drop(state);
                waiting.into_iter().for_each(Waker::wake);
                return Poll::Ready(Received::Disconnect);
            }
        }
        wait(receivers, cx);
        if inbound.demand == Demand::NotYet {
            inbound.demand = Demand::Asked;
            state.wake_connection();
        }
        Poll::Pending
    }

    /// `http.response.start`. Nothing leaves before the first body message.
    pub fn start(&self, head: ResponseHead, trailers: Trailers) -> Result<Flow, SendError> {
        let mut state = self.lock_up()?;
        state.outbound.cycle.start(&head, self.is_head, trailers)?;
        state.outbound.head = Some(head);
        state.outbound.announced = trailers;
        Ok(Flow::Open)
    }

    /// `http.response.body`.
    pub fn body(&self, data: Bytes, more: More) -> Result<Flow, SendError> {
        let mut state = self.lock_up()?;
        let outbound = &mut state.outbound;
        outbound.cycle.body(data.len(), more)?;
        if !data.is_empty() && !outbound.cycle.drops_content() {
            outbound.length += data.len();
            outbound.unbroken += data.len();
            outbound.chunks.push(data);
        }
        let receivers = if outbound.cycle.is_complete() {
            mem::take(&mut state.receivers)
        } else {
            Waiting::new()
        };
        let listener = state.listener();
        drop(state);
        receivers.into_iter().for_each(Waker::wake);
        let has_left = listener.is_some_and(Listener::write_now);
        Ok(match more {
            More::Last => Flow::Open,
            More::Follows => self.flow(has_left),
        })
    }

    /// `message` names a file: nothing else may be sent until that is done with.
    pub(crate) fn begin_file(&self, message: &'static str) -> Result<(), SendError> {
        Ok(self.lock_up()?.outbound.cycle.file(message)?)
    }

    /// The file is open, and `length` bytes of it are to be sent. Returns whether anybody wants them.
    pub(crate) fn open_file(&self, length: u64, more: More) -> Result<bool, SendError> {
        let mut state = self.lock_up()?;
        let Outbound { cycle, head, .. } = &mut state.outbound;
        if let Some(head) = head.as_mut()
            && head.content_length().is_none()
            && !head.forbids_content(false)
            && cycle.is_whole(more)
        {
            head.set_content_length(length);
        }
        cycle.file_opened(length, more)?;
        Ok(!cycle.drops_content())
    }

    /// The file cannot be sent.
    pub(crate) fn refuse_file(&self) {
        let mut state = self.lock();
        state.outbound.cycle.file_refused();
        // The application may have ended meanwhile.
        state.wake_connection();
    }

    /// Whether a file is being sent.
    pub(crate) fn is_at_file(&self) -> bool {
        self.lock().outbound.cycle.is_at_file()
    }

    /// The next piece of the file.
    pub(crate) fn feed_file(&self, data: Bytes) -> Result<(), SendError> {
        let mut state = self.lock_up()?;
        state.outbound.length += data.len();
        state.outbound.chunks.push(data);
        let listener = state.listener();
        drop(state);
        listener.map(Listener::write_now);
        Ok(())
    }

    /// All of the file has been given.
    pub(crate) fn end_file(&self, more: More) -> Result<(), SendError> {
        let mut state = self.lock_up()?;
        state.outbound.cycle.file_sent(more);
        let is_complete = state.outbound.cycle.is_complete();
        let receivers = if is_complete { mem::take(&mut state.receivers) } else { Waiting::new() };
        state.wake_connection();
        drop(state);
        receivers.into_iter().for_each(Waker::wake);
        Ok(())
    }

    /// The rest of the file is missing: the response cannot be completed.
    pub(crate) fn break_file(&self) {
        let mut state = self.lock();
        state.outbound.is_broken = true;
        state.wake_connection();
    }

    /// What a sender does after a message that is not the last.
    fn flow(&self, has_left: bool) -> Flow {
        let mut state = self.lock();
        let outbound = &mut state.outbound;
        if outbound.length >= HIGH_WATER {
            outbound.unbroken = 0;
            return Flow::Full;
        }
        if has_left && outbound.unbroken < HIGH_WATER {
            return Flow::Open;
        }
        outbound.unbroken = 0;
        Flow::Yield
    }

    /// `http.response.trailers`.
    pub fn trailers(&self, fields: &FieldBlock, more: More) -> Result<Flow, SendError> {
        let mut state = self.lock_up()?;
        let outbound = &mut state.outbound;
        outbound.cycle.trailers(more)?;
        outbound.trailers.append(fields);
        let receivers = mem::take(&mut state.receivers);
        state.wake_connection();
        drop(state);
        receivers.into_iter().for_each(Waker::wake);
        Ok(Flow::Open)
    }

    /// `http.response.early_hint`: the fields of one 103 response.
    pub fn early_hint(&self, fields: FieldBlock) -> Result<Flow, SendError> {
        let mut state = self.lock_up()?;
        state.outbound.cycle.before_start("http.response.early_hint")?;
        // Advice that the client has not taken yet is replaced, not piled up.
        if state.outbound.hints.len() >= 16 {
            state.outbound.hints.clear();
        }
        state.outbound.hints.push(fields);
        state.wake_connection();
        Ok(Flow::Yield)
    }

    /// `http.response.debug`: accepted before the start, and not sent anywhere.
    pub fn debug(&self) -> Result<Flow, SendError> {
        self.lock_up()?.outbound.cycle.before_start("http.response.debug")?;
        Ok(Flow::Open)
    }

    /// Waits until the connection has taken what was sent. Ready, too, when the client has gone.
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.outbound.length < HIGH_WATER || state.link == Link::Down {
            return Poll::Ready(());
        }
        wait(&mut state.senders, cx);
        Poll::Pending
    }

    /// The application's call has ended.
    pub fn finish(&self, outcome: Outcome) {
        let mut state = self.lock();
        state.outcome.get_or_insert(outcome);
        state.wake_connection();
    }

    /// Leaves the application's own number of what goes on behind its call, for
    /// [`App::cancel`](crate::App::cancel).
    pub fn set_task(&self, number: usize) {
        self.task.store(number, Ordering::Relaxed);
    }

    /// What was left there, as long as it has not ended.
    pub fn task(&self) -> Option<usize> {
        let number = self.task.load(Ordering::Relaxed);
        (number != NO_TASK && self.outcome().is_none()).then_some(number)
    }

    /// Whether the application has sent `http.response.start`.
    pub fn has_started(&self) -> bool {
        self.lock().outbound.cycle.has_started()
    }

    /// Whether the application has sent a whole response.
    pub fn is_complete(&self) -> bool {
        self.lock().outbound.cycle.is_complete()
    }

    /// Whether the client has gone (or the connection has been cut by the server).
    pub fn is_disconnected(&self) -> bool {
        self.lock().link == Link::Down
    }

    fn lock_up(&self) -> Result<MutexGuard<'_, State>, SendError> {
        let state = self.lock();
        if state.link == Link::Down { Err(SendError::Disconnected) } else { Ok(state) }
    }
}

/// The connection's side.
impl Exchange {
    /// The connection is about to wait: from now on it wants to be told.
    pub(crate) fn wait(&self, waker: &Waker, outlet: Weak<dyn Outlet>) {
        self.lock().connection = Driver::Waiting(Listener { waker: waker.clone(), outlet });
    }

    /// The connection will not look at this exchange again.
    pub(crate) fn leave(&self) {
        self.lock().connection = Driver::Left;
    }

    /// Content from the client; `complete` with the last of it.
    pub(crate) fn feed(&self, data: Bytes, complete: bool) {
        let mut state = self.lock();
        let inbound = &mut state.inbound;
        if !data.is_empty() {
            inbound.length += data.len();
            inbound.chunks.push_back(data);
        }
        if complete {
            inbound.end = InboundEnd::Arrived;
        }
        let receivers = mem::take(&mut state.receivers);
        drop(state);
        receivers.into_iter().for_each(Waker::wake);
    }

    /// Whether more content would be taken now.
    pub(crate) fn has_room(&self) -> bool {
        self.lock().inbound.has_room()
    }

    /// Whether the application waits in `receive()` for what has not come.
    pub(crate) fn waits_for_content(&self) -> bool {
        let state = self.lock();
        !state.receivers.is_empty() && state.inbound.end == InboundEnd::Open
    }

    /// Whether the application has asked for content.
    pub(crate) fn is_asked(&self) -> bool {
        self.lock().inbound.demand == Demand::Asked
    }

    /// The client has gone. `receive()` says so from now on, `send()` raises.
    pub(crate) fn disconnect(&self) {
        let mut state = self.lock();
        if state.link == Link::Down {
            return;
        }
        let waiting = state.go_down();
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The client has sent all it will, and no end of its connection has been seen: `receive()`
    /// says `http.disconnect` from now on, and where the application does not ask, its response
    /// goes on (RFC 9112, section 9.6).
    pub(crate) fn half_close(&self) {
        let mut state = self.lock();
        if state.link == Link::Up {
            state.link = Link::HalfClosed;
            let receivers = mem::take(&mut state.receivers);
            drop(state);
            receivers.into_iter().for_each(Waker::wake);
        }
    }

    /// The server stops, and the application is to end its response: `receive()` says
    /// `http.disconnect` from now on.
    pub(crate) fn ask_to_end(&self) {
        let mut state = self.lock();
        if state.link == Link::Up {
            state.link = Link::Ending;
            let receivers = mem::take(&mut state.receivers);
            drop(state);
            receivers.into_iter().for_each(Waker::wake);
        }
    }

    /// Whether the server has asked for the end of the response.
    pub(crate) fn is_asked_to_end(&self) -> bool {
        self.lock().link == Link::Ending
    }

    /// Everything that can leave now. Nothing while a response has a head and no body message yet.
    pub(crate) fn take(&self) -> Output {
        let mut state = self.lock();
        let State { outbound, outcome, link, senders, .. } = &mut *state;
        if *link == Link::Down {
            return Output { end: OutputEnd::Disconnected, ..Output::default() };
        }
        let mut output = Output { hints: mem::take(&mut outbound.hints), ..Output::default() };
        if !outbound.is_held() {
            output.has_trailers = outbound.announced == Trailers::Announced;
            output.head = outbound.head.take();
            output.chunks = mem::take(&mut outbound.chunks);
            outbound.length = 0;
        }
        if outbound.cycle.is_complete() {
            output.end = OutputEnd::Complete(mem::take(&mut outbound.trailers));
        } else if outbound.is_broken || (outcome.is_some() && !outbound.cycle.is_at_file()) {
            output.end = OutputEnd::Abandoned;
        }
        if !senders.is_empty() {
            let senders = mem::take(senders);
            drop(state);
            senders.into_iter().for_each(Waker::wake);
        }
        output
    }

    /// Has the connection look at this exchange, in its own time.
    pub(crate) fn wake(&self) {
        self.lock().wake_connection();
    }

    /// How the application's call ended, if it has.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.lock().outcome
    }
}

impl Inbound {
    /// Whether the application keeps up.
    fn has_room(&self) -> bool {
        self.length < HIGH_WATER && self.chunks.len() < PIECES
    }
}

impl Outbound {
    /// Whether a head waits for its first body message (ASGI: the response starts with it).
    fn is_held(&self) -> bool {
        self.head.is_some() && !self.cycle.is_past_start()
    }
}

impl State {
    /// Nothing leaves any more; returns everybody who has to hear of it.
    fn go_down(&mut self) -> Waiting {
        self.link = Link::Down;
        self.outbound.chunks.clear();
        self.outbound.length = 0;
        let mut waiting = mem::take(&mut self.receivers);
        waiting.append(&mut self.senders);
        waiting
    }

    /// Who is to be told that there is something to write.
    fn listener(&self) -> Option<Listener> {
        match &self.connection {
            Driver::Waiting(listener) => Some(listener.clone()),
            Driver::Inside | Driver::Left => None,
        }
    }

    /// Wakes the connection's task, if it waits. A tokio waker only marks its task, so the lock may
    /// be held.
    fn wake_connection(&self) {
        if let Driver::Waiting(listener) = &self.connection {
            between_turns::wake(&listener.waker);
        }
    }
}

impl Listener {
    /// Lets the connection write at once, and has it look at the rest in its own time.
    pub(crate) fn write_now(self) -> bool {
        let outlet = self.outlet.upgrade();
        let mut cx = Context::from_waker(&self.waker);
        let written = outlet.map_or(Written::Busy, |outlet| outlet.write_now(&mut cx));
        if written != Written::Settled {
            between_turns::wake(&self.waker);
        }
        written != Written::Busy
    }
}
