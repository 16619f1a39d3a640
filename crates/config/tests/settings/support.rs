//! A directory with files in it.

use std::ffi::OsString;
use std::path::PathBuf;

use rsgi_config::{Config, LoadError, Loaded, Surroundings, WorkerCount, load};

use crate::load_in;

/// The number of workers, where it is one.
pub(crate) fn count(workers: WorkerCount) -> u32 {
    match workers {
        WorkerCount::Exactly(count) => count,
        WorkerCount::Auto => panic!("automatic"),
    }
}

/// An empty directory of one test.
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// `name` must be of one test alone.
    pub(crate) fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path).expect("an old directory can be removed");
        }
        std::fs::create_dir_all(&path).expect("a directory can be made");
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), text).expect("a file can be written");
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.0
    }

    pub(crate) fn surroundings(&self, variables: &[(&str, &str)]) -> Surroundings {
        Surroundings {
            variables: variables.iter().map(|(name, value)| (name.into(), value.into())).collect(),
            directory: self.0.clone(),
            python: Vec::new(),
        }
    }

    /// Surroundings in which every Python file has this answer.
    pub(crate) fn answering(&self, answer: &str) -> Surroundings {
        let python = ["/bin/sh", "-c", "printf %s \"$0\"", answer];
        Surroundings { python: python.map(OsString::from).to_vec(), ..self.surroundings(&[]) }
    }

    /// What a command line comes to here.
    pub(crate) fn load(&self, line: &str, variables: &[(&str, &str)]) -> Result<Loaded, LoadError> {
        load_in(&self.0, line, variables)
    }

    pub(crate) fn config(&self, line: &str, variables: &[(&str, &str)]) -> Config {
        match self.load(line, variables) {
            Ok(loaded) => loaded.config,
            Err(error) => panic!("`{line}` {variables:?}: {error}"),
        }
    }

    /// The lines before the usage.
    pub(crate) fn mistakes(&self, line: &str, variables: &[(&str, &str)]) -> Vec<String> {
        match self.load(line, variables) {
            Err(LoadError::Usage(text)) => mistakes_in(&text),
            other => panic!("`{line}` {variables:?}: {other:?}"),
        }
    }

    /// What a Python file with this answer comes to.
    pub(crate) fn load_answer(&self, answer: &str) -> Result<Loaded, LoadError> {
        let line = ["-c", "conf.py", "m:a"];
        load(line.map(OsString::from), &self.answering(answer))
    }
}

/// The problems in the text of a usage error.
pub(crate) fn mistakes_in(text: &str) -> Vec<String> {
    let (mistakes, _) = text.split_once("\n\nusage").expect("the usage");
    let mistakes = mistakes.strip_prefix("error: ").expect("an error");
    let lines = mistakes.lines().map(|line| line.trim_start().to_owned());
    lines.filter(|line| !line.ends_with("problems with the settings")).collect()
}
