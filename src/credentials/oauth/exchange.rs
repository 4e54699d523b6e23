//! A token of the caller's is changed for one that is good at the server (RFC 8693; Microsoft Entra on behalf of; RFC 7523 with an
//! assertion of the identity provider, `draft-ietf-oauth-identity-assertion-authz-grant`).

use super::{
    client::UpstreamClient,
    error::OauthError,
    outgoing::{Outgoing, Reach},
    token::{Endpoint, TokenAnswer, good, is_token, read, with},
};
use crate::{
    config::{ExchangeProfile, TokenExchange, UpstreamClientKey},
    identity::foreign::token_endpoint::form,
    secret::Secret,
};

/// `subject_token_type` (RFC 8693 §3)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubjectKind {
    /// An access token of its issuer.
    AccessToken,
    /// What says who somebody is, to the gateway.
    IdToken,
}

impl SubjectKind {
    fn name(self) -> &'static str {
        match self {
            Self::AccessToken => "urn:ietf:params:oauth:token-type:access_token",
            Self::IdToken => "urn:ietf:params:oauth:token-type:id_token",
        }
    }
}

const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const ID_JAG: &str = "urn:ietf:params:oauth:token-type:id-jag";

/// What is given for `subject`, which was verified.
pub async fn exchange(
    outgoing: &Outgoing,
    exchange: &TokenExchange,
    subject: &Secret,
    kind: SubjectKind,
) -> Result<TokenAnswer, OauthError> {
    let first = Party::of(outgoing, exchange.client_id.as_ref(), &exchange.client_key, &exchange.token_url)?;
    let mut form = form();
    match exchange.profile {
        ExchangeProfile::EntraOnBehalfOf => {
            form.append_pair("grant_type", JWT_BEARER)
                .append_pair("assertion", subject.expose())
                .append_pair("requested_token_use", "on_behalf_of");
        }
        ExchangeProfile::TokenExchange | ExchangeProfile::IdJag => {
            let wanted = if exchange.profile == ExchangeProfile::IdJag { ID_JAG } else { ACCESS_TOKEN };
            form.append_pair("grant_type", EXCHANGE)
                .append_pair("subject_token", subject.expose())
                .append_pair("subject_token_type", kind.name())
                .append_pair("requested_token_type", wanted);
            if let Some(audience) = &exchange.audience {
                form.append_pair("audience", audience);
            }
        }
    }
    let answer = first.endpoint().ask(with(form, &exchange.scopes, exchange.resource.as_deref())).await?;
    if exchange.profile != ExchangeProfile::IdJag {
        return good(read(answer, outgoing.clock().now()));
    }
    // RFC 8693 §2.2.1: of an assertion, `token_type` says nothing.
    let is_assertion = answer.issued_token_type.as_deref().is_none_or(|kind| kind == ID_JAG);
    let assertion = answer.access().filter(|token| is_assertion && is_token(token));
    let assertion = assertion.ok_or(OauthError::Broken("it gave no assertion for the server's issuer"))?;
    const NO_SECOND: OauthError = OauthError::Broken("serverTokenUrl is missing");
    let second = exchange.second.as_ref().ok_or(NO_SECOND)?;
    let second = Party::of(outgoing, second.client_id.as_ref(), &second.client_key, &second.token_url)?;
    let mut form = self::form();
    form.append_pair("grant_type", JWT_BEARER).append_pair("assertion", assertion);
    let answer = second.endpoint().ask(with(form, &exchange.scopes, None)).await?;
    good(read(answer, outgoing.clock().now()))
}

/// A token endpoint that the config names, and who asks there.
struct Party<'a> {
    outgoing: &'a Outgoing,
    client: UpstreamClient,
    url: &'a url::Url,
}

impl<'a> Party<'a> {
    /// Of whom only the place is known, that is asked by that name (RFC 7523 §3).
    fn of(
        outgoing: &'a Outgoing,
        client_id: Option<&std::sync::Arc<str>>,
        key: &UpstreamClientKey,
        url: &'a url::Url,
    ) -> Result<Self, OauthError> {
        // Who asks without one is nobody in particular (RFC 8693 §2.1).
        let client_id = client_id.cloned().unwrap_or_default();
        let client = UpstreamClient::configured(&client_id, key, None, url.as_str())?;
        Ok(Self { outgoing, client, url })
    }

    fn endpoint(&self) -> Endpoint<'_> {
        Endpoint {
            outgoing: self.outgoing,
            url: self.url,
            reach: Reach::Anywhere,
            client: &self.client,
            audience: self.url.as_str(),
        }
    }
}
