//! The gate as its users meet it: real sockets, real TLS, a real config file, scripted servers behind.

#![allow(unreachable_pub, reason = "a test binary has no outside; pub says what the harness offers")]

mod harness;
mod limits;
mod process;
mod reload;
mod shutdown;
mod smoke;
mod streaming;
mod tls;
