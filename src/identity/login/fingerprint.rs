//! What tokens know a password by, or the token or the identity provider that somebody logged in with.

use std::fmt;

use aws_lc_rs::hmac;
use sha2::{Digest as _, Sha256};

use super::keys::{Keys, NoKey, Purpose};
use crate::config::Issuer;

/// Eight bytes by which a token knows whether the user's password is still the same.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 8]);

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(…)")
    }
}

impl Fingerprint {
    /// The one of these bytes.
    pub fn new(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 8] {
        self.0
    }

    /// That of a password hash.
    pub fn of(keys: &Keys, password_hash: &str) -> Result<Self, NoKey> {
        Self::made(keys, &[password_hash.as_bytes()])
    }

    /// That of a static token with this SHA-256.
    pub fn of_token(keys: &Keys, digest: &[u8; 32]) -> Result<Self, NoKey> {
        // A hash in PHC form begins with "$".
        Self::made(keys, &[b"token\0", digest])
    }

    /// That of an identity provider of whom the config says this: what it is called, its issuer, and who the gateway is there.
    pub fn of_idp(keys: &Keys, parts: [&str; 3]) -> Result<Self, NoKey> {
        let lengths = parts.map(|part| (part.len() as u64).to_be_bytes());
        let [name, issuer, client] = parts.map(str::as_bytes);
        let all = [&b"idp\0"[..], &lengths[0], name, &lengths[1], issuer, &lengths[2], client];
        Self::made(keys, &all)
    }

    /// That of what a client proves itself by, with this SHA-256.
    pub fn of_client(keys: &Keys, credential: &[u8; 32]) -> Result<Self, NoKey> {
        Self::made(keys, &[b"client\0", credential])
    }

    /// That of an issuer, as it says who somebody is, and of what the client proves itself by that brings what it says, with this SHA-256.
    pub fn of_assertion(keys: &Keys, issuer: &Issuer, credential: &[u8; 32]) -> Result<Self, NoKey> {
        let Issuer { issuer, principal_claim, tenant_id, .. } = issuer;
        let tenant = tenant_id.as_deref().unwrap_or_default();
        // Each by its hash, so that no two of them read as another two.
        let parts = [&**issuer, principal_claim, tenant].map(Sha256::digest);
        Self::made(keys, &[b"issuer\0", &parts[0], &parts[1], &parts[2], credential])
    }

    fn made(keys: &Keys, parts: &[&[u8]]) -> Result<Self, NoKey> {
        let key = keys.first(Purpose::Fingerprint)?;
        // A MAC, so that a token says nothing of the hash.
        let mut mac = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &*key));
        parts.iter().for_each(|part| mac.update(part));
        mac.sign().as_ref().first_chunk().copied().map(Self).ok_or(NoKey)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_password_has_another_fingerprint() {
        let (keys, others) = (Keys::random().unwrap(), Keys::random().unwrap());
        let of = |keys, hash| Fingerprint::of(keys, hash).unwrap();
        assert_eq!(of(&keys, "a"), of(&keys, "a"));
        assert_ne!(of(&keys, "a"), of(&keys, "b"));
        assert_ne!(of(&keys, "a"), of(&others, "a"));
        assert_eq!(format!("{:?}", of(&keys, "a")), "Fingerprint(…)");
        let of_token = |digest| Fingerprint::of_token(&keys, &digest).unwrap();
        assert_eq!(of_token([1; 32]), of_token([1; 32]));
        let of_idp = |parts| Fingerprint::of_idp(&keys, parts).unwrap();
        assert_eq!(of_idp(["a", "bc", "d"]), of_idp(["a", "bc", "d"]));
        for other in [["ab", "c", "d"], ["a", "b", "cd"], ["a", "bc", ""], ["", "abc", "d"]] {
            assert_ne!(of_idp(["a", "bc", "d"]), of_idp(other));
        }
        assert!(of_token([1; 32]) != of_token([2; 32]) && of_token([1; 32]) != of(&keys, "a"));
        let of_client = |digest| Fingerprint::of_client(&keys, &digest).unwrap();
        assert_eq!(of_client([1; 32]), of_client([1; 32]));
        assert!(of_client([1; 32]) != of_client([2; 32]) && of_client([1; 32]) != of_token([1; 32]));
        let corp = Issuer::with_keys_at("corp", &"https://corp.example/keys".parse().unwrap());
        let of_assertion = |digest| Fingerprint::of_assertion(&keys, &corp, &digest).unwrap();
        assert_eq!(of_assertion([1; 32]), of_assertion([1; 32]));
        assert_ne!(of_assertion([1; 32]), of_assertion([2; 32]));
    }
}
