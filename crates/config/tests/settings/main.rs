//! The settings as a user meets them: through the command line, variables and keywords only.

mod addresses;
mod help;
mod keywords;
mod mistakes;
mod sources;
mod tls;
mod values;

use std::ffi::OsString;

use rsgi_config::{Config, LoadError, Loaded, load};

/// Loads a command line, split at spaces, with these variables.
fn load_with(line: &str, variables: &[(&str, &str)]) -> Result<Loaded, LoadError> {
    let arguments = line.split_ascii_whitespace().map(OsString::from);
    load(arguments, &|name| {
        let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
        Some(OsString::from(value))
    })
}

/// The configuration of a good command line in an empty environment.
fn config(line: &str) -> Config {
    config_with(line, &[])
}

/// The configuration of a good command line with these variables.
fn config_with(line: &str, variables: &[(&str, &str)]) -> Config {
    match load_with(line, variables) {
        Ok(loaded) => loaded.config,
        Err(error) => panic!("`{line}` {variables:?}: {error}"),
    }
}

/// The notices for a good command line with these variables.
fn notices(line: &str, variables: &[(&str, &str)]) -> Vec<String> {
    match load_with(line, variables) {
        Ok(loaded) => loaded.notices,
        Err(error) => panic!("`{line}` {variables:?}: {error}"),
    }
}

/// What the user reads about a bad command line: the lines before the usage.
fn mistake(line: &str, variables: &[(&str, &str)]) -> String {
    match load_with(line, variables) {
        Err(LoadError::Usage(text)) => text
            .strip_suffix("\n\nusage: rsgi [OPTIONS] APP\ntry `rsgi --help`\n")
            .unwrap_or_else(|| panic!("no usage at the end of {text:?}"))
            .to_owned(),
        other => panic!("`{line}` {variables:?}: {other:?}"),
    }
}
