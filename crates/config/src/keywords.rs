//! `rsgi.run(app, host=..., workers=...)`: settings as keyword arguments of Python.
//!
//! Owns which Python types stand for which kind of setting. Environment and files are not asked: a
//! program that passes keywords has decided for itself; `env_file` is for its application. The
//! variables that count are those that do in uvicorn, about where the program runs: whom to trust and,
//! where processes are started, how many. A file of `env_file` may have them, too.

use std::ffi::OsString;

use crate::error::{LoadError, Problem, report};
use crate::given::{Given, Source, settle};
use crate::setting::{Kind, Setting};
use crate::similar::nearest_own;
use crate::surroundings::Surroundings;
use crate::{Loaded, dotenv, table};

/// What a switch takes, in Python's words.
pub(crate) const TRUE_OR_FALSE: &str = "True or False";

/// A value as Python code passes it.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `True` or `False`.
    Bool(bool),
    /// An `int`.
    Int(i64),
    /// A `float`.
    Float(f64),
    /// A `str`.
    Str(String),
    /// A list or tuple of `str`.
    List(Vec<String>),
    /// `None`: as if the keyword had not been given, with few exceptions.
    None,
}

/// A setting, and the variable that stands for it where no keyword does.
type WellKnown = (&'static str, &'static str);

const TRUST: WellKnown = ("forwarded_allow_ips", "FORWARDED_ALLOW_IPS");
const PROCESSES: WellKnown = ("workers", "WEB_CONCURRENCY");

/// Reads keyword arguments; their names are those of the flags, with underscores.
///
/// The application may be missing: it can be an object instead of a name. The text of
/// [`LoadError::Usage`] is meant for the message of an exception.
pub fn from_keywords<N: AsRef<str>>(
    keywords: impl IntoIterator<Item = (N, Value)>,
) -> Result<Loaded, LoadError> {
    read(keywords, |_| &[TRUST])
}

/// The same for `rsgi.run()`, which starts processes where the application is a name.
pub fn from_keywords_of_run<N: AsRef<str>>(
    keywords: impl IntoIterator<Item = (N, Value)>,
) -> Result<Loaded, LoadError> {
    read(keywords, |given| {
        let is_named = given.iter().any(|one| one.setting.kind == Kind::Target);
        if is_named { &[TRUST, PROCESSES] } else { &[TRUST] }
    })
}

fn read<N: AsRef<str>>(
    keywords: impl IntoIterator<Item = (N, Value)>,
    well_known: impl FnOnce(&[Given]) -> &'static [WellKnown],
) -> Result<Loaded, LoadError> {
    let mut problems = Vec::new();
    let mut given = Vec::new();
    for (name, value) in keywords {
        let name = name.as_ref();
        let Some(setting) = table::all().find(|setting| setting.is_called(name)) else {
            problems.push(unknown(name));
            continue;
        };
        if !setting.reach.keywords {
            problems.push(Problem::of(name, "only the command `rsgi` takes it"));
            continue;
        }
        match texts(setting, &value) {
            Ok(Some(values)) => given.push(Given {
                setting,
                source: Source::Argument,
                origin: name.to_owned(),
                values,
            }),
            Ok(None) => {}
            Err(expected) => problems.push(Problem {
                origin: Some(name.to_owned()),
                message: format!("expected {expected}"),
                value: Some(setting.shown(&shown(&value))),
            }),
        }
    }
    let mut surroundings = Surroundings::of_process(Vec::new());
    let variables = add_env_files(&given, &mut surroundings, &mut problems);
    for known in well_known(&given) {
        add_well_known(*known, &mut given, &surroundings);
    }
    let mut loaded =
        settle(&mut given, problems).map_err(|problems| LoadError::Usage(report(&problems)))?;
    loaded.launch.environment.splice(..0, variables);
    Ok(loaded)
}

/// The texts that a value stands for, or what was expected.
pub(crate) fn texts(setting: &Setting, value: &Value) -> Result<Option<Vec<String>>, &'static str> {
    let one = |text: String| Ok(Some(vec![text]));
    match (setting.kind, value) {
        // As in uvicorn, where the default is a time and `None` is none.
        (_, Value::None) if setting.name.starts_with("ws_ping_") => one("none".to_owned()),
        // As in uvicorn, too: logging is there, and somebody else has configured it.
        (_, Value::None) if setting.name == "log_config" => one("none".to_owned()),
        (_, Value::None) => Ok(None),
        // An empty list where there is a default is nobody, or nothing.
        (Kind::List(_), Value::List(texts)) if texts.is_empty() && !setting.default.is_empty() => {
            one(String::new())
        }
        // As in gunicorn, where it was a switch once.
        (_, Value::Bool(_)) if setting.name == "proxy_protocol" => one(shown(value)),
        (Kind::List(_), Value::List(texts)) => Ok(Some(texts.clone())),
        (Kind::Octal, Value::Int(bits @ 0..)) => one(format!("{bits:o}")),
        (_, Value::Str(_))
        | (Kind::Switch | Kind::Flag, Value::Bool(_) | Value::Int(_))
        | (Kind::Scalar, Value::Int(_) | Value::Float(_))
        | (Kind::Ignored | Kind::Refused, _) => one(shown(value)),
        (Kind::List(_), _) => Err("text or a list of texts"),
        (Kind::Switch | Kind::Flag, _) => Err(TRUE_OR_FALSE),
        (Kind::Scalar, _) => Err("a number or text"),
        (Kind::Octal, _) => Err("permission bits, such as 0o660"),
        (Kind::Target | Kind::Text | Kind::Secret, _) => Err("text"),
    }
}

/// A value as Python would show it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Int(number) => number.to_string(),
        // with `.0`, so that it is not taken for a whole number
        Value::Float(number) => format!("{number:?}"),
        Value::Str(text) => text.clone(),
        Value::List(texts) => format!("[{}]", texts.join(", ")),
        Value::None => "None".to_owned(),
    }
}

fn unknown(name: &str) -> Problem {
    let hint = nearest_own(name, table::all().filter(|setting| setting.reach.keywords))
        .map(|known| format!("; did you mean {known}?"))
        .unwrap_or_default();
    Problem::general(format!("unknown setting `{name}`{hint}"))
}

/// What a variable says about a setting that no keyword is about; an empty one says nothing.
fn add_well_known(
    (name, variable): WellKnown,
    given: &mut Vec<Given>,
    surroundings: &Surroundings,
) {
    if given.iter().any(|one| one.setting.name == name) {
        return;
    }
    let value = surroundings.variable(variable).and_then(|value| value.to_str());
    if let (Some(setting), Some(value)) = (table::setting(name), value) {
        let (source, origin) = (Source::WellKnown, variable.to_owned());
        given.push(Given { setting, source, origin, values: vec![value.to_owned()] });
    }
}

/// The variables of the files that `env_file` names, without those that this process has.
fn add_env_files(
    given: &[Given],
    surroundings: &mut Surroundings,
    problems: &mut Vec<Problem>,
) -> Vec<(OsString, OsString)> {
    let files = given.iter().filter(|one| one.setting.name == "env_file");
    let mut added = Vec::new();
    for one in files {
        for file in &one.values {
            added.extend(dotenv::add(surroundings, file, &one.origin, problems));
        }
    }
    added
}
