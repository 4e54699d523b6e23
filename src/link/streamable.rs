//! A link to a server that speaks Streamable HTTP (MCP 2025-03-26 and later): the gate is its client.
//!
//! Until 2025-11-25 there is a session: `initialize` begins it, an event stream of its own carries what belongs to no request,
//! and a server may forget it, after which the gate begins a new one in the client's stead. Since 2026-07-28 each
//! request stands alone, and to close its response is to cancel it. Which of the two a message is follows from the message, so
//! that one link serves both.

mod answer;
mod headers;
mod listen;
mod session;

use std::{borrow::Cow, cell::Cell, collections::HashMap, rc::Rc};

use tokio::{
    sync::mpsc,
    task::{AbortHandle, Id as TaskId, JoinSet},
};

use self::session::Server;
use super::{
    Far, FromServer, Link, Outbound, ToServer,
    place::{MOST_IN_FLIGHT, Place},
};
use crate::{
    error::Kind,
    mcp::message::{self, Id, Message},
};

/// Opens a link; nothing is sent before the first message. Call it on the worker whose pool it is.
///
/// Dropping the link closes every connection and deletes the session. A message that the server answers with 404 because
/// it forgot the session is repeated once, in a new session; nothing else is ever sent twice.
pub fn open(place: Place) -> Link {
    let (link, far) = Link::pair();
    tokio::task::spawn_local(run(place, far));
    link
}

async fn run(place: Place, mut far: Far) {
    let server = Rc::new(Server::new(place, far.to_client.clone()));
    tokio::select! {
        () = far.to_client.closed() => {}
        never = server.listen() => match never {},
        ended = talk(&server, &mut far.from_client) => {
            if let Some(cause) = ended {
                // A user that left needs no reason.
                let _ = far.to_client.send(FromServer::Ended { cause }).await;
            }
        }
    }
    server.leave().await;
}

/// Sends what comes from the client until the client is gone, or until there is no session to have. Returns why, in that
/// case.
///
/// Requests run side by side. Everything else is awaited before the next message is sent: a server must know that it is
/// initialized, or that a request is cancelled, before it meets what depends on it.
async fn talk(server: &Rc<Server>, from_client: &mut mpsc::Receiver<ToServer>) -> Option<Cow<'static, str>> {
    let mut calls = Calls::default();
    loop {
        let next = tokio::select! {
            next = from_client.recv() => next?,
            Some(ended) = calls.tasks.join_next_with_id() => {
                calls.forget(ended.map_or_else(|e| e.id(), |(task, ())| task));
                continue;
            }
        };
        match next {
            ToServer::Abandon(id) => {
                if calls.abandon(&id) == Some(Era::Legacy)
                    && let Ok(cancelled) = Message::cancelled(&id)
                {
                    server.tell(&cancelled.into()).await;
                }
            }
            ToServer::Message(outbound) => match (outbound.message.kind(), outbound.message.id()) {
                (message::Kind::Request, Some(id)) => {
                    let id = id.clone();
                    if is_initialize(&outbound) {
                        if let Err(cause) = server.initialize(id, outbound).await {
                            return Some(cause);
                        }
                    } else if calls.tasks.len() >= MOST_IN_FLIGHT {
                        let why = "too many requests of one session wait for this server";
                        server.fail(id, Kind::CallerLimit.because(why)).await;
                    } else {
                        calls.start(server, id, outbound);
                    }
                }
                _ => {
                    if outbound.message.method() == "notifications/cancelled"
                        && let Some(id) = outbound.message.request_id()
                    {
                        calls.note_cancelled(id);
                    }
                    server.tell(&outbound).await;
                }
            },
        }
    }
}

fn is_initialize(outbound: &Outbound) -> bool {
    outbound.message.method() == "initialize" && Era::of(outbound) == Era::Legacy
}

/// Whether there are sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Era {
    /// Until MCP 2025-11-25.
    Legacy,
    /// Since MCP 2026-07-28.
    Modern,
}

impl Era {
    /// From 2026-07-28 on a message says its version itself.
    fn of(outbound: &Outbound) -> Self {
        if outbound.message.version().is_some() { Self::Modern } else { Self::Legacy }
    }
}

/// Requests on their way. Dropping them closes their connections.
#[derive(Default)]
struct Calls {
    tasks: JoinSet<()>,
    running: HashMap<Id, Running>,
}

struct Running {
    task: AbortHandle,
    era: Era,
    /// The client cancelled it: what is lost of its answer need not be fetched.
    is_cancelled: Rc<Cell<bool>>,
}

impl Calls {
    fn start(&mut self, server: &Rc<Server>, id: Id, outbound: Outbound) {
        let is_cancelled = Rc::new(Cell::new(false));
        let (era, of_task) = (Era::of(&outbound), Rc::clone(&is_cancelled));
        let (server, called) = (Rc::clone(server), id.clone());
        let task = self.tasks.spawn_local(async move { server.call(called, &outbound, &of_task).await });
        self.running.insert(id, Running { task, era, is_cancelled });
    }

    fn forget(&mut self, ended: TaskId) {
        self.running.retain(|_, running| running.task.id() != ended);
    }

    /// Drops a request, if it still runs.
    fn abandon(&mut self, id: &Id) -> Option<Era> {
        let running = self.running.remove(id)?;
        running.task.abort();
        Some(running.era)
    }

    fn note_cancelled(&self, id: &Id) {
        if let Some(running) = self.running.get(id) {
            running.is_cancelled.set(true);
        }
    }
}

#[cfg(test)]
#[path = "streamable_tests.rs"]
mod tests;
