//! `/metrics`: every number under its name, for Prometheus.
//!
//! Owns: the names, which are an interface (`docs/reference/metrics.md` lists them, and a test holds
//! the two together). A worker is known by its index, which its replacements keep; where two
//! processes have the same one for a while, they are shown as one. The text itself is the library's.

use std::fmt;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeLabelSet, NoLabelSet,
    prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::histogram::Durations;
use crate::policy::overview::State;
use crate::status::{Process, Snapshot};
use crate::totals::Totals;

/// The first limit of the shown histograms is 2^7 us, the last one 2^26 us (67 s).
const SHOWN_BUCKETS: std::ops::RangeInclusive<usize> = 7..=26;
const CODES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// How the text is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// What every client understands.
    Prometheus,
    /// For those that ask for it.
    OpenMetrics,
}

impl Format {
    /// Decides by the value of `Accept`.
    pub(crate) fn for_client(accepted: &[u8]) -> Self {
        const NAME: &[u8] = b"application/openmetrics-text";
        if accepted.windows(NAME.len()).any(|part| part.eq_ignore_ascii_case(NAME)) {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => prometheus_text::CONTENT_TYPE,
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The whole text.
pub(crate) fn render(snapshot: Snapshot, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Exposition(snapshot)));
    let mut out = String::new();
    let written = match format {
        Format::Prometheus => prometheus_text::encode(&mut out, &registry),
        Format::OpenMetrics => text::encode(&mut out, &registry),
    };
    debug_assert!(written.is_ok(), "writing to a String does not fail");
    out
}

#[derive(Debug)]
struct Exposition(Snapshot);

impl Collector for Exposition {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut families = Families(encoder);
        self.server(&mut families)?;
        self.traffic(&mut families)?;
        self.workers(&mut families)
    }
}

type Label = (&'static str, String);

const UNLABELLED: [Label; 0] = [];

fn worker(index: usize) -> Label {
    ("worker", index.to_string())
}

impl Exposition {
    fn server(&self, families: &mut Families<'_>) -> fmt::Result {
        let Snapshot { health, started, supervisor_rss, processes, .. } = &self.0;
        families.info(
            "rsgi_build",
            "Version of the supervisor",
            [[("version", env!("CARGO_PKG_VERSION").to_owned())]],
        )?;
        let started = started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        families.gauge(
            "rsgi_start_time",
            "When the supervisor was started, since 1970",
            Some(Unit::Seconds),
            [(UNLABELLED, started.as_secs_f64())],
        )?;
        let is_ready = super::health::readiness(*health).0;
        families.gauge(
            "rsgi_ready",
            "Whether /readyz says yes",
            None,
            [(UNLABELLED, u64::from(is_ready))],
        )?;
        families.gauge(
            "rsgi_workers_wanted",
            "Workers there should be",
            None,
            [(UNLABELLED, health.wanted)],
        )?;
        let in_state = State::ALL.map(|state| {
            let count = processes.iter().filter(|process| process.state == state).count();
            ([("state", state.as_str())], count)
        });
        families.gauge("rsgi_workers", "Worker processes by state", None, in_state)?;
        families.gauge(
            "rsgi_supervisor_resident_memory",
            "Resident memory of the supervisor",
            Some(Unit::Bytes),
            supervisor_rss.map(|bytes| (UNLABELLED, bytes)),
        )
    }

    fn traffic(&self, families: &mut Families<'_>) -> fmt::Result {
        let requests = self.0.totals.iter().flat_map(|(&index, totals)| {
            let by_code = CODES.into_iter().zip(totals.responses);
            let all = by_code.chain([("none", totals.unanswered)]);
            all.map(move |(code, count)| ([worker(index), ("code", code.to_owned())], count))
        });
        families.counter(
            "rsgi_requests",
            "Requests by status class of the response; none: it ended without one",
            None,
            requests,
        )?;
        families.durations(
            "rsgi_request_duration",
            "Time from a request's head to the end of its response, of requests that reached the application",
            self.totals(|totals| totals.latency.clone()),
        )?;
        families.durations(
            "rsgi_request_queue",
            "Time a request may have waited, readable but unread, for the worker's loop",
            self.totals(|totals| totals.queue.clone()),
        )?;
        families.gauge(
            "rsgi_requests_in_flight",
            "Requests with the application",
            None,
            self.by_worker(|process| process.in_flight),
        )?;
        families.gauge(
            "rsgi_requests_waiting",
            "Requests that wait for a place at the application (limit_queue)",
            None,
            self.by_worker(|process| process.waiting),
        )?;
        families.counter(
            "rsgi_requests_turned_away",
            "Requests answered 503 for want of a place (limit_concurrency)",
            None,
            self.totals(|totals| totals.turned_away),
        )?;
        families.counter(
            "rsgi_requests_timed_out",
            "Requests given up because the application made no progress (timeout_request)",
            None,
            self.totals(|totals| totals.timed_out),
        )?;
        families.gauge(
            "rsgi_connections",
            "Open connections",
            None,
            self.by_worker(|process| process.connections),
        )?;
        families.counter(
            "rsgi_connections_accepted",
            "Connections accepted",
            None,
            self.totals(|totals| totals.accepted),
        )?;
        families.counter(
            "rsgi_received",
            "Bytes read from clients",
            Some(Unit::Bytes),
            self.totals(|totals| totals.bytes_in),
        )?;
        families.counter(
            "rsgi_sent",
            "Bytes written to clients",
            Some(Unit::Bytes),
            self.totals(|totals| totals.bytes_out),
        )
    }

    fn workers(&self, families: &mut Families<'_>) -> fmt::Result {
        let Snapshot { processes, restarts, .. } = &self.0;
        let restarts = restarts
            .iter()
            .map(|(&(index, cause), &count)| ([worker(index), ("cause", cause.to_owned())], count));
        families.counter("rsgi_worker_restarts", "Restarts of workers by cause", None, restarts)?;
        // The newest process of an index comes last and is the one to be told of.
        let versions = self.0.totals.keys().filter_map(|&index| {
            let newest = processes.iter().rev().find(|process| process.index == index)?;
            let [version, python] = newest.versions?.map(|version| version.to_string());
            Some([worker(index), ("version", version), ("python", python)])
        });
        families.info("rsgi_worker_build", "Versions that a worker runs", versions)?;
        families.gauge(
            "rsgi_worker_resident_memory",
            "Resident memory of a worker",
            Some(Unit::Bytes),
            self.by_worker(|process| process.rss.unwrap_or(0)),
        )?;
        let lag = self.0.totals.keys().filter_map(|&index| {
            let of_index = processes.iter().filter(|process| process.index == index);
            let lag = of_index.map(|process| process.lag).max()?;
            Some(([worker(index)], lag.as_secs_f64()))
        });
        families.gauge(
            "rsgi_worker_loop_lag",
            "Time since the event loop last slept or made progress; 0 while it sleeps",
            Some(Unit::Seconds),
            lag,
        )?;
        families.counter(
            "rsgi_worker_loop_stalls",
            "Times the event loop made no progress for 0.1 s or more",
            None,
            self.totals(|totals| totals.stalls),
        )?;
        families.counter(
            "rsgi_worker_loop_stalled",
            "Time of all stalls",
            Some(Unit::Seconds),
            self.totals(|totals| Duration::from_nanos(totals.stalled_ns).as_secs_f64()),
        )
    }

    /// One number of each index that ever had a worker.
    fn totals<V>(&self, number: impl Fn(&Totals) -> V) -> impl Iterator<Item = ([Label; 1], V)> {
        self.0.totals.iter().map(move |(&index, totals)| ([worker(index)], number(totals)))
    }

    /// One number of each index that has a worker now.
    fn by_worker(
        &self,
        number: impl Fn(&Process) -> u64,
    ) -> impl Iterator<Item = ([Label; 1], u64)> {
        self.0.totals.keys().filter_map(move |&index| {
            let of_index = self.0.processes.iter().filter(|process| process.index == index);
            let sum = of_index.map(&number).reduce(u64::saturating_add)?;
            Some(([worker(index)], sum))
        })
    }
}

/// Writes one family at a time.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn counter<S: EncodeLabelSet, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = (S, V)>,
    ) -> fmt::Result {
        let mut family =
            self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&value, None)?;
        }
        Ok(())
    }

    fn gauge<S: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        samples: impl IntoIterator<Item = (S, V)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (labels, value) in samples {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn info<S: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = S>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Info)?;
        samples.into_iter().try_for_each(|labels| family.encode_info(&labels))
    }

    fn durations(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = ([Label; 1], Durations)>,
    ) -> fmt::Result {
        let unit = Some(&Unit::Seconds);
        let mut family = self.0.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        for (labels, durations) in samples {
            let (buckets, count) = shown(&durations);
            let sum = Duration::from_nanos(durations.sum_ns).as_secs_f64();
            family
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}

/// The limits and what lies between them, and how many there are altogether.
fn shown(durations: &Durations) -> (Vec<(f64, u64)>, u64) {
    let mut shown = Vec::with_capacity(SHOWN_BUCKETS.count() + 1);
    let (mut pending, mut count) = (0, 0);
    for (bucket, &amount) in durations.buckets.iter().enumerate() {
        pending += amount;
        count += amount;
        if SHOWN_BUCKETS.contains(&bucket) {
            shown.push((Duration::from_micros(1 << bucket).as_secs_f64(), pending));
            pending = 0;
        }
    }
    shown.push((f64::INFINITY, pending));
    (shown, count)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::scoreboard::Version;
    use crate::status::Health;

    /// Two workers, the first one being replaced, the second one blocked; and an index that is gone.
    pub(crate) fn snapshot() -> Snapshot {
        let process = |index, generation, state, requests| Process {
            index,
            generation,
            pid: 100 + generation,
            state,
            since: SystemTime::UNIX_EPOCH,
            connections: 2,
            in_flight: 1,
            waiting: 3,
            requests,
            rss: Some(1 << 20),
            lag: Duration::ZERO,
            versions: Some([Version([0, 1, 0]), Version([3, 13, 2])]),
        };
        let mut totals = Totals { responses: [0, 70, 0, 7, 1], unanswered: 2, ..Totals::default() };
        totals.bytes_out = 12_345;
        totals.latency.buckets[5] = 60;
        totals.latency.buckets[10] = 15;
        totals.latency.buckets[31] = 1;
        totals.latency.sum_ns = 90_500_000_000;
        Snapshot {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(1000),
            started: SystemTime::UNIX_EPOCH + Duration::from_secs(900),
            health: Health { ready: 1, wanted: 2, is_stopping: false, has_been_complete: true },
            supervisor_rss: Some(10 << 20),
            processes: vec![
                process(0, 1, State::Draining, 50),
                process(0, 3, State::Ready, 30),
                Process {
                    lag: Duration::from_millis(2500),
                    rss: None,
                    versions: None,
                    ..process(1, 2, State::Starting, 0)
                },
            ],
            totals: BTreeMap::from([(0, totals.clone()), (1, Totals::default()), (7, totals)]),
            restarts: BTreeMap::from([((0, "reload"), 2), ((7, "crash"), 1)]),
        }
    }

    fn lines(format: Format) -> Vec<String> {
        render(snapshot(), format).lines().map(str::to_owned).collect()
    }

    #[track_caller]
    fn assert_has(lines: &[String], expected: &str) {
        assert!(lines.iter().any(|line| line == expected), "{expected} in\n{}", lines.join("\n"));
    }

    #[test]
    fn counters_gauges_and_histograms_are_written_by_worker() {
        let lines = lines(Format::Prometheus);
        for expected in [
            "# TYPE rsgi_requests_total counter",
            "rsgi_requests_total{worker=\"0\",code=\"2xx\"} 70",
            "rsgi_requests_total{worker=\"0\",code=\"none\"} 2",
            "rsgi_requests_total{worker=\"1\",code=\"5xx\"} 0",
            "rsgi_requests_total{worker=\"7\",code=\"4xx\"} 7",
            "rsgi_sent_bytes_total{worker=\"0\"} 12345",
            "# TYPE rsgi_request_duration_seconds histogram",
            "rsgi_request_duration_seconds_bucket{worker=\"0\",le=\"0.000128\"} 60",
            "rsgi_request_duration_seconds_bucket{worker=\"0\",le=\"0.001024\"} 75",
            "rsgi_request_duration_seconds_bucket{worker=\"0\",le=\"67.108864\"} 75",
            "rsgi_request_duration_seconds_bucket{worker=\"0\",le=\"+Inf\"} 76",
            "rsgi_request_duration_seconds_sum{worker=\"0\"} 90.5",
            "rsgi_request_duration_seconds_count{worker=\"0\"} 76",
            "rsgi_worker_restarts_total{worker=\"0\",cause=\"reload\"} 2",
            "rsgi_worker_restarts_total{worker=\"7\",cause=\"crash\"} 1",
            "rsgi_workers{state=\"draining\"} 1",
            "rsgi_workers{state=\"killed\"} 0",
            "rsgi_workers_wanted 2",
            "rsgi_ready 1",
            "rsgi_start_time_seconds 900.0",
            "rsgi_supervisor_resident_memory_bytes 10485760",
            "rsgi_worker_build_info{worker=\"0\",version=\"0.1.0\",python=\"3.13.2\"} 1",
        ] {
            assert_has(&lines, expected);
        }
    }

    #[test]
    fn two_processes_of_one_index_are_shown_as_one() {
        let lines = lines(Format::Prometheus);
        assert_has(&lines, "rsgi_connections{worker=\"0\"} 4");
        assert_has(&lines, "rsgi_requests_in_flight{worker=\"0\"} 2");
        assert_has(&lines, "rsgi_worker_resident_memory_bytes{worker=\"0\"} 2097152");
        assert_has(&lines, "rsgi_worker_loop_lag_seconds{worker=\"1\"} 2.5");
        let mut samples = BTreeSet::new();
        for line in lines.iter().filter(|line| !line.starts_with('#')) {
            let (name, _) = line.rsplit_once(' ').unwrap();
            assert!(samples.insert(name), "twice: {name}");
        }
    }

    #[test]
    fn an_index_without_a_worker_has_counters_and_no_gauges() {
        let lines = lines(Format::Prometheus);
        let of_gone = lines.iter().filter(|line| line.contains("worker=\"7\""));
        assert!(of_gone.clone().count() > 10);
        for line in of_gone {
            let (name, _) = line.split_once('{').unwrap();
            let is_counted = ["_total", "_bucket", "_sum", "_count"];
            assert!(is_counted.iter().any(|suffix| name.ends_with(suffix)), "{line}");
        }
    }

    #[test]
    fn open_metrics_is_for_those_that_ask() {
        let lines = lines(Format::OpenMetrics);
        assert_has(&lines, "# TYPE rsgi_requests counter");
        assert_has(&lines, "# UNIT rsgi_request_duration_seconds seconds");
        assert_eq!(lines.last().map(String::as_str), Some("# EOF"));
        let prometheus =
            b"application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        for (accepted, expected) in [
            (&b""[..], Format::Prometheus),
            (b"*/*", Format::Prometheus),
            (b"text/plain", Format::Prometheus),
            (b"\xff\xff", Format::Prometheus),
            (prometheus, Format::OpenMetrics),
        ] {
            assert_eq!(Format::for_client(accepted), expected);
        }
    }

    /// Metrics are an interface: the guide's table has each of them, and no other.
    #[test]
    fn the_guide_lists_every_metric_with_its_type() {
        let guide = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/metrics.md");
        let guide = std::fs::read_to_string(guide).unwrap();
        let documented: BTreeSet<(String, String)> = guide
            .lines()
            .filter_map(|line| {
                let mut cells = line.strip_prefix("| `rsgi_")?.split('|').map(str::trim);
                let name = cells.next()?.split(['`', '{']).next()?;
                Some((format!("rsgi_{name}"), cells.next()?.to_owned()))
            })
            .collect();
        let written: BTreeSet<(String, String)> = lines(Format::Prometheus)
            .iter()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
            .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
            .collect();
        assert_eq!(documented, written);
    }
}
