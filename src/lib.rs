//! Sluicegate: the gate in front of MCP servers.
//!
//! One process terminates HTTPS, checks bearer tokens in constant time, and streams everything else through. Its config
//! is a file that people edit while it runs.
//!
//! The map, top to bottom; a module uses only what stands below it:
//!
//! | row | modules |
//! |---|---|
//! | top | `cli`, `demo`, [`gateway`] (life of the process), [`worker`] (a thread that serves), [`service`] (life of a request) |
//! | endpoints | [`bridge`] (servers that are not reached byte for byte), [`proxy`] (the MCP path), [`admin`] (health, status, metrics), [`relay`] (how streams leave hyper) |
//! | state | [`state`] (what requests see), [`body`] (what they answer) |
//! | policies | [`auth`] (who is this, what may it do), [`cors`], [`validate`], [`route`], [`selector`] (which of all servers a client asks for) |
//! | mechanisms | [`session`] (sessions that the gate keeps), [`link`] (a conversation with a server, whatever carries it), [`child`] (processes of the gate's), [`observe`], [`upstream`], [`server`], [`watchdog`], [`memory`] (gives memory back after a flood) |
//! | config | [`config`]: from the file to an immutable snapshot |
//! | words | [`mcp`] (sans-io), [`clock`] (a time of day that never goes back), [`error`], [`identity`], [`ledger`] (who has how much of what the gate has to give), [`secret`] |
pub mod auth;
pub mod body;
pub mod bridge;
pub mod child;
pub mod cli;
pub mod clock;
pub mod config;
pub mod cors;
pub mod demo;
pub mod downstream;
pub mod endpoints;
pub mod error;
pub mod gateway;
pub mod identity;
pub mod ledger;
pub mod link;
pub mod mcp;
pub mod memory;
pub mod net;
pub mod observe;
pub mod proxy;
pub mod route;
pub mod secret;
pub mod selector;
pub mod service;
pub mod session;
pub mod state;
pub mod upstream;
pub mod validate;
pub mod watchdog;
