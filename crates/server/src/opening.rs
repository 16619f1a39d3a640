//! A new connection before its protocol has begun: waiting for a client's first bytes, with an end to
//! it when the server stops.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;

use tokio::io::ReadBuf;

use crate::connections::Entry;
use crate::service::{App, DrainPhase};
use crate::transport::Transport;

/// Reads what there is. A client that has not begun (`is_first`) when the server stops is not waited
/// for.
pub(crate) async fn read_some<T: Transport, A: App>(
    io: &mut T,
    entry: &Entry<A>,
    space: &mut [u8],
    is_first: bool,
) -> io::Result<usize> {
    poll_fn(|cx| {
        let mut buffer = ReadBuf::new(space);
        match Pin::new(&mut *io).poll_read(cx, &mut buffer) {
            Poll::Ready(result) => Poll::Ready(result.map(|()| buffer.filled().len())),
            Poll::Pending if is_first && entry.service.phase() >= DrainPhase::Draining => {
                Poll::Ready(Ok(0))
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Gives up when the time for a shutdown has run out; the entry's waker is this task's.
pub(crate) async fn until_cut<A: App, F: Future>(entry: &Entry<A>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        entry.register(cx.waker());
        if entry.service.phase() == DrainPhase::Cut {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}
