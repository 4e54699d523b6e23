//! The gateway as an authorization server, and as the resource server of its tokens: `"kind": "oauth"`.
//!
//! Each endpoint answers in a file of its own. What of a request they may look at is [`OauthRequest`]; fields of forms and of
//! queries are read by [`form`] alone.

mod authorize;
mod consent;
mod dashboard;
pub mod form;
mod log_in;
mod places;
mod register;
mod request;
mod visit;

use http::Response;

pub use self::request::OauthRequest;
use super::table::OauthEndpoint;
use crate::{
    body::Payload,
    error::{Error, ErrorKind},
};

/// Answers it.
pub async fn answer(request: &OauthRequest<'_>, endpoint: OauthEndpoint) -> Result<Response<Payload>, Error> {
    match endpoint {
        OauthEndpoint::Authorize => authorize::answer(request).await,
        OauthEndpoint::Register => register::answer(request),
        OauthEndpoint::LogIn => log_in::answer(request).await,
        OauthEndpoint::Consent => consent::answer_form(request).await,
        OauthEndpoint::LogOut => dashboard::sign_out(request).await,
        OauthEndpoint::Dashboard => dashboard::show(request).await,
        OauthEndpoint::RevokeGrant => dashboard::revoke(request).await,
        OauthEndpoint::ResourceMetadata
        | OauthEndpoint::ServerMetadata
        | OauthEndpoint::NoMetadata
        | OauthEndpoint::Token
        | OauthEndpoint::Revoke
        | OauthEndpoint::Introspect => Err(ErrorKind::NotFound.into()),
    }
}
