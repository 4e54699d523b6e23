//! Whether somebody lets a client in: asked on a page, or remembered.

use std::sync::Arc;

use http::Response;

use super::{
    OauthRequest,
    answer::{Fault, shown_target},
    places,
    visit::{Asking, Visit},
};
use crate::{
    body::Payload,
    config::{Level, ScopeWord},
    error::{Error, ErrorKind},
    identity::{
        login::grants::{Consent, NewCode, NoCode, PageLogin},
        scope::Scope,
    },
    oauth::{ClientKind, flow::AuthorizationRequest},
    pages::{self, Form, Identified, SCOPE_FIELD, ScopeChoice, ScopeMeaning, Shown, csrf::Purpose},
    upstream::document::DocumentUrl,
};

/// What somebody who is logged in is shown next: where the client waits, if they allowed it the same before, and else the page
/// that asks them.
pub(super) async fn decide(
    visit: &Visit<'_>,
    asking: &Asking<'_>,
    login: &PageLogin,
    must_not_ask: bool,
) -> Result<Response<Payload>, Error> {
    let Some(scope) = places::asked_scope(visit.request, &asking.asked.scope) else {
        return asking.way_back().refused(visit, Fault::SCOPE);
    };
    let asked = AuthorizationRequest { scope: scope.text(), ..asking.asked.clone() };
    let (scope, asking) = (&asked.scope, &Asking { asked: &asked, ..*asking });
    if !asking.asked.must_ask && !asking.is_always_asked() {
        let consent = consent(asking, login, scope);
        let tags = visit.request.config.scope_tags;
        if visit
            .grants()?
            .has_consent(consent, tags, visit.now)
            .await
            .map_err(|_| Error::logins_not_kept())?
        {
            return allow(visit, asking, login, scope).await;
        }
    }
    if must_not_ask {
        return asking.way_back().refused(visit, Fault::NOT_ASKED);
    }
    ask(visit, asking, login)
}

fn consent(asking: &Asking<'_>, login: &PageLogin, scope: &str) -> Consent {
    let grant = asking.grant(scope);
    Consent {
        principal: login.principal.clone(),
        fingerprint: login.fingerprint,
        client_id: grant.client_id,
        redirect_host: grant.redirect_host,
        resource: grant.resource,
        scope: grant.scope,
    }
}

/// The page that asks.
fn ask(visit: &Visit<'_>, asking: &Asking<'_>, login: &PageLogin) -> Result<Response<Payload>, Error> {
    let Asking { client, asked, .. } = *asking;
    let flow = visit.seal(asked)?;
    let csrf = visit.csrf_field(Purpose::Consent, Some(login), Some(&flow))?;
    let account = login.principal.to_string();
    let host = DocumentUrl::parse(&client.id).map(|url| url.host().to_owned()).unwrap_or_default();
    let redirect_target = asking.redirect_target.name();
    let parts = Scope::parse(&asked.scope, visit.request.config.scope_tags).parts();
    let scopes: Vec<_> = parts.iter().map(|part| choice(part)).collect();
    let servers = places::reached(visit.request, login, asked);
    let servers: Vec<_> = servers.iter().map(|name| Shown::name(name)).collect();
    let view = pages::Consent {
        gateway: visit.gateway(),
        client: Shown::name(&client.name),
        account: Shown::name(account.strip_prefix("user:").unwrap_or(&account)),
        redirect_target: shown_target(asking.redirect_target, &redirect_target),
        identified: match client.kind {
            ClientKind::Config => Identified::Config,
            ClientKind::Document => Identified::Site(Shown::text(&host)),
            ClientKind::Registered => Identified::Nobody,
        },
        servers: &servers,
        scopes: &scopes,
        form: Form { csrf: &csrf, flow: Some(&flow) },
        client_id: Shown::text(&client.id),
        redirect_uri: Shown::text(&asked.redirect_uri),
        resource: Shown::text(&asked.resource),
    };
    Ok(visit.show(pages::consent(&view)))
}

/// What can be unticked, with what it means.
fn choice(part: &str) -> ScopeChoice<'_> {
    let mut words = part.split(' ').map(ScopeWord::of);
    let meaning = match (words.next(), part.contains(' ')) {
        (Some(ScopeWord::All), _) => ScopeMeaning::All,
        (Some(ScopeWord::Offline), _) => ScopeMeaning::Offline,
        (Some(ScopeWord::Server(name)), _) => ScopeMeaning::Server(name),
        // Several that go together are tags.
        (Some(ScopeWord::Tag(first)), true) => {
            let others = words.filter_map(|word| match word {
                ScopeWord::Tag(tag) => Some(tag),
                _ => None,
            });
            ScopeMeaning::Tags(std::iter::once(first).chain(others).collect())
        }
        (Some(ScopeWord::Tag(tag)), false) => ScopeMeaning::Tag(tag),
        (Some(ScopeWord::Other(word)), _) => ScopeMeaning::Tools(word),
        (None, _) => ScopeMeaning::Tools(part),
    };
    ScopeChoice { value: part, meaning, is_checked: true }
}

/// The form of that page.
pub(super) async fn answer_form(request: &OauthRequest<'_>) -> Result<Response<Payload>, Error> {
    let visit = Visit::of(request)?;
    if !request.is_post() {
        return Ok(visit.over());
    }
    let Ok(form) = request.form() else { return Ok(visit.over()) };
    let Some(flow) = form.get("flow") else { return Ok(visit.over()) };
    // Only this browser has it, and only for a while.
    let Some(asked) = visit.open(flow)? else { return Ok(visit.over()) };
    let Some(login) = visit.login().await? else {
        return visit.sign_in(Some(flow), "", false, None);
    };
    if !visit.is_own_form(Purpose::Consent, Some(&login), Some(flow), form.get("csrf"))? {
        return Ok(visit.over());
    }
    // The config may have changed, or the client's document.
    let client = match visit.client(&asked.client_id).await? {
        Ok(client) => client,
        Err(page) => return Ok(page),
    };
    let Some(redirect_target) = client.redirect_target(&asked.redirect_uri, request.config) else {
        return Ok(visit.unknown_redirect(&asked.redirect_uri));
    };
    let asking = Asking { client: &client, redirect_target: &redirect_target, asked: &asked };
    // What was not asked for cannot be ticked.
    let is_ticked =
        |part: &String| form.fields().any(|(name, _)| name.strip_prefix(SCOPE_FIELD) == Some(&**part));
    let mut ticked = Scope::parse(&asked.scope, request.config.scope_tags).parts();
    ticked.retain(is_ticked);
    let is_allowed =
        form.get("answer") == Some("approve") && ticked.iter().any(|part| part != ScopeWord::OFFLINE);
    if !is_allowed {
        return asking.way_back().denied(&visit);
    }
    let scope = ticked.join(" ");
    if !asking.is_always_asked() {
        let consent = consent(&asking, &login, &scope);
        visit.grants()?.remember_consent(consent, visit.now).await.map_err(|_| Error::logins_not_kept())?;
    }
    allow(&visit, &asking, &login, &scope).await
}

/// Sends the client its code.
async fn allow(
    visit: &Visit<'_>,
    asking: &Asking<'_>,
    login: &PageLogin,
    scope: &str,
) -> Result<Response<Payload>, Error> {
    let new = NewCode {
        principal: login.principal.clone(),
        fingerprint: login.fingerprint,
        client: Arc::new(asking.grant(scope)),
        redirect_uri: asking.asked.redirect_uri.as_str().into(),
        challenge: asking.asked.challenge,
    };
    let code = match visit.grants()?.begin_code(&asking.asked.id, new, visit.now).await {
        Ok(code) => code,
        Err(NoCode::Over) => return Ok(visit.over()),
        Err(NoCode::Full) => {
            return Err(ErrorKind::Unavailable.with_cause("there are as many codes as may be"));
        }
        Err(NoCode::TooLong) => {
            return Err(ErrorKind::Internal.with_cause("what a client asks for is too long to be kept"));
        }
        Err(NoCode::Down) => return Err(Error::logins_not_kept()),
    };
    visit.note(login);
    let log = &visit.request.shared.observer.log;
    let line = log.line(Level::Info, "A client was let in").display("principal", &login.principal);
    line.text("client", &asking.redirect_target.name()).send();
    asking.way_back().allowed(visit, code.expose())
}
