//! The table of settings. **Add a setting here**: one row, and a field in [`crate::Config`].
//!
//! Command line, environment, keywords, `--help` and the reference page all come from it. The
//! canonical names are uvicorn's, short flags are gunicorn's; other spellings are aliases where
//! the meaning (and the unit) is the same. Longer than other files because it is one table.

use crate::compatibility::OTHERS;
use crate::completions::SHELLS;
use crate::draft::StreamShutdown;
use crate::setting::{Group, Kind, Reach, Setting, Variable};
use crate::types::{
    Account, ByteSize, Lifespan, LogLevel, ParseError, parse_fd, parse_host, parse_port, unix_path,
};
use crate::values;

/// Enough for the request line and fields that no client leaves out.
const SMALLEST_HEAD: ByteSize = ByteSize::kib(1);
/// Far above what any client sends; a worker keeps this much per connection.
const LARGEST_HEAD: ByteSize = ByteSize::kib(16 * 1024);

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
        doc: "`:port` is that port on all IPv4 addresses, and a host alone gets port 8000.",
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
        name: "workers",
        short: Some('w'),
        env: &[variable("WEB_CONCURRENCY")],
        placeholder: "N",
        default: "1",
        group: Group::Workers,
        help: "worker processes",
        doc: "Each has one thread and one event loop; about one per core is right.",
        read: |draft, text| {
            store(&mut draft.config.workers.workers, values::integer(text, 1, 1024))
        },
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
        default: "0",
        group: Group::Workers,
        help: "up to N more, at random",
        doc: "Drawn for each worker anew, so that they are not all replaced at once.",
        read: |draft, text| {
            let slot = &mut draft.config.workers.limit_max_requests_jitter;
            store(slot, values::at_least(text, 0))
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
        read: |draft, text| {
            let limit = values::or_none(text, |text| values::integer(text, 1, u32::MAX));
            store(&mut draft.config.http.limit_concurrency, limit)
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
        name: "log_level",
        words: LogLevel::WORDS,
        placeholder: "LEVEL",
        default: "info",
        group: Group::Logging,
        help: "critical, error, warning, info, debug, trace",
        doc: "In any case, or as Python's number for it.",
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
            let hint = "true or false, no file: the lines go to standard output";
            let value = values::switch(text).map_err(|_| ParseError::new(hint));
            store(&mut draft.config.log.access_log, value)
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
        assert_eq!(draft.finish(), Config::default());
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
            "pid",
            "user",
            "group",
            "header",
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
