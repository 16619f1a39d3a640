//! The response of a stream: from the application's messages to frames.

use std::mem;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Response, StatusCode};
use rsgi_protocol::http::Version;
use rsgi_protocol::http::fields::FieldBlock;
use rsgi_protocol::http::response::{ResponseFraming, ResponseHead};
use tokio::time::Instant;

use super::{Lost, SEND_BUFFER, SendState, Socket, StreamTask};
use crate::exchange::{HIGH_WATER, Outcome, Output, OutputEnd};
use crate::http2::answer::{answer, append, header_map};
use crate::service::App;

/// The end of a response is handed over whole if it is at most this long: the stack keeps what the
/// client's window has no room for.
const HAND_OVER: usize = 16 * 1024;

impl<A: App> StreamTask<A> {
    /// Takes what the application has sent, as long as the client keeps up. Returns whether there
    /// was something.
    pub(super) fn take_output(&mut self) -> Result<bool, Lost> {
        if self.queued >= HIGH_WATER || self.last.is_some() {
            return Ok(false);
        }
        let Output { hints, head, chunks, end, .. } = self.exchange.take();
        let mut moved = head.is_some() || !chunks.is_empty() || !hints.is_empty();
        if matches!(self.response, SendState::Waiting) {
            for hint in &hints {
                self.send_informational(StatusCode::EARLY_HINTS, hint);
            }
        }
        for chunk in chunks {
            self.queued += chunk.len();
            self.queue.push_back(chunk);
        }
        let is_open = matches!(end, OutputEnd::Open);
        match end {
            OutputEnd::Open => {}
            OutputEnd::Complete(trailers) => {
                self.last = Some(trailers);
                moved = true;
            }
            OutputEnd::Abandoned => return self.abandon().map(|()| true),
            OutputEnd::Disconnected => return Err(Lost),
        }
        if let Some(head) = head {
            self.send_head(&head)?;
        }
        if is_open {
            self.end_stream();
        }
        Ok(moved)
    }

    pub(super) fn send_head(&mut self, head: &ResponseHead) -> Result<(), Lost> {
        let date = crate::date::line_at(Instant::now());
        let fields = self.service.server_fields(&date);
        let whole = self.last.is_some().then_some(self.queued as u64);
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::from_u16(head.status()).unwrap_or_default();
        *response.headers_mut() = header_map(&self.service, head, fields);
        if let Some(entry) = &mut self.entry {
            self.service.access_log().respond(entry, head, fields);
        }
        if let ResponseFraming::Length(length) = head.framing(Version::Http2, self.is_head, whole) {
            response.headers_mut().insert(http::header::CONTENT_LENGTH, length.into());
        }
        self.status = head.status();
        let is_all = self.queue.is_empty() && self.last.as_ref().is_some_and(FieldBlock::is_empty);
        let send = self.respond.send_response(response, is_all).map_err(|_| Lost)?;
        self.response = if is_all { SendState::Ended } else { SendState::Open(send) };
        Ok(())
    }

    pub(super) fn send_informational(&mut self, status: StatusCode, fields: &FieldBlock) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        append(response.headers_mut(), fields.iter());
        // It is advice. A stream that has been reset shows elsewhere.
        let _ = self.respond.send_informational(response);
    }

    /// Sends as much of the queue as the client has room for; pending if it has not for all.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Lost> {
        let SendState::Open(send) = &mut self.response else {
            return Ok(Poll::Ready(()));
        };
        let is_short = self.last.is_some() && self.queued <= HAND_OVER;
        let ends_with_data = self.last.as_ref().is_some_and(FieldBlock::is_empty);
        while let Some(mut chunk) = self.queue.pop_front() {
            let mut room = chunk.len();
            if !is_short {
                if send.capacity() == 0 {
                    // Tells of more room only once: what there is already is asked for above.
                    send.reserve_capacity(self.queued.min(SEND_BUFFER));
                    if let Poll::Ready(Some(Err(_)) | None) = send.poll_capacity(cx) {
                        return Err(Lost);
                    }
                }
                room = send.capacity().min(room);
            }
            if room == 0 {
                self.queue.push_front(chunk);
                return Ok(Poll::Pending);
            }
            let piece = chunk.split_to(room);
            self.queued -= piece.len();
            self.sent += piece.len() as u64;
            if !chunk.is_empty() {
                self.queue.push_front(chunk);
            }
            self.stall.set(None);
            let is_end = ends_with_data && self.queue.is_empty();
            send.send_data(piece, is_end).map_err(|_| Lost)?;
            if is_end {
                self.response = SendState::Ended;
                return Ok(Poll::Ready(()));
            }
        }
        match self.last.take() {
            None => return Ok(Poll::Ready(())),
            Some(trailers) if trailers.is_empty() => send.send_data(Bytes::new(), true),
            Some(trailers) => {
                let mut fields = HeaderMap::new();
                append(&mut fields, trailers.iter());
                send.send_trailers(fields)
            }
        }
        .map_err(|_| Lost)?;
        self.response = SendState::Ended;
        Ok(Poll::Ready(()))
    }

    /// The application has ended without completing its response.
    pub(super) fn abandon(&mut self) -> Result<(), Lost> {
        if self.exchange.outcome() == Some(Outcome::Returned) && !self.exchange.is_asked_to_end() {
            if matches!(self.socket, Socket::Asked(_)) && !self.exchange.has_started() {
                log::error!("ASGI callable returned without completing handshake.");
            } else if self.exchange.has_started() {
                log::error!("ASGI callable returned without completing response.");
            } else {
                log::error!("ASGI callable returned without starting response.");
            }
        }
        self.disconnect();
        self.answer(500, "Internal Server Error")
    }

    /// A response of the server's own where none has begun; otherwise the stream is cut, so that
    /// the client can tell.
    pub(super) fn answer(&mut self, status: u16, text: &str) -> Result<(), Lost> {
        if !matches!(self.response, SendState::Waiting) {
            return Err(self.cut(Reason::INTERNAL_ERROR));
        }
        self.status = status;
        self.response = SendState::Ended;
        answer(&mut self.respond, &self.service, status, text, self.is_head);
        Ok(())
    }

    pub(super) fn cut(&mut self, reason: Reason) -> Lost {
        match mem::replace(&mut self.response, SendState::Ended) {
            SendState::Open(mut send) => send.send_reset(reason),
            SendState::Waiting | SendState::Ended => self.respond.send_reset(reason),
        }
        Lost
    }
}
