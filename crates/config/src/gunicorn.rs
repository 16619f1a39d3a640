//! `gunicorn.conf.py`: a Python program whose variables are settings.
//!
//! The program runs in a process of its own ([`Surroundings::python`], with the file's name as its
//! last argument) that writes one JSON object to its standard output: `settings` has `[value,
//! line]` by name, and if it failed there is `error` instead. So the supervisor never holds the
//! user's code. Owns gunicorn's names for settings; other variables of the file are none.
//!
//! What we have no use for, above all hooks, is told in one notice for the whole file.

use std::collections::BTreeMap;
use std::io::Read;
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::Problem;
use crate::given::{Given, Source};
use crate::keywords::{Value, shown, texts};
use crate::setting::{Kind, Setting};
use crate::surroundings::Surroundings;
use crate::table;

/// Far above what the settings of a server take.
const LONGEST_ANSWER: u64 = 4 << 20;

/// gunicorn's settings (27.0) that are not called like its flags, and the flags.
const RENAMED: [(&str, &str); 26] = [
    ("access_log_format", "access_logformat"),
    ("accesslog", "access_logfile"),
    ("dirty_apps", "dirty_app"),
    ("errorlog", "error_logfile"),
    ("keepalive", "keep_alive"),
    ("logconfig", "log_config"),
    ("logconfig_dict", "log_config"),
    ("logconfig_json", "log_config_json"),
    ("loglevel", "log_level"),
    ("pidfile", "pid"),
    ("preload_app", "preload"),
    ("proc_name", "name"),
    ("proxy_allow_ips", "proxy_allow_from"),
    ("raw_env", "env"),
    ("raw_paste_global_conf", "paste_global"),
    ("reload_extra_files", "reload_extra_file"),
    ("syslog", "log_syslog"),
    ("syslog_addr", "log_syslog_to"),
    ("syslog_facility", "log_syslog_facility"),
    ("syslog_prefix", "log_syslog_prefix"),
    ("uwsgi_allow_ips", "uwsgi_allow_from"),
    ("wsgi_app", "app"),
    // the same name for what has no flag of its own here
    ("sendfile", ""),
    ("control_socket_disable", ""),
    ("check_config", ""),
    ("print_config", ""),
];

/// gunicorn's settings that are called like its flags.
const SAME: &[&str] = &[
    "asgi_disconnect_grace_period",
    "asgi_lifespan",
    "asgi_loop",
    "backlog",
    "bind",
    "ca_certs",
    "capture_output",
    "casefold_http_method",
    "cert_reqs",
    "certfile",
    "chdir",
    "ciphers",
    "control_socket",
    "control_socket_mode",
    "daemon",
    "dirty_graceful_timeout",
    "dirty_threads",
    "dirty_timeout",
    "dirty_workers",
    "disable_redirect_access_to_syslog",
    "do_handshake_on_connect",
    "dogstatsd_tags",
    "enable_backlog_metric",
    "enable_stdio_inheritance",
    "forwarded_allow_ips",
    "forwarder_headers",
    "graceful_timeout",
    "group",
    "header_map",
    "http2_cleartext",
    "http2_initial_window_size",
    "http2_max_concurrent_streams",
    "http2_max_frame_size",
    "http2_max_header_list_size",
    "http_parser",
    "http_protocols",
    "initgroups",
    "keyfile",
    "limit_request_field_size",
    "limit_request_fields",
    "limit_request_line",
    "logger_class",
    "max_requests",
    "max_requests_jitter",
    "paste",
    "permit_obsolete_folding",
    "permit_unconventional_http_method",
    "permit_unconventional_http_version",
    "protocol",
    "proxy_protocol",
    "pythonpath",
    "reload",
    "reload_engine",
    "reuse_port",
    "root_path",
    "spew",
    "ssl_version",
    "statsd_host",
    "statsd_prefix",
    "strip_header_spaces",
    "suppress_ragged_eofs",
    "threads",
    "timeout",
    "umask",
    "user",
    "websocket_max_message_size",
    "worker_class",
    "worker_connections",
    "worker_tmp_dir",
    "workers",
];

/// Hooks, and settings without a flag.
const WITHOUT_FLAG: &[&str] = &[
    "child_exit",
    "default_proc_name",
    "dirty_post_fork",
    "dirty_worker_exit",
    "dirty_worker_init",
    "nworkers_changed",
    "on_dirty_starting",
    "on_exit",
    "on_reload",
    "on_starting",
    "post_fork",
    "post_request",
    "post_worker_init",
    "pre_exec",
    "pre_fork",
    "pre_request",
    "secure_scheme_headers",
    "ssl_context",
    "tmp_upload_dir",
    "when_ready",
    "worker_abort",
    "worker_exit",
    "worker_int",
];

/// What the process answers.
#[derive(Debug, Deserialize)]
struct Answer {
    #[serde(default)]
    settings: BTreeMap<String, (serde_json::Value, Option<u32>)>,
    error: Option<String>,
}

/// Reads a Python file, or what `python:module` names.
pub(crate) fn read(
    file: &str,
    surroundings: &Surroundings,
    problems: &mut Vec<Problem>,
    notices: &mut Vec<String>,
) -> Vec<Given> {
    let answer = match ask(file, surroundings) {
        Ok(Answer { error: None, settings }) => settings,
        Ok(Answer { error: Some(error), .. }) | Err(error) => {
            problems.push(Problem::of(file, error));
            return Vec::new();
        }
    };
    let mut given = Vec::new();
    let mut useless = Vec::new();
    for (name, (value, line)) in answer {
        if value.is_null() {
            continue;
        }
        if WITHOUT_FLAG.contains(&name.as_str()) {
            useless.push(name);
            continue;
        }
        let Some(flag) = flag_of(&name) else {
            continue; // a variable of the program's own
        };
        let place = line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}"));
        let setting = table::all().find(|one| one.reach.files && one.is_called(flag));
        let is_useless = |one: &Setting| matches!(one.kind, Kind::Ignored | Kind::Refused);
        let Some(setting) = setting.filter(|one| !is_useless(one)) else {
            if !asks_for_nothing(&value, setting) {
                useless.push(name);
            }
            continue;
        };
        let origin = format!("{place} {name}");
        let value = match value {
            // the one setting whose value is a dict
            serde_json::Value::Object(object) if name == "logconfig_dict" => {
                if object.is_empty() {
                    continue;
                }
                serde_json::Value::String(serde_json::Value::Object(object).to_string())
            }
            value => value,
        };
        let value = match plain(value) {
            Ok(value) => value,
            Err(kind) => {
                problems.push(Problem {
                    origin: Some(origin),
                    message: "expected text, a number or a list".to_owned(),
                    value: Some(kind),
                });
                continue;
            }
        };
        // gunicorn takes "a:80,b:80" for a list and "4" for a number
        let value = match (setting.kind, value) {
            (Kind::List(_), Value::Str(text)) if name == "bind" || name == "pythonpath" => {
                Value::List(text.split(',').map(|part| part.trim().to_owned()).collect())
            }
            (_, value) => value,
        };
        match texts(setting, &value) {
            Ok(values) => given.push(Given {
                setting,
                source: Source::File,
                origin,
                values: values.unwrap_or_default(),
            }),
            Err(expected) => problems.push(Problem {
                origin: Some(origin),
                message: format!("expected {expected}"),
                value: Some(setting.shown(&shown(&value))),
            }),
        }
    }
    if !useless.is_empty() {
        notices.push(format!("{file}: no effect here: {}", useless.join(", ")));
    }
    given
}

/// Whether a value of something useless is the one that it has here: switched off, nothing, or the
/// default.
fn asks_for_nothing(value: &serde_json::Value, setting: Option<&Setting>) -> bool {
    match value {
        serde_json::Value::Bool(value) => !value,
        serde_json::Value::Array(items) => items.is_empty(),
        serde_json::Value::String(text) => setting.is_some_and(|one| one.default == text),
        other => {
            let text = other.to_string();
            setting.is_some_and(|one| one.default == text)
        }
    }
}

/// What the flag for one of gunicorn's settings is called; nothing if it is none of those.
fn flag_of(name: &str) -> Option<&str> {
    let renamed = RENAMED.iter().find(|(known, _)| *known == name);
    renamed.map(|(_, flag)| *flag).or_else(|| SAME.contains(&name).then_some(name))
}

/// Runs the process.
fn ask(file: &str, surroundings: &Surroundings) -> Result<Answer, String> {
    let [program, arguments @ ..] = surroundings.python.as_slice() else {
        return Err("a Python file can only be read by the command `rsgi`".to_owned());
    };
    let mut child = Command::new(program)
        .args(arguments)
        .arg(file)
        .env_clear()
        .envs(&surroundings.variables)
        .current_dir(&surroundings.directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start Python: {error}"))?;
    let mut text = String::new();
    let read = child
        .stdout
        .take()
        .map_or(Ok(0), |stdout| stdout.take(LONGEST_ANSWER).read_to_string(&mut text));
    let status = child.wait().map_err(|error| format!("cannot wait for Python: {error}"))?;
    read.map_err(|error| format!("cannot read what Python says: {error}"))?;
    serde_json::from_str(&text).map_err(|_| format!("reading it ended with {status}"))
}

/// A value of JSON in the terms of keywords, or the Python type of one that has none.
fn plain(value: serde_json::Value) -> Result<Value, String> {
    Ok(match value {
        serde_json::Value::Null => Value::None,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, number) => Value::Float(number.unwrap_or(f64::NAN)),
        },
        serde_json::Value::String(text) => Value::Str(text),
        serde_json::Value::Array(items) => Value::List(
            items
                .into_iter()
                .map(|item| match item {
                    serde_json::Value::String(text) => text,
                    other => other.to_string(),
                })
                .collect(),
        ),
        // what is neither: the process sends its type
        serde_json::Value::Object(object) => {
            let kind = object.get("type").and_then(serde_json::Value::as_str);
            return Err(kind.unwrap_or("object").to_owned());
        }
    })
}
