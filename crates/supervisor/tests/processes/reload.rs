//! HUP with settings that have changed, and USR1.

use crate::support::{Behaviour, Server, pid_of, ready};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn a_reload_gives_new_settings_to_new_workers() {
    let settings = Behaviour::new("reload-settings", r#"{ "say": "new" }"#);
    let mut server =
        Server::serving(&json!({ "workers": 2, "settings": settings.path(), "say": "old" }));
    assert_eq!(server.ask("hello")["said"], "old");
    server.signal(Signal::HUP);
    server.wait_for_line("Reload complete");
    assert_eq!(server.ask("hello")["said"], "new");
}

#[test]
fn a_reload_can_change_the_number_of_workers() {
    let settings = Behaviour::new("reload-workers", r#"{ "workers": 3 }"#);
    let mut server = Server::serving(&json!({ "workers": 1, "settings": settings.path() }));
    server.signal(Signal::HUP);
    server.wait_for_line("Reload complete");
    server.wait_for_line("Scaling to 3 workers");
    server.wait_until("three are ready", |reply| ready(reply) == 3);
    settings.set(r#"{ "workers": 1 }"#);
    server.signal(Signal::HUP);
    server.wait_for_line("Scaling to 1 workers");
    server.wait_until("one is ready", |reply| ready(reply) == 1);
}

#[test]
fn a_mistake_in_the_settings_leaves_everything_as_it_was() {
    let settings = Behaviour::new("reload-mistake", "nonsense");
    let setup = json!({ "workers": 2, "settings": settings.path(), "say": "old" });
    let mut server = Server::serving(&setup);
    let generation = |reply: &serde_json::Value| reply["generation"].as_u64().unwrap();
    server.signal(Signal::HUP);
    let line = server.wait_for_line("Reload abandoned, the settings stay as they were: ");
    assert!(line.starts_with("ERROR") && line.contains("expected"), "{line}");
    assert!(generation(&server.ask("hello")) <= 2);
    settings.set(r#"{ "say": "new" }"#);
    server.signal(Signal::HUP);
    server.wait_for_line("Reload complete");
    assert_eq!(server.ask("hello")["said"], "new");
}

/// A worker that dies after a failed reload comes back with the settings that worked.
#[test]
fn a_failed_reload_keeps_the_settings_that_worked() {
    let fails = Behaviour::new("reload-fails", "fail no such thing");
    let changes = json!({ "behaviour": fails.path(), "say": "new" }).to_string();
    let settings = Behaviour::new("reload-revert", &changes);
    let mut server =
        Server::serving(&json!({ "workers": 1, "settings": settings.path(), "say": "old" }));
    let before = pid_of(&server.ask("hello"));
    server.signal(Signal::HUP);
    server.wait_for_line("Reload abandoned: the new worker 1 did not start, the old ones serve on");
    crate::support::send(before, Signal::KILL);
    let reply = server.wait_until("another serves", |reply| pid_of(reply) != before);
    assert_eq!(reply["said"], "old");
}

#[test]
fn usr1_reaches_the_supervisor_and_every_worker() {
    let mut server = Server::serving(&json!({ "workers": 3 }));
    server.signal(Signal::USR1);
    server.wait_for_line("supervisor reopens");
    for _ in 0..3 {
        server.wait_for_line("worker reopens");
    }
    server.ask("hello");
}
