//! What links to servers reached over HTTP have in common: where the server is, one request to it, and what it answered.

use std::{cell::RefCell, future::poll_fn, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use tokio::sync::{Mutex, watch};

use crate::link::{
    awaited::{Callers, Oddity, OddityReport, unreadable},
    awaiting,
};
use crate::{
    config::HttpTarget,
    credentials::{Asker, Missing, NotReady, ReadyCredential, ServerCredentials, oauth::Challenge},
    error::{Error, ErrorKind},
    identity::{Principal, credential_key::CredentialKey},
    ledger::{ByteRoom, Owner, Resource, Share},
    mcp::{
        codes::PARSE_ERROR,
        connect::ConnectNotice,
        incoming::{Batch, ServerOutput},
        message::{self, Id, MAX_MESSAGE, Malformed, Message, Part},
        oversize::Answers,
        sse::reader::{EventReader, SkippedEvent, SseEvent},
    },
    observe::Health,
    secret::Secret,
    upstream::{
        ResponseBody,
        client::{self, Client, ClientRequest, ClientResponse, Field},
    },
};

/// Requests of one conversation that may wait for their answers. More are refused rather than held back: what would be held
/// back with them are the answers to the server's own requests, on which the ones that wait may depend.
pub const MOST_IN_FLIGHT: usize = 256;

/// Messages of one conversation that may be on their way. Beyond requests there is room for as many answers to the server's
/// own requests and notifications; when that is full as well, the client waits.
pub(crate) const MOST_POSTS: usize = 2 * MOST_IN_FLIGHT;

/// Most messages that are taken from a body beside the answer.
const MOST_BESIDE: usize = 64;

/// Why a session is not begun anew.
pub(super) const NO_INITIALIZE: &str = "no answer to initialize in time";

/// How long the end of a response is awaited once nothing more is wanted from it, so that its connection can be used again.
const LINGER: Duration = Duration::from_secs(1);

/// How long what has no answer may wait for a connection, and how often it is looked whether there is one.
const NOTICE_PATIENCE: Duration = Duration::from_secs(5);
const NOTICE_RETRY: Duration = Duration::from_millis(50);

/// A server reached over HTTP, and what it takes to reach it from one worker.
pub struct HttpServer {
    /// How it is reached.
    pub client: Client,
    /// As configured.
    pub target: HttpTarget,
    /// For whom what the server says is held in memory.
    pub owner: Arc<Owner>,
    /// Gets the health of the server.
    pub health: Arc<Health>,
    /// Is called for each mistake of the server.
    pub report: OddityReport,
    /// Whose requests it is sent.
    pub callers: Callers,
    /// Held by what waits for a connection: one at a time looks for it, however many wait.
    pub line: Mutex<()>,
    /// The credential that it is called with, if that is not one of the config.
    pub credential: Option<LinkCredential>,
}

/// With whose credential a server is called in one conversation. That of one connection, and of no other: who connects anew begins
/// another conversation.
pub struct LinkCredential {
    /// Those of the server.
    pub credentials: Arc<ServerCredentials>,
    /// Whose it is.
    pub of: Principal,
    /// Which it is.
    pub key: CredentialKey,
    /// The newest token that the principal came by, of which one may be made.
    pub foreign_token: Box<dyn Fn() -> Option<Secret>>,
    /// What a client is told while it is missing.
    pub notice: NoticeOf,
    /// What was missing last.
    pub lacks: RefCell<Option<ConnectNotice>>,
}

/// What is told of a server while this is missing.
pub type NoticeOf = Box<dyn Fn(&Missing) -> Option<ConnectNotice>>;

impl LinkCredential {
    /// What is to be sent.
    async fn ready(&self) -> Result<Arc<ReadyCredential>, Error> {
        let ready = match self.credentials.ready(&self.of) {
            Some(ready) => Ok(ready),
            None => {
                let foreign_token = (self.foreign_token)();
                let asker = Asker { foreign_token: foreign_token.as_ref(), ..Asker::of(&self.of) };
                self.credentials.obtain(&asker).await
            }
        };
        self.checked(ready)
    }

    /// What is to be sent in place of `used`, which the server would not have.
    async fn renewed(
        &self,
        used: &ReadyCredential,
        challenge: Option<&Challenge>,
        status: StatusCode,
    ) -> Result<Arc<ReadyCredential>, Error> {
        let foreign_token = (self.foreign_token)();
        let asker = Asker { foreign_token: foreign_token.as_ref(), ..Asker::of(&self.of) };
        let renewed = self.credentials.refused(&asker, used, challenge).await;
        self.checked(renewed).map_err(|error| match error.kind {
            ErrorKind::UpstreamUnauthorized => {
                error.kind.with_cause(format!("the server answered {}", status.as_u16()))
            }
            _ => error,
        })
    }

    fn checked(&self, ready: Result<Arc<ReadyCredential>, NotReady>) -> Result<Arc<ReadyCredential>, Error> {
        match ready {
            Ok(ready) if ready.key == self.key => Ok(ready),
            Ok(_) => Err(ErrorKind::Unavailable.with_cause("the server was connected anew")),
            Err(NotReady::Missing(missing)) => {
                let notice = (self.notice)(&missing);
                let required = || ErrorKind::UpstreamAuthorizationRequired.into();
                let error = notice.as_ref().map_or_else(required, awaiting::refusal);
                self.lacks.replace(notice);
                Err(error)
            }
            Err(NotReady::Unavailable(why)) => Err(ErrorKind::UpstreamAuthUnavailable.with_cause(why)),
            Err(NotReady::Refused(why)) => Err(ErrorKind::UpstreamUnauthorized.with_cause(why)),
        }
    }
}

/// Whether the server does not take the credential, or wants it to allow more.
fn refuses_credential(answer: &HttpAnswer) -> bool {
    match answer.status {
        StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => true,
        StatusCode::FORBIDDEN => Challenge::of(&answer.headers).is_some_and(|it| it.wants_scopes()),
        _ => false,
    }
}

/// That a request was written, for those that must not overtake it.
pub(crate) type WrittenSignal = watch::Receiver<bool>;

/// Resolves when the request was written, or came to nothing.
pub(crate) async fn until_sent(mut sent: WrittenSignal) {
    // Who dropped the other end has nothing more to write.
    let _ = sent.wait_for(|sent| *sent).await;
}

/// Header fields of a request.
pub(crate) type HeaderFields = Vec<Field>;

impl HttpServer {
    /// Posts a message to `path`.
    pub(crate) async fn post(
        &self,
        path: &str,
        message: &Message,
        mut fields: HeaderFields,
        sent: &watch::Sender<bool>,
    ) -> Result<HttpAnswer, Error> {
        let both = HeaderValue::from_static("application/json, text/event-stream");
        fields.push((header::ACCEPT, both));
        fields.push((header::CONTENT_TYPE, HeaderValue::from_static("application/json")));
        let purpose = match message.kind() {
            message::MessageKind::Request => Resource::ServerCalls,
            _ => Resource::ServerNotices,
        };
        let request = self.request(Method::POST, path, &fields, message.text().clone());
        self.send(purpose, request, Some(sent)).await
    }

    /// Asks for the event stream of the configured URL.
    pub(crate) async fn get(&self, purpose: Resource, mut fields: HeaderFields) -> Result<HttpAnswer, Error> {
        fields.push((header::ACCEPT, HeaderValue::from_static("text/event-stream")));
        let request = self.request(Method::GET, self.target.path_and_query(), &fields, Bytes::new());
        self.send(purpose, request, None).await
    }

    /// A request with the header fields of the config.
    fn request<'a>(
        &'a self,
        method: Method,
        path: &'a str,
        fields: &'a [Field],
        body: Bytes,
    ) -> ClientRequest<'a> {
        ClientRequest { method, path, fields, configured: &self.target.headers, body }
    }

    /// Ends what `fields` name at the configured URL.
    pub(super) async fn delete(&self, fields: &[Field]) -> Result<HttpAnswer, Error> {
        let request = self.request(Method::DELETE, self.target.path_and_query(), fields, Bytes::new());
        self.send(Resource::ServerNotices, request, None).await
    }

    /// Sends one request and waits for the response head. `sent` becomes true when the request was written.
    async fn send(
        &self,
        purpose: Resource,
        request: ClientRequest<'_>,
        sent: Option<&watch::Sender<bool>>,
    ) -> Result<HttpAnswer, Error> {
        let Some(credential) = &self.credential else {
            let answer = self.send_once(purpose, request, sent).await?;
            ErrorKind::refuse_challenge(answer.status).inspect_err(|error| self.health.failed_by(error))?;
            return Ok(answer);
        };
        let ready = credential.ready().await?;
        let ClientRequest { method, path, fields, configured, body } = request;
        let send = async |ready: &ReadyCredential| {
            // It counts more than a field of that name in the config.
            let others =
                configured.iter().filter(|(name, _)| ready.fields.iter().all(|(own, _)| own != name));
            let configured: Vec<_> = others.chain(&ready.fields).cloned().collect();
            let (method, body) = (method.clone(), body.clone());
            let request = ClientRequest { method, path, fields, configured: &configured, body };
            self.send_once(purpose, request, sent).await
        };
        let answer = send(&ready).await?;
        if !refuses_credential(&answer) {
            return Ok(answer);
        }
        // It did not look at the request.
        let (status, challenge) = (answer.status, Challenge::of(&answer.headers));
        answer.discard().await;
        let ready = credential.renewed(&ready, challenge.as_ref(), status).await?;
        let answer = send(&ready).await?;
        ErrorKind::refuse_challenge(answer.status)?;
        Ok(answer)
    }

    /// Sends one request, whatever the server says of the credential that it has.
    async fn send_once(
        &self,
        purpose: Resource,
        request: ClientRequest<'_>,
        sent: Option<&watch::Sender<bool>>,
    ) -> Result<HttpAnswer, Error> {
        // That there is none is no fault of the server.
        let connection = self.connection(purpose).await?;
        let note_sent = || {
            if let Some(sent) = sent {
                sent.send_replace(true);
            }
        };
        match self.client.ask_noting(request, note_sent).await {
            Ok(ClientResponse { status, headers, body }) => {
                if status.is_redirection() {
                    let error = ErrorKind::UpstreamRedirect.into();
                    self.health.failed_by(&error);
                    return Err(error);
                }
                self.health.answered_with(status);
                let (patience, share) = (self.client.head_timeout, self.owner.hold(Resource::Bytes, 0));
                let report = Arc::clone(&self.report);
                Ok(HttpAnswer { status, headers, body, whole: None, patience, share, connection, report })
            }
            Err(error) => {
                self.health.failed_by(&error);
                Err(error)
            }
        }
    }

    /// What a call comes to that failed so, if it failed because there is no credential for it.
    pub(super) fn said_instead(&self, error: &Error, message: &Message) -> Option<Message> {
        let credential = self.credential.as_ref();
        let credential = credential.filter(|_| error.kind == ErrorKind::UpstreamAuthorizationRequired)?;
        credential.lacks.borrow().as_ref()?.refused_call(message)
    }

    /// What `work` comes to, unless it takes longer than the head of a response may. `late` is the error's cause.
    pub(super) async fn in_time<T>(
        &self,
        work: impl Future<Output = T>,
        late: &'static str,
    ) -> Result<T, Error> {
        let work = tokio::time::timeout(self.client.head_timeout, work);
        work.await.map_err(|_| ErrorKind::UpstreamTimeout.with_cause(late))
    }

    /// The right to one connection, which counts for this resource from before it is made until its response ends: so however
    /// many sessions a caller has, its connections fit into the descriptors that there are. A request or a stream fails
    /// without one. What has no answer waits, since the client would not learn that it failed.
    async fn connection(&self, purpose: Resource) -> Result<Share, Error> {
        let limit = match self.owner.take(purpose) {
            Ok(connection) => return Ok(connection),
            Err(limit) => limit,
        };
        if purpose == Resource::ServerNotices {
            let first_in_line = async {
                let _turn = self.line.lock().await;
                loop {
                    tokio::time::sleep(NOTICE_RETRY).await;
                    if let Ok(connection) = self.owner.take(purpose) {
                        return connection;
                    }
                }
            };
            if let Ok(connection) = tokio::time::timeout(NOTICE_PATIENCE, first_in_line).await {
                return Ok(connection);
            }
            (self.report)(Oddity::Untold(limit));
        }
        Err(Error::out_of(purpose, limit))
    }
}

/// What a server answered: the head, and the body as it comes.
pub(crate) struct HttpAnswer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    body: ResponseBody,
    /// The body, once it was read as a whole.
    whole: Option<Bytes>,
    /// Longest that the next part of a body may take that is wanted as a whole.
    patience: Duration,
    /// Counts what is held of the body.
    share: Share,
    /// Counts the connection.
    connection: Share,
    report: OddityReport,
}

impl HttpAnswer {
    /// The whole body, of at most 4 MiB.
    pub(crate) async fn whole(&mut self) -> Result<Bytes, Error> {
        if let Some(whole) = &self.whole {
            return Ok(whole.clone());
        }
        let mut room = self.share.owner().room();
        let read = client::whole(&mut self.body, MAX_MESSAGE, self.patience, async |held| {
            let held = held as u64;
            self.share.set(held);
            room.open_or_give_up(held).await.map_err(|limit| Error::out_of(Resource::Bytes, limit))
        });
        let whole = read.await.map_err(|error| match room.waits_for() {
            // The server did not stall: nothing more was read.
            Some(limit) if error.kind == ErrorKind::UpstreamTimeout => Error::out_of(Resource::Bytes, limit),
            _ => error,
        })?;
        Ok(self.whole.insert(whole).clone())
    }

    /// That the server took the message; nothing else of the response counts.
    pub(crate) async fn taken(self) -> Result<(), Error> {
        if !self.status.is_success() {
            return Err(refused(self.status));
        }
        self.discard().await;
        Ok(())
    }

    /// Lets go of a response of which only the head counts.
    pub(crate) async fn discard(mut self) {
        // Whatever it comes to: the connection is used again or is not.
        let _ = tokio::time::timeout(LINGER, self.whole()).await;
    }

    /// The body as events.
    pub(crate) fn into_events(self) -> EventStream {
        EventStream {
            body: self.body,
            reader: EventReader::default(),
            batch: None,
            has_begun: false,
            report: self.report,
            room: self.share.owner().room(),
            share: self.share,
            _connection: self.connection,
        }
    }

    /// The answer to the request `id` in a body of JSON, and what else is there: MCP 2025-03-26 has several messages in one
    /// body ("Batching").
    pub(crate) async fn into_messages(mut self, id: &Id) -> Result<(Message, Vec<Message>), Error> {
        let no_answer = || ErrorKind::UpstreamUnreachable.with_cause("the body is no answer to its request");
        let whole = self.whole().await?;
        let (mut answer, mut others) = (None, Vec::new());
        match ServerOutput::read(whole) {
            ServerOutput::Message(message) => {
                message.held_by(self.share);
                answer = answer_to(message, id);
            }
            ServerOutput::Batch(batch) => {
                for incoming in batch {
                    match incoming {
                        ServerOutput::Message(message) => {
                            message.hold_for(self.share.owner());
                            match is_answer(&message) {
                                true => answer = answer.or_else(|| answer_to(message, id)),
                                false if others.len() < MOST_BESIDE => others.push(message),
                                false => {}
                            }
                        }
                        ServerOutput::Unreadable { answers, why } if answers.names(id) => {
                            return Err(unreadable(why));
                        }
                        ServerOutput::Unreadable { .. } | ServerOutput::Batch(_) | ServerOutput::Noise(_) => {
                        }
                    }
                }
            }
            ServerOutput::Unreadable { why, .. } | ServerOutput::Noise(why) => return Err(unreadable(why)),
        }
        answer.map(|answer| (answer, others)).ok_or_else(no_answer)
    }

    /// What a refusal of the request `id` says: the error in its body if it is one, else that it was refused.
    pub(crate) async fn into_refusal(self, id: &Id) -> Result<Message, Error> {
        let status = self.status;
        self.into_messages(id).await.map(|(answer, _)| answer).map_err(|_| refused(status))
    }

    /// Whether this means that the server has no such session, in an answer to a message that named one. MCP has 404 for it;
    /// the TypeScript SDK's examples answer 400 and an error of no request, the Python SDK one of the request
    /// `server-error`, and older ones text.
    pub(crate) async fn disowns_session(&mut self) -> bool {
        match self.status {
            StatusCode::NOT_FOUND => return true,
            StatusCode::BAD_REQUEST => {}
            _ => return false,
        }
        let Ok(body) = self.whole().await else { return false };
        match Message::from_server(body.clone()) {
            Ok(message) => {
                let names_none = match message.id() {
                    None => true,
                    Some(Id::String(id)) => **id == *"server-error",
                    Some(Id::Number(_)) => false,
                };
                let is_error = message.part(Part::Result).is_none() && is_answer(&message);
                is_error && names_none && message.error_code() != Some(PARSE_ERROR)
            }
            Err(_) => {
                let is_text = body.len() <= 256 && !body.trim_ascii_start().starts_with(b"<");
                is_text && body.to_ascii_lowercase().windows(7).any(|word| word == b"session")
            }
        }
    }

    /// Whether the body is a response to the request `id` and no other.
    pub(crate) async fn names(&mut self, id: &Id) -> bool {
        let Ok(body) = self.whole().await else { return false };
        Message::from_server(body).is_ok_and(|message| is_answer(&message) && message.id() == Some(id))
    }
}

/// A message that could not be held, or read.
pub(crate) struct LostMessage {
    /// Whose answer it is.
    pub(crate) answers: Answers,
    /// Why.
    pub(crate) error: Error,
}

/// The events of a response.
pub(crate) struct EventStream {
    body: ResponseBody,
    reader: EventReader,
    /// What is left of an event with several messages.
    batch: Option<Batch>,
    /// Whether there was an event, be it a message or not.
    pub(crate) has_begun: bool,
    report: OddityReport,
    /// Counts what is held of the next event.
    share: Share,
    room: ByteRoom,
    /// Counts the connection.
    _connection: Share,
}

impl EventStream {
    /// The next event; `None` at the end. That the connection was lost is an end like any other: servers end streams as
    /// they like, and what is missing then is the same.
    /// The error is one event that could not be held, and others follow.
    pub(crate) async fn next(&mut self) -> Result<Option<SseEvent>, LostMessage> {
        loop {
            match self.reader.next() {
                Ok(None) => {}
                Ok(event) => {
                    self.has_begun = true;
                    return Ok(event);
                }
                Err(SkippedEvent { answers, given_up }) => {
                    let error = match given_up {
                        Some(limit) => Error::out_of(Resource::Bytes, limit),
                        None => ErrorKind::UpstreamUnreachable.with_cause("an event is larger than 4 MiB"),
                    };
                    return Err(LostMessage { answers, error });
                }
            }
            self.share.set(self.reader.held() as u64);
            // What is not held needs no room.
            if !self.reader.is_passing()
                && let Err(limit) = self.room.open_or_give_up(self.share.amount()).await
            {
                self.reader.give_up(limit);
                continue;
            }
            match poll_fn(|cx| self.body.poll_data(cx)).await {
                Some(Ok(data)) => self.reader.push(data),
                Some(Err(_)) | None => return Ok(None),
            }
        }
    }

    /// The messages that come next, one by one; `None` at the end of the stream.
    pub(crate) async fn message(&mut self) -> Option<Result<Message, LostMessage>> {
        loop {
            let incoming = match self.batch.as_mut().and_then(Iterator::next) {
                Some(incoming) => incoming,
                None => {
                    self.batch = None;
                    match self.next().await {
                        Ok(Some(event)) if event.is_message() => {
                            let is_object = event.data.trim_ascii_start().starts_with(b"{");
                            match ServerOutput::read(event.data) {
                                // Nobody writes a log here: it is what is left of a message.
                                ServerOutput::Noise(why @ Malformed::Json) if is_object => {
                                    ServerOutput::Unreadable { answers: Answers::Unknown, why }
                                }
                                incoming => incoming,
                            }
                        }
                        Ok(Some(_)) => continue,
                        Ok(None) => return None,
                        Err(lost) => return Some(Err(lost)),
                    }
                }
            };
            match incoming {
                ServerOutput::Message(message) => {
                    message.hold_for(self.share.owner());
                    return Some(Ok(message));
                }
                ServerOutput::Batch(batch) => self.batch = Some(batch),
                ServerOutput::Unreadable { answers, why } => {
                    (self.report)(Oddity::Unreadable(why));
                    return Some(Err(LostMessage { answers, error: unreadable(why) }));
                }
                // A heartbeat, most often.
                ServerOutput::Noise(_) => {}
            }
        }
    }

    /// Where the stream can be taken up again, as `Last-Event-ID`.
    pub(crate) fn last_id(&self) -> Option<HeaderValue> {
        HeaderValue::from_bytes(self.reader.last_id()?).ok()
    }

    /// How long the server asks to wait before the stream is taken up again.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.reader.retry()
    }

    /// Lets go of a stream from which nothing more is wanted: a server ends it by itself, as a rule right away.
    pub(crate) fn discard(mut self) {
        tokio::task::spawn_local(async move {
            let end = async { while !matches!(self.next().await, Ok(None)) {} };
            let _ = tokio::time::timeout(LINGER, end).await;
        });
    }
}

/// That a server answered with this status, and with nothing that says more.
pub(crate) fn refused(status: StatusCode) -> Error {
    ErrorKind::UpstreamUnreachable.with_cause(format!("the server answered {}", status.as_u16()))
}

fn is_answer(message: &Message) -> bool {
    message.kind() == message::MessageKind::Response
}

/// `message` as the answer to the request `id`, if it is that. An error without an id is, since it came where only that
/// answer can come; it gets the id, without which the client could not tell.
pub(crate) fn answer_to(message: Message, id: &Id) -> Option<Message> {
    if !is_answer(&message) {
        return None;
    }
    match message.id() {
        Some(named) if named == id => Some(message),
        // The same number in another spelling: the client gets its own.
        Some(named) if named.is_like(id) => message.renamed(Part::Id, id).ok(),
        Some(_) => None,
        None if message.error_code().is_none() => None,
        None if message.part(Part::Id).is_some() => message.renamed(Part::Id, id).ok(),
        None => {
            let text = message.text().trim_ascii_start();
            let members = text.strip_prefix(b"{")?;
            let named = [format!(r#"{{"id":{id},"#).as_bytes(), members].concat();
            Message::from_server(named.into()).ok()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_without_an_id_gets_that_of_the_request_it_answers() {
        let id = Id::String("a\"b".into());
        for text in [
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no"}}"#,
            r#" {"jsonrpc":"2.0","error":{"code":-32700,"message":"no"}}"#,
            r#"{"jsonrpc":"2.0","id":"a\u0022b","error":{"code":-32700,"message":"no"}}"#,
        ] {
            let answer = answer_to(Message::from_server(text.into()).unwrap(), &id).unwrap();
            assert_eq!((answer.id(), answer.error_code()), (Some(&id), Some(-32700)), "{text}");
        }
        for text in [
            r#"{"id":null,"result":{}}"#,
            r#"{"id":7,"result":{}}"#,
            r#"{"id":"a\"b","method":"ping"}"#,
            r#"{"method":"ping"}"#,
        ] {
            assert!(answer_to(Message::from_server(text.into()).unwrap(), &id).is_none(), "{text}");
        }
    }
}
