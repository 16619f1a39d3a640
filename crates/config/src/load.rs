//! The command: its arguments first, then the environment.
//!
//! Owns which source wins: a flag, a variable named after rsgi, one that other programs know, too,
//! and at last the default.

use std::ffi::OsString;

use crate::error::{LoadError, Problem, report};
use crate::given::{Given, Source, settle};
use crate::setting::{Kind, Setting};
use crate::table::{SETTINGS, setting};
use crate::{Loaded, command, help};

/// Reads the arguments of the command (without the program's name) and the environment.
///
/// Nothing is opened or bound. All problems of all sources are in one [`LoadError::Usage`].
pub fn load(
    args: impl IntoIterator<Item = OsString>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Loaded, LoadError> {
    let mut problems = Vec::new();
    let mut given = command::parse(args.into_iter().collect(), &mut problems)?;
    // an unknown option hides the application, and a mistake in it is not a missing one
    let form_is_right = problems.is_empty();
    for setting in SETTINGS {
        if !given.iter().any(|one| one.setting.name == setting.name) {
            given.extend(from_environment(setting, env, &mut problems));
        }
    }
    let mut notices = drop_service_link(&mut given);
    if !given.iter().any(Given::is_address) {
        notices.extend(add_platform_port(&mut given, env));
    }
    if form_is_right && !given.iter().any(|one| one.setting.kind == Kind::Target) {
        problems.push(Problem::general(
            "the application is missing: give `module:attribute`, such as `main:app`",
        ));
    }
    match settle(given, problems) {
        Ok(mut loaded) => {
            loaded.notices.extend(notices);
            Ok(loaded)
        }
        Err(problems) => {
            Err(LoadError::Usage(format!("error: {}{}", report(&problems), help::FOOTER)))
        }
    }
}

/// What the environment says about a setting. An empty variable is one that is not set: that is
/// what `X=${X}` in a Compose file makes of it.
pub(crate) fn from_environment(
    setting: &'static Setting,
    env: &dyn Fn(&str) -> Option<OsString>,
    problems: &mut Vec<Problem>,
) -> Option<Given> {
    let own = setting.variable();
    let known = setting
        .env
        .iter()
        .map(|variable| (variable.name.to_owned(), Source::WellKnown, variable.means));
    let (origin, source, means, value) = std::iter::once((own, Source::Variable, None))
        .chain(known)
        .find_map(|(name, source, means)| {
            let value = env(&name).filter(|value| !value.is_empty())?;
            Some((name, source, means, value))
        })?;
    let Ok(value) = value.into_string() else {
        problems.push(Problem::of(origin, "expected UTF-8"));
        return None;
    };
    let values = match (means, setting.kind) {
        (Some(meaning), _) => vec![meaning.to_owned()],
        (None, Kind::List(separators)) => {
            let parts = value.split(separators).map(str::trim);
            parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
        }
        (None, _) => vec![value],
    };
    Some(Given { setting, source, origin, values })
}

/// Drops the `RSGI_PORT=tcp://10.0.0.1:80` that Kubernetes puts into every pod beside a service
/// named rsgi: it tells where that service is, and is not meant for us.
pub(crate) fn drop_service_link(given: &mut Vec<Given>) -> Vec<String> {
    let is_link = |one: &Given| {
        one.setting.name == "port"
            && one.source == Source::Variable
            && one.values.iter().any(|value| value.contains("://"))
    };
    given
        .extract_if(.., |one| is_link(one))
        .map(|one| format!("{} has no effect: it is the link to a service", one.origin))
        .collect()
}

/// `PORT`, which platforms set that route to the process from outside: then every address is meant.
pub(crate) fn add_platform_port(
    given: &mut Vec<Given>,
    env: &dyn Fn(&str) -> Option<OsString>,
) -> Option<String> {
    let port = env("PORT")?.to_string_lossy().into_owned();
    if port.is_empty() {
        return None;
    }
    let notice = format!("listening on 0.0.0.0:{port} because PORT is set");
    for (name, value) in [("host", "0.0.0.0".to_owned()), ("port", port)] {
        given.push(Given {
            setting: setting(name)?,
            source: Source::WellKnown,
            origin: "PORT".to_owned(),
            values: vec![value],
        });
    }
    Some(notice)
}
