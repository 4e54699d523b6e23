//! A conversation with one server, whatever carries it.
//!
//! Where a client's transport and a server's are the same, the gateway passes bytes ([`crate::proxy`]). Everywhere else
//! (a local command, a client of the other transport, all servers as one) messages are what passes: a [`Link`] takes the
//! client's and yields the server's. Each kind of server has one function that opens a link to it; what sits on top
//! does not know which.
//!
//! A link is two bounded channels and the task behind them. A user that does not take what comes stops the server, and
//! nothing else; dropping the link ends the conversation: the session is deleted, the process ended.

pub mod aggregate;
pub mod awaited;
pub mod awaiting;
pub mod filter;
pub mod inline;
mod opening;
pub mod remote;
#[cfg(test)]
#[path = "remote/scripted_tests.rs"]
mod scripted;
pub mod shared;
pub mod stdio;

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use http::{HeaderName, HeaderValue};
use tokio::sync::mpsc;

use crate::{
    error::{Error, ErrorKind},
    identity::Identity,
    mcp::message::{Id, Message},
};

/// Messages that may wait in either direction of a link.
pub const QUEUE: usize = 16;

/// A conversation with a server.
pub struct Link<S = mpsc::Sender<ToServer>> {
    /// Towards the server. The conversation ends when the last sender is gone.
    pub to_server: S,
    /// From the server. Yields nothing more once the conversation is over.
    pub from_server: mpsc::Receiver<FromServer>,
}

/// What a client has for a server.
#[derive(Debug)]
pub enum ToServer {
    /// A request, a notification, or the answer to a request of the server's.
    Message(Outbound),
    /// The client of the request with this id is gone: the answer is not awaited (MCP 2026-07-28).
    Abandon(Id),
}

/// A client's message on its way to a server.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// The message.
    pub message: Message,
    /// Its `Mcp-Param-*` fields, if it came with any, for a server that is reached by Streamable HTTP (MCP 2026-07-28).
    pub params: Vec<(HeaderName, HeaderValue)>,
    /// Its `traceparent` and `tracestate`, if it came with good ones, for a server that is reached over HTTP.
    pub trace: Vec<(HeaderName, HeaderValue)>,
    /// Where all servers as one say whose tool it calls, if somebody asks.
    pub called: Option<CalledTool>,
    /// Who sent it, if that may be somebody with a wider scope than whoever began the conversation.
    pub by: Option<Arc<Identity>>,
}

/// The server whose tool is called, and its own name for that; empty until it is known.
pub type CalledTool = Arc<OnceLock<(Arc<str>, Box<str>)>>;

/// What a server has for a client.
#[derive(Debug)]
pub enum FromServer {
    /// A response, a notification, or a request of the server's.
    Message {
        /// The message.
        message: Message,
        /// The request that it belongs to, where the transport says so: the one on whose response stream it came.
        about: Option<Id>,
    },
    /// The request with this id got no answer and gets none.
    Failed {
        /// The request.
        id: Id,
        /// What its client gets.
        error: Error,
    },
    /// The conversation is over: the process ended, the connection was lost. The last thing that a link yields.
    Ended {
        /// For the log.
        cause: Cow<'static, str>,
    },
}

impl From<Message> for Outbound {
    fn from(message: Message) -> Self {
        Self { message, params: Vec::new(), trace: Vec::new(), called: None, by: None }
    }
}

impl Link {
    /// Both ends of a new link: what the user of the link gets, and what the task behind it gets.
    pub fn pair() -> (Self, ServerEnd) {
        let (to_server, from_client) = mpsc::channel(QUEUE);
        let (to_client, from_server) = mpsc::channel(QUEUE);
        (Self { to_server, from_server }, ServerEnd { to_client, from_client })
    }
}

impl<S> Link<S> {
    /// The next message of the server's. The error is that a request gets no answer, or that the conversation is over.
    pub async fn next_message(&mut self) -> Result<Message, Error> {
        match self.from_server.recv().await {
            Some(FromServer::Message { message, .. }) => Ok(message),
            Some(FromServer::Failed { error, .. }) => Err(error),
            Some(FromServer::Ended { cause }) => Err(ErrorKind::UpstreamUnreachable.with_cause(cause)),
            None => Err(ErrorKind::UpstreamUnreachable.with_cause("it ended")),
        }
    }
}

/// The server's end of a link, for the task that carries its messages.
pub struct ServerEnd {
    /// From the client. Yields nothing more once the user of the link is gone.
    pub from_client: mpsc::Receiver<ToServer>,
    /// Towards the client.
    pub to_client: mpsc::Sender<FromServer>,
}
