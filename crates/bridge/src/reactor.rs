//! The one loop: a tokio runtime that is driven from asyncio's `select()`.
//!
//! `asyncio` calls [`Reactor::turn`] where it would call `epoll_wait`. A turn runs tokio (sockets,
//! timers, connections, and with them the application) until there is something for asyncio to do:
//! a descriptor it watches is ready, a timer of its is due, or an application has called
//! `call_soon`. What an application waits for with `receive()` or `send()` is different: the task is
//! run within the turn ([`Reactor::defer`]). The interpreter is given up in one place only, the runtime's park hook, when there
//! is nothing to do at all.
//!
//! Descriptors that asyncio watches sit in an epoll set of their own, which in turn is watched by
//! tokio. That gives asyncio exactly the level-triggered behaviour it has with
//! `selectors.EpollSelector` (closed and re-used descriptors included), though tokio itself is
//! edge-triggered, and costs one `epoll_wait` per turn in which one of them is ready.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use pyo3::prelude::*;
use rsgi_server::{BetweenTurns, Deadline};
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use tokio::io::unix::AsyncFd;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::Instant;

use crate::ffi::{ParkedThread, register_for_reading};

/// What happens on the loop's thread around its sleep. Set once a worker serves.
pub(crate) trait ParkHooks: Send + Sync {
    /// The thread is about to sleep.
    fn before_park(&self);
    /// The thread is awake. It has not got the interpreter back yet.
    fn after_park(&self);
}

/// What is to be run by the loop's thread, with nothing else of Python on its stack.
pub(crate) trait Deferred: Send + Sync {
    /// Runs it. An error has to leave the loop.
    fn run(&self, py: Python<'_>) -> PyResult<()>;
}

/// A tokio runtime inside asyncio's `select()`.
pub(crate) struct Reactor {
    /// `None` once closed.
    core: Mutex<Option<Arc<Core>>>,
    shared: Arc<Shared>,
    turn: Mutex<Turn>,
    is_turning: AtomicBool,
    between: Arc<BetweenTurns>,
    /// The address of the event loop that turns this, to be compared only.
    event_loop: AtomicUsize,
    has_task_factory: AtomicBool,
}

impl fmt::Debug for Reactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor").finish_non_exhaustive()
    }
}

/// What holds descriptors.
struct Core {
    runtime: Runtime,
    /// The epoll set of the descriptors that asyncio watches.
    watched: AsyncFd<OwnedFd>,
}

/// What the runtime's hooks and whoever wakes the loop need.
struct Shared {
    thread: ParkedThread,
    is_turning: AtomicBool,
    has_work: AtomicBool,
    waker: Mutex<Option<Waker>>,
    deferred: Mutex<VecDeque<Arc<dyn Deferred>>>,
    /// Whether some of it has run since asyncio's queues were looked at.
    has_run: AtomicBool,
    interrupt: Mutex<Option<PyErr>>,
    hooks: Mutex<Option<Arc<dyn ParkHooks>>>,
    /// Counts up where a turn begins and where it ends, so also in a loop that never sleeps.
    turns: Arc<AtomicU64>,
}

/// State of the turns, used by the turning thread only.
#[derive(Default)]
struct Turn {
    deadline: Deadline,
    /// Whether a watched descriptor may be ready: the last look found one, or tokio said so.
    may_be_ready: bool,
    found: Vec<Ready>,
}

/// How long a turn may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// One look at everything, no sleep.
    None,
    /// Until this much time has passed.
    Limited(Duration),
    /// Until something happens.
    Endless,
}

/// A watched descriptor that is ready.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ready {
    pub(crate) fd: i32,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
}

/// Why a turn ended early.
#[derive(Debug)]
pub(crate) enum TurnError {
    /// A signal handler, or the first step of an application, raised something that has to leave
    /// the loop.
    Python(PyErr),
    /// The loop is closed, or already turning.
    Misuse(&'static str),
    /// The kernel's.
    Io(io::Error),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reactor {
    pub(crate) fn new() -> io::Result<Self> {
        let shared = Arc::new(Shared {
            thread: ParkedThread::new(),
            is_turning: AtomicBool::new(false),
            has_work: AtomicBool::new(false),
            waker: Mutex::new(None),
            deferred: Mutex::default(),
            has_run: AtomicBool::new(false),
            interrupt: Mutex::new(None),
            hooks: Mutex::new(None),
            turns: Arc::default(),
        });
        let (parking, waking) = (Arc::clone(&shared), Arc::clone(&shared));
        let runtime = Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .on_thread_park(move || parking.before_park())
            .on_thread_unpark(move || waking.after_park())
            .build()?;
        let watched = {
            let _entered = runtime.enter();
            register_for_reading(epoll::create(CreateFlags::CLOEXEC)?)?
        };
        Ok(Self {
            core: Mutex::new(Some(Arc::new(Core { runtime, watched }))),
            shared,
            turn: Mutex::default(),
            is_turning: AtomicBool::new(false),
            between: Arc::default(),
            event_loop: AtomicUsize::new(0),
            has_task_factory: AtomicBool::new(false),
        })
    }

    /// Where tasks are spawned; `None` once closed.
    pub(crate) fn handle(&self) -> Option<Handle> {
        lock(&self.core).as_ref().map(|core| core.runtime.handle().clone())
    }

    /// Lends the epoll set of the descriptors that asyncio watches; `None` once closed.
    pub(crate) fn with_watched<R>(&self, call: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        let core = lock(&self.core).clone()?;
        Some(call(core.watched.get_ref().as_fd()))
    }

    /// A count that moves as long as the loop does, from turn to turn.
    pub(crate) fn turns(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.shared.turns)
    }

    /// Sets what happens around the thread's sleep.
    pub(crate) fn set_hooks(&self, hooks: Arc<dyn ParkHooks>) {
        *lock(&self.shared.hooks) = Some(hooks);
    }

    /// Says which event loop turns this.
    pub(crate) fn belongs_to(&self, event_loop: &Bound<'_, PyAny>) {
        self.event_loop.store(event_loop.as_ptr().addr(), Ordering::Relaxed);
    }

    /// Whether it is this one.
    pub(crate) fn drives(&self, event_loop: &Bound<'_, PyAny>) -> bool {
        self.event_loop.load(Ordering::Relaxed) == event_loop.as_ptr().addr()
    }

    /// Whether somebody else makes the event loop's tasks (`loop.set_task_factory`).
    pub(crate) fn has_task_factory(&self) -> bool {
        self.has_task_factory.load(Ordering::Relaxed)
    }

    /// Says whether somebody else makes the event loop's tasks.
    pub(crate) fn set_has_task_factory(&self, has_task_factory: bool) {
        self.has_task_factory.store(has_task_factory, Ordering::Relaxed);
    }

    /// Has `deferred` run in this turn, or in the next one. From any thread.
    pub(crate) fn defer(&self, deferred: Arc<dyn Deferred>) {
        lock(&self.shared.deferred).push_back(deferred);
        self.shared.wake_turn();
    }

    /// Ends the current turn as soon as tokio has had its share. From any thread.
    pub(crate) fn wake(&self) {
        self.shared.wake();
    }

    /// Lets `error` leave the loop.
    pub(crate) fn interrupt(&self, error: PyErr) {
        lock(&self.shared.interrupt).get_or_insert(error);
        self.shared.wake();
    }

    /// Runs tokio, and what it defers, until asyncio has something to do. Returns the watched
    /// descriptors that are ready. `after_python` is called where some of it has run.
    pub(crate) fn turn(
        &self,
        patience: Patience,
        after_python: impl Fn(Python<'_>),
    ) -> Result<Vec<Ready>, TurnError> {
        if self.is_turning.swap(true, Ordering::Acquire) {
            return Err(TurnError::Misuse("select() is already running"));
        }
        let turning = Turning(self);
        if Handle::try_current().is_ok() {
            return Err(TurnError::Misuse("another rsgi event loop is running in this thread"));
        }
        let core = lock(&self.core).clone();
        let core = core.ok_or(TurnError::Misuse("the event loop is closed"))?;
        self.shared.is_turning.store(true, Ordering::Relaxed);
        self.shared.count_turn();
        let mut turn = lock(&self.turn);
        turn.deadline.set(match patience {
            Patience::Limited(limit) => Instant::now().checked_add(limit),
            Patience::None | Patience::Endless => None,
        });
        let mut has_begun = false;
        let mut has_yielded = false;
        let looked = core.runtime.block_on(std::future::poll_fn(|cx| {
            if !has_begun {
                has_begun = true;
                self.shared.keep_waker(cx.waker());
                self.between.end();
            }
            self.run_deferred();
            if self.shared.has_run.swap(false, Ordering::Relaxed) {
                Python::attach(&after_python);
            }
            self.poll_turn(&core.watched, &mut turn, patience, &mut has_yielded, cx)
        }));
        self.between.begin();
        self.shared.is_turning.store(false, Ordering::Relaxed);
        self.shared.count_turn();
        let found = std::mem::take(&mut turn.found);
        drop(turn);
        drop(turning);
        if let Some(error) = lock(&self.shared.interrupt).take() {
            return Err(TurnError::Python(error));
        }
        looked.map_err(TurnError::Io)?;
        Ok(found)
    }

    fn poll_turn(
        &self,
        watched: &AsyncFd<OwnedFd>,
        turn: &mut Turn,
        patience: Patience,
        has_yielded: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let is_urgent = patience == Patience::None
            || turn.may_be_ready
            || self.shared.has_work.load(Ordering::Acquire);
        if is_urgent && !*has_yielded {
            // tokio's tasks and its driver get their share first, whatever asyncio has to do: a
            // loop whose callbacks never end still serves its sockets.
            *has_yielded = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Poll::Ready(guard) = watched.poll_read_ready(cx) {
            // Forgotten before looking, so that what comes after the look is told again.
            guard?.clear_ready();
            turn.may_be_ready = true;
        }
        if turn.may_be_ready {
            look(watched, turn)?;
        }
        let is_over = patience == Patience::None
            || turn.may_be_ready
            || self.shared.has_work.swap(false, Ordering::AcqRel)
            || turn.deadline.poll(cx).is_ready();
        if !is_over {
            // From here on every wake-up is a reason of its own.
            *has_yielded = true;
            return Poll::Pending;
        }
        self.shared.has_work.store(false, Ordering::Release);
        Poll::Ready(Ok(()))
    }

    /// Runs what has been deferred so far. What comes meanwhile waits until tokio had its share. Call
    /// within a turn: whether asyncio has something to do now is looked at when the turn itself is
    /// polled, which `defer` has seen to.
    pub(crate) fn run_deferred(&self) {
        let count = lock(&self.shared.deferred).len();
        if count == 0 {
            return;
        }
        self.shared.count_turn();
        Python::attach(|py| {
            for _ in 0..count {
                let Some(deferred) = lock(&self.shared.deferred).pop_front() else {
                    break;
                };
                if let Err(error) = deferred.run(py) {
                    self.interrupt(error);
                    break;
                }
            }
        });
        self.shared.has_run.store(true, Ordering::Relaxed);
    }

    /// Ends the runtime and every task in it.
    pub(crate) fn close(&self) {
        self.between.end();
        // The waker leads back to the runtime, and the runtime's hooks to the waker.
        lock(&self.shared.waker).take();
        let hooks = lock(&self.shared.hooks).take();
        let deferred = std::mem::take(&mut *lock(&self.shared.deferred));
        let core = lock(&self.core).take().and_then(Arc::into_inner);
        if let Some(Core { runtime, watched }) = core {
            drop(watched);
            // A plain drop would wait, and panics inside another runtime.
            runtime.shutdown_background();
        }
        drop(hooks);
        drop(deferred);
    }
}

/// Asks the kernel which watched descriptors are ready.
fn look(watched: &AsyncFd<OwnedFd>, turn: &mut Turn) -> io::Result<()> {
    let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    // What does not fit comes first next time: the kernel keeps the ready descriptors in a queue.
    let mut space = [const { MaybeUninit::<Event>::uninit() }; 512];
    let events = match epoll::wait(watched, &mut space, Some(&zero)) {
        Ok((events, _)) => events,
        Err(rustix::io::Errno::INTR) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // As `selectors.EpollSelector` reads them: an error or a hang-up is both readable and writable.
    turn.found.extend(events.iter().map(|&Event { flags, data }| Ready {
        fd: i32::try_from(data.u64()).unwrap_or(-1),
        readable: flags.intersects(EventFlags::all() - EventFlags::OUT),
        writable: flags.intersects(EventFlags::all() - EventFlags::IN),
    }));
    turn.may_be_ready = !turn.found.is_empty();
    Ok(())
}

impl Drop for Reactor {
    fn drop(&mut self) {
        self.close();
    }
}

/// Marks the reactor as turning, also when the turn panics.
struct Turning<'a>(&'a Reactor);

impl Drop for Turning<'_> {
    fn drop(&mut self) {
        self.0.is_turning.store(false, Ordering::Release);
    }
}

impl Shared {
    fn wake(&self) {
        self.has_work.store(true, Ordering::Release);
        self.wake_turn();
    }

    fn wake_turn(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            waker.wake_by_ref();
        }
    }

    /// One thread turns at a time: a load and a store will do.
    fn count_turn(&self) {
        let turns = self.turns.load(Ordering::Relaxed);
        self.turns.store(turns.wrapping_add(1), Ordering::Relaxed);
    }

    fn keep_waker(&self, waker: &Waker) {
        let mut kept = lock(&self.waker);
        if !kept.as_ref().is_some_and(|kept| kept.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    fn before_park(&self) {
        if self.is_turning.load(Ordering::Relaxed) {
            if let Some(hooks) = &*lock(&self.hooks) {
                hooks.before_park();
            }
            self.thread.detach();
        }
    }

    fn after_park(&self) {
        let is_turning = self.is_turning.load(Ordering::Relaxed);
        // Before it has the interpreter: a loop that waits for it is not asleep.
        if is_turning && let Some(hooks) = &*lock(&self.hooks) {
            hooks.after_park();
        }
        self.thread.attach();
        if is_turning {
            // A signal may be what ended the sleep; its Python handler runs now. (Elsewhere than on
            // the main thread this does nothing.)
            #[expect(
                clippy::redundant_closure_for_method_calls,
                reason = "lifetimes need the closure"
            )]
            let checked = Python::attach(|py| py.check_signals());
            if let Err(error) = checked {
                lock(&self.interrupt).get_or_insert(error);
                self.wake();
            }
        }
    }
}

/// What the epoll set holds for a descriptor.
pub(crate) fn watch_data(fd: i32) -> EventData {
    EventData::new_u64(u64::from(fd.unsigned_abs()))
}
