//! `/workers`: one JSON document with everything about each worker process.

use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::scoreboard::STALL_NS;
use crate::status::{Process, Snapshot};

#[derive(Serialize)]
struct Document {
    /// Of the supervisor.
    version: &'static str,
    pid: u32,
    /// Seconds since 1970, as all moments here.
    now: f64,
    started: f64,
    state: &'static str,
    wanted: usize,
    ready: usize,
    workers: Vec<Worker>,
}

#[derive(Serialize)]
struct Worker {
    index: usize,
    pid: u32,
    generation: u32,
    state: &'static str,
    since: f64,
    connections: u64,
    requests_in_flight: u64,
    /// For a place at the application.
    requests_waiting: u64,
    /// Of this process, not of those before it.
    requests: u64,
    rss_bytes: Option<u64>,
    loop_lag_seconds: f64,
    /// Since when the loop has made no progress, if that is for long.
    blocked_since: Option<f64>,
    /// Of this index.
    restarts: u64,
    version: Option<String>,
    python: Option<String>,
}

/// The document as text.
pub(crate) fn render(snapshot: &Snapshot) -> String {
    let health = snapshot.health;
    let document = Document {
        version: env!("CARGO_PKG_VERSION"),
        pid: std::process::id(),
        now: unix(snapshot.at),
        started: unix(snapshot.started),
        state: if health.is_stopping { "stopping" } else { "running" },
        wanted: health.wanted,
        ready: health.ready,
        workers: snapshot.processes.iter().map(|process| worker(snapshot, process)).collect(),
    };
    // Numbers and short texts only: nothing in it can fail to be written.
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

fn worker(snapshot: &Snapshot, process: &Process) -> Worker {
    let is_blocked = process.lag >= Duration::from_nanos(STALL_NS);
    let restarts = snapshot.restarts.iter().filter(|((index, _), _)| *index == process.index);
    let [version, python] = match process.versions {
        Some(versions) => versions.map(|version| Some(version.to_string())),
        None => [None, None],
    };
    Worker {
        index: process.index,
        pid: process.pid,
        generation: process.generation,
        state: process.state.as_str(),
        since: unix(process.since),
        connections: process.connections,
        requests_in_flight: process.in_flight,
        requests_waiting: process.waiting,
        requests: process.requests,
        rss_bytes: process.rss,
        loop_lag_seconds: process.lag.as_secs_f64(),
        blocked_since: is_blocked.then(|| unix(snapshot.at) - process.lag.as_secs_f64()),
        restarts: restarts.map(|(_, count)| count).sum(),
        version,
        python,
    }
}

fn unix(moment: SystemTime) -> f64 {
    moment.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::metrics::tests::snapshot;

    #[test]
    fn every_process_is_listed_with_its_numbers() {
        let document: serde_json::Value = serde_json::from_str(&render(&snapshot())).unwrap();
        assert_eq!(document["state"], "running");
        assert_eq!((document["ready"].clone(), document["wanted"].clone()), (1.into(), 2.into()));
        let workers = document["workers"].as_array().unwrap();
        assert_eq!(workers.len(), 3);
        let old = &workers[0];
        assert_eq!((old["index"].clone(), old["pid"].clone()), (0.into(), 101.into()));
        assert_eq!(
            (old["state"].clone(), old["generation"].clone()),
            ("draining".into(), 1.into())
        );
        assert_eq!((old["requests"].clone(), old["restarts"].clone()), (50.into(), 2.into()));
        assert_eq!(old["blocked_since"], serde_json::Value::Null);
        let new = &workers[1];
        assert_eq!(
            (new["version"].clone(), new["python"].clone()),
            ("0.1.0".into(), "3.13.2".into())
        );
        let blocked = &workers[2];
        assert_eq!(blocked["loop_lag_seconds"], 2.5);
        let (since, now) = (blocked["blocked_since"].as_f64(), document["now"].as_f64());
        assert!((now.unwrap() - since.unwrap() - 2.5).abs() < 0.001);
        assert_eq!(blocked["rss_bytes"], serde_json::Value::Null);
    }
}
