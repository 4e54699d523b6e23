//! By what tokens come that are of no grant, and which of that is gone.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::SystemTime,
};

use crate::{
    config::{ClientProof, Snapshot},
    identity::login::sources::{A_SECOND, KEPT, SourceId},
};

/// By what tokens come that are of no grant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TokenSource {
    /// A client for itself, and by which of its credentials.
    Client(Arc<str>, [u8; 32]),
    /// An issuer, by what it is called in its tokens, the client that brings what it says, and by which of its credentials.
    Issuer(Arc<str>, Arc<str>, [u8; 32]),
}

impl TokenSource {
    /// What it is known by where logins are kept.
    pub(super) fn id(&self) -> SourceId {
        match self {
            Self::Client(client, credential) => SourceId::of([b"client", client.as_bytes(), b"", credential]),
            Self::Issuer(issuer, client, credential) => {
                SourceId::of([b"issuer", issuer.as_bytes(), client.as_bytes(), credential])
            }
        }
    }
}

/// Those that a config had and a later one did not, and when that was seen last. What they brought before does not come back with them.
#[derive(Debug, Default)]
pub(super) struct GoneSources(HashMap<TokenSource, SystemTime>);

impl GoneSources {
    /// Those that are gone once `next` follows.
    /// `previous`: the config before, and what was gone by it.
    pub(super) fn after(previous: Option<(&Self, &Snapshot)>, next: &Snapshot, now: SystemTime) -> Self {
        let Some((Self(gone), config)) = previous else { return Self::default() };
        let left: HashSet<_> = sources(next).into_iter().collect();
        let mut gone = gone.clone();
        gone.retain(|_, at| now < *at + KEPT);
        let lost = sources(config).into_iter().filter(|source| !left.contains(source));
        for source in lost {
            // It may have come back a moment ago: see [`super::Live::made_at`].
            let at = gone.get(&source).map_or(now, |before| now.max(*before + A_SECOND));
            gone.insert(source, at);
        }
        Self(gone)
    }

    /// When this one was seen last to be gone.
    pub(super) fn at(&self, source: &TokenSource) -> Option<SystemTime> {
        self.0.get(source).copied()
    }

    /// All of them.
    pub(super) fn all(&self) -> HashMap<SourceId, SystemTime> {
        self.0.iter().map(|(source, at)| (source.id(), *at)).collect()
    }
}

/// Those that a config has.
pub(super) fn sources(snapshot: &Snapshot) -> Vec<TokenSource> {
    let Some(config) = &snapshot.oauth else { return Vec::new() };
    let callers = config.clients.iter().filter(|client| client.is_caller());
    let of_clients = callers.flat_map(|client| {
        let name = &client.name;
        client.credentials().into_iter().map(|credential| TokenSource::Client(Arc::clone(name), credential))
    });
    let of_issuers = config.id_jag.iter().filter_map(|(issuer, client)| {
        let issuer = snapshot.issuers.iter().find(|of| of.name == *issuer)?;
        let client =
            config.client(client).filter(|of| of.grants.assertions && of.proof != ClientProof::None)?;
        Some((issuer, client))
    });
    let of_issuers = of_issuers.flat_map(|(issuer, client)| {
        let (issuer, name) = (&issuer.issuer, &client.name);
        let of = |credential| TokenSource::Issuer(Arc::clone(issuer), Arc::clone(name), credential);
        client.credentials().into_iter().map(of).collect::<Vec<_>>()
    });
    of_clients.chain(of_issuers).collect()
}
