//! Several servers that look like one.
//!
//! [`open`] gives a [`Link`] like any other. Behind it is one link per member, and between them `core`, which decides
//! without a socket or a clock: which member a call is for, whose answer it is, what a list of all consists of. `driver`
//! is the task that carries its decisions out.
//!
//! Whatever one member does, the others go on. A member is waited for as long as `discovery_timeout` says, once, and not
//! at all where somebody has waited in vain before ([`Health`](crate::observe::Health)). A message that it does not take
//! waits for it alone. Both eras are served: a client that sends `initialize` has a session with every member; one that
//! does not (MCP 2026-07-28) has none, and `server/discover` is answered for all if all speak that era.

mod catalogue;
mod core;
mod driver;
mod given;
mod handshake;
mod json;
mod lazy;
mod listen;
mod lists;
mod member;
mod naming;
mod outstanding;
mod replies;
mod requests;
mod settings;
mod settle;
mod uris;
mod waiting;

use crate::link::Link;

pub use self::{
    naming::server_of,
    settings::{AggregateSettings, Granted, LinkFuture, Member, MemberReport, MemberTimeouts},
};

/// A link to all members at once. Members are in the order of the config file, which is the order of lists.
///
/// Spawns its task on the current thread, which must have a `LocalRuntime` or a `LocalSet`; the link may be used from
/// any other.
pub fn open(members: Vec<Member>, settings: AggregateSettings) -> Link {
    let (link, server_end) = Link::pair();
    tokio::task::spawn_local(driver::run(members, settings, server_end));
    link
}

#[cfg(test)]
mod tests;
