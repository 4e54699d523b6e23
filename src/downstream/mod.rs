//! Client connections: accepted by one loop, served by workers.

pub mod connection;
pub mod forwarded;
mod frames;
mod hpack;
pub mod incoming;
mod interim;
mod io;
pub mod listener;
pub mod rejection;
pub mod self_signed;
pub mod slots;
pub mod tls;
