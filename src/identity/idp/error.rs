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
    /// As many wait for it as may.
    pub(super) const BUSY: Self = Self::Unavailable("too many logins wait for it");
    /// It does not take the gateway's word that it is the client.
    pub(super) const UNKNOWN_CLIENT: Self =
        Self::Broken("it does not know the gateway by clientId and clientSecret");

    /// As the log calls it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Refused(why) | Self::Unavailable(why) | Self::Broken(why) => why,
        }
    }

    /// What a code for an error means: of the token endpoint (RFC 6749 §5.2), or of an answer that a browser brings (§4.1.2.1; OpenID
    /// Connect Core §3.1.2.6). Some are GitHub's.
    pub fn of_answer(error: &str) -> Self {
        match error {
            "access_denied" => {
                Self::Refused("access_denied: the login was broken off, or the provider does not allow it")
            }
            "invalid_grant" | "bad_verification_code" | "bad_refresh_token" => {
                Self::Refused("invalid_grant: the provider has ended the login, or the code was used")
            }
            "interaction_required" | "login_required" | "consent_required" | "account_selection_required" => {
                Self::Refused("interaction_required: the provider wants to see the person again")
            }
            "unverified_user_email" => Self::Refused("the account has no verified address"),
            "temporarily_unavailable" | "server_error" | "slow_down" => {
                Self::Unavailable("temporarily_unavailable: the provider cannot answer at the moment")
            }
            "invalid_client" | "unauthorized_client" | "incorrect_client_credentials" => Self::UNKNOWN_CLIENT,
            "redirect_uri_mismatch" => {
                Self::Broken("redirect_uri_mismatch: redirectUri is not registered there")
            }
            "invalid_scope" => {
                Self::Broken("invalid_scope: one of scopes is none that the gateway may ask for")
            }
            _ => Self::Broken("it refuses what the gateway asks"),
        }
    }
}

impl From<NotFetched> for IdpError {
    fn from(why: NotFetched) -> Self {
        match why {
            NotFetched::Unreachable | NotFetched::Timeout | NotFetched::Failing | NotFetched::Busy => {
                Self::Unavailable(why.name())
            }
            _ => Self::Broken(why.name()),
        }
    }
}
