//! Sockets and cryptography that both sides share.

pub mod crypto;
pub mod global;
pub mod signing_key;
pub mod tcp;
