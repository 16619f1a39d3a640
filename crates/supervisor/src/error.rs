//! What can go wrong before the workers serve, with what to do about it.

use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

/// A listening socket could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another process listens there.
    #[error("address already in use, stop the other server or choose another port: `{address}`")]
    AddressInUse {
        /// The address as configured.
        address: String,
    },
    /// No interface of this machine has the address.
    #[error(
        "this machine has no such address, use 0.0.0.0 or [::] to listen everywhere: `{address}`"
    )]
    AddressNotAvailable {
        /// The address as configured.
        address: String,
    },
    /// The system refused, usually for a port below 1024 or a directory that is not writable.
    #[error("no permission to listen, use a port above 1023 or a writable directory: `{address}`")]
    PermissionDenied {
        /// The address as configured.
        address: String,
    },
    /// The name has no address.
    #[error(
        "cannot resolve the host name, use an IP address or check the name: `{host}` ({source})"
    )]
    Unresolved {
        /// The name as configured.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Something that is not a socket has the name.
    #[error("the path exists and is not a socket, remove it or choose another: `{}`", path.display())]
    NotASocket {
        /// The path as configured.
        path: PathBuf,
    },
    /// The inherited descriptor is not open.
    #[error("file descriptor is not open in this process: `{fd}`")]
    NotOpen {
        /// Its number.
        fd: RawFd,
    },
    /// The inherited descriptor is open but cannot accept connections.
    #[error("file descriptor is not a listening stream socket: `{fd}`")]
    NotListening {
        /// Its number.
        fd: RawFd,
    },
    /// The variables of socket activation are malformed.
    #[error("LISTEN_FDS is not a number of descriptors: `{value}`")]
    Activation {
        /// What was found.
        value: String,
    },
    /// Anything else.
    #[error("cannot listen on `{address}`: {source}")]
    Io {
        /// The address as configured.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The pid file could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PidFileError {
    /// It names another process that runs.
    #[error("process {pid} of the pid file still runs, stop it or remove the file: `{}`", path.display())]
    Running {
        /// The file.
        path: PathBuf,
        /// The process.
        pid: i32,
    },
    /// It has something else in it than a process number.
    #[error("the file exists and is no pid file, remove it or choose another: `{}`", path.display())]
    NotAPidFile {
        /// The file.
        path: PathBuf,
    },
    /// Anything else.
    #[error("cannot write the pid file `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The process could not become the user that it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// No such user.
    #[error("there is no such user: `{user}`")]
    NoUser {
        /// The user as configured.
        user: String,
    },
    /// No such group.
    #[error("there is no such group: `{group}`")]
    NoGroup {
        /// The group as configured.
        group: String,
    },
    /// A number that nobody has, and no group beside it.
    #[error("the user has no entry that says its group, add --group: `{user}`")]
    NoGroupOf {
        /// The user as configured.
        user: String,
    },
    /// The user data base cannot be read.
    #[error("cannot look up `{account}`: {source}")]
    Lookup {
        /// The user or group as configured.
        account: String,
        /// What the system said.
        source: nix::Error,
    },
    /// What was made for the user cannot be given to it.
    #[error(
        "cannot give the Unix sockets and the pid file to user {uid} and group {gid}: {source}"
    )]
    Give {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused.
    #[error(
        "cannot become user {uid} and group {gid}, start as root (or with CAP_SETUID and CAP_SETGID) or leave out \
         --user and --group: {source}"
    )]
    Assume {
        /// The user.
        uid: u32,
        /// The group.
        gid: u32,
        /// What the system said.
        source: nix::Error,
    },
}

/// A process that should be a worker was not given what a worker needs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InheritError {
    /// The variable was not written by a supervisor of this version.
    #[error("the worker variable is not valid, workers are started by the supervisor only: {0}")]
    Variable(#[from] serde_json::Error),
    /// An inherited descriptor is missing or of the wrong kind.
    #[error("cannot take over the inherited {what}: {source}")]
    Descriptor {
        /// What the descriptor should have been.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The slot is outside the scoreboard.
    #[error("the scoreboard has {slots} slots, none is number `{slot}`")]
    Slot {
        /// The slot this worker was given.
        slot: usize,
        /// How many there are.
        slots: usize,
    },
}
