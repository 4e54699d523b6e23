//! What the union of members does: events in, actions out, no socket and no clock.

use std::sync::atomic::Ordering::Relaxed;

use tokio::time::{Duration, Instant};

use crate::link::aggregate::{
    given::GivenUris,
    listen::Listens,
    lists::ListKind,
    member::{LinkPhase, MemberState},
    naming::OfferedNames,
    outstanding::{Outstanding, RequestPurpose, SentRequest},
    settings::{AggregateSettings, MemberReport},
    waiting::Waiting,
};
use crate::{
    error::{Error, ErrorKind},
    ledger::Resource,
    link::{FromServer, Outbound, ToServer},
    mcp::message::{self, Id, Malformed, Message, Part},
};

/// Requests of one client, or of one member, that may be unanswered at a time. One that sends more is refused, and no other.
pub(super) const IN_FLIGHT: usize = 1_024;

/// Least time between the end of a member's link and the next. What restarts processes has a back-off of its own; this
/// one keeps a server that is down from being dialled by every call.
pub(super) const REOPEN: Duration = Duration::from_secs(3);

/// Something happened.
pub(super) enum CoreEvent {
    /// The client sent something.
    Client(ToServer),
    /// A member's link is open, or could not be opened.
    Opened(usize, Result<(), Error>),
    /// A member sent something.
    Member(usize, FromServer),
    /// [`Core::deadline`] is over, or what is granted may have changed.
    Tick,
}

/// Something is to be done.
#[derive(Debug)]
pub(super) enum CoreAction {
    /// Goes to the client.
    ToClient(FromServer),
    /// Goes to a member, whose link is open.
    ToMember(usize, ToServer),
    /// A link to a member is to be opened.
    Open(usize),
    /// The link to a member is to be dropped, open or not.
    Close(usize),
}

/// How the client speaks.
pub(super) enum ClientState {
    /// It never sent `initialize`: MCP 2026-07-28, where each request is self-contained.
    Stateless,
    /// It did.
    Session {
        /// The parameters of its `initialize`, for members that join later.
        params: Box<str>,
        /// Whether it has its answer, and has confirmed it.
        initialized: bool,
        /// The parameters of the last `logging/setLevel`.
        level: Option<Box<str>>,
    },
}

/// The union of members, for one client.
pub(super) struct Core {
    pub(super) settings: AggregateSettings,
    pub(super) members: Vec<MemberState>,
    pub(super) era: ClientState,
    pub(super) outstanding: Outstanding,
    pub(super) waiting: Waiting,
    pub(super) listens: Listens,
    pub(super) offered: OfferedNames,
    actions: Vec<CoreAction>,
    count: u64,
}

impl Core {
    pub(super) fn new(members: Vec<MemberState>, settings: AggregateSettings) -> Self {
        Self {
            offered: OfferedNames::new(&settings.owner),
            settings,
            members,
            era: ClientState::Stateless,
            outstanding: Outstanding::default(),
            waiting: Waiting::default(),
            listens: Listens::default(),
            actions: Vec::new(),
            count: 0,
        }
    }

    /// Takes what happened, and gives what is to be done, in that order.
    pub(super) fn handle(&mut self, now: Instant, event: CoreEvent) -> Vec<CoreAction> {
        self.drop_what_is_outdated(now);
        match event {
            CoreEvent::Client(ToServer::Message(outbound)) => self.on_client_message(now, outbound),
            CoreEvent::Client(ToServer::Abandon(id)) => self.abandon(&id, None),
            CoreEvent::Opened(member, Ok(())) => self.opened(now, member),
            CoreEvent::Opened(member, Err(error)) => self.lose(now, member, error.kind, &error.to_string()),
            CoreEvent::Member(member, said) => self.on_member_message(now, member, said),
            CoreEvent::Tick => {
                self.give_up(now);
                self.let_sleep(now);
            }
        }
        self.settle(now);
        std::mem::take(&mut self.actions)
    }

    /// When [`CoreEvent::Tick`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let requests = [self.outstanding.until(), self.waiting.until(), self.listens.until()];
        let idle = self.members.iter().filter_map(MemberState::idle_until);
        requests.into_iter().flatten().chain(idle).min()
    }

    /// Gives up what members took too long for.
    fn give_up(&mut self, now: Instant) {
        let over = self.outstanding.take_where(|sent| sent.until.is_some_and(|until| until <= now));
        for (number, SentRequest { member, purpose, .. }) in over {
            if matches!(purpose, RequestPurpose::Initialize) {
                self.lose(now, member, ErrorKind::UpstreamTimeout, "no answer to initialize in time");
            } else {
                let error = ErrorKind::UpstreamTimeout.with_cause("no answer within its timeout");
                self.act(CoreAction::ToMember(member, ToServer::Abandon(Id::number(number))));
                self.members[member].failed(&error);
                self.unanswered(member, purpose, error);
            }
        }
    }

    /// Drops the links of members that are not in use: what they cost others may have.
    fn let_sleep(&mut self, now: Instant) {
        for member in 0..self.members.len() {
            if self.members[member].idle_until().is_none_or(|until| now < until) {
                continue;
            }
            let is_used = self.settings.listens.load(Relaxed) || self.outstanding.involves(member);
            let peer = &mut self.members[member];
            if is_used {
                peer.idle.0 = now;
            } else {
                peer.forget();
                peer.sleeps = true;
                peer.phase = LinkPhase::Closed(now);
                self.act(CoreAction::Close(member));
            }
        }
    }

    fn on_client_message(&mut self, now: Instant, outbound: Outbound) {
        let message = &outbound.message;
        match (message.kind(), message.id().cloned()) {
            (message::MessageKind::Request, Some(id)) if self.load() >= IN_FLIGHT => {
                self.fail(id, ErrorKind::CallerLimit.with_cause("too many requests in flight"));
            }
            (message::MessageKind::Request, Some(id)) => self.request(now, id, outbound),
            (message::MessageKind::Notification, _) => self.notification(message),
            _ => self.answer_to_member(message),
        }
    }

    fn load(&self) -> usize {
        self.outstanding.len() + self.waiting.len() + self.listens.len()
    }

    fn notification(&mut self, message: &Message) {
        match message.method() {
            "notifications/cancelled" => {
                if let Some(id) = message.request_id() {
                    self.abandon(&id.clone(), Some(message));
                }
            }
            "notifications/progress" => {
                let asked = message.progress_token().and_then(|number| self.outstanding.of_client(number));
                let Some((member, token)) = asked.and_then(|it| Some((it.member, it.token.as_ref()?))) else {
                    return;
                };
                let message = message.renamed(Part::ProgressToken, token);
                self.pass(member, message);
            }
            method => {
                if let (ClientState::Session { initialized, .. }, "notifications/initialized") =
                    (&mut self.era, method)
                {
                    *initialized = true;
                }
                for member in 0..self.members.len() {
                    if self.is_ready(member) {
                        self.pass(member, Ok(message.clone()));
                    }
                }
            }
        }
    }

    /// The client does not wait for this request any more. `notice` is its cancellation, if it sent one; else its
    /// connection is gone. Where the answer crosses that on its way, it is dropped.
    fn abandon(&mut self, id: &Id, notice: Option<&Message>) {
        self.waiting.abandon(id);
        self.listens.abandon(id);
        let (waiting, listens) = (&self.waiting, &self.listens);
        let is_given_up = |purpose: &RequestPurpose| match purpose {
            RequestPurpose::Client { id: of, .. } => of == id,
            RequestPurpose::Share(key) => waiting.id(*key).is_none(),
            RequestPurpose::Listen(key) => listens.id(*key).is_none(),
            RequestPurpose::Initialize | RequestPurpose::Page(_) | RequestPurpose::Nobody => false,
        };
        let given_up = self.outstanding.take_where(|sent| is_given_up(&sent.purpose));
        for (number, SentRequest { member, .. }) in given_up {
            let id = Id::number(number);
            match notice {
                Some(notice) => self.pass(member, notice.renamed(Part::RequestId, &id)),
                None => self.act(CoreAction::ToMember(member, ToServer::Abandon(id))),
            }
        }
    }

    /// The client answers a request of a member's.
    fn answer_to_member(&mut self, message: &Message) {
        let Some(asked) = message.id().and_then(|number| self.outstanding.take_asked(number)) else { return };
        let message = message.renamed(Part::Id, &asked.id);
        self.pass(asked.member, message);
    }

    fn drop_what_is_outdated(&mut self, now: Instant) {
        for member in 0..self.members.len() {
            if let Some(why) = self.members[member].outdated() {
                // What has its place may be another one.
                self.members[member].given = GivenUris::default();
                self.members[member].shows = GivenUris::default();
                // No fault of the server's: with a new grant, it is there at once.
                self.part(member, now, &why);
            }
            if self.members[member].filter.has_changed() {
                self.members[member].shows = GivenUris::default();
                self.stale(member, ListKind::Tools);
                self.changed(ListKind::Tools);
            }
        }
    }

    /// Opens links to members that have none and may have one. If only one member is needed, those that were not for a while
    /// stay closed.
    pub(super) fn wake(&mut self, now: Instant, needed: Option<usize>) {
        for (member, peer) in self.members.iter_mut().enumerate() {
            let is_wanted = !peer.sleeps || needed.is_none_or(|needed| needed == member);
            let may_open =
                matches!(peer.phase, LinkPhase::Closed(again) if again <= now || peer.is_another());
            if is_wanted && may_open && peer.is_granted() {
                peer.open(now);
                self.actions.push(CoreAction::Open(member));
            }
        }
    }

    fn opened(&mut self, now: Instant, member: usize) {
        match &self.era {
            ClientState::Session { .. } => self.send_initialize(now, member),
            ClientState::Stateless => self.ready(member),
        }
    }

    /// A member takes requests.
    pub(super) fn ready(&mut self, member: usize) {
        let peer = &mut self.members[member];
        peer.phase = LinkPhase::Ready;
        let was_asleep = std::mem::take(&mut peer.sleeps);
        for ask in [ListKind::Tools, ListKind::Prompts, ListKind::Resources] {
            if !was_asleep && !self.waiting.wants_list(ask) && self.members[member].offers(ask) {
                self.changed(ask);
            }
        }
        self.listen_to(member);
    }

    /// A member failed.
    pub(super) fn lose(&mut self, now: Instant, member: usize, kind: ErrorKind, cause: &str) {
        (self.settings.report)(MemberReport::Down { server: &self.members[member].name, kind, cause });
        let is_limit = matches!(kind, ErrorKind::CallerLimit | ErrorKind::Unavailable | ErrorKind::Stopped);
        let kind = if is_limit || kind == ErrorKind::UpstreamTimeout {
            kind
        } else {
            ErrorKind::UpstreamUnreachable
        };
        self.part(member, now + REOPEN, &kind.with_cause(cause.to_owned()));
        self.members[member].limit = is_limit.then(|| (kind, cause.into()));
    }

    /// A member has no link any more, and gets none before `again`. Its requests fail, and what it offered is gone.
    fn part(&mut self, member: usize, again: Instant, why: &Error) {
        let peer = &mut self.members[member];
        let was_ready = matches!(peer.phase, LinkPhase::Ready);
        let mut gone = vec![ListKind::Tools, ListKind::Prompts, ListKind::Resources];
        gone.retain(|ask| was_ready && peer.may_be_on(*ask));
        peer.forget();
        peer.phase = LinkPhase::Closed(again);
        self.act(CoreAction::Close(member));

        let (unanswered, asked) = self.outstanding.part(member);
        for request in unanswered {
            self.unanswered(member, request.purpose, why.clone());
        }
        for number in asked {
            self.notify_client(Message::cancelled(&Id::number(number)), None);
        }
        gone.into_iter().for_each(|ask| self.changed(ask));
    }

    /// Members that the caller may use, in the order of the file.
    pub(super) fn granted(&self) -> impl Iterator<Item = usize> {
        (0..self.members.len()).filter(|member| self.members[*member].is_granted())
    }

    pub(super) fn is_ready(&self, member: usize) -> bool {
        matches!(self.members[member].phase, LinkPhase::Ready)
    }

    /// The next number of the core's own count, by which it tells what was before what.
    pub(super) fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub(super) fn act(&mut self, action: CoreAction) {
        self.actions.push(action);
    }

    /// Sends a member a request of the core's own making, whose answer is awaited until then at most.
    pub(super) fn send(
        &mut self,
        member: usize,
        number: u64,
        purpose: RequestPurpose,
        until: Option<Instant>,
        request: Result<Message, Malformed>,
    ) {
        self.outstanding.sent(number, SentRequest { member, purpose, until });
        self.pass(member, request);
    }

    /// Sends a member a message. One that could not be made is nothing that was sent, and the defect is the gateway's own:
    /// the texts that it is made of were read before.
    pub(super) fn pass(&mut self, member: usize, message: Result<Message, Malformed>) {
        if let Ok(message) = message {
            self.act(CoreAction::ToMember(member, ToServer::Message(message.into())));
        }
    }

    /// Sends the client a message, which belongs to its request `about`.
    pub(super) fn notify_client(&mut self, message: Result<Message, Malformed>, about: Option<Id>) {
        if let Ok(message) = message {
            self.act(CoreAction::ToClient(FromServer::Message { message, about }));
        }
    }

    /// Sends the client an answer. One that was made here of the answers of members is counted from now on.
    pub(super) fn answer(&mut self, id: &Id, message: Result<Message, Malformed>) {
        match message {
            Ok(mut message) => match message.pass_to(&self.settings.owner) {
                Ok(()) => self.notify_client(Ok(message), Some(id.clone())),
                Err(limit) => self.fail(id.clone(), Error::out_of(Resource::Bytes, limit)),
            },
            Err(why) => self.fail(id.clone(), ErrorKind::UpstreamUnreachable.with_cause(why.to_string())),
        }
    }

    /// Tells the client that it gets no answer.
    pub(super) fn fail(&mut self, id: Id, error: Error) {
        self.act(CoreAction::ToClient(FromServer::Failed { id, error }));
    }
}
