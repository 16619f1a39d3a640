//! The command: its arguments, files, and the environment.
//!
//! Owns which source wins: a flag, a variable named after rsgi, one named after uvicorn, one that
//! other programs know, too, a file, and at last the default. Owns also which file is read, and
//! what is done instead of serving.

use std::ffi::{OsStr, OsString};
use std::io;

use crate::compatibility::UVICORN;
use crate::error::{LoadError, Problem, report};
use crate::given::{Given, Source, settle};
use crate::options::Launch;
use crate::setting::{Kind, Setting};
use crate::similar::nearest_variable;
use crate::surroundings::Surroundings;
use crate::table::setting;
use crate::{Loaded, command, dotenv, gunicorn, help, show, table, toml_file, values};

/// Reads the arguments of the command (without the program's name), the files that they or the
/// environment name or that lie in the directory, and the environment.
///
/// Nothing is opened but files, and nothing is bound. All problems of all sources are in one
/// [`LoadError::Usage`]. May be called again with the same arguments and surroundings, to see what
/// has changed in the files.
pub fn load(
    args: impl IntoIterator<Item = OsString>,
    surroundings: &Surroundings,
) -> Result<Loaded, LoadError> {
    let mut problems = Vec::new();
    let mut notices = Vec::new();
    let mut remark = None;
    let mut surroundings = surroundings.clone();
    let mut given = command::parse(args.into_iter().collect(), &mut problems)?;
    // an unknown option hides the application, and a mistake in it is not a missing one
    let form_is_right = problems.is_empty();

    add_from_environment("env_file", &mut given, &surroundings, &mut problems);
    let mut variables = add_env_files(&given, &mut surroundings, &mut problems);
    add_from_environment("config", &mut given, &surroundings, &mut problems);
    let in_files = read_files(&given, &surroundings, &mut problems, &mut notices);
    let has_env_file = given.iter().any(|one| one.setting.name == "env_file");
    if let Some(one) = in_files.iter().find(|one| one.setting.name == "env_file" && !has_env_file) {
        let one = std::slice::from_ref(one);
        variables.extend(add_env_files(one, &mut surroundings, &mut problems));
    }

    // these two had their turn before the files that they name
    let is_left =
        |one: &&Setting| one.reach.variables && !["env_file", "config"].contains(&one.name);
    for setting in table::all().filter(is_left) {
        add_from_environment(setting.name, &mut given, &surroundings, &mut problems);
    }
    notices.extend(drop_service_link(&mut given));
    if !given.iter().any(Given::is_address) {
        remark = add_platform_port(&mut given, &in_files, surroundings.variable("PORT"));
    }
    for one in in_files {
        if !given.iter().any(|known| known.setting.name == one.setting.name) {
            given.push(one);
        }
    }
    notices.extend(surroundings.variables.keys().filter_map(|name| {
        let meant = nearest_variable(name.to_str()?, table::own())?;
        Some(format!("{} has no effect; did you mean {meant}?", name.display()))
    }));
    if surroundings.variable("GUNICORN_CMD_ARGS").is_some() {
        notices.push("GUNICORN_CMD_ARGS is not read: give its flags to the command".to_owned());
    }

    let is_printed = is_on(&given, "print_config");
    let has_target = given.iter().any(|one| one.setting.kind == Kind::Target);
    if form_is_right && !has_target && !is_printed {
        problems.push(Problem::general(
            "the application is missing: give `module:attribute`, such as `main:app`",
        ));
    }
    let loaded = settle(&mut given, problems).map_err(|problems| {
        LoadError::Usage(format!("error: {}{}", report(&problems), help::FOOTER))
    })?;
    let mut loaded = Loaded { notices: [loaded.notices, notices].concat(), remark, ..loaded };
    if is_printed {
        return Err(LoadError::Help(show::text(&given)));
    }
    if is_on(&given, "check_config") {
        let mut text = String::new();
        for notice in &loaded.notices {
            text.push_str("warning: ");
            text.push_str(notice);
            text.push('\n');
        }
        if let Some(remark) = &loaded.remark {
            text.push_str("note: ");
            text.push_str(remark);
            text.push('\n');
        }
        return Err(LoadError::Help(text + "the settings are right"));
    }
    finish(&mut loaded.launch, variables, &surroundings);
    Ok(loaded)
}

/// Whether the command line has a flag.
fn is_on(given: &[Given], name: &str) -> bool {
    let flag = given.iter().find(|one| one.setting.name == name);
    flag.and_then(|one| one.values.last()).is_some_and(|value| values::switch(value) == Ok(true))
}

/// Makes paths absolute, and the path of Python a variable.
fn finish(
    launch: &mut Launch,
    mut variables: Vec<(OsString, OsString)>,
    surroundings: &Surroundings,
) {
    if let Some(directory) = &mut launch.directory {
        *directory = surroundings.directory.join(&*directory);
    }
    variables.append(&mut launch.environment);
    if !launch.python_path.is_empty() {
        let mut path = OsString::new();
        for directory in &launch.python_path {
            path.push(surroundings.path(directory));
            path.push(":");
        }
        let name = OsStr::new("PYTHONPATH");
        let mut known = variables.iter().rev();
        let before = known.find(|(known, _)| known == name).map(|(_, value)| value.as_os_str());
        path.push(before.or_else(|| surroundings.variable("PYTHONPATH")).unwrap_or_default());
        variables.push((name.to_owned(), path));
    }
    launch.environment = variables;
}

/// The file that is named, or those that lie in the directory; the first of two values wins.
fn read_files(
    given: &[Given],
    surroundings: &Surroundings,
    problems: &mut Vec<Problem>,
    notices: &mut Vec<String>,
) -> Vec<Given> {
    let config = given.iter().find(|one| one.setting.name == "config");
    let Some((named, name)) = config.and_then(|one| Some((one, one.values.last()?))) else {
        let mut given: Vec<Given> = Vec::new();
        for name in ["pyproject.toml", "rsgi.toml"] {
            let found = match std::fs::read(surroundings.path(name)) {
                Err(error) if is_absence(&error) => continue,
                read => read_toml(name, name, read, problems),
            };
            for one in found {
                if !given.iter().any(|known| known.setting.name == one.setting.name) {
                    given.push(one);
                }
            }
        }
        return given;
    };
    let file = name.strip_prefix("file:").unwrap_or(name);
    let is_python = std::path::Path::new(file).extension() == Some(OsStr::new("py"));
    if is_python || file.starts_with("python:") {
        return gunicorn::read(file, surroundings, problems, notices);
    }
    read_toml(file, &named.origin, std::fs::read(surroundings.path(file)), problems)
}

/// Whether there is no such file, rather than one that cannot be read.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn read_toml(
    file: &str,
    origin: &str,
    read: io::Result<Vec<u8>>,
    problems: &mut Vec<Problem>,
) -> Vec<Given> {
    let text = match read.map(String::from_utf8) {
        Ok(Ok(text)) => text,
        Ok(Err(_)) => {
            problems.push(Problem::of(file, "expected UTF-8"));
            return Vec::new();
        }
        Err(error) => {
            problems.push(Problem::of(origin, format!("cannot read `{file}`: {error}")));
            return Vec::new();
        }
    };
    let is_pyproject = std::path::Path::new(file).file_name() == Some(OsStr::new("pyproject.toml"));
    toml_file::read(&text, file, is_pyproject, problems)
}

/// Adds the variables of the files that `env_file` names; gives those that were not set.
fn add_env_files(
    given: &[Given],
    surroundings: &mut Surroundings,
    problems: &mut Vec<Problem>,
) -> Vec<(OsString, OsString)> {
    let mut added = Vec::new();
    for one in given.iter().filter(|one| one.setting.name == "env_file") {
        for file in &one.values {
            added.extend(dotenv::add(surroundings, file, &one.origin, problems));
        }
    }
    added
}

/// Adds what the environment says about a setting, unless it is known.
fn add_from_environment(
    name: &str,
    given: &mut Vec<Given>,
    surroundings: &Surroundings,
    problems: &mut Vec<Problem>,
) {
    if let Some(setting) = setting(name)
        && !given.iter().any(|one| one.setting.name == name)
    {
        let env = |name: &str| surroundings.variable(name).map(OsStr::to_owned);
        given.extend(from_environment(setting, &env, problems));
    }
}

/// What the environment says about a setting. An empty variable is one that is not set: that is
/// what `X=${X}` in a Compose file makes of it.
pub(crate) fn from_environment(
    setting: &'static Setting,
    env: &dyn Fn(&str) -> Option<OsString>,
    problems: &mut Vec<Problem>,
) -> Option<Given> {
    let after = |prefix: &str, name: &str| format!("{prefix}_{}", name.to_ascii_uppercase());
    let own = setting.names().map(|name| (after("RSGI", name), Source::Variable, None));
    let uvicorn = setting.names().filter(|name| UVICORN.contains(name));
    let uvicorn = uvicorn.map(|name| (after("UVICORN", name), Source::Uvicorn, None));
    let known = setting
        .env
        .iter()
        .map(|variable| (variable.name.to_owned(), Source::WellKnown, variable.means));
    let (origin, source, means, value) =
        own.chain(uvicorn).chain(known).find_map(|(name, source, means)| {
            let value = env(&name).filter(|value| !value.is_empty())?;
            Some((name, source, means, value))
        })?;
    let Ok(value) = value.into_string() else {
        problems.push(Problem::of(origin, "expected UTF-8"));
        return None;
    };
    let split = |separators: &[char]| {
        let parts = value.split(separators).map(str::trim);
        parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    let values = match (means, setting.kind) {
        (Some(meaning), _) => vec![meaning.to_owned()],
        // click, which reads them for uvicorn, splits at spaces
        (None, Kind::List(_)) if source == Source::Uvicorn => split(&[' ', '\t', '\n']),
        (None, Kind::List(separators)) => split(separators),
        (None, _) => vec![value],
    };
    Some(Given { setting, source, origin, values })
}

/// Drops the `RSGI_PORT=tcp://10.0.0.1:80` that Kubernetes puts into every pod beside a service
/// named rsgi: it tells where that service is, and is not meant for us.
pub(crate) fn drop_service_link(given: &mut Vec<Given>) -> Vec<String> {
    let is_link = |one: &Given| {
        one.setting.name == "port"
            && matches!(one.source, Source::Variable | Source::Uvicorn)
            && one.values.iter().any(|value| value.contains("://"))
    };
    given
        .extract_if(.., |one| is_link(one))
        .map(|one| format!("{} has no effect: it is the link to a service", one.origin))
        .collect()
}

/// `PORT`, which platforms set that route to the process from outside: then every address is
/// meant, unless a file names a host.
pub(crate) fn add_platform_port(
    given: &mut Vec<Given>,
    in_files: &[Given],
    port: Option<&OsStr>,
) -> Option<String> {
    let port = port?.to_string_lossy().into_owned();
    let host = in_files.iter().find(|one| one.setting.name == "host");
    let host = host.and_then(|one| one.values.last());
    let notice =
        format!("Listening on {}:{port} because PORT is set", host.map_or("0.0.0.0", |host| host));
    let mut add = |name, value| {
        let setting = setting(name)?;
        let origin = "PORT".to_owned();
        given.push(Given { setting, source: Source::WellKnown, origin, values: vec![value] });
        Some(())
    };
    if host.is_none() {
        add("host", "0.0.0.0".to_owned())?;
    }
    add("port", port)?;
    Some(notice)
}
