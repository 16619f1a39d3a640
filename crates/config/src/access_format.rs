//! `--access-logformat`: the grammar of a format of the access log, and which atoms there are.
//!
//! The format is gunicorn's, which is Python's `%` with names: `%(h)s`, `%({x-request-id}i)s`. Read
//! once, at the start; what an atom stands for is not known here.

use serde::{Deserialize, Serialize};

use crate::similar::nearest;
use crate::types::ParseError;

/// A format in its parts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccessFormat(
    /// From the start of the line to its end.
    pub Vec<FormatPart>,
);

/// A part of a format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FormatPart {
    /// As it stands.
    Text(String),
    /// A value.
    Value {
        /// What it is.
        atom: FormatAtom,
        /// The least columns it takes.
        width: usize,
        /// Whether it stands to the left in them.
        left: bool,
        /// Digits behind the point, or the most characters of a text.
        precision: Option<usize>,
        /// `s`, `d` or `f`.
        conversion: char,
    },
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FormatAtom {
    /// One of [`FormatAtom::NAMES`].
    Named(String),
    /// `{name}i`: a field of the request.
    RequestField(String),
    /// `{name}o`: a field of the response.
    ResponseField(String),
    /// `{name}e`: a variable of the server's environment.
    Variable(String),
}

impl FormatAtom {
    /// All atoms without an argument: gunicorn's, hypercorn's, granian's and ours.
    pub const NAMES: &'static [&'static str] = &[
        "h",
        "l",
        "u",
        "t",
        "r",
        "m",
        "U",
        "q",
        "H",
        "s",
        "B",
        "b",
        "f",
        "a",
        "T",
        "D",
        "M",
        "L",
        "p",
        "R",
        "S",
        "st",
        "Uq",
        "addr",
        "time",
        "method",
        "path",
        "query_string",
        "protocol",
        "scheme",
        "status",
        "dt_ms",
        "worker",
        "request_id",
        "traceparent",
    ];

    fn parse(name: &str) -> Result<Self, ParseError> {
        if Self::NAMES.contains(&name) {
            return Ok(Self::Named(name.to_owned()));
        }
        if let Some(field) = name.strip_prefix("header{").and_then(|rest| rest.strip_suffix('}')) {
            return Ok(Self::RequestField(field.to_owned()));
        }
        if let Some((argument, kind)) = name.strip_prefix('{').and_then(|it| it.rsplit_once('}')) {
            let is_named = !argument.is_empty() && !argument.contains(|c: char| c.is_control());
            match kind {
                "i" if is_named => return Ok(Self::RequestField(argument.to_owned())),
                "o" if is_named => return Ok(Self::ResponseField(argument.to_owned())),
                "e" if is_named => return Ok(Self::Variable(argument.to_owned())),
                _ => {}
            }
            return Err(ParseError::new(format!(
                "`%({{name}}i)s`, `%({{name}}o)s` or `%({{name}}e)s` instead of `%({name})s`"
            )));
        }
        let in_other_case = || Self::NAMES.iter().find(|known| known.eq_ignore_ascii_case(name));
        let hint =
            match nearest(name, Self::NAMES.iter().copied()).or_else(|| in_other_case().copied()) {
                Some(known) => format!("did you mean `%({known})s`?"),
                None => format!("there are {}", Self::NAMES.join(" ")),
            };
        Err(ParseError::new(format!("an atom that exists instead of `%({name})s` ({hint})")))
    }
}

/// Reads a format.
pub(crate) fn parse(text: &str) -> Result<AccessFormat, ParseError> {
    if text.is_empty() || text.contains(['\n', '\r', '\0']) {
        return Err(ParseError::new("the format of one line"));
    }
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('%') {
        plain.push_str(before);
        if let Some(behind) = behind.strip_prefix('%') {
            plain.push('%');
            rest = behind;
            continue;
        }
        let (value, behind) = read_value(behind)?;
        if !plain.is_empty() {
            parts.push(FormatPart::Text(std::mem::take(&mut plain)));
        }
        parts.push(value);
        rest = behind;
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(FormatPart::Text(plain));
    }
    Ok(AccessFormat(parts))
}

/// What is behind a `%`, and what follows it.
fn read_value(text: &str) -> Result<(FormatPart, &str), ParseError> {
    let expected = || {
        let shown: String = text.chars().take(12).collect();
        ParseError::new(format!("`%(name)s`, or `%%` for a `%`, instead of `%{shown}`"))
    };
    let inside = text.strip_prefix('(').ok_or_else(expected)?;
    let (name, rest) = inside.split_once(')').ok_or_else(expected)?;
    let flags = rest.len() - rest.trim_start_matches(['-', '0', '+', ' ', '#']).len();
    let (flags, rest) = rest.split_at(flags);
    let (width, rest) = read_number(rest);
    let (precision, rest) = match rest.strip_prefix('.') {
        Some(rest) => {
            let (precision, rest) = read_number(rest);
            (Some(precision.unwrap_or_default()), rest)
        }
        None => (None, rest),
    };
    let conversion = match rest.chars().next() {
        Some('s' | 'r') => 's',
        Some('d' | 'i') => 'd',
        Some('f' | 'F') => 'f',
        _ => return Err(expected()),
    };
    let value = FormatPart::Value {
        atom: FormatAtom::parse(name)?,
        width: width.unwrap_or_default(),
        left: flags.contains('-'),
        precision,
        conversion,
    };
    Ok((value, rest.get(1..).unwrap_or_default()))
}

/// The digits at the start, as a number that is good for a column.
fn read_number(text: &str) -> (Option<usize>, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, rest) = text.split_at(digits);
    (digits.parse().ok().map(|number: usize| number.min(200)), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(atom: FormatAtom) -> FormatPart {
        FormatPart::Value { atom, width: 0, left: false, precision: None, conversion: 's' }
    }

    fn named(name: &str) -> FormatPart {
        value(FormatAtom::Named(name.to_owned()))
    }

    fn text(text: &str) -> FormatPart {
        FormatPart::Text(text.to_owned())
    }

    #[test]
    fn a_format_is_read_in_its_parts() {
        let table = [
            ("%(h)s", vec![named("h")]),
            ("100%% %(s)s.", vec![text("100% "), named("s"), text(".")]),
            (
                "\"%({X-Id}i)s\"",
                vec![text("\""), value(FormatAtom::RequestField("X-Id".to_owned())), text("\"")],
            ),
            ("%(header{a})s", vec![value(FormatAtom::RequestField("a".to_owned()))]),
            ("%({etag}o)s", vec![value(FormatAtom::ResponseField("etag".to_owned()))]),
            ("%({HOME}e)s", vec![value(FormatAtom::Variable("HOME".to_owned()))]),
            (
                "%(dt_ms)-8.3f",
                vec![FormatPart::Value {
                    atom: FormatAtom::Named("dt_ms".to_owned()),
                    width: 8,
                    left: true,
                    precision: Some(3),
                    conversion: 'f',
                }],
            ),
        ];
        for (format, parts) in table {
            assert_eq!(parse(format), Ok(AccessFormat(parts)), "{format}");
        }
    }

    #[test]
    fn a_mistake_is_named_with_what_was_meant() {
        let table = [
            (
                "%(sttus)s",
                "an atom that exists instead of `%(sttus)s` (did you mean `%(status)s`?)",
            ),
            ("%(P)s", "an atom that exists instead of `%(P)s` (did you mean `%(p)s`?)"),
            ("%(x)s", "an atom that exists instead of `%(x)s` (there are h l u "),
            ("%({a}x)s", "`%({name}i)s`, `%({name}o)s` or `%({name}e)s` instead of `%({a}x)s`"),
            ("%h", "`%(name)s`, or `%%` for a `%`, instead of `%h`"),
            ("%(h", "instead of `%(h`"),
            ("%(h)", "instead of `%(h)`"),
            ("%(h)x", "instead of `%(h)x`"),
            ("", "the format of one line"),
            ("a\nb", "the format of one line"),
        ];
        for (format, expected) in table {
            let message = parse(format).unwrap_err().to_string();
            assert!(message.contains(expected), "{format}: {message}");
        }
    }
}
