//! Starting the fixture, reading its log, and waiting for states with a deadline.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;

/// The program.
pub(crate) const FIXTURE: &str = env!("CARGO_BIN_EXE_rsgi-supervisor-fixture");

/// Far more than anything here takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running fixture. Killed with all its workers when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    lines: Receiver<String>,
    /// Everything logged and read so far.
    pub(crate) log: Vec<String>,
    workers: BTreeSet<i32>,
}

impl Server {
    /// Starts a supervisor with this setup.
    pub(crate) fn start(setup: &Value) -> Self {
        let mut command = Command::new(FIXTURE);
        command.arg(setup.to_string()).stdin(Stdio::null());
        Self::run(command)
    }

    /// Runs a command that becomes a fixture.
    pub(crate) fn run(mut command: Command) -> Self {
        let mut child =
            command.stderr(Stdio::piped()).process_group(0).spawn().expect("the fixture starts");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines, log: Vec::new(), workers: BTreeSet::new() }
    }

    /// Starts one and waits until all of its workers are ready.
    pub(crate) fn serving(setup: &Value) -> Self {
        let mut server = Self::start(setup);
        server.wait_for_line("rsgi running on");
        let workers = setup["workers"].as_u64().unwrap_or(1);
        server.wait_until("all workers are ready", |reply| ready(reply) == workers);
        server
    }

    /// The number of the supervisor.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("it is a process number")
    }

    /// Sends the supervisor a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Sends a signal to the supervisor and its workers at once, as a terminal does.
    pub(crate) fn signal_group(&self, signal: Signal) {
        let group = Pid::from_raw(self.pid()).expect("not 0");
        rustix::process::kill_process_group(group, signal).expect("it has its own group");
    }

    /// Waits for a log line that contains `text`, after all those waited for before.
    pub(crate) fn wait_for_line(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(line) = self.lines.recv_timeout(left) else {
                panic!("no line with `{text}`, but {:#?}", self.log);
            };
            self.note(&line);
            if line.contains(text) {
                return line;
            }
        }
    }

    fn note(&mut self, line: &str) {
        if let Some(pid) = line.strip_prefix("INFO Started worker [") {
            self.workers.insert(pid.trim_end_matches(']').parse().expect("a process number"));
        }
        self.log.push(line.to_owned());
    }

    /// The address of the first listener, from the log.
    fn address(&self) -> String {
        let line = self.log.iter().find(|line| line.contains("running on http://"));
        let (_, rest) = line.expect("it runs").split_once("http://").expect("just found");
        rest.split(' ').next().expect("split gives one at least").to_owned()
    }

    /// Asks whichever worker answers.
    pub(crate) fn try_ask(&self, request: &str) -> std::io::Result<Value> {
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        writeln!(stream, "{request}")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }

    /// Asks a worker and wants an answer: the server must be serving all the time.
    pub(crate) fn ask(&self, request: &str) -> Value {
        self.try_ask(request).expect("a worker answers")
    }

    /// Asks until the answer is as wanted. An answer that is lost with its worker is asked again.
    pub(crate) fn wait_until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut last = Value::Null;
        while Instant::now() < deadline {
            if let Ok(reply) = self.try_ask("hello") {
                if is_so(&reply) {
                    return reply;
                }
                last = reply;
            }
            std::thread::yield_now();
        }
        panic!("never: {what}; the last answer was {last:#}");
    }

    /// Waits until nobody listens any more.
    pub(crate) fn wait_until_refused(&self) {
        let deadline = Instant::now() + PATIENCE;
        let address = self.address().parse().expect("an address and a port");
        // With a limit: a socket that is still open and whose queue is full does not answer.
        let connect = || TcpStream::connect_timeout(&address, PATIENCE);
        let is_refused = |error: std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
        while !connect().is_err_and(is_refused) {
            assert!(Instant::now() < deadline, "connections are still accepted");
            std::thread::yield_now();
        }
    }

    /// Waits for the end and reads the rest of the log.
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        // The log ends when the supervisor and all its workers have closed it.
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.note(&line),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    panic!("it does not end: {:#?}", self.log)
                }
            }
        }
        self.child.wait().expect("it is our child")
    }

    /// Kills the supervisor alone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Whether the log has such a line.
    pub(crate) fn has_logged(&self, text: &str) -> bool {
        self.log.iter().any(|line| line.contains(text))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A server that ended has reaped its workers, and the numbers may be somebody else's.
        if let Ok(None) = self.child.try_wait() {
            for line in self.lines.try_iter().collect::<Vec<_>>() {
                self.note(&line);
            }
            let parent = self.pid();
            for &pid in self.workers.iter().filter(|&&pid| parent_of(pid) == Some(parent)) {
                send(pid, Signal::KILL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// How many workers are ready, by the scoreboard that the answer was read from.
pub(crate) fn ready(reply: &Value) -> u64 {
    let phases = reply["phases"].as_array().expect("an array");
    phases.iter().filter(|phase| *phase == "Ready").count() as u64
}

/// The number of the process that answered.
pub(crate) fn pid_of(reply: &Value) -> i32 {
    reply["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()).expect("a process number")
}

/// Sends a signal to a process that the test started.
pub(crate) fn send(pid: i32, signal: Signal) {
    let pid = Pid::from_raw(pid).expect("not 0");
    let _ = rustix::process::kill_process(pid, signal);
}

/// The parent of a process, from `/proc`; `None` once it is gone.
pub(crate) fn parent_of(pid: i32) -> Option<i32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    line.trim().parse().ok()
}

/// A file that tells new workers what to do.
#[derive(Debug)]
pub(crate) struct Behaviour(PathBuf);

impl Behaviour {
    /// A file of this test's own.
    pub(crate) fn new(test: &str, text: &str) -> Self {
        let name = format!("rsgi-supervisor-{}-{test}", std::process::id());
        let behaviour = Self(std::env::temp_dir().join(name));
        behaviour.set(text);
        behaviour
    }

    /// From now on new workers do this.
    pub(crate) fn set(&self, text: &str) {
        std::fs::write(&self.0, text).expect("the directory for temporary files is writable");
    }

    /// The path, for the setup.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Behaviour {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
