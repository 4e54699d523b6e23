//! Client connections: accepted by one loop, served by workers.

pub mod admission;
pub mod connection;
mod frames;
mod hpack;
pub mod incoming;
mod interim;
mod io;
pub mod listener;
pub mod proxied;
pub mod rejection;
pub mod self_made;
pub mod tcp;
pub mod tls;
