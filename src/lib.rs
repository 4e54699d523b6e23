//! Sluicegate: the gate in front of MCP servers.
pub mod config;
pub mod demo;
pub mod mcp;
pub mod secret;
