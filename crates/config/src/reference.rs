//! The reference page `docs/reference/settings.md`, made from the table.
//!
//! Only the test that keeps the page current needs it, so it is no part of the library.

use std::fmt::Write as _;

use crate::setting::{Group, Kind, Setting, dashed};
use crate::table::SETTINGS;

const INTRODUCTION: &str = "\
# Settings

<!-- Made from crates/config/src/table.rs by `RSGI_UPDATE_DOCS=1 cargo test -p rsgi-config`. -->

Every setting has three names: a flag of the command, an environment variable, and a keyword of
`rsgi.run()`. A flag wins over the variable `RSGI_...`, that one over a variable other programs
know, too, and that one over the default. An empty variable counts as not set. Keywords stand
alone: `rsgi.run()` does not read the environment.

A *time* is a number of seconds, or a number with `ms`, `s`, `m` or `h`. A *size* is a number of
bytes, or a number with `KiB`, `MiB` or `GiB` (`K`, `M` and `G` are the same). A switch is `true`
or `false` in a variable.

All problems with the settings are reported together, before anything is bound, and the command
ends with exit status 2.
";

const COMPATIBILITY: &str = "
These are understood, so that commands written for other servers work or at least say why not.

| setting | what happens |
|---|---|
";

/// The whole page.
fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for group in Group::SHOWN {
        writeln!(page, "\n## {}", group.title()).unwrap();
        for setting in SETTINGS.iter().filter(|setting| setting.group == group) {
            section(&mut page, setting);
        }
    }
    write!(page, "\n## {}\n{COMPATIBILITY}", Group::Compatibility.title()).unwrap();
    for setting in SETTINGS.iter().filter(|setting| setting.group == Group::Compatibility) {
        let verdict = match setting.kind {
            Kind::Refused => "error: ",
            Kind::Ignored => "no effect: ",
            _ => "",
        };
        let Setting { help, doc, .. } = setting;
        let doc = if doc.is_empty() { String::new() } else { format!(" Accepts {doc}") };
        writeln!(page, "| {} | {verdict}{help}.{doc} |", flags(setting)).unwrap();
    }
    page
}

fn section(page: &mut String, setting: &Setting) {
    let Setting { help, doc, .. } = setting;
    writeln!(page, "\n### `{}`\n", setting.flag()).unwrap();
    writeln!(page, "{}.{}{doc}\n", capitalized(help), if doc.is_empty() { "" } else { " " })
        .unwrap();
    if setting.kind != Kind::Target {
        writeln!(page, "- Flag: {}", flags(setting)).unwrap();
    }
    let own = setting.variable();
    let known = setting.env.iter().map(|variable| match variable.means {
        Some(meaning) => format!("`{}` (set to anything: `{meaning}`)", variable.name),
        None => format!("`{}`", variable.name),
    });
    let variables: Vec<String> = std::iter::once(format!("`{own}`")).chain(known).collect();
    writeln!(page, "- Variable: {}", variables.join(", then ")).unwrap();
    writeln!(page, "- Keyword: `{}`", setting.name).unwrap();
    if !setting.default.is_empty() {
        writeln!(page, "- Default: `{}`", setting.default).unwrap();
    }
}

fn flags(setting: &Setting) -> String {
    let mut flags: Vec<String> =
        setting.short.map(|short| format!("-{short}")).into_iter().collect();
    flags.push(setting.flag());
    if setting.kind == Kind::Switch {
        flags.push(format!("--no-{}", dashed(setting.name)));
    }
    flags.extend(setting.aliases.iter().map(|alias| format!("--{}", dashed(alias))));
    let quoted: Vec<String> = flags
        .into_iter()
        .map(|flag| match setting.placeholder {
            "" => format!("`{flag}`"),
            placeholder => format!("`{flag} {placeholder}`"),
        })
        .collect();
    quoted.join(", ")
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + chars.as_str())
}

#[test]
fn settings_reference_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/settings.md");
    let path = std::path::Path::new(path);
    if crate::process_environment("RSGI_UPDATE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, page()).unwrap();
    }
    let current = std::fs::read_to_string(path).unwrap_or_default();
    assert!(current == page(), "out of date: run this test with RSGI_UPDATE_DOCS=1");
}
