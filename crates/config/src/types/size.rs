//! Numbers of bytes, and parts of the memory that there is.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ParseError, digits};

/// A number of bytes, written plainly, with a binary unit (`64KiB`, `64K`) or a decimal one (`64KB`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(
    /// The number of bytes.
    pub u64,
);

impl ByteSize {
    /// `count` times 1024 bytes.
    pub(crate) const fn kib(count: u64) -> Self {
        Self(count * 1024)
    }
}

impl FromStr for ByteSize {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let expected = || ParseError::new("a number of bytes, or one with KiB, MiB or GiB");
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| expected())?;
        let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "kb" => 1_000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            _ => return Err(expected()),
        };
        number.checked_mul(factor).map(Self).ok_or_else(|| ParseError::new("a size below 16 EiB"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
            let factor = 1_u64 << shift;
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// How much memory a process may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryLimit {
    /// So many bytes.
    Bytes(u64),
    /// A part of what all processes of the container may take together, from 1 to 100.
    Percent(u8),
}

impl MemoryLimit {
    /// Less than an interpreter takes: a number without its unit, most likely.
    pub(crate) const SMALLEST: ByteSize = ByteSize::kib(16 * 1024);
}

impl FromStr for MemoryLimit {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let expected = || {
            let smallest = Self::SMALLEST;
            ParseError::new(format!("a size of at least {smallest}, such as 512MiB, or 1% to 100%"))
        };
        if let Some(number) = text.strip_suffix('%') {
            let percent = digits(number.trim_end()).filter(|percent| (1..=100).contains(percent));
            return percent.map(Self::Percent).ok_or_else(expected);
        }
        match text.parse() {
            Ok(size @ ByteSize(bytes)) if size >= Self::SMALLEST => Ok(Self::Bytes(bytes)),
            _ => Err(expected()),
        }
    }
}
