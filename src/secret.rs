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
