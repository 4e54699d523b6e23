//! Who may do what: the one decision, which requests, lists, calls, the aggregate, management and `sluicegate explain`
//! ask. It is pure: it knows no connection and no clock, and keeps nothing.
//!
//! The order is part of it: whoever has no valid token does not learn what exists (401 before 404 before 403).

use std::time::SystemTime;

use crate::{
    config::{ADMIN, Access, Rule, Server, Snapshot, ToolAccess},
    error::ErrorKind,
    identity::Identity,
};

/// Opens what Prometheus scrapes.
const METRICS: &str = "metrics";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    /// A server of the config.
    Server(&'a str),
    /// A tool of one, to list or to call it.
    Tool {
        /// Name of the server.
        server: &'a str,
        /// The server's own name for the tool.
        name: &'a str,
    },
    /// The aggregate as such. Each of its members is asked for by itself.
    Aggregate,
    /// What the gateway says of itself, and its actions.
    Manage(ManageAsk),
}

/// What of the gateway itself is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManageAsk {
    /// `/metrics`.
    Metrics,
    /// `/servers` with all below it, and whatever else is for operators.
    Servers,
    /// `/debug` with all below it, where it is served.
    Debug,
}

impl<'a> Ask<'a> {
    /// The server of this name, which may be the aggregate's.
    pub fn server(name: &'a str) -> Self {
        if name == Server::ALL { Self::Aggregate } else { Self::Server(name) }
    }
}

/// Where the servers of a config are found.
pub trait Servers {
    /// The server of this name.
    fn server(&self, name: &str) -> Option<&Server>;
}

impl Servers for Snapshot {
    fn server(&self, name: &str) -> Option<&Server> {
        self.servers.iter().find(|server| *server.name == *name)
    }
}

/// One server alone.
impl Servers for Server {
    fn server(&self, name: &str) -> Option<&Server> {
        (*self.name == *name).then_some(self)
    }
}

/// The rules of a config at a moment.
#[derive(Clone, Copy)]
pub struct Policy<'a> {
    /// The servers, with their rules.
    pub servers: &'a dyn Servers,
    /// The moment. `None` leaves the end of credentials out, for answers that are kept.
    pub now: Option<SystemTime>,
    /// `adminSeesAll`: whether the role `admin` passes the rules of servers.
    pub admin_sees_all: bool,
}

/// The answer, and the part of the config that gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Yes.
    Allow {
        /// What allows it. Where several parts must hold, the last of them.
        rule: Rule,
    },
    /// No.
    Deny {
        /// What the caller learns.
        kind: DenyKind,
        /// The scope that would do. Who is in the config has no scope, so for them there is none.
        scope_needed: Option<&'static str>,
        /// The first part that does not hold.
        rule: Rule,
    },
}

/// What somebody who may not learns of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenyKind {
    /// 401: it takes a credential.
    Unauthenticated,
    /// 401: the credential is not valid any more.
    InvalidToken,
    /// 403: it takes another caller.
    Forbidden,
    /// 404: there is no such server.
    NotFound,
    /// As if the server did not have the tool.
    Hidden,
    /// 403: it takes another caller for this tool.
    ToolForbidden,
}

impl From<DenyKind> for ErrorKind {
    fn from(kind: DenyKind) -> Self {
        match kind {
            DenyKind::Unauthenticated => Self::Unauthorized,
            DenyKind::InvalidToken => Self::InvalidToken,
            DenyKind::Forbidden => Self::InsufficientScope,
            DenyKind::NotFound => Self::NotFound,
            DenyKind::Hidden => Self::ToolNotAllowed,
            DenyKind::ToolForbidden => Self::ToolForbidden,
        }
    }
}

impl Decision {
    /// Whether it is a yes.
    pub fn is_allow(&self) -> bool {
        matches!(self, Self::Allow { .. })
    }

    /// The part of the config that decided.
    pub fn rule(&self) -> Rule {
        let (Self::Allow { rule } | Self::Deny { rule, .. }) = self;
        *rule
    }

    /// The error that a no is.
    pub fn into_result(self) -> Result<(), ErrorKind> {
        match self {
            Self::Allow { .. } => Ok(()),
            Self::Deny { kind, .. } => Err(kind.into()),
        }
    }
}

/// Whether `identity` may have what it asks for.
pub fn decide(policy: &Policy<'_>, identity: &Identity, ask: &Ask<'_>) -> Decision {
    decided(policy, identity, ask).map_or_else(
        |(kind, rule)| Decision::Deny { kind, scope_needed: None, rule },
        |rule| Decision::Allow { rule },
    )
}

fn decided(policy: &Policy<'_>, identity: &Identity, ask: &Ask<'_>) -> Result<Rule, (DenyKind, Rule)> {
    let (server, tool) = match *ask {
        Ask::Server(name) => (policy.servers.server(name), None),
        Ask::Tool { server, name } => (policy.servers.server(server), Some(name)),
        Ask::Aggregate | Ask::Manage(_) => (None, None),
    };
    // 1. A public server asks for no credential, and ignores one.
    let rule = if server.is_some_and(|server| server.access == Access::Public) {
        Rule::Public
    } else {
        // 2. Whoever has no valid one learns nothing else.
        let Some(caller) = identity.rule_subject() else {
            return Err((DenyKind::Unauthenticated, Rule::NoCredential));
        };
        if identity.is_disabled {
            return Err((DenyKind::InvalidToken, Rule::Disabled));
        }
        if policy.now.is_some_and(|now| !identity.is_valid_at(now)) {
            return Err((DenyKind::InvalidToken, Rule::Expires));
        }
        // A decoy may have nothing. Whoever asks for a server gets an empty one in its place.
        if identity.is_decoy {
            return Err((DenyKind::Forbidden, Rule::Decoy));
        }
        // 3. The rule of what is asked for.
        match (ask, server) {
            (Ask::Aggregate, _) => Rule::AnyToken,
            (Ask::Manage(what), _) if manages(identity, *what) => Rule::OwnRoles,
            (Ask::Manage(_), _) => return Err((DenyKind::Forbidden, Rule::OwnRoles)),
            (_, None) => return Err((DenyKind::NotFound, Rule::NoServer)),
            (_, Some(server)) => {
                server.admits(caller, policy.admin_sees_all).map_err(|rule| (DenyKind::Forbidden, rule))?
            }
        }
    };
    let Some((server, tool)) = server.zip(tool) else { return Ok(rule) };
    // 4. A tool that the filter hides exists for no caller.
    let rule = match &server.tool_filter {
        Some(filter) if filter.passes(tool) => Rule::ToolFilter,
        Some(_) => return Err((DenyKind::Hidden, Rule::ToolFilter)),
        None => rule,
    };
    // 5. One that a rule keeps from this one exists for others.
    let Some(rules) = &server.tool_rules else { return Ok(rule) };
    match rules.access(tool, identity.rule_subject()) {
        ToolAccess::Unruled => Ok(rule),
        ToolAccess::Met(at) => Ok(Rule::ToolRule(at)),
        _ if is_admin_of_all(identity, policy.admin_sees_all) => Ok(Rule::AdminSeesAll),
        ToolAccess::Hidden(at) => Err((DenyKind::Hidden, Rule::ToolRule(at))),
        ToolAccess::Forbidden(at) => Err((DenyKind::ToolForbidden, Rule::ToolRule(at))),
    }
}

/// Whether the rules of servers keep nothing from a caller. `admin_sees_all` is the key of that name.
pub fn is_admin_of_all(identity: &Identity, admin_sees_all: bool) -> bool {
    admin_sees_all && identity.has_role(ADMIN)
}

fn manages(identity: &Identity, what: ManageAsk) -> bool {
    identity.has_role(ADMIN) || what == ManageAsk::Metrics && identity.has_role(METRICS)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
