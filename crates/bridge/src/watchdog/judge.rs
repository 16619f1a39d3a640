//! When a loop counts as blocked: a pure function of what is seen of it, and when.
//!
//! ```text
//!           not parked, no progress      slow limit: Slow        time limit: TimedOut
//! Moving ──────────────────────────► Still ──────────► Still, told ──────────► Still, told all
//!    ▲                                 │                     │                      │
//!    └───────── parked, progress ──────┴─────── Recovered ───┴──────────────────────┘
//! ```

use std::time::Duration;

/// How often the loop is looked at while nothing is wrong.
const TICK: Duration = Duration::from_millis(250);
/// How often while it is blocked: what is said about the whole time is exact to this.
const BLOCKED_TICK: Duration = Duration::from_millis(50);
/// A look that comes this much too late was delayed by something that delayed the loop, too: the
/// process was stopped, or there is no processor for it.
const LATE: Duration = Duration::from_millis(500);

/// Limits; `None` is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) slow: Option<Duration>,
    pub(crate) timeout: Option<Duration>,
}

/// What can be seen of a loop from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pulse {
    /// When it last woke up or did something for a request; 0 while it sleeps.
    pub(crate) running_since_ns: u64,
    /// Counts up where a turn of the loop begins and where its `select()` ends.
    pub(crate) turns: u64,
}

/// Something to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The loop has been blocked for this long, and still is.
    Slow(Duration),
    /// It has been blocked for longer than a worker may.
    TimedOut(Duration),
    /// It moves again, after so long.
    Recovered(Duration),
}

/// What has been told about the current blockage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Nothing,
    Slow,
    TimedOut,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Moving,
    Still { since_ns: u64, told: Told },
}

/// What is remembered between two looks.
#[derive(Debug)]
pub(crate) struct Judge {
    limits: Limits,
    last: Pulse,
    state: State,
    next_look_ns: u64,
}

impl Judge {
    pub(crate) fn new(limits: Limits) -> Self {
        let last = Pulse { running_since_ns: 0, turns: 0 };
        Self { limits, last, state: State::Moving, next_look_ns: u64::MAX }
    }

    /// Takes note of what the loop shows at `now_ns`. `counts` is whether it has to move: not
    /// before the worker is ready, nor once it drains.
    pub(crate) fn look(&mut self, pulse: Pulse, counts: bool, now_ns: u64) -> Option<Verdict> {
        let late = Duration::from_nanos(now_ns.saturating_sub(self.next_look_ns));
        if let State::Still { since_ns, .. } = &mut self.state
            && late > LATE
        {
            *since_ns = since_ns.saturating_add(nanoseconds(late)).min(now_ns);
        }
        let before = std::mem::replace(&mut self.last, pulse);
        let is_still = pulse.running_since_ns != 0 && pulse == before && counts;
        let State::Still { since_ns, told } = &mut self.state else {
            self.state = begin(before, pulse, now_ns);
            return None;
        };
        let duration = Duration::from_nanos(now_ns.saturating_sub(*since_ns));
        if !is_still {
            let verdict = (*told > Told::Nothing).then_some(Verdict::Recovered(duration));
            self.state = begin(before, pulse, now_ns);
            return verdict;
        }
        let is_over = |limit: Option<Duration>| limit.is_some_and(|limit| duration >= limit);
        if *told < Told::TimedOut && is_over(self.limits.timeout) {
            *told = Told::TimedOut;
            return Some(Verdict::TimedOut(duration));
        }
        if *told < Told::Slow && is_over(self.limits.slow) {
            *told = Told::Slow;
            return Some(Verdict::Slow(duration));
        }
        None
    }

    /// There is a good reason for the blockage so far.
    pub(crate) fn excuse(&mut self, now_ns: u64) {
        if let State::Still { .. } = self.state {
            self.state = State::Still { since_ns: now_ns, told: Told::Nothing };
        }
    }

    /// How long to wait until the next look.
    pub(crate) fn patience(&mut self, now_ns: u64) -> Duration {
        let limits = [self.limits.slow, self.limits.timeout];
        let shortest = limits.into_iter().flatten().min().unwrap_or(Duration::MAX);
        let tick = TICK.min(shortest / 2).max(Duration::from_millis(5));
        let patience = match self.state {
            State::Moving => tick,
            State::Still { since_ns, told } => {
                let due = limits.into_iter().zip([Told::Slow, Told::TimedOut]);
                let elapsed = Duration::from_nanos(now_ns.saturating_sub(since_ns));
                let left = due
                    .filter_map(|(limit, tells)| limit.filter(|_| told < tells))
                    .map(|limit| limit.saturating_sub(elapsed))
                    .min();
                let tick = if told > Told::Nothing { BLOCKED_TICK.min(tick) } else { tick };
                tick.min(left.unwrap_or(tick)).max(Duration::from_millis(1))
            }
        };
        self.next_look_ns = now_ns.saturating_add(nanoseconds(patience));
        patience
    }
}

/// The loop has moved since the last look. From when on may it be still?
fn begin(before: Pulse, pulse: Pulse, now_ns: u64) -> State {
    if pulse.running_since_ns == 0 {
        return State::Moving;
    }
    // The time it woke up, if what it does since is still the same: a `select()` that ended, and
    // the callbacks of that turn. After more turns than that, nobody knows: not before now.
    let is_fresh = pulse.running_since_ns != before.running_since_ns
        && pulse.turns.wrapping_sub(before.turns) <= 2;
    let since_ns = if is_fresh { pulse.running_since_ns.min(now_ns) } else { now_ns };
    State::Still { since_ns, told: Told::Nothing }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits =
        Limits { slow: Some(Duration::from_secs(1)), timeout: Some(Duration::from_secs(3)) };
    const START: u64 = 1_000_000;

    /// All that is told, with the time at which it is: the loop shows `pulse(ms)` at `ms`.
    fn told(limits: Limits, end: u64, pulse: impl Fn(u64) -> (u64, u64)) -> Vec<(u64, Verdict)> {
        let mut judge = Judge::new(limits);
        let mut now = START;
        let mut told = Vec::new();
        while now < START + end {
            let (since, turns) = pulse(now - START);
            let running_since_ns = if since == 0 { 0 } else { (START + since) * 1_000_000 };
            let pulse = Pulse { running_since_ns, turns };
            told.extend(
                judge.look(pulse, true, now * 1_000_000).map(|verdict| (now - START, verdict)),
            );
            let patience = judge.patience(now * 1_000_000);
            now += u64::try_from(patience.as_millis()).unwrap().max(1);
        }
        told
    }

    fn ms(duration: u64) -> Duration {
        Duration::from_millis(duration)
    }

    #[test]
    fn a_blockage_is_told_once_at_each_limit_and_when_it_is_over() {
        let told = told(LIMITS, 10_000, |now| match now {
            0..700 => (0, 4),
            700..5_000 => (700, 4),
            _ => (0, 5),
        });
        assert_eq!(
            told,
            [
                (1_700, Verdict::Slow(ms(1_000))),
                (3_700, Verdict::TimedOut(ms(3_000))),
                (5_000, Verdict::Recovered(ms(4_300))),
            ]
        );
    }

    #[test]
    fn a_loop_that_sleeps_or_progresses_is_left_alone() {
        assert_eq!(told(LIMITS, 60_000, |_| (0, 7)), [], "asleep");
        assert_eq!(told(LIMITS, 60_000, |now| (1, now)), [], "turning without sleep");
        assert_eq!(told(LIMITS, 60_000, |now| (now + 1, 7)), [], "request after request");
        assert_eq!(told(LIMITS, 60_000, |now| (1, now / 900)), [], "turns of 0.9 s");
    }

    #[test]
    fn after_many_turns_the_beginning_is_never_put_too_early() {
        let told = told(LIMITS, 3_000, |now| if now < 600 { (1, now) } else { (1, 600) });
        let [(at, Verdict::Slow(duration))] = told[..] else { panic!("{told:?}") };
        assert!((1_600..1_900).contains(&at), "{at}");
        assert_eq!(duration, ms(1_000));
    }

    #[test]
    fn the_wake_up_that_led_to_the_blockage_is_its_beginning() {
        let told = told(LIMITS, 3_000, |now| if now < 40 { (0, 9) } else { (40, 10) });
        assert_eq!(told, [(1_040, Verdict::Slow(ms(1_000)))]);
    }

    #[test]
    fn limits_can_be_off_or_in_any_order() {
        let blocked = |_| (1, 1);
        let limits = |slow: Option<u64>, timeout: Option<u64>| Limits {
            slow: slow.map(ms),
            timeout: timeout.map(ms),
        };
        assert_eq!(told(limits(None, None), 60_000, blocked), []);
        let slow = told(limits(Some(500), None), 60_000, blocked);
        assert_eq!(slow, [(500, Verdict::Slow(ms(500)))]);
        let timeout = told(limits(None, Some(500)), 60_000, blocked);
        assert_eq!(timeout, [(500, Verdict::TimedOut(ms(500)))]);
        let timeout = told(limits(Some(5_000), Some(500)), 60_000, blocked);
        assert_eq!(timeout, [(500, Verdict::TimedOut(ms(500)))], "then a warning is no news");
    }

    #[test]
    fn a_process_that_was_stopped_is_not_blocked() {
        let mut judge = Judge::new(LIMITS);
        let pulse = Pulse { running_since_ns: 1, turns: 1 };
        let mut now = 1;
        let mut stopped = Duration::from_secs(100);
        let verdict = loop {
            if let Some(verdict) = judge.look(pulse, true, now) {
                break verdict;
            }
            // Stopped during the first wait.
            now += nanoseconds(judge.patience(now) + std::mem::take(&mut stopped));
        };
        assert_eq!(verdict, Verdict::Slow(ms(1_000)), "the time it was stopped is not counted");
        assert!(now > nanoseconds(Duration::from_secs(100)));
    }

    #[test]
    fn an_excuse_is_good_for_one_limit() {
        let mut judge = Judge::new(LIMITS);
        let pulse = Pulse { running_since_ns: 1, turns: 1 };
        let (mut now, mut told) = (1, Vec::new());
        while now < nanoseconds(ms(3_500)) {
            if let Some(verdict) = judge.look(pulse, true, now) {
                told.push(verdict);
                judge.excuse(now);
            }
            now += nanoseconds(judge.patience(now));
        }
        assert_eq!(told, [Verdict::Slow(ms(1_000)); 3]);
    }

    #[test]
    fn what_does_not_count_is_not_told() {
        let mut judge = Judge::new(LIMITS);
        let pulse = Pulse { running_since_ns: 1, turns: 1 };
        for second in 0..100 {
            let now = 1 + nanoseconds(Duration::from_secs(second));
            assert_eq!(judge.look(pulse, false, now), None);
            judge.next_look_ns = u64::MAX;
        }
    }
}
