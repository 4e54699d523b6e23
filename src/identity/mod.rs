//! Who calls: the token that a request presents, the table that knows it, and what it was admitted to.

pub mod audience;
pub mod credential_key;
pub mod foreign;
pub mod idp;
pub mod login;
pub mod opened_tokens;
pub mod presented;
mod principal;
pub mod scope;
pub mod token_digest;
pub mod token_table;
pub mod verifier;

pub use self::principal::{Allowed, Confirmed, Identity, InvalidPrincipal, Principal, Proof, Vouched, given};

use std::{
    cell::{Cell, OnceCell},
    sync::Arc,
};

use self::credential_key::CredentialKey;
use crate::ledger::Owner;

/// Names of the servers behind all servers as one, as somebody sees them.
pub type Members = Arc<[Arc<str>]>;

/// What something that runs was admitted by. Kept as long as it runs, so that a reload can ask whether it would still be
/// admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Who has to be admitted for it to go on.
    pub to: AdmittedParty,
    /// Name of the server.
    pub server: Arc<str>,
    /// How often the server had been stopped by hand.
    pub stops: u64,
    /// Names of the servers behind this one that it may reach, for a request of a session with all servers as one: known
    /// once the session is found.
    pub members: OnceCell<Members>,
    /// As whom the session was begun, for a request of one that the gateway keeps: known once the session is found. What there
    /// is in it is what there is for that one.
    pub begun_by: OnceCell<Arc<Identity>>,
    /// Which credential the server is called with, where that is not the config's: known once there is one. What runs by one ends with
    /// it.
    pub credential: OnceCell<CredentialKey>,
}

/// Who has to be admitted for something to go on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum AdmittedParty {
    /// Whoever has this credential, as long as it proves the same principal: a request and its response end with the one that
    /// they came by. Without one, the server has to be public.
    Credential(Arc<Identity>),
    /// This principal, by whichever of its credentials. A session outlives the one that began it, and does not do more than
    /// that one could.
    Principal(Arc<Identity>),
}

impl AdmittedParty {
    /// As whom it was admitted.
    pub fn identity(&self) -> &Arc<Identity> {
        let (Self::Credential(identity) | Self::Principal(identity)) = self;
        identity
    }
}

/// Who makes a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// As proved by the credential of the request.
    pub identity: Arc<Identity>,
    /// How the config in force knows it.
    pub standing: Standing,
}

/// How the config in force knows a caller.
#[derive(Debug, Clone)]
pub enum Standing {
    /// It does not: there is no credential.
    Nobody,
    /// It has the caller at this index, and what was decided about it.
    Named(usize),
    /// It has the issuer or identity provider that vouches for the caller, whose capacity this is.
    Foreign(Arc<Owner>),
}

impl Standing {
    /// The index of a caller whom the config has.
    pub fn slot(&self) -> Option<usize> {
        match self {
            Self::Named(slot) => Some(*slot),
            Self::Nobody | Self::Foreign(_) => None,
        }
    }
}

impl Caller {
    /// What a request of this caller is admitted by: the credential that it came by.
    pub fn as_credential(&self) -> AdmittedParty {
        AdmittedParty::Credential(Arc::clone(&self.identity))
    }

    /// What a session of this caller is admitted by: it belongs to the principal, not to the credential.
    pub fn as_principal(&self) -> AdmittedParty {
        AdmittedParty::Principal(Arc::clone(&self.identity))
    }
}

impl Admission {
    /// What lets `to` use a server.
    pub fn new(to: AdmittedParty, server: Arc<str>, stops: u64) -> Self {
        Self {
            to,
            server,
            stops,
            members: OnceCell::new(),
            begun_by: OnceCell::new(),
            credential: OnceCell::new(),
        }
    }
}

/// A client connection, as a worker watches over it.
#[derive(Debug, Default)]
pub struct Visitor {
    /// A request of it was admitted: it makes room for no other.
    pub is_admitted: Cell<bool>,
}

/// What a worker watches over, beside its connections.
#[derive(Debug)]
pub enum Subject {
    /// A request that waits for its server or streams.
    Request(Admission, Waits),
    /// A session that the gateway keeps, and whether a client of it waits for an answer: known once it drains.
    Session(Admission, Cell<bool>),
}

/// What a request waits for; what it needs of the gateway in a drain, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waits {
    /// For whatever may come: no request of the client's is open behind it.
    Listens,
    /// For the answer to one request.
    Calls,
    /// The same, and its server may ask its client something before (sampling, elicitation, roots: MCP up to 2025-11-25).
    /// The client then answers by another request.
    Converses,
}

impl Subject {
    /// What lets it run.
    pub fn admission(&self) -> &Admission {
        let (Self::Request(admission, _) | Self::Session(admission, _)) = self;
        admission
    }

    /// What somebody waits for here, if anybody does.
    pub fn waits(&self) -> Option<Waits> {
        match self {
            Self::Request(_, waits) => Some(*waits),
            Self::Session(_, is_busy) if is_busy.get() => Some(Waits::Converses),
            Self::Session(..) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(principal: Principal) -> Caller {
        Caller {
            identity: Arc::new(Identity { principal, ..Identity::NOBODY.clone() }),
            standing: Standing::Nobody,
        }
    }

    #[test]
    fn what_a_session_is_admitted_by_is_the_principal_and_a_request_by_the_credential() {
        let dev = caller(Principal::Token("dev".into()));
        assert_eq!(dev.as_principal(), AdmittedParty::Principal(Arc::clone(&dev.identity)));
        assert_eq!(dev.as_principal().identity(), &dev.identity);
        assert_eq!(dev.as_credential(), AdmittedParty::Credential(dev.identity));
    }

    #[test]
    fn a_request_always_waits_and_a_session_only_while_a_client_of_it_does() {
        let admission =
            || Admission::new(AdmittedParty::Principal(Arc::new(Identity::NOBODY)), "db".into(), 0);
        for waits in [Waits::Listens, Waits::Calls, Waits::Converses] {
            assert_eq!(Subject::Request(admission(), waits).waits(), Some(waits));
        }
        let is_busy = |is_busy| Subject::Session(admission(), Cell::new(is_busy)).waits();
        assert_eq!((is_busy(true), is_busy(false)), (Some(Waits::Converses), None));
    }
}
