//! What was found in a message, and how it changes with the message.

use std::ops::Range;

use crate::mcp::{
    id::Id,
    parts::{MessageKind, Part},
};

/// Longest name, URI or cursor, in bytes.
pub(super) const MAX_NAME: usize = 64 * 1024;

/// Where parts are in the text.
#[derive(Debug, Clone, Default)]
pub(in crate::mcp) struct Spans([Option<(u32, u32)>; Part::COUNT]);

impl Spans {
    pub(in crate::mcp) fn get(&self, part: Part) -> Option<Range<usize>> {
        self.0[part as usize].map(|(start, end)| start as usize..end as usize)
    }

    pub(in crate::mcp) fn set(&mut self, part: Part, span: Option<(u32, u32)>) {
        self.0[part as usize] = span;
    }

    /// The same in a text in which what was before a place has another length.
    pub(in crate::mcp) fn shifted(&self, shift: impl Fn(u32) -> u32) -> Self {
        Self(self.0.map(|span| span.map(|(start, end)| (shift(start), shift(end)))))
    }
}

/// What a message says, once all of it was read.
#[derive(Debug, Clone)]
pub(in crate::mcp) struct MessageFields {
    pub(in crate::mcp) kind: MessageKind,
    pub(in crate::mcp) is_ambiguous: bool,
    pub(in crate::mcp) method: Box<str>,
    pub(in crate::mcp) id: Option<Id>,
    pub(in crate::mcp) progress_token: Option<Id>,
    pub(in crate::mcp) request_id: Option<Id>,
    pub(in crate::mcp) subscription_id: Option<Id>,
    pub(in crate::mcp) name: Option<Box<str>>,
    pub(in crate::mcp) reference: Option<Reference>,
    pub(in crate::mcp) version: Option<Box<str>>,
    pub(in crate::mcp) names_version: bool,
    pub(in crate::mcp) names_capabilities: bool,
    pub(in crate::mcp) sets_log_level: bool,
    pub(in crate::mcp) has_cursor: bool,
    pub(in crate::mcp) error_code: Option<i64>,
    pub(in crate::mcp) task_id: Option<Box<str>>,
    pub(in crate::mcp) names_related_task: bool,
    pub(in crate::mcp) spans: Spans,
    pub(in crate::mcp) token_member: Option<u32>,
}

impl MessageFields {
    /// The same with another JSON text for a part; `None` if the part holds others, so that all has to be read again.
    pub(in crate::mcp) fn replaced(mut self, part: Part, new: &str) -> Option<Self> {
        match part {
            Part::Id => self.id = Id::read(new),
            Part::ProgressToken => self.progress_token = Id::read(new),
            Part::RequestId => self.request_id = Id::read(new),
            Part::SubscriptionId => self.subscription_id = Id::read(new),
            Part::Name if new.len() > MAX_NAME => return None,
            Part::Name => {
                self.name = match Id::read(new)? {
                    Id::String(name) => Some(name),
                    Id::Number(_) => return None,
                }
            }
            // Whatever it holds, nothing in it counts.
            Part::Arguments => {}
            Part::Params | Part::Meta | Part::Filter | Part::Result => return None,
        }
        Some(self)
    }

    /// Moves all spans.
    pub(in crate::mcp) fn shift(&mut self, shift: impl Fn(u32) -> u32) {
        self.token_member = self.token_member.map(&shift);
        self.spans = self.spans.shifted(shift);
    }

    /// Where the member `progressToken` of `_meta` ends.
    pub(in crate::mcp) fn token_end(&self) -> Option<usize> {
        self.spans.get(Part::ProgressToken).filter(|_| self.kind == MessageKind::Request).map(|span| span.end)
    }
}

/// What `params.ref` of `completion/complete` is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reference {
    /// A prompt, by its name.
    Prompt,
    /// A resource or a template, by its URI.
    Resource,
}
