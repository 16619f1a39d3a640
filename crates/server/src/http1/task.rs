//! The tokio task of a connection, and the way around it: writing at once what an application sends.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, ready};

use bytes::BytesMut;

use super::Connection;
use crate::connections::Entry;
use crate::exchange::{NoOutlet, Outlet, Written};
use crate::http2::Http2Task;
use crate::service::{App, ConnectionInfo, Residence};
use crate::transport::Transport;

/// The task of one connection. Resolves when it is closed.
///
/// The lock is the task's own, but for one case: an application that sends a part of a response from
/// elsewhere than its first step writes it out then and there ([`Outlet`]).
pub(crate) struct ConnectionTask<T: Transport, A: App> {
    connection: Arc<Mutex<Connection<T, A>>>,
    /// Set once the client has turned out to speak HTTP/2. What is left of `connection` keeps the
    /// entry in the service's list.
    http2: Option<Box<Http2Task<T, A>>>,
}

impl<T: Transport, A: App> ConnectionTask<T, A> {
    /// `read` has been read from the client already.
    pub(crate) fn new(io: T, read: BytesMut, entry: Entry<A>, peer: ConnectionInfo) -> Self {
        let connection = Arc::new_cyclic(|this: &Weak<Mutex<Connection<T, A>>>| {
            let outlet: Weak<dyn Outlet> = match entry.service.options.application {
                Residence::SameThread => Weak::<Mutex<_>>::clone(this),
                // Its timers and its socket are those of the thread that polls it.
                Residence::OtherThread => Weak::<NoOutlet>::new(),
            };
            let mut connection = Connection::new(io, entry, peer, outlet);
            connection.read = read;
            Mutex::new(connection)
        });
        Self { connection, http2: None }
    }
}

impl<T: Transport, A: App> Future for ConnectionTask<T, A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(http2) = &mut self.http2 {
            return Pin::new(http2).poll(cx);
        }
        // After a panic tokio drops the task; it is not polled again.
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let polled = connection.poll(cx);
        if connection.has_long_message() {
            // While it is in the processor's caches. Short messages are better run together: what
            // is in the caches then is the code.
            let service = Arc::clone(connection.service_arc());
            drop(connection);
            service.app.run_woken();
            return polled;
        }
        ready!(polled);
        let Some(io) = connection.hand_over() else {
            return Poll::Ready(());
        };
        let mut http2 = Box::new(Http2Task::new(io, &connection.entry, connection.peer()));
        drop(connection);
        let polled = Pin::new(&mut http2).poll(cx);
        self.http2 = Some(http2);
        polled
    }
}

impl<T: Transport, A: App> Outlet for Mutex<Connection<T, A>> {
    fn write_now(&self, cx: &mut Context<'_>) -> Written {
        // Held where the application is being called by this very connection.
        self.try_lock().map_or(Written::Busy, |mut connection| connection.write_now(cx))
    }
}
