//! What the supervisor asks of the program around it.
//!
//! Owns: the questions. Must not know: where settings come from, or what a log is.

use std::fmt;
use std::sync::Arc;

use crate::run::SupervisorOptions;

/// Reads the settings again; what is wrong with them otherwise.
type Reload = dyn Fn() -> Result<SupervisorOptions, String> + Send + Sync;

/// The answers. By default a reload keeps the settings, and there are no log files.
#[derive(Clone, Default)]
pub struct Hooks {
    reload: Option<Arc<Reload>>,
    settled: Option<Arc<dyn Fn(bool) + Send + Sync>>,
    reopen_logs: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}

impl Hooks {
    /// What HUP calls, on the supervisor's only thread: new workers start with the options that come
    /// back. An error is the reason why nothing is reloaded.
    #[must_use]
    pub fn on_reload(
        mut self,
        reload: impl Fn() -> Result<SupervisorOptions, String> + Send + Sync + 'static,
    ) -> Self {
        self.reload = Some(Arc::new(reload));
        self
    }

    /// What is called once the end of a reload is known: whether its settings are kept.
    #[must_use]
    pub fn on_settled(mut self, settled: impl Fn(bool) + Send + Sync + 'static) -> Self {
        self.settled = Some(Arc::new(settled));
        self
    }

    /// What USR1 calls, before the workers are told the same.
    #[must_use]
    pub fn on_reopen_logs(mut self, reopen: impl Fn() + Send + Sync + 'static) -> Self {
        self.reopen_logs = Some(Arc::new(reopen));
        self
    }

    /// The settings as they are now; `None` for the same as before.
    pub(crate) fn reload(&self) -> Option<Result<SupervisorOptions, String>> {
        self.reload.as_ref().map(|reload| reload())
    }

    pub(crate) fn settled(&self, are_kept: bool) {
        if let Some(settled) = &self.settled {
            settled(are_kept);
        }
    }

    pub(crate) fn reopen_logs(&self) {
        if let Some(reopen) = &self.reopen_logs {
            reopen();
        }
    }
}
