//! Clients of the gateway's own authorization server, and what they ask for: who a client is, where it may be sent back to, and
//! a request that waits until somebody has decided.
//!
//! Nothing is kept for a stranger but documents that were fetched, in a cache with a bound: what a registration says is in the
//! client's id, and what a request says is in the forms of its pages.

pub mod client;
pub mod client_document;
mod clients;
pub mod flow;
mod own_path;
pub mod registration;

pub use self::{
    client::{Client, ClientAuth, ClientKind},
    client_document::{CachedDocuments, NotAClient},
    clients::{Clients, NotFound, has_taken_away, is_refused_unread, may_keep},
    own_path::is_own_path,
};
