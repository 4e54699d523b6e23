//! Servers that ask somebody for an account of theirs, and how it stands with it.

use std::{sync::Arc, time::SystemTime};

use super::browser::Browser;
use crate::{
    config::UpstreamAuth,
    credentials::ServerCredentials,
    error::Error,
    identity::{
        Identity,
        login::{
            grants::PageLogin,
            upstream::{UpstreamOwner, UpstreamRow, UpstreamState},
        },
    },
    pages::{AccountAction, AccountState, Moment, Service, Shown, ShownAccount},
    policy::decide::Ask,
    servers::ServerEntry,
    state::Live,
};

/// The account of somebody at a server that they may use, or that of all.
pub(super) struct Account<'a> {
    pub(super) entry: &'a ServerEntry,
    pub(super) credentials: &'a Arc<ServerCredentials>,
    pub(super) owner: UpstreamOwner,
}

/// How it stands with one.
pub(super) struct Stand {
    pub(super) state: AccountState,
    /// Which account it is, or how the token ends.
    who: Option<String>,
    scopes: Vec<String>,
    /// What is to be asked for again.
    wanted: Vec<String>,
    since: Option<SystemTime>,
    ends: Option<SystemTime>,
}

impl<'a> Account<'a> {
    /// That of whoever is signed in. `None`: there is no such server, or none that they may use or connect.
    pub(super) fn of(browser: &Browser<'a>, login: &PageLogin, server: &str) -> Option<Self> {
        let live = browser.request.live;
        let identity = live.identity_of(&login.principal, login.fingerprint)?;
        Self::at(live.entries.get(server)?, browser, login, &identity)
    }

    /// All of whoever is signed in, in the order of the config.
    pub(super) fn all(browser: &Browser<'a>, login: &PageLogin) -> Vec<Self> {
        let live = browser.request.live;
        let Some(identity) = live.identity_of(&login.principal, login.fingerprint) else { return Vec::new() };
        live.servers.iter().filter_map(|entry| Self::at(entry, browser, login, &identity)).collect()
    }

    fn at(
        entry: &'a ServerEntry,
        browser: &Browser<'a>,
        login: &PageLogin,
        identity: &Identity,
    ) -> Option<Self> {
        let credentials = entry.credentials.as_ref()?;
        if !may_use(browser.request.live, identity, &entry.server.name) {
            return None;
        }
        let owner = match &**credentials.config() {
            UpstreamAuth::UserOauth(_) | UpstreamAuth::UserToken(_) => {
                UpstreamOwner::Principal(login.principal.clone())
            }
            UpstreamAuth::SharedOauth(_) if browser.is_admin(login) => UpstreamOwner::Everyone,
            UpstreamAuth::SharedOauth(_)
            | UpstreamAuth::ClientCredentials(_)
            | UpstreamAuth::Exchange(_)
            | UpstreamAuth::Passthrough(_) => return None,
        };
        Some(Self { entry, credentials, owner })
    }

    pub(super) fn name(&self) -> &'a str {
        &self.entry.server.name
    }

    pub(super) fn service(&self) -> Service<'a> {
        service(self.entry, self.credentials)
    }

    /// Where somebody connects it.
    pub(super) fn target(&self) -> String {
        format!("/oauth/authorize?server_id={}", self.name())
    }

    pub(super) async fn stand(&self) -> Result<Stand, Error> {
        Stand::of(self.credentials, &self.owner).await
    }
}

/// A server, as pages name it.
pub(super) fn service<'a>(entry: &'a ServerEntry, credentials: &'a ServerCredentials) -> Service<'a> {
    let config = &**credentials.config();
    let name = config.shown().map(|shown| &*shown.display_name).filter(|name| !name.is_empty());
    Service {
        name: Shown::name(name.unwrap_or(&entry.server.name)),
        server: &entry.server.name,
        is_shared: matches!(config, UpstreamAuth::SharedOauth(_)),
    }
}

/// At its own place, or as one of all servers.
fn may_use(live: &Live, identity: &Identity, server: &str) -> bool {
    [Ask::Server(server), Ask::Member(server)].iter().any(|ask| live.decide(identity, ask).is_allow())
}

fn state_of(state: UpstreamState) -> AccountState {
    match state {
        UpstreamState::Connected => AccountState::Connected,
        UpstreamState::Reconnect => AccountState::Reconnect,
        UpstreamState::NeedsScopes => AccountState::NeedsScopes,
    }
}

impl Stand {
    pub(super) async fn of(credentials: &ServerCredentials, owner: &UpstreamOwner) -> Result<Self, Error> {
        let is_token = matches!(&**credentials.config(), UpstreamAuth::UserToken(_));
        let known = credentials.state(owner).await.map_err(|_| Error::logins_not_kept())?;
        let state = match known.is {
            None if is_token => AccountState::AwaitingToken,
            None => AccountState::Awaiting,
            Some(state) => state_of(state),
        };
        let tail = known.tail.map(|tail| format!("…{tail}"));
        Ok(Self {
            state,
            wanted: known.wanted,
            who: known.account.map(Into::into).or(tail),
            scopes: known.scopes,
            since: known.since,
            ends: known.ends,
        })
    }

    /// What an operator sees of it.
    pub(super) fn of_row(row: &UpstreamRow) -> Self {
        let (wanted, scopes) = (Vec::new(), Vec::new());
        // When the next token is due is nothing that an operator acts by.
        Self { state: state_of(row.state), wanted, who: None, scopes, since: Some(row.since), ends: None }
    }

    /// Whether the server is called with it.
    pub(super) fn is_connected(&self) -> bool {
        self.state == AccountState::Connected
    }

    /// What is to be asked for again.
    pub(super) fn wanted(self) -> Vec<String> {
        self.wanted
    }

    /// Whether there is something that can be disconnected.
    pub(super) fn is_there(&self) -> bool {
        self.since.is_some()
    }

    /// What a page shows of it.
    pub(super) fn shown<'s>(
        &'s self,
        service: Service<'s>,
        owner: &UpstreamOwner,
        of: &'s str,
        scopes: &'s str,
        target: Option<String>,
        disconnect: Option<&'s str>,
    ) -> ShownAccount<'s> {
        ShownAccount {
            anchor: None,
            service,
            of: Shown::name(of),
            owner: owner.to_string(),
            state: self.state,
            who: self.who.as_deref().map(Shown::name),
            scopes: (!scopes.is_empty()).then_some(Shown::text(scopes)),
            since: self.since.map(Moment),
            ends: self.ends.map(Moment),
            action: target.zip(self.state.button()).map(|(target, button)| AccountAction { target, button }),
            disconnect,
        }
    }

    pub(super) fn scopes(&self) -> String {
        self.scopes.join(" ")
    }
}
