//! What the watchdog writes into the log.
//!
//! Each report is one message of several lines, so that reports do not mix. Owns: the wording, and
//! that nothing in it can end a line.

use std::fmt::{self, Write as _};
use std::time::Duration;

use rsgi_server::LiveRequest;
use tokio::time::Instant;

use super::frames::{Directories, Frame, Owner};
use super::stacks::{Interpreter, Stacks, ThreadStack};

/// Requests that are named; of more, the number is told.
const REQUESTS: usize = 20;

/// Everything that a report may tell.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    pub(crate) stacks: &'a Stacks,
    pub(crate) requests: &'a [LiveRequest],
    pub(crate) now: Instant,
    pub(crate) directories: &'a Directories,
}

impl Report<'_> {
    /// The headline's end: where, or why nobody knows.
    pub(crate) fn place(&self) -> String {
        let loop_thread = self.stacks.threads.first().filter(|thread| thread.is_loop);
        let stack = match loop_thread.map(|thread| &thread.stack) {
            Some(Ok(stack)) => stack,
            Some(Err(reason)) => return format!("; no stack of its thread: {}", plain(reason)),
            None => return "; no stack of its thread: it runs no Python code".to_owned(),
        };
        match (self.directories.culprit(stack), self.stacks.interpreter) {
            (Some(frame), Interpreter::Free) => format!(": {}", Place(frame)),
            (Some(frame), Interpreter::Held) => {
                format!(": {}; C code holds the GIL", Place(frame))
            }
            (None, Interpreter::Held) => {
                "; C code holds the GIL in another thread, and the loop waits for it".to_owned()
            }
            (None, Interpreter::Free) => {
                "; not in the application: it waits for the GIL, or for a processor".to_owned()
            }
        }
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for thread in &self.stacks.threads {
            self.thread(f, thread)?;
        }
        let count = self.requests.len();
        match count {
            0 => return f.write_str("\n  No request in flight"),
            1 => f.write_str("\n  1 request in flight:")?,
            _ => write!(f, "\n  {count} requests in flight, the latest first:")?,
        }
        for LiveRequest { line, started } in self.requests.iter().take(REQUESTS) {
            let age = self.now.saturating_duration_since(*started);
            write!(f, "\n    {} for {} s", plain(line), tenths(age))?;
        }
        if count > REQUESTS {
            write!(f, "\n    and {} more", count - REQUESTS)?;
        }
        Ok(())
    }
}

impl Report<'_> {
    fn thread(&self, f: &mut fmt::Formatter<'_>, thread: &ThreadStack) -> fmt::Result {
        let of_loop = if thread.is_loop { ", the event loop's" } else { "" };
        write!(f, "\n  Thread {}{of_loop}", plain(&thread.name))?;
        let stack = match &thread.stack {
            Ok(stack) => stack,
            Err(reason) => return write!(f, ": {}", plain(reason)),
        };
        f.write_str(", most recent call first:")?;
        let called = if thread.is_loop {
            self.directories.called_by_the_loop(stack)
        } else {
            stack.frames.as_slice()
        };
        let mut left_out = stack.frames.len() - called.len();
        for frame in called {
            match self.directories.owner(&frame.file) {
                Owner::Application => write!(f, "\n  > {}", Place(frame))?,
                Owner::Library => write!(f, "\n    {}", Place(frame))?,
                Owner::Machinery | Owner::Server => left_out += 1,
            }
        }
        if left_out > 0 {
            write!(f, "\n    ({left_out} of Python's and the server's own left out)")?;
        }
        f.write_str(if stack.is_cut { "\n    (and more)" } else { "" })
    }
}

/// A frame as tracebacks have it.
struct Place<'a>(&'a Frame);

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frame { file, line, function } = self.0;
        write!(f, "File \"{}\"", plain(file))?;
        if let Some(line) = line {
            write!(f, ", line {line}")?;
        }
        write!(f, ", in {}", plain(function))
    }
}

/// Seconds with one digit behind the point.
pub(crate) fn tenths(duration: Duration) -> String {
    format!("{:.1}", duration.as_secs_f64())
}

/// Text without anything that could end a line or colour a terminal.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            // Writing to a string cannot fail.
            let _ = write!(plain, "\\x{:02x}", u32::from(character));
        } else {
            plain.push(character);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watchdog::frames::Stack;

    fn stack(frames: &[(&str, u32, &str)]) -> Stack {
        let frames = frames.iter().map(|&(file, line, function)| Frame {
            file: file.into(),
            line: Some(line),
            function: function.into(),
        });
        Stack { frames: frames.collect(), is_cut: false }
    }

    fn thread(name: &str, is_loop: bool, stack: Result<Stack, String>) -> ThreadStack {
        ThreadStack { name: name.into(), is_loop, stack }
    }

    fn report(stacks: &Stacks, requests: &[LiveRequest], now: Instant) -> (String, String) {
        let directories = Directories { library: "/lib".into(), server: "/rsgi".into() };
        let report = Report { stacks, requests, now, directories: &directories };
        (report.place(), report.to_string())
    }

    #[test]
    fn a_report_names_the_applications_frames_and_the_requests() {
        let now = Instant::now();
        let stacks = Stacks {
            threads: vec![
                thread(
                    "7 (MainThread)",
                    true,
                    Ok(stack(&[
                        ("/lib/json/decoder.py", 3, "decode"),
                        ("/srv/main\n.py", 12, "slow"),
                        ("/lib/asyncio/events.py", 88, "_run"),
                        ("/rsgi/_event_loop.py", 58, "run_forever"),
                        ("/srv/start.py", 1, "<module>"),
                    ])),
                ),
                thread("9 (pool)", false, Ok(stack(&[("/srv/job.py", 5, "work")]))),
                thread("10", false, Err("it blocks signals".into())),
            ],
            interpreter: Interpreter::Held,
        };
        let request = |line: &str, age| LiveRequest {
            line: line.into(),
            started: now.checked_sub(Duration::from_millis(age)).unwrap(),
        };
        let requests = [request("GET /slow", 1040), request("POST /\x1b", 61_000)];
        let (place, text) = report(&stacks, &requests, now);
        assert_eq!(place, ": File \"/srv/main\\x0a.py\", line 12, in slow; C code holds the GIL");
        assert_eq!(
            text,
            r#"
  Thread 7 (MainThread), the event loop's, most recent call first:
    File "/lib/json/decoder.py", line 3, in decode
  > File "/srv/main\x0a.py", line 12, in slow
    (3 of Python's and the server's own left out)
  Thread 9 (pool), most recent call first:
  > File "/srv/job.py", line 5, in work
  Thread 10: it blocks signals
  2 requests in flight, the latest first:
    GET /slow for 1.0 s
    POST /\x1b for 61.0 s"#
        );
    }

    #[test]
    fn a_loop_that_only_waits_says_for_what() {
        let idle = stack(&[("/lib/asyncio/base_events.py", 9, "_run_once")]);
        let now = Instant::now();
        for (threads, interpreter, expected) in [
            (
                vec![thread("7", true, Ok(idle.clone()))],
                Interpreter::Held,
                "; C code holds the GIL in another thread, and the loop waits for it",
            ),
            (
                vec![thread("7", true, Ok(idle))],
                Interpreter::Free,
                "; not in the application: it waits for the GIL, or for a processor",
            ),
            (
                vec![thread("7", true, Err("it does not answer".into()))],
                Interpreter::Held,
                "; no stack of its thread: it does not answer",
            ),
            (vec![], Interpreter::Free, "; no stack of its thread: it runs no Python code"),
        ] {
            let (place, text) = report(&Stacks { threads, interpreter }, &[], now);
            assert_eq!(place, expected);
            assert!(text.ends_with("\n  No request in flight"), "{text}");
        }
    }

    #[test]
    fn many_requests_are_counted_instead_of_named() {
        let now = Instant::now();
        let stacks = Stacks { threads: vec![], interpreter: Interpreter::Free };
        let requests = vec![LiveRequest { line: "GET /".into(), started: now }; REQUESTS + 7];
        let (_, text) = report(&stacks, &requests, now);
        assert_eq!(text.lines().filter(|line| line.contains("GET /")).count(), REQUESTS);
        assert!(text.ends_with("\n    and 7 more"), "{text}");
    }
}
