//! Who may use a server, as the config says it. This is the only reading of that rule.

use std::sync::Arc;

/// Who may use a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// Anyone, without a token.
    Public,
    /// Any valid caller.
    AnyToken,
    /// A valid caller that meets the rule.
    Only {
        /// `authTokens`: names in `proxy.auth.tokens`. `None` admits no token where there is `users`, and leaves the choice to
        /// `roles` where there is none. An empty list admits no token.
        tokens: Option<Vec<Arc<str>>>,
        /// `users`: names in `proxy.auth.users`, in the same way beside `authTokens`.
        users: Option<Vec<Arc<str>>>,
        /// `roles`: the caller must have at least one of them; `None` leaves the choice to the names. An empty list admits
        /// nobody.
        roles: Option<Vec<String>>,
    },
}

/// The part of a config that decides a question. [`RuleLines`](crate::config::RuleLines) has its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// `public` of the server.
    Public,
    /// The server, or the aggregate, has no rule of its own: it is open to any valid caller.
    AnyToken,
    /// `authTokens` of the server.
    AuthTokens,
    /// `users` of the server.
    Users,
    /// `roles` of the server.
    ServerRoles,
    /// `adminSeesAll`, for a caller with the role `admin`.
    AdminSeesAll,
    /// `servers` of the caller.
    OwnServers,
    /// `tags` of the caller.
    OwnTags,
    /// `options.toolFilter` of the server.
    ToolFilter,
    /// The entry of `tools` of the server at this place.
    ToolRule(usize),
    /// `roles` of the caller: `admin`, or `metrics`.
    OwnRoles,
    /// `expires` of the token.
    Expires,
    /// `decoy` of the token.
    Decoy,
    /// `disabled` of the user.
    Disabled,
    /// No line: the token is for another place.
    Audience,
    /// No line: the scope of the token does not reach it.
    Scope,
    /// No line: a credential is needed, and there is none.
    NoCredential,
    /// No line: there is no server of this name.
    NoServer,
}

impl Rule {
    /// What the audit calls it where no line of the config says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::AnyToken => "any_token",
            Self::AuthTokens => "auth_tokens",
            Self::Users => "users",
            Self::ServerRoles => "server_roles",
            Self::AdminSeesAll => "admin_sees_all",
            Self::OwnServers => "own_servers",
            Self::OwnTags => "own_tags",
            Self::ToolFilter => "tool_filter",
            Self::ToolRule(_) => "tool_rule",
            Self::OwnRoles => "own_roles",
            Self::Expires => "expires",
            Self::Decoy => "decoy",
            Self::Disabled => "disabled",
            Self::Audience => "audience",
            Self::Scope => "scope",
            Self::NoCredential => "no_token",
            Self::NoServer => "no_server",
        }
    }
}

/// Opens everything that the gateway says of itself; with `adminSeesAll`, also what the rules of servers close.
pub const ADMIN: &str = "admin";

/// A valid caller, as rules know one.
#[derive(Debug, Clone, Copy)]
pub struct RuleSubject<'a> {
    /// Its name.
    pub name: RuleName<'a>,
    /// Its roles.
    pub roles: &'a [String],
    /// What it is limited to.
    pub limits: &'a CallerLimits,
    /// The scopes that it has; `None` is any.
    pub scopes: Option<&'a [String]>,
}

/// The name that a rule may list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleName<'a> {
    /// Of a token: `authTokens` lists it.
    Token(&'a str),
    /// Of a user: `users` lists it.
    User(&'a str),
    /// No rule lists names of this kind.
    Unlisted,
}

/// `servers` and `tags` of a caller: which of the servers that their rules open to it are left to it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct CallerLimits {
    /// `servers`: only these; `None` is no limit.
    pub servers: Option<Vec<Arc<str>>>,
    /// `tags`: only servers with one of these; `None` is no limit.
    pub tags: Option<Vec<String>>,
}

impl CallerLimits {
    /// No limit.
    pub const ALL: Self = Self { servers: None, tags: None };

    /// The part that leaves the server to the caller, or else the part that does not. Without a limit, there is none.
    fn hold(&self, server: &str, server_tags: &[String]) -> Result<Option<Rule>, Rule> {
        let mut decided = None;
        if let Some(servers) = &self.servers {
            decided = Some(Rule::OwnServers);
            servers.iter().any(|name| **name == *server).then_some(()).ok_or(Rule::OwnServers)?;
        }
        if let Some(tags) = &self.tags {
            decided = Some(Rule::OwnTags);
            tags.iter().any(|tag| server_tags.contains(tag)).then_some(()).ok_or(Rule::OwnTags)?;
        }
        Ok(decided)
    }

    /// What is within both limits.
    pub fn narrowed_by(&self, other: &Self) -> Self {
        Self {
            servers: common(self.servers.as_ref(), other.servers.as_ref()),
            tags: common(self.tags.as_ref(), other.tags.as_ref()),
        }
    }
}

/// What is on both lists, of which one that is not there has everything.
fn common<T: PartialEq + Clone>(one: Option<&Vec<T>>, other: Option<&Vec<T>>) -> Option<Vec<T>> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.iter().filter(|it| other.contains(it)).cloned().collect()),
        (one, other) => one.or(other).cloned(),
    }
}

impl Access {
    /// Whether a valid caller may use the server of this rule, name and tags: the part of the config that lets it in, or else
    /// the part that keeps it out. `admin_sees_all` is the key of that name; the limits of the caller itself hold all the same.
    pub fn decide(
        &self,
        (server, tags): (&str, &[String]),
        caller: RuleSubject<'_>,
        admin_sees_all: bool,
    ) -> Result<Rule, Rule> {
        if *self == Self::Public {
            return Ok(Rule::Public);
        }
        let is_admin = || admin_sees_all && caller.roles.iter().any(|role| role == ADMIN);
        let rule = match self.admits(caller.name, caller.roles) {
            Err(_) if is_admin() => Rule::AdminSeesAll,
            admitted => admitted?,
        };
        Ok(caller.limits.hold(server, tags)?.unwrap_or(rule))
    }

    /// Whether a valid caller with this name and these roles meets the rule.
    fn admits(&self, name: RuleName<'_>, roles: &[String]) -> Result<Rule, Rule> {
        match self {
            Self::Public => Ok(Rule::Public),
            Self::AnyToken => Ok(Rule::AnyToken),
            Self::Only { tokens, users, roles: wanted } => {
                let has = |names: &Option<Vec<Arc<str>>>, name: &str| {
                    names.iter().flatten().any(|listed| **listed == *name)
                };
                let (is_listed, list) = match name {
                    RuleName::Token(name) => (has(tokens, name), Rule::AuthTokens),
                    RuleName::User(name) => (has(users, name), Rule::Users),
                    RuleName::Unlisted => (false, Rule::AuthTokens),
                };
                // The list that is there, if only one is: that is the line that decides.
                let list = match (tokens, users) {
                    (Some(_), None) => Rule::AuthTokens,
                    (None, Some(_)) => Rule::Users,
                    _ => list,
                };
                if !is_listed && (tokens.is_some() || users.is_some()) {
                    return Err(list);
                }
                match wanted {
                    None => Ok(list),
                    Some(wanted) if wanted.iter().any(|role| roles.contains(role)) => Ok(Rule::ServerRoles),
                    Some(_) => Err(Rule::ServerRoles),
                }
            }
        }
    }

    /// A rule that admits nobody whom one of the two keeps out. Of two lists of roles, one role of each would do; the
    /// result asks for one that is in both, so it may admit fewer.
    pub fn narrowed_by(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Public, rule) | (rule, Self::Public) => rule.clone(),
            (Self::AnyToken, rule) | (rule, Self::AnyToken) => rule.clone(),
            (
                Self::Only { tokens, users, roles },
                Self::Only { tokens: other_tokens, users: other_users, roles: other_roles },
            ) => {
                // Where one kind of names is listed, none of the other kind is admitted.
                let full = |own: &Option<Vec<_>>, beside: &Option<Vec<_>>| {
                    own.clone().or_else(|| beside.as_ref().map(|_| Vec::new()))
                };
                let both = |own: &Option<Vec<_>>,
                            beside: &Option<Vec<_>>,
                            other: &Option<Vec<_>>,
                            others: &Option<Vec<_>>| {
                    own.as_ref().or(other.as_ref())?;
                    common(full(own, beside).as_ref(), full(other, others).as_ref())
                };
                Self::Only {
                    tokens: both(tokens, users, other_tokens, other_users),
                    users: both(users, tokens, other_users, other_tokens),
                    roles: common(roles.as_ref(), other_roles.as_ref()),
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
