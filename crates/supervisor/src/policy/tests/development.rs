//! `--reload`: what follows from changed files.

use super::*;

fn settings(workers: usize) -> PolicySettings {
    PolicySettings {
        workers,
        slots: 2 * workers + 4,
        graceful: Some(seconds(1)),
        startup: Some(STARTUP),
        development: true,
        seed: 1,
        ..PolicySettings::default()
    }
}

fn starting(workers: usize) -> Story {
    let mut story = Story::with(settings(workers));
    assert_eq!(story.on(Event::Tick), [spawn(0, 0, 1)], "one tries the code");
    story
}

fn serving(workers: usize) -> Story {
    let mut story = starting(workers);
    let mut actions = story.ready(1);
    actions.retain(|action| matches!(action, Action::Spawn { .. }));
    assert_eq!(actions.len(), workers - 1, "then the others");
    for generation in 2..=u32::try_from(workers).unwrap() {
        story.ready(generation);
    }
    story
}

fn changed() -> Event {
    Event::FilesChanged { files: vec!["'main.py'".to_owned()] }
}

fn stand_in(slot: usize, generation: u32, why: &str) -> Action {
    Action::StandIn { slot, index: 0, generation, why: why.to_owned() }
}

#[test]
fn a_change_sends_the_old_code_away_before_the_new_one_starts() {
    let mut story = serving(2);
    assert_eq!(story.on(changed()), [drain(1), drain(2), spawn(2, 0, 3)]);
    assert_eq!(story.ready(3), [spawn(3, 1, 4)]);
    assert_eq!(story.exits(1), []);
    assert_eq!(story.exits(2), []);
    assert_eq!(story.ready(4), []);
    assert_eq!(story.policy.next_deadline(), None);
}

#[test]
fn a_change_while_the_code_is_tried_tries_again() {
    let mut story = starting(3);
    assert_eq!(story.on(changed()), [terminate(1), spawn(1, 0, 2)]);
    assert_eq!(story.on(changed()), [terminate(2), spawn(2, 0, 3)]);
    assert_eq!(story.crashes(1), []);
    assert_eq!(story.ready(3), [Action::AnnounceRunning, spawn(0, 1, 4), spawn(3, 2, 5)]);
}

#[test]
fn code_that_does_not_start_gets_one_stand_in_until_the_next_change() {
    let fails: [(&str, Failure, &str); 3] = [
        ("says so", |story| story.fails(1), "failed to start: boom"),
        ("dies", |story| story.crashes(1), "was killed by SIGSEGV"),
        ("takes too long", |story| story.wait(STARTUP), "was not ready in time"),
    ];
    for (how, fail, why) in fails {
        let mut story = starting(2);
        let actions = fail(&mut story);
        let slot = usize::from(how != "dies"); // the others still exist
        let expected = stand_in(slot, 2, why);
        assert!(actions.contains(&expected), "{how}: {actions:?}");
        assert_eq!(story.ready(2), [Action::AnnounceRunning], "{how}: no other is asked for");
        story.exits(1);
        assert_eq!(story.wait(seconds(3600)), [], "{how}: nothing is tried again");
        let actions = story.on(changed());
        assert_eq!(actions.first(), Some(&drain(2)), "{how}");
        assert!(matches!(actions[..], [_, Action::Spawn { index: 0, generation: 3, .. }]), "{how}");
        let actions = story.ready(3);
        assert!(matches!(actions[..], [Action::Spawn { index: 1, .. }]), "{how}: {actions:?}");
    }
}

#[test]
fn a_mistake_made_while_serving_is_shown_in_place_of_the_old_code() {
    let mut story = serving(2);
    assert_eq!(story.on(changed()), [drain(1), drain(2), spawn(2, 0, 3)]);
    let lines = story.log(Event::WorkerFailedToStart { pid: pid(3), message: "boom".into() });
    let message = "boom".to_owned();
    let expected = [Notice::StartFailed { index: 0, pid: pid(3), message }, Notice::Trouble];
    assert_eq!(lines, expected);
    assert_eq!(story.ready(4), []);
    assert_eq!(story.policy.summary().ready, 1);
}

#[test]
fn a_stand_in_that_dies_is_replaced_by_another() {
    let mut story = starting(1);
    story.fails(1);
    story.ready(2);
    story.exits(1);
    assert_eq!(story.crashes(2), [stand_in(0, 3, "failed to start: boom")]);
}

#[test]
fn a_server_that_cannot_even_start_a_stand_in_ends_with_3() {
    let mut story = starting(1);
    story.fails(1);
    assert_eq!(story.fails(2), [Action::CloseListeners]);
    story.exits(1);
    assert_eq!(story.exits(2), [Action::Exit { code: exit::STARTUP }]);
}

#[test]
fn a_program_that_cannot_be_executed_is_no_mistake_of_the_codes() {
    let mut story = Story::with(settings(2));
    story.refuse = true;
    let end = [spawn(0, 0, 1), Action::CloseListeners, Action::Exit { code: exit::STARTUP }];
    assert_eq!(story.on(Event::Tick), end);
}

#[test]
fn one_worker_that_fails_beside_others_of_the_same_code_is_only_one() {
    let mut story = starting(2);
    story.ready(1);
    assert_eq!(story.fails(2), [spawn(2, 1, 3)]);
}

#[test]
fn code_that_keeps_crashing_never_ends_the_server() {
    let mut story = serving(1);
    for generation in 1..50 {
        if story.crashes(generation).is_empty() {
            assert_eq!(story.wait_for_deadline(), [spawn(0, 0, generation + 1)]);
        }
        story.ready(generation + 1);
    }
    assert_eq!(story.policy.mode, machine::Mode::Running);
    let waits = story.policy.next_deadline();
    assert_eq!(waits, None);
    // Whoever waits for another try gets it with a change.
    story.crashes(50);
    assert_eq!(story.on(changed()), [spawn(0, 0, 51)]);
}

#[test]
fn hup_restarts_with_new_settings_at_once() {
    let mut story = serving(1);
    let wanted = PolicySettings { workers: 2, ..settings(1) };
    let renewed = Event::SettingsRenewed { settings: wanted, clock: ClockTime::default() };
    assert_eq!(story.on(renewed), []);
    let actions = story.on(Event::ReloadRequested);
    assert_eq!(actions, [Action::KeepSettings, drain(1), spawn(1, 0, 2)]);
    assert_eq!(story.ready(2), [spawn(2, 1, 3)]);
    assert!(story.policy.settings.development, "that does not change");
}

#[test]
fn a_stop_ends_it_and_changes_are_of_no_interest_then() {
    let mut story = serving(1);
    assert_eq!(story.on(Event::StopRequested), [Action::CloseListeners, drain(1)]);
    assert_eq!(story.all(changed()), []);
    assert_eq!(story.exits(1), [Action::Exit { code: exit::CLEAN }]);
}

#[test]
fn the_lines_are_uvicorns() {
    let table = [
        (
            Notice::Changed { files: vec!["'a.py'".into(), "'b.py'".into()] },
            "rsgi detected changes in 'a.py', 'b.py'. Reloading...",
        ),
        (Notice::Restarting { workers: 2 }, "Received SIGHUP, restarting 2 worker(s)"),
    ];
    for (notice, expected) in table {
        assert_eq!(notice.to_string(), expected);
    }
}
