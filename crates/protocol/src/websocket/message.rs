//! A client's whole message, and the mask that may still be on it.

use std::borrow::Cow;

use super::frame::{Kind, Mask};

/// A whole message.
#[derive(Debug)]
pub enum Message<'a> {
    /// UTF-8.
    Text(Cow<'a, [u8]>),
    /// Anything.
    Binary(Cow<'a, [u8]>),
    /// The same with its mask: who copies it takes that off on the way, instead of in a pass of its
    /// own.
    Masked(Masked<'a>),
}

/// Bytes of a client's with their mask (RFC 6455, section 5.3).
#[derive(Debug)]
pub struct Masked<'a> {
    bytes: &'a mut [u8],
    mask: Mask,
}

impl<'a> Message<'a> {
    /// Which of the two it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Binary(_) | Self::Masked(_) => Kind::Binary,
        }
    }

    /// In bytes.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(data) | Self::Binary(data) => data.len(),
            Self::Masked(masked) => masked.len(),
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its bytes.
    pub fn into_data(self) -> Cow<'a, [u8]> {
        match self {
            Self::Text(data) | Self::Binary(data) => data,
            Self::Masked(masked) => Cow::Borrowed(masked.unmask()),
        }
    }
}

impl<'a> Masked<'a> {
    pub(super) fn new(bytes: &'a mut [u8], mask: Mask) -> Self {
        Self { bytes, mask }
    }

    /// In bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Takes the mask off, in place.
    pub fn unmask(self) -> &'a mut [u8] {
        let Self { bytes, mut mask } = self;
        mask.apply(bytes);
        bytes
    }

    /// Writes the bytes to `out`, without the mask and as far as there is room.
    pub fn copy_to(&self, out: &mut [u8]) {
        self.mask.copy(self.bytes, out);
    }
}
