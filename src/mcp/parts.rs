//! What a message is, of which parts it consists, and why something is none.

use std::fmt;

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// Wants a response.
    Request,
    /// Wants none.
    Notification,
    /// Is one: a result or an error.
    Response,
}

/// A part of a message that can be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `id`
    Id,
    /// What [`Message::name`](super::message::Message::name) is.
    Name,
    /// `params._meta.progressToken` of a request, `params.progressToken` of `notifications/progress`
    ProgressToken,
    /// `params.requestId` of `notifications/cancelled`
    RequestId,
    /// `params._meta["io.modelcontextprotocol/subscriptionId"]`, in a server's response that of `result._meta` (MCP
    /// 2026-07-28)
    SubscriptionId,
    /// `params`, as a whole
    Params,
    /// `params._meta`, as a whole
    Meta,
    /// `params.arguments`, as a whole
    Arguments,
    /// `params.notifications` of `subscriptions/listen`, as a whole
    Filter,
    /// `result`, as a whole
    Result,
}

impl Part {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Id,
        Self::Name,
        Self::ProgressToken,
        Self::RequestId,
        Self::SubscriptionId,
        Self::Params,
        Self::Meta,
        Self::Arguments,
        Self::Filter,
        Self::Result,
    ];
    pub(super) const COUNT: usize = Self::ALL.len();
}

/// Why something is no message. Says nothing of what was in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Malformed {
    /// Not one JSON text in UTF-8 (RFC 8259).
    Json,
    /// JSON that parsers give up on: nested deeper than [`MAX_DEPTH`](super::walk::MAX_DEPTH), or with a number longer
    /// than [`MAX_NUMBER`](super::walk::MAX_NUMBER).
    TooDeep,
    /// A batch (only in MCP 2025-03-26), or no object.
    NotAnObject,
    /// JSON, but neither request, notification nor response.
    NotJsonRpc,
    /// A key that counts comes twice, or in another spelling than MCP's.
    Ambiguous,
    /// A value that counts is of the wrong type, or one that parsers do not agree on.
    Unreadable,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Json => "not one JSON text",
            Self::TooDeep => "nested deeper than 128, or with a number longer than 1024 bytes",
            Self::NotAnObject => "not one JSON object",
            Self::NotJsonRpc => "neither request, notification nor response",
            Self::Ambiguous => "a key of MCP comes twice, or is not written as MCP writes it",
            Self::Unreadable => "an id, a token or a name that not every server reads alike",
        })
    }
}

impl std::error::Error for Malformed {}
