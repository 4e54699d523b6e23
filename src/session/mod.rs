//! Sessions that the gateway keeps itself (MCP up to 2025-11-25), for servers that a client does not reach byte for byte.
//!
//! A session is a task that owns a [`Link`](crate::link::Link) to the server and decides where the server's messages go:
//! to the response of the request that they belong to, or to the stream that the client listens on. Requests reach it,
//! from whichever thread they are on, by a [`SessionHandle`] from the [`Registry`].

mod actor;
mod call;
mod listener;
mod registry;
mod room;
mod stream;

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};

pub use self::{
    actor::{SessionSettings, Style, failure, failure_code, start},
    listener::UnreadCut,
    registry::{Registered, Registry, SessionId},
    room::{BudgetPermit, PATIENCE},
    stream::{EVENTS, EventId},
};
use crate::{
    error::Error,
    identity::{Identity, Members},
    link::Outbound,
    mcp::message::{Id, Message},
};

/// Commands that may wait for a session.
const COMMANDS: usize = 4;

/// What a request wants of a session.
pub enum SessionCommand {
    /// Send this to the server.
    Post {
        /// The message.
        outbound: Outbound,
        /// How it may be answered.
        wants: Wants,
        /// Gets what the client is answered.
        reply: oneshot::Sender<SessionReply>,
    },
    /// Stream what the server sends of itself.
    Listen {
        /// Where the client was in the stream of a call, if it comes back for that.
        after: Option<EventId>,
        /// Gets the stream.
        reply: oneshot::Sender<(mpsc::Receiver<Bytes>, UnreadCut)>,
    },
    /// Answer this request by a stream, if it is not answered yet.
    Stream(Id),
    /// The gateway waits no longer for the answer to this request.
    Abandon(Id),
}

/// How the client of a request would be answered.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wants {
    /// By a stream, even if there is nothing to send yet.
    pub stream: bool,
    /// By a stream that it can come back to, if by one at all (MCP 2025-11-25).
    pub resumable: bool,
    /// By nothing but its response: it takes no streams. What the server says before is not part of the answer.
    pub only_json: bool,
}

/// What a client is answered.
pub enum SessionReply {
    /// Taken; there is nothing to say.
    Accepted,
    /// The response, and nothing before it.
    Answer(Message),
    /// Events, the response last.
    Events(mpsc::Receiver<Bytes>),
    /// It failed.
    Refused(Error),
}

/// A way to a session.
#[derive(Clone)]
pub struct SessionHandle {
    commands: mpsc::Sender<SessionCommand>,
    /// Beside the commands, which wait while the server takes no message.
    closed: CancellationToken,
    members: Members,
    begun_by: Arc<Identity>,
    room: room::MessageBudget,
}

impl SessionHandle {
    /// Waits for room for a message of so many bytes. `None` if there never is any.
    pub async fn room(&self, bytes: u64) -> Option<BudgetPermit> {
        self.room.take(bytes).await
    }

    /// Sends a message to the server. Resolves when there is something to answer; `None` if the session is over.
    pub async fn post(&self, outbound: Outbound, wants: Wants) -> Option<SessionReply> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(SessionCommand::Post { outbound, wants, reply }).await.ok()?;
        answer.await.ok()
    }

    /// The stream of what the server sends of itself, which takes the place of one that was opened before; or the rest of
    /// a call's stream. `None` if the session is over.
    pub async fn listen(&self, after: Option<EventId>) -> Option<(mpsc::Receiver<Bytes>, UnreadCut)> {
        let (reply, stream) = oneshot::channel();
        self.commands.send(SessionCommand::Listen { after, reply }).await.ok()?;
        stream.await.ok()
    }

    /// Has a request answered by a stream, if it is not answered yet.
    pub async fn stream(&self, id: Id) {
        // A session that is over has answered.
        let _ = self.commands.send(SessionCommand::Stream(id)).await;
    }

    /// Tells the server that the answer to this request is not awaited any more.
    pub async fn abandon(&self, id: Id) {
        // A session that is over has reported it already.
        let _ = self.commands.send(SessionCommand::Abandon(id)).await;
    }

    /// Names of the servers behind it, where it is one with all servers as one.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// As whom it was begun.
    pub fn begun_by(&self) -> &Arc<Identity> {
        &self.begun_by
    }

    /// Ends the session.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Ends the session when the guard is dropped, unless it is disarmed before.
    pub fn close_on_drop(&self) -> DropGuard {
        self.closed.clone().drop_guard()
    }
}
