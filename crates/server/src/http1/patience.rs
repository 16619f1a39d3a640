//! What happens to a request that makes no progress (`--timeout-request`), by who is waited for.

use std::mem;

use rsgi_protocol::error::RequestError;
use tokio::time::Instant;

use super::{Close, Connection, Phase, Progress, STALL_TIMEOUT};
use crate::deadline::Clock;
use crate::service::App;
use crate::transport::Transport;

impl<T: Transport, A: App> Connection<T, A> {
    /// The application has sent something, or the client has sent or read something.
    pub(super) fn note_progress(&mut self) {
        if let Phase::Exchange(active) = &self.phase
            && !active.is_complete()
        {
            let limit = self.entry.service.options.overload.request_timeout;
            self.deadline.set(limit.and_then(|limit| Instant::now().checked_add(limit)));
        }
    }

    /// Sees to it that somebody does not wait for ever.
    pub(super) fn limit_wait(&mut self, clock: &mut Clock) {
        let is_limited = self.entry.service.options.overload.request_timeout.is_some();
        if is_limited || self.write.len() == 0 {
            return;
        }
        if let Phase::Exchange(active) = &self.phase
            && !active.is_complete()
            && active.is_at_file()
            && (self.unread != self.write.len() || self.deadline.is_unset())
        {
            // The application has done its part: as for a response that is complete.
            self.unread = self.write.len();
            self.deadline.set(clock.refresh().checked_add(STALL_TIMEOUT));
        }
    }

    /// The deadline of an exchange has passed.
    pub(super) fn run_out(&mut self, clock: &mut Clock) -> Progress {
        let Phase::Exchange(active) = &self.phase else {
            return Progress::Done;
        };
        if active.is_complete() {
            return self.give_up_content(clock);
        }
        if self.write.len() > 0 {
            // The client does not read. What is in the way of a clean end cannot leave either.
            self.io.make_close_abortive();
            return self.lose(clock);
        }
        if active.waits_for_content() {
            return self.refuse_content(RequestError::RequestTimeout, clock);
        }
        self.time_out(clock)
    }

    /// The response is complete, but the client keeps the rest of its content to itself.
    fn give_up_content(&mut self, clock: &mut Clock) -> Progress {
        if let Phase::Exchange(active) = mem::replace(&mut self.phase, Phase::Moving) {
            active.finish(&self.entry.service, &self.peer, clock.refresh());
        }
        self.close(Close::Linger)
    }

    /// The application is too slow: it is stopped, and the client is told.
    fn time_out(&mut self, clock: &mut Clock) -> Progress {
        let Phase::Exchange(mut active) = mem::replace(&mut self.phase, Phase::Moving) else {
            return Progress::Done;
        };
        active.time_out(&self.entry.service, &self.peer);
        let how = if let Some(how) = active.cut() {
            how
        } else {
            active.set_status(504);
            let text = if active.is_head() { "" } else { "Gateway Timeout" };
            self.answer(504, text, active.version(), clock);
            if active.content_is_read() { Close::Clean } else { Close::Linger }
        };
        active.disconnect();
        active.finish(&self.entry.service, &self.peer, clock.refresh());
        self.close(how)
    }
}
