//! What a worker process was given by its supervisor.
//!
//! Owns: the one variable that carries descriptor numbers, written by `spawn` and read here. Must
//! not know: who reads the environment (the caller does) or what the worker runs.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use serde::{Deserialize, Serialize};

use crate::control::WorkerControl;
use crate::error::InheritError;
use crate::scoreboard::Scoreboard;
use crate::sockets::Listener;
use crate::sys::descriptor::adopt;

/// The environment variable that makes a process a worker.
pub const WORKER_VARIABLE: &str = "RSGI_WORKER";

/// The environment variable that makes such a process something else than a worker.
pub const ROLE_VARIABLE: &str = "RSGI_ROLE";

/// The value of [`WORKER_VARIABLE`], as JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Passed {
    pub(crate) listeners: Vec<PassedListener>,
    pub(crate) scoreboard: RawFd,
    pub(crate) control: RawFd,
    pub(crate) slot: usize,
    pub(crate) index: usize,
    pub(crate) slots: usize,
}

/// One listening socket in [`Passed`].
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PassedListener {
    pub(crate) fd: RawFd,
    pub(crate) address: String,
}

/// What a worker starts with.
#[derive(Debug)]
pub struct Inherited {
    /// The listening sockets, shared with all other workers.
    pub listeners: Vec<Listener>,
    /// The counters of all workers.
    pub scoreboard: Scoreboard,
    /// This worker's slot on the scoreboard; a replacement has another than its predecessor.
    pub slot: usize,
    /// This worker's number, 0 to N-1; a replacement has the same as its predecessor.
    pub index: usize,
    /// The channel to the supervisor.
    pub control: WorkerControl,
}

impl Inherited {
    /// Takes over what the value of [`WORKER_VARIABLE`] names.
    ///
    /// Once per process, before it opens anything of its own. Everything becomes close-on-exec. The
    /// caller should then remove the variable, or programs the application starts will see it.
    pub fn from_env_value(value: &str) -> Result<Self, InheritError> {
        let passed: Passed = serde_json::from_str(value)?;
        let mut listeners = Vec::with_capacity(passed.listeners.len());
        for PassedListener { fd, address } in passed.listeners {
            let listener = adopt(fd).and_then(|owned| Listener::inherited(owned, address));
            listeners.push(listener.map_err(|source| failed("listening socket", source))?);
        }
        let scoreboard = adopt(passed.scoreboard)
            .and_then(Scoreboard::from_fd)
            .map_err(|source| failed("scoreboard", source))?;
        if scoreboard.len() != passed.slots || passed.slot >= scoreboard.len() {
            return Err(InheritError::Slot { slot: passed.slot, slots: scoreboard.len() });
        }
        let control = adopt(passed.control)
            .and_then(WorkerControl::new)
            .map_err(|source| failed("control channel", source))?;
        Ok(Self { listeners, scoreboard, slot: passed.slot, index: passed.index, control })
    }
}

impl Inherited {
    /// As a spare process, waits until a worker is wanted. `UnexpectedEof` if none will be.
    pub fn wait_for_place(&mut self) -> io::Result<()> {
        let (slot, index) = self.control.receive_place_blocking()?;
        if slot >= self.scoreboard.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no such slot"));
        }
        (self.slot, self.index) = (slot, index);
        Ok(())
    }
}

fn failed(what: &'static str, source: io::Error) -> InheritError {
    InheritError::Descriptor { what, source }
}

impl Passed {
    /// Every descriptor that the worker must inherit.
    pub(crate) fn descriptors(&self) -> Vec<RawFd> {
        let listeners = self.listeners.iter().map(|listener| listener.fd);
        listeners.chain([self.scoreboard, self.control]).collect()
    }
}

impl PassedListener {
    pub(crate) fn of(listener: &Listener) -> Self {
        Self { fd: listener.fd.as_raw_fd(), address: listener.address.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_ours_is_refused_with_a_hint() {
        for value in ["", "1", "{}", "{\"listeners\":[]}"] {
            let message = Inherited::from_env_value(value).unwrap_err().to_string();
            assert!(message.contains("started by the supervisor only"), "{message}");
        }
    }

    #[test]
    fn a_descriptor_that_is_not_open_is_named() {
        let passed = Passed {
            listeners: vec![PassedListener { fd: 90_001, address: "http://127.0.0.1:1".into() }],
            scoreboard: 90_002,
            control: 90_003,
            slot: 0,
            index: 0,
            slots: 1,
        };
        let value = serde_json::to_string(&passed).unwrap();
        let message = Inherited::from_env_value(&value).unwrap_err().to_string();
        assert!(message.contains("listening socket"), "{message}");
    }
}
