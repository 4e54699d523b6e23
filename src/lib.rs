//! Sluicegate: the gateway in front of MCP servers.
//!
//! One process terminates HTTPS, checks bearer tokens in constant time, and streams everything else through. Its config
//! is a file that people edit while it runs.
//!
//! The map, top to bottom; a module uses only what stands below it:
//!
//! | row | modules |
//! |---|---|
//! | top | `cli`, `demo`, [`gateway`] (life of the process and of its workers), [`service`] (life of a request) |
//! | ways to a server | [`bridge`] (message by message), [`proxy`] (byte for byte), [`endpoints`] (the gateway's own) |
//! | state | [`state`] (what requests see), [`body`] (what they answer), [`servers`] (the servers of the config, as they run) |
//! | requests | [`route`] (from a path to what is served there) |
//! | mechanisms | [`session`] (sessions that the gateway keeps), [`link`] (a conversation with a server, whatever carries it), [`child`] (processes of the gateway's), [`observe`], [`upstream`] (the side towards servers), [`downstream`] (the side towards clients), [`net`] (what both sides share), [`watchdog`], [`memory`] (gives memory back after a flood) |
//! | callers | [`identity`] (who calls, and what they were admitted to), [`policy`] (what they may do) |
//! | config | [`config`]: from the file to an immutable snapshot |
//! | words | [`mcp`] (sans-io), [`clock`] (a time of day that never goes back), [`error`], [`ledger`] (who has how much of what the gateway has to give), [`secret`] |

pub mod body;
pub mod bridge;
pub mod child;
pub mod cli;
pub mod clock;
pub mod config;
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
pub mod policy;
pub mod proxy;
pub mod route;
pub mod secret;
pub mod servers;
pub mod service;
pub mod session;
pub mod state;
pub mod upstream;
pub mod watchdog;
