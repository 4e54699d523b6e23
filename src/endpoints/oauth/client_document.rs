//! `/oauth/client.json`: who the gateway is, for issuers of servers that read it there (client ID metadata documents), and
//! `/oauth/jwks.json`: by which keys they know what it signs.
//!
//! Everybody may read it, so that it names no server: where browsers come back to is one place for all, and what waits for them says
//! which server it is for.

use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Value, json};

use super::OauthRequest;
use crate::{
    body::{Payload, response},
    config::UpstreamOauth,
    credentials::flow::{client_document, connects_by},
    error::{Error, ErrorKind},
    net::signing_key::SigningKey,
};

/// How long an issuer may keep it.
const KEPT: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// Answers one.
pub(super) fn answer(request: &OauthRequest<'_>) -> Result<Response<Payload>, Error> {
    let base = &*request.config.base;
    let servers = request.live.servers.iter().map(|entry| &entry.server);
    let clients: Vec<(&str, &UpstreamOauth)> = servers
        .filter_map(|server| Some((&*server.name, connects_by(server.upstream_auth.as_deref()?)?)))
        .filter(|(_, oauth)| oauth.client_id.is_none())
        .collect();
    let keys = keys(&clients);
    let body = match request.path().trim_end_matches('/') {
        _ if clients.is_empty() => return Err(ErrorKind::NotFound.into()),
        "/oauth/client.json" => document(base, &request.live.config.name, &clients, !keys.is_empty()),
        _ if keys.is_empty() => return Err(ErrorKind::NotFound.into()),
        _ => json!({ "keys": keys }),
    };
    let mut response = response::json(StatusCode::OK, body.to_string());
    response.headers_mut().insert(header::CACHE_CONTROL, KEPT);
    Ok(response)
}

/// What the gateway signs with. Issuers know it as one client, whichever server it is for.
fn keys(clients: &[(&str, &UpstreamOauth)]) -> Vec<Value> {
    let pems = clients.iter().filter_map(|(_, oauth)| oauth.client_key.private_key.as_ref());
    let mut keys = Vec::new();
    for key in pems.filter_map(|pem| SigningKey::of_pem(pem.expose())).map(|key| key.public_jwk()) {
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn document(base: &str, name: &str, clients: &[(&str, &UpstreamOauth)], signs: bool) -> Value {
    let shared = format!("{base}/oauth/callback");
    let mut redirect_uris = vec![shared.clone()];
    for (server, oauth) in clients {
        // One that the config writes out is meant to be known.
        let own = format!("{shared}/{server}");
        let written = oauth.redirect_uri.as_deref().filter(|uri| *uri != own);
        redirect_uris.extend(written.filter(|uri| *uri != shared).map(str::to_owned));
    }
    let mut document = json!({
        "client_id": client_document(base),
        "client_name": name,
        "client_uri": base,
        "redirect_uris": redirect_uris,
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": if signs { "private_key_jwt" } else { "none" },
        "application_type": "web",
    });
    if signs {
        document["jwks_uri"] = format!("{base}/oauth/jwks.json").into();
    }
    document
}
