//! Who calls: the token that a request presents, the table that knows it, and what it was admitted to.

pub mod presented;
pub mod token_table;

use std::{
    cell::{Cell, OnceCell},
    sync::Arc,
};

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
}

/// Whom a grant is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdmittedParty {
    /// Whoever comes: the server is public.
    Anyone,
    /// The holder of the token with this SHA-256. A request and its response end with the credential that they came by.
    Credential([u8; 32]),
    /// The token of this name, by whichever of its credentials. A session outlives the one that began it.
    Name(Arc<str>),
}

impl Admission {
    /// A grant for a server.
    pub fn new(to: AdmittedParty, server: Arc<str>, stops: u64) -> Self {
        Self { to, server, stops, members: OnceCell::new() }
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
    pub fn grant(&self) -> &Admission {
        let (Self::Request(grant, _) | Self::Session(grant, _)) = self;
        grant
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
