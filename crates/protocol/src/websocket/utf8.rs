//! UTF-8 that arrives in pieces, refused at its first wrong byte.

use simdutf8::compat::from_utf8;

use super::error::WebSocketError;

/// What a text has been so far: valid, but perhaps for the rest of its last character.
#[derive(Debug, Default)]
pub(super) struct Utf8 {
    /// The start of a character.
    pending: [u8; 4],
    length: usize,
}

impl Utf8 {
    /// Checks the next piece.
    pub(super) fn push(&mut self, mut piece: &[u8]) -> Result<(), WebSocketError> {
        while self.length > 0 {
            let Some((&byte, rest)) = piece.split_first() else {
                return Ok(());
            };
            piece = rest;
            if let Some(place) = self.pending.get_mut(self.length) {
                *place = byte;
            }
            self.length = self.length.saturating_add(1);
            let character = self.pending.get(..self.length).unwrap_or_default();
            match std::str::from_utf8(character) {
                Ok(_) => self.length = 0,
                Err(error) if error.error_len().is_none() => {}
                Err(_) => return Err(WebSocketError::InvalidUtf8),
            }
        }
        let Err(error) = from_utf8(piece) else {
            return Ok(());
        };
        let rest = piece.get(error.valid_up_to()..).unwrap_or_default();
        match (error.error_len(), self.pending.get_mut(..rest.len())) {
            (None, Some(pending)) => {
                pending.copy_from_slice(rest);
                self.length = rest.len();
                Ok(())
            }
            _ => Err(WebSocketError::InvalidUtf8),
        }
    }

    /// Whether the text can end here.
    pub(super) fn finish(&self) -> Result<(), WebSocketError> {
        if self.length == 0 { Ok(()) } else { Err(WebSocketError::InvalidUtf8) }
    }
}

/// Checks a text that is complete.
pub(super) fn check(text: &[u8]) -> Result<(), WebSocketError> {
    simdutf8::basic::from_utf8(text).map(|_| ()).map_err(|_| WebSocketError::InvalidUtf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_in_pieces_are_judged_as_the_standard_library_does() {
        let samples: [&[u8]; 14] = [
            "\u{3ba}\u{1f79}\u{3c3}\u{3bc}\u{3b5} \u{1f600}".as_bytes(),
            b"plain",
            b"",
            b"\xf4\x8f\xbf\xbf",
            b"\xf4\x90\x80\x80",
            b"\xed\xa0\x80",
            b"\xed\x9f\xbf",
            b"\xc0\xaf",
            b"\xf0\x80\x80\x80",
            b"\xe2\x82",
            b"a\xff",
            b"\xf8\x88\x80\x80\x80",
            b"\xf0\x9f\x98",
            b"\xf0\x9f\x98\x80\x80",
        ];
        for sample in samples {
            let expected = std::str::from_utf8(sample).is_ok();
            assert_eq!(check(sample).is_ok(), expected);
            for step in 1..=sample.len().max(1) {
                let mut text = Utf8::default();
                let pushed = sample.chunks(step).try_for_each(|piece| text.push(piece));
                assert_eq!(pushed.and_then(|()| text.finish()).is_ok(), expected, "{sample:x?}");
            }
        }
    }

    #[test]
    fn a_wrong_byte_is_refused_before_the_text_ends() {
        // Beyond U+10FFFF, which the second byte shows.
        let mut text = Utf8::default();
        assert!(text.push(b"ok \xf4").is_ok());
        assert_eq!(text.push(b"\x90"), Err(WebSocketError::InvalidUtf8));
    }
}
