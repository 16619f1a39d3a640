//! Settings in the terms of the crates that use them.

use std::sync::Arc;
use std::time::Duration;

use rsgi_config::{
    BindOptions, Config, ForwardedField as Named, HttpOptions, HttpVersions,
    ProxyProtocol as Spoken, TrustedPeer, Ws,
};
use rsgi_protocol::forwarded::{ForwardedField, Forwarding, Trust};
use rsgi_protocol::http::HeadLimits;
use rsgi_protocol::proxy_header;
use rsgi_server::{Options, Overload, ProxyProtocol, Residence, Versions, WebSocketOptions};

/// How long a WebSocket's application may go on once it knows that the server stops: enough for a
/// goodbye, and well within what Docker gives a container (10 s).
const WEBSOCKET_GRACE: Duration = Duration::from_secs(3);

/// The server's options. `Config` has checked every value, so that no line here can be a wrong
/// header.
pub(crate) fn server(config: &Config, application: Residence) -> Options {
    let http = &config.http;
    let extra = http.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let names_server = http.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("server"));
    Options {
        versions: match http.versions {
            HttpVersions::Auto => Versions::All,
            HttpVersions::Http1 => Versions::Http1,
            HttpVersions::Http2 => Versions::Http2,
        },
        head: HeadLimits {
            size: http.limit_request_head_size,
            target: http.limit_request_head_size,
            fields: http.limit_request_fields,
        },
        body_limit: http.limit_request_body,
        concurrency_limit: http.limit_concurrency,
        overload: overload(http),
        head_timeout: http.timeout_request_header,
        keep_alive_timeout: http.timeout_keep_alive,
        websocket: websocket(config),
        forwarding: forwarding(config),
        date: http.date_header,
        server_field: if http.server_header && !names_server {
            b"server: rsgi\r\n".to_vec()
        } else {
            Vec::new()
        },
        extra_fields: extra.collect::<String>().into_bytes(),
        application,
        is_hasty: config.reload.is_on,
    }
}

/// Whose forwarded fields are read, and which.
fn forwarding(config: &Config) -> Option<Arc<Forwarding>> {
    let proxy = &config.proxy;
    let fields = proxy.fields.iter().map(|field| match field {
        Named::For => ForwardedField::For,
        Named::Proto => ForwardedField::Proto,
        Named::Host => ForwardedField::Host,
        Named::Prefix => ForwardedField::Prefix,
        Named::Standard => ForwardedField::Standard,
    });
    let fields: Vec<ForwardedField> = fields.collect();
    let trust = trust(&proxy.allow_from);
    let is_on = proxy.headers && !fields.is_empty() && trust != Trust::default();
    is_on.then(|| Arc::new(Forwarding { trust, fields }))
}

/// From whom PROXY headers are taken, if from anybody.
pub(crate) fn proxy_protocol(config: &Config) -> Option<Arc<ProxyProtocol>> {
    let versions = match config.proxy.protocol {
        Spoken::Off => return None,
        Spoken::V1 => proxy_header::Versions::V1,
        Spoken::V2 => proxy_header::Versions::V2,
        Spoken::Auto => proxy_header::Versions::Both,
    };
    let trust = trust(&config.proxy.protocol_allow_from);
    Some(Arc::new(ProxyProtocol { versions, trust }))
}

fn trust(peers: &[TrustedPeer]) -> Trust {
    let mut trust = Trust::default();
    for peer in peers {
        match peer {
            TrustedPeer::Everybody => trust.everybody = true,
            TrustedPeer::Unix => trust.unix = true,
            TrustedPeer::Network(network) => trust.networks.push(*network),
            TrustedPeer::Name(name) => trust.names.push(name.clone()),
        }
    }
    trust
}

fn overload(http: &HttpOptions) -> Overload {
    Overload {
        queue_limit: http.limit_queue,
        queue_timeout: http.timeout_queue,
        request_timeout: http.timeout_request,
        connection_limit: http.limit_connections,
    }
}

fn websocket(config: &Config) -> Option<WebSocketOptions> {
    let websocket = &config.websocket;
    (websocket.ws == Ws::Auto).then(|| WebSocketOptions {
        max_size: websocket.ws_max_size,
        max_queue: websocket.ws_max_queue,
        ping_interval: websocket.ws_ping_interval,
        ping_timeout: websocket.ws_ping_timeout,
        deflate: websocket.ws_per_message_deflate,
        drain_grace: websocket_grace(config),
    })
}

fn websocket_grace(config: &Config) -> Duration {
    if config.reload.is_on {
        return Duration::ZERO;
    }
    WEBSOCKET_GRACE.min(config.workers.timeout_graceful_shutdown / 2)
}

/// The kernel's argument; it cuts off at `net.core.somaxconn` anyway.
pub(crate) fn backlog(bind: &BindOptions) -> i32 {
    i32::try_from(bind.backlog).unwrap_or(i32::MAX)
}
