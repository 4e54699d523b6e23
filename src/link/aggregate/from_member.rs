//! What members say, and whom it is for.

use tokio::time::Instant;

use super::{
    Report,
    core::{Asked, Core, IN_FLIGHT, Purpose, Sent},
    lists::{Ask, BYTES, Known, Next, State, UNHEARD},
    peer::Phase,
};
use crate::{
    error::{Error, Kind},
    ledger::Resource,
    link::FromServer,
    mcp::{
        code::{INVALID_REQUEST, METHOD_NOT_FOUND},
        message::{self, Id, Message, Part},
        numbers,
    },
};

impl Core {
    pub(super) fn member_says(&mut self, now: Instant, member: usize, said: FromServer) {
        match said {
            // Sent before its link was dropped.
            _ if matches!(self.members[member].phase, Phase::Closed(_)) => {}
            FromServer::Ended { cause } => self.lose(now, member, Kind::UpstreamUnreachable, &cause),
            FromServer::Failed { id, error } => self.failed(now, member, &id, error),
            FromServer::Message { message, .. } if message.is_ambiguous() => {
                self.member_says_ambiguously(now, member, &message);
            }
            FromServer::Message { message, about } => match (message.kind(), message.id()) {
                (message::Kind::Response, Some(id)) => {
                    if let Some(sent) = self.take(member, id) {
                        self.answered(now, member, sent.purpose, message);
                    }
                }
                (message::Kind::Response, None) => {}
                (message::Kind::Request, id) => self.member_asks(member, id.cloned(), &message, about),
                (message::Kind::Notification, _) => self.member_notes(member, &message, about),
            },
        }
    }

    /// What could be read as something else is for nobody, and who waits for it is told so.
    fn member_says_ambiguously(&mut self, now: Instant, member: usize, message: &Message) {
        match (message.kind(), message.id()) {
            (message::Kind::Response, Some(id)) => {
                let error = Kind::UpstreamUnreachable.because("the answer can be read in more than one way");
                self.failed(now, member, id, error);
            }
            (message::Kind::Request, Some(id)) => {
                let refusal =
                    Message::error_for(id, INVALID_REQUEST, "this can be read in more than one way");
                self.pass(member, refusal);
            }
            _ => {}
        }
    }

    /// A member has no answer to a request.
    fn failed(&mut self, now: Instant, member: usize, id: &Id, error: Error) {
        let Some(sent) = self.take(member, id) else { return };
        if matches!(sent.purpose, Purpose::Greeting) {
            self.lose(now, member, error.kind, &error.to_string());
        } else {
            self.unanswered(member, sent.purpose, error);
        }
    }

    /// The request that a member answers. No member can answer what another was asked.
    fn take(&mut self, member: usize, id: &Id) -> Option<Sent> {
        let number = numbers::read(id)?;
        self.sent.get(&number).filter(|sent| sent.member == member)?;
        self.sent.remove(&number)
    }

    fn answered(&mut self, now: Instant, member: usize, purpose: Purpose, message: Message) {
        match purpose {
            Purpose::Client { id, .. } => {
                let message = message.with(&[(Part::Id, id.to_string().into())]);
                self.answer(&id, message);
            }
            Purpose::Greeting => self.greeted(now, member, &message),
            Purpose::Page(ask) => self.page(member, ask, message),
            Purpose::Share(key) => self.share(key, Ok(message)),
            Purpose::Listen(key) => self.listen_ended(member, key, Some(message)),
            Purpose::Nobody => {}
        }
    }

    /// A request that gets no answer.
    pub(super) fn unanswered(&mut self, member: usize, purpose: Purpose, error: Error) {
        match purpose {
            Purpose::Client { id, .. } => self.fail(id, error),
            Purpose::Page(ask) => {
                let since = self.next();
                let list = self.members[member].list_mut(ask);
                if matches!(list.state, State::Asking(_)) {
                    (list.state, list.since) = (State::Refused(None), since);
                }
            }
            Purpose::Share(key) => self.share(key, Err(error)),
            Purpose::Listen(key) => self.listen_ended(member, key, None),
            Purpose::Greeting | Purpose::Nobody => {}
        }
    }

    fn page(&mut self, member: usize, ask: Ask, message: Message) {
        let (since, next) = (self.next(), self.number());
        let share = self.settings.owner.hold(Resource::Bytes, 0);
        let held: usize = self.members.iter().map(|peer| peer.bytes()).sum();
        let peer = &mut self.members[member];
        let list = peer.list_mut(ask);
        let State::Asking(asking) = &mut list.state else { return };
        let late = asking.late;
        let state = match message.error_code() {
            // A server of MCP 2026-07-28 need not have been asked what it has.
            Some(METHOD_NOT_FOUND) if ask != Ask::Discover => State::Known(Known::default()),
            Some(_) => State::Refused(Some(message)),
            None => match asking.take(ask, message, BYTES.saturating_sub(held), next, share) {
                Ok(Next::Page(request)) => {
                    self.send(member, next, Purpose::Page(ask), Ok(*request));
                    return;
                }
                Ok(end) => {
                    let known = asking.complete();
                    if matches!(end, Next::TooMany) {
                        (self.settings.report)(Report::TooMany { server: &peer.name });
                    }
                    State::Known(known)
                }
                Err(_) => State::Refused(None),
            },
        };
        let list = self.members[member].list_mut(ask);
        (list.state, list.since) = (state, if late { UNHEARD } else { since });
        if ask == Ask::Discover {
            self.discovered(member);
        }
        if late {
            (self.settings.report)(Report::Up { server: &self.members[member].name });
            self.changed(ask);
        }
    }

    /// A request of a member's, for the client.
    fn member_asks(&mut self, member: usize, id: Option<Id>, message: &Message, about: Option<Id>) {
        let Some(id) = id else { return };
        if self.asked.values().filter(|asked| asked.member == member).count() >= IN_FLIGHT {
            let code = i64::from(Kind::Unavailable.status().as_u16());
            self.pass(member, Message::error_for(&id, code, "Too many requests are unanswered."));
            return;
        }
        let number = self.number();
        let own = Id::number(number).to_string();
        let passed =
            message.with(&[(Part::Id, own.as_str().into()), (Part::ProgressToken, own.as_str().into())]);
        let token = message.progress_token().cloned();
        self.asked.insert(number, Asked { member, id, token });
        let about = self.about(member, about);
        self.tell(passed, about);
    }

    fn member_notes(&mut self, member: usize, message: &Message, about: Option<Id>) {
        for ask in Ask::ALL {
            if change(ask) == Some(message.method()) {
                self.stale(member, ask);
            }
        }
        if let Some(subscription) = message.subscription_id() {
            if let Some(subscription) = numbers::read(subscription) {
                self.listen_notes(member, subscription, message);
            }
            return;
        }
        match message.method() {
            "notifications/progress" => {
                let sent = message.progress_token().and_then(numbers::read).and_then(|it| self.sent.get(&it));
                let Some(Purpose::Client { id, token: Some(token) }) =
                    sent.filter(|sent| sent.member == member).map(|sent| &sent.purpose)
                else {
                    return;
                };
                let (id, token) = (id.clone(), token.to_string());
                self.tell(message.with(&[(Part::ProgressToken, token.into())]), Some(id));
            }
            "notifications/cancelled" => {
                let mut asked = self.asked.iter();
                let found = asked.find(|(_, it)| it.member == member && Some(&it.id) == message.request_id());
                let Some(number) = found.map(|(number, _)| *number) else { return };
                self.asked.remove(&number);
                let about = self.about(member, about);
                self.tell(message.with(&[(Part::RequestId, number.to_string().into())]), about);
            }
            _ => {
                let about = self.about(member, about);
                self.tell(Ok(message.clone()), about);
            }
        }
    }

    /// The client's name for the request that something belongs to.
    fn about(&self, member: usize, about: Option<Id>) -> Option<Id> {
        let sent = self.sent.get(&numbers::read(&about?)?).filter(|sent| sent.member == member)?;
        match &sent.purpose {
            Purpose::Client { id, .. } => Some(id.clone()),
            Purpose::Share(key) => {
                self.waiting.iter().find(|waiter| waiter.key == *key).map(|waiter| waiter.id.clone())
            }
            Purpose::Listen(key) => {
                self.listens.iter().find(|listen| listen.key == *key).map(|listen| listen.id.clone())
            }
            Purpose::Greeting | Purpose::Page(_) | Purpose::Nobody => None,
        }
    }

    /// A list is not what it was. If it is on its way, nobody knows from before or after: it is asked for again.
    fn stale(&mut self, member: usize, ask: Ask) {
        let number = self.number();
        let list = self.members[member].list_mut(ask);
        if let State::Asking(asking) = &list.state {
            let (old, request) = (asking.number, list.again(ask, number));
            self.sent.remove(&old);
            self.send(member, number, Purpose::Page(ask), request);
        } else {
            list.state = State::Unknown;
        }
    }
}

/// The notification that says that a list has changed. Templates have none of their own.
pub(super) fn change(ask: Ask) -> Option<&'static str> {
    match ask {
        Ask::Tools => Some("notifications/tools/list_changed"),
        Ask::Prompts => Some("notifications/prompts/list_changed"),
        Ask::Resources | Ask::Templates => Some("notifications/resources/list_changed"),
        Ask::Discover => None,
    }
}
