//! What the gateway sends to servers by which they know who calls: `upstreamAuth`, as it runs.
//!
//! What came in never goes out. A credential belongs to one principal at one server or, where the config says so, to one server. It is
//! kept sealed in the store of logins, and what requests need of it is in memory. A request asks [`ServerCredentials`] for it.

pub mod notice;
pub mod oauth;
mod ready;
mod server;
mod vault;

pub use self::{
    ready::{Asker, Missing, NotReady, ReadyCredential},
    server::ServerCredentials,
    vault::Vault,
};
