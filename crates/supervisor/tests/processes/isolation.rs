//! What workers get from the supervisor and what they do not, and who is reaped.

use crate::support::Server;
use serde_json::json;

#[test]
fn a_worker_has_its_three_kinds_of_descriptors_and_no_other() {
    let server = Server::serving(&json!({ "workers": 3 }));
    let reply = server.ask("hello");
    let kinds: Vec<String> = reply["fds"]
        .as_array()
        .expect("an array")
        .iter()
        .filter_map(|target| target.as_str()?.split(['[', ' ']).next().map(str::to_owned))
        .collect();
    // The listener, the control channel, and the connection that this answer comes over.
    let expected = ["/memfd:rsgi-scoreboard", "socket:", "socket:", "socket:"];
    assert_eq!(kinds, expected, "{reply:#}");
}

#[test]
fn an_orphan_is_reaped_and_not_taken_for_a_worker() {
    let mut server = Server::serving(&json!({ "workers": 1 }));
    let before = server.ask("orphan");
    server.wait_for_line("an orphan: it exited with code 0");
    assert_eq!(server.ask("hello")["pid"], before["pid"]);
    assert!(!server.has_logged("Worker 1"), "{:#?}", server.log);
}

#[test]
fn an_idle_supervisor_does_not_wake_up() {
    let server = Server::serving(&json!({ "workers": 1 }));
    // Voluntary context switches count every time it slept, so also every time it woke.
    let switches = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()))
            .expect("it is running");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.expect("Linux counts them").trim().parse::<u64>().expect("a number")
    };
    let before = switches();
    // Work for the worker, none for the supervisor; long enough for any timer to show.
    let begin = std::time::Instant::now();
    while begin.elapsed() < std::time::Duration::from_secs(2) {
        server.ask("hello");
    }
    assert!(switches() - before <= 1, "{} wake-ups in two seconds", switches() - before);
}
