//! Frame headers and masks (RFC 6455 section 5).

use super::error::WebSocketError;

/// The longest payload of a control frame.
pub const MAX_CONTROL: usize = 125;

/// The opcodes that have a meaning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Opcode {
    /// More of a message.
    Continuation,
    /// The start of a message.
    Message(Kind),
    /// The last frame of a side.
    Close,
    /// To be answered.
    Ping,
    /// The answer.
    Pong,
}

/// The two kinds of messages.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Anything.
    Binary,
}

impl Opcode {
    fn from_bits(bits: u8) -> Result<Self, WebSocketError> {
        match bits {
            0x0 => Ok(Self::Continuation),
            0x1 => Ok(Self::Message(Kind::Text)),
            0x2 => Ok(Self::Message(Kind::Binary)),
            0x8 => Ok(Self::Close),
            0x9 => Ok(Self::Ping),
            0xa => Ok(Self::Pong),
            _ => Err(WebSocketError::ReservedOpcode),
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Message(Kind::Text) => 0x1,
            Self::Message(Kind::Binary) => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// Whether a frame is the last of its message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fin {
    /// It is.
    Last,
    /// Another one follows.
    More,
}

/// Whether a message is compressed: the first reserved bit of its first frame (RFC 7692).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Coding {
    /// As it is.
    Plain,
    /// permessage-deflate.
    Deflate,
}

/// The header of a client's frame, found to be in order by itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    pub(super) opcode: Opcode,
    pub(super) fin: Fin,
    pub(super) coding: Coding,
    pub(super) mask: Mask,
    pub(super) length: u64,
    /// Of the header itself.
    pub(super) size: usize,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` if it is not complete. What is wrong is
    /// said as soon as it can be seen.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, WebSocketError> {
        let &[first, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        if first & 0x30 != 0 {
            return Err(WebSocketError::ReservedBit);
        }
        let opcode = Opcode::from_bits(first & 0x0f)?;
        let fin = if first & 0x80 == 0 { Fin::More } else { Fin::Last };
        let coding = if first & 0x40 == 0 { Coding::Plain } else { Coding::Deflate };
        if opcode.is_control() && fin == Fin::More {
            return Err(WebSocketError::FragmentedControl);
        }
        let &[second, ref rest @ ..] = rest else {
            return Ok(None);
        };
        if second & 0x80 == 0 {
            return Err(WebSocketError::NotMasked);
        }
        let short = second & 0x7f;
        if opcode.is_control() && usize::from(short) > MAX_CONTROL {
            return Err(WebSocketError::ControlTooLong);
        }
        let (length, rest) = match short {
            126 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
                None => return Ok(None),
            },
            127 => match rest.split_first_chunk() {
                Some((length, rest)) => (u64::from_be_bytes(*length), rest),
                None => return Ok(None),
            },
            short => (u64::from(short), rest),
        };
        if length >> 63 != 0 {
            return Err(WebSocketError::InvalidLength);
        }
        Ok(rest.split_first_chunk().map(|(key, rest)| Self {
            opcode,
            fin,
            coding,
            mask: Mask::new(*key),
            length,
            size: bytes.len().saturating_sub(rest.len()),
        }))
    }
}

/// Appends the header of a whole message, or of a control frame, from the server.
pub fn encode_header(out: &mut Vec<u8>, opcode: Opcode, coding: Coding, length: usize) {
    let compressed = if coding == Coding::Deflate { 0x40 } else { 0 };
    let first = 0x80 | compressed | opcode.bits();
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => out.extend_from_slice(&[first, short]),
        (_, Ok(length)) => {
            out.extend_from_slice(&[first, 126]);
            out.extend_from_slice(&length.to_be_bytes());
        }
        (_, Err(_)) => {
            out.extend_from_slice(&[first, 127]);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// A frame's mask, and how far it has been used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mask(u32);

impl Mask {
    fn new(key: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(key))
    }

    fn wide(self) -> u64 {
        u64::from(self.0) | (u64::from(self.0) << 32)
    }

    /// Copies the next bytes of the payload without the mask, as many as there are and as `out` has
    /// room for.
    pub(super) fn copy(self, masked: &[u8], out: &mut [u8]) {
        let wide = self.wide();
        let length = masked.len().min(out.len());
        let (words, rest) = masked.get(..length).unwrap_or_default().as_chunks::<8>();
        let (out_words, out_rest) = out.get_mut(..length).unwrap_or_default().as_chunks_mut::<8>();
        for (word, out) in words.iter().zip(out_words) {
            *out = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
        for ((byte, key), out) in rest.iter().zip(wide.to_ne_bytes()).zip(out_rest) {
            *out = byte ^ key;
        }
    }

    /// Takes the mask off the next bytes of the payload.
    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        let wide = self.wide();
        let (words, rest) = bytes.as_chunks_mut::<8>();
        for word in words {
            *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
        }
        for (byte, key) in rest.iter_mut().zip(wide.to_ne_bytes()) {
            *byte ^= key;
        }
        // The next byte goes with the key byte that would have come next.
        let turn = match rest.len() % 4 {
            1 => 8,
            2 => 16,
            3 => 24,
            _ => 0,
        };
        self.0 = if cfg!(target_endian = "little") {
            self.0.rotate_right(turn)
        } else {
            self.0.rotate_left(turn)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_taken_off_while_copying_as_far_as_there_is_room() {
        let mask = Mask::new([0x37, 0xfa, 0x21, 0x3d]);
        for length in 0..=40 {
            let masked: Vec<u8> = (0..length).collect();
            let mut plain = masked.clone();
            let mut applied = mask;
            applied.apply(&mut plain);
            for room in 0..=48 {
                let mut out = vec![0xff; room];
                mask.copy(&masked, &mut out);
                let mut expected = plain.clone();
                expected.resize(room, 0xff);
                assert_eq!(out, expected, "{length} bytes, room for {room}");
            }
        }
    }

    #[test]
    fn a_mask_is_taken_off_whatever_the_pieces() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        let plain: Vec<u8> = (0..=255).cycle().take(1000).collect();
        let masked: Vec<u8> =
            plain.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
        for step in [1, 2, 3, 4, 5, 7, 8, 9, 31, 1000] {
            let mut bytes = masked.clone();
            let mut mask = Mask::new(key);
            bytes.chunks_mut(step).for_each(|piece| mask.apply(piece));
            assert_eq!(bytes, plain, "{step}");
        }
    }

    #[test]
    fn headers_of_all_lengths_are_written() {
        let table: [(usize, &[u8]); 6] = [
            (0, &[0x81, 0]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65535, &[0x81, 126, 0xff, 0xff]),
            (65536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
            (1 << 24, &[0x81, 127, 0, 0, 0, 0, 1, 0, 0, 0]),
        ];
        for (length, expected) in table {
            let mut out = Vec::new();
            encode_header(&mut out, Opcode::Message(Kind::Text), Coding::Plain, length);
            assert_eq!(out, expected);
        }
        let mut out = Vec::new();
        encode_header(&mut out, Opcode::Message(Kind::Binary), Coding::Deflate, 1);
        assert_eq!(out, [0xc2, 1]);
    }

    #[test]
    fn wrong_headers_are_seen_at_their_first_wrong_byte() {
        use WebSocketError as E;
        let table: [(&[u8], E); 10] = [
            (&[0xa1], E::ReservedBit),
            (&[0x91], E::ReservedBit),
            (&[0x83], E::ReservedOpcode),
            (&[0x8b], E::ReservedOpcode),
            (&[0x09], E::FragmentedControl),
            (&[0x08], E::FragmentedControl),
            (&[0x81, 0x05], E::NotMasked),
            (&[0x89, 0xfe], E::ControlTooLong),
            (&[0x88, 0xff], E::ControlTooLong),
            (&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], E::InvalidLength),
        ];
        for (bytes, error) in table {
            assert_eq!(Header::read(bytes).unwrap_err(), error, "{bytes:x?}");
        }
        let whole = [0x82, 0xfe, 0x01, 0x00, 1, 2, 3, 4];
        for end in 0..whole.len() {
            assert!(Header::read(&whole[..end]).unwrap().is_none(), "{end}");
        }
        assert_eq!(Header::read(&whole).unwrap().unwrap().length, 256);
    }
}
