//! `rsgi.run(app, host=..., workers=...)`: settings as keyword arguments of Python.
//!
//! Owns which Python types stand for which kind of setting. The environment is not asked: a
//! program that passes keywords has decided for itself.

use crate::Loaded;
use crate::error::{LoadError, Problem, report};
use crate::given::{Given, Source, settle};
use crate::setting::{Kind, Setting};
use crate::table::SETTINGS;

/// How similar a name must be to be suggested (1 is equal); clap's threshold for options.
const SIMILAR: f64 = 0.7;

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
    /// `None`: as if the keyword had not been given.
    None,
}

/// Reads keyword arguments; their names are those of the flags, with underscores.
///
/// The application may be missing: it can be an object instead of a name. The text of
/// [`LoadError::Usage`] is meant for the message of an exception.
pub fn from_keywords<N: AsRef<str>>(
    keywords: impl IntoIterator<Item = (N, Value)>,
) -> Result<Loaded, LoadError> {
    let mut problems = Vec::new();
    let mut given = Vec::new();
    for (name, value) in keywords {
        let name = name.as_ref();
        let Some(setting) = SETTINGS.iter().find(|setting| setting.is_called(name)) else {
            problems.push(unknown(name));
            continue;
        };
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
                value: (setting.kind != Kind::Secret).then(|| shown(&value)),
            }),
        }
    }
    settle(given, problems).map_err(|problems| LoadError::Usage(report(&problems)))
}

/// The texts that a value stands for, or what was expected.
fn texts(setting: &Setting, value: &Value) -> Result<Option<Vec<String>>, &'static str> {
    let one = |text: String| Ok(Some(vec![text]));
    match (setting.kind, value) {
        (_, Value::None) => Ok(None),
        (Kind::List(_), Value::List(texts)) => Ok(Some(texts.clone())),
        (Kind::Octal, Value::Int(bits @ 0..)) => one(format!("{bits:o}")),
        (_, Value::Str(_))
        | (Kind::Switch | Kind::Flag, Value::Bool(_) | Value::Int(_))
        | (Kind::Scalar, Value::Int(_) | Value::Float(_))
        | (Kind::Ignored | Kind::Refused, _) => one(shown(value)),
        (Kind::List(_), _) => Err("text or a list of texts"),
        (Kind::Switch | Kind::Flag, _) => Err("True or False"),
        (Kind::Scalar, _) => Err("a number or text"),
        (Kind::Octal, _) => Err("permission bits, such as 0o660"),
        (Kind::Target | Kind::Text | Kind::Secret, _) => Err("text"),
    }
}

/// A value as Python would show it.
fn shown(value: &Value) -> String {
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
    let names =
        SETTINGS.iter().flat_map(|setting| std::iter::once(&setting.name).chain(setting.aliases));
    let nearest = names
        .map(|known| (strsim::jaro(name, known), known))
        .filter(|(similarity, _)| *similarity > SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = nearest.map(|(_, known)| format!("; did you mean {known}?")).unwrap_or_default();
    Problem::general(format!("unknown setting `{name}`{hint}"))
}
