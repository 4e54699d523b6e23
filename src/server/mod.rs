//! Client connections: accepted by one loop, served by workers.

pub mod connection;
mod io;
pub mod listener;
pub mod rejection;
pub mod tls;
