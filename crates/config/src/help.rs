//! The text of `--help`, made from the table.
//!
//! Not clap's own: eighty columns hold every option with its default on one or two lines only if
//! `--x` and `--no-x` are one entry, and variables that follow from the flag are explained once.

use std::fmt::Write as _;

use crate::setting::{Group, Kind, Setting, dashed};
use crate::table;

/// How wide the text is.
const WIDTH: usize = 80;
/// Where the descriptions begin: behind the longest flag of the table.
const COLUMN: usize = 36;

/// How the command is called, and where to find more: the end of every usage error.
pub(crate) const FOOTER: &str = "\n\nusage: rsgi [OPTIONS] APP\ntry `rsgi --help`\n";

/// `rsgi 0.1.0`.
pub(crate) fn version() -> String {
    format!("rsgi {}\n", env!("CARGO_PKG_VERSION"))
}

/// The whole text.
pub(crate) fn text() -> String {
    let mut text = String::from(
        "Serves an ASGI application.\n\n\
         Usage: rsgi [OPTIONS] APP\n       \
                rsgi status [--admin ADDRESS]\n       \
                rsgi health [--admin ADDRESS | --port PORT | --url URL ...]\n\n",
    );
    for group in Group::SHOWN {
        if group != Group::Application {
            entry(&mut text, group.title(), "");
        }
        for setting in table::own().filter(|setting| setting.group == group) {
            entry(&mut text, &left(setting), &right(setting));
            if setting.kind == Kind::Target {
                entry(&mut text, "", "");
                entry(&mut text, group.title(), "");
            }
        }
        text.push('\n');
    }
    entry(&mut text, "Commands, as the first argument", "");
    entry(&mut text, "  status", "show the workers of a running server");
    entry(&mut text, "  health", "exit with 0 if a server is ready, else with 1");
    text.push('\n');
    entry(&mut text, "Other", "");
    entry(&mut text, "  -h, --help", "show this text");
    entry(&mut text, "  -V, --version", "show the version");
    text.push_str(
        "\nTIME is in seconds, or has a unit: 500ms, 5s, 1m, 1h. SIZE is in bytes, or has a\n\
         unit: 64KiB, 1MiB, 1GiB. An option is also an environment variable, and a key of\n\
         rsgi.toml or of [tool.rsgi] in pyproject.toml: --timeout-keep-alive is\n\
         RSGI_TIMEOUT_KEEP_ALIVE or UVICORN_TIMEOUT_KEEP_ALIVE, and timeout_keep_alive.\n\
         Options win over variables, and variables over files. What else uvicorn,\n\
         gunicorn, granian and hypercorn have as an option is accepted or explained.\n",
    );
    text
}

/// The flags of a setting.
fn left(setting: &Setting) -> String {
    let mut flags = match setting.kind {
        Kind::Switch => format!("--[no-]{}", dashed(setting.name)),
        _ => setting.flag(),
    };
    if let Some(short) = setting.short {
        flags = format!("-{short}, {flags}");
    }
    if setting.kind != Kind::Target && !setting.placeholder.is_empty() {
        flags = format!("{flags} {}", setting.placeholder);
    }
    format!("  {flags}")
}

/// What a setting does, its default and the variables that other programs know.
fn right(setting: &Setting) -> String {
    let mut text = setting.help.to_owned();
    let default = match (setting.kind, setting.default) {
        (Kind::Flag, _) | (_, "none") => "",
        (_, "true") => "on",
        (_, default) => default,
    };
    let mut append = |label: &str, value: String| {
        let written = write!(text, " [{label}: {value}]");
        debug_assert!(written.is_ok(), "writing to a String does not fail");
    };
    if !default.is_empty() {
        append("default", default.to_owned());
    }
    let mut variables: Vec<String> =
        setting.env.iter().map(|variable| variable.name.to_owned()).collect();
    if setting.kind == Kind::Target {
        variables.insert(0, setting.variable());
    }
    if !variables.is_empty() {
        append("env", variables.join(", "));
    }
    text
}

/// One entry: `left`, and `right` wrapped beside it.
fn entry(text: &mut String, left: &str, right: &str) {
    let mut line = left.to_owned();
    for chunk in chunks(right) {
        if line.len() + 1 + chunk.len() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            line.clear();
        }
        if line.len() < COLUMN {
            line.push_str(&" ".repeat(COLUMN - line.len()));
        } else {
            line.push(' ');
        }
        line.push_str(chunk);
    }
    text.push_str(&line);
    text.push('\n');
}

/// The words of a text, with what is in brackets kept together.
fn chunks(text: &str) -> impl Iterator<Item = &str> {
    let (words, bracketed) = match text.find(" [d").or_else(|| text.find(" [e")) {
        Some(start) => text.split_at(start),
        None => (text, ""),
    };
    words
        .split_ascii_whitespace()
        .chain(bracketed.split_inclusive(']').map(str::trim).filter(|chunk| !chunk.is_empty()))
}
