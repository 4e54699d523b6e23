//! Goes on with requests that wait, once each member that matters has answered, or time is up.

use tokio::time::Instant;

use crate::link::aggregate::{
    core::Core,
    listen::ForClient,
    lists::{ListKind, ListState},
    member::{LinkPhase, SlowPart},
    outstanding::RequestPurpose,
    settings::MemberReport,
    waiting::{WaitFor, WaitingRequest},
};
use crate::{
    error::ErrorKind,
    mcp::message::{Id, Message, Part},
};

impl Core {
    /// Lets a request wait, and wakes whom it waits for. Its number; none if it may not wait, and fails.
    pub(super) fn wait(
        &mut self,
        now: Instant,
        id: Id,
        message: &Message,
        since: u64,
        then: WaitFor,
    ) -> Option<u64> {
        let bytes = message.text().len();
        if let Some(why) = self.waiting.refuses(&then, bytes) {
            self.fail(id, ErrorKind::CallerLimit.with_cause(why));
            return None;
        }
        let mut patience = self.settings.discovery_timeout;
        match &then {
            WaitFor::Call(member, _) => {
                self.wake(now, Some(*member));
                let answer = self.members[*member].patience().answer;
                patience = answer.map_or(patience, |answer| answer.min(patience));
            }
            WaitFor::Shares { .. } => {}
            _ => self.wake(now, None),
        }
        let key = self.next();
        let waiter = WaitingRequest {
            key,
            id,
            modern: message.version().is_some(),
            until: now + patience,
            since,
            meta: message.meta_without_token(),
            bytes,
            then,
        };
        self.waiting.push(waiter);
        Some(key)
    }

    /// Goes on with every request that need not wait any longer.
    pub(super) fn settle(&mut self, now: Instant) {
        let mut at = 0;
        while let Some(waiter) = self.waiting.take(at) {
            let missing: Vec<_> = (0..self.members.len())
                .filter(|member| self.ask_for_missing(now, &waiter, *member))
                .collect();
            let is_complete = missing.is_empty() && !matches!(waiter.then, WaitFor::Shares { left: 1.., .. });
            if is_complete || now >= waiter.until {
                missing.into_iter().for_each(|member| self.late(member, &waiter));
                let lists = waiter.then.lists();
                self.go_on(now, waiter);
                self.drop_texts(lists);
            } else {
                self.waiting.put_back(at, waiter);
                at += 1;
            }
        }
        self.settle_listens(now);
    }

    /// Asks a member for what a request waits for, unless it was asked already. Whether its answer is still awaited.
    fn ask_for_missing(&mut self, now: Instant, waiter: &WaitingRequest, member: usize) -> bool {
        match (&waiter.then, self.members[member].phase) {
            (WaitFor::Call(of, _), phase) => *of == member && matches!(phase, LinkPhase::Opening { .. }),
            (_, LinkPhase::Closed(_)) => false,
            (_, LinkPhase::Opening { late, .. }) => !late && !matches!(waiter.then, WaitFor::Shares { .. }),
            (then, LinkPhase::Ready) => {
                let lists = then.lists();
                // Not `any`, which would ask for the second list only when the first is there.
                lists.iter().filter(|ask| self.ask_for_missing_list(now, waiter, member, **ask)).count() > 0
            }
        }
    }

    fn ask_for_missing_list(
        &mut self,
        now: Instant,
        waiter: &WaitingRequest,
        member: usize,
        ask: ListKind,
    ) -> bool {
        let peer = &self.members[member];
        let list = peer.list(ask);
        match &list.state {
            _ if !peer.is_asked(ask) => false,
            ListState::Asking(asking) => !asking.late,
            ListState::Known(_) | ListState::Refused(_) if list.since >= waiter.since => false,
            _ => {
                let late = peer.is_slow(SlowPart::List(ask));
                let (number, meta) = (self.outstanding.number(), waiter.meta.as_deref());
                let request = self.members[member].list_mut(ask).begin(ask, number, meta, now, late);
                self.send(member, number, RequestPurpose::Page(ask), None, request);
                !late
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
                // An answer that comes after this one is dropped.
                self.outstanding.take_where(
                    |sent| matches!(sent.purpose, RequestPurpose::Share(key) if key == waiter.key),
                );
                match answer {
                    Some(Ok(message)) => {
                        let message = message.renamed(Part::Id, &waiter.id);
                        self.answer(&waiter.id, message);
                    }
                    Some(Err(error)) => self.fail(waiter.id, error),
                    None => self
                        .fail(waiter.id, ErrorKind::UpstreamTimeout.with_cause("no server answered in time")),
                }
            }
        }
    }

    /// Texts are kept only while somebody waits for them.
    fn drop_texts(&mut self, lists: &[ListKind]) {
        for ask in lists {
            if !self.waiting.needs_list(*ask) {
                self.members.iter_mut().for_each(|peer| peer.list_mut(*ask).drop_texts());
            }
        }
    }

    /// Goes on with subscriptions.
    fn settle_listens(&mut self, now: Instant) {
        let members = &self.members;
        let may_join = || {
            let is_awaited = |phase| matches!(phase, LinkPhase::Opening { late: false, .. });
            members.iter().any(|member| is_awaited(member.phase) && member.is_granted())
        };
        let out = self.listens.settle(now, may_join);
        self.tell(out);
    }

    /// Tells the client of its subscriptions.
    pub(super) fn tell(&mut self, all: impl IntoIterator<Item = ForClient>) {
        for one in all {
            match one {
                ForClient::Note(id, message) => self.notify_client(message, Some(id)),
                ForClient::Answer(id, message) => self.answer(&id, message),
            }
        }
    }
}
