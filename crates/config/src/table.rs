//! The table of settings. **Add a setting here**: one row, and a field in [`crate::Config`].
//!
//! Command line, environment, keywords, `--help` and the reference page all come from it. The
//! canonical names are uvicorn's, short flags are gunicorn's; other spellings are aliases where
//! the meaning (and the unit) is the same. Longer than other files because it is one table.

use std::time::Duration;

use crate::access_format;
use crate::compatibility::OTHERS;
use crate::completions::SHELLS;
use crate::draft::StreamShutdown;
use crate::proxies::{ForwardedField, ProxyProtocol, TrustedPeer};
use crate::setting::{Group, Kind, Reach, Setting, Variable};
use crate::types::{
    Account, ByteSize, HttpVersions, Interface, Lifespan, LogConfig, LogFile, LogFormat, LogLevel,
    MemoryLimit, ParseError, Ws, parse_fd, parse_host, parse_port, unix_path,
};
use crate::{tls, values};

/// Enough for the request line and fields that no client leaves out.
const SMALLEST_HEAD: ByteSize = ByteSize::kib(1);
/// Far above what any client sends; a worker keeps this much per connection.
const LARGEST_HEAD: ByteSize = ByteSize::kib(16 * 1024);

/// A close frame's worth.
const SMALLEST_MESSAGE: ByteSize = ByteSize(125);
/// Far above what fits into one message.
const LARGEST_MESSAGE: ByteSize = ByteSize::kib(1024 * 1024);

/// What stands between the parts of a list.
const LIST: &[char] = &[',', ' ', '\t', '\n'];

/// All settings of this server, in the order of `--help`; those of others are [`OTHERS`].
pub(crate) static SETTINGS: &[Setting] = &[
    Setting {
        name: "app",
        env: &[variable("UVICORN_APP")],
        kind: Kind::Target,
        placeholder: "APP",
        group: Group::Application,
        help: "the application, as module:attribute",
        doc: "For example `main:app`. A bare `module` stands for its `app` or else its `application`, and \
              `module:factory()` for what `factory` returns.",
        read: |draft, text| {
            draft.config.app.target = Some(values::target(text)?);
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "factory",
        kind: Kind::Flag,
        default: "false",
        group: Group::Application,
        help: "APP is a function that makes the application",
        read: |draft, text| store(&mut draft.config.app.factory, values::switch(text)),
        ..Setting::ROW
    },
    Setting {
        name: "app_dir",
        kind: Kind::Text,
        placeholder: "DIR",
        group: Group::Application,
        help: "directory to import APP from",
        doc: "The current one if this is empty or not set.",
        read: |draft, text| store(&mut draft.config.app.app_dir, Ok(text.to_owned())),
        ..Setting::ROW
    },
    Setting {
        name: "chdir",
        aliases: &["working_dir"],
        kind: Kind::Text,
        placeholder: "DIR",
        reach: Reach::PROCESS,
        group: Group::Application,
        help: "directory to serve from",
        doc: "Entered once the settings are read. Without --app-dir, APP is imported from there.",
        read: |draft, text| store_some(&mut draft.launch.directory, values::directory(text)),
        ..Setting::ROW
    },
    Setting {
        name: "pythonpath",
        kind: Kind::List(&[',', ':']),
        placeholder: "DIR",
        reach: Reach::PROCESS,
        group: Group::Application,
        help: "directory for Python's path; may be repeated",
        doc: "Several can be given with commas between them.",
        read: |draft, text| {
            draft.launch.python_path.extend(values::directories(text)?);
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "interface",
        words: Interface::WORDS,
        placeholder: "WORD",
        default: "auto",
        group: Group::Application,
        help: "what APP speaks: auto, asgi3, asgi2, wsgi",
        doc: "`auto` is ASGI 3, and ASGI 2 for what takes one argument. WSGI has to be asked for, needs the extra \
              `rsgi[wsgi]`, and is explained in [Flask](../guides/flask.md). `asgi` is `asgi3`, as in granian.",
        read: |draft, text| store(&mut draft.config.app.interface, text.parse::<Interface>()),
        ..Setting::ROW
    },
    Setting {
        name: "wsgi_threads",
        placeholder: "N",
        default: "10",
        group: Group::Application,
        help: "calls of a WSGI APP at once, in each worker",
        doc: "A WSGI application blocks while it works, so each call has a thread; further requests wait. Every \
              thread may hold a connection to the database: `--workers` times this is what that has to allow. \
              No ASGI application needs it.",
        read: |draft, text| {
            store(&mut draft.config.app.wsgi_threads, values::integer(text, 1, 1000))
        },
        ..Setting::ROW
    },
    Setting {
        name: "lifespan",
        aliases: &["asgi_lifespan"],
        words: Lifespan::WORDS,
        placeholder: "WORD",
        default: "auto",
        group: Group::Application,
        help: "tell APP of start and stop: auto, on, off",
        doc: "`auto` tries, and goes on without if the application does not support it; with \
              `on` that is a failed start.",
        read: |draft, text| store(&mut draft.config.app.lifespan, text.parse::<Lifespan>()),
        ..Setting::ROW
    },
    Setting {
        name: "reset_contextvars",
        kind: Kind::Flag,
        default: "false",
        group: Group::Application,
        help: "give each request an empty context",
        doc: "Without it, a request finds the context variables as the program set them before the server started.",
        read: |draft, text| store(&mut draft.config.app.reset_contextvars, values::switch(text)),
        ..Setting::ROW
    },
    Setting {
        name: "root_path",
        aliases: &["url_path_prefix"],
        kind: Kind::Text,
        placeholder: "PATH",
        group: Group::Application,
        help: "path of APP as the proxy in front has it",
        doc: "Starts with `/`; a `/` at its end is dropped.",
        read: |draft, text| store(&mut draft.config.app.root_path, values::root_path(text)),
        ..Setting::ROW
    },
    Setting {
        name: "host",
        kind: Kind::Text,
        placeholder: "HOST",
        default: "127.0.0.1",
        group: Group::Binding,
        help: "host to listen on",
        doc: "A name or an address. Only this machine can reach the default; `0.0.0.0` or `::` is \
              every address.",
        read: |draft, text| store_some(&mut draft.listen.host, parse_host(text)),
        ..Setting::ROW
    },
    Setting {
        name: "port",
        placeholder: "PORT",
        default: "8000",
        group: Group::Binding,
        help: "port to listen on, 0 for any",
        doc: "If neither this nor another address is set, the variable `PORT` is used, and then \
              the host is `0.0.0.0`: that is what platforms that set it expect.",
        read: |draft, text| store_some(&mut draft.listen.port, parse_port(text)),
        ..Setting::ROW
    },
    Setting {
        name: "bind",
        short: Some('b'),
        kind: Kind::List(&[',', ' ', '\t', '\n']),
        placeholder: "ADDRESS",
        group: Group::Binding,
        help: "instead: host:port, [v6]:port, unix:path, fd://N; may be repeated",
        doc: "`:port` is that port on all IPv4 addresses, and a host alone gets port 8000. `https://host:port`, \
              `https+unix:path` and `https+fd://N` are encrypted, the same with `http` are not, and the rest \
              is if there is a certificate.",
        read: |draft, text| {
            draft.listen.binds.push(text.parse()?);
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "uds",
        kind: Kind::Text,
        placeholder: "PATH",
        group: Group::Binding,
        help: "Unix socket to listen on",
        read: |draft, text| store_some(&mut draft.listen.uds, unix_path(text)),
        ..Setting::ROW
    },
    Setting {
        name: "uds_permissions",
        kind: Kind::Octal,
        placeholder: "MODE",
        default: "0666",
        group: Group::Binding,
        help: "octal mode of Unix sockets",
        doc: "The default lets every user connect: a proxy usually runs as another user. The \
              directory can be more restrictive.",
        read: |draft, text| {
            store_some(&mut draft.listen.uds_permissions, values::permissions(text))
        },
        ..Setting::ROW
    },
    Setting {
        name: "fd",
        placeholder: "N",
        group: Group::Binding,
        help: "inherited listening socket",
        read: |draft, text| store_some(&mut draft.listen.fd, parse_fd(text)),
        ..Setting::ROW
    },
    Setting {
        name: "backlog",
        placeholder: "N",
        default: "2048",
        group: Group::Binding,
        help: "connections not yet accepted",
        doc: "The kernel keeps so many until a worker accepts them, but no more than its own limit \
              (`net.core.somaxconn`).",
        read: |draft, text| store(&mut draft.config.bind.backlog, values::integer(text, 1, 65535)),
        ..Setting::ROW
    },
    Setting {
        name: "admin_bind",
        kind: Kind::Text,
        placeholder: "ADDRESS",
        default: "none",
        group: Group::Binding,
        help: "health and metrics: host:port or unix:path",
        doc: "Probes, Prometheus metrics and the list of workers, told by the supervisor. For operators \
              only: choose an address that the public cannot reach. A Unix socket has mode 0600.",
        read: |draft, text| {
            store(&mut draft.config.bind.admin, values::or_none(text, values::admin_address))
        },
        ..Setting::ROW
    },
    Setting {
        name: "workers",
        short: Some('w'),
        env: &[variable("WEB_CONCURRENCY")],
        placeholder: "N",
        default: "1",
        group: Group::Workers,
        help: "worker processes",
        doc: "Each has one thread and one event loop; about one per core is right. `auto` starts two per processor and one more, as \
              far as memory has room: the processors are those of the affinity mask and of the cgroup's quota, rounded up, and \
              where the cgroup has a memory limit the first worker's size decides how many fit.",
        read: |draft, text| store(&mut draft.config.workers.workers, values::workers(text)),
        ..Setting::ROW
    },
    Setting {
        name: "on_start",
        kind: Kind::Text,
        placeholder: "FUNCTION",
        group: Group::Workers,
        help: "run module:function once, before any worker",
        doc: "For migrations. The function, `def` or `async def`, runs without arguments in a process of its own, and may take as long \
              as `--timeout-worker-startup`. If it fails, the server ends with exit status 3. It is not run again for a reload or \
              for a worker that is replaced.",
        read: |draft, text| store_some(&mut draft.config.workers.on_start, values::function(text)),
        ..Setting::ROW
    },
    Setting {
        name: "preload",
        kind: Kind::Switch,
        default: "false",
        group: Group::Workers,
        help: "import APP once and fork workers from that",
        doc: "Workers then share the memory of what the import has made. See [Preloading](../guides/preload.md).",
        read: |draft, text| store(&mut draft.config.workers.preload, values::switch(text)),
        ..Setting::ROW
    },
    Setting {
        name: "shutdown_delay",
        placeholder: "TIME",
        default: "0s",
        group: Group::Workers,
        help: "go on accepting so long on a stop",
        doc: "For a load balancer that learns of the stop only now: in that time readiness is off, \
              new connections are served, and every response says `connection: close`. The grace \
              for requests begins behind it.",
        read: |draft, text| store(&mut draft.config.workers.shutdown_delay, values::duration(text)),
        ..Setting::ROW
    },
    Setting {
        name: "timeout_graceful_shutdown",
        aliases: &["graceful_timeout", "workers_kill_timeout"],
        placeholder: "TIME",
        default: "30s",
        group: Group::Workers,
        help: "grace for requests on a stop",
        doc: "So long may requests in flight still take when the server stops. Container platforms kill after a while of their own (Docker after 10 seconds, \
              Kubernetes after 30): keep this below it.",
        read: |draft, text| {
            let slot = &mut draft.config.workers.timeout_graceful_shutdown;
            store(slot, values::duration(text))
        },
        ..Setting::ROW
    },
    Setting {
        name: "timeout_stream_shutdown",
        placeholder: "TIME",
        default: "auto",
        group: Group::Workers,
        help: "grace for streams on a stop, or none",
        doc: "A response that has begun by then and has not ended is a stream: its application \
              receives `http.disconnect`, may still send its last words, and ends by itself if it \
              listens. `auto` is a third of `--timeout-graceful-shutdown`, `none` tells nobody. \
              Counts from the same moment as that one.",
        read: |draft, text| {
            let read = |text: &str| values::or_none(text, values::duration);
            draft.stream_shutdown = match values::or_auto(text, read)? {
                None => StreamShutdown::Auto,
                Some(None) => StreamShutdown::Never,
                Some(Some(limit)) => StreamShutdown::After(limit),
            };
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "timeout_worker_startup",
        placeholder: "TIME",
        default: "60s",
        group: Group::Workers,
        help: "limit for import and startup",
        read: |draft, text| {
            let slot = &mut draft.config.workers.timeout_worker_startup;
            store(slot, values::positive_duration(text))
        },
        ..Setting::ROW
    },
    Setting {
        name: "timeout",
        aliases: &["timeout_worker_healthcheck"],
        short: Some('t'),
        placeholder: "TIME",
        default: "30s",
        group: Group::Workers,
        help: "replace a worker blocked this long",
        doc: "Not a limit for requests: it is about an event loop that stands still, or a process that does. Stacks and requests are logged \
              first. `0` is no limit. A loop that a debugger holds does not count.",
        read: |draft, text| store(&mut draft.config.workers.timeout, values::duration(text)),
        ..Setting::ROW
    },
    Setting {
        name: "slow_loop_warning",
        placeholder: "TIME",
        default: "1s",
        group: Group::Workers,
        help: "log where an event loop is blocked",
        doc: "After this time without progress, with the Python stack and the requests in flight. `0` turns it off.",
        read: |draft, text| {
            store(&mut draft.config.workers.slow_loop_warning, values::duration(text))
        },
        ..Setting::ROW
    },
    Setting {
        name: "limit_max_requests",
        aliases: &["max_requests"],
        placeholder: "N",
        default: "none",
        group: Group::Workers,
        help: "replace a worker after N requests",
        doc: "`0` is the same as `none`, as in gunicorn.",
        read: |draft, text| {
            let limit = values::or_none(text, |text| values::at_least(text, 0))?;
            draft.config.workers.limit_max_requests = limit.filter(|limit| *limit > 0);
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "limit_max_requests_jitter",
        aliases: &["max_requests_jitter"],
        placeholder: "N",
        default: "auto",
        group: Group::Workers,
        help: "up to N more, at random",
        doc: "Drawn for each worker anew, so that workers that were started together are not due together. `auto` is a tenth \
              of `--limit-max-requests`.",
        read: |draft, text| {
            let slot = &mut draft.config.workers.limit_max_requests_jitter;
            store(slot, values::or_auto(text, |text| values::at_least(text, 0)))
        },
        ..Setting::ROW
    },
    Setting {
        name: "workers_max_rss",
        placeholder: "SIZE",
        default: "none",
        group: Group::Workers,
        help: "replace a worker above this resident memory",
        doc: "For each worker by itself: a size, or a part of the container's memory limit such as `20%` (without a limit, of the \
              machine's memory). Looked at every 10 seconds. Up to a tenth is added at random for each worker, so that workers \
              that grow alike are not due together.",
        read: |draft, text| {
            let slot = &mut draft.config.workers.workers_max_rss;
            store(slot, values::or_none(text, str::parse::<MemoryLimit>))
        },
        ..Setting::ROW
    },
    Setting {
        name: "workers_lifetime",
        placeholder: "TIME",
        default: "none",
        group: Group::Workers,
        help: "replace a worker after this time",
        doc: "Counted from when it was ready, at least a second. Up to a tenth is added at random for each worker.",
        read: |draft, text| {
            let slot = &mut draft.config.workers.workers_lifetime;
            store(slot, values::or_none(text, values::lifetime))
        },
        ..Setting::ROW
    },
    Setting {
        name: "pid",
        aliases: &["pid_file", "pidfile"],
        kind: Kind::Text,
        placeholder: "FILE",
        group: Group::Workers,
        help: "file for the supervisor's process number",
        doc: "Written once the addresses are bound, removed at the end. A file that names a process \
              that runs is an error.",
        read: |draft, text| store_some(&mut draft.config.workers.pid, values::path(text)),
        ..Setting::ROW
    },
    Setting {
        name: "user",
        short: Some('u'),
        placeholder: "USER",
        group: Group::Workers,
        help: "user to become once addresses are bound",
        doc: "A name or a number. Supervisor and workers run as this user, with its groups; Unix \
              sockets belong to it. A number without a name needs `--group`, too.",
        read: |draft, text| store_some(&mut draft.config.workers.user, text.parse::<Account>()),
        ..Setting::ROW
    },
    Setting {
        name: "group",
        short: Some('g'),
        placeholder: "GROUP",
        group: Group::Workers,
        help: "group to become, if not the user's own",
        doc: "A name or a number.",
        read: |draft, text| store_some(&mut draft.config.workers.group, text.parse::<Account>()),
        ..Setting::ROW
    },
    Setting {
        name: "reload",
        kind: Kind::Switch,
        default: "false",
        group: Group::Reload,
        help: "restart when files change",
        doc: "For development. Streams and WebSockets are cut, and code that does not start is shown in the browser until it is \
              mended. See [Development](../guides/development.md).",
        read: |draft, text| store(&mut draft.config.reload.is_on, values::switch(text)),
        ..Setting::ROW
    },
    Setting {
        name: "reload_dir",
        aliases: &["reload_dirs", "reload_paths"],
        kind: Kind::List(&[',', ':']),
        placeholder: "DIR",
        group: Group::Reload,
        help: "watch this directory; may be repeated",
        doc: "The current one if none is given. Hidden directories, virtual environments, `__pycache__`, `node_modules`, `site-packages` \
              and what Git ignores are left out.",
        read: |draft, text| {
            draft.config.reload.directories.push(values::directory(text)?);
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "reload_include",
        aliases: &["reload_includes", "reload_extra_file"],
        kind: Kind::List(&[',', ' ', '\t', '\n']),
        placeholder: "GLOB",
        group: Group::Reload,
        help: "also these files; may be repeated",
        doc: "Beside `*.py`. A pattern without `/` is about names, one with about the end of a path; a directory is watched as with `--reload-dir`, \
              and a file wherever it lies.",
        read: |draft, text| {
            draft.config.reload.include.push(values::pattern(text)?);
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "reload_exclude",
        aliases: &["reload_excludes", "reload_ignore_dirs", "reload_ignore_paths"],
        kind: Kind::List(&[',', ' ', '\t', '\n']),
        placeholder: "GLOB",
        group: Group::Reload,
        help: "not these files or directories; may be repeated",
        doc: "Beside `.*`, `.py[cod]`, `.sw.*` and `~*`.",
        read: |draft, text| {
            draft.config.reload.exclude.push(values::pattern(text)?);
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "reload_delay",
        placeholder: "TIME",
        default: "0.25s",
        group: Group::Reload,
        help: "time between looks at files (--reload-poll)",
        doc: "Changes that the kernel reports are acted on at once.",
        read: |draft, text| store(&mut draft.config.reload.delay, values::positive_duration(text)),
        ..Setting::ROW
    },
    Setting {
        name: "reload_poll",
        env: &[variable("WATCHFILES_FORCE_POLLING")],
        kind: Kind::Switch,
        default: "auto",
        group: Group::Reload,
        help: "look at files instead of waiting for events",
        doc: "By default only on file systems whose changes the kernel does not report, because they are made elsewhere: NFS, SMB, \
              9p, FUSE and virtiofs, as in Docker Desktop, virtual machines and WSL.",
        read: |draft, text| store(&mut draft.config.reload.poll, values::polling(text)),
        ..Setting::ROW
    },
    Setting {
        name: "http",
        placeholder: "VERSION",
        default: "auto",
        group: Group::Http,
        help: "versions of HTTP to speak: auto, 1, 2",
        doc: "With `auto`, HTTP/1.1 and HTTP/2 on the same port: by ALPN where it is encrypted, by prior knowledge \
              elsewhere. uvicorn's names of parsers (`h11`, `httptools`, `zttp`) are the same as `auto`.",
        read: |draft, text| store(&mut draft.config.http.versions, text.parse::<HttpVersions>()),
        ..Setting::ROW
    },
    Setting {
        name: "timeout_keep_alive",
        aliases: &["keep_alive"],
        placeholder: "TIME",
        default: "5s",
        group: Group::Http,
        help: "limit for an idle connection",
        doc: "A connection without a request is closed after this time. A proxy in front should close its idle connections earlier than this.",
        read: |draft, text| {
            store(&mut draft.config.http.timeout_keep_alive, values::duration(text))
        },
        ..Setting::ROW
    },
    Setting {
        name: "timeout_request_header",
        placeholder: "TIME",
        default: "30s",
        group: Group::Http,
        help: "limit for a request head",
        read: |draft, text| {
            let slot = &mut draft.config.http.timeout_request_header;
            store(slot, values::positive_duration(text))
        },
        ..Setting::ROW
    },
    Setting {
        name: "limit_request_head_size",
        aliases: &["h11_max_incomplete_event_size", "http1_buffer_size"],
        placeholder: "SIZE",
        default: "64KiB",
        group: Group::Http,
        help: "limit for a request head",
        doc: "The request line and all fields, from 1KiB to 16MiB. A longer head is answered with 431.",
        read: |draft, text| {
            let slot = &mut draft.config.http.limit_request_head_size;
            store(slot, values::size(text, SMALLEST_HEAD, LARGEST_HEAD))
        },
        ..Setting::ROW
    },
    Setting {
        name: "limit_request_fields",
        placeholder: "N",
        default: "100",
        group: Group::Http,
        help: "header fields per request",
        doc: "At most 1024. A head with more is answered with 431.",
        read: |draft, text| {
            let slot = &mut draft.config.http.limit_request_fields;
            store(slot, values::integer(text, 1, 1024))
        },
        ..Setting::ROW
    },
    Setting {
        name: "limit_request_body",
        placeholder: "SIZE",
        default: "none",
        group: Group::Http,
        help: "limit for a request body",
        doc: "A longer body is answered with 413.",
        read: |draft, text| {
            let size = values::or_none(text, str::parse::<ByteSize>)?;
            draft.config.http.limit_request_body = size.map(|size| size.0);
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "limit_concurrency",
        placeholder: "N",
        default: "none",
        group: Group::Http,
        help: "requests at once per worker, then 503",
        doc: "Requests with the application; idle connections and open WebSockets are not counted. The next one is answered with 503 and `retry-after`, or waits (`--limit-queue`).",
        read: |draft, text| {
            let limit = values::or_none(text, |text| values::integer(text, 1, u32::MAX));
            store(&mut draft.config.http.limit_concurrency, limit)
        },
        ..Setting::ROW
    },
    Setting {
        name: "limit_queue",
        placeholder: "N",
        default: "0",
        group: Group::Http,
        help: "requests per worker that wait for a place",
        doc: "When `--limit-concurrency` is reached, so many more wait, first come first served, and only those beyond them are answered with 503. No effect without that limit.",
        read: |draft, text| {
            let slot = &mut draft.config.http.limit_queue;
            store(slot, values::integer(text, 0, 1_000_000))
        },
        ..Setting::ROW
    },
    Setting {
        name: "timeout_queue",
        placeholder: "TIME",
        default: "10s",
        group: Group::Http,
        help: "how long they wait, then 503",
        doc: "For requests in the queue of `--limit-queue`.",
        read: |draft, text| {
            let slot = &mut draft.config.http.timeout_queue;
            store(slot, values::positive_duration(text))
        },
        ..Setting::ROW
    },
    Setting {
        name: "timeout_request",
        placeholder: "TIME",
        default: "none",
        group: Group::Http,
        help: "limit for a request without progress",
        doc: "The application has this time to send something, and again after everything it sends or the client sends or reads. Then its task is cancelled and the client gets 504, or a cut connection if the response has begun. Where the client is the one waited for, it gets 408 or is cut. Open WebSockets are exempt.",
        read: |draft, text| {
            let slot = &mut draft.config.http.timeout_request;
            store(slot, values::or_none(text, values::positive_duration))
        },
        ..Setting::ROW
    },
    Setting {
        name: "limit_connections",
        aliases: &["worker_connections"],
        placeholder: "N",
        default: "none",
        group: Group::Http,
        help: "open connections per worker",
        doc: "A worker with so many accepts no more until one closes; others wait in the backlog or go to other workers. Idle ones and WebSockets are counted; while others wait, the longest idle are closed.",
        read: |draft, text| {
            let limit = values::or_none(text, |text| values::integer(text, 1, u32::MAX));
            store(&mut draft.config.http.limit_connections, limit)
        },
        ..Setting::ROW
    },
    Setting {
        name: "server_header",
        kind: Kind::Switch,
        default: "true",
        group: Group::Http,
        help: "send a server header",
        read: |draft, text| store(&mut draft.config.http.server_header, values::switch(text)),
        ..Setting::ROW
    },
    Setting {
        name: "date_header",
        kind: Kind::Switch,
        default: "true",
        group: Group::Http,
        help: "send a date header",
        read: |draft, text| store(&mut draft.config.http.date_header, values::switch(text)),
        ..Setting::ROW
    },
    Setting {
        name: "header",
        aliases: &["headers"],
        kind: Kind::List(&['\n']),
        placeholder: "NAME:VALUE",
        group: Group::Http,
        help: "add to responses; may be repeated",
        doc: "Fields that frame a message, such as `content-length`, are refused.",
        read: |draft, text| {
            draft.config.http.headers.push(values::header(text)?);
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "proxy_headers",
        kind: Kind::Switch,
        default: "true",
        group: Group::Proxies,
        help: "believe forwarded headers of trusted proxies",
        doc: "See [Behind a proxy](../guides/behind-a-proxy.md).",
        read: |draft, text| store(&mut draft.config.proxy.headers, values::switch(text)),
        ..Setting::ROW
    },
    Setting {
        name: "forwarded_allow_ips",
        env: &[variable("FORWARDED_ALLOW_IPS")],
        kind: Kind::List(LIST),
        placeholder: "LIST",
        default: "127.0.0.1,::1,unix:",
        group: Group::Proxies,
        help: "proxies to trust: addresses, networks, private, unix:, *",
        doc: "With commas between them, or repeated. `unix:` is whoever connects to a Unix socket; `loopback` is this machine \
              (`127.0.0.0/8`, `::1`, `unix:`), and `private` is this machine and the private and link-local networks. `*` is \
              everybody: only where nobody but the proxy can connect. A name is what a trusted proxy calls another one in the header, \
              and is not looked up. `none` is nobody.",
        read: |draft, text| extend(&mut draft.proxies.allow_from, TrustedPeer::list(text)),
        ..Setting::ROW
    },
    Setting {
        name: "forwarded_headers",
        kind: Kind::List(LIST),
        placeholder: "LIST",
        default: "x-forwarded-for,x-forwarded-proto",
        group: Group::Proxies,
        help: "which of their headers to believe",
        doc: "Of `x-forwarded-for`, `x-forwarded-proto`, `x-forwarded-host`, `x-forwarded-prefix` and `forwarded`. Only those that the \
              proxy sets or removes: what it passes on is what any client has written. That is why the last three are not in the default.",
        read: |draft, text| extend(&mut draft.proxies.fields, ForwardedField::list(text)),
        ..Setting::ROW
    },
    Setting {
        name: "proxy_protocol",
        words: ProxyProtocol::WORDS,
        placeholder: "WORD",
        default: "off",
        group: Group::Proxies,
        help: "PROXY header before each connection: off, v1, v2, auto",
        doc: "`auto` takes both versions. A trusted peer has to send it, or is refused; others must not. It comes before TLS, in the time \
              of `--timeout-request-header`.",
        read: |draft, text| store(&mut draft.config.proxy.protocol, text.parse()),
        ..Setting::ROW
    },
    Setting {
        name: "proxy_allow_from",
        kind: Kind::List(LIST),
        placeholder: "LIST",
        default: "127.0.0.1,::1,unix:",
        group: Group::Proxies,
        help: "who sends a PROXY header",
        doc: "Written like `--forwarded-allow-ips`.",
        read: |draft, text| extend(&mut draft.proxies.protocol_allow_from, TrustedPeer::list(text)),
        ..Setting::ROW
    },
    Setting {
        name: "ssl_certfile",
        aliases: &["certfile", "ssl_certificate"],
        kind: Kind::List(&[',', '\n']),
        placeholder: "FILE",
        group: Group::Tls,
        help: "certificate and its chain (PEM); may be repeated",
        doc: "With it, addresses that do not say `http://` are encrypted. Several certificates, each with its \
              `--ssl-keyfile` in the same order, are chosen from by the name that the client asks for; the \
              first is for all others. The files are looked at again and again: new ones are used at once.",
        read: |draft, text| {
            draft.config.tls.certificates.push(tls::file(text)?);
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "ssl_keyfile",
        aliases: &["keyfile"],
        kind: Kind::List(&[',', '\n']),
        placeholder: "FILE",
        group: Group::Tls,
        help: "its private key (PEM), unless in the same file",
        doc: "PKCS#8, encrypted or not, PKCS#1 or SEC1.",
        read: |draft, text| {
            draft.config.tls.keys.push(tls::file(text)?);
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "ssl_keyfile_password",
        aliases: &["keyfile_password"],
        kind: Kind::Secret,
        placeholder: "TEXT",
        group: Group::Tls,
        help: "password of the private keys",
        doc: "Every user of the machine can see a command's arguments: the variable is the better place.",
        read: |draft, text| store_some(&mut draft.config.tls.password, Ok(tls::Secret::new(text))),
        ..Setting::ROW
    },
    Setting {
        name: "ssl_version",
        aliases: &["ssl_protocol_min"],
        placeholder: "VERSION",
        default: "TLSv1.2",
        group: Group::Tls,
        help: "oldest version: TLSv1.2, TLSv1.3",
        doc: "Or the number of a constant of Python's `ssl`: `PROTOCOL_TLS_SERVER` (17) leaves the default.",
        read: |draft, text| store(&mut draft.config.tls.min_version, tls::version(text)),
        ..Setting::ROW
    },
    Setting {
        name: "ssl_ciphers",
        aliases: &["ciphers"],
        kind: Kind::Text,
        placeholder: "NAMES",
        group: Group::Tls,
        help: "cipher suites, in order of preference",
        doc: "OpenSSL's or IANA's names with `:` between them, `ECDHE+AESGCM`, `ECDHE+CHACHA20` or `DEFAULT`. As in OpenSSL, those \
              of TLS 1.3 stay as they are unless some of them are named.",
        read: |draft, text| store(&mut draft.config.tls.ciphers, tls::ciphers(text)),
        ..Setting::ROW
    },
    Setting {
        name: "ssl_cert_reqs",
        aliases: &["cert_reqs", "verify_mode"],
        placeholder: "WORD",
        default: "none",
        group: Group::Tls,
        help: "clients' certificates: none, optional, required",
        doc: "Or `0`, `1`, `2`, as in Python.",
        read: |draft, text| {
            store(&mut draft.config.tls.client_certificates, tls::client_certificates(text))
        },
        ..Setting::ROW
    },
    Setting {
        name: "ssl_ca_certs",
        aliases: &["ca_certs", "ssl_ca"],
        kind: Kind::Text,
        placeholder: "FILE",
        group: Group::Tls,
        help: "authorities of clients' certificates (PEM)",
        read: |draft, text| store_some(&mut draft.config.tls.authorities, tls::file(text)),
        ..Setting::ROW
    },
    Setting {
        name: "ssl_crl",
        kind: Kind::List(&[',', '\n']),
        placeholder: "FILE",
        group: Group::Tls,
        help: "revoked clients' certificates (PEM)",
        doc: "Every authority of a chain needs its list, and a list that has expired refuses everybody, as in \
              nginx.",
        read: |draft, text| {
            draft.config.tls.revocations.push(tls::file(text)?);
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "ssl_handshake_timeout",
        placeholder: "TIME",
        default: "10s",
        group: Group::Tls,
        help: "limit for a handshake",
        read: |draft, text| {
            store(&mut draft.config.tls.handshake_timeout, values::positive_duration(text))
        },
        ..Setting::ROW
    },
    Setting {
        name: "redirect_https",
        kind: Kind::Flag,
        default: "false",
        group: Group::Tls,
        help: "plain addresses only send clients to the encrypted one",
        doc: "With 301 for GET and HEAD, and 308 for everything else. The application sees none of it.",
        read: |draft, text| store(&mut draft.config.tls.redirect, values::switch(text)),
        ..Setting::ROW
    },
    Setting {
        name: "ws",
        placeholder: "WORD",
        default: "auto",
        group: Group::WebSocket,
        help: "serve WebSockets: auto, none",
        doc: "With `none`, a request for one is answered as any other request. uvicorn's names of implementations \
              (`websockets`, `websockets-sansio`, `wsproto`) are the same as `auto`.",
        read: |draft, text| store(&mut draft.config.websocket.ws, text.parse::<Ws>()),
        ..Setting::ROW
    },
    Setting {
        name: "ws_max_size",
        aliases: &["websocket_max_message_size"],
        placeholder: "SIZE",
        default: "16MiB",
        group: Group::WebSocket,
        help: "limit for a message",
        doc: "Before and after decompression, at most 1GiB. A longer message closes the WebSocket with code 1009.",
        read: |draft, text| {
            let slot = &mut draft.config.websocket.ws_max_size;
            store(slot, values::size(text, SMALLEST_MESSAGE, LARGEST_MESSAGE))
        },
        ..Setting::ROW
    },
    Setting {
        name: "ws_max_queue",
        placeholder: "N",
        default: "32",
        group: Group::WebSocket,
        help: "messages that wait for APP",
        doc: "When so many, or 64KiB, wait to be received, the client has to wait, too.",
        read: |draft, text| {
            let slot = &mut draft.config.websocket.ws_max_queue;
            store(slot, values::integer(text, 1, 65535))
        },
        ..Setting::ROW
    },
    Setting {
        name: "ws_ping_interval",
        aliases: &["websocket_ping_interval"],
        placeholder: "TIME",
        default: "20s",
        group: Group::WebSocket,
        help: "time between pings",
        doc: "`0` or `none` for no pings.",
        read: |draft, text| {
            store(&mut draft.config.websocket.ws_ping_interval, duration_or_none(text))
        },
        ..Setting::ROW
    },
    Setting {
        name: "ws_ping_timeout",
        placeholder: "TIME",
        default: "20s",
        group: Group::WebSocket,
        help: "limit for the answer to a ping",
        doc: "A client that does not answer is closed with code 1011. `0` or `none` for no limit.",
        read: |draft, text| {
            store(&mut draft.config.websocket.ws_ping_timeout, duration_or_none(text))
        },
        ..Setting::ROW
    },
    Setting {
        name: "ws_per_message_deflate",
        kind: Kind::Switch,
        default: "true",
        group: Group::WebSocket,
        help: "compress messages",
        doc: "If the client offers it, and only messages of 256 bytes and more.",
        read: |draft, text| {
            store(&mut draft.config.websocket.ws_per_message_deflate, values::switch(text))
        },
        ..Setting::ROW
    },
    Setting {
        name: "log_level",
        words: LogLevel::WORDS,
        placeholder: "LEVEL",
        default: "info",
        group: Group::Logging,
        help: "critical, error, warning, info, debug, trace",
        doc: "In any case, or as Python's number for it. Lines about requests are at `info`, unless `--access-logfile` is given.",
        read: |draft, text| store(&mut draft.config.log.level, text.parse::<LogLevel>()),
        ..Setting::ROW
    },
    Setting {
        name: "access_log",
        kind: Kind::Switch,
        default: "true",
        group: Group::Logging,
        help: "log every request",
        read: |draft, text| {
            let hint = "true or false, no file: --access-logfile names one";
            let value = values::switch(text).map_err(|_| ParseError::new(hint));
            store(&mut draft.config.log.access_log, value)
        },
        ..Setting::ROW
    },
    Setting {
        name: "access_logfile",
        kind: Kind::Text,
        placeholder: "PATH",
        default: "-",
        group: Group::Logging,
        help: "file for the lines about requests, - for stdout",
        doc: "Appended to by all workers, and opened anew on SIGUSR1. `--no-access-log` wins. With this, also `-`, \
              the lines do not depend on `--log-level`.",
        read: |draft, text| {
            draft.has_access_logfile = true;
            store(&mut draft.config.log.access_logfile, LogFile::or_standard_stream(text))
        },
        ..Setting::ROW
    },
    Setting {
        name: "error_logfile",
        aliases: &["log_file", "error_log"],
        kind: Kind::Text,
        placeholder: "PATH",
        default: "-",
        group: Group::Logging,
        help: "file for all other lines, - for stderr",
        doc: "Appended to by the supervisor and all workers, and opened anew on SIGUSR1. What the application writes to standard \
              error itself still goes there.",
        read: |draft, text| {
            store(&mut draft.config.log.error_logfile, LogFile::or_standard_stream(text))
        },
        ..Setting::ROW
    },
    Setting {
        name: "log_format",
        words: LogFormat::WORDS,
        placeholder: "WORD",
        default: "text",
        group: Group::Logging,
        help: "what a line of both logs looks like: text, json",
        doc: "`json` is an object a line. The fields of both are in the [reference of the logs](logs.md).",
        read: |draft, text| store(&mut draft.config.log.format, text.parse::<LogFormat>()),
        ..Setting::ROW
    },
    Setting {
        name: "access_logformat",
        aliases: &["access_log_fmt"],
        kind: Kind::Text,
        placeholder: "FORMAT",
        group: Group::Logging,
        help: "the same for a line about a request, such as %(h)s %(r)s",
        doc: "With gunicorn's atoms, and hypercorn's and granian's: they are in the [reference of the logs](logs.md#own-format).",
        read: |draft, text| {
            store_some(&mut draft.config.log.access_logformat, access_format::parse(text))
        },
        ..Setting::ROW
    },
    Setting {
        name: "access_log_exclude",
        kind: Kind::List(&[',', ' ', '\n']),
        placeholder: "GLOB",
        group: Group::Logging,
        help: "paths without a line, such as /health*; may be repeated",
        doc: "`*` is any text, `?` any character. The path is compared as the client sent it, without the query.",
        read: |draft, text| {
            draft.config.log.access_log_exclude.push(values::path_glob(text)?);
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "slow_request_warning",
        placeholder: "TIME",
        default: "none",
        group: Group::Logging,
        help: "warn of a request that takes this long",
        doc: "Once it is over, and not of event streams. `0` or `none` for never.",
        read: |draft, text| {
            store(&mut draft.config.log.slow_request_warning, duration_or_none(text))
        },
        ..Setting::ROW
    },
    Setting {
        name: "log_python",
        kind: Kind::Switch,
        default: "false",
        group: Group::Logging,
        help: "log through Python's logging",
        doc: "What a worker logs goes to the loggers `rsgi.error` and `rsgi.access`. The application configures them, or nobody does, and \
              then they write what uvicorn would. The supervisor's own lines stay where they are.",
        read: |draft, text| store(&mut draft.config.log.python, values::switch(text)),
        ..Setting::ROW
    },
    Setting {
        name: "log_config",
        aliases: &["log_config_json"],
        kind: Kind::Text,
        placeholder: "FILE",
        group: Group::Logging,
        help: "the same, configured by an INI, JSON, YAML or TOML file",
        doc: "As its name ends: `.json`, `.yaml` or `.yml` (PyYAML has to be there), `.toml`; anything else is INI. A JSON object can be \
              given in place of the file, and in Python a `dict`. The supervisor's lines go the same way, unless it names the application's \
              code. `none`, or `None`, is the same as `--log-python`.",
        read: |draft, text| {
            draft.config.log.config = LogConfig::parse(text)?;
            draft.config.log.python = true;
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "use_colors",
        env: &[
            Variable { name: "NO_COLOR", means: Some("false") },
            Variable { name: "FORCE_COLOR", means: Some("true") },
        ],
        kind: Kind::Switch,
        default: "auto",
        group: Group::Logging,
        help: "colour the log",
        doc: "`auto` colours it on a terminal.",
        read: |draft, text| store(&mut draft.config.log.use_colors, values::switch_or_auto(text)),
        ..Setting::ROW
    },
    Setting {
        name: "config",
        short: Some('c'),
        kind: Kind::Text,
        placeholder: "FILE",
        reach: Reach::BEFORE_FILES,
        group: Group::Configuration,
        help: "file of settings instead of rsgi.toml and pyproject.toml",
        doc: "TOML, or if its name ends with `.py`, a configuration of gunicorn; `python:module` is \
              one, too. A `file:` before the name is dropped.",
        ..Setting::ROW
    },
    Setting {
        name: "env_file",
        aliases: &["env_files"],
        kind: Kind::List(&[',', '\n']),
        placeholder: "FILE",
        group: Group::Configuration,
        help: "variables, NAME=VALUE a line; may be repeated",
        doc: "For the application and for the settings, except this one. A variable that is set \
              already wins, and so does an earlier file. `$NAME` stands for another variable, \
              unless it is in single quotes; a value with spaces needs quotes.",
        ..Setting::ROW
    },
    Setting {
        name: "env",
        short: Some('e'),
        kind: Kind::List(&['\n']),
        placeholder: "NAME=VALUE",
        reach: Reach { variables: false, ..Reach::PROCESS },
        group: Group::Configuration,
        help: "variable for the application; may be repeated",
        doc: "Wins over a variable that is set.",
        read: |draft, text| {
            draft.launch.environment.push(values::assignment(text)?);
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "check_config",
        kind: Kind::Flag,
        default: "false",
        reach: Reach::LINE,
        group: Group::Configuration,
        help: "check the settings and exit",
        doc: "With status 0, or 2 and all problems.",
        read: |_, text| values::switch(text).map(drop),
        ..Setting::ROW
    },
    Setting {
        name: "print_config",
        kind: Kind::Flag,
        default: "false",
        reach: Reach::LINE,
        group: Group::Configuration,
        help: "show the settings, where each is from, and exit",
        doc: "In the form of a `rsgi.toml`. Secrets are not shown.",
        read: |_, text| values::switch(text).map(drop),
        ..Setting::ROW
    },
    Setting {
        name: "completions",
        placeholder: "SHELL",
        words: SHELLS,
        reach: Reach::LINE,
        group: Group::Configuration,
        help: "completions for a shell: bash, zsh, fish",
        read: |_, text| values::choice(text, SHELLS),
        ..Setting::ROW
    },
];

/// All rows, those for users of other servers at the end.
pub(crate) fn all() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().chain(OTHERS)
}

/// The rows that are settings of this server: what is shown and recommended.
pub(crate) fn own() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|setting| setting.group != Group::Compatibility)
}

/// The row with this name.
pub(crate) fn setting(name: &str) -> Option<&'static Setting> {
    all().find(|setting| setting.name == name)
}

/// A variable whose value is the setting's.
pub(crate) const fn variable(name: &'static str) -> Variable {
    Variable { name, means: None }
}

/// A time span, or nothing for `0` and `none`.
fn duration_or_none(text: &str) -> Result<Option<Duration>, ParseError> {
    Ok(values::or_none(text, values::duration)?.filter(|duration| !duration.is_zero()))
}

/// Adds the parts of a list to those before it.
fn extend<T>(
    slot: &mut Option<Vec<T>>,
    values: Result<Vec<T>, ParseError>,
) -> Result<(), ParseError> {
    slot.get_or_insert_default().extend(values?);
    Ok(())
}

fn store<T>(slot: &mut T, value: Result<T, ParseError>) -> Result<(), ParseError> {
    *slot = value?;
    Ok(())
}

fn store_some<T>(slot: &mut Option<T>, value: Result<T, ParseError>) -> Result<(), ParseError> {
    *slot = Some(value?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::draft::Draft;
    use crate::options::Config;

    #[test]
    fn defaults_of_the_table_are_the_default_values() {
        let mut draft = Draft::default();
        for setting in SETTINGS.iter().filter(|setting| !setting.default.is_empty()) {
            let read = (setting.read)(&mut draft, setting.default);
            assert_eq!(read, Ok(()), "{}", setting.name);
        }
        assert_eq!(draft.finish(), Ok(Config::default()));
    }

    #[test]
    fn every_shown_setting_that_is_not_optional_has_a_default() {
        let without: Vec<&str> = SETTINGS
            .iter()
            .filter(|setting| setting.group != Group::Compatibility && setting.default.is_empty())
            .map(|setting| setting.name)
            .collect();
        let optional = [
            "app",
            "app_dir",
            "chdir",
            "pythonpath",
            "root_path",
            "bind",
            "uds",
            "fd",
            "on_start",
            "pid",
            "user",
            "group",
            "reload_dir",
            "reload_include",
            "reload_exclude",
            "header",
            "ssl_certfile",
            "ssl_keyfile",
            "ssl_keyfile_password",
            "ssl_ciphers",
            "ssl_ca_certs",
            "ssl_crl",
            "access_logformat",
            "access_log_exclude",
            "log_config",
            "config",
            "env_file",
            "env",
            "completions",
        ];
        assert_eq!(without, optional);
    }

    #[test]
    fn no_name_is_used_twice() {
        let mut seen = HashSet::new();
        for setting in all() {
            assert!(seen.insert(setting.name.to_owned()), "{}", setting.name);
            for alias in setting.aliases {
                assert!(seen.insert((*alias).to_owned()), "{alias}");
            }
            if let Some(short) = setting.short {
                assert!(seen.insert(short.to_string()), "-{short}");
            }
            if setting.kind == Kind::Switch {
                assert!(seen.insert(format!("no_{}", setting.name)), "{}", setting.name);
            }
        }
    }

    #[test]
    fn every_row_is_filled_in() {
        for setting in all() {
            let is_switch =
                !matches!(setting.kind, Kind::Target | Kind::Text | Kind::Scalar | Kind::List(_));
            assert!(is_switch || !setting.placeholder.is_empty(), "{}", setting.name);
            assert!(!setting.help.is_empty(), "{}", setting.name);
            assert!(!setting.help.ends_with('.'), "{}", setting.name);
        }
    }
}
