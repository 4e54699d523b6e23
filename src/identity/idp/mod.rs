//! The gateway as a client of an identity provider: it sends people there, and learns who they are (OpenID Connect Core 1.0, RFC 6749,
//! RFC 7636, RFC 9207; GitHub's OAuth).
//!
//! Somebody is who the provider says under its issuer and a subject that it gives to nobody else. An address only admits, and only if
//! the provider has verified it. What the provider keeps for the gateway, a refresh token or GitHub's access token, is for nothing but
//! asking it again about the same person.

mod asking;
mod claims;
mod client;
mod error;
mod github;
mod id_token;
mod metadata;
#[cfg(test)]
mod played;
mod secrets;
#[cfg(test)]
mod tests;
mod token;
#[cfg(test)]
mod wrong_tests;

pub use self::{
    claims::KeptClaims,
    client::{AskedAgain, Idp, IdpLogin},
    error::IdpError,
    secrets::LoginSecrets,
};
