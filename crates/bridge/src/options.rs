//! Settings in the terms of the crates that use them.

use rsgi_config::{BindOptions, HttpOptions};
use rsgi_protocol::http::HeadLimits;
use rsgi_server::Options;

/// The server's options. `Config` has checked every value, so that no line here can be a wrong
/// header.
pub(crate) fn server(http: &HttpOptions) -> Options {
    let extra = http.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
    let names_server = http.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("server"));
    Options {
        head: HeadLimits {
            size: http.limit_request_head_size,
            target: http.limit_request_head_size,
            fields: http.limit_request_fields,
        },
        body_limit: http.limit_request_body,
        concurrency_limit: http.limit_concurrency,
        head_timeout: http.timeout_request_header,
        keep_alive_timeout: http.timeout_keep_alive,
        date: http.date_header,
        server_field: if http.server_header && !names_server {
            b"server: rsgi\r\n".to_vec()
        } else {
            Vec::new()
        },
        extra_fields: extra.collect::<String>().into_bytes(),
    }
}

/// The kernel's argument; it cuts off at `net.core.somaxconn` anyway.
pub(crate) fn backlog(bind: &BindOptions) -> i32 {
    i32::try_from(bind.backlog).unwrap_or(i32::MAX)
}
