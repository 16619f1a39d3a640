//! Values as a source gave them, and the way from there to a [`crate::Config`].
//!
//! Owns the rule that all problems are reported together, and the one question on which several
//! settings must agree across sources: which of them say where to listen. Must not know how a
//! source is read.

use crate::Loaded;
use crate::compatibility::PARSER;
use crate::draft::Draft;
use crate::error::Problem;
use crate::options::Config;
use crate::setting::{Kind, Setting};
use crate::values;

/// Where a value came from; the earlier wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// The command line, or a keyword.
    Argument,
    /// A variable named after rsgi.
    Variable,
    /// A variable named after uvicorn.
    Uvicorn,
    /// A variable that other programs know, too.
    WellKnown,
    /// The table in `pyproject.toml`.
    Pyproject,
    /// A file of settings.
    File,
}

/// One setting's values from the source that has precedence.
#[derive(Debug)]
pub(crate) struct Given {
    /// The row of the table.
    pub(crate) setting: &'static Setting,
    /// Which source it was.
    pub(crate) source: Source,
    /// How the user calls it: a flag, a variable or a keyword.
    pub(crate) origin: String,
    /// Several for a list; otherwise the last one counts.
    pub(crate) values: Vec<String>,
}

impl Given {
    /// Reads the values into the draft.
    fn read(&self, draft: &mut Draft, problems: &mut Vec<Problem>) {
        let values = match (self.setting.kind, self.values.split_last()) {
            (Kind::List(_), _) | (_, None) => self.values.as_slice(),
            (_, Some((last, _))) => std::slice::from_ref(last),
        };
        for value in values {
            if let Err(error) = (self.setting.read)(draft, value) {
                problems.push(self.problem(error.to_string(), value));
            }
        }
    }

    /// A problem with one of the values.
    pub(crate) fn problem(&self, message: impl Into<String>, value: &str) -> Problem {
        Problem {
            origin: Some(self.origin.clone()),
            message: message.into(),
            value: Some(self.setting.shown(value)),
        }
    }

    /// Whether it says where to listen.
    pub(crate) fn is_address(&self) -> bool {
        Form::of(self).is_some()
    }

    /// Whether it is an address by itself, which a host or port cannot be beside.
    pub(crate) fn is_whole_address(&self) -> bool {
        Form::of(self) == Some(Form::Whole)
    }

    /// The line to log about a setting that has no effect; none if it asks for nothing.
    fn notice(&self) -> Option<String> {
        let value = self.values.last()?;
        let Self { origin, setting, .. } = self;
        let asks_for_nothing = match setting.kind {
            Kind::Ignored | Kind::Refused if setting.is_switch() => {
                values::switch(value) == Ok(false)
            }
            Kind::Ignored => {
                value.eq_ignore_ascii_case("auto") || value.eq_ignore_ascii_case(setting.default)
            }
            Kind::Refused => false,
            // uvicorn's names of implementations
            _ if setting.name == "ws" => {
                ["auto", "none"].iter().any(|it| it.eq_ignore_ascii_case(value))
            }
            _ if setting.name == "http" => {
                ["auto", "1", "2"].iter().any(|it| it.eq_ignore_ascii_case(value))
            }
            _ => true,
        };
        let reason = match setting.name {
            "ws" => "there is one WebSocket implementation",
            "http" => PARSER,
            _ => setting.help,
        };
        if asks_for_nothing {
            return None;
        }
        let value = match value.as_str() {
            "true" if setting.is_switch() && origin.starts_with("--") => String::new(),
            value if origin.starts_with("--") => format!(" {value}"),
            value => format!("={value}"),
        };
        Some(format!("{origin}{value} has no effect: {reason}"))
    }

    /// Whether it is a setting of other servers that is refused with this value.
    fn is_refused(&self) -> bool {
        let harmless = self.setting.default;
        let is_off = |value: &str| self.setting.is_switch() && values::switch(value) == Ok(false);
        let is_harmless =
            |value: &String| is_off(value) || !harmless.is_empty() && value == harmless;
        self.setting.kind == Kind::Refused && !self.values.iter().all(is_harmless)
    }
}

/// The configuration that the given values make, or everything that is wrong, `problems` included.
/// What remains in `given` is what counted.
pub(crate) fn settle(
    given: &mut Vec<Given>,
    problems: Vec<Problem>,
) -> Result<Loaded, Vec<Problem>> {
    let (mut draft, notices) = read(given, problems)?;
    let launch = std::mem::take(&mut draft.launch);
    Ok(Loaded { config: draft.finish()?, notices, remark: None, launch })
}

/// The same for settings that are only some of a server's, and need not fit together.
pub(crate) fn settle_some(
    given: &mut Vec<Given>,
    problems: Vec<Problem>,
) -> Result<Config, Vec<Problem>> {
    read(given, problems).map(|(draft, _)| draft.unchecked())
}

fn read(
    given: &mut Vec<Given>,
    mut problems: Vec<Problem>,
) -> Result<(Draft, Vec<String>), Vec<Problem>> {
    let mut notices = agree_on_addresses(given, &mut problems);
    let mut draft = Draft::default();
    for one in given.iter() {
        if one.is_refused() {
            problems.push(Problem::of(&one.origin, one.setting.help));
            continue;
        }
        one.read(&mut draft, &mut problems);
        notices.extend(one.notice());
    }
    if problems.is_empty() { Ok((draft, notices)) } else { Err(problems) }
}

/// How a setting says where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// `--host`, `--port`: parts of one address.
    Part,
    /// `--bind`, `--uds`, `--fd`: an address each.
    Whole,
}

impl Form {
    fn of(given: &Given) -> Option<Self> {
        match given.setting.name {
            "host" | "port" => Some(Self::Part),
            "bind" | "uds" | "fd" => Some(Self::Whole),
            _ => None,
        }
    }
}

/// Drops the addresses of lower sources that the highest one replaces.
///
/// `--port` with `RSGI_HOST` is one address of two parts; `--port` with `RSGI_BIND`, or `--bind`
/// with `RSGI_UDS`, means that the user wants another address than the environment says. Within
/// one source, `--bind` excludes `--host` and `--port`, while `--uds` and `--fd` win over them with
/// a notice, as they silently do in uvicorn.
fn agree_on_addresses(given: &mut Vec<Given>, problems: &mut Vec<Problem>) -> Vec<String> {
    let addresses = || given.iter().filter(|one| Form::of(one).is_some());
    let Some(highest) = addresses().map(|one| one.source).min() else {
        return Vec::new();
    };
    let of_highest = |wanted: Form| {
        addresses().filter(move |one| one.source == highest && Form::of(one) == Some(wanted))
    };
    let mut notices = Vec::new();
    let bind = of_highest(Form::Whole).find(|one| one.setting.name == "bind");
    if let Some(whole) = bind.or_else(|| of_highest(Form::Whole).next()) {
        for part in of_highest(Form::Part) {
            let (part, whole) = (&part.origin, &whole.origin);
            if bind.is_some() {
                problems.push(Problem::general(format!(
                    "{part} cannot be combined with {whole}: write host:port in {whole}"
                )));
            } else {
                notices.push(format!("{part} has no effect beside {whole}"));
            }
        }
        given.retain(|one| match Form::of(one) {
            Some(Form::Part) => false,
            Some(Form::Whole) => one.source == highest,
            None => true,
        });
    } else {
        given.retain(|one| Form::of(one) != Some(Form::Whole));
    }
    notices
}
