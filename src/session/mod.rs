//! Sessions that the gate keeps itself (MCP up to 2025-11-25), for servers that a client does not reach byte for byte.
//!
//! A session is a task that owns a [`Link`](crate::link::Link) to the server and knows where the server's messages go:
//! to the response of the request that they belong to, or to the stream that the client listens on. Requests reach it,
//! from whichever thread they are on, by a [`Handle`] from the [`Registry`].

mod actor;
mod registry;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

pub use self::{
    actor::{Settings, Style, failure, start},
    registry::{Full, Registered, Registry, SessionId},
};
use crate::{
    error::Error,
    link::Outbound,
    mcp::message::{Id, Message},
};

/// Commands that may wait for a session.
const COMMANDS: usize = 4;
/// Events that may wait for a client that reads slowly. Beyond them the server waits.
pub const EVENTS: usize = 16;

/// What a request wants of a session.
pub enum Command {
    /// Send this to the server.
    Post {
        /// The message.
        outbound: Outbound,
        /// Gets what the client is answered.
        reply: oneshot::Sender<Reply>,
    },
    /// Stream what the server sends of itself.
    Listen {
        /// Gets the stream.
        reply: oneshot::Sender<mpsc::Receiver<Bytes>>,
    },
    /// The gate waits no longer for the answer to this request.
    Abandon(Id),
}

/// What a client is answered.
pub enum Reply {
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
pub struct Handle {
    commands: mpsc::Sender<Command>,
    /// Beside the commands, which wait while the server takes no message.
    closed: CancellationToken,
}

impl Handle {
    /// Sends a message to the server. Resolves when there is something to answer; `None` if the session is over.
    pub async fn post(&self, outbound: Outbound) -> Option<Reply> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Post { outbound, reply }).await.ok()?;
        answer.await.ok()
    }

    /// The stream of what the server sends of itself; `None` if the session is over. It takes the place of one that was
    /// opened before.
    pub async fn listen(&self) -> Option<mpsc::Receiver<Bytes>> {
        let (reply, stream) = oneshot::channel();
        self.commands.send(Command::Listen { reply }).await.ok()?;
        stream.await.ok()
    }

    /// Tells the server that nobody waits for the answer to this request any more.
    pub async fn abandon(&self, id: Id) {
        // A session that is over has told it already.
        let _ = self.commands.send(Command::Abandon(id)).await;
    }

    /// Ends the session.
    pub fn close(&self) {
        self.closed.cancel();
    }
}
