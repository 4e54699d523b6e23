//! Which credential a server is called with.

use std::fmt;

/// Which credential a server is called with. What is kept between calls (a link that callers share, a process, a member of all
/// servers as one) belongs to one of them, so that no caller speaks with the credential of another.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct CredentialKey(Option<[u8; 16]>);

impl CredentialKey {
    /// The credentials of the config, which are the same for all callers.
    pub const STATIC: Self = Self(None);

    /// The credential of one caller, by an id that no other has.
    pub fn of_caller(id: [u8; 16]) -> Self {
        Self(Some(id))
    }

    /// The id, if it is of one caller. It is not to be shown.
    pub fn id(&self) -> Option<&[u8; 16]> {
        self.0.as_ref()
    }
}

/// Never the id, which may be made of a secret.
impl fmt::Debug for CredentialKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::STATIC { "static" } else { "of a caller" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_a_key_of_its_own_that_does_not_show() {
        let one = CredentialKey::of_caller([1; 16]);
        assert!(one == CredentialKey::of_caller([1; 16]) && one != CredentialKey::of_caller([2; 16]));
        assert!(one != CredentialKey::STATIC && CredentialKey::of_caller([0; 16]) != CredentialKey::STATIC);
        assert_eq!(format!("{one:?} {:?}", CredentialKey::STATIC), "of a caller static");
    }
}
