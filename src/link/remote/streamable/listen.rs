//! The event stream of a session: what the server has to say that belongs to no request.

use std::{convert::Infallible, future::pending, rc::Rc, time::Duration};

use crate::link::remote::streamable::{
    answer::{RETRY, SHORTEST_RETRY},
    session::{ServerSession, StreamableServer},
};
use crate::{
    error::ErrorKind,
    ledger::Resource,
    link::{awaited::Oddity, remote::server::EventStream},
    mcp::{header::LAST_EVENT_ID, message, sse::reader::is_event_stream},
};

/// The longest that a server which has nothing to say, or is not there, is left alone.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

impl StreamableServer {
    /// Listens for as long as it is polled, to whichever session there is.
    pub(super) async fn listen(&self) -> Infallible {
        let mut sessions = self.session.subscribe();
        loop {
            let session = Rc::clone(&sessions.borrow_and_update());
            tokio::select! {
                // The sender is part of what `self` is, so there is always a next one to wait for.
                _ = sessions.changed() => {}
                never = self.follow(&session) => match never {},
            }
        }
    }

    /// Listens to one session. A server that offers no stream (405) is not asked again.
    async fn follow(&self, session: &ServerSession) -> Infallible {
        if !session.is_open {
            return pending().await;
        }
        let mut last_id = None;
        let mut retry = None;
        let mut silent = Duration::ZERO;
        loop {
            let mut fields = session.fields();
            fields.extend(last_id.clone().map(|id| (LAST_EVENT_ID, id)));
            silent = (silent * 2).clamp(RETRY, LONGEST_PAUSE);
            match self.http_server.get(Resource::ServerStreams, fields).await {
                Ok(answer) if answer.status.is_success() && is_event_stream(&answer.headers) => {
                    let mut events = answer.into_events();
                    if self.pass_on(&mut events).await {
                        silent = Duration::ZERO;
                    }
                    last_id = events.last_id().or(last_id);
                    retry = events.retry().or(retry);
                }
                Ok(answer) if !answer.status.is_server_error() => return pending().await,
                Err(error) if error.kind == ErrorKind::UpstreamUnauthorized => return pending().await,
                Ok(_) | Err(_) => {}
            }
            tokio::time::sleep(retry.unwrap_or(RETRY).max(SHORTEST_RETRY).max(silent)).await;
        }
    }

    /// Passes on what comes, to the end of the stream. Returns whether anything came.
    async fn pass_on(&self, events: &mut EventStream) -> bool {
        while let Some(message) = events.message().await {
            match message {
                Ok(message) if message.kind() != message::MessageKind::Response => {
                    self.deliver(message, None).await;
                }
                Ok(_) => (self.http_server.report)(Oddity::Unasked),
                // Requests have streams of their own.
                Err(_) => {}
            }
        }
        events.has_begun
    }
}
