//! What is kept of credentials for servers: whose, for which server, and how they are found.

use std::{
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::identity::principal::{InvalidPrincipal, Principal};

/// Bytes of a body at most.
pub const LONGEST_BODY: usize = 32 * 1024;
/// Credentials of one principal at most. Those of everyone are as many as there are servers.
pub(super) const MOST_OF_ONE: usize = 100;
/// Of all.
pub(super) const MOST: usize = 100_000;
/// Flows of one principal at most: one more pushes out the oldest.
pub(super) const MOST_FLOWS_OF_ONE: usize = 20;
/// Of all.
pub(super) const MOST_FLOWS: usize = 10_000;
/// Registered clients at most.
pub(super) const MOST_CLIENTS: usize = 1_000;
/// How long a lock holds that nobody gives back.
pub(super) const LOCKED: Duration = Duration::from_secs(60);

/// Whose a credential for a server is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UpstreamOwner {
    /// All who may use the server.
    Everyone,
    /// This principal's.
    Principal(Principal),
}

/// `everyone`, else as the principal is written.
impl fmt::Display for UpstreamOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everyone => f.write_str("everyone"),
            Self::Principal(principal) => principal.fmt(f),
        }
    }
}

impl FromStr for UpstreamOwner {
    type Err = InvalidPrincipal;

    fn from_str(text: &str) -> Result<Self, InvalidPrincipal> {
        match text {
            "everyone" => Ok(Self::Everyone),
            _ => text.parse().map(Self::Principal),
        }
    }
}

/// What can be done with a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamState {
    /// It is used.
    Connected,
    /// The issuer takes it no more: its owner has to connect again.
    Reconnect,
    /// The server wants scopes that it does not have: its owner has to connect again.
    NeedsScopes,
}

impl UpstreamState {
    /// As lists, metrics and the file name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Reconnect => "reconnect",
            Self::NeedsScopes => "needs_scopes",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::Connected, Self::Reconnect, Self::NeedsScopes].into_iter().find(|state| state.name() == name)
    }
}

/// How many credentials there are for each server in each state.
pub type UpstreamCounts = Vec<(Arc<str>, UpstreamState, usize)>;

/// A credential for a server. All but the body stands open in the file.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamRow {
    /// Whose it is.
    pub owner: UpstreamOwner,
    /// Name of the server.
    pub server: Arc<str>,
    /// What can be done with it.
    pub state: UpstreamState,
    /// What it is: what its reader and writer has made of it. Empty in lists.
    pub body: Zeroizing<Vec<u8>>,
    /// Another one after each change. Those of one connection count up, another connection begins elsewhere.
    pub version: u64,
    /// When its owner connected, to the millisecond.
    pub since: SystemTime,
    /// When it was written last, to the millisecond.
    pub changed: SystemTime,
    /// When what is sent to the server ends, if it does.
    pub ends: Option<SystemTime>,
}

/// Never the body.
impl fmt::Debug for UpstreamRow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamRow({} at {}, {:?}, {})", self.owner, self.server, self.state, self.version)
    }
}

/// A credential as it is kept.
#[derive(Debug, Clone)]
pub(super) struct KeptUpstream {
    pub(super) row: UpstreamRow,
    /// Until then one of all processes refreshes it.
    pub(super) locked_until: SystemTime,
}

/// What waits for somebody who is at an issuer.
#[derive(Clone)]
pub(super) struct KeptFlow {
    pub(super) principal: Principal,
    pub(super) ends: SystemTime,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// How the gateway is registered at an issuer, for one server.
#[derive(Clone)]
pub(super) struct KeptClient {
    pub(super) server: Arc<str>,
    pub(super) issuer: Arc<str>,
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// By which a row is found: a SHA-256 over its two names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct PairId(pub(super) [u8; 32]);

impl PairId {
    pub(super) fn of(one: &str, other: &str) -> Self {
        let length = (one.len() as u64).to_be_bytes();
        Self(Sha256::new().chain_update(length).chain_update(one).chain_update(other).finalize().into())
    }

    /// That of a credential.
    pub(super) fn of_credential(owner: &UpstreamOwner, server: &str) -> Self {
        Self::of(&owner.to_string(), server)
    }
}

/// What is to be kept or read cannot be written or read at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreDown;

/// Why something is not kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotKept {
    /// It cannot be written at present.
    Down,
    /// There is as much as there may be.
    Full,
    /// It is longer than [`LONGEST_BODY`].
    TooLong,
}

impl From<StoreDown> for NotKept {
    fn from(_: StoreDown) -> Self {
        Self::Down
    }
}
