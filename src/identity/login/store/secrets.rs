//! The secrets that keys are made of.

use super::kept_keys::KeptKeys;
use crate::{
    config::LoginStore,
    identity::login::keys::Keys,
    secret::{Secret, SecretKey},
};

/// What keys are made of: those of the config first, and behind them those that are kept beside the file.
pub(super) struct Secrets {
    jwt: Vec<Secret>,
    encryption: Vec<SecretKey>,
}

impl Secrets {
    pub(super) fn of(config: &LoginStore, kept: Option<KeptKeys>) -> Self {
        let (mut jwt, mut encryption) = (config.jwt_secrets.clone(), config.encryption_keys.clone());
        if let Some(kept) = kept {
            jwt.push(kept.jwt_secret);
            encryption.push(kept.encryption_key);
        }
        Self { jwt, encryption }
    }

    pub(super) fn of_columns(&self) -> Keys {
        Keys::of(self.encryption.iter().map(SecretKey::expose), b"")
    }

    /// The file's own secret is in them: whoever knows the config alone makes no token.
    pub(super) fn of_tokens(&self, of_file: &SecretKey, salt: &[u8]) -> Keys {
        Keys::of(self.jwt.iter().map(Secret::expose), &[of_file.expose(), salt].concat())
    }
}
