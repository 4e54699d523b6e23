//! By what tokens come that are of no grant, and which of that is gone.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::config::{ClientProof, Snapshot};

/// What tokens say of moments is as exact as this.
const A_SECOND: Duration = Duration::from_secs(1);

/// By what tokens come that are of no grant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TokenSource {
    /// A client for itself, and by which of its credentials.
    Client(Arc<str>, [u8; 32]),
    /// An issuer, by what it is called in its tokens, and the client that brings what it says.
    Issuer(Arc<str>, Arc<str>),
}

/// Those that a config had and a later one did not, and when that was seen last. What they brought before does not come back with them.
#[derive(Debug, Default)]
pub(super) struct GoneSources(HashMap<TokenSource, SystemTime>);

impl GoneSources {
    /// No token is good for longer.
    const KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

    /// Those that are gone once `next` follows.
    /// `previous`: the config before, and what was gone by it.
    pub(super) fn after(previous: Option<(&Self, &Snapshot)>, next: &Snapshot, now: SystemTime) -> Self {
        let Some((Self(gone), config)) = previous else { return Self::default() };
        let left: HashSet<_> = sources(next).into_iter().collect();
        let mut gone = gone.clone();
        gone.retain(|_, at| now < *at + Self::KEPT);
        let lost = sources(config).into_iter().filter(|source| !left.contains(source));
        for source in lost {
            // It may have come back a moment ago: see [`Self::made_at`].
            let at = gone.get(&source).map_or(now, |before| now.max(*before + A_SECOND));
            gone.insert(source, at);
        }
        Self(gone)
    }

    /// When a token of this source is to say that it was made, at `now`: later than the source was gone, which may be in this second.
    pub(super) fn made_at(&self, source: &TokenSource, now: SystemTime) -> SystemTime {
        self.0.get(source).map_or(now, |gone| now.max(*gone + A_SECOND))
    }

    /// Whether the source of a token that was made then was gone meanwhile.
    pub(super) fn had(&self, source: &TokenSource, made: SystemTime) -> bool {
        self.0.get(source).is_some_and(|gone| made <= *gone)
    }
}

fn sources(snapshot: &Snapshot) -> Vec<TokenSource> {
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
        Some(TokenSource::Issuer(Arc::clone(&issuer.issuer), Arc::clone(&client.name)))
    });
    of_clients.chain(of_issuers).collect()
}
