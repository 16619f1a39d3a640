//! The flags of uvicorn 0.54, gunicorn 27, granian 2.8 and hypercorn 0.18 that mean nothing here.
//!
//! Each is accepted with a line that says why nothing comes of it, or, where the server would then
//! do something that nobody wants to find out later, refused with a sentence. A flag with the
//! meaning of one of ours is an alias in [`crate::table`] instead. Long because it is one table.

use crate::setting::{Kind, Setting};
use crate::types::{HttpVersions, Ws};
use crate::{tls, values};

const LOOP: &str = "workers run rsgi's own event loop";
pub(crate) const PARSER: &str = "there is one HTTP implementation";
const GRAMMAR: &str = "requests are judged by RFC 9112";
const HTTP2: &str = "HTTP/2 is spoken unless `--http 1` forbids it, and has no other setting";
const ONE_CLASS: &str = "there is one kind of worker";
const NO_THREADS: &str = "there is one event loop per worker and no thread count; use --workers";
const NO_STATSD: &str = "rsgi sends nothing to StatsD";
const NO_METRICS: &str = "no metrics are served under this name";
const NO_SYSLOG: &str = "the log goes to standard error; its reader passes it on";
const NO_POOL: &str = "there is no pool for heavy work beside the workers";
const NO_CONTROL: &str = "there is no control socket; the supervisor takes signals";
const NO_FILES: &str = "static files are for a proxy or the application to serve";
const ALWAYS_REPLACED: &str =
    "a worker that ends is always replaced, more slowly if it fails again";
const RSS: &str = "when memory is looked at is not a setting";
const HEAD_LIMIT: &str = "the limit is for the whole head: --limit-request-head-size";
const OPENSSL: &str = "there is no such choice in the TLS library";

/// What uvicorn reads from `UVICORN_...`. No other name: `UVICORN_THREADS` may be somebody's own.
pub(crate) const UVICORN: &[&str] = &[
    "access_log",
    "app",
    "app_dir",
    "backlog",
    "date_header",
    "env_file",
    "factory",
    "fd",
    "forwarded_allow_ips",
    "h11_max_incomplete_event_size",
    "header",
    "host",
    "http",
    "http2",
    "interface",
    "lifespan",
    "limit_concurrency",
    "limit_max_requests",
    "limit_max_requests_jitter",
    "log_config",
    "log_level",
    "loop",
    "port",
    "proxy_headers",
    "reload",
    "reload_delay",
    "reload_dir",
    "reload_exclude",
    "reload_include",
    "reset_contextvars",
    "root_path",
    "server_header",
    "ssl_ca_certs",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_ciphers",
    "ssl_keyfile",
    "ssl_keyfile_password",
    "ssl_version",
    "timeout_graceful_shutdown",
    "timeout_keep_alive",
    "timeout_worker_healthcheck",
    "uds",
    "use_colors",
    "workers",
    "ws",
    "ws_max_queue",
    "ws_max_size",
    "ws_per_message_deflate",
    "ws_ping_interval",
    "ws_ping_timeout",
];

/// All flags that mean nothing here, by subject.
pub(crate) static OTHERS: &[Setting] = &[
    // The kind of worker, the loop, the parser
    Setting { short: Some('k'), ..ignored("worker_class", "CLASS", ONE_CLASS) },
    Setting {
        aliases: &["asgi_loop"],
        doc: "`auto`, `asyncio`, `uvloop`, `zuvloop`, `rloop`, `winloop` or `module:factory`.",
        read: |_, text| match text.split_once(':') {
            Some((module, factory)) if !module.is_empty() && !factory.is_empty() => Ok(()),
            _ => {
                values::choice(text, &["auto", "asyncio", "uvloop", "zuvloop", "rloop", "winloop"])
            }
        },
        ..ignored("loop", "LOOP", LOOP)
    },
    ignored("http_parser", "PARSER", PARSER),
    ignored("task_impl", "WORD", "requests are asyncio's own tasks"),
    ignored("runtime_mode", "WORD", "a worker has one thread"),
    ignored("asgi_disconnect_grace_period", "TIME", "a disconnect does not cancel the application"),
    // Threads
    refused("threads", "N", "1", NO_THREADS),
    refused("blocking_threads", "N", "1", NO_THREADS),
    refused("runtime_threads", "N", "1", NO_THREADS),
    refused("runtime_blocking_threads", "N", "1", NO_THREADS),
    refused("dirty_threads", "N", "1", NO_POOL),
    ignored("blocking_threads_idle_timeout", "TIME", "there are no blocking threads"),
    // Processes
    Setting {
        short: Some('D'),
        ..refused("daemon", "", "", "rsgi stays in the foreground; use systemd or Docker")
    },
    ignored("initgroups", "", "the groups of --user are always taken on"),
    ignored("worker_tmp_dir", "DIR", "heartbeats are in shared memory, not in a file"),
    ignored("backpressure", "N", "use --limit-concurrency and --limit-queue"),
    Setting {
        aliases: &["process_name"],
        short: Some('n'),
        ..ignored("name", "NAME", "processes keep the interpreter's title")
    },
    Setting {
        default: "0",
        short: Some('m'),
        ..ignored(
            "umask",
            "MODE",
            "--uds-permissions is for sockets, the starter's umask for files",
        )
    },
    ignored("reuse_port", "", "all workers share each socket, and take connections by load"),
    Setting {
        short: Some('R'),
        ..ignored("enable_stdio_inheritance", "", "workers always have the standard streams")
    },
    ignored("spew", "", "use --log-level debug"),
    ignored("debug", "", "use --log-level debug"),
    ignored("respawn_failed_workers", "", ALWAYS_REPLACED),
    ignored("no_respawn_failed_workers", "", ALWAYS_REPLACED),
    ignored("respawn_interval", "TIME", ALWAYS_REPLACED),
    ignored("rss_sample_interval", "TIME", RSS),
    ignored("rss_samples", "N", RSS),
    refused("dirty_app", "APP", "", NO_POOL),
    ignored("dirty_workers", "N", NO_POOL),
    ignored("dirty_timeout", "TIME", NO_POOL),
    ignored("dirty_graceful_timeout", "TIME", NO_POOL),
    ignored("control_socket", "PATH", NO_CONTROL),
    ignored("control_socket_mode", "MODE", NO_CONTROL),
    ignored("no_control_socket", "", NO_CONTROL),
    // The application
    refused("paste", "FILE", "", "give the application as module:attribute"),
    refused("paster", "FILE", "", "give the application as module:attribute"),
    ignored("paste_global", "NAME=VALUE", "PasteDeploy is not used"),
    ignored("no_factory", "", "that is the default"),
    // Reloading
    ignored("reload_tick", "MS", "use --reload-delay, in seconds"),
    Setting {
        name: "reload_engine",
        placeholder: "WORD",
        words: &["auto", "poll", "inotify"],
        help: "`poll` is `--reload-poll`, `inotify` is `--no-reload-poll`",
        read: |draft, text| {
            values::choice(text, &["auto", "poll", "inotify"])?;
            draft.config.reload.poll = match text.to_ascii_lowercase().as_str() {
                "poll" => Some(true),
                "inotify" => Some(false),
                _ => None,
            };
            Ok(())
        },
        ..Setting::ROW
    },
    ignored("reload_ignore_patterns", "REGEX", "use --reload-exclude, with a shell's patterns"),
    ignored("reload_ignore_worker_failure", "", "code that does not start never ends --reload"),
    ignored("no_reload_ignore_worker_failure", "", "code that does not start never ends --reload"),
    // HTTP
    Setting {
        name: "http_protocols",
        kind: Kind::Text,
        placeholder: "LIST",
        help: "the same as `--http`: `h1` for 1, `h2` for 2, `h2,h1` for auto",
        read: |draft, text| {
            draft.config.http.versions = HttpVersions::from_protocols(text)?;
            Ok(())
        },
        ..Setting::ROW
    },
    ignored("http2", "", HTTP2),
    Setting { default: "off", ..ignored("http2_cleartext", "WORD", HTTP2) },
    ignored("http2_max_concurrent_streams", "N", HTTP2),
    ignored("http2_initial_window_size", "SIZE", HTTP2),
    ignored("http2_max_frame_size", "SIZE", HTTP2),
    ignored("http2_max_header_list_size", "SIZE", HTTP2),
    ignored("http2_adaptive_window", "", HTTP2),
    ignored("no_http2_adaptive_window", "", HTTP2),
    ignored("http2_initial_connection_window_size", "SIZE", HTTP2),
    ignored("http2_initial_stream_window_size", "SIZE", HTTP2),
    ignored("http2_keep_alive_interval", "TIME", HTTP2),
    ignored("http2_keep_alive_timeout", "TIME", HTTP2),
    ignored("http2_max_headers_size", "SIZE", HTTP2),
    ignored("http2_max_send_buffer_size", "SIZE", HTTP2),
    ignored("http1_header_read_timeout", "MS", "use --timeout-request-header, in seconds"),
    ignored("http1_keep_alive", "", "use --timeout-keep-alive"),
    ignored("no_http1_keep_alive", "", "use --timeout-keep-alive 0"),
    ignored("http1_pipeline_flush", "", "pipelined responses are always joined"),
    ignored("no_http1_pipeline_flush", "", "pipelined responses are always joined"),
    ignored("read_timeout", "TIME", "use --timeout-request-header"),
    ignored("limit_request_line", "SIZE", HEAD_LIMIT),
    ignored("limit_request_field_size", "SIZE", HEAD_LIMIT),
    ignored("permit_obsolete_folding", "", GRAMMAR),
    ignored("strip_header_spaces", "", GRAMMAR),
    ignored("permit_unconventional_http_method", "", GRAMMAR),
    ignored("permit_unconventional_http_version", "", GRAMMAR),
    ignored("casefold_http_method", "", GRAMMAR),
    ignored("header_map", "WORD", "ASGI passes header names as they are"),
    ignored("forwarder_headers", "LIST", "ASGI passes header names as they are"),
    ignored("no_sendfile", "", "sendfile is not used"),
    Setting {
        default: "http",
        ..refused("protocol", "WORD", "http", "rsgi speaks HTTP; let the proxy speak it, too")
    },
    ignored("uwsgi_allow_from", "LIST", "the uwsgi protocol is not spoken"),
    refused("server_name", "HOST", "", "hosts are for a proxy or the application to check"),
    refused("static_path_mount", "DIR", "", NO_FILES),
    ignored("static_path_route", "PATH", NO_FILES),
    ignored("static_path_dir_to_file", "NAME", NO_FILES),
    ignored("static_path_expires", "TIME", NO_FILES),
    ignored("quic_bind", "ADDRESS", "HTTP/3 is not spoken"),
    refused("insecure_bind", "ADDRESS", "", "the address says it: --bind http://ADDRESS"),
    refused("ssl_context_factory", "FUNCTION", "", "certificates are files: --ssl-certfile"),
    ignored("suppress_ragged_eofs", "", OPENSSL),
    ignored("do_handshake_on_connect", "", OPENSSL),
    Setting {
        name: "ssl_client_verify",
        kind: Kind::Switch,
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
        name: "no_ws",
        kind: Kind::Flag,
        help: "the same as `--ws none`",
        read: |draft, text| {
            if values::switch(text)? {
                draft.config.websocket.ws = Ws::None;
            }
            Ok(())
        },
        ..Setting::ROW
    },
    // Logs and metrics
    ignored("log", "", "use --log-level"),
    ignored("no_log", "", "use --log-level critical and --no-access-log"),
    ignored("logger_class", "CLASS", "use --log-config, or --log-python and the application"),
    ignored("capture_output", "", "standard output stays where it is"),
    ignored("log_syslog", "", NO_SYSLOG),
    ignored("log_syslog_to", "ADDRESS", NO_SYSLOG),
    ignored("log_syslog_prefix", "TEXT", NO_SYSLOG),
    ignored("log_syslog_facility", "WORD", NO_SYSLOG),
    ignored("disable_redirect_access_to_syslog", "", NO_SYSLOG),
    ignored("statsd_host", "ADDRESS", NO_STATSD),
    ignored("statsd_prefix", "TEXT", NO_STATSD),
    ignored("dogstatsd_tags", "LIST", NO_STATSD),
    ignored("enable_backlog_metric", "", NO_STATSD),
    ignored("metrics", "", NO_METRICS),
    ignored("no_metrics", "", NO_METRICS),
    ignored("metrics_address", "HOST", NO_METRICS),
    ignored("metrics_port", "PORT", NO_METRICS),
    ignored("metrics_scrape_interval", "TIME", NO_METRICS),
];

/// A flag that is accepted; with an empty placeholder, one without a value.
const fn ignored(name: &'static str, placeholder: &'static str, help: &'static str) -> Setting {
    Setting { name, kind: Kind::Ignored, placeholder, help, ..Setting::ROW }
}

/// A flag that is refused, unless its value is `harmless`.
const fn refused(
    name: &'static str,
    placeholder: &'static str,
    harmless: &'static str,
    help: &'static str,
) -> Setting {
    Setting { name, kind: Kind::Refused, placeholder, default: harmless, help, ..Setting::ROW }
}
