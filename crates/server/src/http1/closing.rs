//! How a connection ends: what is written leaves first, and what a client still sends must not turn
//! a clean end into a reset (RFC 9112, section 9.6).

use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Connection, HEAD_READ, Phase, Progress, STALL_TIMEOUT};
use crate::deadline::Clock;
use crate::service::App;
use crate::transport::Transport;

/// How long, and how much, a client may go on sending after a last response.
const LINGER_TIMEOUT: Duration = Duration::from_secs(2);
const LINGER_LIMIT: usize = 512 * 1024;

/// The end of a connection.
pub(super) struct Closing {
    how: Close,
    step: CloseStep,
}

/// How a connection ends once everything is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    /// The client has sent all it had to.
    Clean,
    /// The client may still be sending; closing at once would reset the connection and lose the
    /// response.
    Linger,
    /// The response is not whole, and its framing shows it.
    Cut,
    /// The response is not whole, and only a reset shows it.
    Reset,
}

/// Where it stands.
enum CloseStep {
    Writing,
    Shutdown,
    Lingering { left: usize },
}

impl<T: Transport, A: App> Connection<T, A> {
    /// Waits for a client that does not read what has been written, as long as it reads some of it.
    pub(super) fn wait_for_reader(&mut self, cx: &mut Context<'_>, clock: &mut Clock) -> Progress {
        if self.unread != self.write.len() {
            self.unread = self.write.len();
            self.deadline.set(clock.now().checked_add(STALL_TIMEOUT));
        }
        match self.deadline.poll(cx) {
            Poll::Pending => Progress::Wait,
            Poll::Ready(()) => Progress::Done,
        }
    }

    pub(super) fn close(&mut self, how: Close) -> Progress {
        // Bytes that nobody has read would turn a clean close into a reset.
        let how = if how == Close::Clean && !self.read.is_empty() { Close::Linger } else { how };
        self.read = BytesMut::new();
        self.unread = 0;
        self.phase = Phase::Closing(Closing { how, step: CloseStep::Writing });
        Progress::Again
    }

    pub(super) fn on_closing(&mut self, cx: &mut Context<'_>, clock: &mut Clock) -> Progress {
        let Phase::Closing(closing) = &mut self.phase else {
            return Progress::Again;
        };
        let polled = match &mut closing.step {
            CloseStep::Writing => match self.write.poll_flush(&mut self.io, cx) {
                Poll::Ready(Ok(())) => {
                    match closing.how {
                        Close::Reset => {
                            self.io.make_close_abortive();
                            return Progress::Done;
                        }
                        Close::Cut => return Progress::Done,
                        Close::Clean | Close::Linger => {
                            closing.step = CloseStep::Shutdown;
                            self.deadline.set(clock.now().checked_add(LINGER_TIMEOUT));
                        }
                    }
                    return Progress::Again;
                }
                Poll::Ready(Err(_)) => return Progress::Done,
                Poll::Pending => return self.wait_for_reader(cx, clock),
            },
            CloseStep::Shutdown => match Pin::new(&mut self.io).poll_shutdown(cx) {
                Poll::Ready(Ok(())) if closing.how == Close::Linger => {
                    closing.step = CloseStep::Lingering { left: LINGER_LIMIT };
                    self.deadline.set(clock.now().checked_add(LINGER_TIMEOUT));
                    return Progress::Again;
                }
                other => other,
            },
            CloseStep::Lingering { left } => {
                let mut space = [const { MaybeUninit::uninit() }; HEAD_READ];
                let mut buffer = ReadBuf::uninit(&mut space);
                match Pin::new(&mut self.io).poll_read(cx, &mut buffer) {
                    Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                        let count = buffer.filled().len();
                        if count < *left {
                            *left -= count;
                            return Progress::Again;
                        }
                        Poll::Ready(Ok(()))
                    }
                    other => other,
                }
            }
        };
        match polled {
            Poll::Pending if self.deadline.poll(cx).is_pending() => Progress::Wait,
            _ => Progress::Done,
        }
    }
}
