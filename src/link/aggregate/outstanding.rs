//! Requests that nobody has answered yet, in either direction.

use std::collections::HashMap;

use tokio::time::Instant;

use crate::link::aggregate::lists::ListKind;
use crate::mcp::{
    message::Id,
    numbers::{self, Numbers},
};

/// A request that is on its way to a member.
pub(super) struct SentRequest {
    pub(super) member: usize,
    pub(super) purpose: RequestPurpose,
    /// When it is not waited for any longer, if the member has not sent anything about it.
    pub(super) until: Option<Instant>,
}

/// Who gets the answer.
pub(super) enum RequestPurpose {
    /// The client, whose names for the request and its progress these are.
    Client { id: Id, token: Option<Id> },
    /// The core: a member's `initialize`.
    Initialize,
    /// The core: a page of a list.
    Page(ListKind),
    /// One of the requests that stand for the client's, which waits under this number.
    Share(u64),
    /// The subscription that was given this number.
    Listen(u64),
    /// It is dropped.
    Nobody,
}

/// A request of a member's that is on its way to the client.
pub(super) struct MemberRequest {
    pub(super) member: usize,
    pub(super) id: Id,
    pub(super) token: Option<Id>,
}

/// Requests on their way, each under a number of the core's own.
#[derive(Default)]
pub(super) struct Outstanding {
    to_members: HashMap<u64, SentRequest>,
    to_client: HashMap<u64, MemberRequest>,
    numbers: Numbers,
}

impl Outstanding {
    /// A number for a request, which nobody can guess: a member may be one that many callers share.
    pub(super) fn number(&mut self) -> u64 {
        self.numbers.draw()
    }

    /// How many requests members have not answered.
    pub(super) fn len(&self) -> usize {
        self.to_members.len()
    }

    /// When the first of them is not waited for any longer.
    pub(super) fn until(&self) -> Option<Instant> {
        self.to_members.values().filter_map(|sent| sent.until).min()
    }

    /// Whether a member owes an answer, or is owed one.
    pub(super) fn involves(&self, member: usize) -> bool {
        self.to_members.values().any(|sent| sent.member == member)
            || self.to_client.values().any(|asked| asked.member == member)
    }

    /// A request goes to a member, under a number that was drawn for it.
    pub(super) fn sent(&mut self, number: u64, request: SentRequest) {
        self.to_members.insert(number, request);
    }

    /// The request that a member speaks of. None is of a request that another member got.
    pub(super) fn of_member(&self, member: usize, number: &Id) -> Option<&SentRequest> {
        self.to_members.get(&numbers::read(number)?).filter(|sent| sent.member == member)
    }

    /// A member sent something about a request. As at its own path, its answer may then take as long as it likes.
    pub(super) fn heard_about(&mut self, member: usize, number: &Id) {
        let sent = numbers::read(number).and_then(|number| self.to_members.get_mut(&number));
        if let Some(SentRequest { purpose: RequestPurpose::Client { .. }, until, .. }) =
            sent.filter(|sent| sent.member == member)
        {
            *until = None;
        }
    }

    /// A member answers a request. No member can answer what another was asked.
    pub(super) fn take(&mut self, member: usize, number: &Id) -> Option<SentRequest> {
        self.of_member(member, number)?;
        self.to_members.remove(&numbers::read(number)?)
    }

    /// What comes as an answer to it is dropped.
    pub(super) fn forget(&mut self, number: u64) {
        self.to_members.remove(&number);
    }

    /// Takes the requests to members of which this is true.
    pub(super) fn take_where(&mut self, is_it: impl Fn(&SentRequest) -> bool) -> Vec<(u64, SentRequest)> {
        self.to_members.extract_if(|_, sent| is_it(sent)).collect()
    }

    /// How many requests of a member's the client has not answered.
    pub(super) fn asked_by(&self, member: usize) -> usize {
        self.to_client.values().filter(|asked| asked.member == member).count()
    }

    /// A request of a member's goes to the client, under a number that was drawn for it.
    pub(super) fn asked(&mut self, number: u64, request: MemberRequest) {
        self.to_client.insert(number, request);
    }

    /// The request of a member's that the client speaks of.
    pub(super) fn of_client(&self, number: &Id) -> Option<&MemberRequest> {
        self.to_client.get(&numbers::read(number)?)
    }

    /// The client answers a request of a member's.
    pub(super) fn take_asked(&mut self, number: &Id) -> Option<MemberRequest> {
        self.to_client.remove(&numbers::read(number)?)
    }

    /// A member takes a request back, by its own name for it. The number that the client knows it by.
    pub(super) fn take_back(&mut self, member: usize, id: &Id) -> Option<u64> {
        let mut asked = self.to_client.iter();
        let number = *asked.find(|(_, it)| it.member == member && it.id == *id)?.0;
        self.to_client.remove(&number);
        Some(number)
    }

    /// A member is gone: the requests that it does not answer any more, and the numbers of its own.
    pub(super) fn part(&mut self, member: usize) -> (Vec<SentRequest>, Vec<u64>) {
        let sent = self.take_where(|sent| sent.member == member);
        let asked = self.to_client.extract_if(|_, asked| asked.member == member);
        (sent.into_iter().map(|(_, sent)| sent).collect(), asked.map(|(number, _)| number).collect())
    }
}
