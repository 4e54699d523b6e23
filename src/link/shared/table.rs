//! Whose request is which: ids of many callers, and the one row of numbers that the server sees.
//!
//! Callers know nothing of each other and choose the same ids. So each request gets a number of the shared link's own, and
//! that number stands for everything that a server says about it: `id` of the response, `progressToken` of its
//! progress, `subscriptionId` of what it subscribed to. Numbers are never used twice, so a late answer matches no request of
//! another caller. They cannot be guessed, so no caller can name the request of another to the server.
//!
//! Sans-io: no channel, and of the clock only what tells lately from long ago.

use std::{collections::HashMap, sync::Arc};

use super::{
    suspects::{Involvement, Suspects},
    tasks::Tasks,
};
use crate::{
    error::{Error, ErrorKind},
    ledger::{Limit, Owner, OwnerName, Resource, Share},
    link::FromServer,
    mcp::{
        codes::METHOD_NOT_FOUND,
        message::{self, Id, Malformed, Message, Part},
        method::LISTEN,
        numbers::{self, Numbers},
    },
};

/// Requests that all callers together may have in flight at one server. What each of their owners may have of them is what
/// it may have of anything: a part is kept for others.
pub(super) const REQUESTS: usize = 4096;
/// Subscriptions among them: servers have limits of their own, the TypeScript SDK this one.
const SUBSCRIPTIONS: usize = 1024;

/// Requests that one owner may have in flight at one server where others have been active lately; its further ones wait. A
/// process may well do one after the other, and what it was sent is before whatever another sends.
const BESIDE_OTHERS: usize = 64;

/// Requests in flight, and their callers.
pub(super) struct Table {
    /// Requests that there may be in all.
    capacity: usize,
    numbers: Numbers,
    flights: HashMap<u64, Flight>,
    /// The numbers of a caller's requests. Most have one.
    callers: HashMap<u64, Vec<u64>>,
    /// What is in flight in all, and by owner: those that have something, by their address.
    load: Load,
    loads: HashMap<*const Owner, Load>,
    tasks: Tasks,
    /// Owners of requests that ended lately.
    lately: Suspects,
}

/// How much is in flight.
#[derive(Debug, Default, Clone, Copy)]
struct Load {
    requests: usize,
    subscriptions: usize,
}

/// A request that waits for its answer.
struct Flight {
    caller: u64,
    owner: Arc<Owner>,
    id: Id,
    /// As the caller wrote them.
    raw_id: Box<str>,
    raw_token: Option<Box<str>>,
    /// Counts these, if they are large.
    _names: Option<Share>,
    /// It asks for notifications, which may take as long as the server lives.
    listens: bool,
    /// The server has sent something about it.
    is_heard: bool,
    /// It is about a task, and so it makes none.
    is_of_task: bool,
}

/// Where a caller's message goes.
#[derive(Debug)]
pub(super) enum Outward {
    /// To the server.
    Server(Message),
    /// To the server: the request that has this id there is not awaited any more.
    Abandon(Id),
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
    /// One for `capacity` requests at a time.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            numbers: Numbers::default(),
            flights: HashMap::new(),
            callers: HashMap::new(),
            load: Load::default(),
            loads: HashMap::new(),
            tasks: Tasks::default(),
            lately: Suspects::default(),
        }
    }

    /// Whether no request is in flight.
    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    /// A caller's message, at the moment when it is sent.
    pub(super) fn outward(&mut self, caller: u64, owner: &Arc<Owner>, message: &Message) -> Outward {
        match message.kind() {
            message::MessageKind::Request => self.request(caller, owner, message),
            // A cancellation is the only one that a client of MCP 2026-07-28 has; nothing of what the caller wrote goes on.
            // Those of older versions (`notifications/initialized`, `notifications/progress`,
            // `notifications/roots/list_changed`, `notifications/tasks/status`) are about a session, which there is none;
            // what is not known may be about any caller.
            message::MessageKind::Notification => {
                let abandoned = message.cancels().and_then(|id| self.abandon(caller, id));
                abandoned.map_or(Outward::Nowhere, Outward::Abandon)
            }
            // Nor is there anything to respond to.
            message::MessageKind::Response => Outward::Nowhere,
        }
    }

    fn request(&mut self, caller: u64, owner: &Arc<Owner>, message: &Message) -> Outward {
        let (Some(id), Some(raw_id)) = (message.id(), message.part(Part::Id)) else {
            return Outward::Nowhere;
        };
        let failed = |error| Outward::Caller(FromServer::Failed { id: id.clone(), error });
        let listens = message.method() == LISTEN;
        if let Err(error) = self.has_room(owner, listens) {
            return failed(error);
        }
        let names = match message.names_held_for(owner) {
            Ok(names) => names,
            Err(limit) => return failed(Error::out_of(Resource::Bytes, limit)),
        };
        let number = self.numbers.draw();
        let renamed = match message.numbered(number) {
            Ok(renamed) => renamed,
            Err(why) => return failed(unreadable(why)),
        };
        self.callers.entry(caller).or_default().push(number);
        self.load.begin(listens);
        self.loads.entry(Arc::as_ptr(owner)).or_default().begin(listens);
        let flight = Flight {
            caller,
            owner: Arc::clone(owner),
            id: id.clone(),
            raw_id: raw_id.into(),
            raw_token: message.part(Part::ProgressToken).map(Into::into),
            _names: names,
            listens,
            is_heard: false,
            is_of_task: message.method().starts_with("tasks/"),
        };
        self.flights.insert(number, flight);
        Outward::Server(renamed)
    }

    /// Whether one more request of this owner has to wait until one is through, so that others need not wait for all of them.
    pub(super) fn crowds_out(&self, owner: &Arc<Owner>) -> bool {
        let Some(mine) = self.loads.get(&Arc::as_ptr(owner)) else { return false };
        mine.requests - mine.subscriptions >= BESIDE_OTHERS && owner.has_others()
    }

    /// Whether one more request of this owner fits beside those of the others.
    fn has_room(&self, owner: &Arc<Owner>, listens: bool) -> Result<(), Error> {
        let mine = self.loads.get(&Arc::as_ptr(owner)).copied().unwrap_or_default();
        owner
            .may_have(self.capacity, self.load.requests, mine.requests)
            .map_err(|limit| out_of("requests of a shared server", limit))?;
        if listens {
            owner
                .may_have(SUBSCRIPTIONS, self.load.subscriptions, mine.subscriptions)
                .map_err(|limit| out_of("subscriptions of a shared server", limit))?;
        }
        Ok(())
    }

    /// The answer to a request of `owner` that must not reach a server that many share.
    pub(super) fn refusal(&self, owner: &Owner, message: &Message) -> Option<Message> {
        let may_make_one = |flight: &Flight| !flight.listens && !flight.is_of_task;
        refusal(message)
            .or_else(|| self.tasks.refusal(owner, message, || self.flights.values().any(may_make_one)))
    }

    /// The server is closed, and with it goes what it kept.
    pub(super) fn closed(&mut self) {
        self.tasks.clear();
        self.lately.clear();
    }

    /// Forgets a caller's request; returns its id at the server.
    pub(super) fn abandon(&mut self, caller: u64, id: &Id) -> Option<Id> {
        let numbers = self.callers.get(&caller)?;
        let number = *numbers.iter().find(|number| self.flights.get(number).is_some_and(|f| f.id == *id))?;
        if let Some(flight) = self.end(number) {
            self.abandoned(&flight);
        }
        Some(Id::number(number))
    }

    /// Forgets a caller; returns the ids of its requests at the server.
    pub(super) fn leave(&mut self, caller: u64) -> Vec<Id> {
        let numbers = self.callers.remove(&caller).unwrap_or_default();
        for number in &numbers {
            if let Some(flight) = self.land(*number) {
                self.abandoned(&flight);
            }
        }
        numbers.into_iter().map(Id::number).collect()
    }

    /// A server's message. `about` is the request that it came for, where the server's transport says so.
    pub(super) fn inward(&mut self, message: &Message, about: Option<&Id>) -> Inward {
        match message.kind() {
            message::MessageKind::Response => self.response(message),
            message::MessageKind::Notification => self.notification(message, about),
            // Servers of this version have none. One that waits for an answer is not left waiting.
            message::MessageKind::Request => message
                .id()
                .and_then(|id| match message.method() {
                    // One of an older version may want to know whether anybody is there.
                    "ping" => Message::result_for(id, "{}").ok(),
                    _ => Message::error_for(id, METHOD_NOT_FOUND, "clients take no requests").ok(),
                })
                .map_or(Inward::Nowhere, Inward::Server),
        }
    }

    fn response(&mut self, message: &Message) -> Inward {
        let Some(Flight { caller, owner, id, raw_id, is_of_task, .. }) =
            message.id().and_then(numbers::read).and_then(|number| self.end(number))
        else {
            return Inward::Nowhere;
        };
        self.lately.note(&owner, Involvement::Recent);
        if message.is_ambiguous() {
            let error =
                ErrorKind::UpstreamUnreachable.with_cause("the answer can be read in more than one way");
            return Inward::Caller(caller, FromServer::Failed { id, error });
        }
        if let Some(task) = message.task_id().filter(|_| !is_of_task) {
            self.tasks.bind(task, &owner);
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
        let Some((number, flight)) = found.and_then(|number| Some((number, self.flights.get_mut(&number)?)))
        else {
            return Inward::Nowhere;
        };
        if flight.listens && !std::mem::replace(&mut flight.is_heard, true) {
            self.lately.note(&flight.owner, Involvement::Recent);
        }
        let raw = match part {
            Part::ProgressToken => flight.raw_token.as_deref(),
            _ => Some(&*flight.raw_id),
        };
        // Progress that was not asked for.
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

    /// Who may have ended the server, which is gone: whoever had a request in flight that is no subscription that the
    /// server has taken, and whoever asked for something lately.
    pub(super) fn suspects(&mut self) -> Vec<(OwnerName, Involvement)> {
        for flight in self.flights.values().filter(|flight| !(flight.listens && flight.is_heard)) {
            self.lately.note(&flight.owner, Involvement::InFlight);
        }
        self.lately.take()
    }

    /// The caller of each request in flight, and its own id for it: the server is gone.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (u64, Id)> + use<> {
        self.callers.clear();
        self.loads.clear();
        self.load = Load::default();
        let flights = std::mem::take(&mut self.flights).into_values();
        flights.map(|flight| (flight.caller, flight.id))
    }

    /// The server may be at it still, however fast the cancellation was.
    fn abandoned(&mut self, flight: &Flight) {
        let is_taken = flight.listens && flight.is_heard;
        self.lately.note(&flight.owner, if is_taken { Involvement::Recent } else { Involvement::InFlight });
    }

    /// Takes a request out of what is in flight, and leaves it with its caller.
    fn land(&mut self, number: u64) -> Option<Flight> {
        let flight = self.flights.remove(&number)?;
        self.load.end(flight.listens);
        let owner = Arc::as_ptr(&flight.owner);
        if let Some(load) = self.loads.get_mut(&owner) {
            load.end(flight.listens);
            if load.requests == 0 {
                self.loads.remove(&owner);
            }
        }
        Some(flight)
    }

    fn end(&mut self, number: u64) -> Option<Flight> {
        let flight = self.land(number)?;
        if let Some(numbers) = self.callers.get_mut(&flight.caller) {
            numbers.retain(|known| *known != number);
            if numbers.is_empty() {
                self.callers.remove(&flight.caller);
            }
        }
        Some(flight)
    }
}

impl Load {
    fn begin(&mut self, listens: bool) {
        self.requests += 1;
        self.subscriptions += usize::from(listens);
    }

    fn end(&mut self, listens: bool) {
        self.requests -= 1;
        self.subscriptions -= usize::from(listens);
    }
}

pub(super) fn out_of(what: &str, limit: Limit) -> Error {
    match limit {
        Limit::Caller => ErrorKind::CallerLimit.with_cause(format!("{what}: the caller's limit")),
        Limit::Gateway => ErrorKind::Unavailable.with_cause(format!("{what}: there are no more")),
    }
}

/// The answer to a request that must not reach a server that many share: what older versions keep for a session, in which
/// all callers would be. MCP 2026-07-28 has none of these.
pub(super) fn refusal(message: &Message) -> Option<Message> {
    let is_of_a_session = matches!(
        message.method(),
        "initialize"
            // What one caller subscribes to, others would get or lose.
            | "logging/setLevel"
            | "resources/subscribe"
            | "resources/unsubscribe"
    );
    let id = message.id().filter(|_| is_of_a_session)?;
    Message::error_for(id, METHOD_NOT_FOUND, "this server is shared and has no sessions").ok()
}

fn unreadable(why: Malformed) -> Error {
    ErrorKind::Internal.with_cause(format!("a message cannot be renamed: {why}"))
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
