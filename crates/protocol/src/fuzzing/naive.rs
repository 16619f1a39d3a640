//! The second opinion: requests read straight from the RFC's grammar, slowly, and with none of the
//! engine's code.

/// A head read without regard for speed, straight from RFC 9112's grammar.
pub(super) struct NaiveHead<'b> {
    pub(super) method: &'b [u8],
    pub(super) target: &'b [u8],
    pub(super) version: &'b [u8],
    pub(super) fields: Vec<(&'b [u8], &'b [u8])>,
}

impl<'b> NaiveHead<'b> {
    pub(super) fn read(mut head: &'b [u8]) -> Option<Self> {
        while let Some(rest) = head.strip_prefix(b"\r\n") {
            head = rest;
        }
        let mut lines = Vec::new();
        loop {
            let at = head.windows(2).position(|pair| pair == b"\r\n")?;
            let (line, rest) = head.split_at_checked(at)?;
            head = rest.get(2..)?;
            if line.is_empty() {
                break;
            }
            if line.iter().any(|&byte| byte != b'\t' && byte.is_ascii_control()) {
                return None;
            }
            lines.push(line);
        }
        let mut lines = lines.into_iter();
        let mut words = lines.next()?.split(|&byte| byte == b' ');
        let (method, target, version) = (words.next()?, words.next()?, words.next()?);
        if words.next().is_some() || !head.is_empty() {
            return None;
        }
        let fields = lines.map(Self::field).collect::<Option<Vec<_>>>()?;
        Some(Self { method, target, version, fields })
    }

    fn field(line: &'b [u8]) -> Option<(&'b [u8], &'b [u8])> {
        let (name, value) = line.split_at_checked(line.iter().position(|&byte| byte == b':')?)?;
        let odd = |byte: &u8| !byte.is_ascii_graphic() || b"\"(),/:;<=>?@[\\]{}".contains(byte);
        (!name.is_empty() && !name.iter().any(odd)).then_some((name, value.get(1..)?.trim_ascii()))
    }

    pub(super) fn values_of(&self, wanted: &[u8]) -> Vec<&'b [u8]> {
        let matching = self.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        matching.map(|(_, value)| *value).collect()
    }
}

/// The data of a complete chunked body.
pub(super) fn read_chunks(mut input: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let at = input.windows(2).position(|pair| pair == b"\r\n")?;
        let line = input.get(..at)?;
        input = input.get(at.checked_add(2)?..)?;
        let digits = line.split(|&byte| byte == b';').next()?;
        if !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        let size = usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()?;
        if size == 0 {
            break;
        }
        body.extend_from_slice(input.get(..size)?);
        input = input.get(size..)?.strip_prefix(b"\r\n")?;
    }
    (input == b"\r\n" || input.ends_with(b"\r\n\r\n")).then_some(body)
}
