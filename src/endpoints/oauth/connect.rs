//! `/oauth/authorize`: somebody connects an account at a server, or enters a token of theirs. They are sent to the issuer, come back to
//! `/oauth/callback`, see what was granted, and approve or deny it.
//!
//! The URL holds no secret and nobody's name. Whoever opens it connects an account of their own.

use std::sync::Arc;

use http::{Response, StatusCode};
use tokio::{task::spawn_local, time::sleep};
use url::Url;

use super::{accounts::Account, browser::Browser, form::Form};
use crate::{
    body::Payload,
    config::{Level, Server, UpstreamAuth, UpstreamOauth, UserToken},
    credentials::{
        ServerCredentials,
        flow::{self, Decided, FlowAnswer, FlowAsk, FlowError, Granted, connects_by},
        oauth::{Discovered, OauthError, scopes},
    },
    error::{Error, ErrorKind},
    identity::{Principal, login::grants::PageLogin},
    oauth::is_own_path,
    pages::{self, Approve, Connect, Connected, EnterToken, Shown, ToIdp, Trouble, WayOn, csrf::Purpose},
    secret::Secret,
    state::GatewayState,
};

const DASHBOARD: &str = "/oauth";
const CALLBACK: &str = "/oauth/callback";

/// `/oauth/authorize?server_id=NAME`, and the same with the name in the path.
pub(super) async fn answer(browser: &Browser<'_>) -> Result<Response<Payload>, Error> {
    let request = browser.request;
    let asked = if request.is_post() { request.form() } else { request.asked() };
    let Ok(asked) = asked else { return not_connected(browser, None, FlowError::NotAllowed) };
    let in_path = rest_of(request.path(), "/oauth/authorize");
    let server = match (in_path, asked.get("server_id")) {
        (Some(one), Some(other)) if one != other => {
            return not_connected(browser, None, FlowError::NotAllowed);
        }
        (one, other) => one.or(other),
    };
    let Some(server) = server else { return browser.lead_to(DASHBOARD) };
    let Some(login) = browser.login().await? else {
        return match request.head.uri.path_and_query().filter(|_| !request.is_post()) {
            Some(here) => browser.sign_in_for(here.as_str()).await,
            None => Ok(browser.over()),
        };
    };
    let Some(account) = Account::of(browser, &login, server) else {
        return not_connected(browser, None, FlowError::NotAllowed);
    };
    let return_to = asked.get("return").filter(|path| is_own_path(path));
    let page = Page { browser, login: &login, account: &account, return_to };
    match &**account.credentials.config() {
        UpstreamAuth::UserToken(token) => page.enter_token(token, false),
        config => match connects_by(config) {
            Some(_) if request.is_post() => page.begin(&asked).await,
            Some(oauth) => page.show(oauth, asked.get("provider")).await,
            None => not_connected(browser, None, FlowError::NotAllowed),
        },
    }
}

/// Somebody who is signed in, at the page of a server.
struct Page<'a> {
    browser: &'a Browser<'a>,
    login: &'a PageLogin,
    account: &'a Account<'a>,
    return_to: Option<&'a str>,
}

impl Page<'_> {
    /// What the account's issuer is, which may have to be asked.
    async fn discovered(&self) -> Result<Result<Arc<Discovered>, OauthError>, Error> {
        let request = self.browser.request;
        let place = request.shared.logins.pending.begin(request.address_block());
        place.during(self.account.credentials.discovered(None)).await.ok_or_else(Error::gave_way)
    }

    /// Asks whether they want to connect.
    async fn show(&self, config: &UpstreamOauth, provider: Option<&str>) -> Result<Response<Payload>, Error> {
        let Self { browser, login, account, return_to } = *self;
        let discovered = match self.discovered().await? {
            Ok(discovered) => discovered,
            Err(why) => return not_connected(browser, Some(account), why.into()),
        };
        let issuer = host_of(&discovered.issuer);
        let service = account.service();
        if provider.is_some_and(|provider| !is_provider(provider, &issuer, &service.name.to_string())) {
            return not_connected(browser, None, FlowError::NotAllowed);
        }
        let wanted = account.stand().await?.wanted();
        let scopes = scopes(config, &discovered, &wanted);
        let scopes: Vec<_> = scopes.iter().map(|scope| Shown::text(scope)).collect();
        let csrf = browser.csrf_field(Purpose::Connect, Some(login), Some(account.name()))?;
        let name = browser.account_name(&login.principal);
        Ok(browser.show(pages::connect(&Connect {
            gateway: browser.gateway(),
            account: Shown::name(&name),
            service,
            issuer: Shown::text(&issuer),
            scopes: &scopes,
            form: pages::Form { csrf: &csrf, flow: None },
            return_to,
        })))
    }

    /// Sends them to the issuer.
    async fn begin(&self, form: &Form) -> Result<Response<Payload>, Error> {
        let Self { browser, login, account, return_to } = *self;
        let request = browser.request;
        if !browser.is_own_form(Purpose::Connect, Some(login), Some(account.name()), form.get("csrf"))? {
            return Ok(browser.over());
        }
        browser.note(login);
        if form.get("answer") != Some("connect") {
            return browser.lead_to(return_to.unwrap_or(DASHBOARD));
        }
        let scopes = account.stand().await?.wanted();
        let ask = FlowAsk {
            owner: &account.owner,
            principal: &login.principal,
            cookie: browser.cookie(),
            return_to,
            scopes: &scopes,
            base: &request.config.base,
        };
        let place = request.shared.logins.pending.begin(request.address_block());
        let begin = flow::begin(account.credentials, &request.shared.credentials, &ask);
        match place.during(begin).await.ok_or_else(Error::gave_way)? {
            Ok(target) => {
                let host = target.host_str().unwrap_or_default().to_owned();
                let view = ToIdp { gateway: browser.gateway(), host: Shown::text(&host), target: &target };
                Ok(browser.show(pages::to_idp(&view)))
            }
            Err(why) => not_connected(browser, Some(account), why),
        }
    }

    /// Asks for a token.
    fn enter_token(&self, config: &UserToken, is_wrong: bool) -> Result<Response<Payload>, Error> {
        let Self { browser, login, account, return_to } = *self;
        let csrf = browser.csrf_field(Purpose::SetToken, Some(login), Some(account.name()))?;
        let name = browser.account_name(&login.principal);
        Ok(browser.show(pages::enter_token(&EnterToken {
            gateway: browser.gateway(),
            account: Shown::name(&name),
            service: account.service(),
            instructions: config.instructions.as_deref().map(Shown::text),
            help: config.help_url.as_ref(),
            is_wrong,
            form: pages::Form { csrf: &csrf, flow: None },
            return_to,
        })))
    }
}

/// `/oauth/connect?service=NAME`, as MCP Front has it.
pub(super) fn elsewhere(browser: &Browser<'_>) -> Result<Response<Payload>, Error> {
    let asked = browser.request.asked().ok();
    let field = |name| asked.as_ref().and_then(|asked| asked.get(name)).filter(|name| Server::is_name(name));
    match field("service").or_else(|| field("server_id")) {
        Some(server) => browser.lead_to(&format!("/oauth/authorize?server_id={server}")),
        None => browser.lead_to(DASHBOARD),
    }
}

/// `/my/tokens/set`
pub(super) async fn set_token(browser: &Browser<'_>) -> Result<Response<Payload>, Error> {
    let request = browser.request;
    let Ok(form) = request.form() else { return Ok(browser.over()) };
    let Some(login) = browser.login().await? else { return browser.lead_to("/oauth/login") };
    let server = form.get("server_id").unwrap_or_default();
    if !browser.is_own_form(Purpose::SetToken, Some(&login), Some(server), form.get("csrf"))? {
        return Ok(browser.over());
    }
    browser.note(&login);
    let Some(account) = Account::of(browser, &login, server) else {
        return not_connected(browser, None, FlowError::NotAllowed);
    };
    let UpstreamAuth::UserToken(config) = &**account.credentials.config() else {
        return not_connected(browser, None, FlowError::NotAllowed);
    };
    let return_to = form.get("return").filter(|path| is_own_path(path));
    // What people copy has blanks around it.
    let token = form.get("token").unwrap_or_default().trim();
    if !config.takes(token) {
        let page = Page { browser, login: &login, account: &account, return_to };
        return page.enter_token(config, true);
    }
    match account.credentials.set_token(&account.owner, token).await {
        Ok(()) => browser.lead_to(return_to.unwrap_or("/oauth?did=token")),
        Err(why) => not_connected(browser, Some(&account), why.into()),
    }
}

/// Whether a browser comes back from a server's issuer, and not from the identity provider.
pub(super) fn is_own_callback(path: &str, asked: &Form) -> bool {
    rest_of(path, CALLBACK).is_some() || asked.get("state").is_some_and(flow::is_state)
}

/// A browser comes back.
pub(super) async fn came_back(browser: &Browser<'_>, asked: &Form) -> Result<Response<Payload>, Error> {
    let request = browser.request;
    let vault = &request.shared.credentials;
    // Whoever makes up answers does not have the store asked as often as they like.
    if let Err(error) = (request.may_guess)() {
        return Ok(browser.failed(error));
    }
    let login = browser.login().await?;
    let principal = login.as_ref().map_or(&Principal::Nobody, |login| &login.principal);
    let state = asked.get("state").filter(|state| flow::is_state(state)).unwrap_or_default();
    // First of all it is over, whoever brings it.
    let pending = flow::take(vault, state, browser.cookie(), principal).await;
    let (pending, login) = match (pending, login) {
        (Ok(pending), Some(login)) => (pending, login),
        (Err(why @ (FlowError::NotKept | FlowError::Full)), _) => return not_connected(browser, None, why),
        _ => return guessed(browser),
    };
    let path = request.path();
    let server = rest_of(path, CALLBACK);
    if !pending.came_to(&request.config.base, path) || server.is_some_and(|name| *name != *pending.server()) {
        return guessed(browser);
    }
    browser.note(&login);
    let account = Account::of(browser, &login, pending.server());
    let Some(account) = account.filter(|account| pending.owner().is_ok_and(|owner| owner == account.owner))
    else {
        return not_connected(browser, None, FlowError::NotAllowed);
    };
    let answer = FlowAnswer { code: asked.get("code"), iss: asked.get("iss"), error: asked.get("error") };
    let place = request.shared.logins.pending.begin(request.address_block());
    let finish = pending.finish(account.credentials, vault, &answer);
    match place.during(finish).await.ok_or_else(Error::gave_way)? {
        Ok(granted) => {
            give_back_later(request.shared, account.credentials, granted.id.clone());
            ask_to_approve(browser, &login, &account, &granted)
        }
        Err(why) => not_connected(browser, Some(&account), why),
    }
}

/// Shows what was granted, and asks whether it is to be kept.
fn ask_to_approve(
    browser: &Browser<'_>,
    login: &PageLogin,
    account: &Account<'_>,
    granted: &Granted,
) -> Result<Response<Payload>, Error> {
    let id = granted.id.expose();
    let csrf = browser.csrf_field(Purpose::Approve, Some(login), Some(id))?;
    let name = browser.account_name(&login.principal);
    let issuer = host_of(&granted.issuer);
    let scopes: Vec<_> = granted.scopes.iter().map(|scope| Shown::text(scope)).collect();
    Ok(browser.show(pages::approve(&Approve {
        gateway: browser.gateway(),
        account: Shown::name(&name),
        service: account.service(),
        issuer: Shown::text(&issuer),
        account_there: granted.account.as_deref().map(Shown::name),
        scopes: &scopes,
        is_revocable: granted.is_revocable,
        form: pages::Form { csrf: &csrf, flow: Some(id) },
    })))
}

/// Has the issuer end what was granted, once nobody has decided for as long as they may. A gateway that stops before does not.
fn give_back_later(shared: &Arc<GatewayState>, credentials: &Arc<ServerCredentials>, id: Secret) {
    let (shared, credentials) = (Arc::clone(shared), Arc::clone(credentials));
    spawn_local(async move {
        sleep(flow::GOOD).await;
        if let Some(granted) = flow::forget(&shared.credentials, &id).await {
            granted.give_back(&credentials, &shared.credentials).await;
        }
    });
}

/// `/oauth/approve`: what somebody decides about what was granted.
pub(super) async fn decide(browser: &Browser<'_>) -> Result<Response<Payload>, Error> {
    let request = browser.request;
    let vault = &request.shared.credentials;
    let Ok(form) = request.form() else { return Ok(browser.over()) };
    let Some(login) = browser.login().await? else { return guessed(browser) };
    let id = form.get("flow").unwrap_or_default();
    if !browser.is_own_form(Purpose::Approve, Some(&login), Some(id), form.get("csrf"))? {
        return guessed(browser);
    }
    browser.note(&login);
    let (granted, is_in_time) = match flow::decide(vault, id, browser.cookie(), &login.principal).await {
        Ok(Decided::InTime(granted)) => (granted, true),
        Ok(Decided::Never(granted)) => (granted, false),
        Err(why) => return not_connected(browser, None, why),
    };
    let entry = request.live.entries.get(granted.server());
    let Some(credentials) = entry.and_then(|entry| entry.credentials.as_ref()) else {
        return not_connected(browser, None, FlowError::NotAllowed);
    };
    let return_to = granted.return_to().map(str::to_owned);
    let account = Account::of(browser, &login, granted.server());
    let account = account.filter(|account| granted.owner().is_ok_and(|owner| owner == account.owner));
    let why = match &account {
        _ if !is_in_time => FlowError::Over,
        None => FlowError::NotAllowed,
        Some(account) if form.get("answer") == Some("approve") => {
            return match granted.approve(account.credentials).await {
                Ok(()) => {
                    let done = format!("/oauth/success?server_id={}", account.name());
                    browser.lead_to(return_to.as_deref().unwrap_or(&done))
                }
                Err(why) => not_connected(browser, Some(account), why),
            };
        }
        Some(_) => FlowError::Denied,
    };
    granted.give_back(credentials, vault).await;
    match return_to.filter(|_| why == FlowError::Denied) {
        Some(path) => browser.lead_to(&path),
        None => not_connected(browser, account.as_ref(), why),
    }
}

/// `/oauth/success`
pub(super) async fn succeeded(browser: &Browser<'_>) -> Result<Response<Payload>, Error> {
    let Some(login) = browser.login().await? else { return browser.lead_to("/oauth/login") };
    let asked = browser.request.asked().ok();
    let server = asked.as_ref().and_then(|asked| asked.get("server_id")).unwrap_or_default();
    let Some(account) = Account::of(browser, &login, server) else { return browser.lead_to(DASHBOARD) };
    // Anybody can make a link to here.
    if !account.stand().await?.is_connected() {
        return browser.lead_to(DASHBOARD);
    }
    let view = Connected { gateway: browser.gateway(), service: account.service() };
    Ok(browser.show(pages::connected(&view)))
}

/// `/oauth/error?code=WORD`
pub(super) fn failed(browser: &Browser<'_>) -> Response<Payload> {
    let asked = browser.request.asked().ok();
    let word = asked.as_ref().and_then(|asked| asked.get("code")).unwrap_or_default();
    let why = FlowError::of(word).unwrap_or(FlowError::Over);
    browser.show(pages::trouble(&Trouble {
        gateway: browser.gateway(),
        status: StatusCode::BAD_REQUEST,
        sentence: why.sentence(),
        detail: None,
        way_on: WayOn::Connections,
        // The log has the request that led here, and nothing of this one.
        request_id: "",
    }))
}

/// An answer, or a decision, for which nothing waits.
fn guessed(browser: &Browser<'_>) -> Result<Response<Payload>, Error> {
    let counted = (browser.request.on_failed)();
    match counted.kind {
        ErrorKind::RateLimited | ErrorKind::GuessLimited => Ok(browser.failed(counted)),
        _ => not_connected(browser, None, FlowError::Over),
    }
}

/// Leads to the page that says why nothing is connected. The log has more.
pub(super) fn not_connected(
    browser: &Browser<'_>,
    account: Option<&Account<'_>>,
    why: FlowError,
) -> Result<Response<Payload>, Error> {
    let request = browser.request;
    let (kind, level) = match why {
        FlowError::Denied => (None, Level::Info),
        FlowError::Over => (Some(ErrorKind::InvalidGrant), Level::Info),
        FlowError::NotAllowed => (Some(ErrorKind::NotFound), Level::Info),
        FlowError::Full => (Some(ErrorKind::CallerLimit), Level::Info),
        FlowError::OtherIssuer => (Some(ErrorKind::InvalidGrant), Level::Warn),
        FlowError::Refused(_) | FlowError::Unavailable(_) | FlowError::Broken(_) | FlowError::NotKept => {
            (Some(ErrorKind::Unavailable), Level::Warn)
        }
    };
    if let Some(kind) = kind {
        request.note_refusal(kind.with_cause(why.reason()));
    }
    if let Some(account) = account {
        let log = &request.shared.observer.log;
        let line = log.line(level, "An account was not connected").plain("server", account.name());
        let line = line.display("owner", &account.owner).plain("reason", why.reason());
        line.plain("request_id", request.id.as_str()).send();
    }
    browser.lead_to(&format!("/oauth/error?code={}", why.word()))
}

/// What of a path is behind these segments, if anything.
fn rest_of<'p>(path: &'p str, begin: &str) -> Option<&'p str> {
    let rest = path.strip_suffix('/').unwrap_or(path).strip_prefix(begin)?;
    rest.strip_prefix('/').filter(|rest| !rest.is_empty())
}

/// The host of an issuer, as people see it.
fn host_of(issuer: &str) -> String {
    let host = Url::parse(issuer).ok().and_then(|url| url.host_str().map(str::to_owned));
    host.unwrap_or_else(|| issuer.to_owned())
}

/// Whether somebody may call a server's issuer that: by how the server is called, by the host, or by a label of that.
fn is_provider(provider: &str, host: &str, name: &str) -> bool {
    let is = |text: &str| provider.eq_ignore_ascii_case(text);
    is(name) || is(host) || host.split('.').rev().skip(1).any(is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_is_left_of_a_path() {
        for (path, wanted) in [
            ("/oauth/callback", None),
            ("/oauth/callback/", None),
            ("/oauth/callback/db", Some("db")),
            ("/oauth/callback/db/", Some("db")),
            ("/oauth/callback/db/x", Some("db/x")),
            ("/oauth/callbacks", None),
        ] {
            assert_eq!(rest_of(path, CALLBACK), wanted, "{path}");
        }
    }

    #[test]
    fn a_provider_is_called_by_its_name_or_its_host() {
        let is = |provider| is_provider(provider, "login.github.com", "The code");
        assert!(["github", "GitHub", "login.github.com", "the code", "login"].into_iter().all(is));
        assert!(!["com", "git", "github.com.evil", "google", ""].into_iter().any(is));
    }
}
