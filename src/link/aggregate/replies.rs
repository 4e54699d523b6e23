//! Messages of members, and who gets them.

use std::borrow::Cow;

use tokio::time::Instant;

use crate::link::aggregate::{
    core::{Core, IN_FLIGHT},
    given,
    lists::{ALWAYS_FRESH, BYTES, CompleteList, ListKind, ListState, PageResult},
    member::{LinkPhase, SlowPart},
    outstanding::{MemberRequest, RequestPurpose, SentRequest},
    settings::MemberReport,
};
use crate::{
    error::{Error, ErrorKind},
    ledger::Resource,
    link::FromServer,
    mcp::{
        codes::{INVALID_REQUEST, METHOD_NOT_FOUND},
        message::{self, Id, Message, Part},
        numbers,
    },
};

impl Core {
    pub(super) fn on_member_message(&mut self, now: Instant, member: usize, said: FromServer) {
        match said {
            // Sent before its link was dropped.
            _ if matches!(self.members[member].phase, LinkPhase::Closed(_)) => {}
            FromServer::Ended { cause } => self.lose(now, member, ErrorKind::UpstreamUnreachable, &cause),
            FromServer::Failed { id, error } => self.failed(now, member, &id, error),
            FromServer::Message { message, .. } if message.is_ambiguous() => {
                self.on_ambiguous_message(now, member, &message);
            }
            FromServer::Message { message, about } => match (message.kind(), message.id()) {
                (message::MessageKind::Response, Some(id)) => {
                    if let Some(sent) = self.take(now, member, id) {
                        self.answered(now, member, sent.purpose, message);
                    }
                }
                (message::MessageKind::Response, None) => {}
                (message::MessageKind::Request, id) => {
                    about.iter().for_each(|number| self.outstanding.heard_about(member, number));
                    self.member_asks(member, id.cloned(), &message, about);
                }
                (message::MessageKind::Notification, _) => {
                    if let Some(number) = about.as_ref().or_else(|| message.progress_token()) {
                        self.outstanding.heard_about(member, number);
                    }
                    self.member_notes(member, &message, about);
                }
            },
        }
    }

    /// What could be read as something else is not delivered, and a request that waits for it fails.
    fn on_ambiguous_message(&mut self, now: Instant, member: usize, message: &Message) {
        match (message.kind(), message.id()) {
            (message::MessageKind::Response, Some(id)) => {
                let error =
                    ErrorKind::UpstreamUnreachable.with_cause("the answer can be read in more than one way");
                self.failed(now, member, id, error);
            }
            (message::MessageKind::Request, Some(id)) => {
                let refusal =
                    Message::error_for(id, INVALID_REQUEST, "this can be read in more than one way");
                self.pass(member, refusal);
            }
            _ => {}
        }
    }

    /// A member has no answer to a request.
    fn failed(&mut self, now: Instant, member: usize, id: &Id, error: Error) {
        let Some(sent) = self.take(now, member, id) else { return };
        // It is the member's session that is over, not the client's.
        let kind = if error.kind == ErrorKind::SessionNotFound {
            ErrorKind::UpstreamUnreachable
        } else {
            error.kind
        };
        let error = Error { kind, ..error };
        match sent.purpose {
            RequestPurpose::Initialize => self.lose(now, member, error.kind, &error.to_string()),
            RequestPurpose::Page(ask) => {
                let cause = error.cause.as_deref().unwrap_or_else(|| error.kind.code());
                self.list_failed(member, ask, error.kind, cause);
                self.unanswered(member, sent.purpose, error);
            }
            purpose => {
                self.members[member].failed(&error);
                self.unanswered(member, purpose, error);
            }
        }
    }

    /// The request that a member answers.
    fn take(&mut self, now: Instant, member: usize, id: &Id) -> Option<SentRequest> {
        let sent = self.outstanding.take(member, id)?;
        self.members[member].idle.0 = now;
        Some(sent)
    }

    fn answered(&mut self, now: Instant, member: usize, purpose: RequestPurpose, message: Message) {
        match purpose {
            RequestPurpose::Client { id, .. } => {
                let uris = given::of_result(message.part(Part::Result).unwrap_or_default());
                let owner = &self.settings.owner;
                self.members[member].given.note(uris, || owner.hold(Resource::Bytes, 0));
                let message = message.renamed(Part::Id, &id);
                self.answer(&id, message);
            }
            RequestPurpose::Initialize => self.initialize_answered(now, member, &message),
            RequestPurpose::Page(ask) => self.page(now, member, ask, message),
            RequestPurpose::Share(key) => self.waiting.share(key, Ok(message)),
            RequestPurpose::Listen(key) => self.listens.ended(member, key, Some(message)),
            RequestPurpose::Nobody => {}
        }
    }

    /// A request that gets no answer.
    pub(super) fn unanswered(&mut self, member: usize, purpose: RequestPurpose, error: Error) {
        match purpose {
            RequestPurpose::Client { id, .. } => self.fail(id, error),
            RequestPurpose::Page(ask) => {
                let since = self.next();
                let list = self.members[member].list_mut(ask);
                if let ListState::Asking(asking) = &mut list.state {
                    (list.state, list.since) = (asking.broken(None), since);
                }
            }
            RequestPurpose::Share(key) => self.waiting.share(key, Err(error)),
            RequestPurpose::Listen(key) => self.listens.ended(member, key, None),
            RequestPurpose::Initialize | RequestPurpose::Nobody => {}
        }
    }

    fn page(&mut self, now: Instant, member: usize, ask: ListKind, message: Message) {
        let (since, next) = (self.next(), self.outstanding.number());
        if ask == ListKind::Tools {
            let uris = given::of_tools(message.part(Part::Result).unwrap_or_default());
            let owner = &self.settings.owner;
            self.members[member].shows.note(uris, || owner.hold(Resource::Bytes, 0));
        }
        let share = self.settings.owner.hold(Resource::Bytes, 0);
        let held: usize = self.members.iter().map(|peer| peer.bytes()).sum();
        let peer = &mut self.members[member];
        let list = peer.list_mut(ask);
        let ListState::Asking(asking) = &mut list.state else { return };
        let (late, in_time) = (asking.late, now - asking.asked <= self.settings.discovery_timeout);
        let (state, fault) = match message.error_code() {
            // A server of MCP 2026-07-28 need not have been asked what it has, and tools are asked for in any case.
            Some(METHOD_NOT_FOUND) if ask != ListKind::Discover && !asking.is_begun() => {
                (ListState::Known(CompleteList::default()), None)
            }
            // What the server says of it may hold anything, and this is for the log.
            Some(code) => {
                (asking.broken(Some(message)), Some(Cow::from(format!("it answered with error {code}"))))
            }
            None => match asking.take(ask, message, BYTES.saturating_sub(held), next, share) {
                Ok(PageResult::Page(request)) => {
                    self.send(member, next, RequestPurpose::Page(ask), None, Ok(request));
                    return;
                }
                Ok(PageResult::Broken(why)) => (asking.broken(None), Some(why.into())),
                Ok(end) => {
                    let known = asking.complete();
                    if matches!(end, PageResult::TooMany) {
                        (self.settings.report)(MemberReport::TooMany { server: &peer.name });
                    }
                    (ListState::Known(known), None)
                }
                Err(why) => (asking.broken(None), Some(why.to_string().into())),
            },
        };
        let peer = &mut self.members[member];
        let list = peer.list_mut(ask);
        (list.state, list.since) = (state, if late { ALWAYS_FRESH } else { since });
        if in_time {
            peer.set_slow(SlowPart::List(ask), false);
        }
        match fault {
            Some(why) => self.list_failed(member, ask, ErrorKind::UpstreamUnreachable, &why),
            None => (self.settings.report)(MemberReport::Listed { server: &peer.name, method: ask.method() }),
        }
        if ask == ListKind::Discover {
            self.discovered(member);
        }
        if late {
            self.changed(ask);
        }
    }

    /// Says that a list of a member is missing, or some of it. Not of one that it never announced, nor that it does not
    /// speak MCP 2026-07-28.
    pub(super) fn list_failed(&self, member: usize, ask: ListKind, kind: ErrorKind, cause: &str) {
        let peer = &self.members[member];
        if ask != ListKind::Discover && peer.offers(ask) {
            (self.settings.report)(MemberReport::ListFailed {
                server: &peer.name,
                method: ask.method(),
                kind,
                cause,
            });
        }
    }

    /// A request of a member's, for the client.
    fn member_asks(&mut self, member: usize, id: Option<Id>, message: &Message, about: Option<Id>) {
        let Some(id) = id else { return };
        if self.outstanding.asked_by(member) >= IN_FLIGHT {
            let code = i64::from(ErrorKind::Unavailable.status().as_u16());
            self.pass(member, Message::error_for(&id, code, "Too many requests are unanswered."));
            return;
        }
        let number = self.outstanding.number();
        let own = Id::number(number).to_string();
        let passed =
            message.with(&[(Part::Id, own.as_str().into()), (Part::ProgressToken, own.as_str().into())]);
        let token = message.progress_token().cloned();
        self.outstanding.asked(number, MemberRequest { member, id, token });
        let about = self.about(member, about);
        self.notify_client(passed, about);
    }

    fn member_notes(&mut self, member: usize, message: &Message, about: Option<Id>) {
        for ask in ListKind::ALL {
            if change(ask) == Some(message.method()) {
                self.stale(member, ask);
            }
        }
        if let Some(subscription) = message.subscription_id() {
            if let Some(subscription) = numbers::read(subscription) {
                let note = self.listens.notes(member, subscription, message);
                self.tell(note);
            }
            return;
        }
        match message.method() {
            "notifications/progress" => {
                let number = message.progress_token();
                let sent = number.and_then(|number| self.outstanding.of_member(member, number));
                let Some(RequestPurpose::Client { id, token: Some(token) }) = sent.map(|sent| &sent.purpose)
                else {
                    return;
                };
                let (id, note) = (id.clone(), message.renamed(Part::ProgressToken, token));
                self.notify_client(note, Some(id));
            }
            "notifications/cancelled" => {
                let id = message.request_id();
                let Some(number) = id.and_then(|id| self.outstanding.take_back(member, id)) else { return };
                let about = self.about(member, about);
                self.notify_client(message.renamed(Part::RequestId, &Id::number(number)), about);
            }
            _ => {
                let about = self.about(member, about);
                self.notify_client(Ok(message.clone()), about);
            }
        }
    }

    /// The client's name for the request that something belongs to.
    fn about(&self, member: usize, about: Option<Id>) -> Option<Id> {
        match &self.outstanding.of_member(member, &about?)?.purpose {
            RequestPurpose::Client { id, .. } => Some(id.clone()),
            RequestPurpose::Share(key) => self.waiting.id(*key).cloned(),
            RequestPurpose::Listen(key) => self.listens.id(*key).cloned(),
            RequestPurpose::Initialize | RequestPurpose::Page(_) | RequestPurpose::Nobody => None,
        }
    }

    /// A list is not what it was. If it is on its way, it may be from before or after that: it is asked for again.
    pub(super) fn stale(&mut self, member: usize, ask: ListKind) {
        let number = self.outstanding.number();
        let list = self.members[member].list_mut(ask);
        if let ListState::Asking(asking) = &mut list.state {
            let (old, request) = (asking.number, asking.again(ask, number));
            self.outstanding.forget(old);
            self.send(member, number, RequestPurpose::Page(ask), None, request);
        } else {
            list.state = ListState::Unknown;
        }
    }
}

/// The notification that says that a list has changed. Templates have none of their own.
pub(super) fn change(ask: ListKind) -> Option<&'static str> {
    match ask {
        ListKind::Tools => Some("notifications/tools/list_changed"),
        ListKind::Prompts => Some("notifications/prompts/list_changed"),
        ListKind::Resources | ListKind::Templates => Some("notifications/resources/list_changed"),
        ListKind::Discover => None,
    }
}
