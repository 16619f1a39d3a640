//! The lifespan protocol (ASGI lifespan 2.0) as a machine.
//!
//! Owns: which message an application may send now, and what it means when it leaves early. Must
//! not know: how the application is run, or what the process does about an outcome.
//!
//! Where the specification is silent: an application that has once said `startup.complete` knows
//! lifespan, so that a later exception is a failure of its own in both modes. One that says nothing
//! at all and leaves does not support it, which only the mode `on` minds.

use crate::error::LifespanError;

/// Does the application get lifespan messages?
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LifespanMode {
    /// Try; an application that does not support it is served all the same.
    #[default]
    Auto,
    /// Required: without a completed startup the server does not start.
    On,
    /// Never called with a lifespan scope.
    Off,
}

/// What an application may send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LifespanMessage {
    /// `lifespan.startup.complete`.
    StartupComplete,
    /// `lifespan.startup.failed` with its `message`, which may be empty.
    StartupFailed(String),
    /// `lifespan.shutdown.complete`.
    ShutdownComplete,
    /// `lifespan.shutdown.failed` with its `message`, which may be empty.
    ShutdownFailed(String),
}

impl LifespanMessage {
    /// A message from its ASGI `type` and its `message`, which only failures have.
    pub fn from_asgi(kind: &str, message: Option<String>) -> Result<Self, LifespanError> {
        let message = message.unwrap_or_default();
        match kind {
            "lifespan.startup.complete" => Ok(Self::StartupComplete),
            "lifespan.startup.failed" => Ok(Self::StartupFailed(message)),
            "lifespan.shutdown.complete" => Ok(Self::ShutdownComplete),
            "lifespan.shutdown.failed" => Ok(Self::ShutdownFailed(message)),
            _ => Err(LifespanError::UnknownMessage(kind.to_owned())),
        }
    }

    /// The ASGI `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::StartupComplete => "lifespan.startup.complete",
            Self::StartupFailed(_) => "lifespan.startup.failed",
            Self::ShutdownComplete => "lifespan.shutdown.complete",
            Self::ShutdownFailed(_) => "lifespan.shutdown.failed",
        }
    }
}

/// How the application's callable came to its end.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LifespanExit {
    /// It returned.
    Returned,
    /// It raised; the caller has the exception.
    Raised,
}

/// Why a phase failed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LifespanFailure {
    /// The application said so, with this message, which may be empty.
    Reported(String),
    /// It raised: log the exception.
    Raised,
    /// It returned without an answer.
    Returned,
}

/// How the startup ended. Given exactly once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StartupOutcome {
    /// Serve.
    Complete,
    /// Serve; the application does not know lifespan, and gets no shutdown.
    Unsupported,
    /// Do not serve.
    Failed(LifespanFailure),
}

/// How the shutdown ended. Given at most once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ShutdownOutcome {
    /// Clean.
    Complete,
    /// The process ends all the same, but says so.
    Failed(LifespanFailure),
}

/// What an event brought to its end.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LifespanOutcome {
    /// The startup.
    Startup(StartupOutcome),
    /// The shutdown; also when the application ended it before it was asked to. The server goes on
    /// serving then, and logs a failure at once.
    Shutdown(ShutdownOutcome),
}

/// One application's lifespan.
///
/// ```text
/// Starting --startup.complete--> Running --begin_shutdown--> Stopping
///    | startup.failed, exit         | shutdown.*, exit           | shutdown.*, exit
///    `----------------------------> Ended <----------------------'
/// ```
#[derive(Debug)]
pub struct Lifespan {
    required: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Starting,
    Running,
    Stopping,
    Ended,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Ended => "over",
        }
    }
}

impl Lifespan {
    /// The lifespan of an application that is about to be called with `lifespan.startup` waiting;
    /// `None` if it is not to be called.
    pub fn new(mode: LifespanMode) -> Option<Self> {
        let required = match mode {
            LifespanMode::Off => return None,
            LifespanMode::Auto => false,
            LifespanMode::On => true,
        };
        Some(Self { required, state: State::Starting })
    }

    /// The application sent a message. An error is raised into the application and changes nothing.
    pub fn on_message(
        &mut self,
        message: LifespanMessage,
    ) -> Result<LifespanOutcome, LifespanError> {
        use LifespanMessage::{ShutdownComplete, ShutdownFailed, StartupComplete, StartupFailed};
        let (state, outcome) = match (self.state, message) {
            (State::Starting, StartupComplete) => {
                (State::Running, LifespanOutcome::Startup(StartupOutcome::Complete))
            }
            (State::Starting, StartupFailed(text)) => {
                let failure = LifespanFailure::Reported(text);
                (State::Ended, LifespanOutcome::Startup(StartupOutcome::Failed(failure)))
            }
            // Before it was asked to, too: Starlette says so when its lifespan task is cancelled.
            (State::Running | State::Stopping, ShutdownComplete) => {
                (State::Ended, LifespanOutcome::Shutdown(ShutdownOutcome::Complete))
            }
            (State::Running | State::Stopping, ShutdownFailed(text)) => {
                let failure = LifespanFailure::Reported(text);
                (State::Ended, LifespanOutcome::Shutdown(ShutdownOutcome::Failed(failure)))
            }
            (state, message) => {
                return Err(LifespanError::UnexpectedMessage {
                    state: state.as_str(),
                    message: message.kind(),
                });
            }
        };
        self.state = state;
        Ok(outcome)
    }

    /// The application's callable ended. `None` if that changes nothing: it had said its last word.
    pub fn on_exit(&mut self, exit: LifespanExit) -> Option<LifespanOutcome> {
        let failure = match exit {
            LifespanExit::Returned => LifespanFailure::Returned,
            LifespanExit::Raised => LifespanFailure::Raised,
        };
        let outcome = match (self.state, exit) {
            (State::Starting, _) if self.required => {
                LifespanOutcome::Startup(StartupOutcome::Failed(failure))
            }
            (State::Starting, _) => LifespanOutcome::Startup(StartupOutcome::Unsupported),
            (State::Running | State::Stopping, LifespanExit::Returned) => {
                LifespanOutcome::Shutdown(ShutdownOutcome::Complete)
            }
            (State::Running | State::Stopping, LifespanExit::Raised) => {
                LifespanOutcome::Shutdown(ShutdownOutcome::Failed(failure))
            }
            (State::Ended, _) => return None,
        };
        self.state = State::Ended;
        Some(outcome)
    }

    /// The server wants to stop. True if the application is to get `lifespan.shutdown` and its
    /// answer to be waited for; false if there is nobody to tell.
    pub fn begin_shutdown(&mut self) -> bool {
        if self.state == State::Running {
            self.state = State::Stopping;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::LifespanExit::{Raised, Returned};
    use super::LifespanMessage::{
        ShutdownComplete, ShutdownFailed, StartupComplete, StartupFailed,
    };
    use super::*;

    fn lifespan(mode: LifespanMode) -> Lifespan {
        Lifespan::new(mode).unwrap()
    }

    fn stopping(mode: LifespanMode) -> Lifespan {
        let mut lifespan = lifespan(mode);
        lifespan.on_message(StartupComplete).unwrap();
        assert!(lifespan.begin_shutdown());
        lifespan
    }

    fn startup_failed(failure: LifespanFailure) -> LifespanOutcome {
        LifespanOutcome::Startup(StartupOutcome::Failed(failure))
    }

    fn shutdown_failed(failure: LifespanFailure) -> LifespanOutcome {
        LifespanOutcome::Shutdown(ShutdownOutcome::Failed(failure))
    }

    #[test]
    fn off_means_no_lifespan_at_all() {
        assert!(Lifespan::new(LifespanMode::Off).is_none());
    }

    #[test]
    fn a_whole_life_is_two_answers() {
        let mut lifespan = lifespan(LifespanMode::Auto);
        assert_eq!(
            lifespan.on_message(StartupComplete),
            Ok(LifespanOutcome::Startup(StartupOutcome::Complete))
        );
        assert!(lifespan.begin_shutdown());
        assert!(!lifespan.begin_shutdown());
        assert_eq!(
            lifespan.on_message(ShutdownComplete),
            Ok(LifespanOutcome::Shutdown(ShutdownOutcome::Complete))
        );
        assert_eq!(lifespan.on_exit(Returned), None);
    }

    #[test]
    fn leaving_before_an_answer_is_no_support_in_auto_and_a_failure_in_on() {
        for (exit, failure) in
            [(Raised, LifespanFailure::Raised), (Returned, LifespanFailure::Returned)]
        {
            let mut auto = lifespan(LifespanMode::Auto);
            let unsupported = LifespanOutcome::Startup(StartupOutcome::Unsupported);
            assert_eq!(auto.on_exit(exit), Some(unsupported));
            assert!(!auto.begin_shutdown(), "it gets no shutdown");
            let mut on = lifespan(LifespanMode::On);
            assert_eq!(on.on_exit(exit), Some(startup_failed(failure)));
        }
    }

    #[test]
    fn a_reported_startup_failure_counts_in_both_modes_and_the_raise_behind_it_does_not() {
        for mode in [LifespanMode::Auto, LifespanMode::On] {
            let mut lifespan = lifespan(mode);
            let reported = startup_failed(LifespanFailure::Reported("no database".into()));
            assert_eq!(lifespan.on_message(StartupFailed("no database".into())), Ok(reported));
            assert_eq!(lifespan.on_exit(Raised), None);
            assert!(!lifespan.begin_shutdown());
        }
    }

    #[test]
    fn a_shutdown_can_fail_by_report_and_by_raise_but_not_by_return() {
        for mode in [LifespanMode::Auto, LifespanMode::On] {
            let reported = shutdown_failed(LifespanFailure::Reported("stuck".into()));
            assert_eq!(stopping(mode).on_message(ShutdownFailed("stuck".into())), Ok(reported));
            assert_eq!(
                stopping(mode).on_exit(Raised),
                Some(shutdown_failed(LifespanFailure::Raised))
            );
            assert_eq!(
                stopping(mode).on_exit(Returned),
                Some(LifespanOutcome::Shutdown(ShutdownOutcome::Complete))
            );
        }
    }

    #[test]
    fn an_application_that_ends_while_serving_gets_no_shutdown() {
        let mut lifespan = lifespan(LifespanMode::Auto);
        lifespan.on_message(StartupComplete).unwrap();
        assert_eq!(lifespan.on_exit(Raised), Some(shutdown_failed(LifespanFailure::Raised)));
        assert!(!lifespan.begin_shutdown());
    }

    #[test]
    fn messages_out_of_place_are_errors_and_change_nothing() {
        let mut lifespan = lifespan(LifespanMode::On);
        for message in [ShutdownComplete, ShutdownFailed(String::new())] {
            assert!(lifespan.on_message(message).is_err());
        }
        lifespan.on_message(StartupComplete).unwrap();
        for message in [StartupComplete, StartupFailed(String::new())] {
            assert!(lifespan.on_message(message).is_err());
        }
        lifespan.on_message(ShutdownComplete).unwrap();
        assert_eq!(
            lifespan.on_message(ShutdownComplete).unwrap_err().to_string(),
            "unexpected message `lifespan.shutdown.complete` while the lifespan is over"
        );
    }

    #[test]
    fn messages_are_known_by_their_asgi_type() {
        for message in [
            StartupComplete,
            StartupFailed("a".into()),
            ShutdownComplete,
            ShutdownFailed("a".into()),
        ] {
            let read = LifespanMessage::from_asgi(message.kind(), Some("a".into()));
            assert_eq!(read, Ok(message));
        }
        assert!(LifespanMessage::from_asgi("http.response.start", None).is_err());
    }
}
