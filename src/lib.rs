//! Sluicegate: the gate in front of MCP servers.
pub mod cli;
pub mod config;
pub mod secret;
