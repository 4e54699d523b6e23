//! Client connections: accepted by one loop, served by workers.

pub mod connection;
mod frames;
mod hpack;
mod io;
pub mod listener;
pub mod tls;
