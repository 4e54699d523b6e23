//! What has to wait until a server has begun a session. Everything else goes side by side: a server may ask its client while
//! it handles a call, or a notification, and must get the answer for it.

use std::collections::VecDeque;

use super::ToServer;
use crate::mcp::message::{Id, Message, MessageKind};

/// Messages that wait for the beginning of a session. Beyond them, the client waits.
const MOST_HELD: usize = 16;

/// The beginning of a session: `initialize`, then `notifications/initialized`, then the rest (MCP 2025-11-25, lifecycle,
/// "Initialization").
#[derive(Debug, Default)]
pub(super) struct SessionOpening {
    is_under_way: bool,
    held: VecDeque<ToServer>,
}

impl SessionOpening {
    /// Whether one more message may be held.
    pub(super) fn has_room(&self) -> bool {
        self.held.len() < MOST_HELD
    }

    /// The message, if it may go now. What the client answers always may.
    pub(super) fn admit(&mut self, what: ToServer) -> Option<ToServer> {
        let message = match &what {
            ToServer::Message(outbound) => Some(&outbound.message),
            ToServer::Abandon(_) => None,
        };
        if message.is_some_and(|message| message.kind() == MessageKind::Response) {
            return Some(what);
        }
        if self.is_under_way {
            match &what {
                // What was not sent need not be taken back.
                ToServer::Abandon(id) if self.forget(id) => {}
                _ => self.held.push_back(what),
            }
            return None;
        }
        self.is_under_way = Self::is_part(&what) && !message.is_some_and(Message::names_version);
        Some(what)
    }

    fn forget(&mut self, id: &Id) -> bool {
        let before = self.held.len();
        self.held.retain(|held| match held {
            ToServer::Message(held) => held.message.response_id() != Some(id),
            ToServer::Abandon(_) => true,
        });
        self.held.len() < before
    }

    /// The server has taken what the others wait for, or will not.
    pub(super) fn end(&mut self) {
        self.is_under_way = false;
    }

    /// The next message that waited and may go now.
    pub(super) fn next(&mut self) -> Option<ToServer> {
        let next = if self.is_under_way { None } else { self.held.pop_front() };
        next.and_then(|next| self.admit(next))
    }

    /// Whether this message has others wait for it.
    pub(super) fn is_part(what: &ToServer) -> bool {
        matches!(what, ToServer::Message(outbound) if matches!(
            outbound.message.method(), "initialize" | "notifications/initialized"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> ToServer {
        ToServer::Message(Message::parse(text.to_owned().into()).unwrap().into())
    }

    fn method(what: Option<ToServer>) -> String {
        match what {
            Some(ToServer::Message(outbound)) => outbound.message.method().to_owned(),
            Some(ToServer::Abandon(_)) => "abandon".into(),
            None => "none".into(),
        }
    }

    #[test]
    fn a_session_is_begun_in_order_and_answers_wait_for_nothing() {
        let mut opening = SessionOpening::default();
        assert_eq!(method(opening.admit(said(r#"{"id":1,"method":"initialize"}"#))), "initialize");
        assert_eq!(method(opening.admit(said(r#"{"method":"notifications/initialized"}"#))), "none");
        assert_eq!(method(opening.admit(said(r#"{"id":2,"method":"a"}"#))), "none");
        assert_eq!(method(opening.admit(said(r#"{"id":3,"method":"b"}"#))), "none");
        assert_eq!(method(opening.admit(ToServer::Abandon(Id::number(3)))), "none");
        assert_eq!(method(opening.admit(said(r#"{"id":9,"result":{}}"#))), "");
        assert_eq!(method(opening.next()), "none");
        opening.end();
        assert_eq!(method(opening.next()), "notifications/initialized");
        assert_eq!(method(opening.next()), "none");
        opening.end();
        assert_eq!((method(opening.next()), method(opening.next())), ("a".into(), "none".into()));
        assert_eq!(method(opening.admit(said(r#"{"id":4,"method":"c"}"#))), "c");
    }
}
