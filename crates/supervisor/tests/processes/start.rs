//! How it starts, and how it does not.

use crate::support::{Behaviour, FIXTURE, Server};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

#[test]
fn the_log_tells_the_start_in_order() {
    let server = Server::serving(&json!({ "workers": 2 }));
    let position = |text: &str| {
        let found = server.log.iter().position(|line| line.contains(text));
        found.unwrap_or_else(|| panic!("no `{text}` in {:#?}", server.log))
    };
    let parent = position(&format!("INFO Started parent process [{}]", server.pid()));
    let worker = position("INFO Started worker [");
    let running = position("INFO rsgi running on http://127.0.0.1:");
    assert!(parent < worker && worker < running, "{:#?}", server.log);
    assert!(server.log[running].ends_with(" (Press CTRL+C to quit)"));
}

#[test]
fn every_worker_knows_its_place() {
    let server = Server::serving(&json!({ "workers": 3 }));
    for index in 0..3 {
        let reply = server.wait_until("each index answers", |reply| reply["index"] == index);
        assert_eq!(reply["slot"], index);
        assert_eq!(reply["generation"], index + 1);
        assert_eq!(reply["board_pid"], reply["pid"]);
        assert_eq!(reply["fixture"], true, "the command's own variables are set");
    }
}

#[test]
fn a_worker_that_fails_to_start_ends_it_with_3_and_its_message() {
    let behaviour = Behaviour::new("fail", "fail no module named `nowhere`");
    let mut server = Server::start(&json!({ "workers": 2, "behaviour": behaviour.path() }));
    assert_eq!(server.wait_for_exit().code(), Some(3));
    assert!(server.has_logged("failed to start: no module named `nowhere`"), "{:#?}", server.log);
    assert!(server.has_logged("ERROR No worker could be started, giving up"));
    assert!(!server.has_logged("rsgi running on"));
}

#[test]
fn a_worker_that_exits_while_starting_ends_it_with_3() {
    let behaviour = Behaviour::new("exit", "exit");
    let mut server = Server::start(&json!({ "workers": 1, "behaviour": behaviour.path() }));
    assert_eq!(server.wait_for_exit().code(), Some(3));
    assert!(server.has_logged("exited with code 7 before it was ready"), "{:#?}", server.log);
}

#[test]
fn a_worker_that_is_not_ready_in_time_ends_it_with_3() {
    let behaviour = Behaviour::new("hang", "hang");
    let setup = json!({ "workers": 1, "startup_ms": 300, "behaviour": behaviour.path() });
    let mut server = Server::start(&setup);
    assert_eq!(server.wait_for_exit().code(), Some(3));
    assert!(server.has_logged("was not ready within 0.3 s"), "{:#?}", server.log);
}

#[test]
fn a_program_that_does_not_exist_ends_it_with_3_and_its_name() {
    let mut server = Server::start(&json!({ "program": "/nonexistent/python" }));
    assert_eq!(server.wait_for_exit().code(), Some(3));
    assert!(server.has_logged("`/nonexistent/python`"), "{:#?}", server.log);
}

#[test]
fn an_impossible_number_of_workers_is_a_usage_error() {
    for workers in [0, 256] {
        let mut server = Server::start(&json!({ "workers": workers }));
        assert_eq!(server.wait_for_exit().code(), Some(2));
    }
}

/// Starts a fixture whose standard input is a listening socket, through this shell line.
fn with_socket_as_input(line: &str, setup: &Value) -> Server {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback works");
    let mut command = Command::new("sh");
    command.args(["-c", line, FIXTURE, &setup.to_string()]);
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)));
    let mut server = Server::run(command);
    server.wait_for_line("rsgi running on");
    server
}

#[test]
fn a_socket_as_standard_input_is_served_and_input_is_empty_then() {
    let server = with_socket_as_input("exec \"$0\" \"$1\"", &json!({ "fd": 0 }));
    assert_eq!(server.ask("hello")["stdin"], "/dev/null");
}

#[test]
fn sockets_of_a_service_manager_are_served_and_workers_do_not_see_its_variables() {
    let line = "exec 3<&0 0</dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$1\"";
    let server = with_socket_as_input(line, &json!({ "activated": true }));
    assert_eq!(server.ask("hello")["has_listen_variables"], false);
}
