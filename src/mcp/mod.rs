//! What a gateway has to understand of MCP itself: no socket, no clock, no configuration.

pub mod accept;
pub mod code;
pub mod endpoint;
pub mod endpoint_guard;
pub mod event_end;
pub mod events;
pub mod header;
mod id;
pub mod incoming;
mod keys;
pub mod message;
pub mod method;
pub mod modern;
pub mod numbers;
pub mod oversize;
mod reading;
pub mod scan;
pub mod schema;
pub mod session;
pub mod splice;
pub mod tool_call;
pub mod tool_events;
pub mod tool_list;
pub mod version;
pub mod walk;
