//! The gateway as an authorization server, and as the resource server of its tokens: `"kind": "oauth"`.
//!
//! Each endpoint answers in a file of its own. What of a request they may look at is [`OauthRequest`]; fields of forms and of
//! queries are read by [`form`] alone.

mod accounts;
mod authorize;
mod browser;
mod callback;
mod client_document;
mod client_proof;
mod connect;
mod connect_first;
mod consent;
mod dashboard;
pub mod form;
mod introspect;
mod machine;
pub mod metadata;
mod places;
mod redirect;
mod refusal;
mod register;
mod request;
mod revoke;
mod sign_in;
mod signed_in;
mod token;

use http::Response;

use self::browser::Browser;
pub use self::{browser::failed_page, request::OauthRequest};
use super::table::OauthEndpoint;
use crate::{
    body::Payload,
    error::{Error, ErrorKind},
};

/// Answers it.
pub async fn answer(request: &OauthRequest<'_>, endpoint: OauthEndpoint) -> Result<Response<Payload>, Error> {
    match endpoint {
        OauthEndpoint::Token => token::answer(request).await,
        OauthEndpoint::Register => register::answer(request),
        OauthEndpoint::Revoke => revoke::answer(request).await,
        OauthEndpoint::Introspect => introspect::answer(request).await,
        OauthEndpoint::ResourceMetadata => {
            metadata::of_resource(&request.live.config, request.path(), request.query())
        }
        OauthEndpoint::ServerMetadata => metadata::of_server(request),
        OauthEndpoint::ClientDocument => client_document::answer(request),
        OauthEndpoint::NoMetadata => Err(ErrorKind::NotFound.into()),
        OauthEndpoint::Authorize
        | OauthEndpoint::LogIn
        | OauthEndpoint::Callback
        | OauthEndpoint::Consent
        | OauthEndpoint::LogOut
        | OauthEndpoint::Dashboard
        | OauthEndpoint::RevokeGrant
        | OauthEndpoint::Connect
        | OauthEndpoint::ConnectElsewhere
        | OauthEndpoint::Approve
        | OauthEndpoint::Connected
        | OauthEndpoint::NotConnected
        | OauthEndpoint::Disconnect
        | OauthEndpoint::SetToken => answer_browser(request, endpoint).await,
    }
}

/// Answers somebody's browser. What fails is a page too, and has the cookies that were to be set until then.
async fn answer_browser(
    request: &OauthRequest<'_>,
    endpoint: OauthEndpoint,
) -> Result<Response<Payload>, Error> {
    let mut browser = Browser::of(request)?;
    let answered = match endpoint {
        OauthEndpoint::Authorize => authorize::answer(&browser).await,
        OauthEndpoint::LogIn => sign_in::answer(&mut browser).await,
        OauthEndpoint::Callback => callback::answer(&mut browser).await,
        OauthEndpoint::Consent => consent::answer(&browser).await,
        OauthEndpoint::LogOut => dashboard::sign_out(&mut browser).await,
        OauthEndpoint::Dashboard => dashboard::show(&browser).await,
        OauthEndpoint::RevokeGrant => dashboard::revoke(&browser).await,
        OauthEndpoint::Connect => connect::answer(&browser).await,
        OauthEndpoint::ConnectElsewhere => connect::elsewhere(&browser),
        OauthEndpoint::Approve => connect::decide(&browser).await,
        OauthEndpoint::Connected => connect::succeeded(&browser).await,
        OauthEndpoint::NotConnected => Ok(connect::failed(&browser)),
        OauthEndpoint::Disconnect => dashboard::disconnect(&browser).await,
        OauthEndpoint::SetToken => connect::set_token(&browser).await,
        _ => Err(ErrorKind::Internal.with_cause("no page is at this endpoint")),
    };
    Ok(answered.unwrap_or_else(|error| browser.failed(error)))
}
