//! A link to a server that speaks HTTP+SSE (MCP 2024-11-05): the gate is its client.
//!
//! One event stream carries everything that the server says; its first event names where messages are posted. The stream
//! is the session: when it ends, so does the conversation, since what was under way is lost. A server that forgot the
//! session says so (404) before it looks at a message, so that one may be repeated in a new session.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    collections::HashSet,
};

use http::StatusCode;
use tokio::sync::{mpsc, oneshot};

use super::{
    Far, FromServer, Link, ToServer,
    place::{EventStream, Lost, MOST_IN_FLIGHT, Place, refused},
};
use crate::{
    error::{Error, Kind},
    mcp::{
        endpoint,
        events::is_event_stream,
        message::{self, Id, Malformed, Message, Part},
        oversize::Answers,
    },
};

/// Opens a link; the server is reached with the first message. Call it on the worker whose pool it is.
///
/// Dropping the link closes the event stream, which ends the session.
pub fn open(place: Place) -> Link {
    let (link, far) = Link::pair();
    tokio::task::spawn_local(run(place, far));
    link
}

async fn run(place: Place, mut far: Far) {
    let server = Server {
        place,
        to_client: far.to_client.clone(),
        pending: RefCell::default(),
        initialize: RefCell::default(),
        renewing: Cell::default(),
    };
    tokio::select! {
        () = far.to_client.closed() => {}
        ended = server.serve(&mut far.from_client) => {
            if let Some(cause) = ended {
                server.lose(&cause).await;
                // A user that left needs no reason.
                let _ = far.to_client.send(FromServer::Ended { cause }).await;
            }
        }
    }
}

struct Server {
    place: Place,
    to_client: mpsc::Sender<FromServer>,
    /// Requests that wait for their answers on the stream.
    pending: RefCell<HashSet<Id>>,
    /// How the client began, for the case that the server forgets it.
    initialize: RefCell<Option<Message>>,
    /// Who waits for the answer to the gate's own `initialize`.
    renewing: Cell<Option<oneshot::Sender<Message>>>,
}

/// How a session ended.
enum End {
    /// The client left.
    Over,
    /// For good.
    Lost(Cow<'static, str>),
    /// The server forgot it, and did not take this message.
    Forgotten(Box<Message>),
}

/// What became of a posted message.
enum Posted {
    /// It was taken, or refused, and there is no more to do about it.
    Done,
    /// It was not looked at: the server knows no such session.
    Forgotten,
}

impl Server {
    /// Carries messages until the client is gone, or until there is no session to have. Returns why, in that case.
    async fn serve(&self, from_client: &mut mpsc::Receiver<ToServer>) -> Option<Cow<'static, str>> {
        let mut next = loop {
            if let ToServer::Message(outbound) = from_client.recv().await? {
                break outbound.message;
            }
        };
        let mut is_repeat = false;
        loop {
            let (mut events, path) = match self.connect().await {
                Ok(connected) => connected,
                Err(error) => {
                    let cause = error.to_string().into();
                    self.fail(request(&next), error).await;
                    return Some(cause);
                }
            };
            let ended = tokio::select! {
                cause = self.read(&mut events) => End::Lost(cause),
                ended = self.write(&path, next, is_repeat, from_client) => ended,
            };
            match ended {
                End::Over => return None,
                End::Lost(cause) => return Some(cause),
                End::Forgotten(message) => {
                    self.lose("the server forgot the session").await;
                    (next, is_repeat) = (*message, true);
                }
            }
        }
    }

    /// Opens the event stream, and learns from it where messages go.
    async fn connect(&self) -> Result<(EventStream, String), Error> {
        let answer = self.place.get(Vec::new()).await?;
        if answer.status != StatusCode::OK {
            return Err(refused(answer.status));
        }
        if !is_event_stream(&answer.headers) {
            return Err(Kind::UpstreamUnreachable.because("the answer is no event stream"));
        }
        let mut events = answer.into_events();
        let path = tokio::time::timeout(self.place.head_timeout, self.endpoint(&mut events))
            .await
            .map_err(|_| Kind::UpstreamTimeout.because("no endpoint event in time"))??;
        Ok((events, path))
    }

    async fn endpoint(&self, events: &mut EventStream) -> Result<String, Error> {
        let unreachable = |cause: String| Kind::UpstreamUnreachable.because(cause);
        loop {
            match events.next().await.map_err(|lost| lost.error)? {
                Some(event) if event.name == "endpoint" => {
                    let (path, query) = endpoint::resolve(&self.place.target.url, &event.data)
                        .map_err(|e| unreachable(e.to_string()))?;
                    return Ok(query.map_or(path.clone(), |query| format!("{path}?{query}")));
                }
                Some(_) => {}
                None => return Err(unreachable("the event stream ended before the endpoint event".into())),
            }
        }
    }

    /// Passes on what the server says, until the stream ends. Returns why it is of no more use.
    async fn read(&self, events: &mut EventStream) -> Cow<'static, str> {
        loop {
            let event = match events.next().await {
                Ok(Some(event)) => event,
                Ok(None) => return "the event stream ended".into(),
                Err(Lost { answers: Answers::Request(id), error }) => {
                    if self.pending.borrow_mut().remove(&id) {
                        self.fail(Some(&id), error).await;
                    }
                    continue;
                }
                Err(Lost { answers: Answers::Nobody, .. }) => continue,
                // It may have been an answer, and nobody could tell to what.
                Err(Lost { answers: Answers::Unknown, error }) => return error.to_string().into(),
            };
            if !event.is_message() {
                continue;
            }
            let message = match events.message(event) {
                Ok(message) => message,
                // It may have been an answer, and nobody could tell to what.
                Err(e) => return format!("the server sent something that is no message: {e}").into(),
            };
            if message.kind() == message::Kind::Response && !self.is_awaited(&message) {
                continue;
            }
            if is_renewal(&message)
                && let Some(renewing) = self.renewing.take()
            {
                // Who waited for it may have given up.
                let _ = renewing.send(message);
                continue;
            }
            // A client that is gone ends the conversation elsewhere.
            let _ = self.to_client.send(FromServer::Message { message, about: None }).await;
        }
    }

    /// Whether somebody waits for this response; from now on nobody does.
    fn is_awaited(&self, response: &Message) -> bool {
        response.id().is_some_and(|id| self.pending.borrow_mut().remove(id))
    }

    /// Posts what comes from the client, beginning with `first`, each message once the one before was taken.
    async fn write(
        &self,
        path: &str,
        first: Message,
        is_repeat: bool,
        from_client: &mut mpsc::Receiver<ToServer>,
    ) -> End {
        if is_repeat && let Err(error) = self.renew(path).await {
            let cause = error.to_string().into();
            self.fail(request(&first), error).await;
            return End::Lost(cause);
        }
        let mut is_repeat = is_repeat;
        let mut next = Some(first);
        loop {
            let message = match next.take() {
                Some(message) => message,
                None => match from_client.recv().await {
                    None => return End::Over,
                    Some(ToServer::Message(outbound)) => outbound.message,
                    Some(ToServer::Abandon(id)) => {
                        let has_session = self.initialize.borrow().is_some();
                        let cancelled = if has_session {
                            Message::cancelled(&id)
                        } else {
                            Message::cancelled_modern(&id)
                        };
                        match cancelled {
                            Ok(cancelled) if self.pending.borrow_mut().remove(&id) => cancelled,
                            _ => continue,
                        }
                    }
                },
            };
            let may_repeat = !std::mem::take(&mut is_repeat);
            if let Posted::Forgotten = self.post(path, &message, may_repeat).await {
                return End::Forgotten(Box::new(message));
            }
        }
    }

    /// Posts one message. A request is pending from before it is sent, since its answer may be faster than that of the POST.
    async fn post(&self, path: &str, message: &Message, may_repeat: bool) -> Posted {
        let request = request(message);
        if let Some(id) = request {
            if self.pending.borrow().len() >= MOST_IN_FLIGHT {
                let why = "too many requests of one session wait for this server";
                self.fail(request, Kind::CallerLimit.because(why)).await;
                return Posted::Done;
            }
            self.pending.borrow_mut().insert(id.clone());
        }
        let refusal = match self.place.post(path, message, Vec::new()).await {
            Ok(answer) if answer.status.is_success() => {
                answer.discard().await;
                if message.method() == "initialize" {
                    self.initialize.replace(Some(message.clone()));
                }
                return Posted::Done;
            }
            Ok(answer) if answer.status == StatusCode::NOT_FOUND && may_repeat && self.outlives(message) => {
                answer.discard().await;
                if let Some(id) = request {
                    self.pending.borrow_mut().remove(id);
                }
                return Posted::Forgotten;
            }
            Ok(answer) => match request {
                Some(id) => answer.into_refusal(id).await,
                None => return Posted::Done,
            },
            Err(error) => Err(error),
        };
        if let Some(id) = request
            && self.pending.borrow_mut().remove(id)
        {
            match refusal {
                Ok(message) => drop(self.to_client.send(FromServer::Message { message, about: None }).await),
                Err(error) => self.fail(request, error).await,
            }
        }
        Posted::Done
    }

    /// Whether a message has a meaning in another session than the one it was meant for.
    fn outlives(&self, message: &Message) -> bool {
        self.initialize.borrow().is_some()
            && message.method() != "initialize"
            && message.kind() != message::Kind::Response
    }

    /// Begins a session in the client's stead, as the client began the one before.
    async fn renew(&self, path: &str) -> Result<(), Error> {
        let internal = |e: Malformed| Kind::Internal.because(e.to_string());
        let remembered = self.initialize.borrow().clone();
        let initialize = remembered.ok_or_else(|| refused(StatusCode::NOT_FOUND))?;
        let id = renewal_id();
        let initialize = initialize.with(&[(Part::Id, id.to_string().into())]).map_err(internal)?;
        let (renewing, renewed) = oneshot::channel();
        self.renewing.set(Some(renewing));
        self.pending.borrow_mut().insert(id);
        self.take(path, &initialize).await?;
        let renewed = tokio::time::timeout(self.place.head_timeout, renewed)
            .await
            .map_err(|_| Kind::UpstreamTimeout.because("no answer to initialize in time"))?;
        if renewed.is_ok_and(|response| response.part(Part::Result).is_none()) {
            return Err(
                Kind::UpstreamUnreachable.because("the server forgot the session and refuses a new one")
            );
        }
        let initialized = Message::notification("notifications/initialized", "{}").map_err(internal)?;
        self.take(path, &initialized).await
    }

    /// Posts a message of the gate's own, which must be taken.
    async fn take(&self, path: &str, message: &Message) -> Result<(), Error> {
        let answer = self.place.post(path, message, Vec::new()).await?;
        if !answer.status.is_success() {
            return Err(refused(answer.status));
        }
        answer.discard().await;
        Ok(())
    }

    async fn fail(&self, id: Option<&Id>, error: Error) {
        if let Some(id) = id {
            let _ = self.to_client.send(FromServer::Failed { id: id.clone(), error }).await;
        }
    }

    /// Fails every request that waits.
    async fn lose(&self, cause: &str) {
        let pending = self.pending.take();
        for id in pending.iter().filter(|id| **id != renewal_id()) {
            self.fail(Some(id), Kind::UpstreamUnreachable.because(cause.to_owned())).await;
        }
    }
}

/// The id of a message that waits for an answer.
fn request(message: &Message) -> Option<&Id> {
    message.id().filter(|_| message.kind() == message::Kind::Request)
}

/// The id of the gate's own `initialize`.
fn renewal_id() -> Id {
    Id::String("sluicegate-initialize".into())
}

fn is_renewal(message: &Message) -> bool {
    message.kind() == message::Kind::Response && message.id() == Some(&renewal_id())
}

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
