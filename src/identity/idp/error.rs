//! Why somebody did not log in by an identity provider.

use crate::identity::foreign::source::NotFetched;

/// Why somebody did not log in, or is not known any more, in words for the log. None of them is the provider's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdpError {
    /// The provider says no, or the config does not admit whom it vouches for.
    Refused(&'static str),
    /// The provider cannot be asked at the moment: come again.
    Unavailable(&'static str),
    /// What it answers is against the protocol, or it does not know the gateway.
    Broken(&'static str),
}

impl IdpError {
    /// As the log calls it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Refused(why) | Self::Unavailable(why) | Self::Broken(why) => why,
        }
    }
}

impl From<NotFetched> for IdpError {
    fn from(why: NotFetched) -> Self {
        match why {
            NotFetched::Unreachable | NotFetched::Timeout | NotFetched::Failing => {
                Self::Unavailable(why.name())
            }
            _ => Self::Broken(why.name()),
        }
    }
}
