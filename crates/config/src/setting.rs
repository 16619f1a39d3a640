//! What a row of the settings table consists of, and the names that follow from it.
//!
//! Owns how a setting's flag, variable and keyword are derived from its name, so that no source
//! can spell one differently. Must not know any particular setting: those are rows of
//! [`crate::table`].

use crate::draft::Draft;
use crate::types::ParseError;

/// One row: everything there is to know about a setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// The keyword of `rsgi.run()`; flag and variable follow from it.
    pub(crate) name: &'static str,
    /// The one-letter flag.
    pub(crate) short: Option<char>,
    /// Further names, with underscores like `name`: the same setting under a peer's name.
    pub(crate) aliases: &'static [&'static str],
    /// Variables that are asked after `RSGI_<NAME>`, the first that is set wins.
    pub(crate) env: &'static [Variable],
    /// Which form the value has.
    pub(crate) kind: Kind,
    /// What a value is called in `--help`; empty for a switch.
    pub(crate) placeholder: &'static str,
    /// All values there are, for completions; empty if there are too many.
    pub(crate) words: &'static [&'static str],
    /// Which sources may have it; the command line always does.
    pub(crate) reach: Reach,
    /// The default as the user would write it, or empty.
    pub(crate) default: &'static str,
    /// Where it stands in `--help` and in the reference.
    pub(crate) group: Group,
    /// What it does: half a sentence, lower case, for `--help`.
    pub(crate) help: &'static str,
    /// More for the reference page: units, limits, why the default is what it is.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "only the reference page shows it, and a test makes that")
    )]
    pub(crate) doc: &'static str,
    /// Reads one value into the draft; called once per value of a list.
    pub(crate) read: fn(&mut Draft, &str) -> Result<(), ParseError>,
}

/// A variable that is not named after rsgi.
#[derive(Debug)]
pub(crate) struct Variable {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it means that it is set, if that is not its value.
    pub(crate) means: Option<&'static str>,
}

/// Which sources may have a setting, beside the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach {
    /// `RSGI_...`.
    pub(crate) variables: bool,
    /// `rsgi.toml` and the like.
    pub(crate) files: bool,
    /// `rsgi.run()`.
    pub(crate) keywords: bool,
}

impl Reach {
    /// Every source.
    pub(crate) const ALL: Self = Self { variables: true, files: true, keywords: true };
    /// How a process is started: a program that calls `rsgi.run()` has been.
    pub(crate) const PROCESS: Self = Self { variables: true, files: true, keywords: false };
    /// What has to be known before any file is read.
    pub(crate) const BEFORE_FILES: Self = Self { variables: true, files: false, keywords: false };
    /// What is asked of the command instead of serving.
    pub(crate) const LINE: Self = Self { variables: false, files: false, keywords: false };
}

/// The form of a setting's value: decides how it is given, not what is allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The application, given by position.
    Target,
    /// On or off: `--name` and `--no-name`.
    Switch,
    /// On or off, off by default and without a `--no-` form.
    Flag,
    /// Free text; numbers are not taken for it.
    Text,
    /// Text that is never shown again.
    Secret,
    /// A number, a duration, a size or a word.
    Scalar,
    /// Permission bits: a Python integer is shown in octal.
    Octal,
    /// May be repeated; in a variable the values are separated by one of these characters.
    List(&'static [char]),
    /// Accepted, with a notice that gives `help` as the reason why nothing comes of it.
    Ignored,
    /// Another server's setting that is refused, `help` says why; accepted like an ignored one
    /// with the value that is its default.
    Refused,
}

/// Headings of `--help` and of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// Which application.
    Application,
    /// Where to listen.
    Binding,
    /// Processes.
    Workers,
    /// Restarting when files change.
    Reload,
    /// Connections, requests, responses.
    Http,
    /// What is in front.
    Proxies,
    /// Encrypted connections.
    Tls,
    /// Messages, pings, compression.
    WebSocket,
    /// Logs.
    Logging,
    /// Where settings come from, and looking at them.
    Configuration,
    /// Settings of other servers that mean nothing here; not shown in `--help`.
    Compatibility,
}

impl Group {
    /// The groups that `--help` shows, in its order.
    pub(crate) const SHOWN: [Self; 10] = [
        Self::Application,
        Self::Binding,
        Self::Workers,
        Self::Reload,
        Self::Http,
        Self::Proxies,
        Self::Tls,
        Self::WebSocket,
        Self::Logging,
        Self::Configuration,
    ];

    /// The heading.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Application => "Application",
            Self::Binding => "Addresses",
            Self::Workers => "Workers",
            Self::Reload => "Development",
            Self::Http => "HTTP",
            Self::Proxies => "Proxies",
            Self::Tls => "TLS",
            Self::WebSocket => "WebSocket",
            Self::Logging => "Logging",
            Self::Configuration => "Configuration",
            Self::Compatibility => "Settings of other servers",
        }
    }
}

impl Setting {
    /// What most rows have in common, for `..Setting::ROW`.
    pub(crate) const ROW: Self = Self {
        name: "",
        short: None,
        aliases: &[],
        env: &[],
        kind: Kind::Scalar,
        placeholder: "",
        words: &[],
        reach: Reach::ALL,
        default: "",
        group: Group::Compatibility,
        help: "",
        doc: "",
        read: |_, _| Ok(()),
    };

    /// `--timeout-keep-alive`, or `APP` for the positional argument.
    pub(crate) fn flag(&self) -> String {
        if self.kind == Kind::Target {
            return self.placeholder.to_owned();
        }
        format!("--{}", dashed(self.name))
    }

    /// `RSGI_TIMEOUT_KEEP_ALIVE`.
    pub(crate) fn variable(&self) -> String {
        format!("RSGI_{}", self.name.to_ascii_uppercase())
    }

    /// Whether the setting can stand without a value on the command line.
    pub(crate) fn is_switch(&self) -> bool {
        self.placeholder.is_empty()
    }

    /// The name and the aliases.
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// Whether its value must not be shown to anybody.
    pub(crate) fn is_secret(&self) -> bool {
        self.kind == Kind::Secret
            || ["password", "secret", "token"].iter().any(|word| self.name.contains(word))
    }

    /// A value as it may be shown.
    pub(crate) fn shown(&self, value: &str) -> String {
        match value.split_once('=') {
            _ if self.is_secret() => MASK.to_owned(),
            // a variable of the application: likely to be a password or to have one in it
            Some((name, _)) if self.name == "env" => format!("{name}={MASK}"),
            None if self.name == "env" => MASK.to_owned(),
            _ => value.to_owned(),
        }
    }

    /// Whether a keyword or alias, written with underscores, means this setting.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.name == name || self.aliases.contains(&name)
    }
}

/// What stands for a secret.
const MASK: &str = "***";

/// A name as it is written in a flag.
pub(crate) fn dashed(name: &str) -> String {
    name.replace('_', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_called_a_secret_is_not_shown() {
        for name in ["ssl_keyfile_password", "client_secret", "api_token"] {
            assert_eq!(Setting { name, ..Setting::ROW }.shown("hunter2"), MASK, "{name}");
        }
        assert_eq!(Setting { name: "host", ..Setting::ROW }.shown("a=b"), "a=b");
    }
}
