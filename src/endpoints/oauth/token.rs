//! `/token`: a client gets tokens for a code, or for a refresh token (RFC 6749 §4.1.3 and §6, RFC 7636, RFC 8707), or without a user
//! that allows it anything, see [`super::machine`].

use std::{sync::Arc, time::Duration};

use http::{Response, StatusCode};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::{
    browser::no_key,
    client_proof::{LetIn, Proved, failed, proved},
    form::Form,
    machine::{self, seconds},
    places,
    refusal::{Refusal, answer as json_answer},
    request::OauthRequest,
};
use crate::{
    body::Payload,
    config::{GrantTypes, Level, LoginTerms},
    error::{Error, ErrorKind},
    identity::{
        Principal,
        login::{
            access_token::AccessClaims,
            fingerprint::Fingerprint,
            grants::{
                Admits, ClientGrant, GrantKind, Grants, Issued, KindTag, NotRedeemed, NotRefreshed,
                Objection, Redemption, RefreshOf,
            },
            keys::NoKey,
            refresh_token::RefreshToken,
        },
        scope::Scope,
    },
    oauth::Client,
    observe::{Replay, TokenGrant},
    state::{
        Live,
        recheck::{NOT_ANSWERED, Rechecked, recheck},
    },
};

/// What a client gets.
struct Given {
    issued: Issued,
    client: Arc<ClientGrant>,
    /// The place that the access token is for, and what it may there.
    resource: Arc<str>,
    scope: Arc<str>,
}

/// Answers one, and counts what became of it.
pub(super) async fn answer(request: &OauthRequest<'_>) -> Result<Response<Payload>, Error> {
    let mut grant = TokenGrant::Other;
    let answered = answered(request, &mut grant).await;
    let result = match &answered {
        Ok(Ok(_)) => TokenGrant::SUCCESS,
        Ok(Err(refusal)) => refusal.counted,
        Err(error) => error.kind.code(),
    };
    request.shared.observer.metrics.oauth_token(grant, result);
    answered.map(|answered| answered.unwrap_or_else(|refusal| refusal.answer(request)))
}

/// The answer with tokens, if there are any. Says what the client brings for them.
async fn answered(
    request: &OauthRequest<'_>,
    grant: &mut TokenGrant,
) -> Result<Result<Response<Payload>, Refusal>, Error> {
    let proved = match proved(request, LetIn::Now).await? {
        Ok(proved) => proved,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Proved { form, client, .. } = &proved;
    *grant = TokenGrant::of(form.get("grant_type"));
    let GrantTypes { codes, refresh, credentials, assertions } = client.grants;
    let given = match form.get("grant_type") {
        Some(GrantTypes::CODES) if codes => redeemed(request, form, client).await?,
        Some(GrantTypes::REFRESH) if refresh => refreshed(request, form, client).await?,
        Some(GrantTypes::CREDENTIALS) if credentials => return machine::for_itself(request, &proved),
        Some(GrantTypes::ASSERTIONS) if assertions => {
            return machine::by_assertion(request, &proved).await;
        }
        Some(GrantTypes::CODES | GrantTypes::REFRESH | GrantTypes::CREDENTIALS | GrantTypes::ASSERTIONS) => {
            Err(Refusal::UNAUTHORIZED)
        }
        Some(_) => Err(Refusal::new(
            "unsupported_grant_type",
            "grant_type has to be one of grant_types_supported of the metadata.",
        )),
        None => Err(Refusal::request("grant_type is missing.")),
    };
    match given {
        Ok(given) => tokens(request, &given, refresh).map(Ok),
        Err(refusal) => Ok(Err(refusal)),
    }
}

fn grants<'a>(request: &OauthRequest<'a>) -> Result<&'a Grants, Error> {
    request.shared.logins.grants().ok_or_else(Error::logins_not_kept)
}

/// Asks what a code or a refresh token would bring: whether the principal is let in still, whether the client and its
/// place are, and whether it is for what is asked for.
fn admits(live: &Arc<Live>, fits: impl Fn(&ClientGrant) -> Result<(), Objection> + Send + 'static) -> Admits {
    let live = Arc::clone(live);
    Box::new(move |principal: &Principal, fingerprint: Fingerprint, kind: &GrantKind| {
        let is_let_in = live.has_principal(principal, fingerprint);
        let client = kind.client().filter(|_| is_let_in).ok_or(Objection::Caller)?;
        // It would bring tokens that open nothing. Clients begin anew if the grant is over, and only then.
        if live.still_serves(client) { fits(client) } else { Err(Objection::Caller) }
    })
}

fn objected(request: &OauthRequest<'_>, objection: Objection) -> Result<Refusal, Error> {
    match objection {
        Objection::Caller => failed(request, Refusal::GRANT),
        Objection::Resource => Ok(Refusal::TARGET),
        Objection::Scope => Ok(Refusal::SCOPE),
    }
}

/// What a code brings.
async fn redeemed(
    request: &OauthRequest<'_>,
    form: &Form,
    client: &Client,
) -> Result<Result<Given, Refusal>, Error> {
    let OauthRequest { shared, live, config, .. } = *request;
    let Some(code) = form.get("code") else { return Ok(Err(Refusal::request("code is missing."))) };
    let asked = form.get("resource").map(|resource| places::canonical(request, Some(resource)));
    let fits = move |client: &ClientGrant| match &asked {
        Some(place) if place.as_deref() != Some(&*client.resource) => Err(Objection::Resource),
        _ => Ok(()),
    };
    let shown = Redemption {
        client_id: Arc::clone(&client.id),
        redirect_uri: form.get("redirect_uri").map(Arc::from),
        challenge_of_verifier: form.get("code_verifier").map(|verifier| Sha256::digest(verifier).into()),
        refresh_token_scopes: config.refresh_token_scopes.clone(),
    };
    let (grants, now) = (grants(request)?, live.clock.now());
    let mut terms = LoginTerms::of_clients(config);
    if !client.grants.refresh {
        terms.refresh_ttl = Duration::ZERO;
    }
    let redeemed = grants.redeem(code, shown, admits(live, fits), &terms, now).await;
    let (issued, has_ended_another) = match redeemed {
        Ok(redeemed) => redeemed,
        Err(NotRedeemed::Invalid) => return failed(request, Refusal::GRANT).map(Err),
        Err(NotRedeemed::Refused(objection)) => return objected(request, objection).map(Err),
        Err(NotRedeemed::Replayed(principal)) => {
            replayed(request, &principal, Replay::Code);
            return failed(request, Refusal::REPLAYED).map(Err);
        }
        Err(NotRedeemed::Full) => {
            return Err(ErrorKind::Unavailable.with_cause("there are as many grants as may be"));
        }
        Err(NotRedeemed::NoRandomness) => return Err(no_key(NoKey)),
        Err(NotRedeemed::Down) => return Err(Error::logins_not_kept()),
    };
    let is_kept = shared.keeps_begun(issued.grant, &issued.principal, issued.fingerprint, has_ended_another);
    let Some(client) = issued.kind.client().cloned().filter(|_| is_kept) else {
        return Ok(Err(Refusal::GRANT));
    };
    let (resource, scope) = (Arc::clone(&client.resource), Arc::clone(&client.scope));
    Ok(Ok(Given { issued, client, resource, scope }))
}

/// What a refresh token brings.
async fn refreshed(
    request: &OauthRequest<'_>,
    form: &Form,
    client: &Client,
) -> Result<Result<Given, Refusal>, Error> {
    let OauthRequest { live, config, .. } = *request;
    let Some(text) = form.get("refresh_token") else {
        return Ok(Err(Refusal::request("refresh_token is missing.")));
    };
    let Some(token) = RefreshToken::parse(text) else { return failed(request, Refusal::GRANT).map(Err) };
    let grants = grants(request)?;
    // Before it is used up.
    if let Some(principal) = grants.principal_of(&token, KindTag::Client) {
        if let Some(owner) = live.owner_of(&principal) {
            (request.on_known)(&owner)?;
        }
        // Whoever is gone has no grant any more.
        if matches!(principal, Principal::Idp(_))
            && recheck(request.shared, live, &principal).await == Rechecked::Unanswered
        {
            return Err(ErrorKind::Unavailable.with_cause(NOT_ANSWERED));
        }
    }
    let asked = RefreshRequest {
        base: Arc::clone(&config.base),
        resource: form.get("resource").map(|resource| places::canonical(request, Some(resource))),
        scope: form.get("scope").map(|scope| {
            let scope = Scope::parse(scope, config.scope_tags);
            (places::known_scope(request, &scope), scope)
        }),
    };
    let fits = {
        let (asked, refreshed) = (asked.clone(), config.refresh_token_scopes.clone());
        move |client: &ClientGrant| match client.is_refreshed(&refreshed) {
            true => asked.of(client).map(drop),
            // A reload has taken the refresh tokens of such clients away. It would be used up, and bring no other.
            false => Err(Objection::Caller),
        }
    };
    let of = RefreshOf::Client(Arc::clone(&client.id));
    let refreshed = grants
        .refresh(token, of, admits(live, fits), &LoginTerms::of_clients(config), live.clock.now())
        .await;
    let issued = match refreshed {
        Ok(issued) => issued,
        Err(NotRefreshed::Invalid) => return failed(request, Refusal::GRANT).map(Err),
        Err(NotRefreshed::Refused(objection)) => return objected(request, objection).map(Err),
        Err(NotRefreshed::Replayed(principal)) => {
            replayed(request, &principal, Replay::ClientRefresh);
            return failed(request, Refusal::REPLAYED).map(Err);
        }
        Err(NotRefreshed::Down) => return Err(Error::logins_not_kept()),
    };
    let Some(client) = issued.kind.client().cloned() else { return Ok(Err(Refusal::GRANT)) };
    Ok(match asked.of(&client) {
        Ok((resource, scope)) => Ok(Given { issued, client, resource, scope }),
        Err(_) => Err(Refusal::GRANT),
    })
}

/// What a refresh asks for: no more than was allowed.
#[derive(Clone)]
struct RefreshRequest {
    /// The place that has all others in it.
    base: Arc<str>,
    /// The place that is asked for, if one is; none if it is no place.
    resource: Option<Option<String>>,
    /// What of the scope that is asked for means something here, and all of it.
    scope: Option<(Scope, Scope)>,
}

impl RefreshRequest {
    /// The place and the scope that it is for.
    fn of(&self, client: &ClientGrant) -> Result<(Arc<str>, Arc<str>), Objection> {
        let resource = match &self.resource {
            None => Arc::clone(&client.resource),
            Some(None) => return Err(Objection::Resource),
            Some(Some(place)) if **place == *client.resource || client.resource == self.base => {
                place.as_str().into()
            }
            Some(Some(_)) => return Err(Objection::Resource),
        };
        let scope = match &self.scope {
            None => Arc::clone(&client.scope),
            Some((known, asked)) => narrower(&client.scope, known, asked).ok_or(Objection::Scope)?.into(),
        };
        Ok((resource, scope))
    }
}

/// The scope that is asked for, if all of it was allowed. What means nothing here is left out, unless it was allowed.
fn narrower(allowed: &str, known: &Scope, asked: &Scope) -> Option<String> {
    let allowed = Scope::parse(allowed, asked.tags());
    let asked = asked.only(|word| known.has(word) || allowed.has(word));
    (!asked.words().is_empty() && asked.is_within(&allowed)).then(|| asked.text())
}

/// Somebody came with what was used before: all that came of it ends, also what runs.
fn replayed(request: &OauthRequest<'_>, principal: &Principal, replay: Replay) {
    let msg = match replay {
        Replay::Code => "A code was used again: what it brought is ended",
        _ => "A refresh token of a client was used again: its grant is ended",
    };
    request.shared.note_change();
    if let Some(identity) = request.live.identity_named(principal) {
        // There is one of them.
        let _ = request.replayed.set((identity, replay));
    }
    request.shared.observer.log.line(Level::Warn, msg).display("principal", principal).send();
}

/// The answer with tokens. `may_refresh`: whether the client takes refresh tokens.
fn tokens(request: &OauthRequest<'_>, given: &Given, may_refresh: bool) -> Result<Response<Payload>, Error> {
    let OauthRequest { shared, live, config, .. } = *request;
    let Given { issued, client, resource, scope } = given;
    let now = live.clock.now();
    let claims = AccessClaims {
        vouched: None,
        principal: issued.principal.clone(),
        grant: issued.grant,
        fingerprint: issued.fingerprint,
        client_id: Arc::clone(&client.client_id),
        resource: Arc::clone(resource),
        scope: Arc::clone(scope),
        issued: now,
        expires: issued.expires,
        grant_ends: issued.grant_ends,
    };
    if let Some(identity) = live.identity_named(&issued.principal) {
        // There is one of them.
        let _ = request.known.set(identity);
    }
    let access_token = shared.logins.seal_access(&claims).map_err(no_key)?;
    let mut body = json!({
        "access_token": access_token.expose(),
        "token_type": "Bearer",
        "expires_in": seconds(issued.expires, now),
        "scope": &**scope,
    });
    if may_refresh && client.is_refreshed(&config.refresh_token_scopes) {
        body["refresh_token"] = issued.refresh_token.expose().into();
    }
    Ok(json_answer(StatusCode::OK, &body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ScopeTags;

    #[test]
    fn a_refresh_may_ask_for_less_and_for_nothing_else() {
        for (allowed, asked, wanted) in [
            ("mcp offline_access", "mcp", Some("mcp")),
            ("mcp offline_access", "offline_access mcp", Some("offline_access mcp")),
            ("mcp", "server:db", Some("server:db")),
            ("tag:web server:db", "server:db", Some("server:db")),
            ("tag:web tag:eu", "tag:web", None),
            ("tag:web", "mcp", None),
            ("mcp", "files:write", None),
            ("mcp", "mcp openid", Some("mcp")),
            ("server:gone", "server:gone server:none", Some("server:gone")),
            ("mcp", "openid", None),
            ("mcp", "  ", None),
        ] {
            let asked = Scope::parse(asked, ScopeTags::All);
            let known = asked.only(|word| !["openid", "server:gone", "server:none"].contains(&word));
            assert_eq!(narrower(allowed, &known, &asked).as_deref(), wanted, "{allowed} {asked:?}");
        }
    }
}
