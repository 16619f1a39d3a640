//! `--print-config`: every setting with the value that counts and where it came from.
//!
//! The text is a `rsgi.toml` that means the same, except for secrets, which are not shown.

use std::fmt::Write as _;

use crate::given::{Given, Source};
use crate::setting::{Group, Kind, Setting};
use crate::table;
use crate::values;

/// The whole text, without a newline at its end.
pub(crate) fn text(given: &[Given]) -> String {
    let has_whole_address = given.iter().any(Given::is_whole_address);
    let mut lines = Vec::new();
    for group in Group::SHOWN {
        let settings = table::own().filter(|one| one.group == group && one.reach.files);
        lines.push((format!("# {}", group.title()), String::new()));
        for setting in settings {
            let is_replaced = has_whole_address && matches!(setting.name, "host" | "port");
            lines.push(match given.iter().find(|one| one.setting.name == setting.name) {
                Some(one) => {
                    let source = if one.source == Source::Argument {
                        format!("{} (command line)", one.origin)
                    } else {
                        one.origin.clone()
                    };
                    (entry(setting, &one.values), source)
                }
                None if setting.default.is_empty() || setting.default == "none" => {
                    (format!("# {}", setting.name), "not set".to_owned())
                }
                None if is_replaced => (format!("# {}", setting.name), "replaced".to_owned()),
                None => (entry(setting, &[setting.default.to_owned()]), "default".to_owned()),
            });
        }
    }
    let width = lines.iter().map(|(left, _)| left.len()).filter(|width| *width < 40).max();
    let mut text = String::new();
    for (left, source) in lines {
        let line = if source.is_empty() {
            writeln!(text, "{left}")
        } else {
            writeln!(text, "{left:width$}  # {source}", width = width.unwrap_or_default())
        };
        debug_assert!(line.is_ok(), "writing to a String does not fail");
    }
    text.truncate(text.trim_end().len());
    text
}

/// `name = value`.
fn entry(setting: &Setting, values: &[String]) -> String {
    let shown = |value: &String| quoted(&setting.shown(value));
    let value = match (setting.kind, values.last()) {
        (Kind::List(_), _) => {
            format!("[{}]", values.iter().map(shown).collect::<Vec<_>>().join(", "))
        }
        (Kind::Switch | Kind::Flag, Some(value)) => match values::switch(value) {
            Ok(value) => value.to_string(),
            Err(_) => quoted(value),
        },
        (Kind::Scalar, Some(value)) if is_plain_number(value) && !setting.is_secret() => {
            value.clone()
        }
        (_, Some(value)) => shown(value),
        (_, None) => String::new(),
    };
    format!("{} = {value}", setting.name)
}

/// Whether a text is the same number in TOML.
fn is_plain_number(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|number| number.to_string() == text)
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if character.is_control() => {
                let written = write!(quoted, "\\u{:04X}", u32::from(character));
                debug_assert!(written.is_ok(), "writing to a String does not fail");
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}
