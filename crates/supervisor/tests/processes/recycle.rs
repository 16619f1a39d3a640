//! Workers that have had their share of time or memory.

use crate::support::{Server, ready};
use serde_json::json;

/// What the log says of replacements, in order.
fn replacements(server: &Server) -> Vec<&'static str> {
    let running = server.log.iter().skip_while(|line| !line.contains("Replacing"));
    let word = |line: &String| {
        ["Replacing", "Started", "exited"].into_iter().find(|word| line.contains(word))
    };
    running.filter_map(word).collect()
}

#[test]
fn workers_above_their_memory_are_replaced_one_at_a_time_with_the_figures_in_the_log() {
    let setup = json!({ "workers": 3, "max_rss": 1, "memory_ms": 50 });
    let mut server = Server::serving(&setup);
    for _ in 0..4 {
        let line = server.wait_for_line("exited with code 0");
        assert!(line.starts_with("INFO Worker"), "{line}");
    }
    let line = server.log.iter().find(|line| line.contains("Replacing")).unwrap();
    assert!(
        line.contains("(memory: ") && line.ends_with("is over --workers-max-rss 0 MiB)"),
        "{line}"
    );
    let once = ["Replacing", "Started", "exited"];
    assert_eq!(replacements(&server), [once; 4].concat(), "{:#?}", server.log);
}

#[test]
fn workers_that_have_lived_for_long_are_replaced_one_at_a_time() {
    let setup = json!({ "workers": 2, "lifetime_ms": 500 });
    let mut server = Server::serving(&setup);
    for _ in 0..4 {
        server.wait_for_line("exited with code 0");
    }
    let line = server.log.iter().find(|line| line.contains("Replacing")).unwrap();
    assert!(line.contains("(lifetime: 0."), "{line}");
    assert!(line.ends_with(" s is over --workers-lifetime 0.5 s)"), "{line}");
    let once = ["Replacing", "Started", "exited"];
    assert_eq!(replacements(&server), [once; 4].concat(), "{:#?}", server.log);
}

#[test]
fn nobody_is_replaced_below_the_limits() {
    let setup =
        json!({ "workers": 2, "max_rss": 1_u64 << 40, "memory_ms": 10, "lifetime_ms": 3_600_000 });
    let server = Server::serving(&setup);
    let mut generations = Vec::new();
    for _ in 0..200 {
        let reply = server.wait_until("both are ready", |reply| ready(reply) == 2);
        generations.push(reply["generation"].as_u64().unwrap());
    }
    assert!(generations.iter().all(|&generation| generation <= 2), "{generations:?}");
}
