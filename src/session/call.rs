//! A request of a client's on its way, and how its client gets the response.

use tokio::sync::oneshot;

use super::{SessionReply, Wants, stream::CallStream};
use crate::{ledger::Share, mcp::message::Id};

/// A request of the client's that the server has not answered.
pub(super) struct PendingCall {
    pub(super) serial: u64,
    pub(super) progress_token: Option<Id>,
    /// Counts its id and token, if they are large.
    pub(super) _names: Option<Share>,
    pub(super) wants: Wants,
    pub(super) client: CallClient,
}

impl PendingCall {
    /// The stream of its events, which begins now at the latest; `None` on HTTP+SSE, which has one for all, and where the
    /// client takes none.
    pub(super) fn stream(&mut self) -> Option<&mut CallStream> {
        if matches!(self.client, CallClient::Waits(_)) && !self.wants.only_json {
            let (stream, events) = CallStream::begin(self.serial, self.wants.resumable);
            if let CallClient::Waits(reply) = std::mem::replace(&mut self.client, CallClient::Reads(stream)) {
                let _ = reply.send(SessionReply::Events(events));
            }
        }
        match &mut self.client {
            CallClient::Reads(stream) => Some(stream),
            CallClient::Waits(_) | CallClient::Listens => None,
        }
    }

    /// Whether the client reads events of it now.
    pub(super) fn is_read(&self) -> bool {
        matches!(&self.client, CallClient::Reads(stream) if !stream.is_gone())
    }
}

/// How the client of a call gets its messages.
pub(super) enum CallClient {
    /// It waits for the response head.
    Waits(oneshot::Sender<SessionReply>),
    /// It reads events.
    Reads(CallStream),
    /// On HTTP+SSE, in the one stream.
    Listens,
}

impl CallClient {
    pub(super) fn is_gone(&self) -> bool {
        match self {
            Self::Waits(reply) => reply.is_closed(),
            Self::Reads(stream) => stream.is_gone(),
            Self::Listens => false,
        }
    }
}
