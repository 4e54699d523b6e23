//! Where a browser is sent, for somebody to allow the gateway something.

use url::Url;

use super::{challenge::distinct, client::UpstreamClient, discovered::Discovered, error::OauthError};
use crate::config::UpstreamOauth;

const OFFLINE_ACCESS: &str = "offline_access";

/// What of an authorization request is of one time.
#[derive(Debug, Clone, Copy)]
pub struct AuthorizationAsk<'a> {
    /// `state`: comes back with the browser.
    pub state: &'a str,
    /// `code_challenge`, by S256 (RFC 7636 §4.2).
    pub challenge: &'a str,
    /// Where the browser is sent back to.
    pub redirect_uri: &'a str,
    /// What is asked for: [`scopes`].
    pub scopes: &'a [String],
    /// What tokens are to be for.
    pub resource: Option<&'a str>,
}

/// What the gateway asks for at this authorization server: what the server's challenge wants, and what the config has; if neither says
/// anything, all that the server lists; and what keeps the connection, if it is there. `more` is what was granted before, or is
/// missing.
pub fn scopes(oauth: &UpstreamOauth, discovered: &Discovered, more: &[String]) -> Vec<String> {
    let challenged = discovered.scopes_of_challenge.iter().flatten();
    let mut asked = distinct(challenged.chain(&oauth.scopes).cloned());
    if asked.is_empty() {
        asked.extend(discovered.scopes_of_resource.iter().flatten().cloned());
    }
    asked.extend_from_slice(more);
    if discovered.has_offline_access {
        asked.push(OFFLINE_ACCESS.into());
    }
    distinct(asked)
}

/// Where a browser is sent (RFC 6749 §4.1.1, RFC 7636 §4.3, RFC 8707 §2.1).
pub fn authorization_url(
    discovered: &Discovered,
    oauth: &UpstreamOauth,
    client: &UpstreamClient,
    ask: &AuthorizationAsk<'_>,
) -> Result<Url, OauthError> {
    let none = OauthError::Broken("its metadata has no authorization endpoint");
    let mut url = discovered.authorization.clone().ok_or(none)?;
    let scope = ask.scopes.join(" ");
    let mut own = vec![
        ("response_type", "code"),
        ("client_id", &*client.client_id),
        ("redirect_uri", ask.redirect_uri),
        ("state", ask.state),
        ("code_challenge", ask.challenge),
        ("code_challenge_method", "S256"),
    ];
    own.extend((!scope.is_empty()).then_some(("scope", &*scope)));
    own.extend(ask.resource.map(|resource| ("resource", resource)));
    let has = |name: &str| oauth.extra_params.iter().any(|(extra, _)| extra == name);
    // OpenID Connect Core §11: else it is not asked for.
    if ask.scopes.iter().any(|scope| scope == OFFLINE_ACCESS) && !has("prompt") {
        own.push(("prompt", "consent"));
    }
    let is_own = |name: &str| own.iter().any(|(own, _)| *own == name) || name == "iss" || name == "request";
    let extra = oauth.extra_params.iter().filter(|(name, _)| !is_own(name));
    let mut query = url.query_pairs_mut();
    query.extend_pairs(&own).extend_pairs(extra.map(|(name, value)| (name, value)));
    drop(query);
    Ok(url)
}
