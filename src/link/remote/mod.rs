//! Servers over HTTP: Streamable HTTP and HTTP+SSE.

pub mod server;
pub mod sse;
pub mod streamable;
