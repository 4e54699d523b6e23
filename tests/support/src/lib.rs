//! A gateway, servers and clients for the tests and benches of Sluicegate.
//!
//! Everything here fails as tests do: by a panic that says what was expected.

pub mod bench;
pub mod browser;
pub mod decisive_keys;
pub mod harness;
pub mod idp;
pub mod internet;
pub mod issuer;
pub mod numbered;
pub mod process;
pub mod recorder;
pub mod scripted;
pub mod tls;
pub mod upstream_issuer;
pub mod users;

pub use test_basics::spellings;
