//! Values that must never be shown.

use std::fmt;

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
