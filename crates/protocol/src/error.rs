//! What can be wrong, and who is at fault.
//!
//! Owns: one enum for a client's bytes ([`RequestError`], each variant with the status the client
//! gets) and one for an application's lifespan messages ([`LifespanError`]). Must not know: who
//! logs them or writes the response.

use thiserror::Error;

/// Every way in which a client's bytes can be wrong. The text is logged as the reason.
#[derive(Clone, Copy, Debug, Error, Eq, Hash, PartialEq)]
pub enum RequestError {
    /// `GET *`: only `OPTIONS` may ask about the server as a whole (RFC 9112 section 3.2.4).
    #[error("the target `*` is for OPTIONS only")]
    AsteriskTarget,
    /// CR without LF behind it (RFC 9112 section 2.2).
    #[error("carriage return without line feed")]
    BareCr,
    /// LF without CR before it; parsers that disagree on it are how requests are smuggled.
    #[error("line feed without carriage return")]
    BareLf,
    /// More body than the server takes.
    #[error("body is larger than allowed")]
    BodyTooLarge,
    /// The chunk extensions of one body are longer than allowed.
    #[error("chunk extensions are longer than allowed")]
    ChunkExtensionTooLong,
    /// A chunk size of more than 16 digits.
    #[error("chunk size has more than 16 digits")]
    ChunkSizeTooLarge,
    /// A transfer coding list that does not end in `chunked`: the body would have no end
    /// (RFC 9112 section 6.3, rule 4).
    #[error("final transfer coding is not chunked")]
    ChunkedNotFinal,
    /// More than one Content-Length, even if they agree (RFC 9110 section 8.6).
    #[error("more than one content-length")]
    ConflictingContentLength,
    /// Both framings at once (RFC 9112 section 6.3, rule 3).
    #[error("content-length together with transfer-encoding")]
    ContentLengthWithTransferEncoding,
    /// More than one Host.
    #[error("more than one host field")]
    DuplicateHost,
    /// The head is larger than allowed.
    #[error("request head is larger than allowed")]
    HeadTooLarge,
    /// The head ends too early: its caller passed something that is not a whole head.
    #[error("request head is not complete")]
    IncompleteHead,
    /// A chunk extension that does not follow RFC 9112 section 7.1.1.
    #[error("malformed chunk extension")]
    InvalidChunkExtension,
    /// A chunk size that is not `1*HEXDIG` followed by `;` or CRLF.
    #[error("malformed chunk size")]
    InvalidChunkSize,
    /// A Content-Length that is not `1*DIGIT`, or does not fit 64 bits.
    #[error("malformed content-length")]
    InvalidContentLength,
    /// An Expect other than `100-continue` (RFC 9110 section 10.1.1).
    #[error("unknown expectation, only 100-continue is supported")]
    InvalidExpectation,
    /// A field name that is empty, is not a token, or has no colon behind it.
    #[error("malformed field name")]
    InvalidFieldName,
    /// A control character in a field value.
    #[error("control character in a field value")]
    InvalidFieldValue,
    /// A Host, or a target's authority, that is not `uri-host [ ":" port ]`.
    #[error("malformed host")]
    InvalidHost,
    /// A method that is not a token.
    #[error("malformed method")]
    InvalidMethod,
    /// A target in no form of RFC 9112 section 3.2, or with a byte that a URI cannot have.
    #[error("malformed request target")]
    InvalidTarget,
    /// A trailer field that is malformed, or that would change the framing.
    #[error("malformed or forbidden trailer field")]
    InvalidTrailer,
    /// `chunked` more than once, or an empty member in the list.
    #[error("malformed transfer-encoding")]
    InvalidTransferEncoding,
    /// No version, or one that is not `HTTP/` DIGIT `.` DIGIT.
    #[error("malformed http version")]
    InvalidVersion,
    /// A method this server has no meaning for: `CONNECT`.
    #[error("method is not implemented")]
    MethodNotImplemented,
    /// A chunk's data is not followed by CRLF.
    #[error("chunk data without line end behind it")]
    MissingChunkTerminator,
    /// HTTP/1.1 without Host (RFC 9112 section 3.2).
    #[error("no host field")]
    MissingHost,
    /// A field line that starts with white space (RFC 9112 section 5.2).
    #[error("folded field line")]
    ObsFold,
    /// An extended `CONNECT` for something else than a WebSocket (RFC 8441 section 4).
    #[error("protocol is not implemented, only websocket is")]
    ProtocolNotImplemented,
    /// The client took too long to send its request.
    #[error("request did not arrive in time")]
    RequestTimeout,
    /// The target is longer than allowed.
    #[error("request target is longer than allowed")]
    TargetTooLong,
    /// More fields than allowed.
    #[error("more fields than allowed")]
    TooManyFields,
    /// The trailer section is larger than allowed.
    #[error("trailers are larger than allowed")]
    TrailersTooLarge,
    /// Transfer-Encoding in HTTP/1.0, where it has no meaning (RFC 9112 section 6.1).
    #[error("transfer-encoding in an http/1.0 request")]
    TransferEncodingInHttp10,
    /// A coding before the final `chunked` that this server does not decode.
    #[error("unknown transfer coding, only chunked is supported")]
    UnknownTransferEncoding,
    /// A well-formed version other than 1.0 and 1.1.
    #[error("http version is not supported on this connection")]
    UnsupportedVersion,
    /// A WebSocket handshake with content.
    #[error("websocket handshake with content")]
    WebSocketContent,
    /// A WebSocket handshake without one key of 16 bytes (RFC 6455 section 4.2.1).
    #[error("missing or malformed sec-websocket-key")]
    WebSocketKey,
    /// A WebSocket handshake is a GET.
    #[error("websocket handshake that is not a GET")]
    WebSocketMethod,
    /// A subprotocol that is not a token.
    #[error("malformed sec-websocket-protocol")]
    WebSocketSubprotocol,
    /// A WebSocket version other than 13 (RFC 6455 section 4.4).
    #[error("websocket version is not supported, only 13 is")]
    WebSocketVersion,
    /// A WebSocket handshake without one version.
    #[error("missing or repeated sec-websocket-version")]
    WebSocketVersionMissing,
    /// White space between a field's name and its colon (RFC 9112 section 5.1).
    #[error("white space before the colon of a field")]
    WhitespaceBeforeColon,
}

impl RequestError {
    /// The status code that tells the client.
    pub fn status(self) -> u16 {
        match self {
            Self::RequestTimeout => 408,
            Self::BodyTooLarge => 413,
            Self::TargetTooLong => 414,
            Self::InvalidExpectation => 417,
            Self::WebSocketVersion => 426,
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => 431,
            Self::MethodNotImplemented
            | Self::ProtocolNotImplemented
            | Self::UnknownTransferEncoding => 501,
            Self::UnsupportedVersion => 505,
            _ => 400,
        }
    }
}

/// An application's lifespan message that is not legal now.
#[derive(Clone, Debug, Error, Eq, PartialEq)]
pub enum LifespanError {
    /// The message has no place in this state.
    #[error("unexpected message `{message}` while the lifespan is {state}")]
    UnexpectedMessage {
        /// Where the lifespan stood.
        state: &'static str,
        /// The ASGI type of the message.
        message: &'static str,
    },
    /// The type is none of the four that an application may send.
    #[error("unknown lifespan message `{0}`")]
    UnknownMessage(String),
}
