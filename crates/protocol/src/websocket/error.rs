//! What a client can do wrong on an open WebSocket, and the close code it gets for it.

use thiserror::Error;

use super::close;

/// Every way in which a client's frames can be wrong. The text is the reason it is given.
#[derive(Clone, Copy, Debug, Error, Eq, Hash, PartialEq)]
pub enum WebSocketError {
    /// A bit that no agreed extension has a meaning for.
    #[error("reserved bit set")]
    ReservedBit,
    /// An opcode without a meaning (RFC 6455 section 5.2).
    #[error("reserved opcode")]
    ReservedOpcode,
    /// A client must mask every frame (RFC 6455 section 5.1).
    #[error("frame is not masked")]
    NotMasked,
    /// A control frame in fragments (RFC 6455 section 5.5).
    #[error("fragmented control frame")]
    FragmentedControl,
    /// A control frame of more than 125 bytes.
    #[error("control frame is too long")]
    ControlTooLong,
    /// A length of more than 63 bits.
    #[error("malformed frame length")]
    InvalidLength,
    /// A continuation of nothing.
    #[error("continuation without a message")]
    UnexpectedContinuation,
    /// A new message before the end of the one before.
    #[error("message within a fragmented message")]
    ExpectedContinuation,
    /// A close frame with half a code, or one that must not be sent (RFC 6455 section 7.4).
    #[error("invalid close code")]
    InvalidCloseCode,
    /// Text, or a close frame's reason, that is not UTF-8.
    #[error("invalid UTF-8")]
    InvalidUtf8,
    /// Compressed data that is none.
    #[error("invalid compressed data")]
    InvalidDeflate,
    /// More than the server takes, before or after decompression.
    #[error("message is too big")]
    TooBig,
}

impl WebSocketError {
    /// The close code that tells the client.
    pub fn close_code(self) -> u16 {
        match self {
            Self::InvalidUtf8 => close::INVALID_DATA,
            Self::TooBig => close::TOO_BIG,
            _ => close::PROTOCOL_ERROR,
        }
    }
}
