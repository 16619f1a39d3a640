//! The reference page `docs/reference/settings.md`, made from the table.
//!
//! Only the test that keeps the page current needs it, so it is no part of the library.

use std::fmt::Write as _;

use crate::setting::{Group, Kind, Setting, dashed};
use crate::table;

const INTRODUCTION: &str = "\
# Settings

<!-- Made from crates/config/src/table.rs by `RSGI_UPDATE_DOCS=1 cargo test -p rsgi-config`. -->

Every setting has a name for each of its sources. The first source of this list that has it wins:

1. a flag of the command: `--timeout-keep-alive 5`;
2. the environment variable `RSGI_...`: `RSGI_TIMEOUT_KEEP_ALIVE=5`;
3. if uvicorn has the flag, `UVICORN_...`: `UVICORN_TIMEOUT_KEEP_ALIVE=5`;
4. a variable other programs know, too: `WEB_CONCURRENCY`, `PORT`, `FORWARDED_ALLOW_IPS`, `NO_COLOR`,
   `FORCE_COLOR`;
5. the table `[tool.rsgi]` of `pyproject.toml`: `timeout_keep_alive = 5`;
6. `rsgi.toml`: `timeout_keep_alive = 5`;
7. the default.

Keywords of `rsgi.run()` are called like the keys of a file, and stand alone: neither environment nor
files are read then. Every alias of a flag is also a variable, a key and a keyword. An empty variable
counts as not set. A value replaces the one of a lower source, also where several values are allowed.
Where to listen is one setting of several flags: `--bind`, `--uds` or `--fd` replace each other and
`--host` and `--port` of lower sources.

## Files

`pyproject.toml` and `rsgi.toml` are looked for in the current directory. `--config FILE` (`-c`, or the
variable `RSGI_CONFIG`) names another file, and then these two are not read. The kinds of files:

- TOML: every key is the name of a setting. A switch is `true` or `false`, a number may have a unit if
  it is text (`\"500ms\"`), what may be repeated is a list of texts. An unknown key is an error.
- `pyproject.toml`, wherever it is: only the table `[tool.rsgi]`.
- A file whose name ends with `.py`, or `python:module`: a configuration of gunicorn, with gunicorn's
  names. It runs in a process of its own that ends before anything is bound, and within 30 seconds.
  What has no meaning here, such as hooks, is listed in one warning. `./gunicorn.conf.py` is not read
  unless it is named. Variables win over this file as over others.

`--env-file FILE` has variables, `NAME=VALUE` a line, for the application and for the settings. It does
not replace variables that are set. Paths in settings are relative to the directory in which the
command was started; addresses and the application are looked up in `--chdir`, if that is given.

`rsgi --check-config` reads everything and ends with status 0, or with 2 and all problems.
`rsgi --print-config` shows every setting with its value and its source, in the form of a `rsgi.toml`;
secrets are replaced by `***`.

## Values

A *time* is a number of seconds, or a number with `ms`, `s`, `m` or `h`. A *size* is a number of
bytes, or a number with `KiB`, `MiB` or `GiB` (`K`, `M` and `G` are the same; `KB`, `MB` and `GB`
are powers of 1000). A switch is `true` or `false` in a variable.

All problems with the settings are reported together, before anything is bound, and the command
ends with exit status 2.
";

const COMPATIBILITY: &str = "
These flags of uvicorn, gunicorn, granian and hypercorn are understood, so that commands written for
them work or at least say why not. (What has the meaning of a setting above is another name of it.)

| setting | what happens |
|---|---|
";

/// The whole page.
fn page() -> String {
    let mut page = INTRODUCTION.to_owned();
    for group in Group::SHOWN {
        writeln!(page, "\n## {}", group.title()).unwrap();
        for setting in table::own().filter(|setting| setting.group == group) {
            section(&mut page, setting);
        }
    }
    write!(page, "\n## {}\n{COMPATIBILITY}", Group::Compatibility.title()).unwrap();
    for setting in table::all().filter(|setting| setting.group == Group::Compatibility) {
        let verdict = match (setting.kind, setting.default) {
            (Kind::Refused, "") => "error: ".to_owned(),
            (Kind::Refused, harmless) => format!("error, unless `{harmless}`: "),
            (Kind::Ignored, _) => "no effect: ".to_owned(),
            _ => String::new(),
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
    if setting.reach.variables {
        writeln!(page, "- Variable: {}", variables.join(", then ")).unwrap();
    }
    match (setting.reach.files, setting.reach.keywords) {
        (true, true) => writeln!(page, "- Key and keyword: `{}`", setting.name).unwrap(),
        (true, false) => writeln!(page, "- Key: `{}`", setting.name).unwrap(),
        (false, _) => {}
    }
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
