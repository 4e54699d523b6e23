//! Who presents a token: known at once, or later.

use std::pin::Pin;

use super::Caller;
use crate::error::Error;

/// By the config in force: who makes a request, or why nobody does.
pub type Found = Result<Caller, Error>;

/// What comes of asking who presents a token.
pub enum Identified<'a> {
    /// It is known at once: nothing waits. For a static token, nothing is allocated either.
    Ready(Found),
    /// It takes a while, because a key has to be fetched, or a slow hash computed.
    Later(Pin<Box<dyn Future<Output = Found> + 'a>>),
}
