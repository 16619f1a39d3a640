//! Processes, signals, sockets and the scoreboard of rsgi.
//!
//! One supervisor process binds the sockets, starts the workers by exec and keeps them alive; see
//! [`run`] for its loop and [`policy`] for its decisions, which are a pure function. A worker finds
//! what it was given through [`Inherited`].
//!
//! Owns: process life, signals, listening sockets, shared counters, the admin listener, exit codes.
//! Must not know: the application's HTTP, ASGI or Python; a worker is a command line.

mod admin;
mod capacity;
mod changes;
mod control;
mod error;
pub mod exit;
mod histogram;
mod hooks;
mod identity;
mod inherited;
mod memory;
mod on_start;
mod pid_file;
pub mod policy;
mod preload;
mod run;
mod scoreboard;
mod service_manager;
mod settings;
mod signals;
mod silence;
mod sockets;
mod spare;
mod spawn;
mod status;
mod sys;
mod totals;

pub use admin::client::{Answer, AskError, ask};
pub use control::{Fork, Order, WorkerControl};
pub use error::{BindError, IdentityError, InheritError, PidFileError};
pub use hooks::Hooks;
pub use identity::Identity;
pub use inherited::{Inherited, ROLE_VARIABLE, WORKER_VARIABLE};
pub use pid_file::PidFile;
pub use run::{MEMORY_INTERVAL, STAND_IN, SupervisorOptions, Updates, run};
pub use scoreboard::{MAX_SLOTS, Phase, Scoreboard, Slot, Version, monotonic_ns};
pub use service_manager::ServiceManager;
pub use sockets::{Listener, ListenerKind, activated, bind_all, share_all};
pub use spawn::WorkerCommand;
