//! Requests of the client: which member each is for.

use std::sync::Arc;

use tokio::time::Instant;

use crate::link::aggregate::{
    core::{ClientState, Core, CoreAction},
    json, lazy, listen,
    lists::ListKind,
    member::LinkPhase,
    naming,
    outstanding::{RequestPurpose, SentRequest},
    waiting::WaitFor,
};
use crate::{
    config::Naming,
    error::{Error, ErrorKind},
    ledger::Resource,
    link::{Outbound, ToServer},
    mcp::{
        codes::{HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND},
        message::{Id, Message, Part, Reference},
        method::LISTEN,
        modern::too_many_wanted,
    },
};

impl Core {
    pub(super) fn request(&mut self, now: Instant, id: Id, outbound: Outbound) {
        let message = &outbound.message;
        match message.method() {
            "initialize" => match self.era {
                ClientState::Stateless => self.initialize(now, id, message),
                ClientState::Session { .. } => self.refuse(&id, INVALID_REQUEST, "Already initialized."),
            },
            "ping" => self.answer(&id, Message::result_for(&id, "{}")),
            "server/discover" if matches!(self.era, ClientState::Stateless) => {
                let since = self.next();
                self.wait(now, id, message, since, WaitFor::Discover);
            }
            "tools/list" if self.settings.lazy && !message.has_cursor() => {
                let list = lazy::list(message.version().is_some());
                self.answer(&id, Message::result_for(&id, &list));
            }
            "tools/list" => self.list(now, id, message, ListKind::Tools),
            "prompts/list" => self.list(now, id, message, ListKind::Prompts),
            "resources/list" => self.list(now, id, message, ListKind::Resources),
            "resources/templates/list" => self.list(now, id, message, ListKind::Templates),
            "tools/call" if self.settings.lazy => self.call_lazily(now, id, outbound),
            "tools/call" => self.call_by_name(now, ListKind::Tools, id, outbound),
            "prompts/get" => self.call_by_name(now, ListKind::Prompts, id, outbound),
            "completion/complete" => match message.reference() {
                Some(Reference::Prompt) => self.call_by_name(now, ListKind::Prompts, id, outbound),
                Some(Reference::Resource) => self.call_by_uri(now, id, outbound),
                None => self.refuse(&id, INVALID_PARAMS, "params.ref names neither a prompt nor a resource."),
            },
            "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
                self.call_by_uri(now, id, outbound);
            }
            "logging/setLevel" => self.set_level(now, id, message),
            LISTEN => self.start_listening(now, id, message),
            // What cannot be led to one member or to all is not there. Capabilities do not promise it.
            _ => self.refuse(&id, METHOD_NOT_FOUND, "Method not found"),
        }
    }

    pub(super) fn refuse(&mut self, id: &Id, code: i64, reason: &str) {
        self.answer(id, Message::error_for(id, code, reason));
    }

    fn list(&mut self, now: Instant, id: Id, message: &Message, ask: ListKind) {
        if message.has_cursor() {
            // Lists are answered whole: their size is bounded, and a cursor would have to outlive changes of members.
            return self.refuse(&id, INVALID_PARAMS, "Unknown cursor");
        }
        let since = self.next();
        self.wait(now, id, message, since, WaitFor::List(ask));
    }

    /// Calls by the name of a tool or prompt.
    pub(super) fn call_by_name(&mut self, now: Instant, ask: ListKind, id: Id, outbound: Outbound) {
        let is_known = outbound.message.name().is_some_and(|name| self.leads_to(ask, name).is_some());
        if is_known || matches!(self.settings.naming, Naming::Prefixed { .. }) {
            self.call_known(now, ask, id, outbound);
        } else {
            let (since, message) = (self.next(), outbound.message.clone());
            self.wait(now, id, &message, since, WaitFor::Named(ask, outbound));
        }
    }

    /// Calls by a name that is known, or unknown for good.
    pub(super) fn call_known(&mut self, now: Instant, ask: ListKind, id: Id, outbound: Outbound) {
        let name = outbound.message.name().unwrap_or_default();
        let Some((member, own)) = self.leads_to(ask, name) else {
            let what = if ask == ListKind::Tools { "tool" } else { "prompt" };
            return self.refuse(&id, INVALID_PARAMS, &format!("Unknown {what}: {name}"));
        };
        if let Some(called) = outbound.called.as_ref().filter(|_| ask == ListKind::Tools) {
            // It was empty: each call has its own.
            let _ = called.set((Arc::clone(&self.members[member].name), own.clone()));
        }
        match outbound.message.with(&[(Part::Name, json::quoted(&own).into())]) {
            Ok(message) => self.call(now, member, id, Outbound { message, ..outbound }),
            Err(why) => self.fail(id, ErrorKind::Internal.with_cause(why.to_string())),
        }
    }

    /// The member that a name leads to, and what it calls the thing. A member that the caller may not use is none.
    fn leads_to(&self, ask: ListKind, name: &str) -> Option<(usize, Box<str>)> {
        match &self.settings.naming {
            Naming::Prefixed { separator } => {
                let granted: Vec<_> = self.granted().collect();
                let servers = granted.iter().map(|member| &*self.members[*member].name);
                let (at, own) = naming::split(servers, separator, name)?;
                Some((granted[at], own.into()))
            }
            Naming::Flat { .. } => {
                let (member, own) = self.offered.leads_to(ask, name)?;
                self.members[member].is_granted().then(|| (member, own.into()))
            }
        }
    }

    fn call_by_uri(&mut self, now: Instant, id: Id, outbound: Outbound) {
        // The member that lists it, even if another one gave it out.
        let is_known = |uri: &str| self.lister_of(uri).is_some();
        if outbound.message.name().is_some_and(is_known) {
            self.call_owner(now, id, outbound);
        } else {
            let message = outbound.message.clone();
            self.wait(now, id, &message, 0, WaitFor::Uri(outbound));
        }
    }

    /// Calls the member that a URI belongs to, by all that is known.
    pub(super) fn call_owner(&mut self, now: Instant, id: Id, outbound: Outbound) {
        match self.owner_of(outbound.message.name().unwrap_or_default()) {
            Ok(member) => self.call(now, member, id, outbound),
            Err(why) => self.refuse(&id, INVALID_PARAMS, why),
        }
    }

    /// Sends a member a request of the client's, once there is a link to it.
    pub(super) fn call(&mut self, now: Instant, member: usize, id: Id, outbound: Outbound) {
        self.wake(now, Some(member));
        match self.members[member].phase {
            LinkPhase::Closed(_) => {
                self.fail(id, self.members[member].no_link("no link, and too early for one"));
            }
            LinkPhase::Opening { .. } => {
                let message = outbound.message.clone();
                self.wait(now, id, &message, 0, WaitFor::Call(member, outbound));
            }
            LinkPhase::Ready => {
                let number = self.outstanding.number();
                match outbound.message.numbered(number) {
                    Ok(message) => {
                        let token = outbound.message.progress_token().cloned();
                        let until = self.members[member].patience().answer.and_then(|it| now.checked_add(it));
                        let purpose = RequestPurpose::Client { id, token };
                        self.outstanding.sent(number, SentRequest { member, purpose, until });
                        let outbound = Outbound { message, ..outbound };
                        self.act(CoreAction::ToMember(member, ToServer::Message(outbound)));
                    }
                    Err(why) => self.fail(id, ErrorKind::Internal.with_cause(why.to_string())),
                }
            }
        }
    }

    /// Every member that logs gets it, also those that come later.
    fn set_level(&mut self, now: Instant, id: Id, message: &Message) {
        let logging: Vec<_> = (0..self.members.len())
            .filter(|member| self.is_ready(*member) && self.members[*member].has("logging", false))
            .collect();
        let ClientState::Session { level, .. } = &mut self.era else {
            return self.refuse(&id, METHOD_NOT_FOUND, "Method not found");
        };
        *level = message.part(Part::Params).map(Box::from);
        if logging.is_empty() {
            return self.refuse(&id, METHOD_NOT_FOUND, "Method not found");
        }
        let then = WaitFor::Shares { left: logging.len(), answer: None };
        // Unless too much waits already.
        let Some(key) = self.wait(now, id, message, 0, then) else { return };
        for member in logging {
            let number = self.outstanding.number();
            self.send(member, number, RequestPurpose::Share(key), None, message.numbered(number));
        }
    }

    fn start_listening(&mut self, now: Instant, id: Id, message: &Message) {
        if let Some(why) = too_many_wanted(message) {
            return self.refuse(&id, INVALID_PARAMS, why);
        }
        // Which member a URI belongs to is known by their lists.
        if listen::names_uris(message) {
            self.wait(now, id, message, 0, WaitFor::Listen(message.clone()));
        } else {
            self.listen(now, id, message);
        }
    }

    pub(super) fn listen(&mut self, now: Instant, id: Id, message: &Message) {
        let held = match self.settings.owner.take_some(Resource::Bytes, listen::bytes(message)) {
            Ok(held) => held,
            Err(limit) => return self.fail(id, Error::out_of(Resource::Bytes, limit)),
        };
        self.wake(now, None);
        let (key, until) = (self.next(), now + self.settings.discovery_timeout);
        self.listens.begin(key, id, message, held, until);
        for member in self.granted().collect::<Vec<_>>() {
            if self.is_ready(member) {
                self.open_at(key, member);
            }
        }
    }

    /// A member that joins gets the subscriptions of those that were there before.
    pub(super) fn listen_to(&mut self, member: usize) {
        self.listens.keys().into_iter().for_each(|key| self.open_at(key, member));
    }

    fn open_at(&mut self, key: u64, member: usize) {
        let number = self.outstanding.number();
        let mut listens = std::mem::take(&mut self.listens);
        let request = listens.open_at(key, member, number, |uri| self.owner_of(uri) == Ok(member));
        self.listens = listens;
        if let Some(request) = request {
            self.send(member, number, RequestPurpose::Listen(key), None, request);
        }
    }

    fn call_lazily(&mut self, now: Instant, id: Id, outbound: Outbound) {
        match lazy::read(&outbound.message) {
            lazy::LazyCall::Query(query) => {
                let since = self.next();
                self.wait(now, id, &outbound.message, since, WaitFor::Query(query));
            }
            // The fields would have to repeat what the meta-tool is called with, and that has none to repeat.
            lazy::LazyCall::Invoke(_) if !outbound.params.is_empty() => {
                let reason = format!("Mcp-Param-* fields cannot be checked for {}", lazy::INVOKE);
                self.refuse(&id, HEADER_MISMATCH, &reason);
            }
            lazy::LazyCall::Invoke(message) => {
                self.call_by_name(now, ListKind::Tools, id, Outbound { message, ..outbound });
            }
            lazy::LazyCall::Direct => self.call_by_name(now, ListKind::Tools, id, outbound),
            lazy::LazyCall::Wrong(why) => {
                let result = lazy::text(why, None, true, outbound.message.version().is_some());
                self.answer(&id, Message::result_for(&id, &result));
            }
        }
    }

    pub(super) fn answer_query(&mut self, id: &Id, query: &lazy::Query, modern: bool) {
        let offers = self.catalogue(ListKind::Tools);
        let tools = offers.iter().filter_map(|offer| {
            let peer = &self.members[offer.server];
            let text = peer.list(ListKind::Tools).items()[offer.item].text.as_deref()?;
            Some(lazy::LazyTool { server: &peer.name, name: &offer.name, text })
        });
        let result = query.answer(tools, modern);
        self.answer(id, Message::result_for(id, &result));
    }
}
