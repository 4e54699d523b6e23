//! Sockets and cryptography that both sides share.

pub mod crypto;
pub mod global;
pub mod tcp;
