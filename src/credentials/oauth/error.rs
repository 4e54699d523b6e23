//! Why an authorization server gives nothing.

use crate::identity::foreign::{source::NotFetched, token_endpoint::NoTokens};

/// Why an authorization server gives nothing, in words for the log. None of them is its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OauthError {
    /// It says no, in a word of the standard.
    Refused(OauthRefusal),
    /// It cannot be asked at the moment: nothing is lost, come again.
    Unavailable(&'static str),
    /// What it says is against the protocol, or not safe. It says nothing about what the gateway has of it.
    Broken(&'static str),
}

/// What an authorization server says no with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OauthRefusal {
    /// The code, the refresh token or the assertion is not good, or not any more: somebody has to connect again.
    InvalidGrant,
    /// It does not know the client, or not by this proof.
    InvalidClient,
    /// The client may not do that.
    UnauthorizedClient,
    /// A scope is none that may be asked for.
    InvalidScope,
    /// It gives no tokens for this resource or audience (RFC 8707 §2, RFC 8693 §2.2.2).
    InvalidTarget,
    /// The person, or the server, does not allow it.
    AccessDenied,
    /// It wants to see the person again.
    InteractionRequired,
    /// The caller is a program and no person, for which Microsoft Entra makes no token (AADSTS7000114).
    ApplicationOnly,
    /// Anything else.
    Other,
}

impl OauthRefusal {
    /// What a code for an error means: of the token endpoint (RFC 6749 §5.2), or of an answer that a browser brings (§4.1.2.1).
    fn of(error: &str) -> Self {
        match error {
            // Two are GitHub's.
            "invalid_grant" | "bad_verification_code" | "bad_refresh_token" => Self::InvalidGrant,
            "invalid_client" | "incorrect_client_credentials" => Self::InvalidClient,
            "unauthorized_client" => Self::UnauthorizedClient,
            "invalid_scope" => Self::InvalidScope,
            "invalid_target" => Self::InvalidTarget,
            "access_denied" => Self::AccessDenied,
            "interaction_required" | "login_required" | "consent_required" | "account_selection_required" => {
                Self::InteractionRequired
            }
            _ => Self::Other,
        }
    }

    /// As the log calls it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::InvalidGrant => "invalid_grant: what the gateway has is not good any more",
            Self::InvalidClient => "invalid_client: it does not know the gateway by what the gateway proves",
            Self::UnauthorizedClient => "unauthorized_client: the gateway may not ask that of it",
            Self::InvalidScope => "invalid_scope: one of the scopes is none that the gateway may ask for",
            Self::InvalidTarget => "invalid_target: it gives no token for this resource or audience",
            Self::AccessDenied => "access_denied: somebody broke it off, or it is not allowed",
            Self::InteractionRequired => "interaction_required: it wants to see the person again",
            Self::ApplicationOnly => {
                "AADSTS7000114: the caller is an application, and on-behalf-of is for people"
            }
            Self::Other => "it refuses what the gateway asks",
        }
    }
}

impl OauthError {
    /// The key of the config is none.
    pub(super) const NO_KEY: Self = Self::Broken("privateKey is none by which the gateway can sign");

    /// As the log calls it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.reason(),
            Self::Unavailable(why) | Self::Broken(why) => why,
        }
    }

    /// What a code for an error means, at the token endpoint or in what a browser brings.
    pub fn of_answer(error: &str) -> Self {
        match error {
            "temporarily_unavailable" | "server_error" | "slow_down" => {
                Self::Unavailable("temporarily_unavailable: it cannot answer at the moment")
            }
            error => Self::Refused(OauthRefusal::of(error)),
        }
    }
}

impl From<NotFetched> for OauthError {
    fn from(why: NotFetched) -> Self {
        match why {
            NotFetched::Unreachable | NotFetched::Timeout | NotFetched::Failing | NotFetched::Busy => {
                Self::Unavailable(why.name())
            }
            _ => Self::Broken(why.name()),
        }
    }
}

impl From<NoTokens> for OauthError {
    fn from(why: NoTokens) -> Self {
        match why {
            NoTokens::Refused { codes, .. } if codes.contains(&7_000_114) => {
                Self::Refused(OauthRefusal::ApplicationOnly)
            }
            NoTokens::Refused { error, .. } => Self::of_answer(&error),
            // A wall before it may say that, too: nothing is to be lost by it.
            NoTokens::Unauthorized => Self::Broken("its token endpoint says 401, and not why"),
            NoTokens::Unsaid => Self::Broken("its token endpoint refuses, and does not say why"),
            NoTokens::Unreadable => Self::Broken("the answer of its token endpoint is none"),
        }
    }
}
