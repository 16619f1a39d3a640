//! A call of the application on its way from the connections' thread to the loop's: the request is
//! copied out of the connection's buffer, and becomes a scope once there is an interpreter.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Mutex, OnceLock, PoisonError};

use pyo3::prelude::*;
use rsgi_protocol::forwarded::{Forwarded, Prefix, Scheme};
use rsgi_protocol::http::head::{Field, Version};
use rsgi_protocol::http::target::{Target, TargetForm};
use rsgi_server::{ConnectionInfo, Request};

use crate::scope::{ConnectionScope, ScopeTemplate};
use crate::tasks::Queued;

/// A call that the loop has not begun.
pub(crate) trait Job: Send + 'static {
    /// Makes it. An error is the interpreter's own and has to leave the event loop.
    fn run(self: Box<Self>, py: Python<'_>) -> PyResult<()>;
    /// The loop was closed before it got here.
    fn lost(self: Box<Self>);
}

/// The callback that runs a [`Job`], in a context of its own.
#[pyclass(frozen, module = "rsgi._native")]
pub struct FirstStep {
    waiting: Mutex<Option<(Box<dyn Job>, Queued)>>,
}

impl fmt::Debug for FirstStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FirstStep").finish_non_exhaustive()
    }
}

impl FirstStep {
    pub(super) fn new(job: Box<dyn Job>, queued: Queued) -> Self {
        Self { waiting: Mutex::new(Some((job, queued))) }
    }

    fn take(&self) -> Option<(Box<dyn Job>, Queued)> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[pymethods]
impl FirstStep {
    fn __call__(&self, py: Python<'_>) -> PyResult<()> {
        let Some((job, queued)) = self.take() else { return Ok(()) };
        let left = job.run(py);
        // Not before the task is known: a drain waits for one of the two.
        drop(queued);
        left
    }
}

impl Drop for FirstStep {
    fn drop(&mut self) {
        if let Some((job, queued)) = self.take() {
            job.lost();
            drop(queued);
        }
    }
}

/// A request's head, copied.
#[derive(Debug)]
pub(crate) struct Head {
    method: Box<str>,
    path: Box<[u8]>,
    query: Box<[u8]>,
    form: TargetForm,
    version: Version,
    fields: Vec<(Box<str>, Box<[u8]>)>,
    accepts_trailers: bool,
    forwarded: Option<Said>,
    id: Option<Box<str>>,
}

impl Head {
    pub(crate) fn copy(request: &Request<'_>) -> Self {
        let Request { method, target, version, fields, accepts_trailers, forwarded, id } = *request;
        Self {
            method: method.into(),
            path: target.path.into(),
            query: target.query.into(),
            form: target.form,
            version,
            fields: fields.iter().map(|field| (field.name.into(), field.value.into())).collect(),
            accepts_trailers,
            forwarded: forwarded.map(Said::copy),
            id: id.map(Into::into),
        }
    }

    /// Lends it in the form that it came in.
    pub(crate) fn with<R>(&self, then: impl FnOnce(&Request<'_>) -> R) -> R {
        let fields: Vec<Field<'_>> =
            self.fields.iter().map(|(name, value)| Field { name, value }).collect();
        let forwarded = self.forwarded.as_ref().map(Said::lend);
        then(&Request {
            method: &self.method,
            target: Target { path: &self.path, query: &self.query, form: self.form },
            version: self.version,
            fields: &fields,
            accepts_trailers: self.accepts_trailers,
            forwarded: forwarded.as_ref(),
            id: self.id.as_deref(),
        })
    }
}

/// What a trusted proxy has said, copied.
#[derive(Debug)]
struct Said {
    client: Option<(IpAddr, u16)>,
    scheme: Option<Scheme>,
    host: Option<Box<[u8]>>,
    /// Raw and decoded.
    prefix: Option<(Box<str>, Box<str>)>,
}

impl Said {
    fn copy(forwarded: &Forwarded<'_>) -> Self {
        let Forwarded { client, scheme, host, prefix } = forwarded;
        Self {
            client: *client,
            scheme: *scheme,
            host: host.as_deref().map(Into::into),
            prefix: prefix.as_ref().map(|prefix| (prefix.raw.into(), (*prefix.path).into())),
        }
    }

    fn lend(&self) -> Forwarded<'_> {
        Forwarded {
            client: self.client,
            scheme: self.scheme,
            host: self.host.as_deref().map(Cow::Borrowed),
            prefix: self
                .prefix
                .as_ref()
                .map(|(raw, path)| Prefix { raw, path: Cow::Borrowed(path) }),
        }
    }
}

/// What all requests of a connection share, made for the first of them.
#[derive(Debug)]
pub(crate) struct LaterScope {
    info: ConnectionInfo,
    scope: OnceLock<ConnectionScope>,
}

impl LaterScope {
    pub(crate) fn new(info: &ConnectionInfo) -> Self {
        Self { info: info.clone(), scope: OnceLock::new() }
    }

    pub(crate) fn get(
        &self,
        py: Python<'_>,
        template: &ScopeTemplate,
    ) -> PyResult<&ConnectionScope> {
        if let Some(scope) = self.scope.get() {
            return Ok(scope);
        }
        let scope = template.of_connection(py, &self.info)?;
        Ok(self.scope.get_or_init(|| scope))
    }
}
