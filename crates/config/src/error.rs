//! Why no configuration came out: the text for the user, and the exit status that goes with it.
//!
//! Every source is read to its end before anything is reported, so that one run shows all
//! [`Problem`]s. Must not know which settings exist.

use std::fmt;

/// What [`crate::load`] gives instead of a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// `--help` or `--version` was asked for: the text for standard output.
    #[error("{0}")]
    Help(String),
    /// Something is wrong with the settings: the whole text for standard error.
    #[error("{0}")]
    Usage(String),
}

impl LoadError {
    /// The exit status of the command: 0 or, for a usage error, 2 (as of argparse and click).
    pub const fn exit_status(&self) -> u8 {
        match self {
            Self::Help(_) => 0,
            Self::Usage(_) => 2,
        }
    }
}

/// One thing that is wrong with one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The flag, variable or keyword, if it is one setting's fault.
    pub(crate) origin: Option<String>,
    /// What is wrong or what is allowed.
    pub(crate) message: String,
    /// The value that was given.
    pub(crate) value: Option<String>,
}

impl Problem {
    /// A problem with what `origin` was given, whatever its value.
    pub(crate) fn of(origin: impl Into<String>, message: impl Into<String>) -> Self {
        Self { origin: Some(origin.into()), message: message.into(), value: None }
    }

    /// A problem of no one setting.
    pub(crate) fn general(message: impl Into<String>) -> Self {
        Self { origin: None, message: message.into(), value: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        f.write_str(&self.message)?;
        match &self.value {
            // a control character in a value must not reach the terminal
            Some(value) => write!(f, ", got `{}`", value.replace(char::is_control, "\u{fffd}")),
            None => Ok(()),
        }
    }
}

/// All problems as one text, without a newline at its end.
pub(crate) fn report(problems: &[Problem]) -> String {
    if let [only] = problems {
        return only.to_string();
    }
    let mut text = format!("{} problems with the settings", problems.len());
    for problem in problems {
        text.push_str("\n  ");
        text.push_str(&problem.to_string());
    }
    text
}
