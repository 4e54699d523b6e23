//! Sluicegate: the gate in front of MCP servers.
pub mod config;
pub mod mcp;
pub mod secret;
