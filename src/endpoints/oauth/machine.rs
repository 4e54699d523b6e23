//! `/token` for programs whom no user allows anything: for the client itself (RFC 6749 §4.4), and for somebody of whom an issuer says
//! who it is and which client may act for them (RFC 7523 §2.1, ID-JAG).
//!
//! No grant is kept and no refresh token given: the client comes again. So nothing that comes here fills a place that others need.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{Response, StatusCode};
use serde_json::json;

use super::{
    browser::no_key,
    client_proof::{Proved, failed, used},
    form::Form,
    places::{self, LONGEST_SCOPE},
    refusal::{Refusal, answer as json_answer},
    request::OauthRequest,
};
use crate::{
    body::Payload,
    config::ScopeWord,
    error::{Error, ErrorKind},
    identity::{
        Identity, Principal,
        foreign::{assertion::IdJag, jwt::NotTaken, keys::NotVerified},
        login::{
            access_token::AccessClaims, fingerprint::Fingerprint, grant_id::GrantId, keys::NoKey,
            spent::Spent,
        },
        scope::Scope,
    },
    oauth::Client,
    state::TokenSource,
};

type Answered = Result<Result<Response<Payload>, Refusal>, Error>;

/// What a token is to say.
struct Given<'a> {
    principal: Principal,
    fingerprint: Fingerprint,
    client_id: &'a Arc<str>,
    resource: String,
    scope: String,
    vouched: Option<Arc<str>>,
    source: TokenSource,
}

/// A token for the client itself.
pub(super) fn for_itself(request: &OauthRequest<'_>, proved: &Proved) -> Answered {
    let OauthRequest { live, config, .. } = *request;
    let Proved { form, client, credential } = proved;
    let caller = credential.and_then(|of| Some((of, live.client_caller(&client.id, &of)?)));
    let Some((credential, (slot, fingerprint))) = caller else {
        return match live.logins_are_open() {
            true => Ok(Err(Refusal::UNAUTHORIZED)),
            false => Err(Error::logins_not_kept()),
        };
    };
    (request.on_known)(&live.callers[slot].owner)?;
    let resource = match form.get("resource") {
        None if config.require_resource => return Ok(Err(Refusal::TARGET)),
        asked => places::canonical(request, asked),
    };
    let Some(resource) = resource else { return Ok(Err(Refusal::TARGET)) };
    let allowed = Scope::parse(&allowed_scope(request, client), config.scope_tags);
    let Some(scope) = given_scope(request, form, &[&allowed]) else { return Ok(Err(Refusal::SCOPE)) };
    let given = Given {
        principal: Principal::Client(Arc::clone(&client.id)),
        fingerprint,
        client_id: &client.id,
        resource,
        scope,
        vouched: None,
        source: TokenSource::Client(Arc::clone(&client.id), credential),
    };
    // There is one of them.
    let _ = request.known.set(Arc::clone(&live.callers[slot].identity));
    token(request, given).map(Ok)
}

/// A token for somebody of whom an issuer says who it is.
pub(super) async fn by_assertion(request: &OauthRequest<'_>, proved: &Proved) -> Answered {
    let OauthRequest { live, config, shared, .. } = *request;
    let Proved { form, client, credential } = proved;
    // Anybody can be one that has none.
    let Some(credential) = *credential else { return Ok(Err(Refusal::UNAUTHORIZED)) };
    let Some(text) = form.get("assertion") else {
        return Ok(Err(Refusal::request("assertion is missing.")));
    };
    let refused = |why| failed(request, Refusal::GRANT.because(why)).map(Err);
    let Some(assertion) = IdJag::parse(text) else { return refused("the assertion is no JWT") };
    let of = assertion.issuer().unwrap_or_default();
    let known = config.client(&client.id).and_then(|client| live.issuer_for(of, client));
    let Some(keys) = known else {
        return refused("the client gets no tokens by what the issuer of the assertion says");
    };
    let (issuer, now) = (keys.issuer(), live.clock.now());
    if let Err(why) = assertion.check(issuer, &client.id, &config.issuer, now) {
        return refused(why.name());
    }
    let fetched = keys.keys_with(assertion.key_id().unwrap_or_default()).await;
    // They may have been waited for.
    shared.is_in_force(live)?;
    let fetched = match fetched {
        Ok(fetched) => fetched,
        Err(NotVerified::NotTaken(why)) => return refused(why.name()),
        Err(NotVerified::NoKeys) => {
            let why = keys.status().failed.map_or("they are on their way", |why| why.name());
            let cause = format!("the keys of the issuer {} are not there: {why}", issuer.name);
            return Err(ErrorKind::Unavailable.with_cause(cause));
        }
    };
    let verified = match assertion.verify(issuer, fetched.set(), &client.id, &config.issuer, now) {
        Ok(verified) => verified,
        Err(why) => return refused(why.name()),
    };
    let jwt = verified.token;
    let place = jwt.audiences.first().and_then(|of| places::canonical(request, Some(of)));
    let Some(place) = place else { return refused(NotTaken::Resource.name()) };
    // It may name the place once more; another one is not what the issuer has allowed.
    let asked = form.get("resource").map(|asked| places::canonical(request, Some(asked)));
    if asked.is_some_and(|asked| asked.as_ref() != Some(&place)) {
        return Ok(Err(Refusal::TARGET));
    }
    let said = jwt.scope.as_ref().map_or(ScopeWord::ALL.to_owned(), |words| words.join(" "));
    let (said, own) = (said, allowed_scope(request, client));
    let [said, own] = [said, own].map(|scope| Scope::parse(&scope, config.scope_tags));
    let Some(scope) = given_scope(request, form, &[&said, &own]) else { return Ok(Err(Refusal::SCOPE)) };
    let Some(vouched) = live.said_of(&jwt) else {
        return refused("what `assign` asks about is longer in the assertion than a token has room for");
    };
    let name: Arc<str> = format!("{}:{}", issuer.name, jwt.subject).into();
    (request.on_known)(&live.owner_of_foreign(&name))?;
    // The last of all: what is refused may be right the next time.
    let signer = format!("issuer {} for {}", issuer.name, client.id);
    let spent = Spent::assertion(&signer, verified.id.id.as_bytes(), verified.id.until);
    if let Err(why) = used(request, spent).await? {
        return refused(why);
    }
    let principal = Principal::Foreign(name);
    // There is one of them.
    let _ = request.known.set(Arc::new(Identity { principal: principal.clone(), ..Identity::NOBODY }));
    let given = Given {
        principal,
        fingerprint: shared
            .logins
            .fingerprint_of_assertion(issuer, &credential)
            .map_err(|NoKey| Error::logins_not_kept())?,
        client_id: &client.id,
        resource: place,
        scope,
        vouched: Some(vouched),
        source: TokenSource::Issuer(Arc::clone(&issuer.issuer), Arc::clone(&client.id), credential),
    };
    token(request, given).map(Ok)
}

/// `scopes` of a client.
fn allowed_scope(request: &OauthRequest<'_>, client: &Client) -> String {
    request.config.client(&client.id).map_or(String::new(), |client| client.scopes.join(" "))
}

/// What of the scope that is asked for each of these allows, and means something here; without one, all of what the first allows. `None`
/// if that is nothing.
fn given_scope(request: &OauthRequest<'_>, form: &Form, allowed: &[&Scope]) -> Option<String> {
    let tags = request.config.scope_tags;
    let all = allowed.first()?.text();
    let asked = form.get("scope").unwrap_or(&all);
    if asked.len() > LONGEST_SCOPE {
        return None;
    }
    let asked = places::known_scope(request, &Scope::parse(asked, tags));
    let parts = asked.parts().into_iter().filter(|part| {
        let part = Scope::parse(part, tags);
        !part.has(ScopeWord::OFFLINE) && allowed.iter().all(|allowed| part.is_within(allowed))
    });
    let given = Scope::parse(&parts.collect::<Vec<_>>().join(" "), tags);
    let is_within = || allowed.iter().all(|allowed| given.is_within(allowed));
    (!given.words().is_empty() && is_within()).then(|| given.text())
}

/// The answer with a token.
fn token(request: &OauthRequest<'_>, given: Given<'_>) -> Result<Response<Payload>, Error> {
    let OauthRequest { shared, live, config, .. } = *request;
    let Given { principal, fingerprint, client_id, resource, scope, vouched, source } = given;
    let now = live.clock.now();
    let expires = now + config.token_ttl;
    let claims = AccessClaims {
        principal,
        grant: GrantId::random().map_err(|_| no_key(NoKey))?,
        fingerprint,
        client_id: Arc::clone(client_id),
        resource: resource.into(),
        scope: scope.into(),
        vouched,
        issued: live.made_at(&source, now),
        expires,
        grant_ends: expires,
    };
    let access_token = shared.logins.seal_access(&claims).map_err(no_key)?;
    Ok(json_answer(
        StatusCode::OK,
        &json!({
            "access_token": access_token.expose(),
            "token_type": "Bearer",
            "expires_in": seconds(expires, now),
            "scope": &*claims.scope,
        }),
    ))
}

/// To the nearest second, since some time has passed since it was given.
pub(super) fn seconds(end: SystemTime, now: SystemTime) -> u64 {
    (end.duration_since(now).unwrap_or_default() + Duration::from_millis(500)).as_secs()
}
