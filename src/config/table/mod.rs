//! Every key of the config: one entry each.
//!
//! To add a key, add a field to the struct of its object. Its comment is what users read about it, its type what it
//! takes, and the rest of the line its name, bounds and default; [`key`](super::key) has the words for it. Then
//! `SLUICEGATE_BLESS=1 cargo test --lib config` brings `docs/config.md` and the schema up to date. A plain key needs no
//! more: [`Settings`], [`Limits`], [`Log`] and [`ServerSettings`] are part of the snapshot as they stand. What depends on
//! other keys, or on the world outside, is resolved next door, in the module of its name.

mod auth;
mod gate;
mod inline;
mod limits;
mod server;

pub(crate) use self::{
    auth::{Auth, CredentialKeys, TokenKeys},
    gate::{AdminKeys, AggregateKeys, Mode, ProxyKeys, RootKeys, TlsKeys},
    inline::{InlineKeys, ToolKeys},
    server::{CommandKeys, FilterMode, ServerKeys, ToolFilterKeys, TransportType, UrlKeys},
};
pub use self::{
    gate::{Collision, Level, Log, LogFormat, Settings},
    limits::{Limits, PerAddress, PerCaller},
    server::{INHERITED, ServerSettings},
};
use super::{
    key::{Given, NONE, PathText, Variable, key, keys},
};

keys! {
    /// Where to find a text that does not stand in the config.
    pub(crate) struct Reference has one of "$env", "$file" {
        /// Name of an environment variable that holds the text.
        pub(crate) env: Given<Variable> = key("$env", NONE),
        /// File that holds the text, relative to the config; one line break at its end is not part of it.
        pub(crate) file: Given<PathText> = key("$file", NONE),
    }
}
