//! Values that must never be shown.

use std::{borrow::Cow, fmt};

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
