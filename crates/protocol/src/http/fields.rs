//! Response fields in wire form, checked as they come in (RFC 9110, section 5).
//!
//! An application's header names and values are untrusted here: a CR, LF or NUL in one of them
//! would let it (or whoever feeds it) write a second response. A [`FieldBlock`] can only hold what
//! has passed the check, so that whoever writes it to a connection need not look again.

use thiserror::Error;

use super::grammar::{is_token, is_value_byte, trim};

/// Why a response field was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FieldError {
    /// The name is empty or has a byte that is not a token character (RFC 9110, section 5.6.2).
    #[error("a header name must be a token: letters, digits and !#$%&'*+-.^_`|~")]
    InvalidName,
    /// The value has a control character (RFC 9110, section 5.5).
    #[error("a header value must not contain control characters such as CR, LF or NUL")]
    InvalidValue,
    /// `content-length` is not a number.
    #[error("content-length must be a decimal number")]
    InvalidContentLength,
    /// Two `content-length` fields that differ.
    #[error("content-length was given twice with different values")]
    ConflictingContentLength,
    /// The status is not one that a response can end with (RFC 9110, section 15).
    #[error("status must be an integer from 200 to 999")]
    InvalidStatus,
    /// A field that belongs to the WebSocket handshake.
    #[error("sec-websocket fields are the server's to send; give `subprotocol` to choose one")]
    WebSocketField,
    /// A subprotocol that is not a token.
    #[error("a subprotocol must be a token, as the client offered it")]
    InvalidSubprotocol,
}

/// `name: value CRLF` lines, one after the other, every one of them valid.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct FieldBlock {
    wire: Vec<u8>,
}

impl FieldBlock {
    /// An empty block with room for `capacity` bytes of wire form.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { wire: Vec::with_capacity(capacity) }
    }

    /// Adds one field; white space around the value is dropped (RFC 9112, section 5.1).
    pub fn push(&mut self, name: &[u8], value: &[u8]) -> Result<(), FieldError> {
        if !is_token(name) {
            return Err(FieldError::InvalidName);
        }
        let value = trim(value);
        if !value.iter().all(|&byte| is_value_byte(byte)) {
            return Err(FieldError::InvalidValue);
        }
        self.wire.extend_from_slice(name);
        self.wire.extend_from_slice(b": ");
        self.wire.extend_from_slice(value);
        self.wire.extend_from_slice(b"\r\n");
        Ok(())
    }

    /// Adds all fields of another block.
    pub fn append(&mut self, other: &Self) {
        self.wire.extend_from_slice(&other.wire);
    }

    /// The block as it stands on an HTTP/1.1 connection, without the empty line that ends a
    /// section.
    pub fn as_wire(&self) -> &[u8] {
        &self.wire
    }

    /// Whether there is no field.
    pub fn is_empty(&self) -> bool {
        self.wire.is_empty()
    }

    /// Name and value of every field, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        split_lines(&self.wire)
    }
}

/// Name and value of every `name: value CRLF` line.
pub(crate) fn split_lines(wire: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    // A name has no colon and a value no LF, so the lines split without an index of their own.
    wire.split_inclusive(|&byte| byte == b'\n').filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        let (name, rest) = line.split_at_checked(colon)?;
        Some((name, rest.strip_prefix(b": ")?.strip_suffix(b"\r\n")?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_kept_in_order_with_duplicates() {
        let mut block = FieldBlock::default();
        for (name, value) in [("a", "1"), ("b", "2: x"), ("a", ""), ("c", " \tpadded ")] {
            block.push(name.as_bytes(), value.as_bytes()).unwrap();
        }
        assert_eq!(block.as_wire(), b"a: 1\r\nb: 2: x\r\na: \r\nc: padded\r\n");
        let fields: Vec<_> = block.iter().collect();
        let expected: [(&[u8], &[u8]); 4] =
            [(b"a", b"1"), (b"b", b"2: x"), (b"a", b""), (b"c", b"padded")];
        assert_eq!(fields, expected);
    }

    #[test]
    fn header_injection_is_refused() {
        let cases: [(&[u8], &[u8], FieldError); 10] = [
            (b"a", b"x\r\n", FieldError::InvalidValue),
            (b"", b"x", FieldError::InvalidName),
            (b"a b", b"x", FieldError::InvalidName),
            (b"a:", b"x", FieldError::InvalidName),
            (b"a\r\nb", b"x", FieldError::InvalidName),
            ("é".as_bytes(), b"x", FieldError::InvalidName),
            (b"a", b"x\r\nset-cookie: y", FieldError::InvalidValue),
            (b"a", b"x\ny", FieldError::InvalidValue),
            (b"a", b"x\0y", FieldError::InvalidValue),
            (b"a", b"x\x7fy", FieldError::InvalidValue),
        ];
        for (name, value, error) in cases {
            let mut block = FieldBlock::default();
            assert_eq!(block.push(name, value), Err(error), "{name:?} {value:?}");
            assert!(block.is_empty(), "nothing of a refused field stays behind");
        }
    }

    #[test]
    fn values_beyond_ascii_pass() {
        let mut block = FieldBlock::default();
        block.push(b"x", "caf\u{e9}\tbar".as_bytes()).unwrap();
        assert_eq!(block.iter().next().unwrap().1, "caf\u{e9}\tbar".as_bytes());
    }
}
