//! Which tools of a server there are for a caller: what lists and calls ask, on every path. It says what
//! [`decide`](super::decide) says of a caller who may use the server.

use std::sync::Arc;

use crate::{
    config::{RuleSubject, Server, ToolAccess, ToolFilter, ToolRules},
    error::Error,
    identity::Identity,
    policy::decide::is_admin_of_all,
};

/// The tools of one server, as one caller may use them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolView {
    filter: Option<Arc<ToolFilter>>,
    rules: Option<(Arc<ToolRules>, Arc<Identity>)>,
    /// It passes the rules, but for their scopes.
    is_admin_of_all: bool,
}

/// Whether a caller has every tool that rules are about. An admin of all passes them, but for scopes: what a client was not
/// allowed is not the role's to give.
pub fn meets_rules(rules: &ToolRules, identity: &Identity, admin_sees_all: bool) -> bool {
    rules.are_met_by(identity.rule_subject())
        || is_admin_of_all(identity, admin_sees_all) && identity.allowed.is_none()
}

/// What becomes of a call.
#[derive(Debug)]
pub enum ToolCall {
    /// The server gets it.
    Passes,
    /// It is answered as by a server that does not have the tool.
    Hidden,
    /// It is refused.
    Forbidden(Error),
}

impl ToolView {
    /// What the filter leaves, for callers that meet every rule.
    pub fn of_all(server: &Server) -> Option<Self> {
        server.tool_filter.clone().map(|filter| Self {
            filter: Some(filter),
            rules: None,
            is_admin_of_all: false,
        })
    }

    /// What there is for `identity`. `None` is everything.
    pub fn of(server: &Server, identity: &Arc<Identity>, admin_sees_all: bool) -> Option<Self> {
        let applies = |rules: &&Arc<ToolRules>| !meets_rules(rules, identity, admin_sees_all);
        match server.tool_rules.as_ref().filter(applies) {
            None => Self::of_all(server),
            Some(rules) => {
                let rules = Some((Arc::clone(rules), Arc::clone(identity)));
                let is_admin_of_all = is_admin_of_all(identity, admin_sees_all);
                Some(Self { filter: server.tool_filter.clone(), rules, is_admin_of_all })
            }
        }
    }

    /// Whether there are tools that no caller has.
    pub fn has_filter(&self) -> bool {
        self.filter.is_some()
    }

    /// Whether the tool is listed.
    pub fn lists(&self, tool: &str) -> bool {
        self.passes_filter(tool) && !matches!(self.ruled(tool, None), ToolAccess::Hidden(_))
    }

    /// Whether the tool may be called.
    pub fn may_call(&self, tool: &str) -> bool {
        self.passes_filter(tool) && matches!(self.ruled(tool, None), ToolAccess::Unruled | ToolAccess::Met(_))
    }

    /// What becomes of a call of the tool. `by` is who makes it, where that is not who this is for: scopes hide no tool, so it is the
    /// caller's that count.
    pub fn call(&self, tool: &str, by: Option<&Identity>) -> ToolCall {
        if !self.passes_filter(tool) {
            return ToolCall::Hidden;
        }
        match (self.ruled(tool, by), &self.rules) {
            (ToolAccess::Forbidden(at), Some((rules, _))) => {
                let requirement = rules.get(at).map(|rule| rule.requirement());
                ToolCall::Forbidden(Error::tool_forbidden(requirement.unwrap_or_default()))
            }
            (ToolAccess::OutOfScope(_), Some((rules, identity))) => {
                let scope = by.unwrap_or(identity).scope_with(rules.scopes(tool));
                ToolCall::Forbidden(Error::out_of_scope(scope))
            }
            (ToolAccess::Unruled | ToolAccess::Met(_), _) => ToolCall::Passes,
            _ => ToolCall::Hidden,
        }
    }

    fn passes_filter(&self, tool: &str) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.passes(tool))
    }

    fn ruled(&self, tool: &str, by: Option<&Identity>) -> ToolAccess {
        let access = self.rules.as_ref().map_or(ToolAccess::Unruled, |(rules, identity)| {
            let subject = identity.rule_subject().map(|of| match by {
                Some(by) => RuleSubject { scopes: by.rule_subject().and_then(|by| by.scopes), ..of },
                None => of,
            });
            rules.access(tool, subject)
        });
        match access {
            ToolAccess::Hidden(at) | ToolAccess::Forbidden(at) if self.is_admin_of_all => ToolAccess::Met(at),
            access => access,
        }
    }
}
