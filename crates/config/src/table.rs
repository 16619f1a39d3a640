//! The table of settings. **Add a setting here**: one row, and a field in [`crate::Config`].
//!
//! Command line, environment, keywords, `--help` and the reference page all come from it. The
//! canonical names are uvicorn's, short flags are gunicorn's; other spellings are aliases where
//! the meaning (and the unit) is the same. Longer than other files because it is one table.

use crate::setting::{Group, Kind, Setting, Variable};
use crate::types::{
    ByteSize, Lifespan, LogLevel, ParseError, parse_fd, parse_host, parse_port, unix_path,
};
use crate::{tls, values};

/// Enough for the request line and fields that no client leaves out.
const SMALLEST_HEAD: ByteSize = ByteSize::kib(1);
/// Far above what any client sends; a worker keeps this much per connection.
const LARGEST_HEAD: ByteSize = ByteSize::kib(16 * 1024);

/// All settings, in the order of `--help`.
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
        name: "lifespan",
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
        name: "log_level",
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
        name: "worker_class",
        short: Some('k'),
        kind: Kind::Ignored,
        placeholder: "CLASS",
        help: "there is one kind of worker",
        ..Setting::ROW
    },
    Setting {
        name: "loop",
        kind: Kind::Ignored,
        placeholder: "LOOP",
        help: "workers run rsgi's own event loop",
        doc: "`auto`, `asyncio` or `uvloop`.",
        read: |_, text| values::choice(text, &["auto", "asyncio", "uvloop"]),
        ..Setting::ROW
    },
    Setting {
        name: "http",
        kind: Kind::Ignored,
        placeholder: "PARSER",
        help: "there is one HTTP implementation",
        doc: "`auto`, `h11` or `httptools`.",
        read: |_, text| values::choice(text, &["auto", "h11", "httptools"]),
        ..Setting::ROW
    },
    Setting {
        name: "ws",
        kind: Kind::Ignored,
        placeholder: "LIBRARY",
        help: "there is one WebSocket implementation",
        doc: "`auto`, `websockets`, `websockets-sansio` or `wsproto`.",
        read: |_, text| {
            values::choice(text, &["auto", "websockets", "websockets-sansio", "wsproto"])
        },
        ..Setting::ROW
    },
    Setting {
        name: "interface",
        kind: Kind::Ignored,
        placeholder: "INTERFACE",
        help: "applications are always called as ASGI 3",
        doc: "`auto` or `asgi3`.",
        read: |_, text| values::choice(text, &["auto", "asgi3"]),
        ..Setting::ROW
    },
    Setting {
        name: "ssl_client_verify",
        kind: Kind::Flag,
        help: "the same as `--ssl-cert-reqs required`",
        read: |draft, text| {
            if values::switch(text)? {
                draft.config.tls.client_certificates = tls::ClientCertificates::Required;
            }
            Ok(())
        },
        ..Setting::ROW
    },
    Setting {
        name: "threads",
        kind: Kind::Refused,
        placeholder: "N",
        help: "there is one event loop per worker and no thread count; use --workers",
        ..Setting::ROW
    },
    Setting {
        name: "daemon",
        short: Some('D'),
        kind: Kind::Refused,
        help: "rsgi stays in the foreground; use systemd or Docker",
        ..Setting::ROW
    },
];

/// The row with this name.
pub(crate) fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

const fn variable(name: &'static str) -> Variable {
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
            "root_path",
            "bind",
            "uds",
            "fd",
            "header",
            "ssl_certfile",
            "ssl_keyfile",
            "ssl_keyfile_password",
            "ssl_ciphers",
            "ssl_ca_certs",
            "ssl_crl",
        ];
        assert_eq!(without, optional);
    }

    #[test]
    fn no_name_is_used_twice() {
        let mut seen = HashSet::new();
        for setting in SETTINGS {
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
        for setting in SETTINGS {
            let is_switch = matches!(setting.kind, Kind::Switch | Kind::Flag | Kind::Refused);
            assert!(is_switch || !setting.placeholder.is_empty(), "{}", setting.name);
            assert!(!setting.help.is_empty(), "{}", setting.name);
            assert!(!setting.help.ends_with('.'), "{}", setting.name);
        }
    }
}
