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
        if let Content::Declared { length: declared, left } = &mut self.content {
            let Some(rest) = left.checked_sub(length as u64) else {
                return Err(MessageError::BodyTooLong { declared: *declared });
            };
            if more == More::Last && rest > 0 {
                return Err(MessageError::BodyTooShort { declared: *declared, missing: rest });
            }
            *left = rest;
        }
        self.phase = match (more, trailers) {
            (More::Follows, _) => Phase::Sending(trailers),
            (More::Last, Trailers::Announced) => Phase::Trailers,
            (More::Last, Trailers::No) => Phase::Complete,
        };
        Ok(())
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
        !matches!(self.phase, Phase::Waiting | Phase::Started(_))
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
    }
    use More::{Follows, Last};
    use Step::{Body, Hint, Start};

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
        let table: [&[Step]; 8] = [
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
}
