//! One JSON object that becomes one line.

use super::escape::{Escape, push_escaped};

/// Writes an object member by member; the names are ours and need no escaping.
#[derive(Debug)]
pub struct JsonLine<'a> {
    out: &'a mut Vec<u8>,
    is_empty: bool,
}

impl<'a> JsonLine<'a> {
    /// Begins an object.
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        out.push(b'{');
        Self { out, is_empty: true }
    }

    /// A string, of which no more than about `limit` bytes are kept.
    pub fn text(&mut self, name: &str, value: &[u8], limit: usize) {
        let out = self.name(name);
        out.push(b'"');
        push_escaped(out, value, Escape::Json, limit);
        out.push(b'"');
    }

    /// A string, or null.
    pub fn text_or_null(&mut self, name: &str, value: Option<&[u8]>, limit: usize) {
        match value {
            Some(value) => self.text(name, value, limit),
            None => self.name(name).extend_from_slice(b"null"),
        }
    }

    /// A whole number.
    pub fn integer(&mut self, name: &str, value: u64) {
        let out = self.name(name);
        out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }

    /// A whole number, or null.
    pub fn integer_or_null(&mut self, name: &str, value: Option<u64>) {
        match value {
            Some(value) => self.integer(name, value),
            None => self.name(name).extend_from_slice(b"null"),
        }
    }

    /// The place for a value that is written by the caller, as JSON.
    pub fn name(&mut self, name: &str) -> &mut Vec<u8> {
        self.out.extend_from_slice(if self.is_empty { b"\"" } else { b",\"" });
        self.is_empty = false;
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
        self.out
    }

    /// Ends the object, and the line.
    pub fn end(self) {
        self.out.extend_from_slice(b"}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_stand_in_one_line() {
        let mut out = Vec::new();
        JsonLine::new(&mut out).end();
        let mut line = JsonLine::new(&mut out);
        line.text("a", b"x\ny", 10);
        line.integer("b", 7);
        line.text_or_null("c", None, 10);
        line.integer_or_null("d", None);
        line.end();
        let expected = "{}\n{\"a\":\"x\\ny\",\"b\":7,\"c\":null,\"d\":null}\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
