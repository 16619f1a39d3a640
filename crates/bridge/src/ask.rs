//! The commands that ask a running server: `rsgi status` and `rsgi health`.
//!
//! Owns: what they print and their exit status. Must not know: Python; no application is imported.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::io::{self, Write};

use rsgi_config::{HealthCheck, Probe, load_health, load_status, process_environment};
use rsgi_supervisor::{Answer, ask};
use serde_json::Value;

use crate::cli::explain;

/// It is as it should be.
const GOOD: u8 = 0;
/// It is not, or nobody answered.
const BAD: u8 = 1;

/// The command of this name.
pub(crate) fn command(word: &OsStr) -> Option<fn(Vec<OsString>) -> u8> {
    match word.to_str() {
        Some("status") => Some(status),
        Some("health") => Some(health),
        _ => None,
    }
}

fn status(arguments: Vec<OsString>) -> u8 {
    let probe = match load_status(arguments, &process_environment) {
        Ok(probe) => probe,
        Err(error) => return explain(&error),
    };
    let Probe { target: Some(address), timeout } = probe else {
        return complain(
            "no admin address: start the server with --admin-bind, and give --admin or set RSGI_ADMIN_BIND",
        );
    };
    match ask(&address, "GET", "/workers", timeout) {
        Ok(Answer { status: 200, content }) => match serde_json::from_str(&content) {
            Ok(document) => print(&table(&document)),
            Err(_) => complain(&format!("what listens on {address} is no admin listener of rsgi")),
        },
        Ok(Answer { status, .. }) => complain(&format!(
            "what listens on {address} is no admin listener of rsgi: it answered {status}"
        )),
        Err(error) => complain(&error.to_string()),
    }
}

fn health(arguments: Vec<OsString>) -> u8 {
    let Probe { target, timeout } = match load_health(arguments, &process_environment) {
        Ok(probe) => probe,
        Err(error) => {
            // Docker reserves 2, and what cannot be asked is not healthy.
            return explain(&error).min(BAD);
        }
    };
    let (asked, is_good): (_, fn(u16) -> bool) = match &target {
        HealthCheck::Admin(address) => {
            (ask(address, "GET", "/readyz", timeout), |code| code == 200)
        }
        HealthCheck::Server(address) => (ask(address, "HEAD", "/", timeout), |_| true),
        HealthCheck::Url { address, path } => {
            (ask(address, "GET", path, timeout), |code| code < 400)
        }
    };
    match asked {
        Ok(Answer { status, content }) => {
            let line = content.lines().next().unwrap_or_default();
            let text = match target {
                HealthCheck::Admin(_) if !line.is_empty() => printable(line),
                _ => format!("answered {status}"),
            };
            if is_good(status) { print(&(text + "\n")) } else { complain(&text) }
        }
        Err(error) => complain(&error.to_string()),
    }
}

/// What a stranger may have sent, fit for a terminal.
fn printable(line: &str) -> String {
    line.chars().take(200).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn print(text: &str) -> u8 {
    // A reader that has gone is not worth a message.
    let _ = io::stdout().lock().write_all(text.as_bytes());
    GOOD
}

fn complain(text: &str) -> u8 {
    let _ = io::stderr().lock().write_all(format!("rsgi: {text}\n").as_bytes());
    BAD
}

const COLUMNS: [&str; 10] = [
    "INDEX",
    "PID",
    "GEN",
    "STATE",
    "SINCE",
    "CONNECTIONS",
    "IN FLIGHT",
    "REQUESTS",
    "RSS",
    "RESTARTS",
];

/// `/workers` for people. What is missing or of another kind is shown as `-`.
fn table(document: &Value) -> String {
    let now = document["now"].as_f64().unwrap_or_default();
    let mut rows = vec![COLUMNS.map(str::to_owned)];
    for worker in document["workers"].as_array().into_iter().flatten() {
        let plain = |key: &str| match &worker[key] {
            Value::Null => "-".to_owned(),
            Value::String(text) => printable(text),
            other => other.to_string(),
        };
        let mut state = plain("state");
        if let Some(since) = worker["blocked_since"].as_f64() {
            state = format!("{state}, blocked for {}", span(now - since));
        }
        let age = worker["since"].as_f64().map_or("-".to_owned(), |since| span(now - since));
        let memory = worker["rss_bytes"].as_u64();
        rows.push([
            plain("index"),
            plain("pid"),
            plain("generation"),
            state,
            age,
            plain("connections"),
            plain("requests_in_flight"),
            plain("requests"),
            memory.map_or("-".to_owned(), |bytes| format!("{} MiB", bytes >> 20)),
            plain("restarts"),
        ]);
    }
    let widths = std::array::from_fn::<_, { COLUMNS.len() }, _>(|column| {
        rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
    });
    let text = |key: &str| printable(document[key].as_str().unwrap_or("-"));
    let mut out = format!(
        "rsgi {} [{}], {}, {} of {} workers ready\n",
        text("version"),
        document["pid"],
        text("state"),
        document["ready"],
        document["wanted"],
    );
    for row in rows {
        let cells = row.iter().zip(widths).zip(COLUMNS).map(|((cell, width), column)| {
            // Words begin where their column does, numbers end there.
            if column == "STATE" { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        let written = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  "));
        debug_assert!(written.is_ok(), "writing to a String does not fail");
    }
    out
}

/// `3s`, `5m 11s`, `2h 03m`, `4d 01h`.
fn span(seconds: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it saturates")]
    let seconds = seconds.max(0.0) as u64;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m {:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d {:02}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_bare_words_are_commands() {
        for word in ["status", "health"] {
            assert!(command(OsStr::new(word)).is_some(), "{word}");
        }
        for word in ["status:app", "health.app", "Status", "main:app", "--help", ""] {
            assert!(command(OsStr::new(word)).is_none(), "{word}");
        }
    }

    #[test]
    fn times_are_told_in_two_units() {
        for (seconds, expected) in [
            (-1.0, "0s"),
            (59.9, "59s"),
            (311.0, "5m 11s"),
            (7380.0, "2h 03m"),
            (349_200.0, "4d 01h"),
        ] {
            assert_eq!(span(seconds), expected);
        }
    }

    #[test]
    fn the_table_is_aligned_and_takes_whatever_comes() {
        let document = json!({
            "version": "0.1.0", "pid": 1, "state": "running", "ready": 1, "wanted": 2, "now": 1000.0,
            "workers": [
                { "index": 0, "pid": 4712, "generation": 1, "state": "ready", "since": 990.5,
                  "connections": 3, "requests_in_flight": 1, "requests": 12345, "rss_bytes": 50_331_648,
                  "blocked_since": 997.0, "restarts": 0 },
                { "index": 1, "state": "a\u{1b}[31m", "rss_bytes": null },
            ],
        });
        let expected = "\
rsgi 0.1.0 [1], running, 1 of 2 workers ready
INDEX   PID  GEN  STATE                  SINCE  CONNECTIONS  IN FLIGHT  REQUESTS     RSS  RESTARTS
    0  4712    1  ready, blocked for 3s     9s            3          1     12345  48 MiB         0
    1     -    -  a\u{fffd}[31m                     -            -          -         -       -         -
";
        assert_eq!(table(&document), expected);
        assert!(table(&json!([])).starts_with("rsgi - [null]"));
    }
}
