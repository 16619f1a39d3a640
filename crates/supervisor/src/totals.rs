//! What a worker has counted, as plain numbers that outlive it.
//!
//! A slot is zeroed when its worker is reaped. Before that its [`Totals`] are added to those of the
//! worker's index, so that no counter ever goes backwards when a worker is replaced.

use crate::histogram::Durations;
use crate::scoreboard::Slot;

/// Everything that only ever grows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) accepted: u64,
    pub(crate) requests: u64,
    /// Of the classes 1xx to 5xx.
    pub(crate) responses: [u64; 5],
    pub(crate) unanswered: u64,
    pub(crate) turned_away: u64,
    pub(crate) timed_out: u64,
    pub(crate) bytes_in: u64,
    pub(crate) bytes_out: u64,
    pub(crate) stalls: u64,
    pub(crate) stalled_ns: u64,
    pub(crate) latency: Durations,
    pub(crate) queue: Durations,
}

impl Totals {
    /// Reads the counters of a slot.
    pub(crate) fn of(slot: &Slot) -> Self {
        Self {
            accepted: slot.accepted_total(),
            requests: slot.requests_total(),
            responses: [1, 2, 3, 4, 5].map(|class| slot.responses_total(class)),
            unanswered: slot.unanswered_total(),
            turned_away: slot.turned_away_total(),
            timed_out: slot.timed_out_total(),
            bytes_in: slot.bytes_in_total(),
            bytes_out: slot.bytes_out_total(),
            stalls: slot.stalls_total(),
            stalled_ns: slot.stalled_ns_total(),
            latency: slot.latency(),
            queue: slot.queue(),
        }
    }

    /// Adds those of another process.
    pub(crate) fn add(&mut self, other: &Self) {
        // Named one by one: a new field must not be forgotten here.
        let Self {
            accepted,
            requests,
            responses,
            unanswered,
            turned_away,
            timed_out,
            bytes_in,
            bytes_out,
            stalls,
            stalled_ns,
            latency,
            queue,
        } = other;
        for (own, other) in self.responses.iter_mut().zip(responses) {
            *own = own.wrapping_add(*other);
        }
        for (own, other) in [
            (&mut self.accepted, accepted),
            (&mut self.requests, requests),
            (&mut self.unanswered, unanswered),
            (&mut self.turned_away, turned_away),
            (&mut self.timed_out, timed_out),
            (&mut self.bytes_in, bytes_in),
            (&mut self.bytes_out, bytes_out),
            (&mut self.stalls, stalls),
            (&mut self.stalled_ns, stalled_ns),
        ] {
            *own = own.wrapping_add(*other);
        }
        self.latency.add(latency);
        self.queue.add(queue);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scoreboard::{Phase, STALL_NS, Scoreboard};

    /// A slot in which every counter has another number.
    fn counted(board: &Scoreboard) -> &Slot {
        let slot = board.slot(0);
        slot.set_phase(Phase::Ready);
        (0..2).for_each(|_| slot.connection_opened());
        (0..3).for_each(|_| slot.request_started());
        for (count, status) in [(4, 100), (5, 204), (6, 302), (7, 404), (8, 503), (9, 0)] {
            (0..count).for_each(|_| slot.response_sent(status));
        }
        (0..12).for_each(|_| slot.request_turned_away());
        (0..13).for_each(|_| slot.request_timed_out());
        slot.add_bytes_in(10);
        slot.add_bytes_out(11);
        slot.set_running(1);
        slot.set_running(1 + STALL_NS);
        slot.count_latency(Duration::from_micros(5));
        slot.count_queue(Duration::from_micros(9));
        slot
    }

    #[test]
    fn every_counter_of_a_slot_is_read_and_added() {
        let board = Scoreboard::create(1).unwrap();
        let totals = Totals::of(counted(&board));
        assert_eq!((totals.accepted, totals.requests, totals.unanswered), (2, 3, 9));
        assert_eq!(totals.responses, [4, 5, 6, 7, 8]);
        assert_eq!((totals.turned_away, totals.timed_out), (12, 13));
        assert_eq!((totals.bytes_in, totals.bytes_out), (10, 11));
        assert_eq!((totals.stalls, totals.stalled_ns), (1, STALL_NS));
        assert_eq!((totals.latency.sum_ns, totals.queue.sum_ns), (5_000, 9_000));
        assert_eq!((totals.latency.buckets[3], totals.queue.buckets[4]), (1, 1));

        let mut twice = totals.clone();
        twice.add(&totals);
        assert_eq!((twice.accepted, twice.requests, twice.unanswered), (4, 6, 18));
        assert_eq!(twice.responses, [8, 10, 12, 14, 16]);
        assert_eq!((twice.turned_away, twice.timed_out), (24, 26));
        assert_eq!((twice.bytes_in, twice.bytes_out), (20, 22));
        assert_eq!((twice.stalls, twice.stalled_ns), (2, 2 * STALL_NS));
        assert_eq!((twice.latency.sum_ns, twice.queue.sum_ns), (10_000, 18_000));
    }
}
