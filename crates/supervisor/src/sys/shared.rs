//! The shared mapping behind the scoreboard.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::fs::{MemfdFlags, SealFlags};
use rustix::mm::{MapFlags, ProtFlags};

use crate::scoreboard::{SLOT_SIZE, Slot};

/// What keeps the file as long as the mapping: without it a truncation would turn reads into SIGBUS.
const SIZE_SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// An array of slots in memory shared with other processes through a memfd.
#[derive(Debug)]
pub(crate) struct SharedSlots {
    start: NonNull<Slot>,
    count: usize,
    fd: OwnedFd,
}

// SAFETY: the mapping is owned by this value alone, is not tied to a thread, and lives until drop.
unsafe impl Send for SharedSlots {}
// SAFETY: shared access hands out `&Slot` only, and every field of a slot is atomic.
unsafe impl Sync for SharedSlots {}

impl SharedSlots {
    /// Makes a zeroed memfd of `count` slots and maps it. Needs no file system.
    pub(crate) fn create(count: usize) -> io::Result<Self> {
        let fd = memfd("rsgi-scoreboard")?;
        let size = count.checked_mul(SLOT_SIZE).ok_or(io::ErrorKind::InvalidInput)?;
        rustix::fs::ftruncate(&fd, size as u64)?;
        rustix::fs::fcntl_add_seals(&fd, SIZE_SEALS | SealFlags::SEAL)?;
        Self::map(fd)
    }

    /// Maps a memfd made by [`Self::create`], in this process or another.
    pub(crate) fn map(fd: OwnedFd) -> io::Result<Self> {
        if !rustix::fs::fcntl_get_seals(&fd)?.contains(SIZE_SEALS) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a scoreboard"));
        }
        let size = usize::try_from(rustix::fs::fstat(&fd)?.st_size)
            .map_err(|_| io::ErrorKind::InvalidData)?;
        if size == 0 || !size.is_multiple_of(SLOT_SIZE) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a scoreboard"));
        }
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing of ours; the
        // range lies within the file, whose size the seals checked above make final.
        let start = unsafe {
            rustix::mm::mmap(
                ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                &fd,
                0,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, count: size / SLOT_SIZE, fd })
    }

    /// All slots.
    pub(crate) fn slots(&self) -> &[Slot] {
        // SAFETY: the mapping is page-aligned (a slot's alignment is less), holds exactly `count`
        // slots of `SLOT_SIZE` bytes and lives as long as `self`. A slot consists of integer atomics
        // only, so any bytes are a valid value, and other processes write them through atomics.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.count) }
    }
}

impl AsFd for SharedSlots {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for SharedSlots {
    fn drop(&mut self) {
        // SAFETY: `start` and the size are those of the mapping made in `map`, and no `&Slot`
        // outlives `self`. An error cannot happen for such a range and would only leak it.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.count * SLOT_SIZE) };
    }
}

/// A memfd that can be sealed, is closed on exec, and is not executable where the kernel knows that.
pub(crate) fn memfd(name: &str) -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    match rustix::fs::memfd_create(name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Linux before 6.3 does not know the flag.
        Err(rustix::io::Errno::INVAL) => Ok(rustix::fs::memfd_create(name, flags)?),
        result => Ok(result?),
    }
}
