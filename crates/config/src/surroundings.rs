//! [`Surroundings`]: everything that [`crate::load`] reads beside its arguments, as a value.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// What the command was started in. Made once and kept, so that a later [`crate::load`] with the
/// same arguments finds the same files, though the process may have changed its directory.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// The environment variables.
    pub variables: BTreeMap<OsString, OsString>,
    /// Where files are searched and relative paths begin.
    pub directory: PathBuf,
    /// The program and its arguments that read a Python file, as [`crate::gunicorn`] says.
    pub python: Vec<OsString>,
}

impl Surroundings {
    /// The value of a variable; an empty one counts as not set.
    pub(crate) fn variable(&self, name: &str) -> Option<&OsStr> {
        let value = self.variables.get(OsStr::new(name))?;
        (!value.is_empty()).then_some(value.as_os_str())
    }

    /// A path as seen from the directory.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.directory.join(Path::new(path))
    }
}
