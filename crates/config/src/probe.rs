//! The commands `rsgi status` and `rsgi health`: whom to ask, found as the server finds it.
//!
//! Owns: their few options. Where none of them says it, the address is the one that a server with
//! this environment would listen on. Must not know how to ask.

use std::ffi::OsString;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::command::describe;
use crate::error::{LoadError, Problem, report};
use crate::given::{Given, Source, settle_some};
use crate::load::{add_platform_port, drop_service_link, from_environment};
use crate::options::Config;
use crate::table::setting;
use crate::types::BindAddr;
use crate::values;

/// The settings that say where a server listens.
const ADDRESSES: [&str; 5] = ["host", "port", "bind", "uds", "fd"];

const STATUS_HELP: &str = "\
Shows the workers of a running server.

Usage: rsgi status [--admin ADDRESS] [--timeout TIME]

  --admin ADDRESS  the server's --admin-bind [env: RSGI_ADMIN_BIND]
  --timeout TIME   how long to wait for the answer [default: 5s]
  -h, --help       show this text

Exits with 0, or with 1 if the server cannot be reached.
";

const HEALTH_HELP: &str = "\
Tells whether a server is ready: for health checks of containers.

Usage: rsgi health [OPTIONS]

  --admin ADDRESS  ask the admin listener: its /readyz decides
                   [env: RSGI_ADMIN_BIND]
  --port PORT, --host HOST, --bind ADDRESS, --uds PATH
                   ask the server itself: any HTTP response is good
                   [env: RSGI_PORT, PORT and so on, as the server reads them]
  --url URL        ask for this http:// URL: a status below 400 is good
  --timeout TIME   how long to wait for the answer [default: 5s]
  -h, --help       show this text

Exits with 0 if the server is ready, otherwise with 1.
";

/// Whom to ask, and for how long to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe<T> {
    /// Whom.
    pub target: T,
    /// How long.
    pub timeout: Duration,
}

/// Who tells whether a server is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthCheck {
    /// Its admin listener.
    Admin(BindAddr),
    /// The server itself; every answer is good.
    Server(BindAddr),
    /// One of its pages, which must not be an error.
    Url {
        /// Where.
        address: BindAddr,
        /// Path and query.
        path: String,
    },
}

/// Reads the arguments behind `rsgi status`. The target is `None` if nothing says where the admin
/// listener is.
pub fn load_status(
    args: impl IntoIterator<Item = OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Probe<Option<BindAddr>>, LoadError> {
    let matches = parse(command(&["admin", "timeout"]), args, STATUS_HELP)?;
    let mut problems = Vec::new();
    let timeout = timeout(&matches, &mut problems);
    let config = addresses(&matches, &["admin_bind"], env, problems, STATUS_HELP)?;
    Ok(Probe { target: config.bind.admin, timeout })
}

/// Reads the arguments behind `rsgi health`.
pub fn load_health(
    args: impl IntoIterator<Item = OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Probe<HealthCheck>, LoadError> {
    const NAMES: [&str; 7] = ["admin", "timeout", "url", "host", "port", "bind", "uds"];
    let matches = parse(command(&NAMES), args, HEALTH_HELP)?;
    let mut problems = Vec::new();
    let timeout = timeout(&matches, &mut problems);
    let chosen: Vec<&str> =
        ["admin", "url"].into_iter().filter(|name| matches.contains_id(name)).collect();
    let names_server = ADDRESSES.iter().any(|name| has(&matches, name));
    if chosen.len() + usize::from(names_server) > 1 {
        problems.push(Problem::general("give one of --admin, --url and the server\'s address"));
    }
    let url = given_text(&matches, "url").map(|text| {
        read_url(&text).unwrap_or_else(|problem| {
            problems.push(problem);
            (Config::default().bind.addresses.remove(0), String::new())
        })
    });
    let names: &[&str] = match (&url, names_server, chosen.is_empty()) {
        (Some(_), ..) => &[],
        (None, true, _) => &ADDRESSES,
        (None, false, false) => &["admin_bind"],
        (None, false, true) => &["admin_bind", "host", "port", "bind", "uds", "fd"],
    };
    let bind = addresses(&matches, names, env, problems, HEALTH_HELP)?.bind;
    let target = match (url, bind.admin, bind.addresses.into_iter().next()) {
        (Some((address, path)), ..) => HealthCheck::Url { address, path },
        (None, Some(admin), _) => HealthCheck::Admin(admin),
        (None, None, address) => {
            let fallback = || Config::default().bind.addresses.remove(0);
            HealthCheck::Server(address.unwrap_or_else(fallback))
        }
    };
    Ok(Probe { target, timeout })
}

fn command(names: &[&'static str]) -> Command {
    let value = |name: &'static str| Arg::new(name).long(name).action(ArgAction::Set);
    Command::new("rsgi")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .arg(Arg::new("help").short('h').long("help").action(ArgAction::SetTrue))
        .args(names.iter().map(|name| value(name)))
}

fn parse(
    command: Command,
    args: impl IntoIterator<Item = OsString>,
    help: &str,
) -> Result<ArgMatches, LoadError> {
    let args: Vec<OsString> = args.into_iter().collect();
    if args.iter().any(|argument| argument == "-h" || argument == "--help") {
        return Err(LoadError::Help(help.to_owned()));
    }
    command.try_get_matches_from(args).map_err(|error| {
        let problem = match error.kind() {
            ErrorKind::InvalidUtf8 => Problem::general("expected UTF-8"),
            _ => describe(&error),
        };
        usage(&[problem], help)
    })
}

fn usage(problems: &[Problem], help: &str) -> LoadError {
    let usage = help.lines().find_map(|line| line.strip_prefix("Usage: ")).unwrap_or_default();
    LoadError::Usage(format!("error: {}\n\nusage: {usage}\n", report(problems)))
}

fn has(matches: &ArgMatches, name: &str) -> bool {
    // clap panics about a name that the command does not have
    matches.try_contains_id(name).unwrap_or(false)
}

fn given_text(matches: &ArgMatches, name: &str) -> Option<String> {
    matches.get_one::<String>(name).cloned()
}

fn timeout(matches: &ArgMatches, problems: &mut Vec<Problem>) -> Duration {
    const DEFAULT: Duration = Duration::from_secs(5);
    let Some(text) = given_text(matches, "timeout") else {
        return DEFAULT;
    };
    values::positive_duration(&text).unwrap_or_else(|error| {
        let message = error.to_string();
        problems.push(Problem { value: Some(text), ..Problem::of("--timeout", message) });
        DEFAULT
    })
}

/// What the options and the environment say about these settings.
fn addresses(
    matches: &ArgMatches,
    names: &[&'static str],
    env: &dyn Fn(&str) -> Option<OsString>,
    mut problems: Vec<Problem>,
    help: &str,
) -> Result<Config, LoadError> {
    let mut given = Vec::new();
    for &name in names {
        let Some(setting) = setting(name) else { continue };
        let option = if name == "admin_bind" { "admin" } else { name };
        let value = has(matches, option).then(|| given_text(matches, option)).flatten();
        match value {
            Some(value) => given.push(Given {
                setting,
                source: Source::Argument,
                origin: format!("--{option}"),
                values: vec![value],
            }),
            None => given.extend(from_environment(setting, env, &mut problems)),
        }
    }
    drop_service_link(&mut given);
    if names.contains(&"port") && !given.iter().any(Given::is_address) {
        add_platform_port(&mut given, &[], env("PORT").as_deref());
    }
    settle_some(&mut given, problems).map_err(|problems| usage(&problems, help))
}

/// `http://host:port/path`, without a user or a fragment.
fn read_url(text: &str) -> Result<(BindAddr, String), Problem> {
    let wrong = || Problem {
        value: Some(text.to_owned()),
        ..Problem::of("--url", "expected `http://host:port/path`")
    };
    let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let has_port = !authority.ends_with(']') && authority.contains(':');
    let is_plain = |c: char| c.is_ascii_graphic() && c != '#';
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let address = authority.parse::<BindAddr>().map_err(|_| wrong())?;
    match address {
        BindAddr::Tcp { host, port } if path.chars().all(is_plain) && !authority.is_empty() => {
            Ok((BindAddr::Tcp { host, port: if has_port { port } else { 80 } }, path))
        }
        _ => Err(wrong()),
    }
}
