//! The log of refused requests: one line with peer and reason, at a bounded rate.
//!
//! Whoever sends garbage must not be able to fill a disk with it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rsgi_protocol::error::RequestError;
use tokio::time::Instant;

use crate::service::ConnectionInfo;

/// Lines per window; the rest is counted and reported with the next line.
const BURST: u32 = 10;
const WINDOW: Duration = Duration::from_secs(1);

/// Writes at most [`BURST`] lines a second.
#[derive(Debug, Default)]
pub(crate) struct RejectionLog {
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    opened: Option<Instant>,
    written: u32,
    suppressed: u64,
}

impl Window {
    /// Whether a line may be written now, and how many were left out before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.opened.is_none_or(|opened| now.duration_since(opened) >= WINDOW) {
            self.opened = Some(now);
            self.written = 0;
        }
        if self.written >= BURST {
            self.suppressed += 1;
            return None;
        }
        self.written += 1;
        Some(std::mem::take(&mut self.suppressed))
    }
}

impl RejectionLog {
    /// Reports a handshake that came to nothing.
    pub(crate) fn report_handshake(&self, peer: &ConnectionInfo, reason: &str, now: Instant) {
        let admitted = self.window.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
        let Some(suppressed) = admitted else { return };
        if suppressed > 0 {
            log::warn!("{suppressed} more TLS handshakes failed and were not logged");
        }
        log::warn!("TLS handshake with {peer} failed: {reason}");
    }

    /// Reports a connection that did not begin with a PROXY header.
    pub(crate) fn report_proxy(&self, peer: &ConnectionInfo, reason: &str, now: Instant) {
        let admitted = self.window.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
        let Some(suppressed) = admitted else { return };
        if suppressed > 0 {
            log::warn!("{suppressed} more connections were refused and not logged");
        }
        log::warn!("connection from {peer} refused: {reason}");
    }

    /// Reports a request that was answered with `error`'s status.
    pub(crate) fn report(&self, peer: &ConnectionInfo, error: RequestError, now: Instant) {
        let admitted = self.window.lock().unwrap_or_else(PoisonError::into_inner).admit(now);
        let Some(suppressed) = admitted else { return };
        let status = error.status();
        if suppressed > 0 {
            log::warn!("{suppressed} more invalid requests were refused and not logged");
        }
        log::warn!("Invalid HTTP request received from {peer}: {error} ({status})");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_not_written() {
        let start = Instant::now();
        let mut window = Window::default();
        let admitted = (0..1000).filter(|_| window.admit(start).is_some()).count();
        assert_eq!(admitted, BURST as usize);
        assert_eq!(window.admit(start + WINDOW), Some(1000 - u64::from(BURST)));
        assert_eq!(window.admit(start + WINDOW), Some(0));
    }
}
