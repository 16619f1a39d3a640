//! Real sockets on the loopback and in a directory for temporary files.

use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::io::{fcntl_dupfd_cloexec, fcntl_getfd};
use socket2::Domain;

use super::*;

/// A directory of this test's own, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let name = format!("rsgi-sockets-{}-{test}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tcp(host: &str, port: u16) -> BindAddr {
    BindAddr::Tcp { host: host.into(), port }
}

fn unix(path: &Path) -> BindAddr {
    BindAddr::Unix { path: path.into(), permissions: 0o640 }
}

fn one(address: BindAddr) -> Listener {
    let mut listeners = bind_all(&[address], 16).unwrap();
    assert_eq!(listeners.len(), 1);
    listeners.remove(0)
}

fn error(address: BindAddr) -> String {
    bind_all(&[address], 16).unwrap_err().to_string()
}

fn port_of(listener: &Listener) -> u16 {
    SockRef::from(&listener.fd).local_addr().unwrap().as_socket().unwrap().port()
}

/// A descriptor number for `fd://`, which is used up: no other test of this process may get it.
fn number(fd: impl AsFd) -> RawFd {
    use std::sync::atomic::{AtomicI32, Ordering};
    static NEXT: AtomicI32 = AtomicI32::new(500);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let fd = fcntl_dupfd_cloexec(fd, next).unwrap().into_raw_fd();
    assert_eq!(fd, next);
    fd
}

fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

#[test]
fn a_tcp_listener_accepts_and_is_named_with_the_port_it_got() {
    let listener = one(tcp("127.0.0.1", 0));
    let port = port_of(&listener);
    assert_eq!(listener.address, format!("http://127.0.0.1:{port}"));
    assert_eq!(listener.kind, ListenerKind::Tcp);
    TcpStream::connect(("127.0.0.1", port)).unwrap();
}

#[test]
fn an_encrypted_listener_says_so_in_its_name() {
    let directory = Directory::new("encrypted");
    let path = directory.path("s");
    let encrypted = |address| one(BindAddr::Tls(Box::new(address)));
    let listener = encrypted(tcp("127.0.0.1", 0));
    assert_eq!(listener.address, format!("https://127.0.0.1:{}", port_of(&listener)));
    assert!(listener.is_tls());
    let listener = encrypted(unix(&path));
    assert_eq!(listener.address, format!("https+unix:{}", path.display()));
    assert!(listener.is_tls());
    assert!(!one(tcp("127.0.0.1", 0)).is_tls());
}

#[test]
fn every_listener_is_non_blocking_and_closes_on_exec() {
    let directory = Directory::new("flags");
    let inherited = TcpListener::bind("127.0.0.1:0").unwrap();
    let addresses =
        [tcp("127.0.0.1", 0), unix(&directory.path("s")), BindAddr::Fd(number(&inherited))];
    for listener in bind_all(&addresses, 16).unwrap() {
        assert!(SockRef::from(&listener.fd).nonblocking().unwrap(), "{}", listener.address);
        let flags = fcntl_getfd(&listener.fd).unwrap();
        assert!(flags.contains(FdFlags::CLOEXEC), "{}", listener.address);
    }
}

#[test]
fn a_port_can_be_bound_again_while_old_connections_linger() {
    let listener = one(tcp("127.0.0.1", 0));
    let port = port_of(&listener);
    let listener = TcpListener::from(listener.fd);
    listener.set_nonblocking(false).unwrap();
    let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    // The side that closes first is the one whose port lingers.
    drop(listener.accept().unwrap());
    drop(listener);
    drop(client);
    one(tcp("127.0.0.1", port));
}

#[test]
fn localhost_is_bound_on_every_address_it_has_with_one_port() {
    let listeners = bind_all(&[tcp("localhost", 0)], 16).unwrap();
    assert!(!listeners.is_empty());
    let port = port_of(&listeners[0]);
    for listener in &listeners {
        assert_eq!(port_of(listener), port);
    }
    let mut addresses: Vec<&str> = listeners.iter().map(|l| l.address.as_str()).collect();
    addresses.dedup();
    assert_eq!(addresses.len(), listeners.len());
}

#[test]
fn several_addresses_with_port_0_share_the_first_ones_port() {
    let addresses = ["127.0.0.1:0", "127.0.0.2:0"].map(|address| address.parse().unwrap());
    // Another test may have the port on the second address just now; `bind` tries again, too.
    let mut tries = (0..20).map(|_| tcp::bind_each("both", &addresses, 16));
    let listeners = tries.find_map(Result::ok).unwrap();
    let ports: Vec<u16> = listeners.iter().map(port_of).collect();
    assert_eq!(ports, [ports[0]; 2]);
}

#[test]
fn the_ipv6_wildcard_takes_ipv4_as_well() {
    if !has_ipv6() {
        return; // a container without IPv6 has nothing to test
    }
    for host in ["::", "", "*"] {
        let listener = one(tcp(host, 0));
        let port = port_of(&listener);
        assert_eq!(listener.address, format!("http://[::]:{port}"));
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        TcpStream::connect(("::1", port)).unwrap();
    }
}

#[test]
fn an_ipv6_address_is_written_in_brackets() {
    if !has_ipv6() {
        return;
    }
    let listener = one(tcp("::1", 0));
    assert_eq!(listener.address, format!("http://[::1]:{}", port_of(&listener)));
    let error = error(tcp("2001:db8::7", 80)); // RFC 3849: no machine has it
    assert!(error.ends_with("`[2001:db8::7]:80`"), "{error}");
}

#[test]
fn what_cannot_be_bound_is_named_with_what_to_do() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let in_use = format!(
        "address already in use, stop the other server or choose another port: `127.0.0.1:{port}`"
    );
    assert_eq!(error(tcp("127.0.0.1", port)), in_use);
    assert_eq!(
        error(tcp("203.0.113.7", 0)), // RFC 5737: no machine has it
        "this machine has no such address, use 0.0.0.0 or [::] to listen everywhere: \
         `203.0.113.7:0`"
    );
    let unresolved = error(tcp("not a host", 80));
    assert!(unresolved.starts_with("cannot resolve the host name"), "{unresolved}");
    assert!(unresolved.contains("`not a host`"), "{unresolved}");
}

#[test]
fn a_failure_leaves_nothing_behind() {
    let directory = Directory::new("nothing");
    let path = directory.path("s");
    let addresses = [unix(&path), tcp("203.0.113.7", 0)];
    assert!(bind_all(&addresses, 16).is_err());
    assert!(!path.exists());
}

#[test]
fn a_unix_listener_has_its_permissions_and_removes_its_file() {
    let directory = Directory::new("unix");
    let path = directory.path("s");
    let listener = one(unix(&path));
    assert_eq!(listener.address, format!("unix:{}", path.display()));
    assert_eq!(listener.kind, ListenerKind::Unix);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    UnixStream::connect(&path).unwrap();
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn a_socket_nobody_listens_on_is_replaced() {
    let directory = Directory::new("stale");
    let path = directory.path("s");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let _listener = one(unix(&path));
    UnixStream::connect(&path).unwrap();
}

#[test]
fn a_socket_somebody_listens_on_is_left_alone() {
    let directory = Directory::new("live");
    let path = directory.path("s");
    let other = UnixListener::bind(&path).unwrap();
    assert!(error(unix(&path)).starts_with("address already in use"));
    UnixStream::connect(&path).unwrap();
    drop(other);
}

#[test]
fn a_socket_whose_queue_is_full_is_left_alone() {
    let directory = Directory::new("full");
    let path = directory.path("s");
    let socket = socket2::Socket::new(Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let _waiting = UnixStream::connect(&path).unwrap();
    assert!(error(unix(&path)).starts_with("address already in use"));
}

#[test]
fn a_file_that_is_no_socket_is_left_alone() {
    let directory = Directory::new("file");
    let path = directory.path("precious");
    fs::write(&path, "data").unwrap();
    assert!(error(unix(&path)).starts_with("the path exists and is not a socket"));
    assert_eq!(fs::read_to_string(&path).unwrap(), "data");
}

#[test]
fn the_socket_of_a_successor_is_not_removed() {
    let directory = Directory::new("successor");
    let path = directory.path("s");
    let listener = one(unix(&path));
    fs::rename(&path, directory.path("away")).unwrap();
    let _successor = UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
}

#[test]
fn an_inherited_copy_does_not_remove_the_file() {
    let directory = Directory::new("copy");
    let path = directory.path("s");
    let listener = one(unix(&path));
    let copy = listener.fd.try_clone().unwrap();
    drop(Listener::inherited(copy, listener.address.clone()).unwrap());
    assert!(path.exists());
}

#[test]
fn a_name_with_an_at_sign_is_abstract() {
    let name = format!("@rsgi-{}", std::process::id());
    let listener = one(unix(Path::new(&name)));
    assert_eq!(listener.address, format!("unix:{name}"));
    assert!(!Path::new(&name).exists());
    let error = error(unix(Path::new(&name)));
    assert!(error.starts_with("address already in use"), "{error}");
}

#[test]
fn a_path_too_long_for_a_socket_is_an_error() {
    let path = "/tmp/".to_owned() + &"x".repeat(200);
    assert!(error(unix(Path::new(&path))).starts_with("cannot listen on `unix:/tmp/xxx"));
}

#[test]
fn an_inherited_descriptor_of_any_family_is_recognised() {
    let directory = Directory::new("inherited");
    let path = directory.path("s");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let listener = one(BindAddr::Fd(number(&tcp)));
    assert_eq!(listener.address, format!("http://{}", tcp.local_addr().unwrap()));
    assert_eq!(listener.kind, ListenerKind::Tcp);

    let listener = one(BindAddr::Fd(number(UnixListener::bind(&path).unwrap())));
    assert_eq!(listener.address, format!("unix:{}", path.display()));
    assert_eq!(listener.kind, ListenerKind::Unix);
    drop(listener);
    assert!(path.exists(), "the file belongs to whoever made it");
}

#[test]
fn an_inherited_descriptor_that_cannot_accept_is_refused() {
    let file = fs::File::open("/dev/null").unwrap();
    let datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
    let unbound = socket2::Socket::new(Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    for fd in [number(&file), number(&datagram), number(&unbound)] {
        let expected = format!("file descriptor is not a listening stream socket: `{fd}`");
        assert_eq!(error(BindAddr::Fd(fd)), expected);
    }
    for fd in [-1, 1, 2, 60_000] {
        let expected = format!("file descriptor is not open in this process: `{fd}`");
        assert_eq!(error(BindAddr::Fd(fd)), expected);
    }
}

#[test]
fn an_inherited_descriptor_is_taken_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let fd = number(&listener);
    let first = one(BindAddr::Fd(fd));
    assert_eq!(first.fd.as_raw_fd(), fd);
    assert!(error(BindAddr::Fd(fd)).starts_with(&format!("cannot listen on `fd://{fd}`")));
}

#[test]
fn activation_is_for_the_process_it_names() {
    let none = [
        (None, None),
        (Some("17"), None),
        (None, Some("1")),
        (Some("18"), Some("1")),
        (Some(""), Some("1")),
        (Some("17"), Some("0")),
    ];
    for (pid, fds) in none {
        assert!(activated(17, pid, fds).unwrap().is_empty(), "{pid:?} {fds:?}");
    }
    for fds in ["", "x", "-1", "99999999"] {
        let message = activated(17, Some("17"), Some(fds)).unwrap_err().to_string();
        assert_eq!(message, format!("LISTEN_FDS is not a number of descriptors: `{fds}`"));
    }
}
