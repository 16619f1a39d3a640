//! From the text of one value to the value: the readers that rows of the table name.
//!
//! Owns what is allowed for numbers, durations, switches, header fields and the application's
//! name; addresses and sizes are in [`crate::types`]. Every reader says in its error what would
//! have been right. Must not know which setting a text belongs to.

use std::ffi::OsString;
use std::fmt::Display;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::types::{BindAddr, ByteSize, ParseError, WorkerCount, digits, one_of};

/// The longest duration that is accepted; far below where adding to a clock overflows.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Fields that frame a message or belong to one connection: the server alone may write them
/// (RFC 9112 section 6, RFC 9110 section 7.6.1).
const RESERVED_FIELDS: [&str; 7] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// A whole number from `min` to `max`.
pub(crate) fn integer<T>(text: &str, min: T, max: T) -> Result<T, ParseError>
where
    T: FromStr + PartialOrd + Copy + Display,
{
    digits(text)
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| ParseError::new(format!("a whole number from {min} to {max}")))
}

/// A whole number from `min` up.
pub(crate) fn at_least(text: &str, min: u64) -> Result<u64, ParseError> {
    digits(text)
        .filter(|number| *number >= min)
        .ok_or_else(|| ParseError::new(format!("a whole number, at least {min}")))
}

/// What `read` makes of the text, or nothing for `none`.
pub(crate) fn or_none<T>(
    text: &str,
    read: impl FnOnce(&str) -> Result<T, ParseError>,
) -> Result<Option<T>, ParseError> {
    if text.eq_ignore_ascii_case("none") {
        return Ok(None);
    }
    match read(text) {
        Ok(value) => Ok(Some(value)),
        Err(ParseError(expected)) => Err(ParseError(format!("{expected}, or none"))),
    }
}

/// What `read` makes of the text, or nothing for `auto`.
pub(crate) fn or_auto<T>(
    text: &str,
    read: impl FnOnce(&str) -> Result<T, ParseError>,
) -> Result<Option<T>, ParseError> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(None);
    }
    match read(text) {
        Ok(value) => Ok(Some(value)),
        Err(ParseError(expected)) => Err(ParseError(format!("{expected}, or auto"))),
    }
}

/// The number of workers, or `auto`.
pub(crate) fn workers(text: &str) -> Result<WorkerCount, ParseError> {
    let count = or_auto(text, |text| integer(text, 1, 1024))?;
    Ok(count.map_or(WorkerCount::Auto, WorkerCount::Exactly))
}

/// The mode of the admin listener's Unix socket: what it tells is for the server's own user.
const ADMIN_PERMISSIONS: u32 = 0o600;

/// Where the admin listener is: no descriptor, and there is no usual port to leave out.
pub(crate) fn admin_address(text: &str) -> Result<BindAddr, ParseError> {
    let expected = || ParseError::new("`host:port` or `unix:path`");
    match text.parse()? {
        BindAddr::Unix { path, .. } => Ok(BindAddr::Unix { path, permissions: ADMIN_PERMISSIONS }),
        BindAddr::Tcp { .. } if text.ends_with(']') || !text.contains(':') => Err(expected()),
        address @ BindAddr::Tcp { .. } => Ok(address),
        BindAddr::Fd(_) | BindAddr::Tls(_) => Err(expected()),
    }
}

/// A switch: on or off.
pub(crate) fn switch(text: &str) -> Result<bool, ParseError> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "on" | "1" => Ok(true),
        "false" | "f" | "no" | "n" | "off" | "0" => Ok(false),
        _ => Err(ParseError::new("true or false")),
    }
}

/// A switch that can also be left to the server.
pub(crate) fn switch_or_auto(text: &str) -> Result<Option<bool>, ParseError> {
    if text.eq_ignore_ascii_case("auto") {
        return Ok(None);
    }
    match switch(text) {
        Ok(value) => Ok(Some(value)),
        Err(_) => Err(ParseError::new("true, false or auto")),
    }
}

/// Whether to look at files, also in the words of `WATCHFILES_FORCE_POLLING`.
pub(crate) fn polling(text: &str) -> Result<Option<bool>, ParseError> {
    if ["disable", "disabled"].iter().any(|word| text.eq_ignore_ascii_case(word)) {
        return Ok(Some(false));
    }
    switch_or_auto(text)
}

/// A shell's pattern; whether it is one is found out where it is used.
pub(crate) fn pattern(text: &str) -> Result<String, ParseError> {
    if text.is_empty() || text.contains('\0') {
        return Err(ParseError::new("a pattern, such as *.html"));
    }
    Ok(text.to_owned())
}

/// A time span: seconds, with a fraction or not, or a number with `ms`, `s`, `m` or `h`.
pub(crate) fn duration(text: &str) -> Result<Duration, ParseError> {
    let expected = || ParseError::new("seconds, or a number with ms, s, m or h");
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(digits);
    let unit_seconds = match unit.trim_start() {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(expected()),
    };
    let number: f64 = number.parse().map_err(|_| expected())?;
    Duration::try_from_secs_f64(number * unit_seconds)
        .ok()
        .filter(|duration| *duration <= LONGEST)
        .ok_or_else(|| ParseError::new("a time of at most 366 days"))
}

/// A time span that cannot be nothing.
pub(crate) fn positive_duration(text: &str) -> Result<Duration, ParseError> {
    match duration(text)? {
        Duration::ZERO => Err(ParseError::new("more than 0 seconds")),
        duration => Ok(duration),
    }
}

/// How long something that takes a while to start may live.
pub(crate) fn lifetime(text: &str) -> Result<Duration, ParseError> {
    let lifetime = duration(text)?;
    (lifetime >= Duration::from_secs(1))
        .then_some(lifetime)
        .ok_or_else(|| ParseError::new("a time of at least 1 second"))
}

/// A size from `min` to `max`.
pub(crate) fn size(text: &str, min: ByteSize, max: ByteSize) -> Result<usize, ParseError> {
    let size: ByteSize = text.parse()?;
    usize::try_from(size.0)
        .ok()
        .filter(|_| (min..=max).contains(&size))
        .ok_or_else(|| ParseError::new(format!("a size from {min} to {max}")))
}

/// Permission bits in octal, with or without `0o`.
pub(crate) fn permissions(text: &str) -> Result<u32, ParseError> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    // `from_str_radix` takes a sign
    let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
    u32::from_str_radix(digits, 8)
        .ok()
        .filter(|bits| plain && *bits <= 0o777)
        .ok_or_else(|| ParseError::new("an octal mode from 0 to 777"))
}

/// One of `words`, in any case.
pub(crate) fn choice(text: &str, words: &[&str]) -> Result<(), ParseError> {
    if words.iter().any(|word| word.eq_ignore_ascii_case(text)) {
        Ok(())
    } else {
        Err(one_of(words))
    }
}

/// The path of a file.
pub(crate) fn path(text: &str) -> Result<PathBuf, ParseError> {
    if text.is_empty() || text.ends_with('/') || text.contains('\0') {
        return Err(ParseError::new("the path of a file"));
    }
    Ok(PathBuf::from(text))
}

/// A variable and its value.
pub(crate) fn assignment(text: &str) -> Result<(OsString, OsString), ParseError> {
    let (name, value) = text.split_once('=').ok_or_else(|| ParseError::new("`NAME=VALUE`"))?;
    if name.is_empty() || text.contains('\0') {
        return Err(ParseError::new("`NAME=VALUE`"));
    }
    Ok((name.into(), value.into()))
}

/// A pattern for the path of a request.
pub(crate) fn path_glob(text: &str) -> Result<String, ParseError> {
    if text.starts_with(['/', '*', '?']) && !text.contains(char::is_whitespace) {
        return Ok(text.to_owned());
    }
    Err(ParseError::new("a path with `*` for any text in it, such as `/health*`"))
}

/// A directory, which need not be there.
pub(crate) fn directory(text: &str) -> Result<PathBuf, ParseError> {
    if text.is_empty() || text.contains('\0') {
        return Err(ParseError::new("a directory"));
    }
    Ok(PathBuf::from(text))
}

/// Directories with commas between them, as gunicorn has it.
pub(crate) fn directories(text: &str) -> Result<Vec<String>, ParseError> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    // the separator of `PYTHONPATH` cannot be part of a name
    match parts.clone().find(|part| part.contains([':', '\0'])) {
        Some(_) => Err(ParseError::new("directories without `:`")),
        None => Ok(parts.map(str::to_owned).collect()),
    }
}

/// The path an application is mounted on: empty, or `/`-led; a last `/` is dropped.
pub(crate) fn root_path(text: &str) -> Result<String, ParseError> {
    let plain =
        text.chars().all(|c| !c.is_whitespace() && !c.is_control() && !matches!(c, '?' | '#'));
    if plain && (text.is_empty() || text.starts_with('/')) {
        Ok(text.trim_end_matches('/').to_owned())
    } else {
        Err(ParseError::new("a path that starts with `/`, such as `/api`"))
    }
}

/// A response header field, `NAME:VALUE` (RFC 9110 section 5); the name in lower case.
pub(crate) fn header(text: &str) -> Result<(String, String), ParseError> {
    let Some((name, value)) = text.split_once(':') else {
        return Err(ParseError::new("`NAME:VALUE`"));
    };
    if name.is_empty() || !name.bytes().all(is_token_byte) {
        return Err(ParseError::new("a header name of letters, digits and `-` before the `:`"));
    }
    let value = value.trim_matches([' ', '\t']);
    if !value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')) {
        return Err(ParseError::new("a header value of printable ASCII characters"));
    }
    let name = name.to_ascii_lowercase();
    if RESERVED_FIELDS.contains(&name.as_str()) {
        return Err(ParseError::new(format!(
            "a header that the server does not write itself, unlike {name}"
        )));
    }
    Ok((name, value.to_owned()))
}

/// `tchar` of RFC 9110 section 5.6.2.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The application: `module:attribute`, `module` or `module:factory()`. Only the syntax is judged.
pub(crate) fn target(text: &str) -> Result<String, ParseError> {
    let (module, attribute) = match text.split_once(':') {
        Some((module, attribute)) => (module, Some(attribute)),
        None => (text, None),
    };
    if let Some(meant) = target_meant_by_path(module, attribute) {
        return Err(ParseError::new(format!("`module:attribute` (did you mean {meant}?)")));
    }
    let attribute_is_good =
        attribute.is_none_or(|name| is_dotted_name(name.strip_suffix("()").unwrap_or(name)));
    if is_dotted_name(module) && attribute_is_good {
        Ok(text.to_owned())
    } else {
        Err(ParseError::new("`module:attribute`, such as `main:app`"))
    }
}

/// A function, `module:function`.
pub(crate) fn function(text: &str) -> Result<String, ParseError> {
    match text.split_once(':') {
        Some((_, name)) if !name.ends_with("()") => target(text),
        _ => Err(ParseError::new("`module:function`, such as `main:migrate`")),
    }
}

/// What to write instead of a path such as `./main.py:app`, if it is one.
fn target_meant_by_path(module: &str, attribute: Option<&str>) -> Option<String> {
    let without_suffix = module.strip_suffix(".py").unwrap_or(module);
    if without_suffix == module && !module.contains('/') {
        return None;
    }
    let attribute = attribute.filter(|name| !name.is_empty()).unwrap_or("app");
    if let Some((directory, name)) = without_suffix.rsplit_once('/')
        && (directory.starts_with('/') || directory.is_empty() || directory.starts_with(".."))
    {
        let directory = if directory.is_empty() { "/" } else { directory };
        return Some(format!("`--app-dir {directory} {name}:{attribute}`"));
    }
    let name = without_suffix.trim_start_matches("./").replace('/', ".");
    Some(format!("`{name}:{attribute}`"))
}

/// Python identifiers with dots between them.
fn is_dotted_name(text: &str) -> bool {
    text.split('.').all(|part| {
        part.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    })
}
