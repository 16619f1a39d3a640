//! The content of a stream's request: from frames to the application.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use rsgi_protocol::error::RequestError;
use rsgi_protocol::http::fields::FieldBlock;
use tokio::time::Instant;

use super::{Expectation, Lost, SendState, StreamTask};
use crate::service::App;

/// Pieces of content below this size are copied.
const OWN_BUFFER: usize = 4096;

impl<A: App> StreamTask<A> {
    /// Moves content to the application while it keeps up: the client's window opens again only
    /// for what has been moved. Returns whether something was.
    pub(super) fn poll_content(&mut self, cx: &mut Context<'_>) -> Result<bool, Lost> {
        let mut moved = false;
        while let Some(content) = &mut self.content {
            if !self.exchange.has_room() {
                break;
            }
            match content.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => {
                    self.expectation = Expectation::None;
                    let count = data.len();
                    self.received += count as u64;
                    if self.service.options.body_limit.is_some_and(|limit| self.received > limit) {
                        let error = RequestError::BodyTooLarge;
                        return self.refuse_content(error).map(|()| true);
                    }
                    content.flow_control().release_capacity(count).map_err(|_| Lost)?;
                    let is_last = content.is_end_stream();
                    // A small piece would keep the whole buffer alive that it was read into.
                    let is_small = count < OWN_BUFFER;
                    let data = if is_small { Bytes::copy_from_slice(&data) } else { data };
                    self.exchange.feed(data, is_last);
                    if is_last {
                        self.content = None;
                        if let Some(entry) = &mut self.entry {
                            entry.received();
                        }
                    }
                    moved = true;
                }
                Poll::Ready(None) => {
                    self.content = None;
                    self.exchange.feed(Bytes::new(), true);
                    moved = true;
                }
                Poll::Ready(Some(Err(_))) => return Err(Lost),
                Poll::Pending => {
                    self.answer_expectation();
                    break;
                }
            }
        }
        Ok(moved)
    }

    /// Tells the client to go on, once the application has asked for the content.
    pub(super) fn answer_expectation(&mut self) {
        let is_due = self.expectation == Expectation::Unanswered
            && matches!(self.response, SendState::Waiting)
            && self.exchange.is_asked();
        if is_due {
            self.expectation = Expectation::None;
            self.send_informational(StatusCode::CONTINUE, &FieldBlock::default());
        }
    }

    /// The request's content is longer than it may be, or does not come.
    pub(super) fn refuse_content(&mut self, error: RequestError) -> Result<(), Lost> {
        self.service.rejections.report(&self.peer, error, Instant::now());
        self.disconnect();
        self.answer(error.status(), &error.to_string())
    }
}
