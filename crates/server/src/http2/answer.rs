//! Responses of the server's own, and fields for the stack's map.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use rsgi_protocol::http::response::{ResponseHead, ServerFields};
use tokio::time::Instant;

use crate::service::{App, Service};

/// `date` and `server` as the stack wants them, made once a second: a copy costs a third of what
/// checking and hashing the two again does.
#[derive(Debug, Default)]
pub(crate) struct OwnFields(Mutex<Option<Made>>);

#[derive(Debug)]
struct Made {
    date: Box<[u8]>,
    fields: HeaderMap,
}

impl OwnFields {
    fn copy(&self, server: ServerFields<'_>) -> HeaderMap {
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some(made) if *made.date == *server.date => made.fields.clone(),
            Some(_) | None => {
                let mut fields = HeaderMap::new();
                append(&mut fields, server.date_and_server());
                *made = Some(Made { date: server.date.into(), fields: fields.clone() });
                fields
            }
        }
    }
}

/// All fields of a response but `content-length`.
pub(super) fn header_map<A: App>(
    service: &Service<A>,
    head: &ResponseHead,
    server: ServerFields<'_>,
) -> HeaderMap {
    if head.gives_date_or_server() {
        let mut map = HeaderMap::new();
        append(&mut map, head.all_fields(server));
        return map;
    }
    let mut map = service.own_fields.copy(server);
    append(&mut map, head.all_fields(ServerFields { date: &[], server: &[], ..server }));
    map
}

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
    *response.headers_mut() = header_map(service, &head, service.server_fields(&date));
    let fields = response.headers_mut();
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
