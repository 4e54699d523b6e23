//! What the gateway sends to servers by which they know who calls: `upstreamAuth`, as it runs.
//!
//! What came in never goes out. A credential belongs to one principal at one server or, where the config says so, to one server. It is
//! kept sealed in the store of logins; what requests need of it is in memory. A request asks [`ServerCredentials`] for it, which costs one
//! look-up as long as it is good. Else one task of the worker reads, refreshes, asks for or exchanges it, for all who wait.

mod connection;
mod flight;
pub mod flow;
mod kept;
mod known;
pub mod notice;
pub mod oauth;
mod ready;
mod server;
mod vault;

pub use self::{
    connection::{ConnectedAs, CredentialState, NotTaken},
    ready::{Asker, Missing, NotReady, ReadyCredential},
    server::ServerCredentials,
    vault::Vault,
};
