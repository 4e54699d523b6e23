//! Servers that a client does not reach byte for byte: a local command, a server of the other transport, tools of the
//! config, all servers as one. What passes is messages.
//!
//! Up to MCP 2025-11-25 a client has a session, which the gateway keeps ([`crate::session`]). From 2026-07-28 on every
//! request is self-contained, and callers share one conversation with a server ([`crate::link::shared`]).

mod message;
mod servers;
mod tools;

pub use self::servers::warm;

use std::{cell::Cell, future::poll_fn, pin::pin, rc::Rc, sync::Arc, task::Poll, time::Duration};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Response, StatusCode, Version, request::Parts};
use tokio::sync::mpsc;

use crate::{
    body::{
        BridgedEvents, Payload, Source,
        response::{empty, event_stream, json},
    },
    config::{Naming, Server, UpstreamAuth},
    credentials::{Asker, Missing, NotReady},
    downstream::incoming::Incoming,
    endpoints::table::McpEndpoint,
    error::{Error, ErrorKind},
    identity::{Proof, Subject, Waits},
    ledger::{Limit, Resource},
    link::{
        self, CalledTool, FromServer, Link, Outbound, ToServer,
        aggregate::server_of,
        shared::{self, CallSender},
    },
    mcp::{
        accept, era,
        header::{LAST_EVENT_ID, PROTOCOL_VERSION, SESSION_ID},
        message::{Message, MessageKind, Part},
        modern,
        sse::reader::event,
        tool_list,
    },
    observe::Record,
    policy::selector::Selector,
    request::{
        Request,
        admitted::Admitted,
        missing::{self, Recipient},
    },
    servers::{Backend, KeyHolder, ServerEntry},
    session::{
        self, BudgetPermit, EventId, Registered, SessionHandle, SessionId, SessionReply, SessionSettings,
        Style, UnreadCut, Wants,
    },
    state::{MOST_DECOYS, Worker},
    watchdog::{Ending, Watched},
};

/// One admitted request for a server that is not reached byte for byte.
struct BridgedRequest<'a> {
    worker: &'a Rc<Worker>,
    admitted: Admitted<'a>,
    head: &'a Parts,
    watched: Watched<Subject>,
    /// Longest wait for the server.
    patience: Duration,
    renewal: Renewal,
    is_traced: bool,
    /// Where all servers as one say whose tool is called, for the audit.
    called: Option<CalledTool>,
    /// Keep the token that the caller came by, as long as it may be wanted.
    _holders: Vec<Arc<KeyHolder>>,
}

/// Notes the token that a caller came by with servers where it is exchanged for a credential.
fn holders(admitted: &Admitted<'_>) -> Vec<Arc<KeyHolder>> {
    let Admitted { live, entry, caller, .. } = admitted;
    if !matches!(caller.identity.proof, Proof::Foreign(_)) {
        return Vec::new();
    }
    let all = [Arc::clone(entry)];
    let entries = if matches!(entry.backend, Backend::All) { &live.servers[..] } else { &all[..] };
    let mut holders = Vec::new();
    for entry in entries {
        let Some(credentials) = &entry.credentials else { continue };
        if !matches!(**credentials.config(), UpstreamAuth::Exchange(_)) || !entry.admits_as_member(caller) {
            continue;
        }
        let Some(token) = admitted.foreign_token() else { continue };
        let principal = &caller.identity.principal;
        let key = credentials.key(principal);
        holders.push(entry.key_holders.hold(key, principal));
        entry.key_holders.note_token(key, &token);
    }
    holders
}

/// Answers the request, as soon as there is something to answer.
pub async fn answer(request: &mut Request<'_>, admitted: Admitted<'_>) -> Result<Response<Payload>, Error> {
    let Request { worker, head, body, record, .. } = request;
    if !admitted.entry.has_subject(&admitted.caller) {
        return Err(ErrorKind::UpstreamAuthorizationRequired.with_cause("there is no token to exchange"));
    }
    // Who gets a session's answers is for the session to know.
    let listens = head.method == Method::GET || era::listens(&head.headers);
    let waits = if listens { Waits::Listens } else { Waits::Calls };
    let watched = worker.watchdog.watch(Subject::Request(admitted.admission(), waits));
    let patience = admitted.entry.server.timeout.unwrap_or(admitted.live.limits.upstream_timeout);
    let renewal = Renewal {
        worker: Rc::clone(worker),
        epoch: admitted.entry.run_state.epoch(),
        entry: Arc::clone(&admitted.entry),
    };
    let is_traced = record.is_traced();
    let is_audited = record.audited().is_some() && matches!(admitted.entry.backend, Backend::All);
    let called = is_audited.then(CalledTool::default);
    // What a meta-tool is called with is not looked through for what is secret.
    let is_shown = !admitted.live.config.aggregate.lazy;
    let holders = holders(&admitted);
    let request = BridgedRequest {
        worker,
        admitted,
        head,
        watched,
        patience,
        renewal: renewal.clone(),
        is_traced,
        called: called.clone(),
        _holders: holders,
    };
    let is_modern = era::is_modern(&head.headers, None);
    let answered = match (request.admitted.mcp_endpoint, &head.method) {
        (McpEndpoint::Mcp, &Method::POST) => {
            let session = match is_modern {
                true => Err(ErrorKind::SessionRequired.into()),
                false => request.session(),
            };
            let message = request.read(session.as_ref().ok(), body, record).await?;
            if era::is_modern(&head.headers, Some(&message)) {
                request.call(message, record).await
            } else {
                request.post(session, message, record).await
            }
        }
        // MCP 2026-07-28 has neither.
        (McpEndpoint::Mcp, &Method::GET) if !is_modern => request.listen().await,
        (McpEndpoint::Mcp, &Method::DELETE) if !is_modern => request.close().await,
        (McpEndpoint::Sse, &Method::GET) => request.open_sse().await,
        (McpEndpoint::Message, &Method::POST) => {
            let session = request.sse_session();
            let message = request.read(session.as_ref(), body, record).await?;
            request.message(session, message, record).await
        }
        _ => Err(ErrorKind::MethodNotAllowed.into()),
    };
    if let (Some(audited), Some((server, own))) = (record.audited(), called.as_ref().and_then(|it| it.get()))
    {
        audited.set_member(server, own, is_shown);
    }
    answered.map_err(|error| renewal.explain(error))
}

/// Whether the gateway speaks with the client although the server could be reached byte for byte. It does in sessions that begin while
/// the server waits for a credential of the caller: once there is one, they go on with the server.
pub async fn keeps(request: &Request<'_>, admitted: &Admitted<'_>) -> bool {
    let Some(credentials) = admitted.entry.credentials.as_ref().filter(|it| it.is_kept()) else {
        return false;
    };
    let headers = &request.head.headers;
    if era::is_modern(headers, None) {
        return false;
    }
    let shared = &request.worker.shared;
    let (server, owner) = admitted.session_owner();
    let is_kept = |sealed: &[u8]| {
        let id = admitted.live.sessions.open(server, owner, sealed).and_then(SessionId::parse);
        id.is_some_and(|id| shared.sessions.find(id, server).is_some())
    };
    if shared.sessions.count(server) > 0
        && match admitted.mcp_endpoint {
            McpEndpoint::Mcp => headers.get(SESSION_ID).is_some_and(|id| is_kept(id.as_bytes())),
            McpEndpoint::Message => session_in(request.head.uri.query()).is_some_and(is_kept),
            McpEndpoint::Sse => false,
        }
    {
        return true;
    }
    let begins = match (admitted.mcp_endpoint, &request.head.method) {
        (McpEndpoint::Mcp, &Method::POST) => headers.get(SESSION_ID).is_none_or(HeaderValue::is_empty),
        (McpEndpoint::Sse, &Method::GET) => true,
        _ => false,
    };
    let principal = &admitted.caller.identity.principal;
    if !begins || credentials.ready(principal).is_some() {
        return false;
    }
    if !credentials.is_kept() {
        return false;
    }
    match credentials.obtain(&Asker::of(principal)).await {
        Err(NotReady::Missing(missing)) => missing::notice_of(&admitted.entry, &admitted.live, &missing)
            .is_some_and(|notice| notice.has_tool),
        _ => false,
    }
}

/// The session that the query of a message URL names.
fn session_in(query: Option<&str>) -> Option<&[u8]> {
    query.unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix("sessionId=")).map(str::as_bytes)
}

/// Whether the server was stopped, restarted or configured anew while a request waited for it.
#[derive(Clone)]
struct Renewal {
    worker: Rc<Worker>,
    entry: Arc<ServerEntry>,
    /// When the request came.
    epoch: u64,
}

impl Renewal {
    fn is_one(&self) -> bool {
        self.entry.run_state.epoch() != self.epoch
    }

    /// What an operator ended is not a failure of the server, and not an unknown session.
    fn explain(&self, error: Error) -> Error {
        if !matches!(error.kind, ErrorKind::UpstreamUnreachable | ErrorKind::SessionNotFound)
            || !self.is_one()
        {
            return error;
        }
        match self.worker.shared.live().entry(&self.entry.server.name) {
            None => ErrorKind::NotFound.with_cause("the server was removed while it waited"),
            Some(entry) if entry.run_state.is_stopped() => Error::stopped(),
            Some(_) => ErrorKind::Unavailable.with_cause("the server was restarted or configured anew"),
        }
    }
}

impl BridgedRequest<'_> {
    /// Reads the message. One of a session is not read before there is room for it.
    async fn read(
        &self,
        session: Option<&SessionHandle>,
        body: &mut Option<Incoming>,
        record: &mut Record,
    ) -> Result<Message, Error> {
        let Admitted { live, owner, presented, .. } = &self.admitted;
        let room = match session {
            Some(session) => self.room(session, message::size(body.as_ref())).await?,
            None => None,
        };
        let message = message::read(body, &live.limits, &self.watched, owner, record).await?;
        if let Some(mut room) = room {
            room.shrink_to(message.text().len() as u64);
            message.keep(Arc::new(room));
        }
        // What is no request belongs to something that runs.
        if message.kind() == MessageKind::Request && self.worker.shared.is_draining() {
            return Err(ErrorKind::Unavailable.into());
        }
        if message.kind() != MessageKind::Response {
            record.set_operation(message.method(), message.name(), |text| presented.is_in(text));
        }
        Ok(message)
    }

    /// Room for a message of a session on its way to the server.
    async fn room(&self, session: &SessionHandle, bytes: u64) -> Result<Option<BudgetPermit>, Error> {
        match self.within(session::PATIENCE, session.room(bytes)).await {
            Err(late) if late.kind == ErrorKind::UpstreamTimeout => Err(ErrorKind::Unavailable
                .with_cause("the server takes no messages, and too many of its session wait")),
            room => room,
        }
    }

    /// The fields by which a trace goes on, of a request that is part of one (W3C Trace Context §3).
    fn trace(&self) -> Vec<(HeaderName, HeaderValue)> {
        if !self.is_traced {
            return Vec::new();
        }
        let goes_on = |(name, value): &(&HeaderName, &HeaderValue)| {
            matches!(name.as_str(), "traceparent" | "tracestate")
                && !self.admitted.presented.is_in(value.as_bytes())
        };
        self.head.headers.iter().filter(goes_on).map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Notes which of all servers as one a call by name is for, of those of which `is_member` says so. Where names are flat,
    /// that is known only further on.
    fn note_member(&self, message: &Message, record: &mut Record, is_member: impl Fn(&ServerEntry) -> bool) {
        let Admitted { live, entry, .. } = &self.admitted;
        let is_call = matches!(message.method(), "tools/call" | "prompts/get");
        let (Backend::All, true, Some(name)) = (&entry.backend, is_call, message.name()) else { return };
        let Naming::Prefixed { separator } = &live.config.aggregate.naming else { return };
        // That somebody asks for a server of which they are not to know is a decision, too.
        let known = |name: &str| live.entries.get(name);
        if let Some(audited) = record.audited()
            && let Some(asked) = server_of(separator, name, |name| known(name).is_some()).and_then(known)
            && message.method() == "tools/call"
        {
            audited.set_member(&asked.server.name, &name[asked.server.name.len() + separator.len()..], true);
        }
        let entry = |name: &str| live.entries.get(name).filter(|entry| is_member(entry));
        if let Some(member) = server_of(separator, name, |name| entry(name).is_some()).and_then(entry) {
            let own = &name[member.server.name.len() + separator.len()..];
            record.set_member(Arc::clone(&member.metrics), own);
        }
    }

    /// A message of a session, or the one that begins it (MCP 2025-11-25, transports, "Sending Messages to the Server").
    async fn post(
        self,
        session: Result<SessionHandle, Error>,
        message: Message,
        record: &mut Record,
    ) -> Result<Response<Payload>, Error> {
        let is_initialize = message.kind() == MessageKind::Request && message.method() == "initialize";
        let session = match session {
            Ok(session) => session,
            // Who begins anew may well name what is over.
            Err(_) if is_initialize => return self.initialize(message, record).await,
            // A server without sessions has its calls without one, and this one waits.
            Err(error) if error.kind == ErrorKind::SessionRequired => {
                return match self.missing().await {
                    Some(missing) => {
                        let entry = &self.admitted.entry;
                        missing::answer(&missing, &self.admitted, entry, Some(&message), record)
                    }
                    None => Err(error),
                };
            }
            Err(error) => return Err(error),
        };
        self.note_member(&message, record, |entry| session.members().contains(&entry.server.name));
        let reply = self.reply(&session, message).await?;
        self.respond(reply, record)
    }

    async fn initialize(self, message: Message, record: &mut Record) -> Result<Response<Payload>, Error> {
        let (session, id) = self.start(Style::Streamable).await?;
        // A client that leaves before it has the session's id could not even end it.
        let unless_answered = session.close_on_drop();
        let reply = self.reply(&session, message).await?;
        if matches!(&reply, SessionReply::Answer(answer) if answer.error_code().is_some()) {
            // The server would not have it: there is no session.
            return self.respond(reply, record);
        }
        let sealed = self.seal(id)?;
        let mut response = self.respond(reply, record)?;
        response.headers_mut().insert(SESSION_ID, sealed);
        unless_answered.disarm();
        Ok(response)
    }

    /// The stream of what the server sends of itself.
    async fn listen(self) -> Result<Response<Payload>, Error> {
        if self.head.headers.get(SESSION_ID).is_none_or(HeaderValue::is_empty) {
            // There is nothing to listen to, which is what clients understand by 405, and by nothing else (MCP 2025-11-25,
            // transports, "Listening for Messages from the Server").
            return Err(ErrorKind::MethodNotAllowed.with_cause("a stream of no session"));
        }
        let session = self.session()?;
        let after = self.head.headers.get(LAST_EVENT_ID).and_then(|id| EventId::parse(id.to_str().ok()?));
        let events = self.within(self.patience, session.listen(after)).await?;
        let (events, unread) = events.ok_or(ErrorKind::SessionNotFound)?;
        Ok(event_stream(self.stream_of(Source::Session(events, unread))))
    }

    async fn close(self) -> Result<Response<Payload>, Error> {
        self.session()?.close();
        Ok(empty(StatusCode::NO_CONTENT))
    }

    /// A request that is self-contained (MCP 2026-07-28).
    async fn call(self, mut message: Message, record: &mut Record) -> Result<Response<Payload>, Error> {
        match self.recipient(&message, record).await? {
            Recipient::Server => {}
            Recipient::ServerWithout(rest) => message = rest,
            Recipient::Nobody(answer) => return Ok(answer),
        }
        let Self { worker, admitted, .. } = &self;
        let selector = self.selector()?;
        self.note_member(&message, record, |entry| {
            let Server { name, tags, .. } = &entry.server;
            entry.admits_as_member(&admitted.caller) && selector.selects(name, tags)
        });
        let view = admitted.entry.tool_view(&admitted.caller);
        if let Some(view) = &view
            && let Err(refusal) = link::filter::check(&message, view, None)
        {
            return match refusal {
                Some(FromServer::Failed { error, .. }) => Err(error),
                Some(FromServer::Message { message, .. }) => {
                    record.answered(message.error_code());
                    Ok(json(modern::status(&message), message.into_bytes()))
                }
                Some(FromServer::Ended { .. }) | None => Ok(empty(StatusCode::ACCEPTED)),
            };
        }
        // What no caller has is looked for in whatever comes.
        let view = view.filter(|view| view.has_filter() || tool_list::may_list(message.method()));
        // Opened only where it is used: it may count for the caller.
        let open_conversation = || servers::conversation(worker, admitted, &selector);
        let mut conversation = None;
        let tools = match message.method() {
            "tools/call" => {
                // The meta-tools of the lazy mode are always there.
                let may_lack =
                    matches!(admitted.entry.backend, Backend::All) && !admitted.live.config.aggregate.lazy;
                let conversation = conversation.insert(open_conversation()?);
                let listed = tools::headers(conversation, &admitted.owner, message.name(), may_lack);
                Some(self.within(self.patience, listed).await??)
            }
            _ => None,
        };
        let params = match modern::check(&self.head.headers, &message, tools.as_deref()) {
            Ok(params) => params,
            Err(failure) => {
                record.answered(Some(failure.code()));
                return Ok(json(modern::ModernRejection::STATUS, failure.body()));
            }
        };
        // Commands of the config share nothing, and what one caller runs is not to count against the others.
        let is_inline = matches!(admitted.entry.backend, Backend::Inline(_));
        let needs_own = shared::needs_own(&message);
        let place = if needs_own && !is_inline { Some(self.place()?) } else { None };
        let mut link = if is_inline || needs_own {
            let opening = servers::open(worker, admitted, &selector, admitted.caller.as_credential());
            let Link { to_server, from_server } = self.within(self.patience, opening).await??.link;
            Link { to_server: CallSender::Own(to_server), from_server }
        } else {
            // The caller may be apart only since the tools were listed.
            let is_apart = admitted.entry.shared_links.quarantine().has(admitted.owner.name());
            let conversation = conversation.filter(|_| !is_apart).map_or_else(open_conversation, Ok)?;
            conversation.link.attach(&admitted.owner)
        };
        if let Some(view) = view {
            let report = servers::report_withheld(&worker.shared, &admitted.entry.server.name);
            link.from_server = link::filter::lists_of(link.from_server, view, report);
        }
        let id = message.response_id().cloned();
        let (trace, called) = (self.trace(), self.called.clone());
        let outbound = Outbound { params, trace, called, ..message.into() };
        let outbound = ToServer::Message(outbound);
        let sent = self.within(self.patience, link.to_server.send(outbound)).await?;
        sent.map_err(|_| ErrorKind::UpstreamUnreachable.with_cause("it ended"))?;
        let Some(id) = id else { return Ok(empty(StatusCode::ACCEPTED)) };
        let may_stream = self.may_stream();
        let patience = if may_stream { STREAM_AFTER } else { self.patience };
        let mut first = match self.within(patience, link.next_message()).await {
            Err(e) if may_stream && e.kind == ErrorKind::UpstreamTimeout => {
                let source = Source::Call { link, id, is_done: false, place };
                return Ok(event_stream(self.stream_of(source)));
            }
            first => first??,
        };
        while first.kind() != MessageKind::Response && accept::takes_only_json(&self.head.headers) {
            first = self.within(self.patience, link.next_message()).await??;
        }
        match (first.kind(), first.method()) {
            (MessageKind::Response, _) => {
                record.answered(first.error_code());
                Ok(json(modern::status(&first), first.into_bytes()))
            }
            // How a server on a pipe ends a subscription.
            (_, "notifications/cancelled") => {
                Ok(event_stream(self.stream_of(Source::Call { link, id, is_done: true, place })))
            }
            _ => {
                let source = Source::Call { link, id, is_done: false, place };
                Ok(event_stream(self.stream_of(source).beginning_with(event(&first))))
            }
        }
    }

    /// Who gets a request that is self-contained: the server, unless that waits for a credential. Of all servers as one, the one that is
    /// called by name.
    async fn recipient(&self, message: &Message, record: &mut Record) -> Result<Recipient, Error> {
        let Self { worker, admitted, head, .. } = self;
        let (entry, own) = match admitted.entry.backend {
            Backend::All => match self.called_member(message)? {
                Some((entry, own)) => (entry, Some(own)),
                None => return Ok(Recipient::Server),
            },
            _ => (Arc::clone(&admitted.entry), None),
        };
        // Nobody could connect the others. What is made of the caller's token is got by the link, which has that.
        if entry.credentials.as_ref().is_none_or(|credentials| !credentials.is_kept()) {
            return Ok(Recipient::Server);
        }
        if let Err(failure) = modern::check(&head.headers, message, None) {
            record.answered(Some(failure.code()));
            return Ok(Recipient::Nobody(json(modern::ModernRejection::STATUS, failure.body())));
        }
        let foreign_token = admitted.foreign_token();
        let asker = Asker { foreign_token: foreign_token.as_ref(), ..self.asker() };
        let named = own.as_ref().unwrap_or(message);
        let recipient = missing::recipient(&worker.shared, admitted, &entry, &asker, named, record);
        let recipient = self.within(self.patience + missing::WAITS, recipient).await??;
        // What runs by one ends with it. Members of all servers as one see to that themselves.
        if own.is_none()
            && !matches!(recipient, Recipient::Nobody(_))
            && let Some(credentials) = entry.credentials.as_ref().filter(|credentials| credentials.is_kept())
        {
            let key = credentials.key(asker.principal);
            let _ = self.watched.subject().admission().credential.set(key);
        }
        match recipient {
            // The name stays that which it has among all servers.
            Recipient::ServerWithout(rest) if own.is_some() => {
                let name = message.part(Part::Name).unwrap_or_default().to_owned();
                let rest = rest.with(&[(Part::Name, name.into())]);
                Ok(Recipient::ServerWithout(
                    rest.map_err(|why| ErrorKind::Internal.with_cause(why.to_string()))?,
                ))
            }
            recipient => Ok(recipient),
        }
    }

    /// The member whose tool or prompt is called by name, and the message as that gets it.
    fn called_member(&self, message: &Message) -> Result<Option<(Arc<ServerEntry>, Message)>, Error> {
        let Admitted { live, caller, .. } = &self.admitted;
        let is_call = matches!(message.method(), "tools/call" | "prompts/get");
        let (true, Some(name)) = (is_call, message.name()) else { return Ok(None) };
        // Where names are flat, only lists say whose it is.
        let Naming::Prefixed { separator } = &live.config.aggregate.naming else { return Ok(None) };
        if live.config.aggregate.lazy {
            return Ok(None);
        }
        let selector = self.selector()?;
        let member = |name: &str| {
            live.entries.get(name).filter(|entry| {
                let Server { name, tags, .. } = &entry.server;
                entry.admits_as_member(caller) && selector.selects(name, tags)
            })
        };
        let Some(entry) = server_of(separator, name, |name| member(name).is_some()).and_then(member) else {
            return Ok(None);
        };
        let own = &name[entry.server.name.len() + separator.len()..];
        let own = serde_json::Value::from(own).to_string();
        let own = message.with(&[(Part::Name, own.into())]);
        let own = own.map_err(|why| ErrorKind::Internal.with_cause(why.to_string()))?;
        Ok(Some((Arc::clone(entry), own)))
    }

    /// What the server waits for, if it is one that is called with a credential of the caller's.
    async fn missing(&self) -> Option<Missing> {
        let credentials = self.admitted.entry.credentials.as_ref().filter(|it| it.is_kept())?;
        match credentials.obtain(&self.asker()).await {
            Err(NotReady::Missing(missing)) => Some(missing),
            _ => None,
        }
    }

    /// For whom credentials are got.
    fn asker(&self) -> Asker<'_> {
        Asker::of(&self.admitted.caller.identity.principal)
    }

    /// The stream of an HTTP+SSE session, which begins with the URL for its messages (MCP 2024-11-05).
    async fn open_sse(self) -> Result<Response<Payload>, Error> {
        let (sender, events) = mpsc::channel(session::EVENTS);
        let (_, id) = self.start(Style::Sse(sender.clone())).await?;
        let sealed = self.seal(id)?;
        let path = match &*self.admitted.entry.server.name {
            Server::ALL => String::new(),
            // By the name that was asked for, which is none of its own.
            Server::DECOY => {
                let path = self.head.uri.path();
                path.strip_suffix('/').unwrap_or(path).trim_end_matches("/sse").to_owned()
            }
            name => format!("/{name}"),
        };
        let sealed =
            sealed.to_str().map_err(|_| ErrorKind::Internal.with_cause("a session id is not text"))?;
        let endpoint = format!("event: endpoint\ndata: {path}/message?sessionId={sealed}\n\n");
        let first = Bytes::from(endpoint);
        Ok(event_stream(self.stream_of(Source::Session(events, UnreadCut::default())).beginning_with(first)))
    }

    /// A message of an HTTP+SSE session; what there is to answer goes into its stream.
    async fn message(
        self,
        session: Option<SessionHandle>,
        message: Message,
        record: &mut Record,
    ) -> Result<Response<Payload>, Error> {
        let session = session.ok_or(ErrorKind::SessionNotFound)?;
        self.note_member(&message, record, |entry| session.members().contains(&entry.server.name));
        let reply = self.reply(&session, message).await?;
        self.respond(reply, record)
    }

    /// Begins a session.
    async fn start(&self, style: Style) -> Result<(SessionHandle, SessionId), Error> {
        let Self { worker, admitted, .. } = self;
        // Nothing is begun that could not be kept.
        let place = self.place()?;
        let id = place.id();
        let selector = self.selector()?;
        let admission = admitted.session_admission();
        let opening = servers::open(worker, admitted, &selector, admission.to.clone());
        let servers::OpenedLink { link, members, listens, idle, filter, credential } =
            self.within(self.patience, opening).await??;
        if let Some(key) = credential {
            let _ = admission.credential.set(key);
        }
        let settings = SessionSettings {
            style,
            idle,
            listens,
            watched: worker.watchdog.watch(Subject::Session(admission, Cell::new(true))),
            members,
            begun_by: Arc::clone(&admitted.caller.identity),
            filter,
            changes: worker.shared.changes(),
        };
        let session = session::start(link, settings, place);
        // What ends a server ends the sessions that there are. This one began by what it took away, maybe.
        if self.renewal.is_one() {
            session.close();
            return Err(ErrorKind::Unavailable.with_cause("the server changed while the session began"));
        }
        Ok((session, id))
    }

    /// A place among the sessions.
    fn place(&self) -> Result<Registered, Error> {
        let Self { worker, admitted, .. } = self;
        let id = SessionId::random().map_err(|e| ErrorKind::Internal.with_cause(e.to_string()))?;
        if admitted.entry.is_decoy() && worker.shared.sessions.count(Server::DECOY) >= MOST_DECOYS {
            return Err(Error::out_of(Resource::Sessions, Limit::Caller));
        }
        let share = loop {
            match admitted.owner.take(Resource::Sessions) {
                Ok(share) => break share,
                // A view of all servers that is not in use gives way to a session that begins.
                Err(limit) if admitted.live.all.shared_links.make_room(&admitted.owner, limit) => {}
                Err(limit) => return Err(Error::out_of(Resource::Sessions, limit)),
            }
        };
        Ok(worker.shared.sessions.add(id, Arc::clone(&admitted.entry.server.name), share))
    }

    /// Which of all servers the client asks for.
    fn selector(&self) -> Result<Selector, Error> {
        let query = match self.admitted.entry.backend {
            Backend::All => self.head.uri.query(),
            _ => None,
        };
        Selector::parse(query).map_err(|e| ErrorKind::Selector.with_cause(e.to_string()))
    }

    /// The session that the request names.
    fn session(&self) -> Result<SessionHandle, Error> {
        let sealed = self.head.headers.get(SESSION_ID).ok_or(ErrorKind::SessionRequired)?;
        self.find(sealed.as_bytes()).ok_or_else(|| ErrorKind::SessionNotFound.into())
    }

    /// The HTTP+SSE session that the request names.
    fn sse_session(&self) -> Option<SessionHandle> {
        session_in(self.head.uri.query()).and_then(|sealed| self.find(sealed))
    }

    fn find(&self, sealed: &[u8]) -> Option<SessionHandle> {
        let (server, owner) = self.admitted.session_owner();
        let id = self.admitted.live.sessions.open(server, owner, sealed)?;
        let session = self.worker.shared.sessions.find(SessionId::parse(id)?, server)?;
        self.may_use(&session).then_some(session)
    }

    /// Whether the caller may use what a session reaches. The session is its principal's, and its credential may have fewer
    /// roles than the one that began it. From here on, the request ends when it may no longer.
    fn may_use(&self, session: &SessionHandle) -> bool {
        let admission = self.watched.subject().admission();
        // Fails if they are known already, and then they are the same.
        let _ = admission.members.set(Arc::clone(session.members()));
        let _ = admission.begun_by.set(Arc::clone(session.begun_by()));
        self.worker.shared.live().still_admits(admission)
    }

    fn seal(&self, id: SessionId) -> Result<HeaderValue, Error> {
        let (server, owner) = self.admitted.session_owner();
        let sealed = self.admitted.live.sessions.seal(server, owner, id.to_string().as_bytes());
        sealed.map_err(|e| ErrorKind::Internal.with_cause(e.to_string()))
    }

    /// What the session has to say to `message`, or a time-out.
    async fn reply(&self, session: &SessionHandle, message: Message) -> Result<SessionReply, Error> {
        let id = message.response_id().cloned();
        let wants = match message.method() {
            // Its answer brings the session id, and comes at once.
            "initialize" => Wants { stream: false, resumable: false, ..self.wants() },
            _ => self.wants(),
        };
        // What there is in a session is there for whoever began it; but scopes are asked of each request by itself.
        let by = Some(Arc::clone(&self.admitted.caller.identity));
        let outbound = Outbound { trace: self.trace(), called: self.called.clone(), by, ..message.into() };
        let mut reply = pin!(session.post(outbound, wants));
        let is_late =
            |answered: &Result<_, Error>| matches!(answered, Err(e) if e.kind == ErrorKind::UpstreamTimeout);
        let streamed = id.clone().filter(|_| self.may_stream());
        let patience = if streamed.is_some() { STREAM_AFTER } else { self.patience };
        let mut answered = self.within(patience, &mut reply).await;
        if let Some(id) = streamed
            && is_late(&answered)
        {
            let stream = async {
                session.stream(id).await;
                reply.await
            };
            answered = self.within(self.patience, stream).await;
        }
        if let Some(id) = id
            && is_late(&answered)
        {
            // Not awaited longer than a moment: a server that reads nothing is why it is late.
            let _ = tokio::time::timeout(ABANDON, session.abandon(id)).await;
        }
        answered?.ok_or_else(|| ErrorKind::SessionNotFound.into())
    }

    /// Whether the answer may begin before the server has sent anything, and then take as long as it likes. Not where the
    /// config says how long a server may take: the client is to hear of that by a status.
    fn may_stream(&self) -> bool {
        self.admitted.entry.server.timeout.is_none() && accept::takes_events(&self.head.headers)
    }

    fn wants(&self) -> Wants {
        let headers = &self.head.headers;
        Wants {
            stream: self.may_stream() && accept::prefers_events(headers),
            resumable: headers.get(PROTOCOL_VERSION).is_some_and(|version| version == RESUMABLE_SINCE),
            only_json: accept::takes_only_json(headers),
        }
    }

    /// What `work` comes to, unless the server takes too long or the request is ended from outside.
    async fn within<T>(&self, patience: Duration, work: impl Future<Output = T>) -> Result<T, Error> {
        self.watched.set_deadline(Some(patience));
        let mut work = pin!(work);
        poll_fn(|cx| {
            // The signal comes first: what is there behind it is not for this caller any more.
            let ending = self.watched.poll_ending(cx);
            if let Some(ending) = ending.filter(|ending| *ending != Ending::Deadline) {
                return Poll::Ready(Err(ending.error()));
            }
            match work.as_mut().poll(cx) {
                Poll::Ready(done) => {
                    self.watched.set_deadline(None);
                    Poll::Ready(Ok(done))
                }
                Poll::Pending => ending.map_or(Poll::Pending, |late| Poll::Ready(Err(late.error()))),
            }
        })
        .await
    }

    fn stream_of(self, source: Source) -> BridgedEvents {
        let stall_limit =
            (self.head.version == Version::HTTP_2).then_some(self.admitted.live.limits.slow_reader_timeout);
        let keep_alive = self.admitted.keep_alive();
        BridgedEvents::new(
            source,
            self.watched,
            stall_limit,
            keep_alive,
            Box::new(move || self.renewal.is_one()),
        )
    }

    /// The response of a session.
    fn respond(self, reply: SessionReply, record: &mut Record) -> Result<Response<Payload>, Error> {
        match reply {
            SessionReply::Accepted => Ok(empty(StatusCode::ACCEPTED)),
            // Up to MCP 2025-11-25 an error is an answer like any other.
            SessionReply::Answer(message) => {
                record.answered(message.error_code());
                Ok(json(StatusCode::OK, message.into_bytes()))
            }
            SessionReply::Events(events) => {
                Ok(event_stream(self.stream_of(Source::Session(events, UnreadCut::default()))))
            }
            SessionReply::Refused(error) => Err(error),
        }
    }
}

/// The version whose clients come back to a stream from an event without a message, and the only one so far.
const RESUMABLE_SINCE: &str = "2025-11-25";
/// How long a request may be without an answer before its stream is begun, so that comments keep it alive.
const STREAM_AFTER: Duration = Duration::from_secs(1);
/// How long a session that does not take messages may hold up the answer to a time-out.
const ABANDON: Duration = Duration::from_millis(100);
