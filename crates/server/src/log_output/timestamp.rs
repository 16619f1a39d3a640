//! The time in a line, always UTC: what a worker on another machine wrote can be put beside it.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Writes times; what is the same for a whole second is made once.
#[derive(Debug, Default)]
pub struct Timestamps {
    second: u64,
    /// `2026-11-28T14:42:35`, empty before the first one.
    iso: Vec<u8>,
    /// `28/Nov/2026:14:42:35 +0000`
    common: Vec<u8>,
}

impl Timestamps {
    /// `2026-11-28T14:42:35.123Z` (RFC 3339).
    pub fn push_iso(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        let since = self.turn_to(time);
        out.extend_from_slice(&self.iso);
        out.push(b'.');
        push_three(out, since.subsec_millis());
        out.push(b'Z');
    }

    /// `28/Nov/2026:14:42:35 +0000`, as in the common log format.
    pub fn push_common(&mut self, out: &mut Vec<u8>, time: SystemTime) {
        self.turn_to(time);
        out.extend_from_slice(&self.common);
    }

    fn turn_to(&mut self, time: SystemTime) -> Duration {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() || self.iso.is_empty() {
            self.second = since.as_secs();
            let (year, month, day) = date(self.second / 86400);
            let second = self.second % 86400;
            let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
            let name = MONTHS.get(month.saturating_sub(1)).unwrap_or(&"");
            self.iso.clear();
            self.common.clear();
            // Writing to a vector cannot fail.
            let _ =
                write!(self.iso, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
            let _ = write!(
                self.common,
                "{day:02}/{name}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000"
            );
        }
        since
    }
}

/// Three digits of a number below 1000.
pub(crate) fn push_three(out: &mut Vec<u8>, number: u32) {
    for divisor in [100, 10, 1] {
        out.push(b'0' + u8::try_from(number / divisor % 10).unwrap_or_default());
    }
}

/// Year, month and day of a day since 1970: in eras of 400 years that begin with 1 March, where the
/// leap day is the last one.
fn date(day: u64) -> (u64, usize, u64) {
    const DAYS_OF_ERA: u64 = 146_097;
    /// From 1 March of the year 0 to 1 January 1970.
    const DAYS_TO_1970: u64 = 719_468;
    let day = day + DAYS_TO_1970;
    let (era, day) = (day / DAYS_OF_ERA, day % DAYS_OF_ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    // Months from March have 31, 30, 31, 30, 31 days and again: 153 in five.
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let year = era * 400 + year + u64::from(month >= 10);
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year, usize::try_from(month).unwrap_or(1), day_of_month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates_of_utc() {
        let table = [
            (0, 0, "1970-01-01T00:00:00.000Z", "01/Jan/1970:00:00:00 +0000"),
            (951_782_399, 999, "2000-02-28T23:59:59.999Z", "28/Feb/2000:23:59:59 +0000"),
            (951_782_400, 1, "2000-02-29T00:00:00.001Z", "29/Feb/2000:00:00:00 +0000"),
            (1_795_876_955, 123, "2026-11-28T14:42:35.123Z", "28/Nov/2026:14:42:35 +0000"),
            (1_798_761_599, 70, "2026-12-31T23:59:59.070Z", "31/Dec/2026:23:59:59 +0000"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000Z", "01/Mar/2100:00:00:00 +0000"),
        ];
        let mut stamps = Timestamps::default();
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
    fn days_follow_each_other() {
        let mut before = date(0);
        for day in 1..80_000 {
            let now = date(day);
            let expected = match (before.1, before.2) {
                (12, 31) => (before.0 + 1, 1, 1),
                _ if now.2 == 1 => (before.0, before.1 + 1, 1),
                _ => (before.0, before.1, before.2 + 1),
            };
            assert_eq!(now, expected);
            before = now;
        }
    }
}
