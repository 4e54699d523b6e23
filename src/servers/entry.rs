//! A server of the config at run time, and who may use it.

use std::{sync::Arc, time::Duration};

use crate::{
    child::Supervisor,
    config::{Access, InlineTarget, Server, ToolRules, UpstreamAuth},
    credentials::{ServerCredentials, Vault},
    error::{Error, ErrorKind},
    identity::{Caller, Identity, Principal, Proof, Standing, credential_key::CredentialKey},
    ledger::RateMeter,
    link::inline::InlineServer,
    observe::{Health, Observer, ServerMetrics},
    policy::{
        decide::{Ask, Policy, decide, is_admin_of_all, is_allowed_to_client},
        tools::{ToolView, meets_rules},
    },
    servers::{
        KeyHolders, RunState, SharedLinks,
        backend::{Backend, Origins},
    },
    upstream::Unusable,
};

/// How long a session of a decoy may lie idle. There are few, and whoever has one is to come back.
const DECOY_IDLE: Duration = Duration::from_secs(60);

/// A server: where requests for it go, and who may send them.
pub struct ServerEntry {
    /// As configured.
    pub server: Server,
    /// What is behind it.
    pub backend: Backend,
    /// By slot of the caller: whether it may pass. Unused where `is_public`.
    allowed: Vec<bool>,
    /// By slot of the caller: whether it meets every rule for tools of the server. Empty where there is none.
    meets_tool_rules: Vec<bool>,
    /// `adminSeesAll` of the config.
    admin_sees_all: bool,
    /// Whether no credential is asked for.
    pub is_public: bool,
    /// Who may ever have used a server of this name.
    pub callers: PastCallers,
    /// Counters of this server.
    pub metrics: Arc<ServerMetrics>,
    /// Whether it is to run. Survives reloads.
    pub run_state: Arc<RunState>,
    /// How often requests for it come. Survives reloads.
    pub request_rate: Arc<RateMeter>,
    /// How it fared last. Survives reloads.
    pub health: Arc<Health>,
    /// Conversations that callers share. Survives reloads that leave the server as it was.
    pub shared_links: Arc<SharedLinks>,
    /// With whose credentials it is called, where those are not of the config. Survives reloads that leave them as they were.
    pub credentials: Option<Arc<ServerCredentials>>,
    /// With whose credentials something was begun. Survives reloads.
    pub key_holders: Arc<KeyHolders>,
}

impl ServerEntry {
    /// The entry of `server`. What the config left as it was is taken over from `kept`, the entry of this name before.
    /// `before` are those who may have used a server of this name up to now. What is decided by `policy` is kept: the end of a
    /// credential, which is looked at with each request, is no part of it.
    pub fn build(
        server: &Server,
        kept: Option<&Arc<Self>>,
        before: PastCallers,
        identities: &[Arc<Identity>],
        policy: &Policy<'_>,
        origins: &mut Origins<'_>,
        (observer, vault): (&Arc<Observer>, &Arc<Vault>),
    ) -> Result<Self, Unusable> {
        let same =
            kept.filter(|entry| entry.goes_on_as(server) && entry.server.idle_timeout == server.idle_timeout);
        let same_backend = kept.filter(|entry| {
            let kept = &entry.server;
            kept.target == server.target && kept.disabled == server.disabled && kept.is_called_like(server)
        });
        let ask = Ask::Server(&server.name);
        let allowed: Vec<_> =
            identities.iter().map(|identity| decide(policy, identity, &ask).is_allow()).collect();
        let admin_sees_all = policy.admin_sees_all;
        let meets_rules = |rules: &Arc<ToolRules>| {
            identities.iter().map(|identity| meets_rules(rules, identity, admin_sees_all)).collect()
        };
        let metrics =
            kept.map_or_else(|| observer.metrics.server(&server.name), |entry| Arc::clone(&entry.metrics));
        let health = Arc::clone(&metrics.health);
        Ok(Self {
            backend: Backend::of(
                server,
                same_backend.map(|entry| &entry.backend),
                origins,
                observer,
                &health,
            )?,
            is_public: server.access == Access::Public,
            callers: PastCallers::of(server, identities, &allowed, before),
            allowed,
            meets_tool_rules: server.tool_rules.as_ref().map(meets_rules).unwrap_or_default(),
            admin_sees_all,
            metrics,
            run_state: match kept.filter(|entry| entry.server.disabled == server.disabled) {
                Some(entry) => Arc::clone(&entry.run_state),
                None => Arc::new(RunState::new(server.disabled)),
            },
            request_rate: kept.map(|entry| Arc::clone(&entry.request_rate)).unwrap_or_default(),
            health,
            shared_links: same.map(|entry| Arc::clone(&entry.shared_links)).unwrap_or_default(),
            credentials: server.upstream_auth.as_ref().map(|config| {
                let kept = kept.and_then(|entry| entry.credentials.as_ref());
                ServerCredentials::build(server, config, kept, vault)
            }),
            key_holders: kept.map(|entry| Arc::clone(&entry.key_holders)).unwrap_or_default(),
            server: server.clone(),
        })
    }

    /// The entry of all servers as one, for any caller that is no decoy. What callers share is taken over from `kept`, the entry
    /// before, if it was for the same settings.
    pub fn all(
        session_timeout: Duration,
        identities: &[Arc<Identity>],
        metrics: Arc<ServerMetrics>,
        request_rate: Arc<RateMeter>,
        kept: Option<&Self>,
    ) -> Self {
        let same = kept.filter(|entry| entry.server.idle_timeout == session_timeout);
        let allowed = identities.iter().map(|identity| !identity.is_decoy).collect();
        Self {
            request_rate,
            shared_links: same.map(|entry| Arc::clone(&entry.shared_links)).unwrap_or_default(),
            ..Self::of_gateway(Server::all(session_timeout), Backend::All, allowed, metrics)
        }
    }

    /// The server that answers decoys in place of every other: it is called `name`, and has nothing.
    pub fn decoy(name: &str, identities: &[Arc<Identity>], observer: &Arc<Observer>) -> Self {
        let server = Server { name: Server::DECOY.into(), ..Server::all(DECOY_IDLE) };
        let health = Arc::<Health>::default();
        let (observer, metrics) = (Arc::clone(observer), Arc::clone(&observer.other));
        let inline = InlineServer::new(name.into(), InlineTarget::default(), observer, Arc::clone(&health));
        let allowed = identities.iter().map(|identity| identity.is_decoy).collect();
        Self { health, ..Self::of_gateway(server, Backend::Inline(Arc::new(inline)), allowed, metrics) }
    }

    /// A server that is none of the config, and has no rules.
    fn of_gateway(server: Server, backend: Backend, allowed: Vec<bool>, metrics: Arc<ServerMetrics>) -> Self {
        Self {
            server,
            backend,
            allowed,
            meets_tool_rules: Vec::new(),
            admin_sees_all: false,
            is_public: false,
            callers: PastCallers::Several,
            metrics,
            run_state: Arc::default(),
            request_rate: Arc::default(),
            health: Arc::default(),
            shared_links: Arc::default(),
            credentials: None,
            key_holders: Arc::default(),
        }
    }

    /// Whether this is the server that answers decoys.
    pub fn is_decoy(&self) -> bool {
        &*self.server.name == Server::DECOY
    }

    /// Whether what was begun with this goes on where the config has `server` in its place. Who may use it, and which of its
    /// tools, is asked anew of whatever goes on.
    pub fn goes_on_as(&self, server: &Server) -> bool {
        self.server.serves_like(server)
    }

    /// Lets the server run. What failed before is forgotten.
    pub fn start(&self) {
        self.run_state.start();
        if let Backend::Stdio(supervisors) = &self.backend {
            supervisors.each(Supervisor::allow);
        }
        self.health.forget();
    }

    /// Ends what was begun with the server: conversations that callers share, its sessions by `close_sessions`, and processes.
    pub fn end(&self, cause: EndCause<'_>, close_sessions: impl FnOnce()) {
        // First, so that what ends can see why.
        match cause {
            EndCause::Stopped => self.run_state.stop(),
            // Never stopped in between: a request that comes at this moment is not refused.
            EndCause::Restarted => self.run_state.restart(),
            EndCause::Replaced(_) => self.run_state.begin_epoch(),
        }
        if !matches!(cause, EndCause::Stopped) {
            // What failed before says nothing of what comes now.
            self.health.forget();
        }
        self.shared_links.clear();
        close_sessions();
        let Backend::Stdio(supervisors) = &self.backend else { return };
        let keeps =
            |new: &Self| matches!(&new.backend, Backend::Stdio(kept) if Arc::ptr_eq(kept, supervisors));
        match cause {
            EndCause::Replaced(Some(new)) if keeps(new) => {}
            EndCause::Stopped | EndCause::Replaced(_) => supervisors.each(Supervisor::stop),
            EndCause::Restarted => supervisors.each(Supervisor::renew),
        }
    }

    /// A request failed. That one caller's credential is refused, or cannot be got, says nothing of the server.
    pub fn failed_by(&self, error: &Error) {
        let is_of_credential =
            matches!(error.kind, ErrorKind::UpstreamUnauthorized | ErrorKind::UpstreamAuthUnavailable);
        if is_of_credential && self.credentials.is_some() {
            self.health.note(error.cause.as_deref().unwrap_or_else(|| error.kind.code()));
        } else {
            self.health.failed_by(error);
        }
    }

    /// Whether it takes requests, and was able to when it was tried last.
    pub fn is_running(&self) -> bool {
        !self.run_state.is_stopped() && !self.health.is_failing()
    }

    /// Which credential the server is called with for a principal.
    pub fn credential_key(&self, principal: &Principal) -> CredentialKey {
        self.credentials.as_ref().map_or(CredentialKey::STATIC, |credentials| credentials.key(principal))
    }

    /// Ends what goes on with a credential whose owner has another by now, or none: conversations that callers share, and
    /// processes. Requests and sessions end by their admission. Must be called within a runtime.
    pub fn end_lost_credentials(&self) {
        let Some(credentials) = &self.credentials else { return };
        for key in self.key_holders.take_lost(|principal| credentials.key(principal)) {
            self.shared_links.end_of(key);
            if let Backend::Stdio(supervisors) = &self.backend {
                supervisors.end(key);
            }
        }
    }

    /// Whether the server was never there for more than one token name, so that whatever it kept of a caller is this one's.
    pub fn has_no_strangers(&self) -> bool {
        matches!(self.callers, PastCallers::One(_))
    }

    /// Whether the caller may use the server: what [`decide`] said when the config was read, and what was allowed to a client.
    pub fn admits(&self, caller: &Caller) -> bool {
        self.is_public || self.opens_to(caller) && self.is_allowed(&caller.identity)
    }

    /// The same where the server is one behind all servers as one, which is the place that a token has to be for.
    pub fn admits_as_member(&self, caller: &Caller) -> bool {
        self.is_public || self.opens_to(caller) && self.is_allowed_as_member(&caller.identity)
    }

    /// Whether the server can be called for the caller at all. One that takes what is made of a token of another issuer is called for who
    /// has brought such a token, and not by one that another program of theirs brought.
    pub fn has_subject(&self, caller: &Caller) -> bool {
        let exchanges = |credentials: &Arc<ServerCredentials>| {
            matches!(**credentials.config(), UpstreamAuth::Exchange(_))
        };
        !self.credentials.as_ref().is_some_and(exchanges)
            || matches!(caller.identity.proof, Proof::Foreign(_))
    }

    /// Whether rules let the caller use the server, if it is not public.
    fn opens_to(&self, caller: &Caller) -> bool {
        match &caller.standing {
            Standing::Nobody => false,
            Standing::Named(slot) => self.allows(*slot),
            Standing::Foreign(_) => self.allows_identity(&caller.identity),
        }
    }

    /// The same for somebody whom the config does not have, of whom nothing is kept: what was allowed to it is not looked at.
    pub fn allows_identity(&self, identity: &Identity) -> bool {
        let admits = |subject| self.server.admits(subject, self.admin_sees_all).is_ok();
        match &self.backend {
            Backend::All => true,
            _ => !self.is_decoy() && identity.rule_subject().is_some_and(admits),
        }
    }

    /// Whether what was allowed to a client, if one acts, is this server.
    pub fn is_allowed(&self, identity: &Identity) -> bool {
        is_allowed_to_client(identity, &Ask::server(&self.server.name), Some(&self.server))
    }

    /// The same where the server is one behind all servers as one.
    pub fn is_allowed_as_member(&self, identity: &Identity) -> bool {
        is_allowed_to_client(identity, &Ask::Member(&self.server.name), Some(&self.server))
    }

    /// Which tools there are for a caller; `None` is all of them.
    pub fn tool_view(&self, caller: &Caller) -> Option<ToolView> {
        let is_met = |slot: usize| self.meets_tool_rules.get(slot).copied().unwrap_or(false);
        // Of a client, its scopes alone are to be looked at: what else rules ask for, whoever it acts for has.
        let has_all = |rules: &Arc<ToolRules>| {
            caller.standing.slot().is_some_and(is_met)
                && rules.are_in_scope_of(caller.identity.rule_subject())
        };
        match self.server.tool_rules.as_ref().is_none_or(has_all) {
            true => ToolView::of_all(&self.server),
            false => self.tool_view_as(&caller.identity),
        }
    }

    /// The same for `identity`, which may have a slot or none.
    pub fn tool_view_as(&self, identity: &Arc<Identity>) -> Option<ToolView> {
        ToolView::of(&self.server, identity, self.admin_sees_all)
    }

    /// Whether `identity` may use every tool that `other` may use.
    pub fn tools_cover(&self, identity: &Identity, other: &Identity) -> bool {
        let is_admin = |identity| is_admin_of_all(identity, self.admin_sees_all);
        let covers = |rules: &Arc<ToolRules>| {
            meets_rules(rules, identity, self.admin_sees_all)
                // An admin had the tools of rules that it did not meet.
                || !is_admin(other)
                    && !is_admin(identity)
                    && rules.cover(identity.rule_subject(), other.rule_subject())
                // Both pass all but scopes.
                || is_admin(identity) && rules.cover_scopes(identity.rule_subject(), other.rule_subject())
        };
        self.server.tool_rules.as_ref().is_none_or(covers)
    }

    /// Whether the caller at this index may use the server, if it is not public.
    pub fn allows(&self, slot: usize) -> bool {
        self.allowed.get(slot).copied().unwrap_or(false)
    }
}

/// Why what was begun with a server ends.
#[derive(Clone, Copy)]
pub enum EndCause<'a> {
    /// It was stopped by hand.
    Stopped,
    /// It was restarted by hand.
    Restarted,
    /// The config has another server of this name, or none. What did not change goes on: the same processes.
    Replaced(Option<&'a ServerEntry>),
}

/// Who may have used a server of some name since the gateway was started: reloads add to it, also while there is none.
#[derive(Clone, Default)]
pub enum PastCallers {
    /// Nobody.
    #[default]
    None,
    /// One principal.
    One(Principal),
    /// Several, or anybody.
    Several,
}

impl PastCallers {
    fn and(self, principal: &Principal) -> Self {
        match self {
            Self::None => Self::One(principal.clone()),
            Self::One(known) if known == *principal => Self::One(known),
            Self::One(_) | Self::Several => Self::Several,
        }
    }

    /// Those of before, and those whom `server` allows now.
    fn of(server: &Server, identities: &[Arc<Identity>], allowed: &[bool], before: Self) -> Self {
        if server.access == Access::Public {
            return Self::Several;
        }
        let allowed = identities.iter().zip(allowed).filter(|(_, is_allowed)| **is_allowed);
        allowed.fold(before, |callers, (identity, _)| callers.and(&identity.principal))
    }
}
