//! The HTTP and WebSocket scope dicts (ASGI HTTP 2.5 and WebSocket 2.5, "Connection Scope"). What the keys mean is
//! `protocol::scope`'s.
//!
//! One dict is made per connection and copied per request; what frameworks are known to write into
//! (`state`, `extensions`) is a copy of its own, so that nothing leaks from one request into the
//! next.

use std::sync::Mutex;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};
use rsgi_protocol::forwarded::Forwarded;
use rsgi_protocol::http::decode_path;
use rsgi_protocol::http::head::{Field, Version};
use rsgi_protocol::scope::{
    ASGI_VERSION, HTTP_SPEC_VERSION, encode_root_path, with_raw_root_path, with_root_path,
};
use rsgi_protocol::websocket::handshake::subprotocols;
use rsgi_server::tls::TlsInfo;
use rsgi_server::{ConnectionInfo, Request};

use crate::file::{PATH_SEND, ZERO_COPY_SEND};

/// Everything of a scope that is the same for all requests of a worker.
#[derive(Debug)]
pub(crate) struct ScopeTemplate {
    /// Its values are those of most requests, so that they need not be set again.
    scope: Py<PyDict>,
    state: Py<PyDict>,
    extensions: Extensions,
    root_path: String,
    raw_root_path: String,
    names: NameCache,
}

/// Everything of a scope that is the same for all requests of a connection.
#[derive(Debug)]
pub(crate) struct ConnectionScope {
    /// The worker's, with what this connection adds.
    scope: Py<PyDict>,
    /// What the extension `tls` tells.
    tls: Option<Py<PyDict>>,
}

/// Our own extension `rsgi.request_id`: what the logs call the request, where they have a name for it.
fn add_request_id(extensions: &Bound<'_, PyDict>, request: &Request<'_>) -> PyResult<()> {
    let Some(id) = request.id else { return Ok(()) };
    let py = extensions.py();
    let extension = PyDict::new(py);
    extension.set_item(intern!(py, "id"), id)?;
    extensions.set_item(intern!(py, "rsgi.request_id"), extension)
}

/// The extension `tls` of a scope (ASGI TLS 0.2).
fn tls_extension(py: Python<'_>, tls: &TlsInfo) -> PyResult<Py<PyDict>> {
    let extension = PyDict::new(py);
    extension.set_item("server_cert", &*tls.server_certificate)?;
    extension.set_item("client_cert_chain", PyTuple::new(py, &tls.client_chain)?)?;
    extension.set_item("client_cert_name", tls.client_name.as_deref())?;
    // A client whose certificate is not valid does not get this far.
    extension.set_item("client_cert_error", py.None())?;
    extension.set_item("tls_version", tls.version)?;
    extension.set_item("cipher_suite", tls.cipher_suite)?;
    Ok(extension.unbind())
}

impl ScopeTemplate {
    /// `state` is the lifespan's.
    pub(crate) fn new(py: Python<'_>, root_path: &str, state: Py<PyDict>) -> PyResult<Self> {
        let scope = PyDict::new(py);
        // Every key is there from the start: a copy then has its final size and its keys' places,
        // and filling it in neither grows nor rehashes it.
        scope.set_item(intern!(py, "type"), intern!(py, "http"))?;
        scope.set_item(intern!(py, "asgi"), py.None())?;
        scope.set_item(intern!(py, "http_version"), intern!(py, "1.1"))?;
        scope.set_item(intern!(py, "method"), intern!(py, "GET"))?;
        for key in [intern!(py, "scheme"), intern!(py, "path"), intern!(py, "raw_path")] {
            scope.set_item(key, py.None())?;
        }
        scope.set_item(intern!(py, "query_string"), PyBytes::new(py, b""))?;
        scope.set_item(intern!(py, "root_path"), root_path)?;
        for key in [
            intern!(py, "headers"),
            intern!(py, "client"),
            intern!(py, "server"),
            intern!(py, "state"),
            intern!(py, "extensions"),
        ] {
            scope.set_item(key, py.None())?;
        }
        Ok(Self {
            extensions: Extensions::new(py)?,
            scope: scope.unbind(),
            state,
            root_path: root_path.to_owned(),
            raw_root_path: encode_root_path(root_path).into_owned(),
            names: NameCache::new(py),
        })
    }

    /// What all requests of one connection share.
    pub(crate) fn of_connection(
        &self,
        py: Python<'_>,
        peer: &ConnectionInfo,
    ) -> PyResult<ConnectionScope> {
        let scope = self.scope.bind(py).copy()?;
        let asgi = PyDict::new(py);
        asgi.set_item(intern!(py, "version"), ASGI_VERSION)?;
        asgi.set_item(intern!(py, "spec_version"), HTTP_SPEC_VERSION)?;
        scope.set_item(intern!(py, "asgi"), asgi)?;
        scope.set_item(intern!(py, "scheme"), PyString::intern(py, peer.scheme))?;
        scope.set_item(intern!(py, "client"), peer.client.as_ref())?;
        scope.set_item(intern!(py, "server"), peer.server.as_ref())?;
        let tls = peer.tls.as_deref().map(|tls| tls_extension(py, tls)).transpose()?;
        Ok(ConnectionScope { scope: scope.unbind(), tls })
    }

    /// The scope of one request.
    pub(crate) fn build<'py>(
        &self,
        py: Python<'py>,
        connection: &ConnectionScope,
        request: &Request<'_>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let scope = connection.scope.bind(py).copy()?;
        let target = &request.target;
        let path = with_root_path(&self.root_path, decode_path(target.path));
        let raw_path = with_raw_root_path(&self.raw_root_path, target.path);
        match request.version {
            Version::Http10 => {
                scope.set_item(intern!(py, "http_version"), intern!(py, "1.0"))?;
            }
            Version::Http11 => {}
            Version::Http2 => scope.set_item(intern!(py, "http_version"), intern!(py, "2"))?,
        }
        if request.method != "GET" {
            scope.set_item(intern!(py, "method"), method(py, request.method))?;
        }
        scope.set_item(intern!(py, "path"), PyString::new(py, &path))?;
        scope.set_item(intern!(py, "raw_path"), PyBytes::new(py, &raw_path))?;
        if !target.query.is_empty() {
            scope.set_item(intern!(py, "query_string"), PyBytes::new(py, target.query))?;
        }
        scope.set_item(intern!(py, "headers"), self.headers(py, request.fields)?)?;
        scope.set_item(intern!(py, "state"), self.state.bind(py).copy()?)?;
        let extensions = self.extensions.of(py, request).copy()?;
        if let Some(tls) = &connection.tls {
            extensions.set_item(intern!(py, "tls"), tls.bind(py).copy()?)?;
        }
        add_request_id(&extensions, request)?;
        scope.set_item(intern!(py, "extensions"), extensions)?;
        if let Some(forwarded) = request.forwarded {
            apply(py, &scope, request, forwarded)?;
        }
        Ok(scope)
    }

    /// The scope of one WebSocket (ASGI WebSocket 2.5): an HTTP scope with a few keys changed.
    pub(crate) fn build_websocket<'py>(
        &self,
        py: Python<'py>,
        connection: &ConnectionScope,
        request: &Request<'_>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let scope = self.build(py, connection, request)?;
        scope.set_item(intern!(py, "type"), intern!(py, "websocket"))?;
        scope.del_item(intern!(py, "method"))?;
        let scheme = scope.get_item(intern!(py, "scheme"))?;
        let is_secure = scheme.is_some_and(|it| it.eq(intern!(py, "https")).unwrap_or(false));
        let scheme = if is_secure { intern!(py, "wss") } else { intern!(py, "ws") };
        scope.set_item(intern!(py, "scheme"), scheme)?;
        let subprotocols = PyList::new(py, subprotocols(request.fields).collect::<Vec<_>>())?;
        scope.set_item(intern!(py, "subprotocols"), subprotocols)?;
        let extensions = PyDict::new(py);
        extensions.set_item(intern!(py, "websocket.http.response"), PyDict::new(py))?;
        if let Some(tls) = &connection.tls {
            extensions.set_item(intern!(py, "tls"), tls.bind(py).copy()?)?;
        }
        add_request_id(&extensions, request)?;
        scope.set_item(intern!(py, "extensions"), extensions)?;
        Ok(scope)
    }

    fn headers<'py>(&self, py: Python<'py>, fields: &[Field<'_>]) -> PyResult<Bound<'py, PyList>> {
        // Where making an object runs something that comes back here, that goes without.
        let mut latest = self.names.latest.try_lock().ok();
        let latest = latest.as_deref_mut().map_or(&mut [][..], Vec::as_mut_slice);
        let mut failure = None;
        let pairs = fields.iter().map(|field| match self.names.pair(py, latest, field) {
            Ok(pair) => pair.into_any(),
            Err(error) => {
                failure = Some(error);
                py.None().into_bound(py)
            }
        });
        let headers = PyList::new(py, pairs)?;
        failure.map_or(Ok(headers), Err)
    }
}

/// Puts what a trusted proxy says into a scope.
fn apply(
    py: Python<'_>,
    scope: &Bound<'_, PyDict>,
    request: &Request<'_>,
    forwarded: &Forwarded<'_>,
) -> PyResult<()> {
    if let Some((address, port)) = forwarded.client {
        scope.set_item(intern!(py, "client"), (address.to_string(), port))?;
    }
    if let Some(scheme) = forwarded.scheme {
        scope.set_item(intern!(py, "scheme"), PyString::intern(py, scheme.as_str()))?;
    }
    // The settings' root path says the same where nobody says it with each request.
    if let Some(prefix) = &forwarded.prefix {
        let path = with_root_path(&prefix.path, decode_path(request.target.path));
        let raw_path = with_raw_root_path(prefix.raw, request.target.path);
        scope.set_item(intern!(py, "root_path"), PyString::new(py, &prefix.path))?;
        scope.set_item(intern!(py, "path"), PyString::new(py, &path))?;
        scope.set_item(intern!(py, "raw_path"), PyBytes::new(py, &raw_path))?;
    }
    Ok(())
}

/// ASGI wants upper case; a method in another case is another method (RFC 9110, section 9.1), but
/// no framework knows it.
fn method<'py>(py: Python<'py>, method: &str) -> Bound<'py, PyString> {
    match method {
        "POST" => intern!(py, "POST").clone(),
        "PUT" => intern!(py, "PUT").clone(),
        "HEAD" => intern!(py, "HEAD").clone(),
        "DELETE" => intern!(py, "DELETE").clone(),
        "PATCH" => intern!(py, "PATCH").clone(),
        "OPTIONS" => intern!(py, "OPTIONS").clone(),
        other => PyString::new(py, &other.to_ascii_uppercase()),
    }
}

/// `extensions`: what works for a request, and nothing else.
#[derive(Debug)]
struct Extensions {
    http10: Py<PyDict>,
    http11: Py<PyDict>,
    /// HTTP/1.1 to a client that takes trailers, and HTTP/2.
    with_trailers: Py<PyDict>,
}

impl Extensions {
    fn new(py: Python<'_>) -> PyResult<Self> {
        let http10 = PyDict::new(py);
        for always in ["http.response.debug", PATH_SEND, ZERO_COPY_SEND] {
            http10.set_item(always, PyDict::new(py))?;
        }
        let http11 = http10.copy()?;
        http11.set_item("http.response.early_hint", PyDict::new(py))?;
        let with_trailers = http11.copy()?;
        with_trailers.set_item("http.response.trailers", PyDict::new(py))?;
        Ok(Self {
            http10: http10.unbind(),
            http11: http11.unbind(),
            with_trailers: with_trailers.unbind(),
        })
    }

    fn of<'py>(&self, py: Python<'py>, request: &Request<'_>) -> &Bound<'py, PyDict> {
        match (request.version, request.accepts_trailers) {
            (Version::Http10, _) => self.http10.bind(py),
            (Version::Http11, false) => self.http11.bind(py),
            (Version::Http11, true) | (Version::Http2, _) => self.with_trailers.bind(py),
        }
    }
}

/// Header names that clients and proxies send all day, as `bytes` made once.
const COMMON_NAMES: &[&str] = &[
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "baggage",
    "cache-control",
    "cdn-loop",
    "cf-connecting-ip",
    "cf-ipcountry",
    "cf-ray",
    "cf-visitor",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "dnt",
    "expect",
    "forwarded",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "last-event-id",
    "origin",
    "pragma",
    "priority",
    "range",
    "referer",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "sec-ch-ua",
    "sec-ch-ua-mobile",
    "sec-ch-ua-platform",
    "sec-fetch-dest",
    "sec-fetch-mode",
    "sec-fetch-site",
    "sec-fetch-user",
    "sec-gpc",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "upgrade",
    "upgrade-insecure-requests",
    "user-agent",
    "via",
    "x-api-key",
    "x-correlation-id",
    "x-csrf-token",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-forwarded-server",
    "x-real-ip",
    "x-request-id",
    "x-requested-with",
];

/// Those of them with another value in every request, or a secret: theirs are not kept.
const CHANGING_NAMES: &[&str] = &[
    "authorization",
    "baggage",
    "cf-connecting-ip",
    "cf-ray",
    "content-length",
    "cookie",
    "if-modified-since",
    "if-none-match",
    "last-event-id",
    "range",
    "sec-websocket-key",
    "traceparent",
    "tracestate",
    "x-api-key",
    "x-correlation-id",
    "x-csrf-token",
    "x-forwarded-for",
    "x-real-ip",
    "x-request-id",
];

/// The longest value that is kept.
const KEPT_VALUE: usize = 256;

/// Header names as lower-case `bytes`, and for each name the last pair of name and value: the next
/// request most often has the same one, and a tuple of bytes can be in any number of scopes.
#[derive(Debug)]
struct NameCache {
    /// By length; each list is a handful of names.
    by_length: Vec<Vec<CommonName>>,
    latest: Mutex<Vec<Option<LatestPair>>>,
}

#[derive(Debug)]
struct CommonName {
    name: &'static [u8],
    bytes: Py<PyBytes>,
    /// Its place among the latest pairs, if it has one there.
    place: Option<usize>,
}

#[derive(Debug)]
struct LatestPair {
    value: Py<PyBytes>,
    pair: Py<PyTuple>,
}

impl NameCache {
    fn new(py: Python<'_>) -> Self {
        let longest = COMMON_NAMES.iter().map(|name| name.len()).max().unwrap_or(0);
        let mut by_length: Vec<Vec<_>> = (0..=longest).map(|_| Vec::new()).collect();
        for (number, name) in COMMON_NAMES.iter().enumerate() {
            if let Some(same_length) = by_length.get_mut(name.len()) {
                same_length.push(CommonName {
                    name: name.as_bytes(),
                    bytes: PyBytes::new(py, name.as_bytes()).unbind(),
                    place: (!CHANGING_NAMES.contains(name)).then_some(number),
                });
            }
        }
        let latest = COMMON_NAMES.iter().map(|_| None).collect();
        Self { by_length, latest: Mutex::new(latest) }
    }

    fn find(&self, name: &str) -> Option<&CommonName> {
        let first = name.as_bytes().first()?.to_ascii_lowercase();
        self.by_length.get(name.len())?.iter().find(|common| {
            common.name.first() == Some(&first) && name.as_bytes().eq_ignore_ascii_case(common.name)
        })
    }

    /// A field as `(name, value)`.
    fn pair<'py>(
        &self,
        py: Python<'py>,
        latest: &mut [Option<LatestPair>],
        field: &Field<'_>,
    ) -> PyResult<Bound<'py, PyTuple>> {
        let Some(common) = self.find(field.name) else {
            let name = if field.name.bytes().any(|byte| byte.is_ascii_uppercase()) {
                PyBytes::new(py, field.name.to_ascii_lowercase().as_bytes())
            } else {
                PyBytes::new(py, field.name.as_bytes())
            };
            return (name, PyBytes::new(py, field.value)).into_pyobject(py);
        };
        let place = common.place.and_then(|place| latest.get_mut(place));
        let place = place.filter(|_| field.value.len() <= KEPT_VALUE);
        if let Some(Some(latest)) = &place
            && latest.value.as_bytes(py) == field.value
        {
            return Ok(latest.pair.bind(py).clone());
        }
        let value = PyBytes::new(py, field.value);
        let pair = (common.bytes.bind(py), &value).into_pyobject(py)?;
        if let Some(place) = place {
            *place = Some(LatestPair { value: value.unbind(), pair: pair.clone().unbind() });
        }
        Ok(pair)
    }
}

/// The `asgi` dict of a lifespan scope, and the scope around it.
pub(crate) fn lifespan_scope<'py>(
    py: Python<'py>,
    state: &Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyDict>> {
    static TYPE: PyOnceLock<Py<PyString>> = PyOnceLock::new();
    let kind = TYPE.get_or_init(py, || PyString::intern(py, "lifespan").unbind());
    let asgi = PyDict::new(py);
    asgi.set_item("version", ASGI_VERSION)?;
    asgi.set_item("spec_version", rsgi_protocol::scope::LIFESPAN_SPEC_VERSION)?;
    let scope = PyDict::new(py);
    scope.set_item("type", kind)?;
    scope.set_item("asgi", asgi)?;
    scope.set_item("state", state)?;
    Ok(scope)
}
