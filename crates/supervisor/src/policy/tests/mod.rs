//! The rules as tables and small stories: no process, no clock.
//!
//! Long because the policy has one set of rules and each story is short: they share one cast.

mod development;

use std::time::Duration;

use log::Level;

use super::machine::{Mode, Stage};
use super::*;
use crate::exit;

/// A policy whose spawns succeed at once: the process of generation `g` is number `100 + g`.
struct Story {
    policy: Policy,
    now: Duration,
    refuse: bool,
    /// What every [`Action::MeasureMemory`] is answered with.
    memory: Option<Memory>,
}

/// A way in which a worker's start fails.
type Failure = fn(&mut Story) -> Vec<Action>;

const GRACE: Duration = Duration::from_secs(30);
const STARTUP: Duration = Duration::from_secs(60);

const SHARE: Reason = Reason::Requests { served: 7, limit: 5 };

fn wants_recycle(generation: u32) -> Event {
    Event::WorkerWantsRecycle { pid: pid(generation), reason: SHARE }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn spawn(slot: usize, index: usize, generation: u32) -> Action {
    Action::Spawn { slot, index, generation }
}

fn pid(generation: u32) -> Pid {
    100 + generation
}

fn drain(generation: u32) -> Action {
    Action::Drain { pid: pid(generation) }
}

fn kill(generation: u32) -> Action {
    Action::Kill { pid: pid(generation) }
}

fn terminate(generation: u32) -> Action {
    Action::Terminate { pid: pid(generation) }
}

impl Story {
    fn with(settings: PolicySettings) -> Self {
        Self { policy: Policy::new(settings), now: Duration::ZERO, refuse: false, memory: None }
    }

    /// `workers` workers that have been asked for and are starting.
    fn starting(workers: usize) -> Self {
        let mut story = Self::with(PolicySettings {
            workers,
            slots: 2 * workers + 4,
            graceful: Some(GRACE),
            startup: Some(STARTUP),
            max_rss: None,
            lifetime: None,
            seed: 1,
            ..PolicySettings::default()
        });
        story.on(Event::Tick);
        story
    }

    /// `workers` workers, generations 1 to `workers`, all ready.
    fn serving(workers: usize) -> Self {
        let mut story = Self::starting(workers);
        for generation in 1..=u32::try_from(workers).unwrap() {
            story.ready(generation);
        }
        story
    }

    /// All actions that follow from an event, without the log.
    fn on(&mut self, event: Event) -> Vec<Action> {
        let is_answered =
            |action: &Action| matches!(action, Action::Log(_) | Action::MeasureMemory { .. });
        self.all(event).into_iter().filter(|action| !is_answered(action)).collect()
    }

    /// The log lines that follow from an event.
    fn log(&mut self, event: Event) -> Vec<Notice> {
        let notices = self.all(event).into_iter().filter_map(|action| match action {
            Action::Log(notice) => Some(notice),
            _ => None,
        });
        notices.filter(|notice| !matches!(notice, Notice::WorkerStarted { .. })).collect()
    }

    fn all(&mut self, event: Event) -> Vec<Action> {
        let mut actions = self.policy.on(event, self.now);
        let mut next = 0;
        while let Some(action) = actions.get(next) {
            let answer = match *action {
                Action::Spawn { slot, .. } if self.refuse => {
                    Some(Event::SpawnFailed { slot, message: "no memory".into() })
                }
                Action::Spawn { slot, generation, .. }
                | Action::StandIn { slot, generation, .. } => {
                    Some(Event::Spawned { slot, pid: pid(generation) })
                }
                Action::MeasureMemory { pid } => {
                    Some(Event::MemoryMeasured { pid, memory: self.memory })
                }
                _ => None,
            };
            if let Some(answer) = answer {
                actions.extend(self.policy.on(answer, self.now));
            }
            next += 1;
        }
        actions
    }

    fn ready(&mut self, generation: u32) -> Vec<Action> {
        self.on(Event::WorkerReady { pid: pid(generation) })
    }

    fn exits(&mut self, generation: u32) -> Vec<Action> {
        self.on(Event::WorkerExited { pid: pid(generation), exit: Exit::Code(0) })
    }

    fn crashes(&mut self, generation: u32) -> Vec<Action> {
        self.on(Event::WorkerExited { pid: pid(generation), exit: Exit::Signal(11) })
    }

    fn fails(&mut self, generation: u32) -> Vec<Action> {
        let message = "boom".into();
        self.on(Event::WorkerFailedToStart { pid: pid(generation), message })
    }

    fn wait(&mut self, duration: Duration) -> Vec<Action> {
        self.now += duration;
        self.on(Event::Tick)
    }

    /// Lets time pass until the policy's next deadline.
    fn wait_for_deadline(&mut self) -> Vec<Action> {
        let deadline = self.policy.next_deadline().expect("something is due");
        assert!(deadline > self.now, "a deadline lies in the future");
        self.now = deadline;
        self.on(Event::Tick)
    }
}

// --- start ---

#[test]
fn one_worker_per_index_is_started_in_the_lowest_slots() {
    let mut story = Story::with(PolicySettings {
        workers: 3,
        slots: 8,
        graceful: None,
        startup: None,
        max_rss: None,
        lifetime: None,
        seed: 0,
        ..PolicySettings::default()
    });
    assert_eq!(story.on(Event::Tick), [spawn(0, 0, 1), spawn(1, 1, 2), spawn(2, 2, 3)]);
    assert_eq!(story.on(Event::Tick), []);
}

#[test]
fn running_is_announced_once_when_the_first_worker_is_ready() {
    let mut story = Story::starting(2);
    assert_eq!(story.ready(2), [Action::AnnounceRunning]);
    assert_eq!(story.ready(1), []);
    assert_eq!(story.ready(1), [], "a worker that says so twice changes nothing");
}

#[test]
fn a_server_with_nothing_due_has_no_deadline() {
    let mut story = Story::serving(4);
    assert_eq!(story.policy.next_deadline(), None);
    assert_eq!(story.wait(seconds(1_000_000)), []);
    assert_eq!(story.policy.next_deadline(), None);
}

#[test]
fn a_failed_start_before_any_worker_was_ready_stops_everything_with_3() {
    let close = Action::CloseListeners;
    let table: [(&str, Failure, &[Action]); 3] = [
        ("says so", |story| story.fails(1), &[close.clone(), terminate(2)]),
        ("dies", |story| story.crashes(1), &[close.clone(), terminate(2)]),
        ("takes too long", |story| story.wait(STARTUP), &[kill(1), kill(2), close.clone()]),
    ];
    for (how, fail, expected) in table {
        let mut story = Story::starting(2);
        let actions = fail(&mut story);
        let mut sorted = actions.clone();
        let mut wanted = expected.to_vec();
        sorted.sort_by_key(|action| format!("{action:?}"));
        wanted.sort_by_key(|action| format!("{action:?}"));
        assert_eq!(sorted, wanted, "{how}");
        let mut last = story.exits(2);
        last.extend(story.exits(1));
        assert_eq!(last, [Action::Exit { code: exit::STARTUP }], "{how}");
    }
}

#[test]
fn a_program_that_cannot_be_executed_stops_everything_with_3() {
    let mut story = Story::with(PolicySettings {
        workers: 1,
        slots: 4,
        graceful: None,
        startup: None,
        max_rss: None,
        lifetime: None,
        seed: 0,
        ..PolicySettings::default()
    });
    story.refuse = true;
    let actions = story.on(Event::Tick);
    let end = [spawn(0, 0, 1), Action::CloseListeners, Action::Exit { code: exit::STARTUP }];
    assert_eq!(actions, end);
}

#[test]
fn a_failed_start_is_logged_with_the_workers_own_words_and_the_end() {
    let mut story = Story::starting(1);
    let message = "no module named `x`".to_owned();
    let event = Event::WorkerFailedToStart { pid: pid(1), message: message.clone() };
    let expected = [Notice::StartFailed { index: 0, pid: pid(1), message }, Notice::StartupFailed];
    assert_eq!(story.log(event), expected);
}

#[test]
fn a_worker_that_reported_a_failed_start_and_stays_is_killed() {
    let mut story = Story::starting(1);
    assert_eq!(story.fails(1), [Action::CloseListeners]);
    assert_eq!(story.wait_for_deadline(), [kill(1)]);
    assert_eq!(story.now, EXIT_LIMIT);
    assert_eq!(story.exits(1), [Action::Exit { code: exit::STARTUP }]);
}

#[test]
fn a_failed_start_after_another_worker_was_ready_is_a_death() {
    let mut story = Story::starting(2);
    story.ready(2);
    // The failed one still exists, so its slot is taken; its index gets a new worker at once.
    assert_eq!(story.fails(1), [spawn(2, 0, 3)]);
    assert_eq!(story.exits(1), []);
}

#[test]
fn no_start_up_limit_means_none() {
    let mut story = Story::with(PolicySettings {
        workers: 1,
        slots: 4,
        graceful: None,
        startup: None,
        max_rss: None,
        lifetime: None,
        seed: 0,
        ..PolicySettings::default()
    });
    story.on(Event::Tick);
    assert_eq!(story.policy.next_deadline(), None);
    assert_eq!(story.wait(seconds(100_000)), []);
}

// --- deaths ---

#[test]
fn a_ready_worker_that_dies_is_replaced_at_once_in_its_slot() {
    let mut story = Story::serving(2);
    assert_eq!(story.crashes(1), [spawn(0, 0, 3)]);
}

#[test]
fn a_ready_worker_that_exits_with_0_unasked_is_replaced_as_well() {
    let mut story = Story::serving(2);
    assert_eq!(story.exits(2), [spawn(1, 1, 3)]);
}

#[test]
fn the_cause_of_a_death_is_logged() {
    let table = [
        (Exit::Signal(9), "Worker 1 [101] was killed by SIGKILL"),
        (Exit::OutOfMemory, "Worker 1 [101] was killed by SIGKILL (out of memory)"),
        (Exit::Signal(11), "Worker 1 [101] was killed by SIGSEGV"),
        (Exit::Signal(64), "Worker 1 [101] was killed by signal 64"),
        (Exit::Code(1), "Worker 1 [101] exited with code 1"),
    ];
    for (exit, expected) in table {
        let mut story = Story::serving(1);
        let log = story.log(Event::WorkerExited { pid: pid(1), exit });
        let lines: Vec<String> = log.iter().map(ToString::to_string).collect();
        assert_eq!(lines, [expected]);
        assert_eq!(log[0].level(), Level::Error);
    }
}

#[test]
fn a_worker_that_dies_again_waits_longer_each_time() {
    let mut story = Story::serving(1);
    let mut generation = 1;
    let mut waits = Vec::new();
    for _ in 0..6 {
        let actions = story.crashes(generation);
        generation += 1;
        if actions.is_empty() {
            let before = story.now;
            assert_eq!(story.wait_for_deadline(), [spawn(0, 0, generation)]);
            waits.push(story.now.abs_diff(before));
        }
        story.ready(generation);
    }
    assert_eq!(waits.len(), 5, "only the first is replaced at once");
    assert!(waits.windows(2).all(|pair| pair[0] < pair[1]), "{waits:?}");
    assert!(waits[4] <= Duration::from_millis(1600), "{waits:?}");
}

#[test]
fn a_minute_of_health_clears_the_record() {
    let mut story = Story::serving(1);
    story.crashes(1);
    story.ready(2);
    story.wait(STABLE);
    assert_eq!(story.crashes(2), [spawn(0, 0, 3)]);
}

#[test]
fn less_than_a_minute_of_health_does_not_clear_the_record() {
    let mut story = Story::serving(1);
    story.crashes(1);
    story.ready(2);
    story.wait(STABLE.abs_diff(seconds(1)));
    assert_eq!(story.crashes(2), []);
}

#[test]
fn deaths_of_one_index_do_not_delay_another() {
    let mut story = Story::serving(2);
    story.crashes(1);
    story.ready(3);
    assert_eq!(story.crashes(3), []);
    assert_eq!(story.crashes(2), [spawn(0, 1, 4)], "at once, in the lowest free slot");
}

#[test]
fn ten_deaths_within_a_minute_end_everything_with_1() {
    let mut story = Story::serving(2);
    let mut generation = 1;
    for death in 1..=CRASH_LIMIT {
        let actions = story.crashes(generation);
        if death == CRASH_LIMIT {
            assert_eq!(actions, [Action::CloseListeners, drain(2)]);
            break;
        }
        if actions.is_empty() {
            story.wait_for_deadline();
        }
        generation = story.policy.workers.iter().map(|worker| worker.generation).max().unwrap();
        story.ready(generation);
    }
    assert!(story.now < CRASH_WINDOW);
    assert_eq!(story.exits(2), [Action::Exit { code: exit::FAILURE }]);
}

#[test]
fn ten_deaths_over_a_longer_time_do_not_end_it() {
    let mut story = Story::serving(1);
    let mut generation = 1;
    for _ in 0..50 {
        if story.crashes(generation).is_empty() {
            story.wait_for_deadline();
        }
        generation += 1;
        story.ready(generation);
        story.wait(seconds(7));
    }
    assert_eq!(story.policy.mode, machine::Mode::Running);
}

#[test]
fn the_last_cause_is_part_of_the_crash_loops_line() {
    let mut story = Story::serving(12);
    for generation in 1..=9 {
        story.crashes(generation);
    }
    let log = story.log(Event::WorkerExited { pid: pid(10), exit: Exit::Signal(6) });
    let last = log.last().unwrap().to_string();
    assert_eq!(last, "10 workers died within 60 s, giving up; the last one was killed by SIGABRT");
}

#[test]
fn a_late_start_is_killed_and_counts_as_a_death() {
    let mut story = Story::serving(2);
    story.crashes(1);
    assert_eq!(story.wait_for_deadline(), [kill(3)]);
    assert_eq!(story.now, STARTUP);
    // The second death in a row: with a delay.
    assert_eq!(story.exits(3), []);
    assert_eq!(story.wait_for_deadline(), [spawn(0, 0, 4)]);
}

// --- stop ---

#[test]
fn a_stop_drains_who_is_ready_terminates_who_is_not_and_exits_with_0() {
    let mut story = Story::starting(3);
    story.ready(1);
    story.ready(3);
    let expected = [Action::CloseListeners, drain(1), terminate(2), drain(3)];
    assert_eq!(story.on(Event::StopRequested), expected);
    assert_eq!(story.crashes(2), []);
    assert_eq!(story.exits(1), []);
    assert_eq!(story.exits(3), [Action::Exit { code: exit::CLEAN }]);
}

#[test]
fn a_worker_that_drains_too_long_is_killed_after_the_limit_and_a_margin() {
    let mut story = Story::serving(2);
    story.wait(seconds(100));
    story.on(Event::StopRequested);
    assert_eq!(story.exits(1), []);
    assert_eq!(story.wait_for_deadline(), [kill(2)]);
    assert_eq!(story.now, seconds(100) + GRACE + KILL_MARGIN);
    assert_eq!(story.policy.next_deadline(), None);
    assert_eq!(story.crashes(2), [Action::Exit { code: exit::CLEAN }]);
}

#[test]
fn no_graceful_limit_means_none() {
    let mut story = Story::with(PolicySettings {
        workers: 1,
        slots: 4,
        graceful: None,
        startup: None,
        max_rss: None,
        lifetime: None,
        seed: 0,
        ..PolicySettings::default()
    });
    story.on(Event::Tick);
    story.ready(1);
    story.on(Event::StopRequested);
    assert_eq!(story.policy.next_deadline(), None);
}

#[test]
fn limits_without_end_do_not_overflow() {
    let mut story = Story::with(PolicySettings {
        workers: 1,
        slots: 4,
        graceful: Some(Duration::MAX),
        startup: Some(Duration::MAX),
        max_rss: None,
        lifetime: None,
        seed: 0,
        ..PolicySettings::default()
    });
    story.now = seconds(5);
    story.on(Event::Tick);
    story.ready(1);
    assert_eq!(story.on(Event::StopRequested), [Action::CloseListeners, drain(1)]);
}

#[test]
fn a_second_stop_kills_and_a_third_does_nothing() {
    let mut story = Story::serving(2);
    story.on(Event::StopRequested);
    assert_eq!(story.on(Event::StopRequested), [], "the group's copy of the same signal");
    story.wait(SAME_STOP);
    assert_eq!(story.on(Event::StopRequested), [kill(1), kill(2)]);
    assert_eq!(story.on(Event::StopRequested), []);
    story.crashes(1);
    assert_eq!(story.crashes(2), [Action::Exit { code: exit::CLEAN }]);
}

#[test]
fn forcing_keeps_the_code_of_a_failed_start() {
    let mut story = Story::starting(2);
    story.fails(1);
    story.on(Event::StopRequested);
    story.crashes(1);
    assert_eq!(story.crashes(2), [Action::Exit { code: exit::STARTUP }]);
}

#[test]
fn quit_asks_the_ready_kills_the_rest_and_kills_who_is_late() {
    let mut story = Story::starting(2);
    story.ready(1);
    let expected = [
        Action::CloseListeners,
        Action::Quit { pid: pid(1) },
        Action::Quit { pid: pid(2) },
        kill(2),
    ];
    assert_eq!(story.on(Event::QuitRequested), expected);
    assert_eq!(story.wait_for_deadline(), [kill(1)]);
    assert_eq!(story.now, EXIT_LIMIT);
}

#[test]
fn quit_shortens_a_drain_under_way() {
    let mut story = Story::serving(1);
    story.on(Event::StopRequested);
    assert_eq!(story.on(Event::QuitRequested), [Action::Quit { pid: pid(1) }]);
    assert_eq!(story.wait_for_deadline(), [kill(1)]);
    assert_eq!(story.now, EXIT_LIMIT);
}

#[test]
fn quit_never_lengthens_a_drain_under_way() {
    let mut story = Story::serving(1);
    story.on(Event::StopRequested);
    story.wait(GRACE);
    story.on(Event::QuitRequested);
    assert_eq!(story.wait_for_deadline(), [kill(1)]);
    assert_eq!(story.now, GRACE + KILL_MARGIN);
}

#[test]
fn nothing_is_started_while_stopping() {
    let events = [Event::ReloadRequested, Event::ScaleUp, Event::ScaleDown, Event::Tick];
    for event in events {
        let mut story = Story::serving(3);
        story.on(wants_recycle(2));
        story.on(Event::StopRequested);
        assert_eq!(story.on(event.clone()), [], "{event:?}");
        assert_eq!(story.crashes(1), [], "{event:?}");
    }
}

#[test]
fn nothing_happens_after_the_end() {
    let mut story = Story::serving(1);
    story.on(Event::StopRequested);
    assert_eq!(story.exits(1), [Action::Exit { code: exit::CLEAN }]);
    for event in [Event::Tick, Event::StopRequested, Event::ReloadRequested] {
        assert_eq!(story.all(event), []);
    }
    assert_eq!(story.policy.next_deadline(), None);
}

#[test]
fn a_stop_while_waiting_to_respawn_ends_at_once() {
    let mut story = Story::serving(1);
    story.crashes(1);
    story.ready(2);
    assert_eq!(story.crashes(2), []);
    let end = [Action::CloseListeners, Action::Exit { code: exit::CLEAN }];
    assert_eq!(story.on(Event::StopRequested), end);
}

#[test]
fn a_worker_that_exists_only_after_the_stop_is_told_to_leave() {
    let mut policy = Policy::new(PolicySettings {
        workers: 1,
        slots: 4,
        graceful: Some(GRACE),
        startup: None,
        max_rss: None,
        lifetime: None,
        seed: 0,
        ..PolicySettings::default()
    });
    policy.on(Event::Tick, Duration::ZERO);
    policy.on(Event::StopRequested, Duration::ZERO);
    let actions = policy.on(Event::Spawned { slot: 0, pid: 7 }, Duration::ZERO);
    assert!(actions.contains(&Action::Terminate { pid: 7 }), "{actions:?}");
}

#[test]
fn how_a_draining_worker_ended_is_logged_loudly_only_if_it_crashed() {
    let table = [
        (Exit::Code(0), Level::Info),
        (Exit::Code(1), Level::Info),
        (Exit::Signal(2), Level::Info),
        (Exit::Signal(3), Level::Info),
        (Exit::Signal(9), Level::Info),
        (Exit::Signal(15), Level::Info),
        (Exit::Signal(64), Level::Error),
        (Exit::Signal(11), Level::Error),
    ];
    for (exit, level) in table {
        let mut story = Story::serving(2);
        story.on(Event::StopRequested);
        let log = story.log(Event::WorkerExited { pid: pid(1), exit });
        assert_eq!(log, [Notice::Finished { index: 0, pid: pid(1), exit }]);
        assert_eq!(log[0].level(), level, "{exit}");
    }
}

// --- stop with a delay ---

const DELAY: Duration = Duration::from_secs(10);

impl Story {
    /// Like [`Story::serving`], with a shutdown delay, at second 100.
    fn with_delay(workers: usize) -> Self {
        let mut story = Self::serving(workers);
        story.policy.settings.delay = DELAY;
        story.wait(seconds(100));
        story
    }
}

fn announce(generation: u32) -> Action {
    Action::Announce { pid: pid(generation) }
}

#[test]
fn a_delayed_stop_announces_first_and_closes_and_drains_behind_the_delay() {
    let mut story = Story::with_delay(2);
    assert_eq!(story.on(Event::StopRequested), [announce(1), announce(2)]);
    assert_eq!(story.wait(seconds(9)), []);
    assert_eq!(story.wait_for_deadline(), [Action::CloseListeners, drain(1), drain(2)]);
    assert_eq!(story.now, seconds(100) + DELAY);
    assert_eq!(story.exits(1), []);
    assert_eq!(story.wait_for_deadline(), [kill(2)], "the grace begins behind the delay");
    assert_eq!(story.now, seconds(100) + DELAY + GRACE + KILL_MARGIN);
    assert_eq!(story.crashes(2), [Action::Exit { code: exit::CLEAN }]);
}

#[test]
fn a_delayed_stop_says_how_long_it_accepts() {
    let mut story = Story::with_delay(1);
    let lines: Vec<String> =
        story.log(Event::StopRequested).iter().map(ToString::to_string).collect();
    assert_eq!(lines[1], "Accepting connections for another 10 s (--shutdown-delay)");
}

#[test]
fn the_delay_is_for_those_who_serve() {
    let mut story = Story::with_delay(2);
    story.on(wants_recycle(1));
    assert_eq!(story.on(Event::StopRequested), [announce(1), announce(2), terminate(3)]);
    let mut story = Story::starting(1);
    story.policy.settings.delay = DELAY;
    let now = [Action::CloseListeners, terminate(1)];
    assert_eq!(story.on(Event::StopRequested), now, "nobody has ever been sent here");
}

#[test]
fn a_stop_of_the_servers_own_has_no_delay() {
    let mut story = Story::with_delay(12);
    for generation in 1..=9 {
        story.crashes(generation);
    }
    let actions = story.crashes(10);
    assert!(actions.contains(&Action::CloseListeners), "{actions:?}");
}

#[test]
fn who_dies_during_the_delay_is_not_replaced_and_the_last_one_ends_it() {
    let mut story = Story::with_delay(2);
    story.on(Event::StopRequested);
    assert_eq!(story.crashes(1), []);
    assert_eq!(story.crashes(2), [Action::Exit { code: exit::CLEAN }]);
}

#[test]
fn a_second_stop_during_the_delay_forces() {
    let mut story = Story::with_delay(1);
    story.on(Event::StopRequested);
    story.now += SAME_STOP / 2;
    assert_eq!(story.on(Event::StopRequested), [], "the same one again");
    story.now += SAME_STOP;
    assert_eq!(story.on(Event::StopRequested), [kill(1)]);
    assert_eq!(story.crashes(1), [Action::Exit { code: exit::CLEAN }]);
}

#[test]
fn quit_during_the_delay_closes_and_does_not_wait_for_its_end() {
    let mut story = Story::with_delay(1);
    story.on(Event::StopRequested);
    let quit = [Action::CloseListeners, Action::Quit { pid: pid(1) }];
    assert_eq!(story.on(Event::QuitRequested), quit);
    assert_eq!(story.wait_for_deadline(), [kill(1)]);
    assert_eq!(story.now, seconds(100) + EXIT_LIMIT);
    assert_eq!(story.wait(DELAY), []);
}

#[test]
fn a_worker_that_is_replaced_has_no_delay() {
    let mut story = Story::with_delay(1);
    story.on(Event::ReloadRequested);
    assert_eq!(story.ready(2), [drain(1)]);
    story.exits(1);
    story.on(Event::ScaleUp);
    story.ready(3);
    assert_eq!(story.on(Event::ScaleDown), [drain(3)]);
}

#[test]
fn a_death_beside_a_worker_that_drains_for_long_is_replaced_at_once() {
    let mut reloading = Story::serving(2);
    reloading.on(Event::ReloadRequested);
    assert_eq!(reloading.ready(3), [drain(1)]);
    assert_eq!(reloading.crashes(2), [spawn(1, 1, 4)]);

    let mut scaling = Story::serving(3);
    assert_eq!(scaling.on(Event::ScaleDown), [drain(3)]);
    assert_eq!(scaling.crashes(1), [spawn(0, 0, 4)]);
}

// --- reload ---

#[test]
fn a_reload_replaces_one_by_one_and_each_only_when_its_successor_is_ready() {
    let mut story = Story::serving(2);
    assert_eq!(story.on(Event::ReloadRequested), [spawn(2, 0, 3)]);
    assert_eq!(story.on(Event::Tick), []);
    assert_eq!(story.ready(3), [drain(1)]);
    assert_eq!(story.on(Event::Tick), [], "the next one waits until the old one is gone");
    assert_eq!(story.exits(1), [spawn(0, 1, 4)]);
    assert_eq!(story.ready(4), [drain(2)]);
    let log = story.log(Event::WorkerExited { pid: pid(2), exit: Exit::Code(0) });
    assert_eq!(log.last(), Some(&Notice::Reloaded));
    assert_eq!(story.policy.next_deadline(), None);
}

#[test]
fn a_reload_never_has_more_than_one_worker_too_many() {
    let mut story = Story::serving(4);
    story.on(Event::ReloadRequested);
    for new in 5..=8 {
        assert_eq!(story.policy.workers.len(), 5);
        story.ready(new);
        assert_eq!(story.policy.workers.len(), 5);
        story.exits(new - 4);
    }
    assert_eq!(story.policy.workers.len(), 4);
}

#[test]
fn a_reload_whose_new_worker_fails_leaves_the_old_ones_serving() {
    let table: [(&str, Failure, &[Action]); 3] = [
        ("says so", |story| story.fails(3), &[]),
        ("dies", |story| story.crashes(3), &[]),
        ("takes too long", |story| story.wait(STARTUP), &[kill(3)]),
    ];
    for (how, fail, expected) in table {
        let mut story = Story::serving(2);
        story.on(Event::ReloadRequested);
        assert_eq!(fail(&mut story), expected, "{how}");
        story.exits(3);
        assert_eq!(story.wait(seconds(1000)), [], "{how}: it is not tried again");
        assert_eq!(story.policy.workers.len(), 2, "{how}");
        assert!(story.policy.deaths.is_empty(), "{how}: it is no death of a serving worker");
    }
}

#[test]
fn a_failed_reload_says_why() {
    let mut story = Story::serving(2);
    story.on(Event::ReloadRequested);
    let event = Event::WorkerFailedToStart { pid: pid(3), message: "syntax error".into() };
    let lines: Vec<String> = story.log(event).iter().map(ToString::to_string).collect();
    let expected = [
        "Worker 1 [103] failed to start: syntax error",
        "Reload abandoned: the new worker 1 did not start, the old ones serve on",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_reload_can_be_tried_again_after_it_failed() {
    let mut story = Story::serving(1);
    story.on(Event::ReloadRequested);
    story.fails(2);
    story.exits(2);
    assert_eq!(story.on(Event::ReloadRequested), [spawn(1, 0, 3)]);
    assert_eq!(story.ready(3), [drain(1)]);
}

#[test]
fn a_second_reload_replaces_also_what_the_first_one_started() {
    let mut story = Story::serving(1);
    assert_eq!(story.on(Event::ReloadRequested), [spawn(1, 0, 2)]);
    assert_eq!(story.on(Event::ReloadRequested), []);
    assert_eq!(story.ready(2), [drain(1)]);
    assert_eq!(story.exits(1), [spawn(0, 0, 3)]);
    assert_eq!(story.ready(3), [drain(2)]);
    assert_eq!(story.exits(2), []);
}

#[test]
fn an_old_worker_that_dies_during_its_replacement_is_not_respawned_twice() {
    let mut story = Story::serving(1);
    story.on(Event::ReloadRequested);
    assert_eq!(story.crashes(1), []);
    assert_eq!(story.ready(2), []);
    assert_eq!(story.policy.workers.len(), 1);
    assert_eq!(story.policy.reload, None);
}

#[test]
fn no_respawn_is_announced_for_a_worker_that_has_its_replacement() {
    let mut story = Story::serving(1);
    story.crashes(1);
    story.ready(2);
    story.on(wants_recycle(2));
    let exit = Exit::Signal(11);
    let log = story.log(Event::WorkerExited { pid: pid(2), exit });
    assert_eq!(log, [Notice::Died { index: 0, pid: pid(2), exit }]);
}

#[test]
fn an_old_worker_that_will_not_go_is_killed_and_the_reload_goes_on() {
    let mut story = Story::serving(2);
    story.on(Event::ReloadRequested);
    story.ready(3);
    assert_eq!(story.wait_for_deadline(), [kill(1)]);
    assert_eq!(story.now, GRACE + KILL_MARGIN);
    assert_eq!(story.crashes(1), [spawn(0, 1, 4)]);
}

#[test]
fn a_new_worker_that_dies_after_it_was_ready_is_respawned() {
    let mut story = Story::serving(1);
    story.on(Event::ReloadRequested);
    story.ready(2);
    assert_eq!(story.crashes(2), [spawn(1, 0, 3)]);
    assert_eq!(story.ready(3), []);
    assert_eq!(story.exits(1), []);
}

#[test]
fn a_worker_respawned_during_a_reload_is_new_already() {
    let mut story = Story::serving(2);
    story.on(Event::ReloadRequested);
    assert_eq!(story.crashes(2), [spawn(1, 1, 4)]);
    story.ready(4);
    assert_eq!(story.ready(3), [drain(1)]);
    assert_eq!(story.exits(1), []);
    assert_eq!(story.policy.reload, None);
}

#[test]
fn a_reload_during_the_start_waits_for_it() {
    let mut story = Story::starting(2);
    assert_eq!(story.on(Event::ReloadRequested), []);
    assert_eq!(story.ready(1), [Action::AnnounceRunning]);
    assert_eq!(story.ready(2), [spawn(2, 0, 3)]);
}

#[test]
fn a_reload_ends_the_waiting_of_who_kept_dying() {
    let mut story = Story::serving(1);
    story.crashes(1);
    story.ready(2);
    assert_eq!(story.crashes(2), []);
    assert_eq!(story.on(Event::ReloadRequested), [spawn(0, 0, 3)]);
}

#[test]
fn old_code_that_serves_on_is_mentioned_every_minute_until_a_reload_succeeds() {
    let mut story = Story::serving(2);
    let clock = ClockTime { hour: 12, minute: 0, second: 1 };
    story.on(Event::SettingsRenewed { settings: story.policy.settings, clock });
    story.on(Event::ReloadRequested);
    let message = "importing `m` failed\n  File m.py\nSyntaxError: invalid syntax\n".to_owned();
    story.on(Event::WorkerFailedToStart { pid: pid(3), message });
    story.exits(3);
    for _ in 0..3 {
        assert_eq!(story.policy.next_deadline(), Some(story.now + REMINDER));
        story.now += REMINDER;
        let log = story.log(Event::Tick);
        let text = "Still serving the code from before the reload at 12:00:01: \
                    SyntaxError: invalid syntax";
        assert_eq!(log.iter().map(ToString::to_string).collect::<Vec<_>>(), [text]);
    }
    story.on(Event::ReloadRequested);
    for generation in [4, 5] {
        story.ready(generation);
        story.exits(generation - 3);
    }
    assert_eq!(story.policy.next_deadline(), None);
    story.now += 2 * REMINDER;
    assert_eq!(story.log(Event::Tick), []);
}

#[test]
fn a_reload_that_failed_half_way_says_how_many_are_old() {
    let mut story = Story::serving(3);
    story.on(Event::ReloadRequested);
    story.ready(4);
    story.exits(1);
    story.fails(5);
    story.exits(5);
    story.now += REMINDER;
    let log = story.log(Event::Tick);
    let text = "2 of 3 workers still serve the code from before the reload at 00:00:00: boom";
    assert_eq!(log.iter().map(ToString::to_string).collect::<Vec<_>>(), [text]);
}

#[test]
fn a_refused_reload_replaces_nothing_and_is_remembered() {
    let mut story = Story::serving(1);
    let clock = ClockTime { hour: 1, minute: 2, second: 3 };
    let refused = Event::ReloadRefused { message: "--workers: expected more".into(), clock };
    let expected = Notice::ReloadRefused { message: "--workers: expected more".into() };
    assert_eq!(story.log(refused), [expected]);
    story.now += REMINDER;
    let expected =
        Notice::StillOld { clock, message: "--workers: expected more".into(), old: 1, workers: 1 };
    assert_eq!(story.log(Event::Tick), [expected]);
}

#[test]
fn failed_starts_after_a_failed_reload_never_end_the_server_while_old_code_serves() {
    let mut story = Story::serving(2);
    story.on(Event::ReloadRequested);
    story.fails(3);
    story.exits(3);
    // One of the old ones dies; its successors are of the new code and do not start.
    story.crashes(1);
    for generation in 4..40 {
        story.crashes(generation);
        assert_eq!(story.policy.mode, Mode::Running, "{generation}");
        story.wait_for_deadline();
        while !story.policy.workers.iter().any(|worker| worker.generation > generation) {
            story.wait_for_deadline();
        }
    }
    // Nobody serves any more: now it is a crash loop like any other.
    story.crashes(2);
    let mut exits = Vec::new();
    for generation in 40..200 {
        exits.extend(story.crashes(generation));
        if story.policy.mode != Mode::Running {
            break;
        }
        if story.policy.next_deadline().is_some_and(|at| at < story.now + seconds(60)) {
            exits.extend(story.wait_for_deadline());
        }
    }
    assert_ne!(story.policy.mode, Mode::Running);
}

fn renewed(story: &Story, workers: usize) -> Event {
    let settings = PolicySettings { workers, graceful: Some(seconds(5)), ..story.policy.settings };
    Event::SettingsRenewed { settings, clock: ClockTime::default() }
}

#[test]
fn a_reload_changes_the_number_of_workers_once_it_has_succeeded() {
    let mut story = Story::serving(2);
    story.on(renewed(&story, 3));
    assert_eq!(story.on(Event::ReloadRequested), [spawn(2, 0, 3)]);
    story.ready(3);
    assert_eq!(story.exits(1), [spawn(0, 1, 4)]);
    story.ready(4);
    assert_eq!(story.exits(2), [Action::KeepSettings, spawn(1, 2, 5)]);
    assert_eq!(story.policy.settings.graceful, Some(seconds(5)));

    // Fewer: who is going to leave is not replaced first.
    story.ready(5);
    story.on(renewed(&story, 1));
    assert_eq!(story.on(Event::ReloadRequested), [spawn(3, 0, 6)]);
    story.ready(6);
    assert_eq!(story.exits(3), [Action::KeepSettings, drain(4), drain(5)]);
}

#[test]
fn a_failed_reload_changes_neither_the_number_of_workers_nor_the_settings() {
    let mut story = Story::serving(2);
    let before = story.policy.settings;
    story.on(renewed(&story, 5));
    story.on(Event::ReloadRequested);
    assert_eq!(story.policy.settings.graceful, Some(GRACE), "the old workers have the old limit");
    assert_eq!(story.fails(3), [Action::RevertSettings]);
    assert_eq!(story.exits(3), []);
    assert_eq!(story.policy.settings, before);
    assert_eq!(story.policy.seats.len(), 2);
}

#[test]
fn what_was_scaled_by_hand_stays_if_the_setting_is_the_same() {
    let mut story = Story::serving(1);
    story.on(Event::ScaleUp);
    story.ready(2);
    story.on(renewed(&story, 1));
    story.on(Event::ReloadRequested);
    for generation in [3, 4] {
        story.ready(generation);
        story.exits(generation - 2);
    }
    assert_eq!(story.policy.seats.len(), 2);
}

// --- in place ---

/// Another worker does not fit.
const FULL: Option<Memory> = Some(Memory { used: 70 << 20, limit: 100 << 20, worker: 40 << 20 });

#[test]
fn without_room_for_two_a_worker_is_replaced_in_place_one_at_a_time() {
    let mut story = Story::serving(3);
    story.memory = FULL;
    assert_eq!(story.on(Event::ReloadRequested), [drain(1)]);
    assert_eq!(story.wait(seconds(1)), []);
    assert_eq!(story.exits(1), [spawn(0, 0, 4)]);
    assert_eq!(story.wait(seconds(1)), []);
    assert_eq!(story.ready(4), [drain(2)]);
    assert_eq!(story.exits(2), [spawn(1, 1, 5)]);
    assert_eq!(story.ready(5), [drain(3)]);
    assert_eq!(story.exits(3), [spawn(2, 2, 6)]);
    assert_eq!(story.ready(6), []);
    assert_eq!(story.policy.reload, None);
    assert!(story.policy.rollout.is_none());
}

#[test]
fn a_replacement_in_place_is_logged_with_the_figures() {
    let mut story = Story::serving(1);
    story.memory = FULL;
    let log = story.log(wants_recycle(1));
    let text = "Replacing Worker 1 [101] (requests: 7 answered, --limit-max-requests is 5) in place: \
                70 MiB of 100 MiB are used, another 40 MiB do not fit beside it";
    assert_eq!(log.iter().map(ToString::to_string).collect::<Vec<_>>(), [text]);
}

#[test]
fn a_start_that_fails_in_place_backs_off_and_leaves_the_others_alone() {
    let mut story = Story::serving(3);
    story.memory = FULL;
    story.on(Event::ReloadRequested);
    story.exits(1);
    // The first death in a row is followed by another try at once, the next by a wait.
    assert_eq!(story.fails(4), [spawn(3, 0, 5)]);
    story.exits(4);
    assert_eq!(story.fails(5), []);
    story.exits(5);
    assert_eq!(story.policy.reload, None, "nobody else is replaced");
    assert_eq!(story.wait_for_deadline(), [spawn(0, 0, 6)]);
    assert_eq!(story.ready(6), []);
    assert_eq!(story.policy.seats.len(), 3);
}

#[test]
fn a_worker_killed_while_it_vacates_its_place_has_its_successor() {
    let mut story = Story::serving(1);
    story.memory = FULL;
    assert_eq!(story.on(wants_recycle(1)), [drain(1)]);
    assert_eq!(story.wait(GRACE + KILL_MARGIN), [kill(1)]);
    let killed = Event::WorkerExited { pid: pid(1), exit: Exit::Signal(9) };
    assert_eq!(story.on(killed), [spawn(0, 0, 2)]);
    assert_eq!(story.ready(2), []);
}

#[test]
fn an_index_that_is_scaled_away_while_it_is_vacated_gets_no_successor() {
    let mut story = Story::serving(2);
    story.memory = FULL;
    assert_eq!(story.on(wants_recycle(2)), [drain(2)]);
    assert_eq!(story.on(Event::ScaleDown), []);
    assert_eq!(story.exits(2), []);
    assert!(story.policy.rollout.is_none());
    assert_eq!(story.on(wants_recycle(1)), [drain(1)], "another can be replaced");
}

#[test]
fn a_stop_while_a_place_is_vacated_starts_nobody() {
    let mut story = Story::serving(2);
    story.memory = FULL;
    story.on(Event::ReloadRequested);
    story.on(Event::StopRequested);
    assert_eq!(story.exits(1), []);
    assert_eq!(story.exits(2), [Action::Exit { code: exit::CLEAN }]);
}

#[test]
fn with_room_for_two_nothing_is_done_in_place() {
    let mut story = Story::serving(1);
    story.memory = Some(Memory { used: 60 << 20, limit: 100 << 20, worker: 40 << 20 });
    assert_eq!(story.on(wants_recycle(1)), [spawn(1, 0, 2)]);
}

// --- recycle ---

fn limited(max_rss: Option<u64>, lifetime: Option<Duration>, workers: usize) -> Story {
    let mut story = Story::with(PolicySettings {
        delay: Duration::ZERO,
        workers,
        slots: 2 * workers + 4,
        graceful: Some(GRACE),
        startup: Some(STARTUP),
        max_rss,
        lifetime,
        development: false,
        seed: 1,
    });
    story.on(Event::Tick);
    for generation in 1..=u32::try_from(workers).unwrap() {
        story.ready(generation);
    }
    story
}

#[test]
fn a_worker_over_its_memory_is_replaced() {
    let limit = 100 << 20;
    let mut story = limited(Some(limit), None, 1);
    let sampled = |resident| Event::MemorySampled { pid: pid(1), resident };
    assert_eq!(story.on(sampled(limit)), []);
    let resident = 111 << 20;
    let log = story.log(sampled(resident));
    let reason = Reason::Memory { resident, limit };
    assert_eq!(log, [Notice::Replacing { index: 0, pid: pid(1), reason }]);
    assert_eq!(story.on(sampled(2 * resident)), [], "once is enough");
    assert_eq!(reason.to_string(), "memory: 111 MiB is over --workers-max-rss 100 MiB");
}

#[test]
fn the_limits_of_workers_are_spread_over_a_tenth() {
    let limit = 1_000_000;
    let mut story = limited(Some(limit), None, 16);
    let mut due = 0;
    for step in 0..=10 {
        for generation in 1..=16 {
            let resident = limit + step * limit / 100 + 1;
            story.all(Event::MemorySampled { pid: pid(generation), resident });
        }
        let is_due =
            |w: &&machine::Worker| matches!(w.stage, Stage::Ready { recycle: Some(_), .. });
        let now_due = story.policy.workers.iter().filter(is_due).count();
        assert!(now_due - due < 8, "{step}: {now_due} at once");
        due = now_due;
    }
    assert_eq!(due, 16);
}

#[test]
fn a_worker_that_has_lived_long_enough_is_replaced_and_its_successor_starts_anew() {
    let hour = seconds(3600);
    let mut story = limited(None, Some(hour), 1);
    assert_eq!(story.wait(hour), [], "the spread comes on top");
    assert_eq!(story.wait_for_deadline(), [spawn(1, 0, 2)]);
    assert!(story.now > hour && story.now < hour.mul_f64(1.0 + SPREAD));
    story.ready(2);
    story.exits(1);
    assert!(story.policy.next_deadline().unwrap() > story.now + hour);
}

#[test]
fn workers_that_became_ready_together_do_not_retire_together() {
    let hour = seconds(3600);
    let mut story = limited(None, Some(hour), 4);
    let mut moments = Vec::new();
    for generation in 5..9 {
        story.wait_for_deadline();
        moments.push(story.now);
        story.ready(generation);
        let leaving = story.policy.workers.iter().find(|w| !w.stage.is_staying()).unwrap();
        let leaving = leaving.generation;
        story.exits(leaving);
    }
    let gaps = moments.windows(2).map(|pair| pair[1].abs_diff(pair[0]));
    assert!(gaps.min().unwrap() > seconds(1), "{moments:?}");
}

#[test]
fn a_failed_retirement_is_tried_again_later() {
    let mut story = limited(None, Some(seconds(100)), 1);
    story.wait_for_deadline();
    assert_eq!(story.fails(2), []);
    story.exits(2);
    assert_eq!(story.policy.next_deadline(), Some(story.now + RECYCLE_RETRY));
    assert_eq!(story.wait_for_deadline(), [spawn(1, 0, 3)]);
}

#[test]
fn a_worker_that_wants_to_be_recycled_is_replaced_first() {
    let mut story = Story::serving(2);
    assert_eq!(story.on(wants_recycle(2)), [spawn(2, 1, 3)]);
    assert_eq!(story.on(wants_recycle(2)), [], "asking twice is once");
    assert_eq!(story.ready(3), [drain(2)]);
    assert_eq!(story.exits(2), []);
}

#[test]
fn recycling_goes_one_at_a_time() {
    let mut story = Story::serving(2);
    assert_eq!(story.on(wants_recycle(2)), [spawn(2, 1, 3)]);
    assert_eq!(story.on(wants_recycle(1)), []);
    story.ready(3);
    assert_eq!(story.exits(2), [spawn(1, 0, 4)]);
}

#[test]
fn a_failed_recycling_keeps_the_old_worker_and_is_tried_again_later() {
    let mut story = Story::serving(1);
    story.on(wants_recycle(1));
    assert_eq!(story.fails(2), []);
    story.exits(2);
    assert_eq!(story.wait_for_deadline(), [spawn(1, 0, 3)]);
    assert_eq!(story.now, RECYCLE_RETRY);
    assert_eq!(story.ready(3), [drain(1)]);
}

#[test]
fn asking_again_does_not_hurry_the_next_try() {
    let mut story = Story::serving(1);
    story.on(wants_recycle(1));
    story.fails(2);
    story.exits(2);
    assert_eq!(story.on(wants_recycle(1)), []);
    assert_eq!(story.wait_for_deadline(), [spawn(1, 0, 3)]);
    assert_eq!(story.now, RECYCLE_RETRY);
}

#[test]
fn the_end_of_another_worker_does_not_end_a_rollout() {
    let mut story = Story::serving(3);
    story.on(Event::ScaleDown); // generation 3 leaves
    story.on(wants_recycle(1));
    story.on(wants_recycle(2));
    assert_eq!(story.ready(4), [drain(1)]);
    assert_eq!(story.exits(3), []);
    assert_eq!(story.exits(1), [spawn(0, 1, 5)]);
}

#[test]
fn a_worker_that_is_not_ready_cannot_ask_for_recycling() {
    let mut story = Story::starting(1);
    assert_eq!(story.on(wants_recycle(1)), []);
    assert_eq!(story.ready(1), [Action::AnnounceRunning]);
}

// --- scale ---

#[test]
fn scaling_up_adds_the_next_index_and_down_drains_the_highest() {
    let mut story = Story::serving(2);
    assert_eq!(story.on(Event::ScaleUp), [spawn(2, 2, 3)]);
    story.ready(3);
    assert_eq!(story.on(Event::ScaleDown), [drain(3)]);
    assert_eq!(story.exits(3), []);
    assert_eq!(story.on(Event::ScaleDown), [drain(2)]);
}

#[test]
fn the_last_worker_stays() {
    let mut story = Story::serving(1);
    assert_eq!(story.log(Event::ScaleDown), [Notice::ScaleLimit { workers: 1 }]);
    assert_eq!(story.on(Event::ScaleDown), []);
}

#[test]
fn one_slot_stays_free_for_a_replacement() {
    let mut story = Story::serving(1); // 6 slots
    for generation in 2..=5 {
        assert_eq!(story.on(Event::ScaleUp).len(), 1);
        story.ready(generation);
    }
    assert_eq!(story.log(Event::ScaleUp), [Notice::ScaleLimit { workers: 5 }]);
    assert_eq!(story.on(Event::ReloadRequested), [spawn(5, 0, 6)]);
}

#[test]
fn scaling_down_during_the_replacement_of_that_index_ends_both() {
    let mut story = Story::serving(2);
    story.on(wants_recycle(2));
    assert_eq!(story.on(Event::ScaleDown), [drain(2), terminate(3)]);
    story.exits(2);
    assert_eq!(story.crashes(3), []);
    assert_eq!(story.on(Event::ReloadRequested), [spawn(1, 0, 4)]);
}

#[test]
fn without_a_free_slot_a_replacement_waits_until_one_is_free() {
    let mut story = Story::with(PolicySettings {
        workers: 3,
        slots: 4,
        graceful: None,
        startup: None,
        max_rss: None,
        lifetime: None,
        seed: 0,
        ..PolicySettings::default()
    });
    story.on(Event::Tick);
    for generation in 1..=3 {
        story.ready(generation);
    }
    story.on(Event::ScaleDown); // generation 3 drains without a limit
    assert_eq!(story.on(Event::ScaleUp), [spawn(3, 2, 4)]);
    story.ready(4);
    assert_eq!(story.on(Event::ReloadRequested), []);
    assert_eq!(story.policy.next_deadline(), None, "waiting for a slot needs no timer");
    assert_eq!(story.exits(3), [spawn(2, 0, 5)]);
}

// --- summary ---

#[test]
fn the_summary_follows_the_life_of_the_server() {
    use Condition::{Reloading, Running, Starting, Stopping};
    let mut story = Story::starting(2);
    let expect = |story: &Story, condition, ready, processes| {
        let expected = Summary { condition, ready, wanted: 2, processes };
        assert_eq!(story.policy.summary(), expected);
    };
    expect(&story, Starting, 0, 2);
    story.on(Event::ReloadRequested);
    expect(&story, Starting, 0, 2);
    story.ready(1);
    expect(&story, Reloading, 1, 2);
    story.ready(2);
    for (new, old) in [(3, 1), (4, 2)] {
        expect(&story, Reloading, 2, 3);
        story.ready(new);
        expect(&story, Reloading, 2, 3);
        story.exits(old);
    }
    expect(&story, Running, 2, 2);
    story.policy.settings.delay = DELAY;
    story.on(Event::StopRequested);
    expect(&story, Stopping, 2, 2);
    story.wait(DELAY);
    story.exits(3);
    expect(&story, Stopping, 0, 1);
}

// --- workers that do nothing ---

fn blocked(generation: u32) -> Event {
    Event::WorkerBlocked { pid: pid(generation), duration: Duration::from_millis(30_040) }
}

fn silent(generation: u32) -> Event {
    Event::WorkerSilent { pid: pid(generation), duration: seconds(31), state: Some('T') }
}

fn abort(generation: u32) -> Action {
    Action::Abort { pid: pid(generation) }
}

#[test]
fn a_worker_that_does_nothing_is_replaced_before_it_is_gone() {
    let table = [(blocked as fn(u32) -> Event, abort(1)), (silent, kill(1))];
    for (event, action) in table {
        let mut story = Story::serving(2);
        assert_eq!(story.on(event(1)), [action, spawn(2, 0, 3)]);
        assert_eq!(story.on(event(1)), [], "once is enough");
        story.ready(3);
        assert_eq!(story.exits(1), [], "its place is taken");
    }
}

#[test]
fn a_blocked_worker_that_survives_abrt_is_killed() {
    let mut story = Story::serving(1);
    story.on(blocked(1));
    assert_eq!(story.policy.next_deadline(), Some(ABORT_GRACE));
    assert_eq!(story.wait_for_deadline(), [kill(1)]);
}

#[test]
fn blocked_and_silent_workers_are_logged_with_their_cause() {
    let lines = |story: &mut Story, event| {
        let notices = story.log(event);
        notices.iter().map(|notice| (notice.level(), notice.to_string())).collect::<Vec<_>>()
    };
    let mut story = Story::serving(1);
    assert_eq!(
        lines(&mut story, blocked(1)),
        [(Level::Error, "Worker 1 [101] was blocked for 30.0 s (--timeout), replacing it".into())]
    );
    story.now += ABORT_GRACE;
    assert_eq!(
        lines(&mut story, Event::Tick),
        [(Level::Warn, "Worker 1 [101] did not end after SIGABRT, killing it".into())]
    );
    let mut story = Story::serving(1);
    assert_eq!(
        lines(&mut story, silent(1)),
        [(
            Level::Error,
            "Worker 1 [101] has shown no sign of life for 31.0 s (--timeout), \
             it is stopped (state T, by SIGSTOP or SIGTSTP); replacing it"
                .into()
        )]
    );
}

#[test]
fn workers_that_hang_together_are_replaced_and_never_make_a_crash_loop() {
    let mut story = Story::serving(1);
    for generation in 1..=3 * u32::try_from(CRASH_LIMIT).unwrap() {
        let notices = story.log(blocked(generation));
        assert!(!notices.iter().any(|notice| matches!(notice, Notice::CrashLoop { .. })));
        while story.policy.workers.iter().all(|worker| worker.generation == generation) {
            story.wait_for_deadline();
        }
        story.exits(generation);
        story.ready(generation + 1);
    }
}

#[test]
fn start_up_and_drain_have_limits_of_their_own() {
    for event in [blocked, silent] {
        let mut story = Story::starting(1);
        assert_eq!(story.all(event(1)), [], "starting");
        story.ready(1);
        story.on(Event::StopRequested);
        assert_eq!(story.all(event(1)), [], "draining");
        assert_eq!(story.policy.next_deadline(), Some(GRACE + KILL_MARGIN));
    }
}

#[test]
fn a_blocked_worker_whose_replacement_is_on_its_way_gets_no_second_one() {
    let mut story = Story::serving(1);
    story.on(wants_recycle(1));
    assert_eq!(story.on(blocked(1)), [abort(1)]);
    assert_eq!(story.ready(2), []);
}

#[test]
fn a_stop_does_not_wait_for_a_blocked_worker_longer_than_for_abrt() {
    let mut story = Story::serving(1);
    story.on(blocked(1));
    story.on(Event::QuitRequested);
    story.exits(2);
    story.now = ABORT_GRACE;
    assert_eq!(story.on(Event::Tick), [kill(1)]);
    assert_eq!(story.exits(1), [Action::Exit { code: exit::CLEAN }]);
}

// --- room ---

#[test]
fn room_found_after_the_start_is_used_and_never_given_back() {
    let mut story = Story::serving(1);
    let spawns = [spawn(1, 1, 2), spawn(2, 2, 3)];
    assert_eq!(story.on(Event::RoomFor { workers: 3 }), spawns);
    assert_eq!(story.on(Event::RoomFor { workers: 1 }), []);
    assert_eq!(story.policy.seats.len(), 3);
    story.on(Event::RoomFor { workers: 1000 });
    assert_eq!(story.policy.seats.len(), story.policy.settings.slots - 1);
}

#[test]
fn room_found_during_a_stop_changes_nothing() {
    let mut story = Story::serving(1);
    story.on(Event::StopRequested);
    assert_eq!(story.all(Event::RoomFor { workers: 3 }), []);
}

// --- answers that come late, as a template's do ---

#[test]
fn a_worker_that_failed_to_exist_while_stopping_is_not_worth_a_line() {
    let mut story = Story::starting(1);
    let mut policy = Policy::new(story.policy.settings);
    policy.on(Event::Tick, Duration::ZERO); // nobody answers the spawn
    policy.on(Event::StopRequested, Duration::ZERO);
    let failed = Event::SpawnFailed { slot: 0, message: "stopping".into() };
    assert_eq!(policy.on(failed, Duration::ZERO), [Action::Exit { code: exit::CLEAN }]);
    // In contrast to one that was wanted.
    story.refuse = true;
    let notices = story.log(Event::WorkerExited { pid: pid(1), exit: Exit::Code(1) });
    assert!(notices.contains(&Notice::StartupFailed), "{notices:?}");
}

// --- nonsense ---

#[test]
fn events_about_unknown_processes_change_nothing() {
    let unknown = 9999;
    let events = [
        Event::WorkerReady { pid: unknown },
        Event::WorkerFailedToStart { pid: unknown, message: String::new() },
        Event::WorkerExited { pid: unknown, exit: Exit::Code(1) },
        Event::WorkerBlocked { pid: unknown, duration: seconds(30) },
        Event::WorkerSilent { pid: unknown, duration: seconds(30), state: None },
        Event::WorkerWantsRecycle { pid: unknown, reason: SHARE },
        Event::Spawned { slot: 0, pid: unknown },
        Event::SpawnFailed { slot: 0, message: String::new() },
    ];
    for event in events {
        let mut story = Story::serving(2);
        assert_eq!(story.all(event.clone()), [], "{event:?}");
    }
}

#[test]
fn time_that_goes_backwards_is_not_believed() {
    let mut story = Story::serving(1);
    story.wait(seconds(100));
    story.now = seconds(1);
    story.on(Event::StopRequested);
    let deadline = seconds(100) + GRACE + KILL_MARGIN;
    assert_eq!(story.policy.next_deadline(), Some(deadline));
}

/// Any sequence of events: no slot is used twice, no deadline lies in the past, no more processes
/// than slots, and a stop always leads to the end once every process is gone.
#[test]
fn the_invariants_hold_for_random_lives() {
    let mut random = backoff::Jitter::new(2026);
    let mut pick = |most: usize| {
        let choice = random.next() * f64::from(u32::try_from(most).unwrap());
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to `most`")]
        (choice as usize).min(most - 1)
    };
    for _ in 0..300 {
        let mut story = Story::starting(1 + pick(4));
        for _ in 0..150 {
            let pids: Vec<Pid> = story.policy.workers.iter().filter_map(|w| w.pid).collect();
            let pid = if pids.is_empty() { 1 } else { pids[pick(pids.len())] };
            story.memory = if pick(3) == 0 { FULL } else { None };
            let event = match pick(19) {
                0..4 => Event::WorkerReady { pid },
                4..7 => Event::WorkerExited { pid, exit: Exit::Code(0) },
                7 => Event::WorkerFailedToStart { pid, message: String::new() },
                8..10 => Event::WorkerWantsRecycle { pid, reason: SHARE },
                10 => Event::ReloadRequested,
                11 => Event::ScaleUp,
                12 => Event::ScaleDown,
                13 if pick(10) == 0 => Event::StopRequested,
                14 if pick(10) == 0 => {
                    story.policy.settings.delay = DELAY;
                    Event::StopRequested
                }
                14 => Event::WorkerBlocked { pid, duration: seconds(30) },
                15 => Event::WorkerSilent { pid, duration: seconds(30), state: Some('T') },
                16 => renewed(&story, 1 + pick(4)),
                _ => {
                    story.now = story.policy.next_deadline().unwrap_or(story.now + seconds(20));
                    Event::Tick
                }
            };
            story.all(event);
            let mut slots: Vec<usize> = story.policy.workers.iter().map(|w| w.slot).collect();
            slots.sort_unstable();
            let used = slots.len();
            slots.dedup();
            assert_eq!(slots.len(), used, "one worker per slot");
            assert!(story.policy.next_deadline().is_none_or(|at| at > story.now));
            assert!(used <= story.policy.settings.slots);
        }
        story.all(Event::StopRequested);
        while let Some(pid) = story.policy.workers.first().and_then(|worker| worker.pid) {
            story.all(Event::WorkerExited { pid, exit: Exit::Signal(15) });
        }
        assert_eq!(story.policy.mode, machine::Mode::Exited);
    }
}
