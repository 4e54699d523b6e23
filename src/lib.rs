//! Sluicegate: the gate in front of MCP servers.
pub mod auth;
pub mod config;
pub mod secret;
