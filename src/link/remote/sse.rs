//! A link to a server that speaks HTTP+SSE (MCP 2024-11-05): the gateway is its client.
//!
//! One event stream carries everything that the server says; its first event names where messages are posted. The stream
//! is the session: when it ends, so does the conversation, since what was under way is lost. A server that forgot the
//! session says so (404) before it looks at a message, so that one may be repeated in a new session. Messages are posted side
//! by side: some servers answer a POST only when they are done with its message, and may ask the client before.

use std::{borrow::Cow, cell::RefCell, collections::HashMap, rc::Rc, time::Duration};

use http::StatusCode;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use crate::link::{
    FromServer, Link, Outbound, ServerEnd, ToServer,
    awaited::Awaited,
    opening::SessionOpening,
    remote::server::{
        EventStream, HttpServer, LostMessage, MOST_IN_FLIGHT, MOST_POSTS, NO_INITIALIZE, WrittenSignal,
        refused, until_sent,
    },
};
use crate::{
    error::{Error, ErrorKind},
    ledger::Resource,
    mcp::{
        message::{self, Id, Malformed, Message, Part},
        numbers::Numbers,
        sse::{endpoint, reader::is_event_stream},
    },
};

/// How long messages that were sent before the server forgot the session may take to say that they met the loss, too.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Opens a link; the server is reached with the first message. Call it on the worker whose pool it is.
///
/// Dropping the link closes the event stream, which ends the session.
pub fn open(http_server: HttpServer) -> Link {
    let (link, server_end) = Link::pair();
    tokio::task::spawn_local(run(http_server, server_end));
    link
}

async fn run(http_server: HttpServer, mut server_end: ServerEnd) {
    let awaited = RefCell::new(Awaited::new(http_server.callers, http_server.report.clone()));
    let server = Rc::new(SseServer {
        http_server,
        to_client: server_end.to_client.clone(),
        awaited,
        initialize: RefCell::default(),
        renewing: RefCell::default(),
        numbers: RefCell::default(),
    });
    tokio::select! {
        () = server_end.to_client.closed() => {}
        ended = serve(&server, &mut server_end.from_client) => {
            if let Some(cause) = ended {
                server.lose(&cause).await;
                // A user that left needs no reason.
                let _ = server_end.to_client.send(FromServer::Ended { cause }).await;
            }
        }
    }
}

struct SseServer {
    http_server: HttpServer,
    to_client: mpsc::Sender<FromServer>,
    /// Requests that wait for their answers on the stream.
    awaited: RefCell<Awaited>,
    /// How the client began, for the case that the server forgets it.
    initialize: RefCell<Option<Message>>,
    /// The gateway's own `initialize` that has no answer yet.
    renewing: RefCell<Option<Renewing>>,
    /// For ids of such: none that a client could choose is one of them.
    numbers: RefCell<Numbers>,
}

struct Renewing {
    id: Id,
    /// Gets the answer.
    answered: oneshot::Sender<Message>,
}

/// How a session ended.
enum End {
    /// The client left.
    Over,
    /// For good.
    Lost(Cow<'static, str>),
    /// The server forgot it, and did not take these messages.
    Forgotten(Vec<Message>),
}

/// What became of a posted message.
enum Posted {
    /// It was taken, or refused, and there is no more to do about it.
    Done {
        /// Others wait for it.
        is_part_of_opening: bool,
    },
    /// It was not looked at: the server has no such session.
    Forgotten {
        /// When it was sent, among the others.
        number: u64,
        message: Message,
    },
}

/// Carries messages until the client is gone, or until there is no session to have. Returns why, in that case.
async fn serve(
    server: &Rc<SseServer>,
    from_client: &mut mpsc::Receiver<ToServer>,
) -> Option<Cow<'static, str>> {
    let mut next = loop {
        if let ToServer::Message(outbound) = from_client.recv().await? {
            break vec![outbound.message];
        }
    };
    let mut opening = SessionOpening::default();
    let mut is_repeat = false;
    loop {
        let (mut events, path) = match server.connect().await {
            Ok(connected) => connected,
            Err(error) => return Some(server.refuse(&next, &error).await),
        };
        let path: Rc<str> = path.into();
        let ended = tokio::select! {
            cause = server.read(&mut events) => End::Lost(cause),
            ended = write(server, &path, next, is_repeat, &mut opening, from_client) => ended,
        };
        match ended {
            End::Over => return None,
            End::Lost(cause) => return Some(cause),
            End::Forgotten(messages) => {
                server.lose("the server forgot the session").await;
                (next, is_repeat) = (messages, true);
            }
        }
    }
}

/// Posts what comes from the client, beginning with `first`, side by side.
async fn write(
    server: &Rc<SseServer>,
    path: &Rc<str>,
    first: Vec<Message>,
    is_repeat: bool,
    opening: &mut SessionOpening,
    from_client: &mut mpsc::Receiver<ToServer>,
) -> End {
    if is_repeat && let Err(error) = server.renew(path).await {
        return End::Lost(server.refuse(&first, &error).await);
    }
    let mut posts = Posts { server, path, tasks: JoinSet::new(), sent: HashMap::new(), number: 0 };
    // Who sent them again waits for no order: there is a session.
    for message in first {
        let what = ToServer::Message(message.into());
        let what = if is_repeat { Some(what) } else { opening.admit(what) };
        if let Some(what) = what {
            posts.send(what, is_repeat).await;
        }
    }
    loop {
        tokio::select! {
            biased;
            Some(posted) = posts.tasks.join_next() => match posted {
                Ok(Posted::Done { is_part_of_opening: false }) | Err(_) => {}
                Ok(Posted::Done { is_part_of_opening: true }) => {
                    opening.end();
                    while let Some(next) = opening.next() {
                        posts.send(next, false).await;
                    }
                }
                Ok(Posted::Forgotten { number, message }) => return posts.forgotten(number, message).await,
            },
            next = from_client.recv(), if opening.has_room() && posts.tasks.len() < MOST_POSTS => match next {
                None => return End::Over,
                Some(next) => {
                    if let Some(next) = opening.admit(next) {
                        posts.send(next, false).await;
                    }
                }
            },
        }
    }
}

/// Messages on their way to one session. Dropping them closes their connections.
struct Posts<'a> {
    server: &'a Rc<SseServer>,
    path: &'a Rc<str>,
    tasks: JoinSet<Posted>,
    /// Whether requests that wait for their answers were written.
    sent: HashMap<Id, WrittenSignal>,
    number: u64,
}

impl Posts<'_> {
    /// Posts one message. A request is awaited from before it is sent, since its answer may be faster than that of the POST.
    async fn send(&mut self, what: ToServer, is_repeat: bool) {
        let is_part_of_opening = SessionOpening::is_part(&what);
        let message = match what {
            ToServer::Message(Outbound { message, .. }) => message,
            ToServer::Abandon(id) => {
                let has_session = self.server.initialize.borrow().is_some();
                let cancelled =
                    if has_session { Message::cancelled(&id) } else { Message::cancelled_modern(&id) };
                match cancelled {
                    Ok(cancelled) if self.server.awaited.borrow_mut().give_up(&id) => cancelled,
                    _ => return,
                }
            }
        };
        let (sender, sent) = watch::channel(false);
        if let Some(id) = message.response_id() {
            if self.server.awaited.borrow().count() >= MOST_IN_FLIGHT {
                let why = "too many requests of one session wait for this server";
                return self.server.fail(Some(id), ErrorKind::CallerLimit.with_cause(why)).await;
            }
            self.sent.retain(|_, sent| !*sent.borrow());
            self.sent.insert(id.clone(), sent);
        }
        self.server.awaited.borrow_mut().begin(&message);
        let before = message.cancels().and_then(|id| self.sent.get(id).cloned());
        self.number += 1;
        let (server, path, number) = (Rc::clone(self.server), Rc::clone(self.path), self.number);
        self.tasks.spawn_local(async move {
            if let Some(before) = before {
                until_sent(before).await;
            }
            match server.post(&path, &message, !is_repeat, &sender).await {
                true => Posted::Forgotten { number, message },
                false => Posted::Done { is_part_of_opening },
            }
        });
    }

    /// The server forgot the session: what else it did not take is sent again with what met the loss first.
    async fn forgotten(mut self, number: u64, message: Message) -> End {
        let mut all = vec![(number, message)];
        let others = async {
            while let Some(posted) = self.tasks.join_next().await {
                if let Ok(Posted::Forgotten { number, message }) = posted {
                    all.push((number, message));
                }
            }
        };
        // What is under way still was taken, and is lost with the session.
        let _ = tokio::time::timeout(LAST_WORDS, others).await;
        all.sort_unstable_by_key(|(number, _)| *number);
        End::Forgotten(all.into_iter().map(|(_, message)| message).collect())
    }
}

impl SseServer {
    /// Opens the event stream, and learns from it where messages go.
    async fn connect(&self) -> Result<(EventStream, String), Error> {
        let answer = self.http_server.get(Resource::ServerStreams, Vec::new()).await?;
        if answer.status != StatusCode::OK {
            return Err(refused(answer.status));
        }
        if !is_event_stream(&answer.headers) {
            return Err(ErrorKind::UpstreamUnreachable.with_cause("the answer is no event stream"));
        }
        let mut events = answer.into_events();
        let endpoint = self.endpoint(&mut events);
        let path = self.http_server.in_time(endpoint, "no endpoint event in time").await??;
        Ok((events, path))
    }

    async fn endpoint(&self, events: &mut EventStream) -> Result<String, Error> {
        let unreachable = |cause: String| ErrorKind::UpstreamUnreachable.with_cause(cause);
        loop {
            match events.next().await.map_err(|lost| lost.error)? {
                Some(event) if event.name == "endpoint" => {
                    let (path, query) = endpoint::resolve(&self.http_server.target.url, &event.data)
                        .map_err(|e| unreachable(e.to_string()))?;
                    return Ok(query.map_or(path.clone(), |query| format!("{path}?{query}")));
                }
                Some(_) => {}
                None => return Err(unreachable("the event stream ended before the endpoint event".into())),
            }
        }
    }

    /// Passes on what the server sends, until the stream ends. Returns why it is of no more use.
    async fn read(&self, events: &mut EventStream) -> Cow<'static, str> {
        while let Some(message) = events.message().await {
            let message = match message {
                Ok(message) => message,
                Err(LostMessage { answers, error }) => {
                    let lost = self.awaited.borrow_mut().lost(&answers);
                    self.fail(lost.as_ref(), error).await;
                    continue;
                }
            };
            let Some(what) = self.awaited.borrow_mut().message(message) else { continue };
            if let FromServer::Message { message, .. } = &what
                && message.kind() == message::MessageKind::Response
                && let Some(renewing) =
                    self.renewing.borrow_mut().take_if(|renewing| message.id() == Some(&renewing.id))
            {
                // Who waited for it may have given up.
                let _ = renewing.answered.send(message.clone());
                continue;
            }
            // A client that is gone ends the conversation elsewhere.
            let _ = self.to_client.send(what).await;
        }
        "the event stream ended".into()
    }

    /// Posts one message, and returns whether the server did not look at it, because it has no such session.
    async fn post(
        &self,
        path: &str,
        message: &Message,
        may_repeat: bool,
        sent: &watch::Sender<bool>,
    ) -> bool {
        let request = message.response_id();
        let refusal = match self.http_server.post(path, message, Vec::new(), sent).await {
            Ok(answer) if answer.status.is_success() => {
                answer.discard().await;
                if message.method() == "initialize" {
                    self.initialize.replace(Some(message.clone()));
                }
                return false;
            }
            Ok(mut answer) => {
                if may_repeat && self.outlives(message) && answer.disowns_session().await {
                    answer.discard().await;
                    if let Some(id) = request {
                        self.awaited.borrow_mut().end(id);
                    }
                    return true;
                }
                match request {
                    Some(id) => answer.into_refusal(id).await,
                    None => return false,
                }
            }
            Err(error) => self.http_server.said_instead(&error, message).ok_or(error),
        };
        if let Some(id) = request
            && self.awaited.borrow_mut().end(id)
        {
            match refusal {
                Ok(message) => drop(self.to_client.send(FromServer::Message { message, about: None }).await),
                Err(error) => self.fail(request, error).await,
            }
        }
        false
    }

    /// Whether a message has a meaning in another session than the one it was meant for.
    fn outlives(&self, message: &Message) -> bool {
        self.initialize.borrow().is_some()
            && message.method() != "initialize"
            && message.kind() != message::MessageKind::Response
    }

    /// Begins a session in the client's stead, as the client began the one before.
    async fn renew(&self, path: &str) -> Result<(), Error> {
        let internal = |e: Malformed| ErrorKind::Internal.with_cause(e.to_string());
        let remembered = self.initialize.borrow().clone();
        let initialize = remembered.ok_or_else(|| refused(StatusCode::NOT_FOUND))?;
        let id = Id::number(self.numbers.borrow_mut().draw());
        let initialize = initialize.renamed(Part::Id, &id).map_err(internal)?;
        let (answered, renewed) = oneshot::channel();
        self.renewing.replace(Some(Renewing { id, answered }));
        self.awaited.borrow_mut().begin(&initialize);
        self.take(path, &initialize).await?;
        let renewed = self.http_server.in_time(renewed, NO_INITIALIZE).await?;
        if renewed.is_ok_and(|response| response.part(Part::Result).is_none()) {
            return Err(ErrorKind::UpstreamUnreachable
                .with_cause("the server forgot the session and refuses a new one"));
        }
        let initialized = Message::notification("notifications/initialized", "{}").map_err(internal)?;
        self.take(path, &initialized).await
    }

    /// Posts a message of the gateway's own, which must be taken.
    async fn take(&self, path: &str, message: &Message) -> Result<(), Error> {
        self.http_server.post(path, message, Vec::new(), &watch::Sender::default()).await?.taken().await
    }

    async fn fail(&self, id: Option<&Id>, error: Error) {
        if let Some(id) = id {
            let _ = self.to_client.send(FromServer::Failed { id: id.clone(), error }).await;
        }
    }

    /// There is no session to send these messages to. Returns why.
    async fn refuse(&self, messages: &[Message], error: &Error) -> Cow<'static, str> {
        for message in messages {
            self.fail(message.response_id(), error.clone()).await;
        }
        error.to_string().into()
    }

    /// Fails every request that waits.
    async fn lose(&self, cause: &str) {
        let awaited = self.awaited.borrow_mut().take();
        let own = self.renewing.take().map(|renewing| renewing.id);
        for id in awaited.iter().filter(|id| Some(*id) != own.as_ref()) {
            self.fail(Some(id), ErrorKind::UpstreamUnreachable.with_cause(cause.to_owned())).await;
        }
    }
}

#[cfg(test)]
#[path = "sse_tests.rs"]
mod tests;
