//! Close codes and close frames' payloads (RFC 6455 sections 5.5.1 and 7.4, and IANA's registry).

use std::borrow::Cow;

use super::error::WebSocketError;
use super::frame::MAX_CONTROL;

/// Done.
pub const NORMAL: u16 = 1000;
/// The other side broke the protocol.
pub const PROTOCOL_ERROR: u16 = 1002;
/// Never on the wire: a close frame without a code.
pub const NO_STATUS: u16 = 1005;
/// Never on the wire: the connection ended without a close frame.
pub const ABNORMAL: u16 = 1006;
/// A message whose content contradicts its type.
pub const INVALID_DATA: u16 = 1007;
/// A message that is too big.
pub const TOO_BIG: u16 = 1009;
/// Something failed on the server.
pub const INTERNAL_ERROR: u16 = 1011;
/// The server is stopping; the client may come back.
pub const SERVICE_RESTART: u16 = 1012;

/// The end of a WebSocket: why, and in whose words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Close {
    /// The code.
    pub code: u16,
    /// The reason, most often empty.
    pub reason: Box<str>,
}

impl Close {
    /// A close without a reason.
    pub fn new(code: u16) -> Self {
        Self { code, reason: Box::default() }
    }

    /// A close with a reason.
    pub fn with_reason(code: u16, reason: &str) -> Self {
        Self { code, reason: reason.into() }
    }

    /// Reads a close frame's payload. An empty one has no code, which is code 1005.
    pub fn read(payload: &[u8]) -> Result<Self, WebSocketError> {
        let Some((code, reason)) = payload.split_first_chunk::<2>() else {
            return if payload.is_empty() {
                Ok(Self::new(NO_STATUS))
            } else {
                Err(WebSocketError::InvalidCloseCode)
            };
        };
        let code = u16::from_be_bytes(*code);
        if !may_be_sent(code) {
            return Err(WebSocketError::InvalidCloseCode);
        }
        let reason = std::str::from_utf8(reason).map_err(|_| WebSocketError::InvalidUtf8)?;
        Ok(Self::with_reason(code, reason))
    }

    /// The payload of the frame that says so. A reason that does not fit is cut short.
    pub fn payload(&self) -> Cow<'static, [u8]> {
        if self.code == NO_STATUS {
            return Cow::Borrowed(b"");
        }
        let mut payload = self.code.to_be_bytes().to_vec();
        let room = MAX_CONTROL.saturating_sub(payload.len());
        let end = (0..=room).rev().find(|&end| self.reason.is_char_boundary(end)).unwrap_or(0);
        let reason = if self.reason.len() <= room {
            &*self.reason
        } else {
            self.reason.get(..end).unwrap_or_default()
        };
        payload.extend_from_slice(reason.as_bytes());
        Cow::Owned(payload)
    }
}

/// Whether a close frame may carry the code: the registered ones, and those for libraries and
/// applications.
pub fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_registry() {
        let valid = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
        for code in valid.into_iter().chain([3000, 3999, 4000, 4999]) {
            assert_eq!(Close::read(&u16::to_be_bytes(code)), Ok(Close::new(code)));
        }
        for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535] {
            let error = Err(WebSocketError::InvalidCloseCode);
            assert_eq!(Close::read(&u16::to_be_bytes(code)), error, "{code}");
        }
    }

    #[test]
    fn payloads_are_read_as_they_are_written() {
        for close in [Close::new(NO_STATUS), Close::new(1000), Close::with_reason(4000, "b\u{fc}")]
        {
            assert_eq!(Close::read(&close.payload()), Ok(close));
        }
        assert_eq!(Close::read(b"\x03"), Err(WebSocketError::InvalidCloseCode));
        assert_eq!(Close::read(b"\x03\xe8\xff"), Err(WebSocketError::InvalidUtf8));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let close = Close::with_reason(1000, &"\u{20ac}".repeat(50));
        let payload = close.payload();
        assert_eq!(payload.len(), 2 + 41 * 3);
        assert_eq!(&*Close::read(&payload).unwrap().reason, "\u{20ac}".repeat(41));
        assert_eq!(Close::with_reason(1000, &"x".repeat(124)).payload().len(), 125);
        assert_eq!(Close::with_reason(1000, &"x".repeat(123)).payload().len(), 125);
    }
}
