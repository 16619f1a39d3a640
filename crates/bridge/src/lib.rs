//! The Python side of rsgi: the event loop, the scope, `receive` and `send`, and the entry points.
//!
//! The only crate that knows Python. Must not know: HTTP's grammar (`protocol`), sockets' insides
//! (`server`) or process policy (`supervisor`). This file is the list of what Python sees, and
//! nothing else.

mod app;
mod ask;
mod awaitable;
mod cli;
mod errors;
mod ffi;
mod file;
mod http;
mod keywords;
mod lifespan;
mod logging;
mod message;
mod options;
mod other_loop;
mod queue;
mod reactor;
mod scope;
mod selector;
mod suspension;
mod tasks;
mod telemetry;
mod template;
mod tls;
mod watchdog;
mod websocket;
mod worker;

use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The native half of the `rsgi` package.
#[pymodule(gil_used = false)]
mod _native {
    #[pymodule_export]
    use crate::awaitable::{Awaitable, Done};
    #[pymodule_export]
    use crate::cli::{main, supervise_keywords};
    #[pymodule_export]
    use crate::errors::ClientDisconnected;
    #[pymodule_export]
    use crate::http::HttpExchange;
    #[pymodule_export]
    use crate::keywords::Keywords;
    #[pymodule_export]
    use crate::lifespan::LifespanExchange;
    #[pymodule_export]
    use crate::logging::{LogQueue, trace};
    #[pymodule_export]
    use crate::selector::{Selector, SelectorMap};
    #[pymodule_export]
    use crate::template::Template;
    #[pymodule_export]
    use crate::websocket::WebSocketExchange;
    #[pymodule_export]
    use crate::worker::Worker;
}
