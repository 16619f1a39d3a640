//! A stream whose request asks for a WebSocket, once the application accepts it.

use std::mem;
use std::task::Context;

use http::{HeaderValue, Response};
use tokio::time::Instant;

use super::{Lost, SendState, Socket, StreamTask};
use crate::access_log::Entry;
use crate::http2::answer::append;
use crate::http2::tunnel::Tunnel;
use crate::service::App;
use crate::websocket::Log;

impl<A: App> StreamTask<A> {
    /// The application has accepted a WebSocket: answers, and goes on with it.
    pub(super) fn switch(&mut self, cx: &mut Context<'_>) -> Result<(), Lost> {
        let Socket::Asked(asked) = mem::replace(&mut self.socket, Socket::None) else {
            return Err(Lost);
        };
        let (Some(acceptance), Some(options)) =
            (asked.websocket.take_acceptance(), &self.service.options.websocket)
        else {
            return Err(Lost);
        };
        let date = crate::date::line_at(Instant::now());
        let mut response = Response::new(());
        let fields = response.headers_mut();
        append(fields, acceptance.all_fields(self.service.server_fields(&date)));
        if let Some(agreement) = asked.deflate
            && let Ok(value) = HeaderValue::try_from(agreement.to_field())
        {
            fields.insert(http::header::SEC_WEBSOCKET_EXTENSIONS, value);
        }
        let sent = self.respond.send_response(response, false);
        let log =
            if self.entry().is_some_and(Entry::is_listed) { Log::Lines } else { Log::Nothing };
        let Ok(send) = sent else {
            self.socket = Socket::Asked(asked);
            return Err(Lost);
        };
        let tunnel = Tunnel::new(*asked, send, options, log, cx.waker());
        self.socket = Socket::Open(Box::new(tunnel));
        // What HTTP/1.1 answers and the log knows as accepted; the client sees 200.
        self.status = 101;
        self.silence.set(None);
        self.response = SendState::Ended;
        self.count_off();
        Ok(())
    }

    /// A shutdown has got further.
    pub(in crate::http2) fn follow_shutdown(&self) {
        if let Socket::Open(tunnel) = &self.socket {
            return tunnel.wake();
        }
        self.end_stream();
    }

    /// The shutdown's deadline has passed.
    pub(in crate::http2) fn cut_websocket(&mut self) {
        if let Socket::Open(tunnel) = &mut self.socket {
            tunnel.cut();
        }
    }
}
