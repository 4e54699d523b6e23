//! What a gateway has to understand of MCP itself: no socket, no clock, no configuration.

pub mod endpoint;
pub mod events;
pub mod header;
pub mod message;
pub mod modern;
pub mod schema;
pub mod session;
pub mod version;
