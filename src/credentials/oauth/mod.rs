//! The gateway as a client of the authorization servers of its servers (MCP 2026-07-28, authorization; RFC 6749, 7009, 7591, 7636, 8414,
//! 8693, 8707, 9207, 9728): where they are, who the gateway is there, and what they give.
//!
//! What the config names may be anywhere. What a server names is a stranger's word: it is asked over HTTPS at hosts of the public
//! Internet alone, unless it is at the server's own place, or `allowPrivateIssuers` says that it may be elsewhere. No redirect is
//! followed. Of what others answer, no text goes to log or pages: there are words for all that may be wrong.

mod authorization;
mod challenge;
mod client;
mod discovered;
mod discovery;
mod error;
mod exchange;
mod outgoing;
#[cfg(test)]
mod played;
mod registration;
#[cfg(test)]
mod tests;
mod token;
mod written;
#[cfg(test)]
mod wrong_tests;

pub use self::{
    authorization::{AuthorizationAsk, authorization_url, scopes},
    challenge::Challenge,
    client::UpstreamClient,
    discovered::Discovered,
    discovery::{Purpose, discover},
    error::{OauthError, OauthRefusal},
    exchange::{SubjectKind, exchange},
    outgoing::{Outgoing, Reach},
    registration::client,
    token::{TokenAnswer, TokenKind, client_credentials, redeem, refresh, revoke},
};
