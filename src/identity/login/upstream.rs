//! Credentials for servers, as they are kept: what each principal, or everyone, has at each server; what waits for somebody who is
//! at an issuer; and how the gateway is registered there. What a body says is for its reader: here it is sealed and opened.

use std::{sync::Arc, time::SystemTime};

use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{
    account::in_millis,
    acts::{
        Act,
        upstream::{
            All, BeginFlow, ClientOf, Counts, Get, Lock, OfOwner, Put, PutClient, Remove, RemoveClient,
            TakeFlow, Unlock,
        },
    },
    keeper::Keeper,
    store::Down,
    upstream_row::{KeptClient, KeptFlow, PairId},
};
use crate::identity::principal::Principal;

pub use super::{
    upstream_changes::UpstreamChange,
    upstream_row::{
        LONGEST_BODY, NotKept, StoreDown, UpstreamCounts, UpstreamOwner, UpstreamRow, UpstreamState,
    },
};

/// All credentials for servers. Where they are in a file, each function waits for the thread that has it, 5 s at most.
pub struct Upstreams {
    keeper: Arc<Keeper>,
}

impl Upstreams {
    pub(super) fn new(keeper: Arc<Keeper>) -> Self {
        Self { keeper }
    }

    async fn run<A: Act>(&self, act: A) -> Result<A::Answer, StoreDown> {
        self.keeper.run(act).await.map_err(|Down| StoreDown)
    }

    /// What somebody has at a server. A row that does not open is none, and the log names it.
    pub async fn get(&self, owner: &UpstreamOwner, server: &str) -> Result<Option<UpstreamRow>, StoreDown> {
        self.run(Get(PairId::of_credential(owner, server))).await
    }

    /// Writes it if the row's version is still `expected`; `None`: if there is none. Gives the new version (what `row` has for one
    /// makes no difference), or the row that is there instead. It gives back the lock. If this fails with [`NotKept::Down`], it may be
    /// written all the same, a while later.
    pub async fn put(
        &self,
        row: UpstreamRow,
        expected: Option<u64>,
    ) -> Result<Result<u64, Option<UpstreamRow>>, NotKept> {
        if row.body.len() > LONGEST_BODY {
            return Err(NotKept::TooLong);
        }
        let mut first = [0; 8];
        getrandom::fill(&mut first).map_err(|_| NotKept::Down)?;
        // Positive, for SQLite, and with room to count up.
        let first = u64::from_be_bytes(first) >> 2;
        let (since, changed, ends) = (in_millis(row.since), in_millis(row.changed), row.ends.map(in_millis));
        let row = UpstreamRow { since, changed, ends, ..row };
        self.run(Put { row, expected, first }).await?
    }

    /// Removes it. What was there, if it opened.
    pub async fn remove(
        &self,
        owner: &UpstreamOwner,
        server: &str,
    ) -> Result<Option<UpstreamRow>, StoreDown> {
        self.run(Remove(PairId::of_credential(owner, server))).await
    }

    /// All that somebody has, by the names of the servers.
    pub async fn of_owner(&self, owner: &UpstreamOwner) -> Result<Vec<UpstreamRow>, StoreDown> {
        self.run(OfOwner(owner.clone())).await
    }

    /// So many of all, without bodies, by owner and server.
    pub async fn all(&self, most: usize) -> Result<Vec<UpstreamRow>, StoreDown> {
        self.run(All { most }).await
    }

    /// How many there are of each server in each state.
    pub async fn counts(&self) -> Result<UpstreamCounts, StoreDown> {
        self.run(Counts).await
    }

    /// Whether whoever asks this is to refresh it: of all processes of the file, one is. Afterwards it reads the row again: if the
    /// version is another, somebody else has refreshed it. It holds for a minute, or until [`Self::put`] or [`Self::unlock`]. What is not
    /// there cannot be refreshed.
    pub async fn lock(
        &self,
        owner: &UpstreamOwner,
        server: &str,
        now: SystemTime,
    ) -> Result<bool, StoreDown> {
        self.run(Lock { id: PairId::of_credential(owner, server), now: in_millis(now) }).await
    }

    /// Gives back what [`Self::lock`] gave.
    pub async fn unlock(&self, owner: &UpstreamOwner, server: &str) -> Result<(), StoreDown> {
        self.run(Unlock(PairId::of_credential(owner, server))).await
    }

    /// Somebody is sent to an issuer, and comes back with what `id` is the SHA-256 of. Of 20 of one principal, the oldest gives way.
    pub async fn begin_flow(
        &self,
        id: [u8; 32],
        of: &Principal,
        body: Zeroizing<Vec<u8>>,
        ends: SystemTime,
    ) -> Result<(), NotKept> {
        if body.len() > LONGEST_BODY {
            return Err(NotKept::TooLong);
        }
        self.run(BeginFlow { id, flow: KeptFlow { principal: of.clone(), ends: in_millis(ends), body } })
            .await?
    }

    /// What waited for them, which it does no more, if it has not ended. Of all who ask for it, one has it.
    pub async fn take_flow(
        &self,
        id: [u8; 32],
        now: SystemTime,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreDown> {
        self.run(TakeFlow { id, now }).await
    }

    /// How the gateway is registered at an issuer for a server.
    pub async fn client(&self, server: &str, issuer: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreDown> {
        self.run(ClientOf(PairId::of(server, issuer))).await
    }

    /// It is registered so from now on.
    pub async fn put_client(
        &self,
        server: &str,
        issuer: &str,
        body: Zeroizing<Vec<u8>>,
    ) -> Result<(), NotKept> {
        if body.len() > LONGEST_BODY {
            return Err(NotKept::TooLong);
        }
        self.run(PutClient(KeptClient { server: server.into(), issuer: issuer.into(), body })).await?
    }

    /// It is registered there no more.
    pub async fn remove_client(&self, server: &str, issuer: &str) -> Result<(), StoreDown> {
        self.run(RemoveClient(PairId::of(server, issuer))).await
    }

    /// Moves when another process, or a command, has written or removed credentials, within 250 ms. In memory there is no other.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.keeper.view().upstream_changes.subscribe()
    }

    /// How many changes of others there were, and those after the first `seen`; `None` if that is not known, so that all of what is in
    /// memory has to be read again.
    pub fn changed_since(&self, seen: u64) -> (u64, Option<Vec<UpstreamChange>>) {
        self.keeper.view().upstream_changes.since(seen)
    }
}

#[cfg(test)]
#[path = "upstream_tests.rs"]
mod tests;
