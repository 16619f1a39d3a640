//! The command line: a clap command made from the table, and what was given on one.
//!
//! clap stops at the first mistake; here every mistake is collected, by taking the argument that
//! is at fault out and parsing the rest again. Owns the wording of mistakes in the *form* of the
//! command line; whether a value is right is for the table to say.

use std::ffi::{OsStr, OsString};

use clap::builder::ValueParser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::draft::Draft;
use crate::error::{LoadError, Problem};
use crate::given::{Given, Source};
use crate::proxies::ProxyProtocol;
use crate::setting::{Kind, Setting, dashed};
use crate::similar::nearest_own;
use crate::{completions, help, table, values};

/// Reads the arguments (without the program's name); problems are added to `problems`.
pub(crate) fn parse(
    mut arguments: Vec<OsString>,
    problems: &mut Vec<Problem>,
) -> Result<Vec<Given>, LoadError> {
    for argument in &mut arguments {
        if let Some(usual) = with_dashes(argument) {
            *argument = usual;
        }
    }
    join_switches(&mut arguments);
    complete_proxy_protocol(&mut arguments);
    let mut has_unknown = false;
    let matches = loop {
        let error = match command().try_get_matches_from(&arguments) {
            Ok(matches) => break matches,
            Err(error) => error,
        };
        problems.push(describe(&error));
        has_unknown |= error.kind() == ErrorKind::UnknownArgument;
        match culprit(&error, &arguments) {
            Some(index) => drop(arguments.remove(index)),
            None => return Ok(Vec::new()),
        }
    };
    if matches.get_flag("help") {
        return Err(LoadError::Help(help::text()));
    }
    if matches.get_flag("version") {
        return Err(LoadError::Help(help::version()));
    }
    if let Some(script) = matches
        .get_many::<OsString>("completions")
        .and_then(|mut shells| completions::script(&shells.next_back()?.to_string_lossy()))
    {
        return Err(LoadError::Help(script));
    }
    let mut given: Vec<Given> =
        table::all().filter_map(|setting| given(setting, &matches, problems)).collect();
    if has_unknown {
        // what looks like the application may be the value of an unknown option
        given.retain(|one| one.setting.kind != Kind::Target);
    } else if let Some(target) = given.iter_mut().find(|one| one.setting.kind == Kind::Target) {
        keep_one_target(target, &arguments, problems);
        given.retain(|one| !one.values.is_empty());
    }
    Ok(given)
}

/// A flag with underscores, as gunicorn's `--limit-request-field_size` has one, in its usual form;
/// nothing for what is in that form or no flag of ours.
fn with_dashes(argument: &OsStr) -> Option<OsString> {
    let written = argument.to_str()?.strip_prefix("--")?;
    let (name, value) = match written.split_once('=') {
        Some((name, _)) => (name, written.get(name.len()..)?),
        None => (written, ""),
    };
    let key = name.replace('-', "_");
    let is_ours = name.contains('_') && table::all().any(|setting| setting.is_called(&key));
    is_ours.then(|| format!("--{}{value}", dashed(&key)).into())
}

/// Puts `--switch false` into one argument, as uvicorn takes it for `--ws-per-message-deflate`. What
/// says yes or no can be nothing else: no application is called `false`.
fn join_switches(arguments: &mut Vec<OsString>) {
    let is_switch = |argument: &OsStr| {
        let mut switches = table::all().filter(|setting| setting.kind == Kind::Switch);
        switches.any(|setting| argument == OsStr::new(&setting.flag()))
    };
    let mut index = 0;
    while let [first, second, ..] = arguments.get(index..).unwrap_or_default() {
        // A single letter could be a module.
        let word = second.to_str().filter(|word| *word == "0" || *word == "1" || word.len() > 1);
        let word = word.filter(|word| values::switch(word).is_ok());
        if let Some(word) = word.filter(|_| is_switch(first)) {
            let mut joined = first.clone();
            joined.push(format!("={word}"));
            arguments.splice(index..=index.saturating_add(1), [joined]);
        }
        index = index.saturating_add(1);
    }
}

/// gunicorn's `--proxy-protocol` may stand alone, and then means either version.
fn complete_proxy_protocol(arguments: &mut [OsString]) {
    let flag = "--proxy-protocol";
    for index in 0..arguments.len() {
        let next = arguments.get(index + 1).and_then(|next| next.to_str());
        let stands_alone = arguments[index] == flag && !next.is_some_and(ProxyProtocol::is_word);
        if stands_alone {
            arguments[index] = format!("{flag}=auto").into();
        }
    }
}

/// The command that the table describes.
fn command() -> Command {
    let mut command = Command::new("rsgi")
        .no_binary_name(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args_override_self(true)
        .arg(Arg::new("help").short('h').long("help").action(ArgAction::SetTrue))
        .arg(
            Arg::new("version")
                .short('V')
                .short_alias('v')
                .long("version")
                .action(ArgAction::SetTrue),
        );
    for setting in table::all() {
        command = command.arg(argument(setting));
        if setting.kind == Kind::Switch {
            let off = Arg::new(format!("no_{}", setting.name))
                .long(format!("no-{}", dashed(setting.name)))
                .action(ArgAction::SetTrue)
                .overrides_with(setting.name);
            command = command.arg(off);
        }
    }
    command
}

/// The argument of one setting, without its `--no-` form.
fn argument(setting: &'static Setting) -> Arg {
    let argument = Arg::new(setting.name)
        .action(ArgAction::Append)
        .value_parser(ValueParser::os_string())
        .allow_negative_numbers(true);
    if setting.kind == Kind::Target {
        return argument.num_args(0..).value_name(setting.placeholder);
    }
    let mut argument = argument
        .long(dashed(setting.name))
        .aliases(setting.aliases.iter().map(|alias| dashed(alias)));
    if let Some(short) = setting.short {
        argument = argument.short(short);
    }
    if setting.is_switch() {
        argument = argument.num_args(0..=1).require_equals(true).default_missing_value("true");
    }
    argument
}

/// What the command line says about one setting.
fn given(
    setting: &'static Setting,
    matches: &ArgMatches,
    problems: &mut Vec<Problem>,
) -> Option<Given> {
    let mut given =
        Given { setting, source: Source::Argument, origin: setting.flag(), values: Vec::new() };
    if setting.kind == Kind::Switch && matches.get_flag(&format!("no_{}", setting.name)) {
        given.values.push("false".to_owned());
        return Some(given);
    }
    for value in matches.get_many::<OsString>(setting.name)? {
        match value.to_str() {
            Some(value) => given.values.push(value.to_owned()),
            None => problems.push(given.problem("expected UTF-8", &value.to_string_lossy())),
        }
    }
    Some(given)
}

/// Leaves one application of what was given by position, and reports the rest.
///
/// A word behind a switch is not the application if another can be it: hypercorn and daphne have
/// `--access-log FILE`, and then the switch says what it takes.
fn keep_one_target(target: &mut Given, arguments: &[OsString], problems: &mut Vec<Problem>) {
    let mut words = std::mem::take(&mut target.values);
    let is_likely = |word: &String| switch_before(word, arguments).is_none();
    let only_word_is_good =
        words.len() == 1 && words.iter().all(|word| values::target(word).is_ok());
    let position = if only_word_is_good { Some(0) } else { words.iter().position(is_likely) };
    if let Some(position) = position {
        target.values.push(words.remove(position));
    }
    for word in words {
        let misread = switch_before(&word, arguments).and_then(|switch| {
            let error = (switch.read)(&mut Draft::default(), &word).err()?;
            Some(Problem {
                origin: Some(switch.flag()),
                message: error.to_string(),
                value: Some(word.clone()),
            })
        });
        problems.push(misread.unwrap_or_else(|| {
            Problem::general(format!("unexpected argument `{word}`: there is one application"))
        }));
    }
}

/// The switch that stands right before a word.
fn switch_before(word: &str, arguments: &[OsString]) -> Option<&'static Setting> {
    let pair = arguments.windows(2).find(|pair| pair[1] == OsStr::new(word))?;
    table::all().find(|setting| setting.is_switch() && pair[0] == OsStr::new(&setting.flag()))
}

/// A mistake that clap found, in our words.
pub(crate) fn describe(error: &clap::Error) -> Problem {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        Some(ContextValue::Strings(texts)) => texts.first().cloned(),
        _ => None,
    };
    let argument = context(ContextKind::InvalidArg).unwrap_or_default();
    match error.kind() {
        ErrorKind::UnknownArgument => {
            let ambiguous = (argument == "-p").then(|| "--pid or --port".to_owned());
            let hint = nearest_flag(flag_of(&argument))
                .or(ambiguous)
                .map(|known| format!("; did you mean {known}?"))
                .unwrap_or_default();
            Problem::general(format!("unknown option `{argument}`{hint}"))
        }
        ErrorKind::InvalidValue => Problem::of(flag_of(&argument), "a value is missing"),
        ErrorKind::TooManyValues => Problem::of(flag_of(&argument), "it takes no value"),
        _ => Problem::general(error.to_string()),
    }
}

/// The flag nearest to an unknown one, among those of this server.
fn nearest_flag(flag: &str) -> Option<String> {
    let name = flag.strip_prefix("--")?;
    let named = match name.strip_prefix("no-") {
        Some(name) => {
            let switches = table::all().filter(|setting| setting.kind == Kind::Switch);
            nearest_own(name, switches).map(|name| format!("no-{name}"))
        }
        None => nearest_own(name, table::all()).map(str::to_owned),
    };
    named.map(|name| format!("--{}", dashed(&name)))
}

/// Which argument to take out so that the rest can be parsed.
fn culprit(error: &clap::Error, arguments: &[OsString]) -> Option<usize> {
    let Some(ContextValue::String(named)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let spellings = spellings(flag_of(named));
    let find = |is_meant: &dyn Fn(&OsStr, &str) -> bool| {
        (0..arguments.len()).find(|&index| {
            // of several, the one at fault is the one without a value
            let has_value = error.kind() == ErrorKind::InvalidValue
                && arguments.get(index + 1).is_some_and(|next| !is_option(next));
            !has_value && spellings.iter().any(|flag| is_meant(&arguments[index], flag))
        })
    };
    // a cluster may be the value of another flag, so it is only the second guess
    find(&|argument, flag| argument == flag).or_else(|| find(&contains_flag))
}

/// Every way to write a flag of the table, which clap names by its canonical spelling only.
fn spellings(flag: &str) -> Vec<String> {
    let mut spellings = vec![flag.to_owned()];
    if let Some(setting) = table::all().find(|setting| setting.flag() == flag) {
        let aliases = setting.aliases.iter();
        spellings.extend(aliases.map(|alias| format!("--{}", dashed(alias))));
        spellings.extend(setting.short.map(|short| format!("-{short}")));
    }
    spellings
}

/// Whether clap takes an argument for an option, and so not for a value.
fn is_option(argument: &OsStr) -> bool {
    let argument = argument.to_string_lossy();
    argument.starts_with('-') && argument != "-" && argument.parse::<f64>().is_err()
}

/// `--host` of clap's `--host <HOST>` or `--host=1`.
fn flag_of(named: &str) -> &str {
    let end = named.find([' ', '=', '[', '<']).unwrap_or(named.len());
    named.get(..end).unwrap_or(named)
}

/// Whether an argument has this flag in it: with `=value`, or, if short, in a cluster.
fn contains_flag(argument: &OsStr, flag: &str) -> bool {
    let argument = argument.to_string_lossy();
    match (flag.strip_prefix("--"), flag.strip_prefix('-')) {
        (Some(_), _) => argument.strip_prefix(flag).is_some_and(|rest| rest.starts_with('=')),
        (None, Some(letter)) => {
            argument.starts_with('-') && !argument.starts_with("--") && argument.contains(letter)
        }
        (None, None) => false,
    }
}
