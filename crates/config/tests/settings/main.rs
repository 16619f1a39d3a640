//! The settings as a user meets them: through the command line, variables and keywords only.

mod addresses;
mod files;
mod guides;
mod help;
mod keywords;
mod mistakes;
mod peers;
mod probes;
mod proxies;
mod reload;
mod shown;
mod sources;
mod support;
mod tls;
mod values;

use std::ffi::OsString;
use std::path::Path;

use rsgi_config::{Config, LoadError, Loaded, Surroundings, load};

/// Loads a command line, split at spaces, with these variables.
fn load_with(line: &str, variables: &[(&str, &str)]) -> Result<Loaded, LoadError> {
    load_in(Path::new("/no/such/directory"), line, variables)
}

/// Loads a command line in a directory.
fn load_in(directory: &Path, line: &str, variables: &[(&str, &str)]) -> Result<Loaded, LoadError> {
    let surroundings = Surroundings {
        variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
        directory: directory.to_owned(),
        python: Vec::new(),
    };
    load(line.split_ascii_whitespace().map(OsString::from), &surroundings)
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
