//! Who may do what: the one decision, which requests, lists, calls, the aggregate, management and `sluicegate explain`
//! ask. It is pure: it knows no connection and no clock, and keeps nothing.
//!
//! The order is part of it: whoever has no valid token does not learn what exists (401 before 404 before 403).

use std::{sync::Arc, time::SystemTime};

use crate::{
    config::{ADMIN, Access, Rule, ScopeWord, Server, Snapshot, ToolAccess},
    error::{Error, ErrorKind},
    identity::{Allowed, Identity, audience::Place, scope::Scope},
};

/// Opens what Prometheus scrapes.
const METRICS: &str = "metrics";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask<'a> {
    /// A server of the config.
    Server(&'a str),
    /// A server behind all servers as one, which are the place where it is asked for.
    Member(&'a str),
    /// A tool of one, to list or to call it.
    Tool {
        /// Name of the server.
        server: &'a str,
        /// The server's own name for the tool.
        name: &'a str,
    },
    /// The same of a server behind all servers as one.
    MemberTool {
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

    /// The place where it is asked for.
    fn place(self) -> Place<'a> {
        match self {
            Self::Server(name) | Self::Tool { server: name, .. } => Place::Server(name),
            Self::Aggregate | Self::Member(_) | Self::MemberTool { .. } => Place::All,
            Self::Manage(_) => Place::Gateway,
        }
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
#[derive(Debug, Clone, PartialEq, Eq)]
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
        /// The scope that would do. `None` if no scope would: so for whoever comes by a credential of the config.
        scope_needed: Option<Box<str>>,
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
    /// 403: it takes another scope.
    OutOfScope,
}

impl From<DenyKind> for ErrorKind {
    fn from(kind: DenyKind) -> Self {
        match kind {
            DenyKind::Unauthenticated => Self::Unauthorized,
            DenyKind::InvalidToken => Self::InvalidToken,
            DenyKind::Forbidden | DenyKind::OutOfScope => Self::InsufficientScope,
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
    pub fn into_result(self) -> Result<(), Error> {
        match self {
            Self::Allow { .. } => Ok(()),
            Self::Deny { scope_needed: Some(scope), .. } => Err(Error::out_of_scope(scope)),
            Self::Deny { kind, .. } => Err(ErrorKind::from(kind).into()),
        }
    }
}

/// Whether `identity` may have what it asks for.
pub fn decide(policy: &Policy<'_>, identity: &Identity, ask: &Ask<'_>) -> Decision {
    match decided(policy, identity, ask) {
        Ok(rule) => Decision::Allow { rule },
        Err((kind, rule, scope_needed)) => Decision::Deny { kind, scope_needed, rule },
    }
}

type Refusal = (DenyKind, Rule, Option<Box<str>>);

fn decided(policy: &Policy<'_>, identity: &Identity, ask: &Ask<'_>) -> Result<Rule, Refusal> {
    let no = |kind, rule| Err((kind, rule, None));
    let (server, tool) = match *ask {
        Ask::Server(name) | Ask::Member(name) => (policy.servers.server(name), None),
        Ask::Tool { server, name } | Ask::MemberTool { server, name } => {
            (policy.servers.server(server), Some(name))
        }
        Ask::Aggregate | Ask::Manage(_) => (None, None),
    };
    // 1. A public server asks for no credential, and ignores one.
    let rule = if server.is_some_and(|server| server.access == Access::Public) {
        Rule::Public
    } else {
        // 2. Whoever has no valid one learns nothing else.
        let Some(caller) = identity.rule_subject() else {
            return no(DenyKind::Unauthenticated, Rule::NoCredential);
        };
        // 3. Nor does one whom the config lets in no more.
        if identity.is_disabled {
            return no(DenyKind::InvalidToken, Rule::Disabled);
        }
        if policy.now.is_some_and(|now| !identity.is_valid_at(now)) {
            return no(DenyKind::InvalidToken, Rule::Expires);
        }
        // 4. A token for another place is none here: its client is to ask for one of this place.
        if !identity.is_for(ask.place()) {
            return no(DenyKind::InvalidToken, Rule::Audience);
        }
        // A decoy may have nothing. Whoever asks for a server gets an empty one in its place.
        if identity.is_decoy {
            return no(DenyKind::Forbidden, Rule::Decoy);
        }
        // 5. The rule of what is asked for.
        let rule = match (ask, server) {
            (Ask::Aggregate, _) => Rule::AnyToken,
            (Ask::Manage(what), _) if manages(identity, *what) => Rule::OwnRoles,
            (Ask::Manage(_), _) => return no(DenyKind::Forbidden, Rule::OwnRoles),
            (_, None) => return no(DenyKind::NotFound, Rule::NoServer),
            (_, Some(server)) => server
                .admits(caller, policy.admin_sees_all)
                .map_err(|rule| (DenyKind::Forbidden, rule, None))?,
        };
        // 6. The scope.
        if let Some(needed) = lacks_scope(identity, ask, server) {
            return Err((DenyKind::OutOfScope, Rule::Scope, Some(needed)));
        }
        rule
    };
    let Some((server, tool)) = server.zip(tool) else { return Ok(rule) };
    // 7. A tool that the filter hides exists for no caller.
    let rule = match &server.tool_filter {
        Some(filter) if filter.passes(tool) => Rule::ToolFilter,
        Some(_) => return no(DenyKind::Hidden, Rule::ToolFilter),
        None => rule,
    };
    // One that a rule keeps from this one exists for others.
    let Some(rules) = &server.tool_rules else { return Ok(rule) };
    match rules.access(tool, identity.rule_subject()) {
        ToolAccess::Unruled => Ok(rule),
        ToolAccess::Met(at) => Ok(Rule::ToolRule(at)),
        // What a client was not allowed is not the role's to give.
        ToolAccess::OutOfScope(at) => {
            let needed = identity.scope_with(rules.scopes(tool));
            Err((DenyKind::OutOfScope, Rule::ToolRule(at), Some(needed)))
        }
        _ if is_admin_of_all(identity, policy.admin_sees_all) => Ok(Rule::AdminSeesAll),
        ToolAccess::Hidden(at) => no(DenyKind::Hidden, Rule::ToolRule(at)),
        ToolAccess::Forbidden(at) => no(DenyKind::ToolForbidden, Rule::ToolRule(at)),
    }
}

/// Whether what is asked for is of what a client was allowed, if one acts: steps 4 and 6, which are left where the answer for whom it
/// acts for is kept. `server` is the one that is asked for, if it is one.
pub fn is_allowed_to_client(identity: &Identity, ask: &Ask<'_>, server: Option<&Server>) -> bool {
    let is_in_scope = |allowed: &Arc<Allowed>| is_in_scope(&allowed.scope, ask, server);
    identity.is_for(ask.place()) && identity.allowed.as_ref().is_none_or(is_in_scope)
}

/// Whether a scope reaches what is asked for.
fn is_in_scope(scope: &Scope, ask: &Ask<'_>, server: Option<&Server>) -> bool {
    match (ask, server) {
        (Ask::Manage(_), _) => scope.is_all(),
        (Ask::Aggregate, _) | (_, None) => scope.covers_some(),
        (_, Some(server)) => scope.covers_server(&server.name, &server.tags),
    }
}

/// The scope that it takes, if that of the identity does not reach what it asks for.
fn lacks_scope(identity: &Identity, ask: &Ask<'_>, server: Option<&Server>) -> Option<Box<str>> {
    let held = &identity.allowed.as_ref()?.scope;
    let needed = || match (ask, server) {
        (Ask::Aggregate | Ask::Manage(_), _) | (_, None) => held.with([ScopeWord::ALL]),
        (_, Some(server)) => held.with([&*ScopeWord::Server(&server.name).to_string()]),
    };
    (!is_in_scope(held, ask, server)).then(|| needed().into())
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
