//! Whose request is which: ids of many callers, and the one row of numbers that the server sees.
//!
//! Callers know nothing of each other and choose the same ids. So each request gets a number of the shared link's own, and
//! that number stands for everything that a server says about it: `id` of the response, `progressToken` of its
//! progress, `subscriptionId` of what it subscribed to. Numbers are never used twice, so an answer that comes late finds
//! nobody instead of somebody else; and nobody can guess one, so who could say one to the server would not know which.
//!
//! Sans-io: no channel, no clock.

use std::collections::HashMap;

use crate::{
    error::{Error, Kind},
    link::FromServer,
    mcp::{
        code::METHOD_NOT_FOUND,
        message::{self, Id, Malformed, Message, Part},
        modern::LISTEN,
        numbers::{self, Numbers},
    },
};

/// Requests that one caller may have in flight. What it has beyond that is refused.
const PER_CALLER: usize = 1024;

/// Who has requests in flight, and which.
#[derive(Default)]
pub(super) struct Table {
    numbers: Numbers,
    flights: HashMap<u64, Flight>,
    /// The numbers of a caller's requests. Most have one.
    callers: HashMap<u64, Vec<u64>>,
}

/// A request that waits for its answer.
struct Flight {
    caller: u64,
    id: Id,
    /// As the caller wrote them.
    raw_id: Box<str>,
    raw_token: Option<Box<str>>,
    /// It asks for notifications, which may take as long as the server lives.
    listens: bool,
}

/// A request whose server is gone.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) caller: u64,
    pub(super) id: Id,
    /// It asked for notifications.
    pub(super) listens: bool,
}

/// Where a caller's message goes.
#[derive(Debug)]
pub(super) enum Outward {
    /// To the server.
    Server(Message),
    /// Back to the caller.
    Caller(FromServer),
    /// Nowhere: it is about what is over, or what never was.
    Nowhere,
}

/// Where a server's message goes.
#[derive(Debug)]
pub(super) enum Inward {
    /// To this caller.
    Caller(u64, FromServer),
    /// Back to the server.
    Server(Message),
    /// Nowhere.
    Nowhere,
}

impl Table {
    /// Whether nobody waits for anything.
    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// A caller's message, at the moment when it is sent.
    pub(super) fn outward(&mut self, caller: u64, message: &Message) -> Outward {
        match message.kind() {
            message::Kind::Request => self.request(caller, message),
            // The only one that a client of MCP 2026-07-28 has. Those of older versions (`notifications/initialized`,
            // `notifications/progress`, `notifications/roots/list_changed`, `notifications/tasks/status`) are about a
            // session, which there is none; what is not known may be about anybody.
            message::Kind::Notification if message.method() == "notifications/cancelled" => {
                self.cancelled(caller, message)
            }
            message::Kind::Notification => Outward::Nowhere,
            // Nor is there anything to respond to.
            message::Kind::Response => Outward::Nowhere,
        }
    }

    fn request(&mut self, caller: u64, message: &Message) -> Outward {
        let (Some(id), Some(raw_id)) = (message.id(), message.part(Part::Id)) else {
            return Outward::Nowhere;
        };
        let failed = |error| Outward::Caller(FromServer::Failed { id: id.clone(), error });
        let numbers = self.callers.entry(caller).or_default();
        if numbers.len() >= PER_CALLER {
            return failed(Kind::Unavailable.because("a caller has too many requests in flight"));
        }
        let number = self.numbers.draw();
        let raw = number.to_string();
        // A client has no subscription id to send; a server that sends it back would send it to whom it names.
        let parts =
            [Part::Id, Part::ProgressToken, Part::SubscriptionId].map(|part| (part, raw.as_str().into()));
        let renamed = match message.with(&parts) {
            Ok(renamed) => renamed,
            Err(why) => return failed(unreadable(why)),
        };
        numbers.push(number);
        let flight = Flight {
            caller,
            id: id.clone(),
            raw_id: raw_id.into(),
            raw_token: message.part(Part::ProgressToken).map(Into::into),
            listens: message.method() == LISTEN,
        };
        self.flights.insert(number, flight);
        Outward::Server(renamed)
    }

    fn cancelled(&mut self, caller: u64, message: &Message) -> Outward {
        let number = message.request_id().and_then(|id| self.abandon(caller, id));
        // Nothing of what the caller wrote.
        let notice = number.and_then(|number| Message::cancelled(&number).ok());
        notice.map_or(Outward::Nowhere, Outward::Server)
    }

    /// Forgets a caller's request; returns what the server knows it by.
    pub(super) fn abandon(&mut self, caller: u64, id: &Id) -> Option<Id> {
        let numbers = self.callers.get(&caller)?;
        let number = *numbers.iter().find(|number| self.flights.get(number).is_some_and(|f| f.id == *id))?;
        self.end(number);
        Some(Id::number(number))
    }

    /// Forgets a caller; returns what the server knows its requests by.
    pub(super) fn leave(&mut self, caller: u64) -> Vec<Id> {
        let numbers = self.callers.remove(&caller).unwrap_or_default();
        for number in &numbers {
            self.flights.remove(number);
        }
        numbers.into_iter().map(Id::number).collect()
    }

    /// A server's message. `about` is the request that it came for, where the server's transport says so.
    pub(super) fn inward(&mut self, message: &Message, about: Option<&Id>) -> Inward {
        match message.kind() {
            message::Kind::Response => self.response(message),
            message::Kind::Notification => self.notification(message, about),
            // Servers of this version have none. One that waits for an answer is not left waiting.
            message::Kind::Request => message
                .id()
                .and_then(|id| Message::error_for(id, METHOD_NOT_FOUND, "clients take no requests").ok())
                .map_or(Inward::Nowhere, Inward::Server),
        }
    }

    fn response(&mut self, message: &Message) -> Inward {
        let Some(Flight { caller, id, raw_id, .. }) =
            message.id().and_then(numbers::read).and_then(|number| self.end(number))
        else {
            return Inward::Nowhere;
        };
        if message.is_ambiguous() {
            let error = Kind::UpstreamUnreachable.because("the answer can be read in more than one way");
            return Inward::Caller(caller, FromServer::Failed { id, error });
        }
        let parts = [Part::Id, Part::SubscriptionId].map(|part| (part, (&*raw_id).into()));
        let answer = match message.with(&parts) {
            Ok(message) => FromServer::Message { message, about: Some(id) },
            Err(why) => FromServer::Failed { id, error: unreadable(why) },
        };
        Inward::Caller(caller, answer)
    }

    /// A notification goes to the caller whose request it names, and if it names none, to nobody: what it says may be
    /// about one caller's request, and is then not for another's eyes.
    fn notification(&mut self, message: &Message, about: Option<&Id>) -> Inward {
        if message.is_ambiguous() {
            return Inward::Nowhere;
        }
        let (part, named) = match message.method() {
            "notifications/progress" => (Part::ProgressToken, message.progress_token()),
            "notifications/cancelled" => (Part::RequestId, message.request_id()),
            _ => (Part::SubscriptionId, message.subscription_id()),
        };
        let found = named.or(about).and_then(numbers::read);
        let Some((number, flight)) = found.and_then(|number| Some((number, self.flights.get(&number)?)))
        else {
            return Inward::Nowhere;
        };
        let raw = match part {
            Part::ProgressToken => flight.raw_token.as_deref(),
            _ => Some(&*flight.raw_id),
        };
        // Progress that nobody asked for.
        let Some(raw) = raw else { return Inward::Nowhere };
        let mut parts = vec![(part, raw.into())];
        if part != Part::SubscriptionId {
            parts.push((Part::SubscriptionId, (&*flight.raw_id).into()));
        }
        let Ok(renamed) = message.with(&parts) else { return Inward::Nowhere };
        let (caller, about) = (flight.caller, Some(flight.id.clone()));
        if part == Part::RequestId {
            // How a server ends a subscription where there is no stream that it could close.
            self.end(number);
        }
        Inward::Caller(caller, FromServer::Message { message: renamed, about })
    }

    /// The caller of a request that gets no answer, and its own id for it.
    pub(super) fn failed(&mut self, id: &Id) -> Option<(u64, Id)> {
        numbers::read(id).and_then(|number| self.end(number)).map(|flight| (flight.caller, flight.id))
    }

    /// Every request in flight, with its caller: the server is gone.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Lost> + use<> {
        self.callers.clear();
        let flights = std::mem::take(&mut self.flights).into_values();
        flights.map(|Flight { caller, id, listens, .. }| Lost { caller, id, listens })
    }

    fn end(&mut self, number: u64) -> Option<Flight> {
        let flight = self.flights.remove(&number)?;
        if let Some(numbers) = self.callers.get_mut(&flight.caller) {
            numbers.retain(|known| *known != number);
            if numbers.is_empty() {
                self.callers.remove(&flight.caller);
            }
        }
        Some(flight)
    }
}

/// The answer to a request that must not reach a server that many share: what older versions keep for a session, in which
/// all callers would be. MCP 2026-07-28 has none of these.
pub(super) fn refusal(message: &Message) -> Option<Message> {
    let is_of_a_session = matches!(
        message.method(),
        "initialize"
            // What one caller wants to be told, others would be told or not.
            | "logging/setLevel"
            | "resources/subscribe"
            | "resources/unsubscribe"
            // All tasks of the session: those of all callers.
            | "tasks/list"
    );
    let id = message.id().filter(|_| is_of_a_session)?;
    Message::error_for(id, METHOD_NOT_FOUND, "this server is shared and has no sessions").ok()
}

fn unreadable(why: Malformed) -> Error {
    Kind::Internal.because(format!("a message cannot be renamed: {why}"))
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
