//! A stream that has become a WebSocket (RFC 8441): its data are the bytes of a [`Session`].
//!
//! Flow control is back-pressure: the client's window opens again for what the session has taken,
//! and frames for the client wait where its own window is closed. The end of the stream is the end
//! of a connection, and a reset is one that broke.

use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use rsgi_protocol::websocket::deflate::Agreement;
use tokio::time::Instant;

use super::stream::{SEND_BUFFER, STALL_TIMEOUT};
use crate::deadline::{Clock, Deadline};
use crate::exchange::NoOutlet;
use crate::http1::write_queue::WriteQueue;
use crate::service::{App, Service};
use crate::websocket::{
    self, Carrier, Gone, Intake, Log, Read, Session, WebSocket, WebSocketOptions,
};

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
    stream: Stream,
    deadline: Deadline,
    step: Step,
    waker: Waker,
}

/// What carries it.
struct Stream {
    send: SendStream<Bytes>,
    content: RecvStream,
    inbound: Inbound,
    /// What has come and the session has not taken; the client's window is closed for it.
    read: BytesMut,
    write: WriteQueue,
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
            stream: Stream {
                send,
                content,
                inbound: Inbound::Open,
                read: BytesMut::new(),
                write: WriteQueue::default(),
            },
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
            let Self { session, stream, deadline, .. } = self;
            let ended =
                websocket::poll(session, stream, service, deadline, &mut Clock::default(), cx);
            if let Err(Gone) = ready!(ended) {
                session.lose();
                if stream.inbound == Inbound::Ended {
                    // The client has ended it in an orderly way, and so do we.
                    let _ = stream.send.send_data(Bytes::new(), true);
                } else {
                    stream.send.send_reset(Reason::CANCEL);
                }
                return Poll::Ready(());
            }
            self.step = Step::Writing;
            self.deadline.set(Instant::now().checked_add(STALL_TIMEOUT));
        }
        self.poll_end(cx)
    }

    /// Sends what is left and the end of the stream, and waits for the client's for a moment:
    /// dropping its side earlier would tell it that it had been reset.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { stream, deadline, .. } = self;
        if self.step == Step::Writing {
            match stream.poll_send(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Gone)) => return Poll::Ready(()),
                Poll::Pending => {
                    ready!(deadline.poll(cx));
                    stream.send.send_reset(Reason::CANCEL);
                    return Poll::Ready(());
                }
            }
            if stream.send.send_data(Bytes::new(), true).is_err() {
                return Poll::Ready(());
            }
            self.step = Step::Lingering;
            stream.read = BytesMut::new();
            deadline.set(Instant::now().checked_add(LINGER_TIMEOUT));
        }
        while stream.inbound == Inbound::Open {
            match stream.content.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => stream.release(data.len()),
                Poll::Ready(Some(Err(_)) | None) => stream.inbound = Inbound::Ended,
                Poll::Pending => return deadline.poll(cx),
            }
        }
        Poll::Ready(())
    }

    /// The shutdown's deadline has passed: the client is told as far as it listens.
    pub(super) fn cut(&mut self) {
        if self.step == Step::Open {
            self.session.cut(&mut self.stream.write);
            let mut nobody = Context::from_waker(Waker::noop());
            if matches!(self.stream.poll_send(&mut nobody), Poll::Ready(Ok(()))) {
                let _ = self.stream.send.send_data(Bytes::new(), true);
            }
            self.step = Step::Lingering;
        }
    }
}

impl Stream {
    /// Sends as much as the client has room for; pending if it has not for all.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        while self.write.len() > 0 {
            if self.send.capacity() == 0 {
                // Tells of more room only once: what there is already is asked for above.
                self.send.reserve_capacity(self.write.len().min(SEND_BUFFER));
                if let Poll::Ready(Some(Err(_)) | None) = self.send.poll_capacity(cx) {
                    return Poll::Ready(Err(Gone));
                }
            }
            let room = self.send.capacity();
            if room == 0 {
                return Poll::Pending;
            }
            let Some(piece) = self.write.pop(room) else { break };
            if self.send.send_data(piece, false).is_err() {
                return Poll::Ready(Err(Gone));
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether the client has reset the stream, where nothing else is to be done.
    fn poll_reset(&mut self, cx: &mut Context<'_>) -> Read {
        if self.send.poll_reset(cx).is_ready() { Read::Lost } else { Read::Nothing }
    }

    /// Opens the client's window again.
    fn release(&mut self, bytes: usize) {
        // It cannot be more than has come.
        let _ = self.content.flow_control().release_capacity(bytes);
    }

    /// Takes in a piece of content.
    fn take<A: App>(&mut self, data: Bytes, mut intake: Intake<'_, A>) -> Read {
        if !intake.is_taking() || !self.read.is_empty() {
            self.read.extend_from_slice(&data);
            return Read::Some;
        }
        let used;
        if data.len() <= ON_STACK {
            let mut space = [0; ON_STACK];
            let bytes = space.get_mut(..data.len()).unwrap_or_default();
            bytes.copy_from_slice(&data);
            used = intake.feed(bytes, &mut self.write);
            self.read.extend_from_slice(bytes.get(used..).unwrap_or_default());
        } else {
            let mut buffer = BytesMut::from(data);
            used = intake.feed(&mut buffer, &mut self.write);
            buffer.advance(used);
            self.read = buffer;
        }
        self.release(used);
        intake.end()
    }
}

impl<A: App> Carrier<A> for Stream {
    // Frames of content are smaller than what a connection reads at once, and the connection bounds them.
    const BURST: usize = 32;

    fn out(&mut self) -> &mut WriteQueue {
        &mut self.write
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        self.poll_send(cx)
    }

    fn poll_read(&mut self, mut intake: Intake<'_, A>, cx: &mut Context<'_>) -> Read {
        let used = intake.feed_kept(&mut self.read, &mut self.write);
        if used > 0 {
            self.release(used);
            return intake.end();
        }
        if self.inbound == Inbound::Ended {
            // What came before the end comes before it here, too.
            let has_more = !intake.is_taking() && !self.read.is_empty();
            return if has_more { self.poll_reset(cx) } else { Read::Lost };
        }
        // Also where the session takes nothing: many small frames would cost the stack more than
        // they are long. The client's window is what bounds it.
        match self.content.poll_data(cx) {
            Poll::Pending => self.poll_reset(cx),
            Poll::Ready(Some(Err(_))) => Read::Lost,
            Poll::Ready(None) => {
                self.inbound = Inbound::Ended;
                Read::Some
            }
            Poll::Ready(Some(Ok(data))) => self.take(data, intake),
        }
    }

    fn rest(&mut self) {
        if self.read.is_empty() && self.read.capacity() > 0 {
            self.read = BytesMut::new();
        }
        self.write.shrink();
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
