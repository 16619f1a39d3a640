//! The tokio task of a connection, and the way around it: writing at once what an application sends.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use super::Connection;
use crate::exchange::{Outlet, Written};
use crate::service::{App, ConnectionInfo, Entry};
use crate::transport::Transport;

/// The task of one connection. Resolves when it is closed.
///
/// The lock is the task's own, but for one case: an application that sends a part of a response from
/// elsewhere than its first step writes it out then and there ([`Outlet`]).
pub(crate) struct ConnectionTask<T: Transport, A: App> {
    connection: Arc<Mutex<Connection<T, A>>>,
}

impl<T: Transport, A: App> ConnectionTask<T, A> {
    pub(crate) fn new(io: T, entry: Entry<A>, peer: ConnectionInfo) -> Self {
        let connection = Arc::new_cyclic(|this: &Weak<Mutex<Connection<T, A>>>| {
            Mutex::new(Connection::new(io, entry, peer, Weak::<Mutex<_>>::clone(this)))
        });
        Self { connection }
    }
}

impl<T: Transport, A: App> Future for ConnectionTask<T, A> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // After a panic tokio drops the task; it is not polled again.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).poll(cx)
    }
}

impl<T: Transport, A: App> Outlet for Mutex<Connection<T, A>> {
    fn write_now(&self, cx: &mut Context<'_>) -> Written {
        // Held where the application is being called by this very connection.
        self.try_lock().map_or(Written::Busy, |mut connection| connection.write_now(cx))
    }
}
