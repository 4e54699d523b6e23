//! Event streams: their lines, their events, and the endpoint that HTTP+SSE announces.

pub mod end;
pub mod endpoint;
pub mod endpoint_guard;
mod lines;
pub mod reader;
pub mod tool_filter;
