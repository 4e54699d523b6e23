//! Requests of the client that wait for members: until each of those that matter has answered, or time is up.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::link::aggregate::{
    MemberReport,
    core::{Core, NameMap, RequestPurpose},
    json,
    lazy::Query,
    lists::{ListKind, ListState},
    member::{LinkPhase, SlowPart},
    naming::{self, ListedNames, Offer},
};
use crate::{
    config::Naming,
    error::{Error, ErrorKind},
    link::Outbound,
    mcp::message::{Id, Message, Part},
};

/// Requests for lists that one client may have waiting. Each answer is as large as all servers make it, and they come at
/// the same time.
const LISTS: usize = 16;

/// Bytes of requests that one client may have waiting: over HTTP+SSE it need not wait for one before it sends the next.
const WAITING: usize = 16 << 20;

/// A request of the client that waits.
pub(super) struct WaitingRequest {
    /// The core's own name for it.
    pub(super) key: u64,
    /// The client's.
    pub(super) id: Id,
    /// Whether it is of MCP 2026-07-28.
    pub(super) modern: bool,
    /// When it is answered with what is there.
    pub(super) until: Instant,
    /// Lists must be younger than this. [`Core::next`] of the moment when it came, or 0 if any will do.
    pub(super) since: u64,
    /// The client's `_meta`, for requests on its behalf.
    pub(super) meta: Option<String>,
    /// Size of the request.
    bytes: usize,
    pub(super) then: WaitFor,
}

/// What a request waits for, and what it wants then.
pub(super) enum WaitFor {
    /// `initialize`
    Initialize,
    /// `server/discover`
    Discover,
    /// A list.
    List(ListKind),
    /// One of the meta-tools, which needs the list of tools.
    Query(Query),
    /// A call that is for this member, which has no link yet.
    Call(usize, Outbound),
    /// A call by a name that nobody is known to have; lists may tell.
    Named(ListKind, Outbound),
    /// A call by a URI; lists may tell.
    Uri(Outbound),
    /// `subscriptions/listen` with URIs; lists may tell.
    Listen(Message),
    /// So many members have yet to answer their share; one of them did.
    Shares { left: usize, answer: Option<Result<Message, Error>> },
}

impl WaitFor {
    fn lists(&self) -> &'static [ListKind] {
        match self {
            Self::List(ListKind::Tools) | Self::Query(_) | Self::Named(ListKind::Tools, _) => {
                &[ListKind::Tools]
            }
            Self::List(ListKind::Prompts) | Self::Named(_, _) => &[ListKind::Prompts],
            Self::List(ListKind::Resources) => &[ListKind::Resources],
            Self::List(ListKind::Templates) => &[ListKind::Templates],
            Self::List(ListKind::Discover) | Self::Discover => &[ListKind::Discover],
            // What tools are shown with is known by them (MCP Apps).
            Self::Uri(outbound) if outbound.message.name().is_some_and(|uri| uri.starts_with("ui://")) => {
                &[ListKind::Resources, ListKind::Templates, ListKind::Tools]
            }
            Self::Uri(_) | Self::Listen(_) => &[ListKind::Resources, ListKind::Templates],
            Self::Initialize | Self::Call(..) | Self::Shares { .. } => &[],
        }
    }
}

impl WaitingRequest {
    /// Whether the client asked for this list, or cannot have asked for any yet.
    pub(super) fn wants_list(&self, ask: ListKind) -> bool {
        matches!(self.then, WaitFor::Initialize) || self.then.lists().contains(&ask)
    }
}

impl Core {
    /// Lets a request wait, and wakes whom it waits for.
    pub(super) fn wait(&mut self, now: Instant, id: Id, message: &Message, since: u64, then: WaitFor) {
        let is_list = |then: &WaitFor| matches!(then, WaitFor::List(_) | WaitFor::Query(_));
        let lists = self.waiting.iter().filter(|waiter| is_list(&waiter.then)).count();
        if is_list(&then) && lists >= LISTS {
            return self.fail(id, ErrorKind::CallerLimit.with_cause("too many lists at a time"));
        }
        let bytes = message.text().len();
        let held: usize = self.waiting.iter().map(|waiter| waiter.bytes).sum();
        if held + bytes > WAITING {
            return self.fail(id, ErrorKind::CallerLimit.with_cause("requests that wait are too large"));
        }
        match &then {
            WaitFor::Call(member, _) => self.wake_for(now, *member),
            WaitFor::Shares { .. } => {}
            _ => self.wake(now),
        }
        let mut patience = self.settings.discovery_timeout;
        if let WaitFor::Call(member, _) = &then {
            patience =
                self.members[*member].patience().answer.map_or(patience, |answer| answer.min(patience));
        }
        let waiter = WaitingRequest {
            key: self.next(),
            id,
            modern: message.version().is_some(),
            until: now + patience,
            since,
            meta: message.meta_without_token(),
            bytes,
            then,
        };
        self.waiting.push(waiter);
    }

    /// Goes on with every request that need not wait any longer.
    pub(super) fn settle(&mut self, now: Instant) {
        let mut at = 0;
        while at < self.waiting.len() {
            let waiter = self.waiting.remove(at);
            let missing: Vec<_> =
                (0..self.members.len()).filter(|member| !self.is_settled(now, &waiter, *member)).collect();
            let is_complete = missing.is_empty() && !matches!(waiter.then, WaitFor::Shares { left: 1.., .. });
            if is_complete || now >= waiter.until {
                missing.into_iter().for_each(|member| self.late(member, &waiter));
                let lists = waiter.then.lists();
                self.go_on(now, waiter);
                self.drop_texts(lists);
            } else {
                self.waiting.insert(at, waiter);
                at += 1;
            }
        }
        self.settle_listens(now);
    }

    /// Whether a member has nothing more to say to a request. Asks it, if nobody did.
    fn is_settled(&mut self, now: Instant, waiter: &WaitingRequest, member: usize) -> bool {
        let peer = &self.members[member];
        match (&waiter.then, peer.phase) {
            (WaitFor::Call(of, _), phase) => *of != member || !matches!(phase, LinkPhase::Opening { .. }),
            (_, LinkPhase::Closed(_)) => true,
            (_, LinkPhase::Opening { late, .. }) => late || matches!(waiter.then, WaitFor::Shares { .. }),
            (then, LinkPhase::Ready) => {
                let lists = then.lists();
                // Not `all`, which would ask for the second list only when the first is there.
                lists.iter().filter(|ask| !self.has_list(now, waiter, member, **ask)).count() == 0
            }
        }
    }

    fn has_list(&mut self, now: Instant, waiter: &WaitingRequest, member: usize, ask: ListKind) -> bool {
        let peer = &self.members[member];
        let list = peer.list(ask);
        match &list.state {
            _ if !peer.is_asked(ask) => true,
            ListState::Asking(asking) => asking.late,
            ListState::Known(_) | ListState::Refused(_) if list.since >= waiter.since => true,
            _ => {
                let late = peer.is_slow(SlowPart::List(ask));
                let (number, meta) = (self.number(), waiter.meta.as_deref());
                let request = self.members[member].list_mut(ask).begin(ask, number, meta, now, late);
                self.send(member, number, RequestPurpose::Page(ask), request);
                late
            }
        }
    }

    /// A member was waited for long enough, by this request and by all that come after it.
    fn late(&mut self, member: usize, waiter: &WaitingRequest) {
        if matches!(waiter.then, WaitFor::Call(..)) {
            return;
        }
        let (kind, cause) = (ErrorKind::UpstreamTimeout, "no answer in time");
        let peer = &mut self.members[member];
        if let LinkPhase::Opening { late, .. } = &mut peer.phase {
            *late = true;
            peer.set_slow(SlowPart::Link, true);
            (self.settings.report)(MemberReport::Down { server: &peer.name, kind, cause });
        }
        for ask in waiter.then.lists() {
            let peer = &mut self.members[member];
            let ListState::Asking(asking) = &mut peer.list_mut(*ask).state else { continue };
            asking.late = true;
            peer.set_slow(SlowPart::List(*ask), true);
            match ask {
                ListKind::Discover => {
                    (self.settings.report)(MemberReport::Down { server: &peer.name, kind, cause })
                }
                _ => self.list_failed(member, *ask, kind, cause),
            }
        }
    }

    fn go_on(&mut self, now: Instant, waiter: WaitingRequest) {
        match waiter.then {
            WaitFor::Initialize => self.answer_initialize(&waiter.id),
            WaitFor::Discover => self.answer_discover(&waiter.id),
            WaitFor::List(ask) => self.answer_list(&waiter.id, ask, waiter.modern),
            WaitFor::Query(query) => self.answer_query(&waiter.id, &query, waiter.modern),
            WaitFor::Call(member, outbound) => match self.members[member].phase {
                LinkPhase::Ready => self.call(now, member, waiter.id, outbound),
                LinkPhase::Opening { .. } => {
                    self.fail(waiter.id, ErrorKind::UpstreamTimeout.with_cause("no link in time"))
                }
                LinkPhase::Closed(_) => self.fail(waiter.id, self.members[member].no_link("no link")),
            },
            WaitFor::Named(ask, outbound) => {
                self.catalogue(ask);
                self.call_known(now, ask, waiter.id, outbound);
            }
            WaitFor::Uri(outbound) => self.call_owner(now, waiter.id, outbound),
            WaitFor::Listen(message) => self.listen(now, waiter.id, &message),
            WaitFor::Shares { answer, .. } => {
                // Who has not answered by now answers nobody.
                self.sent.retain(
                    |_, sent| !matches!(sent.purpose, RequestPurpose::Share(key) if key == waiter.key),
                );
                match answer {
                    Some(Ok(message)) => {
                        let message = message.with(&[(Part::Id, waiter.id.to_string().into())]);
                        self.answer(&waiter.id, message);
                    }
                    Some(Err(error)) => self.fail(waiter.id, error),
                    None => self
                        .fail(waiter.id, ErrorKind::UpstreamTimeout.with_cause("no server answered in time")),
                }
            }
        }
    }

    /// One member answered its share of a request. A success of one is the success of all.
    pub(super) fn share(&mut self, key: u64, answered: Result<Message, Error>) {
        let Some(waiter) = self.waiting.iter_mut().find(|waiter| waiter.key == key) else { return };
        let WaitFor::Shares { left, answer } = &mut waiter.then else { return };
        *left = left.saturating_sub(1);
        let rank = |answer: &Result<Message, Error>| match answer {
            Ok(message) if message.error_code().is_none() => 2,
            Ok(_) => 1,
            Err(_) => 0,
        };
        if answer.as_ref().is_none_or(|known| rank(known) < rank(&answered)) {
            *answer = Some(answered);
        }
    }

    /// Texts are kept only while somebody waits for them.
    fn drop_texts(&mut self, lists: &[ListKind]) {
        for ask in lists {
            if !self.waiting.iter().any(|waiter| waiter.then.lists().contains(ask)) {
                self.members.iter_mut().for_each(|peer| peer.list_mut(*ask).drop_texts());
            }
        }
    }

    /// What clients see of all tools or prompts; in flat naming, this is from now on what their names mean. `server` is a
    /// member.
    pub(super) fn catalogue(&mut self, ask: ListKind) -> Vec<Offer> {
        let granted: Vec<_> = self.granted().collect();
        let listed: Vec<_> = granted
            .iter()
            .map(|member| {
                let peer = &self.members[*member];
                ListedNames { server: &peer.name, names: peer.list(ask).names().collect() }
            })
            .collect();
        let (mut offers, mut clashes) = naming::offers(&self.settings.naming, &listed);
        offers.iter_mut().for_each(|offer| offer.server = granted[offer.server]);
        clashes.iter_mut().for_each(|clash| clash.servers = clash.servers.map(|server| granted[server]));
        let slot = usize::from(ask == ListKind::Prompts);
        for clash in clashes.iter().filter(|clash| !self.clashes[slot].contains(clash)) {
            let servers = clash.servers.map(|server| &*self.members[server].name);
            (self.settings.report)(MemberReport::Collision { name: &clash.name, servers });
        }
        self.clashes[slot] = clashes;
        if let Naming::Flat { .. } = self.settings.naming {
            let offered: NameMap = offers
                .iter()
                .map(|offer| {
                    let own = &self.members[offer.server].list(ask).items()[offer.item].name;
                    (offer.name.as_str().into(), (offer.server, own.clone()))
                })
                .collect();
            let bytes: usize = offered.iter().map(|(name, (_, own))| name.len() + own.len()).sum();
            self.offered_held[slot].set(u64::try_from(bytes).unwrap_or(u64::MAX));
            self.offered[slot] = offered;
        }
        offers
    }

    fn answer_list(&mut self, id: &Id, ask: ListKind, modern: bool) {
        let granted: Vec<_> = self.granted().collect();
        let states = || granted.iter().map(|member| &self.members[*member].list(ask).state);
        let is_known = states().any(|state| matches!(state, ListState::Known(_)));
        // If nobody has anything but an error, the client has to see it: it may be about the request itself.
        let refused = states().find_map(|state| match state {
            ListState::Refused(Some(error)) if !is_known => Some(error.clone()),
            _ => None,
        });
        if let Some(error) = refused {
            self.answer(id, error.with(&[(Part::Id, id.to_string().into())]));
            return;
        }
        let ttl = states()
            .filter_map(|state| if let ListState::Known(known) = state { known.ttl_ms } else { None })
            .min()
            .unwrap_or(0);
        let items: Vec<String> = match ask {
            ListKind::Tools | ListKind::Prompts => self
                .catalogue(ask)
                .iter()
                .filter_map(|offer| {
                    self.members[offer.server].list(ask).items()[offer.item].named(&offer.name)
                })
                .collect(),
            ListKind::Resources | ListKind::Templates | ListKind::Discover => self.distinct(&granted, ask),
        };
        let items = format!("[{}]", items.join(","));
        let ttl = ttl.to_string();
        let only_modern = |value| if modern { Some(value) } else { None };
        let result = json::object(&[
            (ask.key(), Some(&items)),
            ("resultType", only_modern("\"complete\"")),
            ("ttlMs", only_modern(&ttl)),
            ("cacheScope", only_modern("\"private\"")),
        ]);
        self.answer(id, Message::result_for(id, &result));
    }

    /// Resources or templates, each URI once: the server that comes first has it, on lists as on reads.
    fn distinct(&self, granted: &[usize], ask: ListKind) -> Vec<String> {
        let mut owners: HashMap<&str, usize> = HashMap::new();
        let mut texts = Vec::new();
        for member in granted {
            let peer = &self.members[*member];
            for item in peer.list(ask).items() {
                let owner = *owners.entry(&item.name).or_insert(*member);
                if owner == *member {
                    texts.extend(item.text.as_deref().map(str::to_owned));
                } else {
                    let servers = [&*self.members[owner].name, &*peer.name];
                    (self.settings.report)(MemberReport::Collision { name: &item.name, servers });
                }
            }
        }
        texts
    }
}
