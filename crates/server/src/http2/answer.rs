//! Responses of the server's own, and fields for the stack's map.

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use rsgi_protocol::http::response::ResponseHead;
use tokio::time::Instant;

use crate::service::{App, Service};

/// A response of the server's own.
pub(super) fn answer<A: App>(
    respond: &mut SendResponse<Bytes>,
    service: &Service<A>,
    status: u16,
    text: &str,
    is_head: bool,
) {
    let Ok(head) = ResponseHead::new(status) else {
        return;
    };
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    let date = crate::date::line_at(Instant::now());
    let fields = response.headers_mut();
    append(fields, head.all_fields(service.server_fields(&date)));
    let text_type = HeaderValue::from_static("text/plain; charset=utf-8");
    fields.insert(http::header::CONTENT_TYPE, text_type);
    fields.insert(http::header::CONTENT_LENGTH, text.len().into());
    let one = HeaderValue::from_static("1");
    let version = HeaderValue::from_static("13");
    let more = match status {
        // RFC 6455 section 4.4.
        426 => Some((http::header::SEC_WEBSOCKET_VERSION, version)),
        503 => Some((http::header::RETRY_AFTER, one)),
        _ => None,
    };
    if let Some((name, value)) = more {
        fields.insert(name, value);
    }
    // A client that has reset the stream does not want an answer.
    if let Ok(mut send) = respond.send_response(response, is_head)
        && !is_head
    {
        let _ = send.send_data(Bytes::copy_from_slice(text.as_bytes()), true);
    }
}

/// Adds fields whose names and values have been checked, by rules that are stricter than HTTP/2's.
pub(super) fn append<'a>(map: &mut HeaderMap, fields: impl Iterator<Item = (&'a [u8], &'a [u8])>) {
    for (name, value) in fields {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            map.append(name, value);
        }
    }
}
