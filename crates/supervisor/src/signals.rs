//! The signals of the supervisor and what they ask for.
//!
//! | signal | asks for |
//! |---|---|
//! | TERM, INT | a graceful stop; the second one forces |
//! | QUIT | a stop without draining |
//! | HUP | replacing all workers, one by one |
//! | TTIN, TTOU | one worker more, one less |
//! | USR1 | opening the log files anew |
//! | USR2 | the stacks of all workers in the log |
//! | WINCH | nothing; handled so that it is not deadly |
//!
//! Ctrl-C, `timeout` and some container starters signal the whole process group. Workers stay in
//! that group and treat a TERM or INT of their own as the same stop, whichever comes first.

use std::io;
use std::task::{Context, Poll};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    Stop,
    Quit,
    Reload,
    ScaleUp,
    ScaleDown,
    Dump,
    ReopenLogs,
    /// Known, and without a meaning so far.
    Unused(&'static str),
}

/// The installed handlers.
#[derive(Debug)]
pub(crate) struct Signals {
    pub(crate) requests: Requests,
    pub(crate) children: Children,
}

/// The handlers of everything that asks for something.
#[derive(Debug)]
pub(crate) struct Requests(Vec<(Request, Signal)>);

/// The handler of CHLD.
#[derive(Debug)]
pub(crate) struct Children(Signal);

impl Signals {
    /// Installs all handlers, for the rest of the process's life.
    pub(crate) fn install() -> io::Result<Self> {
        let table = [
            (Request::Stop, SignalKind::terminate()),
            (Request::Stop, SignalKind::interrupt()),
            (Request::Quit, SignalKind::quit()),
            (Request::Reload, SignalKind::hangup()),
            (Request::ScaleUp, SignalKind::from_raw(libc::SIGTTIN)),
            (Request::ScaleDown, SignalKind::from_raw(libc::SIGTTOU)),
            (Request::ReopenLogs, SignalKind::user_defined1()),
            (Request::Dump, SignalKind::user_defined2()),
            (Request::Unused("SIGWINCH"), SignalKind::window_change()),
        ];
        let requests = table
            .into_iter()
            .map(|(request, kind)| Ok((request, signal(kind)?)))
            .collect::<io::Result<_>>()?;
        Ok(Self { requests: Requests(requests), children: Children(signal(SignalKind::child())?) })
    }
}

impl Requests {
    /// The next request. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Request {
        std::future::poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next request that ends the server. Cancel-safe.
    pub(crate) async fn end(&mut self) {
        while !matches!(self.next().await, Request::Stop | Request::Quit) {}
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Request> {
        for (request, signal) in &mut self.0 {
            // `None` would mean that no signal can ever come again, which tokio does not do here.
            if let Poll::Ready(Some(())) = signal.poll_recv(cx) {
                return Poll::Ready(*request);
            }
        }
        Poll::Pending
    }
}

impl Children {
    /// Waits until a child changed its state. Several may have by then. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        self.0.recv().await;
    }
}
