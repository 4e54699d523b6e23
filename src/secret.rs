//! Values that must never be shown.

use std::{borrow::Cow, fmt};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use memchr::memmem;
use percent_encoding::percent_decode;
use zeroize::Zeroizing;

/// Text that opens something: a token, a key, a credential for an upstream.
///
/// It has no `Display`, its `Debug` says nothing, and its memory is wiped when it is dropped. Reading
/// it takes the one method whose name a reviewer can search for.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps `value`; from here on it can only be used through [`Secret::expose`].
    pub fn new(value: String) -> Self {
        Self(Zeroizing::new(value))
    }

    /// The value itself, for hashing it or handing it to the peer it was made for.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A key of 256 bits. As [`Secret`], it is shown nowhere and wiped on drop.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(Zeroizing<[u8; 32]>);

impl SecretKey {
    /// What stands in front of a key that is written in base64.
    const BASE64: &str = "base64:";

    /// A new one. Fails if the system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *key)?;
        Ok(Self(key))
    }

    /// The one of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// As it is written: 32 bytes, or `base64:` and 32 bytes in base64.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix(Self::BASE64) {
            Some(encoded) => {
                let decoded = STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded));
                let decoded = Zeroizing::new(decoded.or_else(|_| URL_SAFE_NO_PAD.decode(encoded)).ok()?);
                decoded.as_slice().try_into().ok().map(Self::new)
            }
            None => text.as_bytes().try_into().ok().map(Self::new),
        }
    }

    /// How it is written.
    pub fn written(&self) -> Secret {
        Secret::new(format!("{}{}", Self::BASE64, STANDARD.encode(self.expose())))
    }

    /// Its bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(…)")
    }
}

/// Whether `secret` stands somewhere in `value`, as it is or percent-encoded. Nearly every value is shorter than a
/// token, and is answered by that.
pub fn holds(value: &[u8], secret: &[u8]) -> bool {
    if value.len() < secret.len() || secret.is_empty() {
        return false;
    }
    memmem::find(value, secret).is_some()
        || (value.contains(&b'%') && memmem::find(&Cow::from(percent_decode(value)), secret).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_says_what_it_is_only_when_it_is_asked() {
        let secret = Secret::new("dev-token-123".into());
        assert_eq!(secret.expose(), "dev-token-123");
        assert_eq!(format!("{secret:?}"), "Secret(…)");
    }

    #[test]
    fn a_key_is_32_bytes_as_they_are_or_in_base64() {
        let key = SecretKey::random().unwrap();
        assert_eq!(SecretKey::parse(key.written().expose()), Some(key.clone()));
        assert_eq!(format!("{key:?}"), "SecretKey(…)");
        let text = "0123456789abcdef0123456789abcdef";
        assert_eq!(SecretKey::parse(text).unwrap().expose(), text.as_bytes());
        let unpadded = key.written().expose().trim_end_matches('=').to_owned();
        assert_eq!(SecretKey::parse(&unpadded), Some(key));
        for bad in ["", &text[1..], &format!("{text}x"), "base64:", "base64:AAAA", "base64:!"] {
            assert_eq!(SecretKey::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_secret_is_found_wherever_it_is_in_a_value_and_however_it_is_escaped() {
        for value in ["secret", "a=secret", "secret!", "xsecretx", "%73ecret", "a=s%65cre%74&b=%20"] {
            assert!(holds(value.as_bytes(), b"secret"), "{value}");
        }
        for value in
            ["", "secre", "Secret", "sec-ret", "a longer value", "a%20longer%20value", "sec%2Dret", "%"]
        {
            assert!(!holds(value.as_bytes(), b"secret"), "{value}");
        }
        assert!(!holds(b"a value", b"") && !holds(b"", b""), "no secret is in nothing");
    }
}
