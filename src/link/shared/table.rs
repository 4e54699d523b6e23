//! Whose request is which: ids of many callers, and the one row of numbers that the server sees.
//!
//! Callers know nothing of each other and choose the same ids. So each request gets a number of the shared link's own, and
//! that number stands for everything that a server says about it: `id` of the response, `progressToken` of its
//! progress, `subscriptionId` of what it subscribed to. Numbers are never used twice, so an answer that comes late finds
//! nobody instead of somebody else.
//!
//! Sans-io: no channel, no clock.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    error::{Error, Kind},
    link::FromServer,
    mcp::{
        code::METHOD_NOT_FOUND,
        message::{self, Id, Malformed, Message, Part},
        splice::splice,
    },
};

/// Requests that one caller may have in flight. What it has beyond that is refused.
const PER_CALLER: usize = 1024;

/// Who has requests in flight, and which.
#[derive(Default)]
pub(super) struct Table {
    /// The number given out last.
    last: u64,
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
    subscribes: bool,
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
            message::Kind::Notification => match message.method() {
                "notifications/cancelled" => self.cancelled(caller, message),
                // About a request of the server's, and there are none.
                "notifications/progress" => Outward::Nowhere,
                _ => Outward::Server(message.clone()),
            },
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
        let number = self.last + 1;
        let raw = number.to_string();
        let parts = [(Part::Id, raw.as_str().into()), (Part::ProgressToken, raw.as_str().into())];
        let renamed = match message.with(&parts) {
            Ok(renamed) => renamed,
            Err(why) => return failed(unreadable(why)),
        };
        self.last = number;
        numbers.push(number);
        let flight = Flight {
            caller,
            id: id.clone(),
            raw_id: raw_id.into(),
            raw_token: message.part(Part::ProgressToken).map(Into::into),
            subscribes: message.method() == "subscriptions/listen",
        };
        self.flights.insert(number, flight);
        Outward::Server(renamed)
    }

    fn cancelled(&mut self, caller: u64, message: &Message) -> Outward {
        let Some(number) = message.request_id().and_then(|id| self.abandon(caller, id)) else {
            return Outward::Nowhere;
        };
        message
            .with(&[(Part::RequestId, number.to_string().into())])
            .map_or(Outward::Nowhere, Outward::Server)
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
        let Some(Flight { caller, id, raw_id, subscribes, .. }) =
            message.id().and_then(number).and_then(|number| self.end(number))
        else {
            return Inward::Nowhere;
        };
        let mut parts = vec![(Part::Id, (&*raw_id).into())];
        if subscribes && let Some(result) = message.part(Part::Result).and_then(|r| resubscribed(r, &raw_id))
        {
            parts.push((Part::Result, result.into()));
        }
        let answer = match message.with(&parts) {
            Ok(message) => FromServer::Message { message, about: Some(id) },
            Err(why) => FromServer::Failed { id, error: unreadable(why) },
        };
        Inward::Caller(caller, answer)
    }

    /// A notification goes to the caller whose request it names, and if it names none, to nobody: what it says may be
    /// about one caller's request, and is then not for another's eyes.
    fn notification(&mut self, message: &Message, about: Option<&Id>) -> Inward {
        let (part, named) = match message.method() {
            "notifications/progress" => (Part::ProgressToken, message.progress_token()),
            "notifications/cancelled" => (Part::RequestId, message.request_id()),
            _ => (Part::SubscriptionId, message.subscription_id()),
        };
        let found = named.or(about).and_then(number);
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
        let Ok(renamed) = message.with(&[(part, raw.into())]) else { return Inward::Nowhere };
        let (caller, about) = (flight.caller, Some(flight.id.clone()));
        if part == Part::RequestId {
            // How a server ends a subscription where there is no stream that it could close.
            self.end(number);
        }
        Inward::Caller(caller, FromServer::Message { message: renamed, about })
    }

    /// The caller of a request that gets no answer, and its own id for it.
    pub(super) fn failed(&mut self, id: &Id) -> Option<(u64, Id)> {
        number(id).and_then(|number| self.end(number)).map(|flight| (flight.caller, flight.id))
    }

    /// Every request in flight, with its caller: the server is gone.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (u64, Id)> + use<> {
        self.callers.clear();
        std::mem::take(&mut self.flights).into_values().map(|flight| (flight.caller, flight.id))
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

/// The answer to a request that must not reach a server that many share. `initialize` would begin a session of one
/// caller's, in which all others would be.
pub(super) fn refusal(message: &Message) -> Option<Message> {
    let id = message.id().filter(|_| message.method() == "initialize")?;
    Message::error_for(id, METHOD_NOT_FOUND, "this server is shared and has no sessions").ok()
}

/// The number behind an id. A server that writes it as a string means the same.
fn number(id: &Id) -> Option<u64> {
    let (Id::Number(text) | Id::String(text)) = id;
    text.parse().ok()
}

fn unreadable(why: Malformed) -> Error {
    Kind::Internal.because(format!("a message cannot be renamed: {why}"))
}

/// The result of `subscriptions/listen` with another id of the subscription in its `_meta`; `None` if it has none.
fn resubscribed(result: &str, raw_id: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Result<'a> {
        #[serde(borrow, rename = "_meta")]
        meta: Meta<'a>,
    }
    #[derive(Deserialize)]
    struct Meta<'a> {
        #[serde(borrow, rename = "io.modelcontextprotocol/subscriptionId")]
        subscription_id: &'a RawValue,
    }
    let old = serde_json::from_str::<Result<'_>>(result).ok()?.meta.subscription_id.get();
    splice(result, &[(old, raw_id)])
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
