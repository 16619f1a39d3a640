//! The time in a line: UTC, so that what a worker on another machine wrote can be put beside it, and the
//! time of this place in the common log format, which says where that is.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Writes times; what is the same for a whole second is made once.
#[derive(Debug, Default)]
pub struct Timestamps {
    iso: Second,
    common: Second,
    /// Looked up when it is first asked for.
    zone: Option<TimeZone>,
}

/// What has been made for a second; empty before the first one.
#[derive(Debug, Default)]
struct Second {
    number: u64,
    text: Vec<u8>,
}

impl Second {
    /// The text for the second in which `time` lies, which `make` writes.
    fn at(&mut self, since: Duration, make: impl FnOnce(&mut Vec<u8>, Timestamp)) -> &[u8] {
        if self.number != since.as_secs() || self.text.is_empty() {
            self.number = since.as_secs();
            self.text.clear();
            let second = i64::try_from(self.number).unwrap_or(i64::MAX);
            make(&mut self.text, Timestamp::from_second(second).unwrap_or(Timestamp::MAX));
        }
        &self.text
    }
}

impl Timestamps {
    /// `2026-11-28T14:42:35.123Z` (RFC 3339).
    pub fn push_iso(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        let since = since_epoch(time);
        out.extend_from_slice(self.iso.at(since, |text, time| {
            // Writing to a vector cannot fail.
            let _ = write!(text, "{}", time.strftime("%Y-%m-%dT%H:%M:%S"));
        }));
        out.push(b'.');
        push_three(out, since.subsec_millis());
        out.push(b'Z');
    }

    /// `28/Nov/2026:14:42:35 +0000`, as in the common log format: the time of this place.
    pub fn push_common(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        let zone = self.zone.get_or_insert_with(TimeZone::system);
        out.extend_from_slice(self.common.at(since_epoch(time), |text, time| {
            let time = time.to_zoned(zone.clone());
            let _ = write!(text, "{}", time.strftime("%d/%b/%Y:%H:%M:%S %z"));
        }));
    }
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The last three digits of a number.
pub(crate) fn push_three(out: &mut Vec<u8>, number: u32) {
    let digit = |divisor| b'0' + u8::try_from(number / divisor % 10).unwrap_or_default();
    out.extend_from_slice(&[digit(100), digit(10), digit(1)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        let table = [
            (0, 0, "1970-01-01T00:00:00.000Z", "01/Jan/1970:00:00:00 +0000"),
            (951_782_399, 999, "2000-02-28T23:59:59.999Z", "28/Feb/2000:23:59:59 +0000"),
            (951_782_400, 1, "2000-02-29T00:00:00.001Z", "29/Feb/2000:00:00:00 +0000"),
            (1_795_876_955, 123, "2026-11-28T14:42:35.123Z", "28/Nov/2026:14:42:35 +0000"),
            (1_798_761_599, 70, "2026-12-31T23:59:59.070Z", "31/Dec/2026:23:59:59 +0000"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000Z", "01/Mar/2100:00:00:00 +0000"),
        ];
        let mut stamps = Timestamps { zone: Some(TimeZone::UTC), ..Timestamps::default() };
        for (second, milli, iso, common) in table {
            let time = UNIX_EPOCH + Duration::from_secs(second) + Duration::from_millis(milli);
            let mut out = Vec::new();
            stamps.push_iso(&mut out, time);
            out.push(b' ');
            stamps.push_common(&mut out, time);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{iso} {common}"));
        }
    }

    #[test]
    fn the_common_format_has_the_time_of_this_place() {
        let berlin = "CET-1CEST,M3.5.0,M10.5.0/3";
        let table = [
            (berlin, 1_795_876_955, "28/Nov/2026:15:42:35 +0100"),
            (berlin, 1_782_000_000, "21/Jun/2026:02:00:00 +0200"),
            ("NST3:30", 1_795_876_955, "28/Nov/2026:11:12:35 -0330"),
        ];
        for (zone, second, expected) in table {
            let zone = Some(TimeZone::posix(zone).unwrap());
            let mut stamps = Timestamps { zone, ..Timestamps::default() };
            let mut out = Vec::new();
            stamps.push_common(&mut out, UNIX_EPOCH + Duration::from_secs(second));
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
