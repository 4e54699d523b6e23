//! What callers have sent and the server has not taken yet.

use std::collections::VecDeque;

use crate::{
    link::Outbound,
    mcp::message::{Id, Kind},
};

/// Messages that may wait before callers do.
const MESSAGES: usize = 1024;
/// Bytes of messages that may wait before callers do. The last one may go beyond.
const BYTES: usize = 4 * 1024 * 1024;

/// Messages with their callers, first come, first served.
#[derive(Default)]
pub(super) struct Backlog {
    queue: VecDeque<(u64, Outbound)>,
    bytes: usize,
}

impl Backlog {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether one more may wait.
    pub(super) fn has_room(&self) -> bool {
        self.queue.len() < MESSAGES && self.bytes < BYTES
    }

    /// Adds a message.
    pub(super) fn push(&mut self, caller: u64, outbound: Outbound) {
        self.bytes += outbound.message.text().len();
        self.queue.push_back((caller, outbound));
    }

    /// The next message.
    pub(super) fn pop(&mut self) -> Option<(u64, Outbound)> {
        let (caller, outbound) = self.queue.pop_front()?;
        self.bytes -= outbound.message.text().len();
        Some((caller, outbound))
    }

    /// Takes back a request; `false` if it does not wait here.
    pub(super) fn abandon(&mut self, caller: u64, id: &Id) -> bool {
        let is_it = |(of, outbound): &(u64, Outbound)| {
            *of == caller && outbound.message.kind() == Kind::Request && outbound.message.id() == Some(id)
        };
        let Some(at) = self.queue.iter().position(is_it) else { return false };
        if let Some((_, outbound)) = self.queue.remove(at) {
            self.bytes -= outbound.message.text().len();
        }
        true
    }

    /// Takes back what a caller waits for.
    pub(super) fn leave(&mut self, caller: u64) {
        let bytes = &mut self.bytes;
        self.queue.retain(|(of, outbound)| {
            let stays = *of != caller;
            if !stays {
                *bytes -= outbound.message.text().len();
            }
            stays
        });
    }
}
