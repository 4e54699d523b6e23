//! `/oauth/introspect`: a client with a secret asks what an access token is (RFC 7662): one of its own, or, with the role `admin`,
//! of any.

use std::time::{SystemTime, UNIX_EPOCH};

use http::{Response, StatusCode};
use serde_json::json;

use super::{
    client_proof::{LetIn, Proved, proved},
    refusal::{Refusal, answer as json_answer},
    request::OauthRequest,
};
use crate::{body::Payload, config::ADMIN, error::Error, oauth::ClientAuth};

/// Answers one. Of a token that does not hold, that is not one, or that is not for this client to know of, nothing else is said.
pub(super) async fn answer(request: &OauthRequest<'_>) -> Result<Response<Payload>, Error> {
    let Proved { form, client, .. } = match proved(request, LetIn::Now).await? {
        Ok(proved) => proved,
        Err(refusal) => return Ok(refusal.answer(request)),
    };
    // Anybody can be one without a secret.
    if client.auth == ClientAuth::None {
        return Ok(Refusal::client(false).answer(request));
    }
    let Some(token) = form.get("token") else {
        return Ok(Refusal::request("token is missing.").answer(request));
    };
    let live = request.live;
    let is_admin = |client: &crate::config::OauthClient| client.roles.iter().any(|role| role == ADMIN);
    let is_admin = request.config.client(&client.id).is_some_and(is_admin);
    let claims = live.taken_access(token.as_bytes());
    let claims = claims.filter(|claims| is_admin || claims.client_id == client.id);
    let body = match claims {
        None => json!({ "active": false }),
        Some(claims) => json!({
            "active": true,
            "client_id": &*claims.client_id,
            "sub": claims.principal.to_string(),
            "username": claims.principal.name().map(|name| &**name),
            "aud": &*claims.resource,
            "scope": &*claims.scope,
            "iss": &*request.config.issuer,
            "iat": seconds(claims.issued),
            "exp": seconds(claims.expires.min(claims.grant_ends)),
            "token_type": "Bearer",
        }),
    };
    Ok(json_answer(StatusCode::OK, &body))
}

fn seconds(moment: SystemTime) -> u64 {
    moment.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
