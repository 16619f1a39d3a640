//! Completions for shells: the settings that `--help` shows, for `clap_complete` to write down.

use std::path::Path;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command, ValueHint};
use clap_complete::{Shell, generate};

use crate::setting::{Kind, Setting, dashed};
use crate::table;

/// What `--completions` takes.
pub(crate) const SHELLS: &[&str] = &["bash", "zsh", "fish"];

/// The script for a shell; nothing for one that is not among [`SHELLS`].
pub(crate) fn script(shell: &str) -> Option<String> {
    let shell = SHELLS.contains(&shell).then(|| Shell::from_shell_path(Path::new(shell)))??;
    let mut script = Vec::new();
    generate(shell, &mut command(), "rsgi", &mut script);
    String::from_utf8(script).ok()
}

/// The command as a user should see it: without what is only there for other servers' users.
fn command() -> Command {
    let mut command = Command::new("rsgi").version(env!("CARGO_PKG_VERSION"));
    for setting in table::own() {
        command = command.arg(argument(setting));
        if setting.kind == Kind::Switch {
            command = command.arg(
                Arg::new(format!("no_{}", setting.name))
                    .long(format!("no-{}", dashed(setting.name)))
                    .action(ArgAction::SetTrue)
                    .help(format!("do not {}", setting.help)),
            );
        }
    }
    command
}

fn argument(setting: &'static Setting) -> Arg {
    let mut argument = Arg::new(setting.name).help(setting.help);
    if setting.kind == Kind::Target {
        return argument.value_hint(ValueHint::Other);
    }
    argument = argument.long(dashed(setting.name));
    if let Some(short) = setting.short {
        argument = argument.short(short);
    }
    if setting.is_switch() {
        return argument.action(ArgAction::SetTrue);
    }
    argument = argument.action(ArgAction::Append).value_name(setting.placeholder).value_hint(
        match setting.placeholder {
            "DIR" => ValueHint::DirPath,
            "FILE" => ValueHint::FilePath,
            "PATH" => ValueHint::AnyPath,
            "HOST" => ValueHint::Hostname,
            _ => ValueHint::Other,
        },
    );
    if setting.words.is_empty() {
        argument
    } else {
        argument.value_parser(PossibleValuesParser::new(setting.words))
    }
}
