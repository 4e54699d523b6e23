//! What callers have sent and the server has not taken yet.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{
    ledger::{Limit, Owner},
    link::Outbound,
    mcp::message::Id,
};

/// Messages that may wait before callers do. How many bytes they are is counted for their owners.
const MESSAGES: usize = 1024;

/// Messages with their callers. Owners take turns, so that none waits for all that another has sent; what one has sent is
/// first come, first served.
#[derive(Default)]
pub(super) struct Backlog {
    lines: HashMap<*const Owner, Line>,
    /// Whose turn is next. Each of them has a line.
    turns: VecDeque<*const Owner>,
    messages: usize,
}

/// What waits of one owner.
struct Line {
    owner: Arc<Owner>,
    queue: VecDeque<(u64, Outbound)>,
}

impl Backlog {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Whether one more may wait.
    pub(super) fn has_room(&self) -> bool {
        self.messages < MESSAGES
    }

    /// Adds a message, unless its owner has as many here as it may have beside the others.
    pub(super) fn push(&mut self, caller: u64, owner: &Arc<Owner>, outbound: Outbound) -> Result<(), Limit> {
        let key = Arc::as_ptr(owner);
        let mine = self.lines.get(&key).map_or(0, |line| line.queue.len());
        owner.may_have(MESSAGES, self.messages, mine)?;
        let line = self.lines.entry(key).or_insert_with(|| {
            self.turns.push_back(key);
            Line { owner: Arc::clone(owner), queue: VecDeque::new() }
        });
        line.queue.push_back((caller, outbound));
        self.messages += 1;
        Ok(())
    }

    /// Whether something waits of an owner that `may_go`.
    pub(super) fn has_next(&self, may_go: impl Fn(&Arc<Owner>) -> bool) -> bool {
        self.lines.values().any(|line| may_go(&line.owner))
    }

    /// The next message of an owner that `may_go`.
    pub(super) fn pop(&mut self, may_go: impl Fn(&Arc<Owner>) -> bool) -> Option<(u64, Outbound)> {
        let at = self.turns.iter().position(|key| self.lines.get(key).is_some_and(|it| may_go(&it.owner)))?;
        let key = self.turns.remove(at)?;
        let line = self.lines.get_mut(&key)?;
        let next = line.queue.pop_front();
        if line.queue.is_empty() {
            self.lines.remove(&key);
        } else {
            self.turns.push_back(key);
        }
        self.messages -= usize::from(next.is_some());
        next
    }

    /// Takes back a request; `false` if it does not wait here.
    pub(super) fn abandon(&mut self, caller: u64, id: &Id) -> bool {
        let before = self.messages;
        self.retain(|of, outbound| of != caller || outbound.message.response_id() != Some(id));
        self.messages < before
    }

    /// Takes back what a caller waits for.
    pub(super) fn leave(&mut self, caller: u64) {
        self.retain(|of, _| of != caller);
    }

    fn retain(&mut self, stays: impl Fn(u64, &Outbound) -> bool) {
        self.lines.retain(|_, line| {
            line.queue.retain(|(of, outbound)| stays(*of, outbound));
            !line.queue.is_empty()
        });
        self.turns.retain(|key| self.lines.contains_key(key));
        self.messages = self.lines.values().map(|line| line.queue.len()).sum();
    }
}
