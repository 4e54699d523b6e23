//! Sluicegate: the gateway in front of MCP servers.
//!
//! One process terminates HTTPS, checks bearer tokens in constant time, and streams everything else through. Its config
//! is a file that people edit while it runs.
//!
//! The map, top to bottom; a module uses only what is in the rows below its own:
//!
//! | row | modules |
//! |---|---|
//! | commands | [`cli`] |
//! | demo | [`demo`] (a server to play with, and the gateway in front of it) |
//! | process | [`gateway`] (life of the process and of its workers) |
//! | request | [`service`] (life of a request) |
//! | messages | [`bridge`] (message by message to a server) |
//! | bytes | [`proxy`] (byte for byte to a server) |
//! | context | [`request`] (what a request's answer depends on, what it was admitted to, and how it is refused) |
//! | endpoints | [`endpoints`] (what is served where, and what the gateway itself answers) |
//! | state | [`state`] (what requests see), [`body`] (what they answer) |
//! | servers | [`servers`] (the servers of the config, as they run), [`session`] (sessions that the gateway keeps) |
//! | links | [`link`] (a conversation with a server, whatever carries it) |
//! | processes | [`child`] (processes of the gateway's) |
//! | credentials | [`credentials`] (what the gateway sends to servers, and for whom) |
//! | authorization | [`oauth`] (clients of the gateway's own authorization server, and what they ask for) |
//! | upstream | [`upstream`] (the side towards servers), [`observe`] (log and metrics) |
//! | downstream | [`downstream`] (the side towards clients) |
//! | decisions | [`policy`] (who may do what) |
//! | callers | [`identity`] (who calls, and what they were admitted to) |
//! | config | [`config`]: from the file to an immutable snapshot |
//! | words | [`mcp`] (sans-io), [`pages`] (what people see), [`error`] |
//! | base | [`ledger`] (who has how much of what the gateway has to give), [`secret`], [`watchdog`] (deadlines and signals), [`net`] (what both sides share), [`clock`] (a time of day that never goes back), [`memory`] (gives memory back after a flood), [`state_dir`] (files that nobody else may touch) |

pub mod body;
pub mod bridge;
pub mod child;
pub mod cli;
pub mod clock;
pub mod config;
pub mod credentials;
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
pub mod oauth;
pub mod observe;
pub mod pages;
pub mod policy;
pub mod proxy;
pub mod request;
pub mod secret;
pub mod servers;
pub mod service;
pub mod session;
pub mod state;
pub mod state_dir;
pub mod upstream;
pub mod watchdog;
