//! Python stacks as data: what `faulthandler` writes, read back, and which frames matter.
//!
//! Owns: the parser, and the difference between the application, libraries, and the server with
//! asyncio. Must not know: how a stack was obtained (`stacks.rs`).

/// The most frames that are kept of one stack, the innermost first; `faulthandler` has the same
/// limit.
pub(crate) const DEPTH_LIMIT: usize = 100;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) file: String,
    /// `None` where the interpreter cannot tell.
    pub(crate) line: Option<u32>,
    pub(crate) function: String,
}

/// The frames of one thread, the innermost first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Stack {
    pub(crate) frames: Vec<Frame>,
    /// Whether there are more than were kept.
    pub(crate) is_cut: bool,
}

/// Whose code a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Application,
    /// The standard library, or an installed package.
    Library,
    /// asyncio and the machinery that starts programs: on every stack, and never the reason.
    Machinery,
    /// This server.
    Server,
}

/// Where the code that is not the application's lies.
#[derive(Debug, Clone, Default)]
pub(crate) struct Directories {
    /// Of the standard library, without a `/` at the end.
    pub(crate) library: String,
    /// Of the package `rsgi`.
    pub(crate) server: String,
}

impl Directories {
    pub(crate) fn owner(&self, file: &str) -> Owner {
        if is_in(file, &self.server) {
            return Owner::Server;
        }
        // `<string>`, `<frozen runpy>`
        if file.starts_with('<') && file.ends_with('>') {
            return Owner::Machinery;
        }
        if file.contains("/site-packages/") || file.contains("/dist-packages/") {
            return Owner::Library;
        }
        if !is_in(file, &self.library) {
            return Owner::Application;
        }
        match file.get(self.library.len() + 1..) {
            Some("runpy.py" | "threading.py" | "concurrent/futures/thread.py") => Owner::Machinery,
            Some(inside) if inside.starts_with("asyncio/") => Owner::Machinery,
            _ => Owner::Library,
        }
    }

    /// The frames of the loop's thread that the loop has called: without those that started it.
    pub(crate) fn called_by_the_loop<'a>(&self, stack: &'a Stack) -> &'a [Frame] {
        let is_server = |frame: &Frame| self.owner(&frame.file) == Owner::Server;
        let end = stack.frames.iter().position(is_server).unwrap_or(stack.frames.len());
        stack.frames.get(..end).unwrap_or_default()
    }

    /// The innermost frame of the application's, else of a library's. `None` where the loop is not
    /// in anything that it has called: it waits, for the interpreter or a processor.
    pub(crate) fn culprit<'a>(&self, stack: &'a Stack) -> Option<&'a Frame> {
        let called = self.called_by_the_loop(stack);
        let is = |owner| move |frame: &&Frame| self.owner(&frame.file) == owner;
        if called.first().is_none_or(|frame| is(Owner::Machinery)(&frame)) {
            return None;
        }
        called.iter().find(is(Owner::Application)).or_else(|| called.first())
    }
}

impl Directories {
    /// Whether a debugger holds the loop: it is in what the loop has called, waiting for somebody. (One
    /// that has started the whole program is on the stack, too, but further out.)
    pub(crate) fn is_debugged(&self, stack: &Stack) -> bool {
        self.called_by_the_loop(stack).iter().any(|frame| self.is_debugger(&frame.file))
    }

    fn is_debugger(&self, file: &str) -> bool {
        // What other terminal debuggers are built on, too: ipdb, pudb, remote-pdb.
        let is_standard = is_in(file, &self.library)
            && matches!(file.get(self.library.len() + 1..), Some("bdb.py" | "pdb.py"));
        // PyCharm's and VS Code's.
        is_standard || ["/pydevd", "/_pydevd", "/debugpy/"].iter().any(|part| file.contains(part))
    }
}

fn is_in(file: &str, directory: &str) -> bool {
    !directory.is_empty() && file.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

/// Reads the stack of one thread as `faulthandler` writes it. Whatever else is there is skipped:
/// an interpreter of tomorrow may write more. `None` if it is no stack at all.
///
/// ```text
/// Stack (most recent call first):
///   File "/srv/main.py", line 12 in slow
///   File "/usr/lib/python3.13/asyncio/events.py", line 88 in _run
/// ```
pub(crate) fn parse(text: &str) -> Option<Stack> {
    let mut lines = text.lines().skip_while(|line| !line.ends_with("(most recent call first):"));
    lines.next()?;
    let mut stack = Stack::default();
    for line in lines {
        if line == "  ..." {
            stack.is_cut = true;
        }
        stack.frames.extend(parse_frame(line));
    }
    Some(stack)
}

fn parse_frame(line: &str) -> Option<Frame> {
    let rest = line.strip_prefix("  File ")?;
    // From the right: a file's name may hold anything.
    let (file, place) = rest.rsplit_once(", line ")?;
    let (number, function) = place.split_once(" in ")?;
    let file = file.strip_prefix('"').and_then(|file| file.strip_suffix('"')).unwrap_or(file);
    Some(Frame { file: file.to_owned(), line: number.parse().ok(), function: function.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(file: &str, line: u32, function: &str) -> Frame {
        Frame { file: file.into(), line: Some(line), function: function.into() }
    }

    fn directories() -> Directories {
        Directories { library: "/usr/lib/python3.13".into(), server: "/srv/rsgi".into() }
    }

    fn stack(files: &[&str]) -> Stack {
        let frames = files.iter().map(|file| frame(file, 1, "f")).collect();
        Stack { frames, is_cut: false }
    }

    #[test]
    fn a_stack_of_faulthandler_is_read() {
        let text = "Stack (most recent call first):\n  \
                    File \"/srv/a \"b\", line 3 in c/main.py\", line 12 in slow\n  \
                    File \"/srv/main.py\", line ??? in <lambda>\n  \
                    File ???, line 7 in ???\n  \
                    ...\n";
        assert_eq!(
            parse(text),
            Some(Stack {
                frames: vec![
                    frame("/srv/a \"b\", line 3 in c/main.py", 12, "slow"),
                    Frame { file: "/srv/main.py".into(), line: None, function: "<lambda>".into() },
                    frame("???", 7, "???"),
                ],
                is_cut: true,
            })
        );
    }

    #[test]
    fn what_is_no_stack_or_no_frame_is_skipped() {
        for text in ["", "\n", "Segmentation fault\n", "  File \"x\", line 1 in f\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        let text = "Garbage-collecting\n\
                    Thread 0x00007f5b (most recent call first):\n  <no Python frame>\n  \
                    Garbage-collecting\n  File \"x\n  File \"x\", line 1 in f\n\nExtension modules: a\n";
        assert_eq!(parse(text).map(|stack| stack.frames), Some(vec![frame("x", 1, "f")]));
        assert_eq!(parse("Stack (most recent call first):"), Some(Stack::default()));
    }

    #[test]
    fn frames_belong_to_somebody() {
        for (file, owner) in [
            ("/srv/main.py", Owner::Application),
            ("main.py", Owner::Application),
            ("/srv/rsgi_app.py", Owner::Application),
            ("/usr/lib/python3.13x/a.py", Owner::Application),
            ("/srv/rsgi/_serving.py", Owner::Server),
            ("/usr/lib/python3.13/json/decoder.py", Owner::Library),
            ("/usr/lib/python3.13/site-packages/asyncio/a.py", Owner::Library),
            ("/srv/.venv/lib/python3.13/site-packages/fastapi/routing.py", Owner::Library),
            ("/usr/lib/python3.13/asyncio/events.py", Owner::Machinery),
            ("/usr/lib/python3.13/threading.py", Owner::Machinery),
            ("<string>", Owner::Machinery),
            ("<frozen runpy>", Owner::Machinery),
        ] {
            assert_eq!(directories().owner(file), owner, "{file}");
        }
    }

    #[test]
    fn a_debugger_is_recognised_where_the_loop_has_called_it() {
        const LOOP: &str = "/srv/rsgi/_event_loop.py";
        const MAIN: &str = "/srv/main.py";
        const BDB: &str = "/usr/lib/python3.13/bdb.py";
        let table: [(&[&str], bool); 7] = [
            (&["/usr/lib/python3.13/cmd.py", "/usr/lib/python3.13/pdb.py", BDB, MAIN, LOOP], true),
            (&["/v/site-packages/debugpy/_vendored/pydevd/pydevd.py", MAIN, LOOP], true),
            (&["/opt/pycharm/plugins/helpers/pydev/pydevd.py", MAIN, LOOP], true),
            (&["/opt/pydev/_pydevd_bundle/pydevd_frame.py", MAIN, LOOP], true),
            (&[MAIN, LOOP, MAIN, BDB, "/usr/lib/python3.13/pdb.py"], false),
            (&["/srv/bdb.py", MAIN, LOOP], false),
            (&[MAIN, LOOP], false),
        ];
        for (files, expected) in table {
            assert_eq!(directories().is_debugged(&stack(files)), expected, "{files:?}");
        }
    }

    #[test]
    fn the_culprit_is_the_innermost_frame_of_the_application() {
        const RUN: &str = "/usr/lib/python3.13/asyncio/events.py";
        const JSON: &str = "/usr/lib/python3.13/json/decoder.py";
        const ORM: &str = "/v/site-packages/orm/query.py";
        const LOOP: &str = "/srv/rsgi/_event_loop.py";
        const MAIN: &str = "/srv/main.py";
        const VIEWS: &str = "/srv/views.py";
        let table: [(&[&str], Option<&str>); 7] = [
            (&[VIEWS, MAIN, RUN, LOOP], Some(VIEWS)),
            (&[JSON, ORM, VIEWS, RUN, LOOP, MAIN], Some(VIEWS)),
            // No code of the application, but for the line that started the server.
            (&[JSON, ORM, RUN, LOOP, MAIN], Some(JSON)),
            (&[RUN, LOOP, MAIN], None),
            (&[LOOP, MAIN], None),
            (&[], None),
            (&[VIEWS], Some(VIEWS)),
        ];
        for (files, expected) in table {
            let stack = stack(files);
            let culprit = directories().culprit(&stack).map(|frame| frame.file.as_str());
            assert_eq!(culprit, expected, "{files:?}");
        }
    }
}
