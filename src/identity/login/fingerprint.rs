//! What tokens know a password by.

use std::fmt;

use aws_lc_rs::hmac;

use super::keys::{Keys, NoKey, Purpose};

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
        let key = keys.first(Purpose::Fingerprint)?;
        // A MAC, so that a token says nothing of the hash.
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*key), password_hash.as_bytes());
        mac.as_ref().first_chunk().copied().map(Self).ok_or(NoKey)
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
    }
}
