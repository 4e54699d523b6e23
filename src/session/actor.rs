//! The task of one session: what comes from the client goes to the server, what comes from the server finds its way
//! back.
//!
//! It never waits for one side while the other has something to say: a server that does not read is not kept from
//! writing, and a client that reads slowly stops the server, not itself.

use std::{
    collections::{HashMap, VecDeque},
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::{
    COMMANDS, EVENTS, Registered, SessionCommand, SessionHandle, SessionReply, Wants,
    call::{CallClient, PendingCall},
    listener::{StandaloneStream, UnreadCut},
    room::MessageBudget,
    stream::{CallStream, Delivery, EventId, Resumed},
};
use crate::{
    error::{Error, ErrorKind},
    identity::{Identity, Members, Subject},
    ledger::{Owner, Resource, Share},
    link::{FromServer, Link, Outbound, QUEUE, ToServer, filter::Filter},
    mcp::{
        message::{self, Id, Message},
        sse::reader::event,
    },
    watchdog::{Signal, Watched},
};

/// Requests of one session that may wait for their responses.
const MOST_CALLS: usize = 1024;
/// Messages of the server's own that are kept for a client that listens nowhere yet.
const BACKLOG: usize = 64;
/// Bytes of them; a message that is larger is kept alone.
const BACKLOG_BYTES: usize = 256 * 1024;

/// Answered calls whose streams are kept for a client that lost one.
const ANSWERED: usize = 8;

/// How a session serves its client.
pub struct SessionSettings {
    /// Which transport the client speaks.
    pub style: Style,
    /// How long the session may be without a request or a stream.
    pub idle: Duration,
    /// By which it ends when its token goes.
    pub watched: Watched<Subject>,
    /// Names of the servers behind it, where it is one with all servers as one.
    pub members: Members,
    /// As whom it was begun.
    pub begun_by: Arc<Identity>,
    /// What of the conversation is for this one.
    pub filter: Filter,
    /// Changes when another config is in force.
    pub changes: watch::Receiver<u64>,
    /// Says whether the client listens to what servers say of themselves.
    pub listens: Arc<AtomicBool>,
}

/// Which transport the client of a session speaks.
pub enum Style {
    /// Streamable HTTP: every request has a response of its own.
    Streamable,
    /// HTTP+SSE: everything from the server goes into this one stream, whose end is the session's.
    Sse(mpsc::Sender<Bytes>),
}

/// Starts a session on this thread. It keeps its place in the registry as long as it runs.
pub fn start(link: Link, settings: SessionSettings, registered: Registered) -> SessionHandle {
    let (sender, commands) = mpsc::channel(COMMANDS);
    let closed = CancellationToken::new();
    let (members, begun_by, room) = (settings.members, settings.begun_by, MessageBudget::default());
    let handle = SessionHandle { commands: sender, closed: closed.clone(), members, begun_by, room };
    registered.lead_to(handle.clone());
    let is_sse = matches!(settings.style, Style::Sse(_));
    settings.listens.store(is_sse, Relaxed);
    let session = Session {
        link,
        filter: settings.filter,
        changes: settings.changes,
        has_answered: false,
        owner: Arc::clone(registered.owner()),
        commands,
        closed,
        watched: settings.watched,
        idle: settings.idle,
        listener: match settings.style {
            Style::Streamable => None,
            Style::Sse(stream) => Some(StandaloneStream::new(stream, true)),
        },
        is_sse,
        listens: settings.listens,
        calls: HashMap::new(),
        serial: 0,
        to_server: VecDeque::new(),
        to_client: VecDeque::new(),
        backlog: VecDeque::new(),
        answered: VecDeque::new(),
        _registered: registered,
    };
    tokio::task::spawn_local(session.run());
    handle
}

struct Session {
    link: Link,
    filter: Filter,
    changes: watch::Receiver<u64>,
    /// Whether its client has had an answer, the first of which is that to `initialize`: before, it is told of no change.
    has_answered: bool,
    /// For whom it holds messages.
    owner: Arc<Owner>,
    commands: mpsc::Receiver<SessionCommand>,
    closed: CancellationToken,
    watched: Watched<Subject>,
    idle: Duration,
    listener: Option<StandaloneStream>,
    is_sse: bool,
    /// Whether there is a listener, for who is behind the link.
    listens: Arc<AtomicBool>,
    calls: HashMap<Id, PendingCall>,
    /// Counts calls, to tell the newest.
    serial: u64,
    /// Taken from the client. Commands wait while there is any.
    to_server: VecDeque<ToServer>,
    /// Taken from the server. It waits while there is any.
    to_client: VecDeque<Delivery>,
    backlog: VecDeque<Bytes>,
    /// Streams of calls that are answered, for clients that lost theirs.
    answered: VecDeque<CallStream>,
    _registered: Registered,
}

/// What happened.
enum Event {
    Signal(Signal),
    Closed,
    Command(Option<SessionCommand>),
    Server(Option<FromServer>),
    /// The server takes another message, or none any more.
    Room,
    /// The client takes another event, or left.
    Reader,
    /// The client takes another event of the stream that it listens on.
    Listener,
    /// It takes none, and too much waits for it.
    Unread,
    /// Nobody listens any more.
    Silence,
    /// Another config is in force.
    Changed,
}

impl Session {
    async fn run(mut self) {
        self.watched.set_deadline(Some(self.idle));
        loop {
            let event = self.next().await;
            // A message of the server that has no listener is no use of the session, nor is a reload; whatever else happens is.
            if !(matches!(event, Event::Server(_) | Event::Changed) && self.is_idle()) {
                self.watched.set_deadline(Some(self.idle));
            }
            match event {
                Event::Signal(Signal::Revoked(_) | Signal::Cut) | Event::Closed => break,
                Event::Signal(Signal::Deadline) if self.is_idle() => break,
                Event::Signal(Signal::Drain) => {
                    if let Subject::Session(_, is_busy) = self.watched.subject() {
                        is_busy.set(self.calls.values().any(|call| !call.client.is_gone()));
                    }
                }
                Event::Signal(Signal::Deadline) => {}
                Event::Command(Some(command)) => self.command(command),
                // Without a handle left in the registry no command can come.
                Event::Command(None) => break,
                Event::Server(Some(FromServer::Ended { cause })) => {
                    self.over(&cause);
                    break;
                }
                Event::Server(Some(came)) => {
                    if let Some(came) = self.filter.inward(came) {
                        self.came(came);
                    }
                }
                Event::Server(None) => {
                    self.over("the conversation with the server is over");
                    break;
                }
                Event::Room => {
                    if let Some(message) = self.to_server.pop_front() {
                        // There is room: nothing else sends here. If it has just closed, its end is on the way.
                        let _ = self.link.to_server.try_send(message);
                    }
                }
                Event::Reader => {
                    if let Some((client, event)) = self.to_client.pop_front() {
                        // A client that left misses it; what belongs to a request is not for another stream.
                        let _ = client.try_send(event);
                    }
                }
                Event::Listener => self.listener.iter_mut().for_each(StandaloneStream::pass_on),
                Event::Silence if self.is_sse => break,
                Event::Silence => self.leave_listener(),
                Event::Unread => {
                    self.listener.iter().for_each(StandaloneStream::cut);
                    self.leave_listener();
                }
                Event::Changed => self.changed(),
            }
        }
    }

    async fn next(&mut self) -> Event {
        let Self { link, owner, commands, closed, watched, listener, to_server, to_client, changes, .. } =
            self;
        let reader = async {
            match to_client.front() {
                Some((client, _)) => drop(client.reserve().await),
                None => pending().await,
            }
        };
        let is_full = listener
            .as_ref()
            .is_some_and(|listener| listener.has_more() && listener.is_full(owner.has_room_to_spare()));
        let listening = async {
            let Some(listener) = listener else { return pending().await };
            tokio::select! {
                () = listener.closed() => Event::Silence,
                () = listener.room(), if listener.has_more() => Event::Listener,
                () = listener.until_unread(), if is_full => Event::Unread,
            }
        };
        // By chance among each other, so that none that always has something keeps the others from being heard.
        let rest = async {
            tokio::select! {
                message = link.from_server.recv(), if to_client.is_empty() && !is_full => Event::Server(message),
                command = commands.recv(), if to_server.is_empty() => Event::Command(command),
                // A server that takes nothing any more may still have something to say, and then says why.
                _ = link.to_server.reserve(), if !to_server.is_empty() && !link.to_server.is_closed() => Event::Room,
                () = reader => Event::Reader,
                event = listening => event,
                // The sender of changes outlives every session.
                Ok(()) = changes.changed() => Event::Changed,
            }
        };
        // The end of the session comes before whatever else there is.
        tokio::select! {
            biased;
            signal = watched.raised() => Event::Signal(signal),
            () = closed.cancelled() => Event::Closed,
            event = rest => event,
        }
    }

    fn is_idle(&self) -> bool {
        self.listener.is_none() && self.calls.values().all(|call| call.client.is_gone())
    }

    fn command(&mut self, command: SessionCommand) {
        match command {
            SessionCommand::Post { outbound, wants, reply } => self.post(outbound, wants, reply),
            SessionCommand::Listen { after, reply } => {
                if let Some((events, before)) = after.and_then(|after| self.resume(after)) {
                    // What waits for the client where it was is among what it gets now.
                    self.to_client.retain(|(client, _)| {
                        before.as_ref().is_none_or(|before| !client.same_channel(before))
                    });
                    let _ = reply.send((events, UnreadCut::default()));
                    return;
                }
                let (sender, events) = mpsc::channel(EVENTS);
                let mut listener = StandaloneStream::new(sender, false);
                if reply.send((events, listener.unread())).is_ok() {
                    self.leave_listener();
                    self.backlog.drain(..).for_each(|event| listener.push(event));
                    self.listener = Some(listener);
                    self.listens.store(true, Relaxed);
                }
            }
            SessionCommand::Stream(id) => {
                if let Some(call) = self.calls.get_mut(&id) {
                    call.stream();
                }
            }
            SessionCommand::Abandon(id) => {
                self.calls.remove(&id);
                self.to_server.push_back(ToServer::Abandon(id));
            }
        }
    }

    /// The stream of a call, from where its client lost it.
    fn resume(&mut self, after: EventId) -> Option<Resumed> {
        let running = self.calls.values_mut().filter_map(|call| match &mut call.client {
            CallClient::Reads(stream) => Some(stream),
            CallClient::Waits(_) | CallClient::Listens => None,
        });
        running.chain(&mut self.answered).find_map(|stream| stream.resume(after))
    }

    fn post(&mut self, outbound: Outbound, wants: Wants, reply: oneshot::Sender<SessionReply>) {
        let message = &outbound.message;
        if let Some(id) = message.response_id().cloned() {
            if let Some(kind) = self.refusal(&id) {
                return drop(reply.send(SessionReply::Refused(kind.into())));
            }
            return match message.names_held_for(&self.owner) {
                Ok(names) => self.begin(id, names, outbound, wants, reply),
                Err(limit) => drop(reply.send(SessionReply::Refused(Error::out_of(Resource::Bytes, limit)))),
            };
        }
        if let Some(call) = message.cancels().and_then(|id| self.calls.remove(id)) {
            // The server will not answer. Its client waits for nothing either, and is not left hanging.
            if let CallClient::Waits(reply) = call.client {
                let _ = reply.send(SessionReply::Events(mpsc::channel(1).1));
            }
        }
        let message = ToServer::Message(outbound);
        if self.filter.outward(&message).is_ok() {
            self.to_server.push_back(message);
        }
        let _ = reply.send(SessionReply::Accepted);
    }

    /// Why a request with this id is not begun.
    fn refusal(&self, id: &Id) -> Option<ErrorKind> {
        match self.calls.len() {
            _ if self.calls.contains_key(id) => Some(ErrorKind::DuplicateId),
            MOST_CALLS.. => Some(ErrorKind::CallerLimit),
            _ => None,
        }
    }

    fn begin(
        &mut self,
        id: Id,
        names: Option<Share>,
        outbound: Outbound,
        wants: Wants,
        reply: oneshot::Sender<SessionReply>,
    ) {
        let progress_token = outbound.message.progress_token().cloned();
        let message = ToServer::Message(outbound);
        let passes = self.filter.outward(&message);
        // Over HTTP+SSE, too, the answer to the message says what it takes.
        if let Err(Some(FromServer::Failed { error, .. })) = passes {
            return drop(reply.send(SessionReply::Refused(error)));
        }
        self.serial += 1;
        let client = if self.is_sse {
            let _ = reply.send(SessionReply::Accepted);
            CallClient::Listens
        } else {
            CallClient::Waits(reply)
        };
        let mut call = PendingCall { serial: self.serial, progress_token, _names: names, wants, client };
        if wants.stream {
            call.stream();
        }
        self.calls.insert(id, call);
        match passes {
            Ok(()) => self.to_server.push_back(message),
            Err(answer) => answer.into_iter().for_each(|answer| self.came(answer)),
        }
    }

    /// There is something for the client. That the conversation is over is none of it.
    fn came(&mut self, came: FromServer) {
        match came {
            FromServer::Message { message, about } => self.received(message, about),
            FromServer::Failed { id, error } => self.failed(&id, error),
            FromServer::Ended { .. } => {}
        }
    }

    /// Another config is in force. If there are other tools, the client is told.
    fn changed(&mut self) {
        if self.filter.has_changed()
            && self.has_answered
            && let Ok(message) = Message::notification(LIST_CHANGED, "{}")
        {
            self.hand_to_listener(event(&message));
        }
    }

    /// Something came from the server.
    fn received(&mut self, message: Message, about: Option<Id>) {
        if message.kind() == message::MessageKind::Response {
            // An answer to no request of this session is dropped.
            let Some(call) = message.id().and_then(|id| self.calls.remove(id)) else { return };
            self.has_answered = true;
            return self.answer(call.client, message);
        }
        let id = about.or_else(|| self.related(&message));
        let call = id.as_ref().and_then(|id| self.calls.get(id));
        let is_heard = self.listener.is_some() || call.is_some_and(PendingCall::is_read);
        if !is_heard && message.kind() == message::MessageKind::Request && message.method() == "ping" {
            return self.pong(&message);
        }
        match id.and_then(|id| self.calls.get_mut(&id)).and_then(PendingCall::stream) {
            Some(stream) => {
                let delivery = stream.deliver(&message, self.owner.has_room_to_spare());
                self.to_client.push_back(delivery);
            }
            None => self.hand_to_listener(event(&message)),
        }
    }

    /// Answers a ping in the place of a client that listens nowhere: a server that waits in vain ends the session.
    fn pong(&mut self, ping: &Message) {
        let answer = ping.id().and_then(|id| Message::result_for(id, "{}").ok());
        // One that pings on without reading goes without answers.
        if let Some(answer) = answer.filter(|_| self.to_server.len() < QUEUE) {
            self.to_server.push_back(ToServer::Message(answer.into()));
        }
    }

    /// The client of a call gets its response, the last event of the call's stream.
    fn answer(&mut self, client: CallClient, response: Message) {
        match client {
            CallClient::Waits(reply) => drop(reply.send(SessionReply::Answer(response))),
            CallClient::Reads(mut stream) => {
                self.to_client.push_back(stream.deliver(&response, self.owner.has_room_to_spare()));
                if let Some(stream) = stream.end() {
                    if self.answered.len() == ANSWERED {
                        self.answered.pop_front();
                    }
                    self.answered.push_back(stream);
                }
            }
            CallClient::Listens => self.hand_to_listener(event(&response)),
        }
    }

    /// The call that a message of the server's belongs to, where the transport does not say: the one whose progress it
    /// reports, or the only one there is. Among several it cannot be known, and the client's stream takes it, or if it has none,
    /// the newest call does.
    fn related(&self, message: &Message) -> Option<Id> {
        if self.is_sse || self.listener.is_some() && is_about_no_request(message.method()) {
            return None;
        }
        if let Some(token) = message.progress_token() {
            let call = self.calls.iter().find(|(_, call)| call.progress_token.as_ref() == Some(token));
            return call.map(|(id, _)| id.clone());
        }
        let waiting: Vec<_> = self.calls.iter().filter(|(_, call)| !call.client.is_gone()).collect();
        if waiting.len() > 1 && self.listener.is_some() {
            return None;
        }
        waiting.into_iter().max_by_key(|(_, call)| call.serial).map(|(id, _)| id.clone())
    }

    fn hand_to_listener(&mut self, event: Bytes) {
        match &mut self.listener {
            Some(listener) => listener.push(event),
            None => self.keep(event),
        }
    }

    /// The client listens no more where it did. What it did not take is kept for when it does.
    fn leave_listener(&mut self) {
        self.listens.store(false, Relaxed);
        let rest = self.listener.take().map(StandaloneStream::into_rest).unwrap_or_default();
        rest.into_iter().for_each(|event| self.keep(event));
    }

    /// Keeps an event for a client that does not listen.
    fn keep(&mut self, event: Bytes) {
        self.backlog.push_back(event);
        let mut bytes: usize = self.backlog.iter().map(Bytes::len).sum();
        let most = if self.owner.has_room_to_spare() { BACKLOG_BYTES } else { 0 };
        while (bytes > most && self.backlog.len() > 1) || self.backlog.len() > BACKLOG {
            bytes -= self.backlog.pop_front().map_or(0, |event| event.len());
        }
    }

    fn failed(&mut self, id: &Id, error: Error) {
        let Some(call) = self.calls.remove(id) else { return };
        match call.client {
            CallClient::Waits(reply) => drop(reply.send(SessionReply::Refused(error))),
            client => {
                if let Some(failure) = failure(id, &error) {
                    self.answer(client, failure);
                }
            }
        }
    }

    /// The server is gone: every request that waits fails. A client that reads slowly gets what fits.
    fn over(&mut self, cause: &str) {
        let calls: Vec<Id> = self.calls.keys().cloned().collect();
        for id in calls {
            self.failed(&id, ErrorKind::UpstreamUnreachable.with_cause(cause.to_owned()));
        }
        for (client, event) in self.to_client.drain(..) {
            let _ = client.try_send(event);
        }
        self.listener.iter_mut().for_each(StandaloneStream::pass_on);
    }
}

/// Tells a client that there are other tools.
const LIST_CHANGED: &str = "notifications/tools/list_changed";

/// Whether a notification concerns the session as a whole.
fn is_about_no_request(method: &str) -> bool {
    method.ends_with("/list_changed") || method == "notifications/resources/updated"
}

/// The code of that: the HTTP status that came too late.
pub fn failure_code(error: &Error) -> i64 {
    i64::from(error.kind.status().as_u16())
}

/// What a client gets for a failure when its response has begun.
pub fn failure(id: &Id, error: &Error) -> Option<Message> {
    Message::error_for(id, failure_code(error), error.sentence()).ok()
}

#[cfg(test)]
#[path = "actor_tests.rs"]
mod tests;
