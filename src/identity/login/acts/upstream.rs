//! What is done to credentials for servers, to what waits for somebody at an issuer, and to registered clients.

use std::time::SystemTime;

use zeroize::Zeroizing;

use super::act::{Act, Undelivered};
use crate::identity::login::{
    rows::{Rows, UpstreamRows as _},
    sealed_token::LEEWAY,
    upstream_row::{
        KeptClient, KeptFlow, KeptUpstream, LOCKED, MOST, MOST_CLIENTS, MOST_FLOWS, MOST_FLOWS_OF_ONE,
        MOST_OF_ONE, NotKept, PairId, UpstreamCounts, UpstreamOwner, UpstreamRow,
    },
};

/// The moment of a lock that nobody has.
const NEVER: SystemTime = SystemTime::UNIX_EPOCH;

/// A credential.
pub(in crate::identity::login) struct Get(pub(in crate::identity::login) PairId);

impl Act for Get {
    type Answer = Option<UpstreamRow>;

    fn now(&self) -> Option<SystemTime> {
        None
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let rows = rows.upstream();
        Ok((rows.credential(self.0)?.map(|kept| kept.row), None))
    }
}

/// Writes a credential, if nobody else has written it.
pub(in crate::identity::login) struct Put {
    pub(in crate::identity::login) row: UpstreamRow,
    pub(in crate::identity::login) expected: Option<u64>,
    /// The version of a new one. Nobody who knew another one there may take it for that.
    pub(in crate::identity::login) first: u64,
}

impl Act for Put {
    type Answer = Result<Result<u64, Option<UpstreamRow>>, NotKept>;

    /// A refresh token that was used up must not stay, and what it brought must not be lost.
    const IS_MEANT_IN_ANY_CASE: bool = true;

    fn now(&self) -> Option<SystemTime> {
        Some(self.row.changed)
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let rows = rows.upstream();
        let Self { mut row, expected, first } = self;
        let there = rows.credential(PairId::of_credential(&row.owner, &row.server))?.map(|kept| kept.row);
        row.version = match (&there, expected) {
            (Some(there), Some(expected)) if there.version == expected => expected + 1,
            (None, None) => {
                let is_full = rows.count_credentials()? >= MOST
                    || row.owner != UpstreamOwner::Everyone
                        && rows.count_credentials_of(&row.owner)? >= MOST_OF_ONE;
                if is_full {
                    return Ok((Err(NotKept::Full), None));
                }
                first
            }
            _ => return Ok((Ok(Err(there)), None)),
        };
        let version = row.version;
        rows.put_credential(&KeptUpstream { row, locked_until: NEVER })?;
        Ok((Ok(Ok(version)), None))
    }
}

/// Removes a credential.
pub(in crate::identity::login) struct Remove(pub(in crate::identity::login) PairId);

impl Act for Remove {
    type Answer = Option<UpstreamRow>;

    const IS_MEANT_IN_ANY_CASE: bool = true;

    fn now(&self) -> Option<SystemTime> {
        None
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let rows = rows.upstream();
        let there = rows.credential(self.0)?;
        // Also one that does not open.
        rows.remove_credential(self.0)?;
        Ok((there.map(|kept| kept.row), None))
    }
}

/// All of somebody's.
pub(in crate::identity::login) struct OfOwner(pub(in crate::identity::login) UpstreamOwner);

impl Act for OfOwner {
    type Answer = Vec<UpstreamRow>;

    fn now(&self) -> Option<SystemTime> {
        None
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let rows = rows.upstream();
        Ok((rows.credentials_of(&self.0)?, None))
    }
}

/// So many of all, without bodies.
pub(in crate::identity::login) struct All {
    pub(in crate::identity::login) most: usize,
}

impl Act for All {
    type Answer = Vec<UpstreamRow>;

    fn now(&self) -> Option<SystemTime> {
        None
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let rows = rows.upstream();
        Ok((rows.all_credentials(self.most)?, None))
    }
}

/// How many there are of each server in each state.
pub(in crate::identity::login) struct Counts;

impl Act for Counts {
    type Answer = UpstreamCounts;

    fn now(&self) -> Option<SystemTime> {
        None
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let rows = rows.upstream();
        Ok((rows.credential_counts()?, None))
    }
}

/// Whether whoever asks this is to refresh it.
pub(in crate::identity::login) struct Lock {
    pub(in crate::identity::login) id: PairId,
    pub(in crate::identity::login) now: SystemTime,
}

impl Act for Lock {
    type Answer = bool;

    fn now(&self) -> Option<SystemTime> {
        Some(self.now)
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let rows = rows.upstream();
        let Self { id, now } = self;
        let Some(kept) = rows.credential(id)? else { return Ok((false, None)) };
        // One from the future was made while the clock was wrong.
        if now < kept.locked_until && kept.locked_until <= now + LOCKED + LEEWAY {
            return Ok((false, None));
        }
        rows.lock_credential(id, now + LOCKED)?;
        Ok((true, None))
    }
}

/// Nobody refreshes it any more.
pub(in crate::identity::login) struct Unlock(pub(in crate::identity::login) PairId);

impl Act for Unlock {
    type Answer = ();

    const IS_MEANT_IN_ANY_CASE: bool = true;

    fn now(&self) -> Option<SystemTime> {
        None
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let rows = rows.upstream();
        rows.lock_credential(self.0, NEVER)?;
        Ok(((), None))
    }
}

/// Somebody is sent to an issuer.
pub(in crate::identity::login) struct BeginFlow {
    pub(in crate::identity::login) id: [u8; 32],
    pub(in crate::identity::login) flow: KeptFlow,
}

impl Act for BeginFlow {
    type Answer = Result<(), NotKept>;

    fn now(&self) -> Option<SystemTime> {
        None
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let rows = rows.upstream();
        let Self { id, flow } = self;
        let mut others = rows.flows_of(&flow.principal)?;
        others.sort_by_key(|(_, ends)| *ends);
        let beyond = (others.len() + 1).saturating_sub(MOST_FLOWS_OF_ONE);
        if beyond == 0 && rows.count_flows()? >= MOST_FLOWS {
            return Ok((Err(NotKept::Full), None));
        }
        for (other, _) in others.iter().take(beyond) {
            rows.remove_flow(*other)?;
        }
        rows.put_flow(id, &flow)?;
        Ok((Ok(()), None))
    }
}

/// They are back.
pub(in crate::identity::login) struct TakeFlow {
    pub(in crate::identity::login) id: [u8; 32],
    pub(in crate::identity::login) now: SystemTime,
}

impl Act for TakeFlow {
    type Answer = Option<Zeroizing<Vec<u8>>>;

    fn now(&self) -> Option<SystemTime> {
        Some(self.now)
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let rows = rows.upstream();
        let Self { id, now } = self;
        let Some(flow) = rows.flow(id)? else { return Ok((None, None)) };
        rows.remove_flow(id)?;
        Ok(((now < flow.ends).then_some(flow.body), None))
    }
}

/// How the gateway is registered somewhere.
pub(in crate::identity::login) struct ClientOf(pub(in crate::identity::login) PairId);

impl Act for ClientOf {
    type Answer = Option<Zeroizing<Vec<u8>>>;

    fn now(&self) -> Option<SystemTime> {
        None
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let rows = rows.upstream();
        Ok((rows.client(self.0)?.map(|kept| kept.body), None))
    }
}

/// It is registered.
pub(in crate::identity::login) struct PutClient(pub(in crate::identity::login) KeptClient);

impl Act for PutClient {
    type Answer = Result<(), NotKept>;

    /// An issuer may register it once only.
    const IS_MEANT_IN_ANY_CASE: bool = true;

    fn now(&self) -> Option<SystemTime> {
        None
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let rows = rows.upstream();
        let Self(client) = self;
        if rows.client(PairId::of(&client.server, &client.issuer))?.is_none()
            && rows.count_clients()? >= MOST_CLIENTS
        {
            return Ok((Err(NotKept::Full), None));
        }
        rows.put_client(&client)?;
        Ok((Ok(()), None))
    }
}

/// It is registered no more.
pub(in crate::identity::login) struct RemoveClient(pub(in crate::identity::login) PairId);

impl Act for RemoveClient {
    type Answer = ();

    const IS_MEANT_IN_ANY_CASE: bool = true;

    fn now(&self) -> Option<SystemTime> {
        None
    }

    fn run<R: Rows>(self, rows: &mut R) -> Result<(Self::Answer, Option<Undelivered>), R::Error> {
        let rows = rows.upstream();
        rows.remove_client(self.0)?;
        Ok(((), None))
    }
}
