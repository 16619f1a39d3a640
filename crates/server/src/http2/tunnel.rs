//! A stream that has become a WebSocket (RFC 8441): its data are the bytes of a [`Session`].
//!
//! Flow control is back-pressure: the client's window opens again for what the session has taken,
//! and frames for the client wait where its own window is closed. The end of the stream is the end
//! of a connection, and a reset is one that broke.

use std::mem;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use rsgi_protocol::websocket::deflate::Agreement;
use tokio::time::Instant;

use super::stream::{Lost, SEND_BUFFER, STALL_TIMEOUT};
use crate::deadline::Deadline;
use crate::exchange::{HIGH_WATER, NoOutlet};
use crate::http1::write_queue::WriteQueue;
use crate::service::{App, DrainPhase, Service};
use crate::websocket::{Log, Session, WebSocket, WebSocketOptions};

/// How long the client's end of a stream is awaited behind ours.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
/// Up to this size data is copied to the stack and not into a buffer of its own.
const ON_STACK: usize = 1024;

/// A request for a WebSocket that has not been answered.
pub(super) struct Asked {
    pub(super) websocket: Arc<WebSocket>,
    pub(super) deflate: Option<Agreement>,
    /// What the client sends too early waits here.
    pub(super) content: RecvStream,
}

/// An open WebSocket.
pub(super) struct Tunnel {
    session: Session,
    send: SendStream<Bytes>,
    content: RecvStream,
    inbound: Inbound,
    /// What has come and the session has not taken; the client's window is closed for it.
    read: BytesMut,
    write: WriteQueue,
    deadline: Deadline,
    step: Step,
    waker: Waker,
}

/// What can still come from the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Inbound {
    Open,
    Ended,
}

/// Where the stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The session is at work.
    Open,
    /// It is over, and its last frames leave.
    Writing,
    /// The stream has ended on our side.
    Lingering,
}

/// What reading came to.
enum Read {
    Some,
    Nothing,
    Lost,
}

impl Tunnel {
    /// `send` is the stream behind the answer.
    pub(super) fn new(
        asked: Asked,
        send: SendStream<Bytes>,
        options: &WebSocketOptions,
        log: Log,
        waker: &Waker,
    ) -> Self {
        let Asked { websocket, deflate, content } = asked;
        websocket.wait(waker, Weak::<NoOutlet>::new());
        Self {
            session: Session::new(websocket, options, deflate, log, Instant::now()),
            send,
            content,
            inbound: Inbound::Open,
            read: BytesMut::new(),
            write: WriteQueue::default(),
            deadline: Deadline::default(),
            step: Step::Open,
            waker: waker.clone(),
        }
    }

    pub(super) fn websocket(&self) -> &Arc<WebSocket> {
        &self.session.websocket
    }

    /// Has the stream's task look at it.
    pub(super) fn wake(&self) {
        self.waker.wake_by_ref();
    }

    pub(super) fn poll<A: App>(&mut self, service: &Service<A>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.waker.will_wake(cx.waker()) {
            self.waker = cx.waker().clone();
            self.session.websocket.wait(cx.waker(), Weak::<NoOutlet>::new());
        }
        if self.step == Step::Open {
            if let Err(Lost) = ready!(self.poll_session(service, cx)) {
                self.session.lose();
                if self.inbound == Inbound::Ended {
                    // The client has ended it in an orderly way, and so do we.
                    let _ = self.send.send_data(Bytes::new(), true);
                } else {
                    self.send.send_reset(Reason::CANCEL);
                }
                return Poll::Ready(());
            }
            self.step = Step::Writing;
            self.deadline.set(Instant::now().checked_add(STALL_TIMEOUT));
        }
        self.poll_end(cx)
    }

    /// Ready when the session is over: with an error if its client is gone.
    fn poll_session<A: App>(
        &mut self,
        service: &Service<A>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Lost>> {
        loop {
            if self.session.is_open() && service.phase() >= DrainPhase::Draining {
                self.session.drain(Instant::now());
            }
            if self.write.len() < HIGH_WATER {
                self.session.take(&mut self.write, Instant::now);
            }
            let was_full = self.write.len() >= HIGH_WATER;
            match self.poll_send(cx) {
                // What has been held back above can go on.
                Poll::Ready(Ok(())) if was_full => continue,
                Poll::Ready(Ok(())) | Poll::Pending => {}
                Poll::Ready(Err(Lost)) => return Poll::Ready(Err(Lost)),
            }
            if self.session.end().is_some() {
                return Poll::Ready(Ok(()));
            }
            match self.poll_read(service, cx) {
                Read::Some => continue,
                Read::Nothing => {}
                Read::Lost => return Poll::Ready(Err(Lost)),
            }
            if self.send.poll_reset(cx).is_ready() {
                return Poll::Ready(Err(Lost));
            }
            self.deadline.set(self.session.deadline());
            if self.deadline.poll(cx).is_pending() {
                self.rest();
                return Poll::Pending;
            }
            self.session.on_deadline(&mut self.write, Instant::now());
        }
    }

    /// Sends as much as the client has room for; pending if it has not for all.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        while self.write.len() > 0 {
            if self.send.capacity() == 0 {
                // Tells of more room only once: what there is already is asked for above.
                self.send.reserve_capacity(self.write.len().min(SEND_BUFFER));
                if let Poll::Ready(Some(Err(_)) | None) = self.send.poll_capacity(cx) {
                    return Poll::Ready(Err(Lost));
                }
            }
            let room = self.send.capacity();
            if room == 0 {
                return Poll::Pending;
            }
            let Some(piece) = self.write.pop(room) else { break };
            if self.send.send_data(piece, false).is_err() {
                return Poll::Ready(Err(Lost));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Has the session take what there is, or takes in what has come.
    fn poll_read<A: App>(&mut self, service: &Service<A>, cx: &mut Context<'_>) -> Read {
        // Answers to a client that does not read them are not piled up.
        let is_taking = self.write.len() < HIGH_WATER && self.session.wants_input();
        if is_taking && !self.read.is_empty() {
            let mut buffer = mem::take(&mut self.read);
            let used = self.feed(&mut buffer, service);
            buffer.advance(used);
            self.read = buffer;
            if used > 0 {
                return Read::Some;
            }
        }
        if self.inbound == Inbound::Ended {
            // What came before the end comes before it here, too.
            let has_more = !is_taking && !self.read.is_empty();
            return if has_more { Read::Nothing } else { Read::Lost };
        }
        // Also where the session takes nothing: many small frames would cost the stack more than
        // they are long. The client's window is what bounds it.
        match self.content.poll_data(cx) {
            Poll::Pending => Read::Nothing,
            Poll::Ready(Some(Err(_))) => Read::Lost,
            Poll::Ready(None) => {
                self.inbound = Inbound::Ended;
                Read::Some
            }
            Poll::Ready(Some(Ok(data))) => {
                if !is_taking || !self.read.is_empty() {
                    self.read.extend_from_slice(&data);
                } else if data.len() <= ON_STACK {
                    let mut space = [0; ON_STACK];
                    if let Some(bytes) = space.get_mut(..data.len()) {
                        bytes.copy_from_slice(&data);
                        let used = self.feed(bytes, service);
                        self.read.extend_from_slice(bytes.get(used..).unwrap_or_default());
                    }
                } else {
                    let mut buffer = BytesMut::from(data);
                    let used = self.feed(&mut buffer, service);
                    buffer.advance(used);
                    self.read = buffer;
                }
                Read::Some
            }
        }
    }

    fn feed<A: App>(&mut self, bytes: &mut [u8], service: &Service<A>) -> usize {
        let on_message = |kind, data: &[u8]| service.message_received(kind, data);
        let used = self.session.feed(bytes, &mut self.write, Instant::now, on_message);
        // It cannot be more than has come.
        let _ = self.content.flow_control().release_capacity(used);
        used
    }

    /// The tunnel waits: gives back what it does not need for that.
    fn rest(&mut self) {
        if self.read.is_empty() && self.read.capacity() > 0 {
            self.read = BytesMut::new();
        }
        self.write.shrink();
    }

    /// Sends what is left and the end of the stream, and waits for the client's for a moment:
    /// dropping its side earlier would tell it that it had been reset.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.step == Step::Writing {
            match self.poll_send(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Lost)) => return Poll::Ready(()),
                Poll::Pending => {
                    ready!(self.deadline.poll(cx));
                    self.send.send_reset(Reason::CANCEL);
                    return Poll::Ready(());
                }
            }
            if self.send.send_data(Bytes::new(), true).is_err() {
                return Poll::Ready(());
            }
            self.step = Step::Lingering;
            self.read = BytesMut::new();
            self.deadline.set(Instant::now().checked_add(LINGER_TIMEOUT));
        }
        while self.inbound == Inbound::Open {
            match self.content.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    let _ = self.content.flow_control().release_capacity(data.len());
                }
                Poll::Ready(Some(Err(_)) | None) => self.inbound = Inbound::Ended,
                Poll::Pending => return self.deadline.poll(cx),
            }
        }
        Poll::Ready(())
    }

    /// The shutdown's deadline has passed: the client is told as far as it listens.
    pub(super) fn cut(&mut self) {
        if self.step == Step::Open {
            self.session.cut(&mut self.write);
            let mut nobody = Context::from_waker(Waker::noop());
            if matches!(self.poll_send(&mut nobody), Poll::Ready(Ok(()))) {
                let _ = self.send.send_data(Bytes::new(), true);
            }
            self.step = Step::Lingering;
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // The connection has gone: nobody must wait for ever.
        if self.session.end().is_none() {
            self.session.lose();
        }
    }
}
