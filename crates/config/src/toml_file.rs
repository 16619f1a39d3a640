//! `rsgi.toml` and the table `[tool.rsgi]` of `pyproject.toml`.
//!
//! Owns how TOML's types become settings, and the place (`file:line key`) that every value and
//! every problem is told with. Which keys there are is for the table to say.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::Problem;
use crate::given::{Given, Source};
use crate::keywords::{TRUE_OR_FALSE, Value, shown, texts};
use crate::similar::nearest_own;
use crate::table;

/// Reads the text of a file. `is_pyproject`: only its table `[tool.rsgi]` is ours.
pub(crate) fn read(
    text: &str,
    name: &str,
    is_pyproject: bool,
    problems: &mut Vec<Problem>,
) -> Vec<Given> {
    let file = File { name, text };
    let (document, errors) = DeTable::parse_recoverable(text);
    if !errors.is_empty() {
        problems.extend(errors.iter().map(|error| {
            let start = error.span().map_or(0, |span| span.start);
            Problem::of(file.place(start), format!("not TOML: {}", error.message()))
        }));
        return Vec::new();
    }
    let document = document.into_inner();
    if !is_pyproject {
        return file.settings(&document, Source::File, problems);
    }
    let tool = document.get("tool").and_then(|tool| tool.get_ref().as_table());
    let Some(ours) = tool.and_then(|tool| tool.get("rsgi")) else {
        return Vec::new();
    };
    if let Some(ours) = ours.get_ref().as_table() {
        return file.settings(ours, Source::Pyproject, problems);
    }
    let place = file.place(ours.span().start);
    problems.push(Problem::of(format!("{place} tool.rsgi"), "expected a table"));
    Vec::new()
}

/// A file that is being read.
struct File<'a> {
    name: &'a str,
    text: &'a str,
}

impl File<'_> {
    /// `rsgi.toml:3`.
    fn place(&self, offset: usize) -> String {
        let before = self.text.get(..offset).unwrap_or(self.text);
        format!("{}:{}", self.name, before.matches('\n').count().saturating_add(1))
    }

    fn settings(
        &self,
        table: &DeTable<'_>,
        source: Source,
        problems: &mut Vec<Problem>,
    ) -> Vec<Given> {
        let mut given: Vec<Given> = Vec::new();
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_unstable_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            let name = key.get_ref().as_ref();
            let place = self.place(key.span().start);
            let Some(setting) = table::all().find(|one| one.reach.files && one.is_called(name))
            else {
                let hint = nearest_own(name, table::all().filter(|one| one.reach.files))
                    .map(|known| format!("; did you mean {known}?"))
                    .unwrap_or_default();
                problems.push(Problem::of(place, format!("unknown setting `{name}`{hint}")));
                continue;
            };
            let origin = format!("{place} {name}");
            if let Some(twin) = given.iter().find(|one| one.setting.name == setting.name) {
                problems.push(Problem::of(origin, format!("already set by {}", twin.origin)));
                continue;
            }
            let read = plain(value).and_then(|value| match texts(setting, &value) {
                Ok(values) => Ok(values.unwrap_or_default()),
                Err(TRUE_OR_FALSE) => Err(("true or false", shown(&value))),
                Err(expected) => Err((expected, shown(&value))),
            });
            match read {
                Ok(values) => given.push(Given { setting, source, origin, values }),
                Err((expected, value)) => problems.push(Problem {
                    origin: Some(origin),
                    message: format!("expected {expected}"),
                    value: Some(setting.shown(&value)),
                }),
            }
        }
        given
    }
}

/// A value of TOML in the terms of keywords, or what was expected and what it was.
fn plain(value: &Spanned<DeValue<'_>>) -> Result<Value, (&'static str, String)> {
    let kind = || value.get_ref().type_str().to_owned();
    match value.get_ref() {
        DeValue::String(text) => Ok(Value::Str(text.clone().into_owned())),
        DeValue::Boolean(value) => Ok(Value::Bool(*value)),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map(Value::Int)
            .map_err(|_| ("a number below 2^63", number.as_str().to_owned())),
        DeValue::Float(number) => {
            let number = number.as_str();
            number.parse().map(Value::Float).map_err(|_| ("a number", number.to_owned()))
        }
        DeValue::Array(items) => items
            .iter()
            .map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text.clone().into_owned()),
                other => Err(("a list of texts", format!("[{}]", other.type_str()))),
            })
            .collect::<Result<_, _>>()
            .map(Value::List),
        DeValue::Datetime(_) | DeValue::Table(_) => Err(("text, a number or a list", kind())),
    }
}
