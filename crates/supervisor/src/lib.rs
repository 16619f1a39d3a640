//! Processes, signals, sockets and the scoreboard of rsgi.
//!
//! One supervisor process binds the sockets, starts the workers by exec and keeps them alive; see
//! [`run`] for its loop and [`policy`] for its decisions, which are a pure function. A worker finds
//! what it was given through [`Inherited`].
//!
//! Owns: process life, signals, listening sockets, shared counters, the admin listener, exit codes.
//! Must not know: the application's HTTP, ASGI or Python; a worker is a command line.

mod admin;
mod control;
mod error;
pub mod exit;
mod histogram;
mod inherited;
pub mod policy;
mod run;
mod scoreboard;
mod signals;
mod sockets;
mod spawn;
mod status;
mod sys;
mod totals;

pub use admin::client::{Answer, AskError, ask};
pub use control::{Order, WorkerControl};
pub use error::{BindError, InheritError};
pub use inherited::{Inherited, WORKER_VARIABLE};
pub use run::{SupervisorOptions, run};
pub use scoreboard::{MAX_SLOTS, Phase, Scoreboard, Slot, Version, monotonic_ns};
pub use sockets::{Listener, ListenerKind, activated, bind_all};
pub use spawn::WorkerCommand;
