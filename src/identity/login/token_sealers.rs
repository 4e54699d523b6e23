//! What makes and opens the tokens of each kind.

use super::{
    access_token::AccessClaims,
    keys::{Keys, NoKey},
    sealed_token::TokenSealer,
    session_token::SessionClaims,
};

/// One for each kind, all with keys of the same secrets.
pub struct TokenSealers {
    /// For session tokens.
    pub session: TokenSealer<SessionClaims>,
    /// For access tokens.
    pub access: TokenSealer<AccessClaims>,
}

impl TokenSealers {
    /// Those of these keys.
    pub fn new(keys: &Keys) -> Result<Self, NoKey> {
        Ok(Self { session: TokenSealer::new(keys)?, access: TokenSealer::new(keys)? })
    }
}
