//! The side towards clients: connections, accepted by one loop and served by workers, and what the heads of requests may be.

pub mod connection;
pub mod cors;
pub mod forwarded;
mod frames;
pub mod head;
mod hpack;
pub mod incoming;
mod interim;
mod io;
pub mod listener;
pub mod path;
pub mod rejection;
pub mod self_signed;
pub mod slots;
pub mod tls;
mod unadmitted;
