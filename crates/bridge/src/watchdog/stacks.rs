//! Getting the Python stacks of a process whose loop is blocked.
//!
//! There are two ways. A thread of its own asks the interpreter, as any Python thread could: that
//! disturbs nobody, and works for whatever gives the interpreter up now and then (`time.sleep`, a
//! query, Python code that computes). If it gets no answer in time, C code holds the interpreter,
//! and every thread is asked by a signal, whose handler (`faulthandler`'s) writes the stack of the
//! thread it interrupts without needing anything. Each thread writes its own: to read another's
//! while it runs could crash the process. A signal also ends some system calls early, `usleep` for
//! one, which is why it is the second choice.
//!
//! Owns: both ways, and the choice. Must not know: when to ask, or how it is told.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFrame};
use rustix::fs::MemfdFlags;
use rustix::thread::Pid;

use super::frames::{DEPTH_LIMIT, Directories, Frame, Stack, parse};
use crate::ffi::signal_thread;

/// How long the interpreter may take to answer: many times its switch interval of 5 ms.
const INTERPRETER_LIMIT: Duration = Duration::from_millis(250);
/// How long a thread may take to answer a signal, and all of them together.
const THREAD_LIMIT: Duration = Duration::from_millis(500);
const THREADS_LIMIT: Duration = Duration::from_secs(2);
/// How often a thread that was signalled is looked at.
const POLL: Duration = Duration::from_millis(1);
/// Threads that are asked at most.
const THREAD_COUNT: usize = 256;
/// What the names of this module's threads begin with.
const OWN_THREADS: &str = "rsgi-";

/// Which threads are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The loop's, and all if that one only waits for the interpreter.
    Loop,
    All,
}

/// One thread's stack, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ThreadStack {
    pub(crate) name: String,
    pub(crate) is_loop: bool,
    pub(crate) stack: Result<Stack, String>,
}

/// What was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stacks {
    /// The loop's first.
    pub(crate) threads: Vec<ThreadStack>,
    pub(crate) interpreter: Interpreter,
}

/// Whether Python code could run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interpreter {
    /// As far as can be told.
    Free,
    /// C code holds the GIL.
    Held,
}

/// Asks for stacks.
#[derive(Debug)]
pub(crate) struct Inspector {
    loop_thread: LoopThread,
    pub(crate) directories: Directories,
    signal: Result<Arc<StackSignal>, String>,
    /// The answer of a thread that still waits for the interpreter, or has got it too late.
    asked: Option<Receiver<Vec<ThreadStack>>>,
}

/// The thread that the loop runs in.
#[derive(Debug, Clone, Copy)]
struct LoopThread {
    /// Python's number for it.
    ident: u64,
    /// The kernel's.
    id: Pid,
}

impl Inspector {
    /// For the loop that the calling thread is going to run.
    pub(crate) fn new(py: Python<'_>) -> PyResult<Self> {
        let file = |module: &str| -> PyResult<String> {
            let file: String = py.import(module)?.getattr("__file__")?.extract()?;
            Ok(file.rsplit_once('/').map_or(String::new(), |(directory, _)| directory.to_owned()))
        };
        Ok(Self {
            loop_thread: LoopThread {
                ident: py.import("threading")?.call_method0("get_ident")?.extract()?,
                id: rustix::thread::gettid(),
            },
            directories: Directories { library: file("os")?, server: file("rsgi")? },
            signal: StackSignal::installed(py).map_err(|error| error.to_string()),
            asked: None,
        })
    }

    /// The stacks, as far as they can be had within a few seconds.
    pub(crate) fn look(&mut self, wanted: Wanted) -> Stacks {
        let (mut threads, interpreter) = match self.ask_interpreter() {
            Ok(threads) => (threads, Interpreter::Free),
            Err(interpreter) => (self.ask_threads(wanted), interpreter),
        };
        threads.sort_by_key(|thread| !thread.is_loop);
        if wanted == Wanted::Loop && !self.loop_waits(&threads) {
            threads.truncate(1);
        }
        Stacks { threads, interpreter }
    }

    /// Whether the reason is to be looked for in another thread.
    fn loop_waits(&self, threads: &[ThreadStack]) -> bool {
        let stack = threads.first().filter(|thread| thread.is_loop);
        stack.is_none_or(|thread| {
            thread.stack.as_ref().is_ok_and(|stack| self.directories.culprit(stack).is_none())
        })
    }

    /// All threads as the interpreter shows them, or how it is if it does not.
    fn ask_interpreter(&mut self) -> Result<Vec<ThreadStack>, Interpreter> {
        let asked = match self.asked.take().map(|asked| (asked.try_recv(), asked)) {
            Some((Err(TryRecvError::Empty), asked)) => asked,
            // It got the interpreter in the end, and what it saw then is old by now.
            Some((Ok(_) | Err(TryRecvError::Disconnected), _)) | None => {
                let (answer, asked) = sync_channel(1);
                let loop_thread = self.loop_thread;
                // Not joined: it may wait for ever.
                let started =
                    thread::Builder::new().name(format!("{OWN_THREADS}stacks")).spawn(move || {
                        match Python::try_attach(|py| python_stacks(py, loop_thread)) {
                            Some(Ok(stacks)) => drop(answer.send(stacks)),
                            Some(Err(error)) => {
                                log::debug!("no stacks from the interpreter: {error}");
                            }
                            None => {}
                        }
                    });
                if started.is_err() {
                    return Err(Interpreter::Free);
                }
                asked
            }
        };
        match asked.recv_timeout(INTERPRETER_LIMIT) {
            Ok(stacks) => Ok(stacks),
            Err(RecvTimeoutError::Disconnected) => Err(Interpreter::Free),
            Err(RecvTimeoutError::Timeout) => {
                self.asked = Some(asked);
                Err(Interpreter::Held)
            }
        }
    }

    fn ask_threads(&self, wanted: Wanted) -> Vec<ThreadStack> {
        let own = self.ask_thread(self.loop_thread.id);
        let own = own.transpose().unwrap_or_else(|| Err("it runs no Python code".to_owned()));
        let mut threads = vec![ThreadStack {
            name: self.loop_thread.id.as_raw_nonzero().to_string(),
            is_loop: true,
            stack: own,
        }];
        if wanted == Wanted::Loop && !self.loop_waits(&threads) {
            return threads;
        }
        let deadline = std::time::Instant::now() + THREADS_LIMIT;
        for id in thread_ids().into_iter().filter(|id| *id != self.loop_thread.id) {
            let name = thread_name(id);
            if name.starts_with(OWN_THREADS) {
                continue;
            }
            let stack = if std::time::Instant::now() < deadline {
                self.ask_thread(id)
            } else {
                Err("there was no time left to ask it".to_owned())
            };
            if let Some(stack) = stack.transpose() {
                let name = format!("{} ({name})", id.as_raw_nonzero());
                threads.push(ThreadStack { name, is_loop: false, stack });
            }
        }
        threads
    }

    /// The stack of a thread that is asked by a signal; `None` if it runs no Python code.
    fn ask_thread(&self, id: Pid) -> Result<Option<Stack>, String> {
        let signal = self.signal.as_ref().map_err(Clone::clone)?;
        signal.ask(id).map_err(|error| format!("it cannot be signalled: {error}"))?
    }
}

/// What the interpreter says about all its threads.
fn python_stacks(py: Python<'_>, loop_thread: LoopThread) -> PyResult<Vec<ThreadStack>> {
    let mut names: HashMap<u64, String> = HashMap::new();
    for thread in py.import("threading")?.call_method0("enumerate")?.try_iter()? {
        let thread = thread?;
        let id: Option<u64> = thread.getattr("native_id")?.extract()?;
        let name: String = thread.getattr("name")?.extract()?;
        let name = id.map_or_else(|| name.clone(), |id| format!("{id} ({name})"));
        names.insert(thread.getattr("ident")?.extract()?, name);
    }
    let frames = py.import("sys")?.call_method0("_current_frames")?.cast_into::<PyDict>()?;
    let mut threads = Vec::new();
    for (ident, frame) in frames.iter().take(THREAD_COUNT) {
        let ident: u64 = ident.extract()?;
        threads.push(ThreadStack {
            name: names.remove(&ident).unwrap_or_else(|| "not started by Python".to_owned()),
            is_loop: ident == loop_thread.ident,
            stack: Ok(python_stack(frame.cast_into::<PyFrame>()?)?),
        });
    }
    Ok(threads)
}

fn python_stack(innermost: Bound<'_, PyFrame>) -> PyResult<Stack> {
    let mut stack = Stack::default();
    let mut next = Some(innermost.into_any());
    while let Some(frame) = next {
        if stack.frames.len() == DEPTH_LIMIT {
            stack.is_cut = true;
            break;
        }
        let code = frame.getattr("f_code")?;
        stack.frames.push(Frame {
            file: code.getattr("co_filename")?.extract()?,
            line: frame.getattr("f_lineno")?.extract()?,
            function: code.getattr("co_qualname")?.extract()?,
        });
        next = frame.getattr("f_back")?.extract()?;
    }
    Ok(stack)
}

/// A real-time signal that makes a thread write its Python stack into a file of ours.
#[derive(Debug)]
struct StackSignal {
    number: i32,
    /// Whether the handler has run since this was last cleared.
    answered: Arc<AtomicBool>,
    /// One thread is asked at a time.
    file: Mutex<File>,
}

impl StackSignal {
    /// The one of this process. It stays for ever: `faulthandler` knows the file by its number.
    fn installed(py: Python<'_>) -> PyResult<Arc<Self>> {
        static INSTALLED: OnceLock<Arc<StackSignal>> = OnceLock::new();
        if let Some(installed) = INSTALLED.get() {
            return Ok(Arc::clone(installed));
        }
        let installed = Arc::new(Self::install(py)?);
        Ok(Arc::clone(INSTALLED.get_or_init(|| installed)))
    }

    fn install(py: Python<'_>) -> PyResult<Self> {
        let file = File::from(
            rustix::fs::memfd_create("rsgi-stacks", MemfdFlags::CLOEXEC)
                .map_err(io::Error::from)?,
        );
        let signals = py.import("signal")?;
        let (first, last): (i32, i32) =
            (signals.getattr("SIGRTMIN")?.extract()?, signals.getattr("SIGRTMAX")?.extract()?);
        let default = signals.getattr("SIG_DFL")?;
        // From the end: programs that want one begin at SIGRTMIN.
        let mut free = (first..=last).rev().filter(|number| {
            signals
                .call_method1("getsignal", (*number,))
                .and_then(|handler| handler.eq(&default))
                .unwrap_or(false)
        });
        let number = free.next().ok_or_else(|| {
            PyRuntimeError::new_err("the application handles every real-time signal")
        })?;
        let options = PyDict::new(py);
        options.set_item("file", file.as_raw_fd())?;
        options.set_item("all_threads", false)?;
        py.import("faulthandler")?.call_method("register", (number,), Some(&options))?;
        // On top: it calls the handler that it finds first, and then sets the flag.
        let answered = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(number, Arc::clone(&answered))?;
        Ok(Self { number, answered, file: Mutex::new(file) })
    }

    fn ask(&self, id: Pid) -> io::Result<Result<Option<Stack>, String>> {
        if let Some(reason) = deafness(id, self.number) {
            return Ok(Err(reason));
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.set_len(0)?;
        file.rewind()?;
        self.answered.store(false, Ordering::Release);
        signal_thread(id, self.number)?;
        let deadline = std::time::Instant::now() + THREAD_LIMIT;
        while !self.answered.load(Ordering::Acquire) {
            if std::time::Instant::now() > deadline {
                return Ok(Err("it does not answer".to_owned()));
            }
            thread::park_timeout(POLL);
        }
        let mut written = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut written)?;
        Ok(Ok(parse(&String::from_utf8_lossy(&written))))
    }
}

/// Why a thread would not notice a signal, if it would not: it would answer later, and be mistaken
/// for another.
fn deafness(id: Pid, number: i32) -> Option<String> {
    let status =
        std::fs::read_to_string(format!("/proc/self/task/{}/status", id.as_raw_nonzero())).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("State:").is_some_and(|state| state.starts_with('D')) {
        return Some("it waits in the kernel and cannot be interrupted (state D)".to_owned());
    }
    let blocked = field("SigBlk:").and_then(|mask| u64::from_str_radix(mask, 16).ok())?;
    let bit = u32::try_from(number.checked_sub(1)?).ok()?;
    let is_blocked = blocked.checked_shr(bit).unwrap_or(0) & 1 == 1;
    is_blocked.then(|| "it blocks signals".to_owned())
}

fn thread_ids() -> Vec<Pid> {
    let entries = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter_map(Pid::from_raw).take(THREAD_COUNT).collect()
}

fn thread_name(id: Pid) -> String {
    let path = format!("/proc/self/task/{}/comm", id.as_raw_nonzero());
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}
