//! Which ASGI response message is legal now, and how much content is still owed
//! (ASGI HTTP message format 2.5, "Response Start" to "Response Trailers").
//!
//! Every transition of a response is in this file. Nothing here knows how a message travels.

use thiserror::Error;

use super::response::ResponseHead;

/// An application's message that cannot be carried out. The application's mistake, never the
/// client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum MessageError {
    /// The message is known, but not legal in this state.
    #[error("unexpected message `{message}`: {state}")]
    OutOfOrder {
        /// The message's ASGI type.
        message: &'static str,
        /// What the response is waiting for.
        state: &'static str,
    },
    /// More content than `content-length` announced.
    #[error("the response body is longer than its content-length of {declared} bytes")]
    BodyTooLong {
        /// The announced length.
        declared: u64,
    },
    /// The last body message came before all announced content.
    #[error(
        "the response body ended {missing} bytes short of its content-length of {declared} bytes"
    )]
    BodyTooShort {
        /// The announced length.
        declared: u64,
        /// What is missing.
        missing: u64,
    },
}

/// Whether another message of the same kind follows (`more_body`, `more_trailers`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    /// Another one follows.
    Follows,
    /// This is the last one.
    Last,
}

impl From<bool> for More {
    fn from(more: bool) -> Self {
        if more { Self::Follows } else { Self::Last }
    }
}

/// Whether `http.response.trailers` follows the body.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Trailers {
    /// The application announced them in `http.response.start`.
    Announced,
    /// None.
    #[default]
    No,
}

/// One response from the application's side.
///
/// ```text
///            start            body(more)             body(last)
/// Waiting ─────────► Started ──────────► Sending ───────────────► Complete
///    │ early_hint       │                 │   │ body(more)  ▲
///    └──► Waiting       └─────────────────┘   └──► Sending  │ trailers(last)
///                         body(last), trailers announced    │
///                       Started, Sending ──────────────► Trailers ─┐
///                                                           ▲      │ trailers(more)
///                                                           └──────┘
/// ```
#[derive(Debug)]
pub struct ResponseCycle {
    phase: Phase,
    content: Content,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting,
    Started(Trailers),
    Sending(Trailers),
    /// A file is being opened; `begun` is whether a body message came before.
    Opening {
        trailers: Trailers,
        begun: bool,
    },
    /// Its content is being sent.
    File(Trailers),
    Trailers,
    Complete,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// `content-length` was given: what was announced and what is still owed.
    Declared { length: u64, left: u64 },
    /// Any amount.
    Undeclared,
    /// HEAD, 204, 304: whatever the application sends is dropped.
    Forbidden,
}

impl Phase {
    fn behind_content(more: More, trailers: Trailers) -> Self {
        match (more, trailers) {
            (More::Follows, _) => Self::Sending(trailers),
            (More::Last, Trailers::Announced) => Self::Trailers,
            (More::Last, Trailers::No) => Self::Complete,
        }
    }
}

impl Content {
    /// Counts `length` bytes of content. Nothing has been counted where that is an error.
    fn take(&mut self, length: u64, more: More) -> Result<(), MessageError> {
        if let Self::Declared { length: declared, left } = self {
            let Some(rest) = left.checked_sub(length) else {
                return Err(MessageError::BodyTooLong { declared: *declared });
            };
            if more == More::Last && rest > 0 {
                return Err(MessageError::BodyTooShort { declared: *declared, missing: rest });
            }
            *left = rest;
        }
        Ok(())
    }
}

impl Default for ResponseCycle {
    fn default() -> Self {
        Self { phase: Phase::Waiting, content: Content::Undeclared }
    }
}

impl ResponseCycle {
    /// `http.response.start`.
    pub fn start(
        &mut self,
        head: &ResponseHead,
        is_head_request: bool,
        trailers: Trailers,
    ) -> Result<(), MessageError> {
        if self.phase != Phase::Waiting {
            return Err(self.out_of_order("http.response.start"));
        }
        self.content = match head.content_length() {
            _ if head.forbids_content(is_head_request) => Content::Forbidden,
            Some(length) => Content::Declared { length, left: length },
            None => Content::Undeclared,
        };
        self.phase = Phase::Started(trailers);
        Ok(())
    }

    /// `http.response.body` with `length` bytes.
    pub fn body(&mut self, length: usize, more: More) -> Result<(), MessageError> {
        let (Phase::Started(trailers) | Phase::Sending(trailers)) = self.phase else {
            return Err(self.out_of_order("http.response.body"));
        };
        self.content.take(length as u64, more)?;
        self.phase = Phase::behind_content(more, trailers);
        Ok(())
    }

    /// `message` names a file whose content is a part of the body.
    pub fn file(&mut self, message: &'static str) -> Result<(), MessageError> {
        self.phase = match self.phase {
            Phase::Started(trailers) => Phase::Opening { trailers, begun: false },
            Phase::Sending(trailers) => Phase::Opening { trailers, begun: true },
            _ => return Err(self.out_of_order(message)),
        };
        Ok(())
    }

    /// The file is open and `length` bytes of it are to be sent.
    pub fn file_opened(&mut self, length: u64, more: More) -> Result<(), MessageError> {
        if let Phase::Opening { trailers, .. } = self.phase {
            self.content.take(length, more)?;
            self.phase = Phase::File(trailers);
        }
        Ok(())
    }

    /// The file cannot be sent: the response stands where it stood.
    pub fn file_refused(&mut self) {
        self.phase = match self.phase {
            Phase::Opening { trailers, begun: false } => Phase::Started(trailers),
            Phase::Opening { trailers, begun: true } => Phase::Sending(trailers),
            other => other,
        };
    }

    /// All of the file has been sent.
    pub fn file_sent(&mut self, more: More) {
        if let Phase::File(trailers) = self.phase {
            self.phase = Phase::behind_content(more, trailers);
        }
    }

    /// Whether a file is being opened or sent.
    pub fn is_at_file(&self) -> bool {
        matches!(self.phase, Phase::Opening { .. } | Phase::File(_))
    }

    /// Whether the file that is being opened is going to be all of the body, with `more` behind it.
    pub fn is_whole(&self, more: More) -> bool {
        let is_first = Phase::Opening { trailers: Trailers::No, begun: false };
        self.phase == is_first && more == More::Last
    }

    /// `http.response.trailers`.
    pub fn trailers(&mut self, more: More) -> Result<(), MessageError> {
        if self.phase != Phase::Trailers {
            return Err(self.out_of_order("http.response.trailers"));
        }
        if more == More::Last {
            self.phase = Phase::Complete;
        }
        Ok(())
    }

    /// A message that may only come before the response starts: `http.response.early_hint`,
    /// `http.response.debug`.
    pub fn before_start(&self, message: &'static str) -> Result<(), MessageError> {
        if self.phase == Phase::Waiting { Ok(()) } else { Err(self.out_of_order(message)) }
    }

    /// Whether the head has come from the application.
    pub fn has_started(&self) -> bool {
        self.phase != Phase::Waiting
    }

    /// Whether the first body message has come: from here on the head can leave.
    pub fn is_past_start(&self) -> bool {
        !matches!(
            self.phase,
            Phase::Waiting | Phase::Started(_) | Phase::Opening { begun: false, .. }
        )
    }

    /// Whether every message of the response has come.
    pub fn is_complete(&self) -> bool {
        self.phase == Phase::Complete
    }

    /// Whether content is to be dropped.
    pub fn drops_content(&self) -> bool {
        self.content == Content::Forbidden
    }

    fn out_of_order(&self, message: &'static str) -> MessageError {
        let state = match self.phase {
            Phase::Waiting => "the response has not started, send `http.response.start` first",
            Phase::Started(_) => "the response has started, `http.response.body` comes next",
            Phase::Sending(_) => "the body is being sent, `http.response.body` comes next",
            Phase::Opening { .. } | Phase::File(_) => {
                "a file is being sent, await the `send()` that names it first"
            }
            Phase::Trailers => "the body is complete, `http.response.trailers` comes next",
            Phase::Complete => "the response is already complete",
        };
        MessageError::OutOfOrder { message, state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Step {
        Start { head: bool, length: Option<u64>, trailers: Trailers },
        Body(usize, More),
        Trailers(More),
        Hint,
        File,
        Opened(u64, More),
        Refused,
        Sent(More),
    }
    use More::{Follows, Last};
    use Step::{Body, File, Hint, Opened, Refused, Sent, Start};

    const PLAIN: Step = Start { head: false, length: None, trailers: Trailers::No };

    /// Runs the steps; the result is that of the last one, all others have to pass.
    fn run(steps: &[Step]) -> (ResponseCycle, Result<(), MessageError>) {
        let mut cycle = ResponseCycle::default();
        let mut result = Ok(());
        for step in steps {
            assert_eq!(result, Ok(()), "only the last step may fail");
            result = match *step {
                Start { head: is_head, length, trailers } => {
                    let mut head = ResponseHead::new(200).unwrap();
                    if let Some(length) = length {
                        head.push(b"content-length", length.to_string().as_bytes()).unwrap();
                    }
                    cycle.start(&head, is_head, trailers)
                }
                Body(length, more) => cycle.body(length, more),
                Step::Trailers(more) => cycle.trailers(more),
                Hint => cycle.before_start("http.response.early_hint"),
                File => cycle.file("http.response.pathsend"),
                Opened(length, more) => cycle.file_opened(length, more),
                Refused => {
                    cycle.file_refused();
                    Ok(())
                }
                Sent(more) => {
                    cycle.file_sent(more);
                    Ok(())
                }
            };
        }
        (cycle, result)
    }

    fn sized(length: u64) -> Step {
        Start { head: false, length: Some(length), trailers: Trailers::No }
    }

    #[test]
    fn complete_responses_pass() {
        let announced = || Start { head: false, length: None, trailers: Trailers::Announced };
        let table: [&[Step]; 13] = [
            &[PLAIN, File, Opened(3, Last), Sent(Last)],
            &[sized(3), File, Opened(3, Last), Sent(Last)],
            &[sized(5), Body(1, Follows), File, Opened(3, Follows), Sent(Follows), Body(1, Last)],
            &[PLAIN, File, Refused, Body(3, Last)],
            &[announced(), File, Opened(3, Last), Sent(Last), Step::Trailers(Last)],
            &[PLAIN, Body(3, Last)],
            &[Hint, Hint, PLAIN, Body(3, Follows), Body(0, Follows), Body(0, Last)],
            &[sized(3), Body(3, Last)],
            &[sized(3), Body(1, Follows), Body(2, Follows), Body(0, Last)],
            &[sized(0), Body(0, Last)],
            &[Start { head: true, length: Some(9), trailers: Trailers::No }, Body(0, Last)],
            &[announced(), Body(1, Last), Step::Trailers(Follows), Step::Trailers(Last)],
            &[announced(), Body(1, Follows), Body(1, Last), Step::Trailers(Last)],
        ];
        for steps in table {
            let (cycle, result) = run(steps);
            assert_eq!(result, Ok(()));
            assert!(cycle.is_complete());
        }
    }

    #[test]
    fn wrong_orders_name_message_and_state() {
        let table: [(&[Step], &str, &str); 8] = [
            (&[Body(0, Last)], "http.response.body", "has not started"),
            (&[Step::Trailers(Last)], "http.response.trailers", "has not started"),
            (&[PLAIN, PLAIN], "http.response.start", "has started"),
            (&[PLAIN, Hint], "http.response.early_hint", "has started"),
            (&[PLAIN, Body(1, Follows), PLAIN], "http.response.start", "being sent"),
            (&[PLAIN, Body(1, Follows), Step::Trailers(Last)], "http.response.trailers", "being"),
            (&[PLAIN, Body(1, Last), Body(1, Last)], "http.response.body", "already complete"),
            (&[PLAIN, Body(1, Last), PLAIN], "http.response.start", "already complete"),
        ];
        for (steps, message, state) in table {
            let text = run(steps).1.unwrap_err().to_string();
            assert!(text.contains(message), "{text}");
            assert!(text.contains(state), "{text}");
        }
    }

    #[test]
    fn content_is_held_to_its_declared_length() {
        let too_long = Err(MessageError::BodyTooLong { declared: 3 });
        let too_short = Err(MessageError::BodyTooShort { declared: 3, missing: 1 });
        assert_eq!(run(&[sized(3), Body(4, Last)]).1, too_long);
        assert_eq!(run(&[sized(3), Body(2, Follows), Body(2, Follows)]).1, too_long);
        let (cycle, result) = run(&[sized(3), Body(2, Last)]);
        assert_eq!(result, too_short);
        assert!(!cycle.is_complete(), "what is short is never complete");
    }

    #[test]
    fn a_file_holds_the_head_and_everything_else_until_it_is_open_and_sent() {
        let (cycle, result) = run(&[PLAIN, File]);
        assert_eq!(result, Ok(()));
        assert!(cycle.is_at_file() && !cycle.is_past_start() && cycle.is_whole(Last));
        assert!(!cycle.is_whole(Follows));
        let (cycle, _) = run(&[PLAIN, File, Opened(3, Last)]);
        assert!(cycle.is_at_file() && cycle.is_past_start() && !cycle.is_complete());
        let wrong: [&[Step]; 5] = [
            &[File],
            &[PLAIN, File, Body(0, Last)],
            &[PLAIN, File, File],
            &[PLAIN, File, Opened(3, Last), Body(0, Last)],
            &[PLAIN, File, Opened(3, Last), Sent(Last), File],
        ];
        for steps in wrong {
            assert!(matches!(run(steps).1, Err(MessageError::OutOfOrder { .. })));
        }
    }

    #[test]
    fn a_file_has_the_declared_length_or_is_not_sent() {
        let (mut cycle, result) = run(&[sized(3), File, Opened(4, Last)]);
        assert_eq!(result, Err(MessageError::BodyTooLong { declared: 3 }));
        cycle.file_refused();
        assert_eq!(cycle.body(3, Last), Ok(()));
        let (_, result) = run(&[sized(3), File, Opened(2, Last)]);
        assert_eq!(result, Err(MessageError::BodyTooShort { declared: 3, missing: 1 }));
    }
}
