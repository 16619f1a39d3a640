//! The scoreboard: one page of counters per worker, shared by all processes of one server.
//!
//! Owns: where the slots are. Must not know: who takes which connection (the balance rule reads these
//! numbers elsewhere), or what a metric is called.
//!
//! Each worker writes its own slot, from its loop's thread alone; everybody reads all of them and
//! disturbs nobody: numbers that change at different rates lie on different cache lines. As there
//! is one writer, counting is a load and a store, not a locked instruction. A reader may see two
//! counters of one request a moment apart; nothing here is a lock.

mod slot;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub use self::slot::{Phase, Slot, Version};
pub(crate) use self::slot::{SLOT_SIZE, STALL_NS, add};
use crate::sys::shared::SharedSlots;

/// The most slots a scoreboard can have, so the most worker processes alive at one time.
pub const MAX_SLOTS: usize = 256;

/// All slots of one server, in memory shared by its processes.
#[derive(Debug)]
pub struct Scoreboard {
    shared: SharedSlots,
}

impl Scoreboard {
    /// Makes a scoreboard of `slots` empty slots, 1 to [`MAX_SLOTS`].
    pub fn create(slots: usize) -> io::Result<Self> {
        if !(1..=MAX_SLOTS).contains(&slots) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "1 to 256 slots"));
        }
        Ok(Self { shared: SharedSlots::create(slots)? })
    }

    /// Opens the scoreboard that another process made.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Ok(Self { shared: SharedSlots::map(fd)? })
    }

    /// One slot.
    ///
    /// # Panics
    ///
    /// If there is no such slot: the number comes from the supervisor, which checked it.
    pub fn slot(&self, number: usize) -> &Slot {
        &self.shared.slots()[number]
    }

    /// All slots, empty ones included.
    pub fn slots(&self) -> &[Slot] {
        self.shared.slots()
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.shared.slots().len()
    }

    /// Never true: a scoreboard has at least one slot.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl AsFd for Scoreboard {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.as_fd()
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds: the same in all processes of the machine, never 0 in practice.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
