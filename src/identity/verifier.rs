//! Finds the principal of a token that is not in the config.

use std::pin::Pin;

use crate::error::ErrorKind;

/// Which credential of the config in force a request comes by, or why it comes by none.
pub type Found = Result<usize, ErrorKind>;

/// What comes of asking who presents a token.
pub enum Identified<'a> {
    /// It is known at once: nothing is allocated, and nothing waits.
    Ready(Found),
    /// It takes a while, because a key has to be fetched, another server asked, or a slow hash computed.
    Later(Pin<Box<dyn Future<Output = Found> + 'a>>),
}

/// Finds the principal of a token that is none of the static ones. It bounds the time that it takes.
pub trait Verifier: Send + Sync {
    /// Whose token it is.
    fn identify<'a>(&'a self, token: &'a [u8]) -> Identified<'a>;
}
