//! The supervisor with real processes. Signals go to the fixture and its workers, never to the
//! process that runs the tests, so that all of them can share one.

mod isolation;
mod recycle;
mod reload;
mod replace;
mod start;
mod stop;
mod support;
