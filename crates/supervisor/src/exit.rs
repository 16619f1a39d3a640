//! The exit codes of the command, in one table.
//!
//! | code | when |
//! |---|---|
//! | 0 | stopped because a signal asked for it, however long the workers took |
//! | 1 | the workers died faster than they could be replaced, or the supervisor itself failed |
//! | 2 | the command line or a setting is wrong |
//! | 3 | start-up failed: no worker ever became ready, or what it needs could not be had |
//!
//! A stop that had to kill workers is still 0: it was asked for, the log says what was cut off,
//! and a service manager must not count every deployment with one open WebSocket as a failure.

/// Stopped on request.
pub const CLEAN: u8 = 0;
/// A crash loop, or a failure of the supervisor while running.
pub const FAILURE: u8 = 1;
/// Wrong command line or settings.
pub const USAGE: u8 = 2;
/// Start-up failed.
pub const STARTUP: u8 = 3;
