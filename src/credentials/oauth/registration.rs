//! Which client the gateway is at an authorization server; where it is none yet, it registers (RFC 7591).

use std::time::UNIX_EPOCH;

use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;
use zeroize::Zeroizing;

use super::{
    client::UpstreamClient, discovered::Discovered, error::OauthError, outgoing::Outgoing,
    token::LONGEST_TOKEN,
};
use crate::{
    config::{ClientAuthWay, UpstreamClientKey, UpstreamOauth},
    identity::foreign::source::{Ask, AskBody},
    net::signing_key::SigningKey,
    secret::Secret,
};

/// Bytes of a client's id at most.
const LONGEST_ID: usize = 2 << 10;

/// What comes of it.
#[derive(Deserialize)]
struct Registered {
    client_id: String,
    client_secret: Option<Zeroizing<String>>,
    client_secret_expires_at: Option<u64>,
    token_endpoint_auth_method: Option<String>,
}

/// Who the gateway is at this authorization server: the client of the config; the one that registered before, if it is `registered`;
/// the one whose document the config names, if it takes those; else one that registers now, and is to be kept.
pub async fn client(
    outgoing: &Outgoing,
    oauth: &UpstreamOauth,
    discovered: &Discovered,
    redirect_uri: &str,
    registered: Option<UpstreamClient>,
    gateway_name: &str,
) -> Result<UpstreamClient, OauthError> {
    let (key, ways, issuer) = (&oauth.client_key, discovered.ways.as_deref(), &*discovered.issuer);
    if let Some(id) = &oauth.client_id {
        return UpstreamClient::configured(id, key, ways, issuer);
    }
    let now = outgoing.clock().now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let is_good = |client: &UpstreamClient| {
        *client.issuer == *issuer
            && client.redirect_uri.as_deref() == Some(redirect_uri)
            && client.ends.is_none_or(|ends| now < ends)
    };
    if let Some(client) = registered.filter(is_good) {
        return client.with_key(key);
    }
    if let Some(document) = &oauth.client_metadata_url
        && discovered.takes_client_document
        // One client that all issuers know: whoever has a browser sent to another issuer than the gateway believes would have that one's
        // code brought to itself, if answers did not say whose they are (RFC 9700 §4.4).
        && discovered.says_iss
    {
        // A secret in a document would be none.
        let key = UpstreamClientKey { secret: None, ..key.clone() };
        let key = match key.way {
            Some(ClientAuthWay::Basic | ClientAuthWay::Post) => UpstreamClientKey { way: None, ..key },
            _ => key,
        };
        return UpstreamClient::configured(&document.as_str().into(), &key, ways, issuer);
    }
    match &discovered.registration {
        Some(place) if oauth.registers => {
            register(outgoing, discovered, place, key, redirect_uri, gateway_name).await
        }
        _ => Err(OauthError::Broken(
            "its authorization server knows the gateway only by a clientId, which the config does not have",
        )),
    }
}

/// Registers a client with `key`, to whom browsers come back at `redirect_uri`.
async fn register(
    outgoing: &Outgoing,
    discovered: &Discovered,
    place: &Url,
    key: &UpstreamClientKey,
    redirect_uri: &str,
    name: &str,
) -> Result<UpstreamClient, OauthError> {
    let wanted = wanted(key, discovered.ways.as_deref());
    let mut asked = json!({
        "client_name": name,
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": wanted.name(),
        "application_type": "web",
    });
    if wanted == ClientAuthWay::PrivateKeyJwt {
        asked["jwks"] = json!({ "keys": [public_key(key)?] });
    }
    let body = Some(AskBody::Json(Zeroizing::new(asked.to_string())));
    let answer = outgoing.ask(discovered.reach(place), place, Ask { body, ..Ask::default() }).await?;
    if !matches!(answer.status.as_u16(), 200 | 201) {
        return Err(OauthError::Broken("its authorization server does not register the gateway"));
    }
    const NONE: OauthError = OauthError::Broken("what came of the registration is no client");
    let registered: Registered = serde_json::from_slice(&answer.body).map_err(|_| NONE)?;
    let is_text = |text: &str, most: usize| {
        (1..=most).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
    };
    let secret = registered.client_secret.filter(|secret| !secret.is_empty());
    if !is_text(&registered.client_id, LONGEST_ID)
        || secret.as_ref().is_some_and(|secret| !is_text(secret, LONGEST_TOKEN))
    {
        return Err(NONE);
    }
    let way = match registered.token_endpoint_auth_method {
        Some(name) => ClientAuthWay::of_name(&name).ok_or(OauthError::Broken(
            "it registers the gateway with a way to prove itself that the gateway does not know",
        ))?,
        None => wanted,
    };
    // One that has got no secret cannot prove itself by one.
    let way = match way {
        ClientAuthWay::Basic | ClientAuthWay::Post if secret.is_none() => ClientAuthWay::None,
        way => way,
    };
    let client = UpstreamClient {
        client_id: registered.client_id.into(),
        way,
        secret: secret.map(|secret| Secret::new(secret.to_string())),
        key: None,
        issuer: discovered.issuer.clone(),
        is_registered: true,
        redirect_uri: Some(redirect_uri.into()),
        // RFC 7591 §3.2.1: 0 is never.
        ends: registered.client_secret_expires_at.filter(|ends| *ends > 0),
    };
    client.with_key(key)
}

/// How the client is to prove itself: as the config says, else the best way that the issuer takes.
fn wanted(key: &UpstreamClientKey, ways: Option<&[ClientAuthWay]>) -> ClientAuthWay {
    if let Some(way) = key.way {
        return way;
    }
    // Without a list it is `client_secret_basic` (RFC 8414 §2).
    let ways = ways.unwrap_or(&[ClientAuthWay::Basic]);
    let by_key = key.private_key.is_some().then_some(ClientAuthWay::PrivateKeyJwt);
    let best = by_key.into_iter().chain([ClientAuthWay::Basic, ClientAuthWay::Post, ClientAuthWay::None]);
    best.into_iter().find(|way| ways.contains(way)).unwrap_or(ClientAuthWay::None)
}

fn public_key(key: &UpstreamClientKey) -> Result<Value, OauthError> {
    let key = key
        .private_key
        .as_ref()
        .and_then(|pem| SigningKey::of_pem(pem.expose()))
        .ok_or(OauthError::NO_KEY)?;
    Ok(key.public_jwk())
}
