//! What a gateway has to understand of MCP itself: no socket, no clock, no configuration.

pub mod accept;
pub mod codes;
pub mod connect;
pub mod era;
pub mod header;
mod id;
pub mod incoming;
pub mod message;
pub mod method;
pub mod modern;
pub mod numbers;
pub mod oversize;
mod parts;
mod reading;
mod remap;
pub mod scan;
pub mod schema;
pub mod seal;
pub mod splice;
pub mod sse;
pub mod tool_call;
pub mod tool_list;
pub mod version;
pub mod walk;
