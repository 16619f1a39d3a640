//! Which ASGI message an application may send on a WebSocket now (ASGI WebSocket 2.5).
//!
//! Every transition on the application's side is in this file. Nothing here knows how a message
//! travels, or whether the client is still there.

use crate::http::cycle::{MessageError, More};

/// One WebSocket from the application's side.
///
/// ```text
///             accept           close
/// Connecting ────────► Open ──────────► Closed
///      │                 └─► Open (send)
///      │ close
///      ├────────────────────────────────────────────► Refused
///      │ http.response.start           body(last)        ▲
///      └──────────────────────► Denying ─────────────────┘
///                                  └─► Denying (body(more))
/// ```
#[derive(Debug, Default)]
pub struct WebSocketCycle {
    phase: Phase,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Phase {
    #[default]
    Connecting,
    Open,
    Denying,
    Refused,
    Closed,
}

/// What `websocket.close` comes to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CloseMeaning {
    /// The handshake is refused with 403.
    Refuse,
    /// The WebSocket is closed.
    Close,
}

impl WebSocketCycle {
    /// `websocket.accept`.
    pub fn accept(&mut self) -> Result<(), MessageError> {
        self.step("websocket.accept", Phase::Connecting, Phase::Open)
    }

    /// `websocket.send`.
    pub fn send(&self) -> Result<(), MessageError> {
        if self.phase == Phase::Open { Ok(()) } else { Err(self.out_of_order("websocket.send")) }
    }

    /// `websocket.close`.
    pub fn close(&mut self) -> Result<CloseMeaning, MessageError> {
        match self.phase {
            Phase::Connecting => {
                self.phase = Phase::Refused;
                Ok(CloseMeaning::Refuse)
            }
            Phase::Open => {
                self.phase = Phase::Closed;
                Ok(CloseMeaning::Close)
            }
            _ => Err(self.out_of_order("websocket.close")),
        }
    }

    /// `websocket.http.response.start`.
    pub fn response_start(&mut self) -> Result<(), MessageError> {
        self.step("websocket.http.response.start", Phase::Connecting, Phase::Denying)
    }

    /// `websocket.http.response.body`.
    pub fn response_body(&mut self, more: More) -> Result<(), MessageError> {
        let next = if more == More::Last { Phase::Refused } else { Phase::Denying };
        self.step("websocket.http.response.body", Phase::Denying, next)
    }

    /// Whether the application has accepted, whatever came after.
    pub fn is_accepted(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Closed)
    }

    /// Whether messages may be sent.
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    fn step(&mut self, message: &'static str, from: Phase, to: Phase) -> Result<(), MessageError> {
        if self.phase != from {
            return Err(self.out_of_order(message));
        }
        self.phase = to;
        Ok(())
    }

    fn out_of_order(&self, message: &'static str) -> MessageError {
        let state = match self.phase {
            Phase::Connecting => {
                "the WebSocket is not accepted yet, send `websocket.accept` or `websocket.close` first"
            }
            Phase::Open => {
                "the WebSocket is open, `websocket.send` or `websocket.close` comes next"
            }
            Phase::Denying => {
                "a response denies the WebSocket, `websocket.http.response.body` comes next"
            }
            Phase::Refused => "the WebSocket was refused",
            Phase::Closed => "the application has closed the WebSocket",
        };
        MessageError::OutOfOrder { message, state }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    enum Step {
        Accept,
        Send,
        Close,
        Start,
        Body(More),
    }
    use Step::{Accept, Body, Close, Send, Start};

    /// Runs the steps; the result is that of the last one, all others have to pass.
    fn run(steps: &[Step]) -> (WebSocketCycle, Result<(), MessageError>) {
        let mut cycle = WebSocketCycle::default();
        let mut result = Ok(());
        for step in steps {
            assert_eq!(result, Ok(()), "only the last step may fail");
            result = match *step {
                Accept => cycle.accept(),
                Send => cycle.send(),
                Close => cycle.close().map(|_| ()),
                Start => cycle.response_start(),
                Body(more) => cycle.response_body(more),
            };
        }
        (cycle, result)
    }

    #[test]
    fn right_orders_pass() {
        let table: [(&[Step], bool); 5] = [
            (&[Accept, Send, Send, Close], true),
            (&[Accept, Close], true),
            (&[Close], false),
            (&[Start, Body(More::Last)], false),
            (&[Start, Body(More::Follows), Body(More::Last)], false),
        ];
        for (steps, accepted) in table {
            let (cycle, result) = run(steps);
            assert_eq!(result, Ok(()));
            assert_eq!(cycle.is_accepted(), accepted);
        }
    }

    #[test]
    fn wrong_orders_name_message_and_state() {
        let last = Body(More::Last);
        let table: [(&[Step], &str, &str); 12] = [
            (&[Send], "websocket.send", "not accepted"),
            (&[last], "websocket.http.response.body", "not accepted"),
            (&[Accept, Accept], "websocket.accept", "is open"),
            (&[Accept, Start], "websocket.http.response.start", "is open"),
            (&[Accept, last], "websocket.http.response.body", "is open"),
            (&[Accept, Close, Send], "websocket.send", "has closed"),
            (&[Accept, Close, Close], "websocket.close", "has closed"),
            (&[Close, Accept], "websocket.accept", "was refused"),
            (&[Close, Close], "websocket.close", "was refused"),
            (&[Start, Accept], "websocket.accept", "denies"),
            (&[Start, Close], "websocket.close", "denies"),
            (&[Start, last, last], "websocket.http.response.body", "was refused"),
        ];
        for (steps, message, state) in table {
            let text = run(steps).1.unwrap_err().to_string();
            assert!(text.contains(&format!("`{message}`")), "{text}");
            assert!(text.contains(state), "{text}");
        }
    }

    #[test]
    fn a_close_refuses_before_the_accept_and_closes_after_it() {
        assert_eq!(WebSocketCycle::default().close(), Ok(CloseMeaning::Refuse));
        let mut cycle = WebSocketCycle::default();
        cycle.accept().unwrap();
        assert!(cycle.is_open());
        assert_eq!(cycle.close(), Ok(CloseMeaning::Close));
        assert!(!cycle.is_open());
    }
}
