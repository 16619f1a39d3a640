//! The time of day, in the machine's time zone.

use std::mem::MaybeUninit;

use crate::policy::ClockTime;

/// What a clock on the wall shows now; midnight if the system cannot tell.
pub(crate) fn local_time() -> ClockTime {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime).tv_sec;
    let mut parts = MaybeUninit::<libc::tm>::zeroed();
    // SAFETY: both pointers are to values that live for the call; the second is written to only.
    let is_known = !unsafe { libc::localtime_r(&raw const now, parts.as_mut_ptr()) }.is_null();
    // SAFETY: `tm` consists of integers and a pointer that is not followed: zeroes are a valid value,
    // and so is what the call has written.
    let parts = unsafe { parts.assume_init() };
    let part = |number: libc::c_int| u8::try_from(number).unwrap_or(0);
    if !is_known {
        return ClockTime::default();
    }
    ClockTime { hour: part(parts.tm_hour), minute: part(parts.tm_min), second: part(parts.tm_sec) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_shows_a_time_of_day() {
        let ClockTime { hour, minute, second } = local_time();
        assert!(hour < 24 && minute < 60 && second <= 60);
    }
}
