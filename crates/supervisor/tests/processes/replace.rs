//! Workers that die, are reloaded, recycled, added and taken away, while the others serve.

use std::collections::BTreeSet;

use crate::support::{Behaviour, Server, pid_of, ready, send};
use rustix::process::Signal;
use serde_json::json;

#[test]
fn a_killed_worker_is_replaced_and_its_death_logged() {
    let mut server = Server::serving(&json!({ "workers": 2 }));
    let victim = server.ask("hello");
    let pid = pid_of(&victim);
    send(pid, Signal::KILL);
    let number = victim["index"].as_u64().unwrap() + 1;
    let line = format!("ERROR Worker {number} [{pid}] was killed by SIGKILL");
    server.wait_for_line(&line);
    server.wait_for_line("INFO Started worker");
    let index = victim["index"].clone();
    let is_new = |reply: &serde_json::Value| reply["index"] == index && pid_of(reply) != pid;
    server.wait_until("the index is taken again", is_new);
    server.wait_until("all are ready", |reply| ready(reply) == 2);
}

#[test]
fn hup_replaces_every_worker_one_at_a_time() {
    let mut server = Server::serving(&json!({ "workers": 2 }));
    let mut old = BTreeSet::new();
    for index in 0..2 {
        old.insert(pid_of(&server.wait_until("both answer", |reply| reply["index"] == index)));
    }
    server.signal(Signal::HUP);
    server.wait_for_line("replacing 2 workers one by one");
    server.wait_for_line("Reload complete");
    let events: Vec<&str> = server
        .log
        .iter()
        .skip_while(|line| !line.contains("one by one"))
        .filter_map(|line| {
            ["Replacing", "Started", "exited"].into_iter().find(|w| line.contains(w))
        })
        .collect();
    let once = ["Replacing", "Started", "exited"];
    assert_eq!(events, [once, once].concat(), "{:#?}", server.log);
    let reply = server.ask("hello");
    assert!(!old.contains(&pid_of(&reply)));
    assert_eq!(ready(&reply), 2);
}

#[test]
fn a_reload_that_cannot_start_leaves_the_old_workers_serving() {
    let behaviour = Behaviour::new("reload", "ready");
    let mut server = Server::serving(&json!({ "workers": 1, "behaviour": behaviour.path() }));
    let before = pid_of(&server.ask("hello"));
    behaviour.set("fail syntax error in main.py");
    server.signal(Signal::HUP);
    server.wait_for_line("failed to start: syntax error in main.py");
    server.wait_for_line("Reload abandoned");
    server.wait_for_line("exited with code 3");
    assert_eq!(pid_of(&server.ask("hello")), before);

    behaviour.set("ready");
    server.signal(Signal::HUP);
    server.wait_for_line("Reload complete");
    assert_ne!(pid_of(&server.ask("hello")), before);
}

#[test]
fn a_worker_that_asks_for_it_is_recycled() {
    let mut server = Server::serving(&json!({ "workers": 1 }));
    let before = pid_of(&server.ask("recycle"));
    server.wait_for_line(&format!(
        "Replacing Worker 1 [{before}] (requests: 7 answered, --limit-max-requests is 5)"
    ));
    server.wait_for_line(&format!("Worker 1 [{before}] exited with code 0"));
    assert_ne!(pid_of(&server.ask("hello")), before);
}

#[test]
fn ttin_and_ttou_change_the_number_of_workers() {
    let mut server = Server::serving(&json!({ "workers": 1 }));
    server.signal(Signal::TTIN);
    server.wait_for_line("Scaling to 2 workers");
    server.wait_until("two are ready", |reply| ready(reply) == 2);
    server.signal(Signal::TTOU);
    server.wait_for_line("Scaling to 1 workers");
    server.wait_for_line("Worker 2 [");
    server.wait_until("one is ready, and the other's slot is given back", |reply| {
        let phases = reply["phases"].as_array().unwrap();
        let empty = phases.iter().filter(|phase| *phase == "Empty").count();
        ready(reply) == 1 && empty == phases.len() - 1
    });
    assert_eq!(server.ask("hello")["index"], 0);
}

#[test]
fn workers_that_keep_dying_end_it_with_1() {
    let behaviour = Behaviour::new("loop", "ready");
    let mut server = Server::serving(&json!({ "workers": 8, "behaviour": behaviour.path() }));
    let mut victims = BTreeSet::new();
    while victims.len() < 4 {
        victims.insert(pid_of(&server.ask("hello")));
        if victims.len() == 1 {
            behaviour.set("exit");
        }
        // Dead ones do not answer, so the next answer is another's.
        for &pid in &victims {
            send(pid, Signal::KILL);
        }
    }
    server.wait_for_line("10 workers died within 60 s, giving up");
    assert_eq!(server.wait_for_exit().code(), Some(1), "{:#?}", server.log);
}
