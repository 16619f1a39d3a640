//! Connections that have agreed on HTTP/2 in their TLS handshake, and begin with it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::Http2Task;
use crate::connections::Entry;
use crate::service::{App, ConnectionInfo};
use crate::transport::{Rewound, Transport};

/// The task of a connection that has agreed on HTTP/2 in its TLS handshake.
pub(crate) struct Http2Connection<T: Transport, A: App> {
    entry: Entry<A>,
    task: Http2Task<T, A>,
    is_registered: bool,
}

impl<T: Transport, A: App> Http2Connection<T, A> {
    pub(crate) fn new(io: T, entry: Entry<A>, peer: ConnectionInfo) -> Self {
        let io = Rewound::new(BytesMut::new(), io);
        let task = Http2Task::new(io, &entry, peer);
        Self { entry, task, is_registered: false }
    }
}

impl<T: Transport, A: App> Future for Http2Connection<T, A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_registered {
            self.is_registered = true;
            self.entry.register(cx.waker());
        }
        Pin::new(&mut self.task).poll(cx)
    }
}
