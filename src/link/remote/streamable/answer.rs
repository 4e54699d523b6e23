//! The answer to one request, in whichever form the server gives it.

use std::time::Duration;

use http::HeaderValue;

use crate::link::remote::streamable::session::{ServerSession, StreamableServer};
use crate::{
    error::{Error, ErrorKind},
    ledger::Resource,
    link::{
        awaited::{Oddity, contested, unreadable},
        remote::server::{EventStream, HttpAnswer, LostMessage, answer_to, refused},
    },
    mcp::{
        header::LAST_EVENT_ID,
        message::{self, Id, Malformed, Message},
        oversize::Answers,
        sse::reader::{is_event_stream, is_json},
    },
};

/// How long to wait before a stream is taken up again, when the server does not say: what browsers do, and the least
/// whatever it says.
pub(super) const RETRY: Duration = Duration::from_secs(1);
pub(super) const SHORTEST_RETRY: Duration = Duration::from_millis(50);

/// How often in a row taking up a stream may fail before its request has.
const MOST_FAILURES: u32 = 3;

impl StreamableServer {
    /// The response to the request `id`, out of the answer to its POST. What comes with it goes to the client right away, as
    /// belonging to `about`.
    ///
    /// A stream that ends early is taken up again where `may_resume` and where the server made that possible by giving
    /// its events ids (MCP 2025-11-25, and resumption before): that only fetches, it repeats nothing.
    pub(super) async fn response(
        &self,
        session: &ServerSession,
        answer: HttpAnswer,
        id: &Id,
        about: Option<&Id>,
        may_resume: impl Fn() -> bool,
    ) -> Result<Message, Error> {
        if !answer.status.is_success() {
            return answer.into_refusal(id).await;
        }
        if is_json(&answer.headers) {
            let (answer, others) = answer.into_messages(id).await?;
            for message in others {
                self.deliver(message, about.cloned()).await;
            }
            return Ok(answer);
        }
        if !is_event_stream(&answer.headers) {
            return Err(
                ErrorKind::UpstreamUnreachable.with_cause("the answer is neither JSON nor an event stream")
            );
        }
        let mut events = answer.into_events();
        let mut last_id = None;
        let mut retry = None;
        loop {
            if let Some(response) = self.read(&mut events, id, about).await? {
                events.discard();
                return Ok(response);
            }
            last_id = events.last_id().or(last_id);
            retry = events.retry().or(retry);
            let Some(from) = last_id.as_ref().filter(|_| may_resume()) else {
                return Err(
                    ErrorKind::UpstreamUnreachable.with_cause("the event stream ended before the answer")
                );
            };
            // Its connection counts until then.
            drop(events);
            events = self.resume(session, from, retry.unwrap_or(RETRY).max(SHORTEST_RETRY)).await?;
        }
    }

    /// Reads until the response to the request `id`; `None` if the stream ends before.
    async fn read(
        &self,
        events: &mut EventStream,
        id: &Id,
        about: Option<&Id>,
    ) -> Result<Option<Message>, Error> {
        while let Some(message) = events.message().await {
            match message {
                Err(LostMessage { answers, error }) if answers.names(id) => return Err(error),
                // What comes here and is no other message is taken for the answer.
                Err(LostMessage { answers: Answers::Unknown, error }) => return Err(error),
                Err(_) => {}
                Ok(message) if message.kind() != message::MessageKind::Response => {
                    self.deliver(message, about.cloned()).await;
                }
                // Which of its ids counts, readers do not agree on.
                Ok(message) if contested(&message).is_some_and(|answers| answers.names(id)) => {
                    (self.http_server.report)(Oddity::Unreadable(Malformed::Ambiguous));
                    return Err(unreadable(Malformed::Ambiguous));
                }
                Ok(message) => match answer_to(message, id) {
                    Some(response) => return Ok(Some(response)),
                    None => (self.http_server.report)(Oddity::Unasked),
                },
            }
        }
        Ok(None)
    }

    /// Takes up a stream behind the event `from`, after `pause`.
    async fn resume(
        &self,
        session: &ServerSession,
        from: &HeaderValue,
        pause: Duration,
    ) -> Result<EventStream, Error> {
        let mut failures = 0;
        loop {
            tokio::time::sleep(pause).await;
            let mut fields = session.fields();
            fields.push((LAST_EVENT_ID, from.clone()));
            let error = match self.http_server.get(Resource::ServerCalls, fields).await {
                Ok(answer) if answer.status.is_success() && is_event_stream(&answer.headers) => {
                    return Ok(answer.into_events());
                }
                Ok(answer) if !answer.status.is_server_error() => return Err(refused(answer.status)),
                Err(error) if error.kind == ErrorKind::UpstreamUnauthorized => return Err(error),
                Ok(answer) => refused(answer.status),
                Err(error) => error,
            };
            failures += 1;
            if failures == MOST_FAILURES {
                return Err(error);
            }
        }
    }
}
