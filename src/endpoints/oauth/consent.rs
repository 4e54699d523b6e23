//! Whether somebody lets a client in: asked on a page, or remembered.

use std::sync::Arc;

use http::Response;

use super::{
    browser::{Authorization, Browser, Waiting, shown_client, shown_target},
    connect_first,
    form::{Form as Fields, FormFault},
    places,
    redirect::Fault,
};
use crate::{
    body::Payload,
    config::{Level, ScopeWord},
    error::{Error, ErrorKind},
    identity::{
        login::grants::{Consent, NewCode, NoCode, PageLogin},
        scope::Scope,
    },
    oauth::flow::{AuthorizationRequest, Awaiting},
    pages::{self, Form, SCOPE_FIELD, ScopeChoice, ScopeMeaning, Shown, csrf::Purpose},
    upstream::document::DocumentUrl,
};

/// What somebody who is logged in is shown next: where the client waits, if they allowed it the same before, and else the page
/// that asks them.
pub(super) async fn decide(
    browser: &Browser<'_>,
    authorization: &Authorization<'_>,
    login: &PageLogin,
    must_not_ask: bool,
) -> Result<Response<Payload>, Error> {
    let Some(scope) = places::asked_scope(browser.request, &authorization.asked.scope) else {
        return authorization
            .redirect()
            .refused(browser, Fault::unknown_scope(&authorization.asked.scope))
            .await;
    };
    let asked = AuthorizationRequest { scope: scope.text(), ..authorization.asked.clone() };
    let (scope, authorization) = (&asked.scope, &Authorization { asked: &asked, ..*authorization });
    if !authorization.asked.must_ask && !authorization.is_always_asked() {
        let consent = consent(authorization, login, scope);
        let tags = browser.request.config.scope_tags;
        if browser
            .grants()?
            .has_consent(consent, tags, browser.now)
            .await
            .map_err(|_| Error::logins_not_kept())?
        {
            return allow(browser, authorization, login, scope).await;
        }
    }
    if must_not_ask {
        return authorization.redirect().refused(browser, Fault::NOT_ASKED).await;
    }
    ask(browser, authorization, login)
}

fn consent(authorization: &Authorization<'_>, login: &PageLogin, scope: &str) -> Consent {
    let grant = authorization.grant(scope);
    Consent {
        principal: login.principal.clone(),
        fingerprint: login.fingerprint,
        client_id: grant.client_id,
        redirect_uri: authorization.asked.redirect_uri.as_str().into(),
        resource: grant.resource,
        scope: grant.scope,
    }
}

/// The page that asks.
fn ask(
    browser: &Browser<'_>,
    authorization: &Authorization<'_>,
    login: &PageLogin,
) -> Result<Response<Payload>, Error> {
    let Authorization { client, asked, .. } = *authorization;
    let flow = browser.seal(asked)?;
    let csrf = browser.csrf_field(Purpose::Consent, Some(login), Some(&flow))?;
    let account = browser.account_name(&login.principal);
    let host = DocumentUrl::parse(&client.id).map(|url| url.host().to_owned()).unwrap_or_default();
    let redirect_target = authorization.redirect_target.name();
    let parts = Scope::parse(&asked.scope, browser.request.config.scope_tags).parts();
    let scopes: Vec<_> = parts.iter().map(|part| choice(part)).collect();
    let servers = places::reached(browser.request, login, asked);
    let servers: Vec<_> = servers.iter().map(|name| Shown::name(name)).collect();
    let view = pages::Consent {
        gateway: browser.gateway(),
        client: Shown::name(&client.name),
        account: Shown::name(&account),
        is_admin: browser.is_admin(login),
        redirect_target: shown_target(authorization.redirect_target, &redirect_target),
        identified: shown_client(client, &host),
        servers: &servers,
        scopes: &scopes,
        form: Form { csrf: &csrf, flow: Some(&flow) },
        client_id: Shown::text(&client.id),
        redirect_uri: Shown::text(&asked.redirect_uri),
        resource: Shown::text(&asked.resource),
    };
    Ok(browser.show(pages::consent(&view)))
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

/// The form of that page, and of the one that asks for accounts; and a browser that comes back from connecting one.
pub(super) async fn answer(browser: &Browser<'_>) -> Result<Response<Payload>, Error> {
    let request = browser.request;
    let form: Result<Fields, FormFault> = if request.is_post() { request.form() } else { request.asked() };
    let Ok(form) = form else { return Ok(browser.over()) };
    let Some(flow) = form.get("flow") else { return Ok(browser.over()) };
    // Only this browser has it, and only for a while.
    let Some(asked) = browser.open(flow)? else { return Ok(browser.over()) };
    let Some(login) = browser.login().await? else {
        let awaiting = Awaiting::Program(asked.into());
        return browser.sign_in(Waiting(Some((flow, &awaiting))), "", false, None).await;
    };
    // Somebody else may have signed in meanwhile, who has allowed nothing.
    let is_allowed = match asked.allowed_by {
        Some(by) if by == login.grant.bytes() => true,
        Some(_) => return Ok(browser.over()),
        None => false,
    };
    // What was allowed goes on without a form: somebody comes back from connecting an account.
    let is_form = browser.is_own_form(Purpose::Consent, Some(&login), Some(flow), form.get("csrf"))?;
    if request.is_post() && !is_form || !request.is_post() && !is_allowed {
        return Ok(browser.over());
    }
    let (client, redirect_target) = match browser.still_asked(&asked).await? {
        Ok(found) => found,
        Err(page) => return Ok(page),
    };
    let authorization = Authorization { client: &client, redirect_target: &redirect_target, asked: &asked };
    if is_allowed {
        let page = match request.is_post() {
            true => None,
            false => connect_first::page(browser, &authorization, &login).await?,
        };
        return match page {
            Some(page) => Ok(page),
            None => allow(browser, &authorization, &login, &asked.scope).await,
        };
    }
    // What was not asked for cannot be ticked.
    let is_ticked =
        |part: &String| form.fields().any(|(name, _)| name.strip_prefix(SCOPE_FIELD) == Some(&**part));
    let mut ticked = Scope::parse(&asked.scope, request.config.scope_tags).parts();
    ticked.retain(is_ticked);
    let is_allowed =
        form.get("answer") == Some("approve") && ticked.iter().any(|part| part != ScopeWord::OFFLINE);
    if !is_allowed {
        return authorization.redirect().denied(browser).await;
    }
    let scope = ticked.join(" ");
    if !authorization.is_always_asked() {
        let consent = consent(&authorization, &login, &scope);
        browser
            .grants()?
            .remember_consent(consent, browser.now)
            .await
            .map_err(|_| Error::logins_not_kept())?;
    }
    let asked = AuthorizationRequest { scope, ..asked.clone() };
    let authorization = Authorization { asked: &asked, ..authorization };
    match connect_first::page(browser, &authorization, &login).await? {
        Some(page) => Ok(page),
        None => allow(browser, &authorization, &login, &asked.scope).await,
    }
}

/// Sends the client its code.
async fn allow(
    browser: &Browser<'_>,
    authorization: &Authorization<'_>,
    login: &PageLogin,
    scope: &str,
) -> Result<Response<Payload>, Error> {
    let new = NewCode {
        principal: login.principal.clone(),
        fingerprint: login.fingerprint,
        client: Arc::new(authorization.grant(scope)),
        redirect_uri: authorization.asked.redirect_uri.as_str().into(),
        challenge: authorization.asked.challenge,
    };
    let code = match browser.grants()?.begin_code(&authorization.asked.id, new, browser.now).await {
        Ok(code) => code,
        Err(NoCode::Over) => return Ok(browser.over()),
        Err(NoCode::Full) => {
            return Err(ErrorKind::Unavailable.with_cause("there are as many codes as may be"));
        }
        Err(NoCode::TooLong) => {
            return Err(ErrorKind::Internal.with_cause("what a client asks for is too long to be kept"));
        }
        Err(NoCode::Down) => return Err(Error::logins_not_kept()),
    };
    browser.note(login);
    let log = &browser.request.shared.observer.log;
    let line = log.line(Level::Info, "A client was let in").display("principal", &login.principal);
    line.text("client", &authorization.redirect_target.name()).send();
    authorization.redirect().allowed(browser, code.expose()).await
}
