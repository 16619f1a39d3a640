//! The control channel between the supervisor and one worker.
//!
//! A pair of `SOCK_SEQPACKET` sockets: messages keep their limits, and the end of one side is seen
//! by the other. That is how a worker learns that its supervisor died (there is no parent-death
//! signal, which would fire when the *thread* that started the worker ends), and it then stops as
//! if it had been told to.
//!
//! ```text
//! supervisor -> worker   setup (with a memfd that holds the settings), update (the same), announce, drain,
//!                        quit, reopen_logs
//! worker -> supervisor   ready, failed { message }, recycle { served, limit }, blocked { for_ms }
//!
//! supervisor -> spare      place { slot, index }, then as to a worker
//! supervisor -> template   setup, then fork { slot, index } (with the worker's end of a new channel)
//! template -> supervisor   ready, failed { message }, forked { slot, pid }, not_forked { slot, message }
//! ```
//!
//! Messages are small JSON documents. The settings, which have no limit, travel beside their
//! message in a memfd, so that a worker that is slow to read never blocks the supervisor.
//!
//! Owns: the messages and their transport. Must not know: when to send which (see `policy`).

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};

use crate::sys::shared::memfd;

/// The longest failure message that travels, in bytes: a traceback's end says what happened.
const FAILURE_LIMIT: usize = 16 * 1024;
/// Room for any message: the longest failure, every byte of it escaped as `\u00XX`.
const MESSAGE_LIMIT: usize = 6 * FAILURE_LIMIT + 1024;

/// What a worker is told after its set-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Go on with these settings, as far as they can change in a running worker.
    Update(serde_json::Value),
    /// Go on serving, but let every response say that its connection ends with it.
    Announce,
    /// Finish what is running, take nothing new, then exit with 0.
    Drain,
    /// Exit now.
    Quit,
    /// Open the log files anew: somebody has moved them away.
    ReopenLogs,
    /// The supervisor is dead: do as for [`Order::Drain`]. Repeats itself for ever.
    SupervisorGone,
}

/// A message to the worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub(crate) enum ToWorker {
    /// The settings are in the memfd that comes with this message.
    Setup,
    /// New settings are in the memfd that comes with this message.
    Update,
    Announce,
    Drain,
    Quit,
    /// To a template: fork a worker, whose end of a channel comes with this message.
    Fork {
        slot: usize,
        index: usize,
    },
    /// To a spare process, before its set-up: where it belongs.
    Place {
        slot: usize,
        index: usize,
    },
    ReopenLogs,
}

/// A message from the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "report", rename_all = "snake_case")]
pub(crate) enum Report {
    Ready,
    Failed {
        message: String,
    },
    Recycle {
        served: u64,
        limit: u64,
    },
    Blocked {
        for_ms: u64,
    },
    /// Of a template: the worker exists.
    Forked {
        slot: usize,
        pid: u32,
    },
    /// Of a template: it does not.
    NotForked {
        slot: usize,
        message: String,
    },
}

/// A worker that a template is to fork.
#[derive(Debug)]
pub struct Fork {
    /// The worker's slot on the scoreboard.
    pub slot: usize,
    /// The worker's number, 0 to N-1.
    pub index: usize,
    /// The worker's channel to the supervisor.
    pub control: WorkerControl,
}

/// One message as it came, or the end.
enum Received {
    Message(Vec<u8>, Option<OwnedFd>),
    Nothing,
    End,
}

/// The worker's end.
///
/// Its descriptor never becomes non-blocking by itself; every call says whether it waits.
#[derive(Debug)]
pub struct WorkerControl {
    socket: OwnedFd,
}

impl WorkerControl {
    pub(crate) fn new(socket: OwnedFd) -> io::Result<Self> {
        if rustix::net::sockopt::socket_type(&socket)? != SocketType::SEQPACKET {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not a control channel"));
        }
        Ok(Self { socket })
    }

    /// Waits for the settings, the first message of every worker's life.
    ///
    /// `UnexpectedEof` if the supervisor died or wants the worker gone before it began.
    pub fn receive_setup_blocking(&self) -> io::Result<serde_json::Value> {
        let Received::Message(bytes, attached) = receive(self.as_fd(), RecvFlags::empty())? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        match (serde_json::from_slice(&bytes)?, attached) {
            (ToWorker::Setup, Some(settings)) => read_settings(settings),
            (ToWorker::Setup, None) => Err(invalid("settings are missing from the set-up message")),
            (ToWorker::Update, _) => Err(invalid("an update came before the settings")),
            (ToWorker::Fork { .. } | ToWorker::Place { .. }, _) => {
                Err(invalid("the set-up message is missing"))
            }
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// As a spare process, waits for its slot and its number. `UnexpectedEof` if it is not wanted.
    pub(crate) fn receive_place_blocking(&self) -> io::Result<(usize, usize)> {
        match receive(self.as_fd(), RecvFlags::empty())? {
            Received::Message(bytes, _) => match serde_json::from_slice(&bytes)? {
                ToWorker::Place { slot, index } => Ok((slot, index)),
                _ => Err(invalid("a spare process was not told its place")),
            },
            Received::Nothing | Received::End => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// The next order, if one has come. To be called when the descriptor is readable, until `None`
    /// or [`Order::SupervisorGone`].
    pub fn try_receive(&self) -> io::Result<Option<Order>> {
        match receive(self.as_fd(), RecvFlags::DONTWAIT)? {
            Received::Nothing => Ok(None),
            Received::End => Ok(Some(Order::SupervisorGone)),
            Received::Message(bytes, attached) => match serde_json::from_slice(&bytes)? {
                ToWorker::Update => {
                    let settings = attached.ok_or_else(|| invalid("an update is empty"))?;
                    read_settings(settings).map(|settings| Some(Order::Update(settings)))
                }
                ToWorker::Announce => Ok(Some(Order::Announce)),
                ToWorker::Drain => Ok(Some(Order::Drain)),
                ToWorker::Quit => Ok(Some(Order::Quit)),
                ToWorker::ReopenLogs => Ok(Some(Order::ReopenLogs)),
                ToWorker::Setup => Err(invalid("settings came twice")),
                ToWorker::Fork { .. } => Err(invalid("only a template forks")),
                ToWorker::Place { .. } => Err(invalid("only a spare process has no place")),
            },
        }
    }

    /// As a template, waits for the next worker to fork. `None` once there will be no more.
    pub fn receive_fork_blocking(&self) -> io::Result<Option<Fork>> {
        let Received::Message(bytes, attached) = receive(self.as_fd(), RecvFlags::empty())? else {
            return Ok(None);
        };
        match (serde_json::from_slice(&bytes)?, attached) {
            (ToWorker::Fork { slot, index }, Some(control)) => {
                Ok(Some(Fork { slot, index, control: Self::new(control)? }))
            }
            (ToWorker::Fork { .. }, None) => Err(invalid("the worker's channel is missing")),
            (ToWorker::Setup, _) => Err(invalid("settings came twice")),
            _ => Ok(None),
        }
    }

    /// As a template, tells the supervisor that a worker exists.
    pub fn forked(&self, slot: usize, pid: u32) -> io::Result<()> {
        send(self.as_fd(), &Report::Forked { slot, pid }, None)
    }

    /// As a template, tells the supervisor that a worker could not be forked.
    pub fn not_forked(&self, slot: usize, message: &str) -> io::Result<()> {
        send(self.as_fd(), &Report::NotForked { slot, message: message.to_owned() }, None)
    }

    /// Tells the supervisor that this worker takes connections.
    pub fn ready(&self) -> io::Result<()> {
        send(self.as_fd(), &Report::Ready, None)
    }

    /// Tells the supervisor why this worker cannot start; the end of a long message is kept.
    /// The worker exits next, with a code of its choice.
    pub fn failed(&self, message: &str) -> io::Result<()> {
        let mut start = message.len().saturating_sub(FAILURE_LIMIT);
        while !message.is_char_boundary(start) {
            start += 1;
        }
        let message = message.get(start..).unwrap_or_default().to_owned();
        send(self.as_fd(), &Report::Failed { message }, None)
    }

    /// Asks to be replaced after `served` requests of about `limit`; the worker serves on until it
    /// is told to drain.
    pub fn recycle(&self, served: u64, limit: u64) -> io::Result<()> {
        send(self.as_fd(), &Report::Recycle { served, limit }, None)
    }

    /// Tells the supervisor that the event loop has not moved for longer than it may. For any
    /// thread.
    pub fn blocked(&self, duration: Duration) -> io::Result<()> {
        let for_ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        send(self.as_fd(), &Report::Blocked { for_ms }, None)
    }
}

impl AsFd for WorkerControl {
    /// For registering with an event loop: readable means that an order has come.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What the supervisor reads from a worker.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FromWorker {
    Report(Report),
    /// Nothing for now.
    Nothing,
    /// The worker's end is closed.
    End,
}

/// The supervisor's end. Never waits.
#[derive(Debug)]
pub(crate) struct SupervisorControl {
    socket: OwnedFd,
}

impl SupervisorControl {
    /// Sends the settings, prepared by [`settings_file`].
    pub(crate) fn send_setup(&self, settings: &OwnedFd) -> io::Result<()> {
        send(self.as_fd(), &ToWorker::Setup, Some(settings.as_fd()))
    }

    /// Sends new settings, prepared by [`settings_file`].
    pub(crate) fn send_update(&self, settings: &OwnedFd) -> io::Result<()> {
        send(self.as_fd(), &ToWorker::Update, Some(settings.as_fd()))
    }

    pub(crate) fn send_order(&self, order: &ToWorker) -> io::Result<()> {
        send(self.as_fd(), order, None)
    }

    /// Asks a template for a worker, whose end of a new channel is `control`.
    pub(crate) fn send_fork(&self, slot: usize, index: usize, control: &OwnedFd) -> io::Result<()> {
        send(self.as_fd(), &ToWorker::Fork { slot, index }, Some(control.as_fd()))
    }

    /// Tells a spare process where it belongs.
    pub(crate) fn send_place(&self, slot: usize, index: usize) -> io::Result<()> {
        send(self.as_fd(), &ToWorker::Place { slot, index }, None)
    }

    /// The next report. One that cannot be read is an error, and the next call goes on after it.
    pub(crate) fn try_receive(&self) -> io::Result<FromWorker> {
        match receive(self.as_fd(), RecvFlags::DONTWAIT)? {
            Received::Nothing => Ok(FromWorker::Nothing),
            Received::End => Ok(FromWorker::End),
            Received::Message(bytes, _) => Ok(FromWorker::Report(serde_json::from_slice(&bytes)?)),
        }
    }
}

impl AsFd for SupervisorControl {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for SupervisorControl {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// A new channel: the supervisor's end, and the descriptor for the worker. Both close on exec.
pub(crate) fn pair() -> io::Result<(SupervisorControl, OwnedFd)> {
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?;
    Ok((SupervisorControl { socket: ours }, theirs))
}

/// A sealed memfd with the settings, to be sent to any number of workers.
pub(crate) fn settings_file(settings: &serde_json::Value) -> io::Result<OwnedFd> {
    use rustix::fs::SealFlags;
    let mut file = File::from(memfd("rsgi-settings")?);
    file.write_all(&serde_json::to_vec(settings)?)?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&file, seals)?;
    Ok(file.into())
}

/// Reads at explicit offsets: all workers share one file position, and may read at one time.
fn read_settings(settings: OwnedFd) -> io::Result<serde_json::Value> {
    use std::os::unix::fs::FileExt;
    let file = File::from(settings);
    let size = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(serde_json::from_slice(&bytes)?)
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    message: &T,
    fd: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let attached = fd.as_slice();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !attached.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(attached)) {
        return Err(invalid("no room for the descriptor"));
    }
    // Never waits: the kernel's buffer holds far more messages than a life has, so a full one means
    // that the other side is stuck, and waiting for it would make two.
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket, &[IoSlice::new(&bytes)], &mut ancillary, flags)
    })?;
    Ok(())
}

fn receive(socket: BorrowedFd<'_>, flags: RecvFlags) -> io::Result<Received> {
    let mut bytes = vec![0; MESSAGE_LIMIT];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let message = match rustix::io::retry_on_intr(|| {
        let mut into = [IoSliceMut::new(&mut bytes)];
        rustix::net::recvmsg(socket, &mut into, &mut ancillary, flags | RecvFlags::CMSG_CLOEXEC)
    }) {
        Ok(message) => message,
        Err(rustix::io::Errno::AGAIN) => return Ok(Received::Nothing),
        // The other side closed with messages of ours unread.
        Err(rustix::io::Errno::CONNRESET) => return Ok(Received::End),
        Err(error) => return Err(error.into()),
    };
    if message.flags.contains(ReturnFlags::TRUNC) {
        return Err(invalid("message is too long"));
    }
    if message.bytes == 0 {
        return Ok(Received::End);
    }
    bytes.truncate(message.bytes);
    let attached = ancillary.drain().find_map(|part| match part {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    Ok(Received::Message(bytes, attached))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn channel() -> (SupervisorControl, WorkerControl) {
        let (ours, theirs) = pair().unwrap();
        (ours, WorkerControl::new(theirs).unwrap())
    }

    #[test]
    fn settings_of_any_size_arrive_without_blocking_the_supervisor() {
        let (supervisor, worker) = channel();
        let settings = json!({ "large": "x".repeat(3_000_000), "app": "main:app" });
        let file = settings_file(&settings).unwrap();
        // Nobody reads yet: both sends must return at once.
        supervisor.send_setup(&file).unwrap();
        supervisor.send_order(&ToWorker::Drain).unwrap();
        assert_eq!(worker.receive_setup_blocking().unwrap(), settings);
        assert_eq!(worker.try_receive().unwrap(), Some(Order::Drain));
        assert_eq!(worker.try_receive().unwrap(), None);
    }

    #[test]
    fn one_settings_file_serves_many_workers() {
        let file = settings_file(&json!([1, 2, 3])).unwrap();
        for _ in 0..3 {
            let (supervisor, worker) = channel();
            supervisor.send_setup(&file).unwrap();
            assert_eq!(worker.receive_setup_blocking().unwrap(), json!([1, 2, 3]));
        }
    }

    #[test]
    fn an_update_arrives_between_orders() {
        let (supervisor, worker) = channel();
        supervisor.send_setup(&settings_file(&json!(1)).unwrap()).unwrap();
        supervisor.send_update(&settings_file(&json!({ "key": 2 })).unwrap()).unwrap();
        supervisor.send_order(&ToWorker::Drain).unwrap();
        assert_eq!(worker.receive_setup_blocking().unwrap(), json!(1));
        assert_eq!(worker.try_receive().unwrap(), Some(Order::Update(json!({ "key": 2 }))));
        assert_eq!(worker.try_receive().unwrap(), Some(Order::Drain));
    }

    #[test]
    fn orders_arrive_in_order() {
        let (supervisor, worker) = channel();
        supervisor.send_order(&ToWorker::Drain).unwrap();
        supervisor.send_order(&ToWorker::ReopenLogs).unwrap();
        supervisor.send_order(&ToWorker::Quit).unwrap();
        assert_eq!(worker.try_receive().unwrap(), Some(Order::Drain));
        assert_eq!(worker.try_receive().unwrap(), Some(Order::ReopenLogs));
        assert_eq!(worker.try_receive().unwrap(), Some(Order::Quit));
        assert_eq!(worker.try_receive().unwrap(), None);
    }

    #[test]
    fn the_end_of_the_supervisor_is_an_order_that_repeats() {
        let (supervisor, worker) = channel();
        supervisor.send_order(&ToWorker::Drain).unwrap();
        drop(supervisor);
        assert_eq!(worker.try_receive().unwrap(), Some(Order::Drain));
        assert_eq!(worker.try_receive().unwrap(), Some(Order::SupervisorGone));
        assert_eq!(worker.try_receive().unwrap(), Some(Order::SupervisorGone));
    }

    #[test]
    fn the_end_is_seen_although_a_report_of_ours_was_never_read() {
        let (supervisor, worker) = channel();
        worker.ready().unwrap();
        drop(supervisor);
        assert_eq!(worker.try_receive().unwrap(), Some(Order::SupervisorGone));
    }

    #[test]
    fn a_worker_told_to_stop_before_its_settings_gives_up() {
        let (supervisor, worker) = channel();
        supervisor.send_order(&ToWorker::Drain).unwrap();
        let error = worker.receive_setup_blocking().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);

        drop(supervisor);
        let error = worker.receive_setup_blocking().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn reports_arrive_and_then_the_end() {
        let (supervisor, worker) = channel();
        worker.ready().unwrap();
        worker.recycle(7, 5).unwrap();
        worker.blocked(Duration::from_secs(30)).unwrap();
        worker.failed("no module named `x`").unwrap();
        drop(worker);
        assert_eq!(supervisor.try_receive().unwrap(), FromWorker::Report(Report::Ready));
        let recycle = Report::Recycle { served: 7, limit: 5 };
        assert_eq!(supervisor.try_receive().unwrap(), FromWorker::Report(recycle));
        let blocked = Report::Blocked { for_ms: 30_000 };
        assert_eq!(supervisor.try_receive().unwrap(), FromWorker::Report(blocked));
        let message = "no module named `x`".to_owned();
        assert_eq!(
            supervisor.try_receive().unwrap(),
            FromWorker::Report(Report::Failed { message })
        );
        assert_eq!(supervisor.try_receive().unwrap(), FromWorker::End);
    }

    #[test]
    fn a_long_failure_keeps_its_end_and_its_characters_whole() {
        let (supervisor, worker) = channel();
        for long in ["\u{1}".repeat(100_000), "\u{20ac}".repeat(100_000) + "end"] {
            worker.failed(&long).unwrap();
            let FromWorker::Report(Report::Failed { message }) = supervisor.try_receive().unwrap()
            else {
                panic!("expected a failure");
            };
            assert!(long.ends_with(&message));
            assert!(message.len() > FAILURE_LIMIT - 4 && message.len() <= FAILURE_LIMIT);
        }
    }

    #[test]
    fn a_report_that_cannot_be_read_does_not_hide_the_next() {
        let (supervisor, worker) = channel();
        rustix::net::send(worker.as_fd(), b"{\"report\":\"nonsense\"}", SendFlags::empty())
            .unwrap();
        worker.ready().unwrap();
        assert!(supervisor.try_receive().is_err());
        assert_eq!(supervisor.try_receive().unwrap(), FromWorker::Report(Report::Ready));
    }

    #[test]
    fn a_template_is_asked_for_workers_and_answers() {
        let (supervisor, template) = channel();
        let (for_worker, workers_end) = pair().unwrap();
        supervisor.send_fork(3, 1, &workers_end).unwrap();
        drop(workers_end);
        let fork = template.receive_fork_blocking().unwrap().unwrap();
        assert_eq!((fork.slot, fork.index), (3, 1));
        fork.control.ready().unwrap();
        assert_eq!(for_worker.try_receive().unwrap(), FromWorker::Report(Report::Ready));
        template.forked(3, 4711).unwrap();
        template.not_forked(4, "no memory").unwrap();
        let forked = Report::Forked { slot: 3, pid: 4711 };
        assert_eq!(supervisor.try_receive().unwrap(), FromWorker::Report(forked));
        let not_forked = Report::NotForked { slot: 4, message: "no memory".into() };
        assert_eq!(supervisor.try_receive().unwrap(), FromWorker::Report(not_forked));
        drop(supervisor);
        assert!(template.receive_fork_blocking().unwrap().is_none());
    }

    #[test]
    fn a_worker_does_not_fork() {
        let (supervisor, worker) = channel();
        let (_ours, theirs) = pair().unwrap();
        supervisor.send_fork(0, 0, &theirs).unwrap();
        assert!(worker.try_receive().is_err());
    }

    #[test]
    fn only_a_control_channel_is_taken_for_one() {
        let (a, _b) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(WorkerControl::new(a.into()).is_err());
    }
}
