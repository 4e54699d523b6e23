//! The gateway as an authorization server, and as the resource server of its tokens: `"kind": "oauth"`.
//!
//! Each endpoint answers in a file of its own. What of a request they may look at is [`OauthRequest`]; fields of forms and of
//! queries are read by [`form`] alone.

mod authorize;
mod browser;
mod client_proof;
mod consent;
mod dashboard;
pub mod form;
mod introspect;
pub mod metadata;
mod places;
mod redirect;
mod refusal;
mod register;
mod request;
mod revoke;
mod sign_in;
mod token;

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
        OauthEndpoint::Token => token::answer(request).await,
        OauthEndpoint::Register => register::answer(request),
        OauthEndpoint::Revoke => revoke::answer(request).await,
        OauthEndpoint::Introspect => introspect::answer(request).await,
        OauthEndpoint::LogIn => sign_in::answer(request).await,
        OauthEndpoint::Consent => consent::answer_form(request).await,
        OauthEndpoint::LogOut => dashboard::sign_out(request).await,
        OauthEndpoint::Dashboard => dashboard::show(request).await,
        OauthEndpoint::RevokeGrant => dashboard::revoke(request).await,
        OauthEndpoint::ResourceMetadata => metadata::of_resource(request),
        OauthEndpoint::ServerMetadata => metadata::of_server(request),
        OauthEndpoint::NoMetadata => Err(ErrorKind::NotFound.into()),
    }
}
