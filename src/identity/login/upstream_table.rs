//! What is kept for servers, in memory.

use std::{
    collections::{BTreeMap, HashMap},
    convert::Infallible,
    sync::Arc,
    time::SystemTime,
};

use zeroize::Zeroizing;

use super::{
    rows::UpstreamRows,
    upstream_row::{
        KeptClient, KeptFlow, KeptUpstream, PairId, UpstreamCounts, UpstreamOwner, UpstreamRow, UpstreamState,
    },
};
use crate::identity::principal::Principal;

/// All rows, if there is no file.
#[derive(Default)]
pub(super) struct UpstreamTable {
    credentials: HashMap<PairId, KeptUpstream>,
    by_owner: HashMap<UpstreamOwner, BTreeMap<Arc<str>, PairId>>,
    flows: HashMap<[u8; 32], KeptFlow>,
    clients: HashMap<PairId, KeptClient>,
}

impl UpstreamTable {
    /// Removes what has ended by itself.
    pub(super) fn sweep(&mut self, now: SystemTime) {
        self.flows.retain(|_, flow| now < flow.ends);
    }
}

impl UpstreamRows for UpstreamTable {
    type Error = Infallible;

    fn credential(&mut self, id: PairId) -> Result<Option<KeptUpstream>, Infallible> {
        Ok(self.credentials.get(&id).cloned())
    }

    fn credentials_of(&mut self, owner: &UpstreamOwner) -> Result<Vec<UpstreamRow>, Infallible> {
        let Self { credentials, by_owner, .. } = self;
        let ids = by_owner.get(owner).into_iter().flat_map(BTreeMap::values);
        Ok(ids.filter_map(|id| Some(credentials.get(id)?.row.clone())).collect())
    }

    fn all_credentials(&mut self, most: usize) -> Result<Vec<UpstreamRow>, Infallible> {
        let rows = self.credentials.values().map(|KeptUpstream { row, .. }| {
            let (owner, server) = (row.owner.clone(), Arc::clone(&row.server));
            UpstreamRow { owner, server, body: Zeroizing::default(), ..*row }
        });
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by_cached_key(|row| (row.owner.to_string(), Arc::clone(&row.server)));
        rows.truncate(most);
        Ok(rows)
    }

    fn credential_counts(&mut self) -> Result<UpstreamCounts, Infallible> {
        let mut counts: BTreeMap<_, usize> = BTreeMap::new();
        for KeptUpstream { row, .. } in self.credentials.values() {
            *counts.entry((&row.server, row.state.name())).or_default() += 1;
        }
        let count = |((server, state), count): ((&Arc<str>, &str), usize)| {
            Some((Arc::clone(server), UpstreamState::named(state)?, count))
        };
        Ok(counts.into_iter().filter_map(count).collect())
    }

    fn count_credentials(&mut self) -> Result<usize, Infallible> {
        Ok(self.credentials.len())
    }

    fn count_credentials_of(&mut self, owner: &UpstreamOwner) -> Result<usize, Infallible> {
        Ok(self.by_owner.get(owner).map_or(0, BTreeMap::len))
    }

    fn put_credential(&mut self, kept: &KeptUpstream) -> Result<(), Infallible> {
        let UpstreamRow { owner, server, .. } = &kept.row;
        let id = PairId::of_credential(owner, server);
        let Self { credentials, by_owner, .. } = self;
        by_owner.entry(owner.clone()).or_default().insert(Arc::clone(server), id);
        credentials.insert(id, kept.clone());
        Ok(())
    }

    fn lock_credential(&mut self, id: PairId, until: SystemTime) -> Result<(), Infallible> {
        if let Some(kept) = self.credentials.get_mut(&id) {
            kept.locked_until = until;
        }
        Ok(())
    }

    fn remove_credential(&mut self, id: PairId) -> Result<(), Infallible> {
        let Self { credentials, by_owner, .. } = self;
        let Some(KeptUpstream { row, .. }) = credentials.remove(&id) else { return Ok(()) };
        if let Some(of_owner) = by_owner.get_mut(&row.owner) {
            of_owner.remove(&row.server);
            if of_owner.is_empty() {
                by_owner.remove(&row.owner);
            }
        }
        Ok(())
    }

    fn flow(&mut self, id: [u8; 32]) -> Result<Option<KeptFlow>, Infallible> {
        Ok(self.flows.get(&id).cloned())
    }

    fn flows_of(&mut self, principal: &Principal) -> Result<Vec<([u8; 32], SystemTime)>, Infallible> {
        let flows = self.flows.iter().filter(|(_, flow)| flow.principal == *principal);
        Ok(flows.map(|(id, flow)| (*id, flow.ends)).collect())
    }

    fn count_flows(&mut self) -> Result<usize, Infallible> {
        Ok(self.flows.len())
    }

    fn put_flow(&mut self, id: [u8; 32], flow: &KeptFlow) -> Result<(), Infallible> {
        self.flows.insert(id, flow.clone());
        Ok(())
    }

    fn remove_flow(&mut self, id: [u8; 32]) -> Result<(), Infallible> {
        self.flows.remove(&id);
        Ok(())
    }

    fn client(&mut self, id: PairId) -> Result<Option<KeptClient>, Infallible> {
        Ok(self.clients.get(&id).cloned())
    }

    fn count_clients(&mut self) -> Result<usize, Infallible> {
        Ok(self.clients.len())
    }

    fn put_client(&mut self, client: &KeptClient) -> Result<(), Infallible> {
        self.clients.insert(PairId::of(&client.server, &client.issuer), client.clone());
        Ok(())
    }

    fn remove_client(&mut self, id: PairId) -> Result<(), Infallible> {
        self.clients.remove(&id);
        Ok(())
    }
}
