//! How it ends: TERM, INT, QUIT, the second signal, and a supervisor that is killed.

use crate::support::{Behaviour, Server, parent_of, pid_of};
use rsgi_supervisor::policy::SAME_STOP;
use rustix::process::Signal;
use serde_json::json;

#[test]
fn term_and_int_drain_the_workers_and_exit_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::serving(&json!({ "workers": 2 }));
        server.signal(signal);
        assert_eq!(server.wait_for_exit().code(), Some(0), "{:#?}", server.log);
        let drained = server.log.iter().filter(|line| line.ends_with("exited with code 0")).count();
        assert_eq!(drained, 2, "{:#?}", server.log);
        assert!(server.has_logged("INFO Shutting down"));
        assert!(server.has_logged(&format!("INFO Stopped parent process [{}]", server.pid())));
    }
}

#[test]
fn new_connections_are_refused_while_a_worker_still_drains() {
    let behaviour = Behaviour::new("refused", "linger");
    let mut server = Server::serving(&json!({ "workers": 2, "behaviour": behaviour.path() }));
    server.signal(Signal::TERM);
    server.wait_until_refused();
    assert!(parent_of(server.pid()).is_some(), "it has not ended yet");
    server.signal(Signal::QUIT);
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn a_second_term_kills() {
    let behaviour = Behaviour::new("second", "stubborn");
    let mut server = Server::serving(&json!({ "workers": 2, "behaviour": behaviour.path() }));
    server.signal(Signal::TERM);
    server.wait_for_line("Shutting down");
    // Time is the input here: sooner, it is the same stop as the first.
    std::thread::sleep(SAME_STOP);
    server.signal(Signal::TERM);
    server.wait_for_line("Forced to quit");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    let killed = server.log.iter().filter(|line| line.ends_with("was killed by SIGKILL")).count();
    assert_eq!(killed, 2, "{:#?}", server.log);
}

#[test]
fn a_worker_that_does_not_drain_in_time_is_killed() {
    let behaviour = Behaviour::new("late", "stubborn");
    let setup = json!({ "workers": 1, "graceful_ms": 1, "behaviour": behaviour.path() });
    let mut server = Server::serving(&setup);
    server.signal(Signal::TERM);
    server.wait_for_line("did not finish in time, killing it");
    assert_eq!(server.wait_for_exit().code(), Some(0));
}

#[test]
fn a_signal_to_the_whole_group_is_one_orderly_stop() {
    // The fixture's workers do not handle TERM, so it kills them beside the supervisor's order.
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::serving(&json!({ "workers": 4 }));
        server.signal_group(signal);
        assert_eq!(server.wait_for_exit().code(), Some(0));
        assert!(!server.has_logged("ERROR"), "{:#?}", server.log);
        let started = server.log.iter().filter(|line| line.contains("Started worker"));
        assert_eq!(started.count(), 4, "none is replaced: {:#?}", server.log);
    }
}

#[test]
fn quit_does_not_drain() {
    let mut server = Server::serving(&json!({ "workers": 1 }));
    server.signal(Signal::QUIT);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert!(server.has_logged("exited with code 9"), "{:#?}", server.log);
}

#[test]
fn term_during_the_start_ends_a_worker_that_is_not_listening_yet() {
    let behaviour = Behaviour::new("early", "hang");
    let mut server = Server::start(&json!({ "workers": 2, "behaviour": behaviour.path() }));
    server.wait_for_line("Started worker");
    server.signal(Signal::TERM);
    assert_eq!(server.wait_for_exit().code(), Some(0), "{:#?}", server.log);
}

#[test]
fn the_workers_stop_when_the_supervisor_is_killed() {
    let mut server = Server::serving(&json!({ "workers": 2 }));
    let worker = pid_of(&server.ask("hello"));
    assert_eq!(parent_of(worker), Some(server.pid()));
    server.kill();
    // The log is at its end once the last worker is gone.
    server.wait_for_exit();
    assert_ne!(parent_of(worker), Some(server.pid()));
}

#[test]
fn signals_without_a_meaning_are_harmless() {
    let mut server = Server::serving(&json!({ "workers": 1 }));
    server.signal(Signal::WINCH);
    server.wait_for_line("Ignoring SIGWINCH");
    server.ask("hello");
}
