//! One large message at a time.
//!
//! A message that becomes large when it is decompressed is put together in turns, so that it holds
//! nobody up. But many of them at once would hold all their memory at the same time, and a client that
//! sends decompression bombs on many connections has them refused one after the other: whoever has made
//! much of a message goes on only while nobody else does.

use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Of one worker.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turnstile(Arc<AtomicBool>);

/// Being the one; ends when dropped.
#[derive(Debug)]
pub(super) struct Pass(Turnstile);

/// Where one WebSocket stands.
#[derive(Debug, Default)]
pub(super) enum Inflation {
    /// It has nothing to go on with.
    #[default]
    Small,
    /// It has, in its next turn; with a pass, if nobody else had it.
    Large(Option<Pass>),
}

/// It is somebody else's turn.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken;

impl Turnstile {
    fn enter(&self) -> Option<Pass> {
        (!self.0.swap(true, Ordering::Relaxed)).then(|| Pass(self.clone()))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Relaxed);
    }
}

impl Inflation {
    /// Begins a turn. The pass, if there is one, is to be kept to its end.
    pub(super) fn begin(&mut self, turnstile: &Turnstile) -> Result<Option<Pass>, Taken> {
        match mem::take(self) {
            Self::Small => Ok(None),
            Self::Large(Some(pass)) => Ok(Some(pass)),
            Self::Large(None) => {
                let pass = turnstile.enter();
                if pass.is_none() {
                    *self = Self::Large(None);
                    return Err(Taken);
                }
                Ok(pass)
            }
        }
    }

    /// Cannot go on for now: whoever waits for its own turn does not wait for that.
    pub(super) fn step_aside(&mut self) {
        if let Self::Large(pass) = self {
            *pass = None;
        }
    }

    /// Ends a turn after which there is more to do.
    pub(super) fn go_on(&mut self, pass: Option<Pass>, turnstile: &Turnstile) {
        *self = Self::Large(pass.or_else(|| turnstile.enter()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_goes_on_until_it_is_done() {
        let turnstile = Turnstile::default();
        let (mut first, mut second) = (Inflation::default(), Inflation::default());
        for inflation in [&mut first, &mut second] {
            let pass = inflation.begin(&turnstile).expect("anybody may begin");
            inflation.go_on(pass, &turnstile);
        }
        assert!(second.begin(&turnstile).is_err());
        let pass = first.begin(&turnstile).expect("it is its turn");
        assert!(pass.is_some());
        first.go_on(pass, &turnstile);
        assert!(second.begin(&turnstile).is_err());
        // The first one is done: its pass is not handed on to its next turn.
        drop(first.begin(&turnstile).expect("it is its turn"));
        assert!(second.begin(&turnstile).expect("now").is_some());
        assert!(first.begin(&turnstile).expect("it has nothing large").is_none());
    }

    #[test]
    fn who_cannot_go_on_lets_the_next_one() {
        let turnstile = Turnstile::default();
        let (mut first, mut second) = (Inflation::default(), Inflation::default());
        first.go_on(None, &turnstile);
        second.go_on(None, &turnstile);
        first.step_aside();
        let pass = second.begin(&turnstile).expect("it is free");
        assert!(pass.is_some() && first.begin(&turnstile).is_err(), "and the first one waits");
        drop(pass);
        assert!(first.begin(&turnstile).expect("it is free").is_some());
    }

    #[test]
    fn a_connection_that_ends_lets_the_next_one_go_on() {
        let turnstile = Turnstile::default();
        let (mut first, mut second) = (Inflation::default(), Inflation::default());
        first.go_on(None, &turnstile);
        second.go_on(None, &turnstile);
        assert!(second.begin(&turnstile).is_err());
        drop(first);
        assert!(second.begin(&turnstile).is_ok());
    }
}
