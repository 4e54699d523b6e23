//! A link to a server that speaks Streamable HTTP (MCP 2025-03-26 and later): the gateway is its client.
//!
//! Until 2025-11-25 there is a session: `initialize` begins it, an event stream of its own carries what belongs to no
//! request, and a server may forget it, after which the gateway begins a new one in the client's stead. Since 2026-07-28
//! each request is self-contained, and to close its response is to cancel it. Which of the two a message is follows from
//! the message, so that one link serves both.

mod answer;
mod headers;
mod listen;
mod session;
#[cfg(test)]
#[path = "tests.rs"]
mod tests;

use std::{borrow::Cow, cell::Cell, collections::HashMap, rc::Rc};

use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, Id as TaskId, JoinSet},
};

use crate::link::remote::streamable::session::StreamableServer;
use crate::link::{
    FromServer, Link, Outbound, ServerEnd, ToServer,
    opening::SessionOpening,
    remote::server::{HttpServer, MOST_IN_FLIGHT, MOST_POSTS, WrittenSignal, until_sent},
};
use crate::{
    error::ErrorKind,
    mcp::{
        era::Era,
        message::{Id, Message},
    },
};

/// Opens a link; nothing is sent before the first message. Call it on the worker whose pool it is.
///
/// Dropping the link closes every connection and deletes the session. A message that the server answers with 404 because
/// it forgot the session is repeated once, in a new session; nothing else is ever sent twice. If that is forgotten at once,
/// too, the conversation is over.
pub fn open(http_server: HttpServer) -> Link {
    let (link, server_end) = Link::pair();
    tokio::task::spawn_local(run(http_server, server_end));
    link
}

async fn run(http_server: HttpServer, mut server_end: ServerEnd) {
    let server = Rc::new(StreamableServer::new(http_server, server_end.to_client.clone()));
    tokio::select! {
        () = server_end.to_client.closed() => {}
        never = server.listen() => match never {},
        ended = talk(&server, &mut server_end.from_client) => {
            if let Some(cause) = ended {
                // A user that left needs no reason.
                let _ = server_end.to_client.send(FromServer::Ended { cause }).await;
            }
        }
    }
    server.leave().await;
}

/// Sends what comes from the client until the client is gone, or until there is no session to have. Returns why, in that
/// case.
///
/// Messages go side by side: a server may ask its client while it handles one. What has to wait is what begins a session
/// ([`SessionOpening`]), and that a request is cancelled.
async fn talk(
    server: &Rc<StreamableServer>,
    from_client: &mut mpsc::Receiver<ToServer>,
) -> Option<Cow<'static, str>> {
    let mut calls = Calls::default();
    let mut opening = SessionOpening::default();
    loop {
        tokio::select! {
            cause = server.lost() => return Some(cause),
            next = from_client.recv(), if opening.has_room() && calls.tasks.len() < MOST_POSTS => {
                if let Some(next) = opening.admit(next?) {
                    send(server, &mut calls, next).await;
                }
            }
            Some(ended) = calls.tasks.join_next_with_id() => {
                let (task, done) = ended.unwrap_or_else(|e| (e.id(), Done::Other));
                calls.forget(task);
                match done {
                    Done::Over(cause) => return Some(cause),
                    Done::Other => {}
                    Done::Opened => {
                        opening.end();
                        while let Some(next) = opening.next() {
                            send(server, &mut calls, next).await;
                        }
                    }
                }
            }
        }
    }
}

/// Sends one message, which may go now.
async fn send(server: &Rc<StreamableServer>, calls: &mut Calls, what: ToServer) {
    let is_part_of_opening = SessionOpening::is_part(&what);
    let outbound = match what {
        ToServer::Message(outbound) => outbound,
        ToServer::Abandon(id) => {
            if let Some((Era::Legacy, sent)) = calls.abandon(&id)
                && let Ok(cancelled) = Message::cancelled(&id)
            {
                calls.send_without_answer(server, cancelled.into(), Some(sent), Done::Other);
            }
            return;
        }
    };
    let message = &outbound.message;
    match message.response_id().cloned() {
        Some(id) => {
            if is_initialize(&outbound) {
                calls.initialize(server, id, outbound);
            } else if calls.running.len() >= MOST_IN_FLIGHT {
                let why = "too many requests of one session wait for this server";
                server.fail(id, ErrorKind::CallerLimit.with_cause(why)).await;
            } else {
                calls.start(server, id, outbound);
            }
        }
        None => {
            let sent = message.cancels().and_then(|id| calls.note_cancelled(id));
            let done = if is_part_of_opening { Done::Opened } else { Done::Other };
            calls.send_without_answer(server, outbound, sent, done);
        }
    }
}

fn is_initialize(outbound: &Outbound) -> bool {
    outbound.message.method() == "initialize" && Era::of(&outbound.message) == Era::Legacy
}

/// Messages on their way. Dropping them closes their connections.
#[derive(Default)]
struct Calls {
    tasks: JoinSet<Done>,
    running: HashMap<Id, Running>,
}

struct Running {
    task: AbortHandle,
    era: Era,
    /// The client cancelled it: what is lost of its answer need not be fetched.
    is_cancelled: Rc<Cell<bool>>,
    sent: WrittenSignal,
}

/// What it means that a message is on its way no more.
enum Done {
    /// What waited for it may go.
    Opened,
    /// There is no session.
    Over(Cow<'static, str>),
    /// Nothing to the others.
    Other,
}

impl Calls {
    fn start(&mut self, server: &Rc<StreamableServer>, id: Id, outbound: Outbound) {
        let is_cancelled = Rc::new(Cell::new(false));
        let (era, of_task) = (Era::of(&outbound.message), Rc::clone(&is_cancelled));
        let (server, called) = (Rc::clone(server), id.clone());
        let (sender, sent) = watch::channel(false);
        let task = self.tasks.spawn_local(async move {
            server.call(called, &outbound, &of_task, &sender).await;
            Done::Other
        });
        self.running.insert(id, Running { task, era, is_cancelled, sent });
    }

    fn initialize(&mut self, server: &Rc<StreamableServer>, id: Id, outbound: Outbound) {
        let server = Rc::clone(server);
        self.tasks.spawn_local(async move {
            server.initialize(id, outbound).await.map_or_else(Done::Over, |()| Done::Opened)
        });
    }

    /// Sends what wants no answer, once the request that it is about was sent.
    fn send_without_answer(
        &mut self,
        server: &Rc<StreamableServer>,
        outbound: Outbound,
        after: Option<WrittenSignal>,
        done: Done,
    ) {
        let server = Rc::clone(server);
        self.tasks.spawn_local(async move {
            if let Some(after) = after {
                until_sent(after).await;
            }
            server.send_without_answer(&outbound).await;
            done
        });
    }

    fn forget(&mut self, ended: TaskId) {
        self.running.retain(|_, running| running.task.id() != ended);
    }

    /// Drops a request, if it still runs.
    fn abandon(&mut self, id: &Id) -> Option<(Era, WrittenSignal)> {
        let running = self.running.remove(id)?;
        running.task.abort();
        Some((running.era, running.sent))
    }

    fn note_cancelled(&self, id: &Id) -> Option<WrittenSignal> {
        let running = self.running.get(id)?;
        running.is_cancelled.set(true);
        Some(running.sent.clone())
    }
}
