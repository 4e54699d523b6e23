//! Sockets and cryptography that both sides share.

pub mod tcp;
