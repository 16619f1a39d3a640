//! Telling a service manager how the server is: `sd_notify(3)`.
//!
//! Owns: the socket and the wording of the messages. Must not know: where the state comes from, or
//! who reads the environment. Nothing here waits or fails: a service manager that does not listen
//! is its own problem.
//!
//! Own code, as the usual crate (sd-notify 0.5) knows no abstract sockets and may block.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use tokio::time::Instant;

use crate::policy::{Condition, Summary};
use crate::scoreboard::monotonic_ns;

/// How long a state may take until the next message; the manager's own limits may be shorter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// From a start of a worker until it is ready.
    pub(crate) start: Option<Duration>,
    /// From the order to leave until the worker is gone.
    pub(crate) stop: Option<Duration>,
}

/// A service manager that wants to be told.
#[derive(Debug)]
pub struct ServiceManager {
    socket: UnixDatagram,
    address: SocketAddr,
    watchdog: Option<Watchdog>,
    told: Option<Summary>,
}

#[derive(Debug)]
struct Watchdog {
    interval: Duration,
    next: Instant,
}

impl ServiceManager {
    /// The one that process `pid` is to tell, by the values of `NOTIFY_SOCKET`, `WATCHDOG_USEC` and
    /// `WATCHDOG_PID`. `None` if there is none.
    pub fn from_values(
        pid: u32,
        notify_socket: Option<&OsStr>,
        watchdog_usec: Option<&str>,
        watchdog_pid: Option<&str>,
    ) -> io::Result<Option<Self>> {
        let Some(path) = notify_socket.map(OsStr::as_bytes).filter(|path| !path.is_empty()) else {
            return Ok(None);
        };
        let address = match path.split_first() {
            Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
            Some((b'/', _)) => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidInput,
                    "neither a path nor `@name`",
                ));
            }
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        let is_ours = watchdog_pid.is_none_or(|of| of.parse() == Ok(pid));
        let limit = watchdog_usec.and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 1);
        let watchdog = limit.filter(|_| is_ours).map(|limit| {
            // Half of it, as sd_watchdog_enabled(3) asks for.
            let interval = Duration::from_micros(limit) / 2;
            Watchdog { interval, next: Instant::now() }
        });
        Ok(Some(Self { socket, address, watchdog, told: None }))
    }

    /// Tells what has changed since the last call.
    pub(crate) fn tell(&mut self, summary: Summary, limits: Limits) {
        if self.told != Some(summary) {
            let before = self.told.replace(summary).map(|summary| summary.condition);
            self.send(&message(before, summary, limits, monotonic_ns() / 1000));
        }
    }

    /// When [`Self::keep_alive`] is due; `None` if nobody watches.
    pub(crate) fn next_keep_alive(&self) -> Option<Instant> {
        self.watchdog.as_ref().map(|watchdog| watchdog.next)
    }

    /// Says that the supervisor's loop turns. For that loop alone: a timer of its own would say so
    /// for a supervisor that hangs.
    pub(crate) fn keep_alive(&mut self) {
        if let Some(watchdog) = &mut self.watchdog {
            watchdog.next = Instant::now() + watchdog.interval;
            self.send("WATCHDOG=1\n");
        }
    }

    fn send(&self, message: &str) {
        if let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address) {
            log::debug!(target: "rsgi", "The service manager does not listen: {error}");
        }
    }
}

/// The message for a change of the state, at `now_us` of the monotonic clock.
fn message(before: Option<Condition>, now: Summary, limits: Limits, now_us: u64) -> String {
    let Summary { condition, ready, wanted, processes } = now;
    let mut text = String::new();
    let serves = matches!(before, Some(Condition::Running));
    match condition {
        Condition::Running if !serves => {
            let _ = writeln!(text, "READY=1\nMAINPID={}", std::process::id());
        }
        Condition::Reloading if before != Some(Condition::Reloading) => {
            let _ = writeln!(text, "RELOADING=1\nMONOTONIC_USEC={now_us}");
        }
        Condition::Stopping if before != Some(Condition::Stopping) => text.push_str("STOPPING=1\n"),
        _ => {}
    }
    let _ = match condition {
        Condition::Starting => writeln!(text, "STATUS=Starting, {ready} of {wanted} workers ready"),
        Condition::Running => writeln!(text, "STATUS={ready} of {wanted} workers ready"),
        Condition::Reloading => {
            writeln!(text, "STATUS=Reloading, {ready} of {wanted} workers ready")
        }
        Condition::Stopping => writeln!(text, "STATUS=Stopping, {processes} workers left"),
    };
    // How long until something happens at the latest. It only ever prolongs the manager's limit.
    let step = match condition {
        Condition::Starting => limits.start,
        Condition::Reloading => limits.start.zip(limits.stop).map(|(start, stop)| start + stop),
        Condition::Stopping => limits.stop,
        Condition::Running => None,
    };
    if let Some(step) = step {
        let _ = writeln!(text, "EXTEND_TIMEOUT_USEC={}", step.as_micros());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { start: Some(Duration::from_secs(60)), stop: Some(Duration::from_secs(34)) };

    fn summary(condition: Condition, ready: usize) -> Summary {
        Summary { condition, ready, wanted: 2, processes: 2 }
    }

    #[test]
    fn each_change_is_told_in_the_managers_words() {
        use Condition::{Reloading, Running, Starting, Stopping};
        let ready =
            format!("READY=1\nMAINPID={}\nSTATUS=1 of 2 workers ready\n", std::process::id());
        let table = [
            (
                None,
                Starting,
                "STATUS=Starting, 1 of 2 workers ready\nEXTEND_TIMEOUT_USEC=60000000\n",
            ),
            (Some(Starting), Running, ready.as_str()),
            (Some(Running), Running, "STATUS=1 of 2 workers ready\n"),
            (
                Some(Running),
                Reloading,
                "RELOADING=1\nMONOTONIC_USEC=7\nSTATUS=Reloading, 1 of 2 workers ready\n\
                 EXTEND_TIMEOUT_USEC=94000000\n",
            ),
            (
                Some(Reloading),
                Reloading,
                "STATUS=Reloading, 1 of 2 workers ready\nEXTEND_TIMEOUT_USEC=94000000\n",
            ),
            (Some(Reloading), Running, ready.as_str()),
            (
                Some(Running),
                Stopping,
                "STOPPING=1\nSTATUS=Stopping, 2 workers left\nEXTEND_TIMEOUT_USEC=34000000\n",
            ),
        ];
        for (before, now, expected) in table {
            assert_eq!(message(before, summary(now, 1), LIMITS, 7), expected, "{before:?} {now:?}");
        }
        let unlimited = Limits { start: None, stop: None };
        let text = message(Some(Running), summary(Stopping, 0), unlimited, 7);
        assert!(!text.contains("EXTEND"), "{text}");
    }

    #[tokio::test]
    async fn messages_arrive_on_a_path_and_on_an_abstract_name() {
        let path = std::env::temp_dir().join(format!("rsgi-notify-{}", std::process::id()));
        let name = format!("rsgi-notify-{}", std::process::id());
        let at_path = UnixDatagram::bind(&path).unwrap();
        let at_name =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let abstract_name = format!("@{name}");
        for (value, socket) in [(path.to_str().unwrap(), at_path), (&abstract_name, at_name)] {
            let made = ServiceManager::from_values(1, Some(OsStr::new(value)), None, None);
            let mut manager = made.unwrap().unwrap();
            assert_eq!(manager.next_keep_alive(), None);
            manager.tell(summary(Condition::Running, 2), LIMITS);
            manager.tell(summary(Condition::Running, 2), LIMITS);
            manager.tell(summary(Condition::Running, 1), LIMITS);
            let mut buffer = [0; 200];
            let mut next = || {
                let length = socket.recv(&mut buffer).unwrap();
                String::from_utf8_lossy(&buffer[..length]).into_owned()
            };
            assert!(next().ends_with("STATUS=2 of 2 workers ready\n"));
            assert_eq!(next(), "STATUS=1 of 2 workers ready\n", "only a change is told");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[tokio::test]
    async fn only_a_manager_that_is_there_and_waits_for_us_is_told() {
        assert!(ServiceManager::from_values(1, None, Some("1000"), None).unwrap().is_none());
        assert!(
            ServiceManager::from_values(1, Some(OsStr::new("")), None, None).unwrap().is_none()
        );
        assert!(ServiceManager::from_values(1, Some(OsStr::new("vsock:2:1")), None, None).is_err());
        let table = [
            (Some("1000"), None, true),
            (Some("1000"), Some("17"), true),
            (Some("1000"), Some("18"), false),
            (Some("0"), None, false),
            (Some("x"), None, false),
            (None, None, false),
        ];
        for (usec, pid, watched) in table {
            let socket = Some(OsStr::new("@rsgi-nobody-listens-here"));
            let mut manager = ServiceManager::from_values(17, socket, usec, pid).unwrap().unwrap();
            assert_eq!(manager.next_keep_alive().is_some(), watched, "{usec:?} {pid:?}");
            manager.keep_alive(); // whoever does not listen is not waited for
        }
    }
}
