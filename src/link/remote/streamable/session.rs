//! The session with a server, and messages sent within it.

use std::{borrow::Cow, cell::Cell, cell::RefCell, rc::Rc, time::Duration};

use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use tokio::sync::{Mutex, Notify, mpsc, watch};

use crate::link::remote::streamable::headers;
use crate::{
    error::{Error, ErrorKind},
    link::{
        FromServer, Outbound,
        remote::server::{HeaderFields, HttpAnswer, HttpServer, NO_INITIALIZE, refused},
    },
    mcp::{
        era::Era,
        header::{PROTOCOL_VERSION, SESSION_ID},
        message::{self, Id, Message, Part},
        numbers::Numbers,
    },
};

/// How long the server may take to hear that the session is over. It notices by itself in the end.
const FAREWELL: Duration = Duration::from_secs(2);

/// The server, as the gateway's side of one conversation sees it.
pub(super) struct StreamableServer {
    pub(super) http_server: HttpServer,
    to_client: mpsc::Sender<FromServer>,
    /// The session of this moment; who listens to its event stream follows it.
    pub(super) session: watch::Sender<Rc<ServerSession>>,
    /// How the client began, for the case that the server forgets it.
    initialize: RefCell<Option<Outbound>>,
    /// Held while a forgotten session is replaced, so that it is only once however many messages met the loss. It has the ids
    /// of the gateway's own requests: none that a client could choose is one of them.
    renewal: Mutex<Numbers>,
    /// Why there is no session to have any more.
    lost: RefCell<Option<Cow<'static, str>>>,
    is_lost: Notify,
}

/// A session. Without `initialize` there is none, and nothing is in it.
#[derive(Debug, Default)]
pub(super) struct ServerSession {
    /// `Mcp-Session-Id`, if the server gave one.
    id: Option<HeaderValue>,
    /// The negotiated version, from the result of `initialize`.
    version: Option<HeaderValue>,
    /// The server took `notifications/initialized`.
    pub(super) is_open: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Initialized<'a> {
    #[serde(borrow)]
    protocol_version: Cow<'a, str>,
}

impl ServerSession {
    /// The fields that every request of the session has.
    pub(super) fn fields(&self) -> HeaderFields {
        let id = self.id.clone().map(|id| (SESSION_ID, id));
        let version = self.version.clone().map(|version| (PROTOCOL_VERSION, version));
        id.into_iter().chain(version).collect()
    }
}

impl StreamableServer {
    pub(super) fn new(http_server: HttpServer, to_client: mpsc::Sender<FromServer>) -> Self {
        Self {
            http_server,
            to_client,
            session: watch::Sender::default(),
            initialize: RefCell::default(),
            renewal: Mutex::default(),
            lost: RefCell::default(),
            is_lost: Notify::new(),
        }
    }

    /// Waits until there is no session to have any more. Returns why.
    pub(super) async fn lost(&self) -> Cow<'static, str> {
        loop {
            self.is_lost.notified().await;
            if let Some(cause) = self.lost.take() {
                return cause;
            }
        }
    }

    /// The server forgot the session, and there is no other: the client has to begin anew.
    fn lose(&self, cause: impl Into<Cow<'static, str>>) -> Error {
        let cause = cause.into();
        self.lost.replace(Some(cause.clone()));
        self.is_lost.notify_one();
        ErrorKind::SessionNotFound.with_cause(cause)
    }

    /// Hands a message to the client; waits while the client does not take it.
    pub(super) async fn deliver(&self, message: Message, about: Option<Id>) {
        // A client that is gone ends the conversation elsewhere.
        let _ = self.to_client.send(FromServer::Message { message, about }).await;
    }

    pub(super) async fn fail(&self, id: Id, error: Error) {
        let _ = self.to_client.send(FromServer::Failed { id, error }).await;
    }

    /// Carries one request to its end.
    pub(super) async fn call(
        &self,
        id: Id,
        outbound: &Outbound,
        is_cancelled: &Cell<bool>,
        sent: &watch::Sender<bool>,
    ) {
        let called = async {
            let (session, answer) = self.post(outbound, sent).await?;
            let may_resume = || Era::of(&outbound.message) == Era::Legacy && !is_cancelled.get();
            self.response(&session, answer, &id, Some(&id), may_resume).await
        };
        match called.await {
            Ok(response) => self.deliver(response, Some(id)).await,
            Err(error) => {
                if let Some(answer) = self.http_server.said_instead(&error, &outbound.message) {
                    return self.deliver(answer, Some(id)).await;
                }
                let gave_up =
                    error.kind == ErrorKind::UpstreamTimeout && Era::of(&outbound.message) == Era::Legacy;
                self.fail(id.clone(), error).await;
                // Before 2026-07-28 a server goes on when the connection closes.
                if gave_up && let Ok(cancelled) = Message::cancelled(&id) {
                    self.send_without_answer(&cancelled.into()).await;
                }
            }
        }
    }

    /// Sends what wants no answer. A failure is not reported: there is no request to fail.
    pub(super) async fn send_without_answer(&self, outbound: &Outbound) {
        let Ok((session, answer)) = self.post(outbound, &watch::Sender::default()).await else { return };
        let is_taken = answer.status.is_success();
        answer.discard().await;
        if is_taken && outbound.message.method() == "notifications/initialized" && !session.is_open {
            self.session.send_replace(Rc::new(session.opened()));
        }
    }

    /// Begins the session as the client wants it. If that fails without an answer, there is nothing to go on with: returns
    /// why.
    pub(super) async fn initialize(&self, id: Id, outbound: Outbound) -> Result<(), Cow<'static, str>> {
        self.session.send_replace(Rc::default());
        match self.handshake(&outbound, &id, Some(&id)).await {
            Ok((response, session)) => {
                if let Some(session) = session {
                    self.session.send_replace(Rc::new(session));
                    self.initialize.replace(Some(outbound));
                }
                self.deliver(response, Some(id)).await;
                Ok(())
            }
            Err(error) => {
                let cause = error.to_string().into();
                self.fail(id, error).await;
                Err(cause)
            }
        }
    }

    /// Sends `initialize`. The answer, and the session unless the answer is an error.
    async fn handshake(
        &self,
        initialize: &Outbound,
        id: &Id,
        about: Option<&Id>,
    ) -> Result<(Message, Option<ServerSession>), Error> {
        let none = ServerSession::default();
        let answer = self.send(&none, initialize, &watch::Sender::default()).await?;
        let session_id = answer.headers.get(SESSION_ID).filter(|_| answer.status.is_success());
        // Of its own: the head of an answer is one piece of memory, and the session may be long.
        let session_id = session_id.and_then(|id| HeaderValue::from_bytes(id.as_bytes()).ok());
        let response = self.response(&none, answer, id, about, || false).await?;
        let Some(result) = response.part(Part::Result) else { return Ok((response, None)) };
        let version = serde_json::from_str::<Initialized<'_>>(result)
            .ok()
            .and_then(|result| HeaderValue::from_str(&result.protocol_version).ok())
            .ok_or_else(|| {
                ErrorKind::UpstreamUnreachable.with_cause("the server names no protocol version")
            })?;
        let session = ServerSession { id: session_id, version: Some(version), is_open: false };
        Ok((response, Some(session)))
    }

    /// Posts a message within the session. If the server forgot that, within a new one.
    async fn post(
        &self,
        outbound: &Outbound,
        sent: &watch::Sender<bool>,
    ) -> Result<(Rc<ServerSession>, HttpAnswer), Error> {
        let session = Rc::clone(&self.session.borrow());
        let mut answer = self.send(&session, outbound, sent).await?;
        let message = &outbound.message;
        let belongs_to_session = session.id.is_some()
            && Era::of(&outbound.message) == Era::Legacy
            // The request that it answers was forgotten with the session.
            && message.kind() != message::MessageKind::Response;
        if !belongs_to_session || !answer.disowns_session().await {
            return Ok((session, answer));
        }
        // Who answers this very request has looked at it, and so has not lost the session.
        if let Some(id) = message.id()
            && answer.names(id).await
        {
            return Ok((session, answer));
        }
        answer.discard().await;
        let session = self.renewed(&session).await?;
        let mut answer = self.send(&session, outbound, sent).await?;
        if session.id.is_some() && answer.disowns_session().await {
            return Err(self.lose("the server forgot the session twice"));
        }
        Ok((session, answer))
    }

    /// The session in the place of `forgotten`: begun here, unless another message has begun it.
    async fn renewed(&self, forgotten: &ServerSession) -> Result<Rc<ServerSession>, Error> {
        let mut numbers = self.renewal.lock().await;
        let current = Rc::clone(&self.session.borrow());
        if current.id != forgotten.id {
            return Ok(current);
        }
        let internal = |e: message::Malformed| ErrorKind::Internal.with_cause(e.to_string());
        let remembered = self.initialize.borrow().clone();
        let mut initialize = remembered.ok_or_else(|| refused(StatusCode::NOT_FOUND))?;
        let id = Id::number(numbers.draw());
        initialize.message = initialize.message.renamed(Part::Id, &id).map_err(internal)?;
        // Other messages that met the loss wait too.
        let handshake = self.handshake(&initialize, &id, None);
        let (_, session) = self.http_server.in_time(handshake, NO_INITIALIZE).await??;
        // The client goes on in the version that it got.
        let session = session
            .filter(|session| session.version == forgotten.version)
            .ok_or_else(|| self.lose("the server forgot the session and refuses a new one like it"))?;
        let initialized = Message::notification("notifications/initialized", "{}").map_err(internal)?;
        self.send(&session, &initialized.into(), &watch::Sender::default()).await?.taken().await?;
        let session = Rc::new(session.opened());
        self.session.send_replace(Rc::clone(&session));
        Ok(session)
    }

    async fn send(
        &self,
        session: &ServerSession,
        outbound: &Outbound,
        sent: &watch::Sender<bool>,
    ) -> Result<HttpAnswer, Error> {
        let Outbound { message, params, trace, .. } = outbound;
        let mut fields = match message.version() {
            Some(version) => {
                let mut fields = headers::fields(message, version)?;
                fields.extend_from_slice(params);
                fields
            }
            None => session.fields(),
        };
        fields.extend_from_slice(trace);
        self.http_server.post(self.http_server.target.path_and_query(), message, fields, sent).await
    }

    /// Ends the session, if there is one.
    pub(super) async fn leave(&self) {
        let session = Rc::clone(&self.session.borrow());
        if session.id.is_some() {
            let fields = session.fields();
            let farewell = self.http_server.delete(&fields);
            // A server need not offer it (405), and what it says makes no difference.
            let _ = tokio::time::timeout(FAREWELL, farewell).await;
        }
    }
}

impl ServerSession {
    fn opened(&self) -> Self {
        Self { id: self.id.clone(), version: self.version.clone(), is_open: true }
    }
}
