//! What binds an answer of an identity provider to the browser that was sent to it.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::secret::{Secret, SecretKey};

/// The secrets of one login. All of them come from one key, so whoever keeps the login keeps that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginSecrets {
    /// `state`: comes back with the browser.
    pub state: Secret,
    /// `nonce`: comes back in the ID token.
    pub nonce: Secret,
    /// `code_verifier` (RFC 7636): the code is good for nobody else.
    pub verifier: Secret,
}

impl LoginSecrets {
    /// Those of this key. From one of them nobody learns another.
    pub fn of(key: &SecretKey) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        // 43 characters of those that a verifier may have (RFC 7636 §4.1).
        let derived = |label: &str| Secret::new(URL_SAFE_NO_PAD.encode(hmac::sign(&key, label.as_bytes())));
        Self {
            state: derived("sluicegate idp state"),
            nonce: derived("sluicegate idp nonce"),
            verifier: derived("sluicegate idp verifier"),
        }
    }

    /// Whether this is the `state`, in a time that says nothing about it.
    pub fn is_state(&self, shown: &str) -> bool {
        self.state.expose().as_bytes().ct_eq(shown.as_bytes()).into()
    }

    /// The `nonce`, in the same way.
    pub(super) fn is_nonce(&self, shown: &str) -> bool {
        self.nonce.expose().as_bytes().ct_eq(shown.as_bytes()).into()
    }

    /// `code_challenge` of the method S256 (RFC 7636 §4.2).
    pub(super) fn challenge(&self) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.expose()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secrets_of_a_login_come_from_its_key_and_are_of_no_other() {
        let of = |byte| LoginSecrets::of(&SecretKey::new([byte; 32]));
        let (one, other) = (of(1), of(2));
        assert_eq!(one, of(1));
        let all = [&one.state, &one.nonce, &one.verifier, &other.state, &other.nonce, &other.verifier];
        for (at, secret) in all.iter().enumerate() {
            assert_eq!(secret.expose().len(), 43);
            assert!(all[..at].iter().all(|before| before != secret));
        }
        assert!(one.is_state(one.state.expose()) && one.is_nonce(one.nonce.expose()));
        for wrong in ["", "x", one.nonce.expose(), other.state.expose(), &one.state.expose()[1..]] {
            assert!(!one.is_state(wrong), "{wrong}");
        }
        assert!(!one.is_nonce(one.state.expose()) && !one.is_nonce(""));
    }

    #[test]
    fn the_challenge_is_that_of_the_standard() {
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk".into());
        let secrets = LoginSecrets { verifier, ..LoginSecrets::of(&SecretKey::new([0; 32])) };
        assert_eq!(secrets.challenge(), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
