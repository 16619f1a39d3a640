//! Unix listeners and the files they leave behind.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};

use super::{Listener, ListenerKind, name_of};
use crate::error::BindError;

/// The file of a socket we made. Removed on drop if it is still ours.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// A forked copy of this value is not the owner.
    pid: u32,
}

impl SocketFile {
    fn of(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let metadata = fs::symlink_metadata(&path)?;
        let (device, inode) = (metadata.dev(), metadata.ino());
        Ok(Self { path, device, inode, pid: std::process::id() })
    }

    pub(super) fn give_to(&self, uid: u32, gid: u32) -> io::Result<()> {
        if self.is_ours() {
            std::os::unix::fs::lchown(&self.path, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    /// False once another server has put its own socket there.
    fn is_ours(&self) -> bool {
        self.pid == std::process::id()
            && fs::symlink_metadata(&self.path)
                .is_ok_and(|found| (found.dev(), found.ino()) == (self.device, self.inode))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_ours()
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::warn!(target: "rsgi", "cannot remove the socket `{}`: {error}", self.path.display());
        }
    }
}

/// Listens on a path, or for `@name` on a name in the abstract namespace, which has no file.
pub(super) fn bind(path: &Path, permissions: u32, backlog: i32) -> Result<Listener, BindError> {
    let failed = |error: io::Error| explain(path, error);
    if let Some(name) = path.as_os_str().as_bytes().strip_prefix(b"@") {
        let address = [b"\0", name].concat();
        let address = SockAddr::unix(std::ffi::OsStr::from_bytes(&address)).map_err(failed)?;
        let socket = bound_socket(&address).map_err(failed)?;
        return listen(socket, backlog, None).map_err(failed);
    }
    remove_stale(path)?;
    let socket = SockAddr::unix(path).and_then(|address| bound_socket(&address)).map_err(failed)?;
    let file = SocketFile::of(path).map_err(failed)?;
    // Before listen: nobody can connect while the umask's permissions hold.
    fs::set_permissions(path, Permissions::from_mode(permissions)).map_err(failed)?;
    listen(socket, backlog, Some(file)).map_err(failed)
}

fn bound_socket(address: &SockAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    super::prepare(&socket)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(socket: Socket, backlog: i32, file: Option<SocketFile>) -> io::Result<Listener> {
    socket.listen(backlog)?;
    let address = name_of(&socket)?;
    Ok(Listener { fd: socket.into(), address, kind: ListenerKind::Unix, file })
}

/// Removes the socket that a server which did not end well left behind; one that answers stays.
fn remove_stale(path: &Path) -> Result<(), BindError> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(()); // nothing there, or bind will say why we cannot look
    };
    if !metadata.file_type().is_socket() {
        return Err(BindError::NotASocket { path: path.to_owned() });
    }
    match probe(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(|error| explain(path, error))
        }
        // It answers, its queue is full, or we may not ask: somebody's socket in any case.
        _ => Err(BindError::AddressInUse { address: format!("unix:{}", path.display()) }),
    }
}

/// Connects without waiting: a full queue answers at once, too.
fn probe(path: &Path) -> io::Result<()> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(path)?)
}

fn explain(path: &Path, source: io::Error) -> BindError {
    let address = format!("unix:{}", path.display());
    match source.kind() {
        io::ErrorKind::AddrInUse => BindError::AddressInUse { address },
        io::ErrorKind::PermissionDenied => BindError::PermissionDenied { address },
        _ => BindError::Io { address, source },
    }
}
