//! `/oauth`: which accounts somebody has connected, what they let in, and the end of both.

use http::Response;

use super::{
    accounts::{Account, Stand, service},
    browser::Browser,
    connect::not_connected,
};
use crate::{
    body::Payload,
    config::Level,
    credentials::flow::FlowError,
    error::{Error, ErrorKind},
    identity::{
        Principal,
        login::{
            grants::{ClientGrant, GrantSummary, PageLogin},
            upstream::UpstreamOwner,
        },
    },
    pages::{
        self, Connections, Done, Moment, Service, Shown, ShownAccount, ShownGrant, WayOn, csrf::Purpose,
    },
};

const LOGIN_PAGE: &str = "/oauth/login";
const DASHBOARD: &str = "/oauth";

/// Most grants of others on a page. Of one's own, there are as many as one may have.
const MOST_OF_OTHERS: usize = 100;

/// A grant of a client, with what its form needs.
struct Row {
    principal: Principal,
    summary: GrantSummary,
    account: String,
    csrf: String,
}

/// Shows what somebody let in.
pub(super) async fn show(browser: &Browser<'_>) -> Result<Response<Payload>, Error> {
    let request = browser.request;
    let Some(login) = browser.login().await? else { return browser.lead_to(LOGIN_PAGE) };
    let grants = browser.grants()?;
    let own = grants.list(&login.principal, browser.now).into_iter();
    let own = own.filter(|summary| summary.kind.client().is_some());
    let own = rows(browser, &login, own.map(|summary| (login.principal.clone(), summary)))?;
    let (others, not_shown) = if browser.is_admin(&login) {
        let (others, count) = grants.of_others(&login.principal, MOST_OF_OTHERS, browser.now);
        let not_shown = count - others.len();
        (Some(rows(browser, &login, others)?), not_shown)
    } else {
        (None, 0)
    };
    let own_accounts = own_accounts(browser, &login).await?;
    let accounts_of_others = match others {
        Some(_) => Some(accounts_of_others(browser, &login).await?),
        None => None,
    };
    let sign_out_csrf = browser.csrf_field(Purpose::SignOut, Some(&login), None)?;
    let account = browser.account_name(&login.principal);
    let own: Vec<_> = own.iter().filter_map(Row::shown).collect();
    let others: Option<Vec<_>> = others.as_ref().map(|others| others.iter().filter_map(Row::shown).collect());
    let own_accounts: Vec<_> = own_accounts.iter().map(AccountRow::shown).collect();
    let accounts_of_others: Option<Vec<_>> =
        accounts_of_others.as_ref().map(|rows| rows.iter().map(AccountRow::shown).collect());
    let did = request.asked().ok();
    let view = Connections {
        gateway: browser.gateway(),
        account: Shown::name(&account),
        sign_out_csrf: &sign_out_csrf,
        done: did.as_ref().and_then(|query| query.get("did")).and_then(Done::of),
        own_accounts: &own_accounts,
        accounts_of_others: accounts_of_others.as_deref(),
        own: &own,
        others: others.as_deref(),
        not_shown,
    };
    Ok(browser.show(pages::connections(&view)))
}

/// Ends one of them: `/oauth/grants/ID/revoke`.
pub(super) async fn revoke(browser: &Browser<'_>) -> Result<Response<Payload>, Error> {
    let request = browser.request;
    let Some(login) = browser.login().await? else { return browser.lead_to(LOGIN_PAGE) };
    let path = request.path();
    let path = path.strip_suffix('/').unwrap_or(path);
    let id = path.strip_prefix("/oauth/grants/").and_then(|rest| rest.strip_suffix("/revoke"));
    let form = request.form().ok();
    let field = |name| form.as_ref().and_then(|form| form.get(name));
    let (Some(id), Some(account)) = (id, field("account")) else { return Ok(not_good(browser)) };
    let object = object(id, account);
    if !browser.is_own_form(Purpose::Revoke, Some(&login), Some(&object), field("csrf"))? {
        return Ok(not_good(browser));
    }
    // The field is made for those only who may, and perhaps they may not any more.
    let Ok(principal) = account.parse::<Principal>() else { return Ok(not_good(browser)) };
    browser.note(&login);
    if principal != login.principal && !browser.is_admin(&login) {
        request.note_refusal(ErrorKind::InsufficientScope);
        return Ok(not_good(browser));
    }
    let revoked = browser.grants()?.revoke_id(&principal, id).await;
    // It ends here in any case, with all that runs by it.
    if !matches!(revoked, Ok(None)) {
        request.shared.note_change();
        let log = &request.shared.observer.log;
        let line = log.line(Level::Info, "A grant was revoked at the dashboard");
        line.display("principal", &principal).display("by", &login.principal).send();
    }
    // It would be there again after a restart: whoever revokes it has to know that.
    revoked.map_err(|_| Error::logins_not_kept())?;
    browser.lead_to(&format!("{DASHBOARD}?did={}", Done::Revoked.word()))
}

/// Ends a connection, or forgets a token: `/oauth/disconnect`, `/my/tokens/delete`.
pub(super) async fn disconnect(browser: &Browser<'_>) -> Result<Response<Payload>, Error> {
    let request = browser.request;
    let Some(login) = browser.login().await? else { return browser.lead_to(LOGIN_PAGE) };
    let form = request.form().ok();
    let field = |name| form.as_ref().and_then(|form| form.get(name));
    let (Some(server), Some(account)) = (field("server_id"), field("account")) else {
        return Ok(not_good(browser));
    };
    let object = object(server, account);
    if !browser.is_own_form(Purpose::Disconnect, Some(&login), Some(&object), field("csrf"))? {
        return Ok(not_good(browser));
    }
    // The field is made for those only who may, and perhaps they may not any more.
    let Ok(owner) = account.parse::<UpstreamOwner>() else { return Ok(not_good(browser)) };
    browser.note(&login);
    if owner != UpstreamOwner::Principal(login.principal.clone()) && !browser.is_admin(&login) {
        request.note_refusal(ErrorKind::InsufficientScope);
        return Ok(not_good(browser));
    }
    let entry = request.live.entries.get(server);
    let Some(credentials) = entry.and_then(|entry| entry.credentials.as_ref()) else {
        return not_connected(browser, None, FlowError::NotAllowed);
    };
    credentials.disconnect(&owner).await.map_err(|_| Error::logins_not_kept())?;
    let log = &request.shared.observer.log;
    let line = log.line(Level::Info, "An account was disconnected at the dashboard").plain("server", server);
    line.display("owner", &owner).display("by", &login.principal).send();
    browser.lead_to(&format!("{DASHBOARD}?did={}", Done::Disconnected.word()))
}

/// Ends the login at the pages.
pub(super) async fn sign_out(browser: &mut Browser<'_>) -> Result<Response<Payload>, Error> {
    let request = browser.request;
    let Some(login) = browser.login().await? else { return browser.lead_to(LOGIN_PAGE) };
    let form = request.form().ok();
    let csrf = form.as_ref().and_then(|form| form.get("csrf"));
    if !browser.is_own_form(Purpose::SignOut, Some(&login), None, csrf)? {
        return Ok(not_good(browser));
    }
    browser.note(&login);
    // Whatever becomes of the login, this browser has it no longer.
    browser.sign_out();
    if let Some(cookie) = browser.login_cookie() {
        // Nothing runs by it that would have to be ended.
        browser.grants()?.end_page(cookie).await.map_err(|_| Error::logins_not_kept())?;
    }
    browser.lead_to(LOGIN_PAGE)
}

/// An account, with what its form needs.
struct AccountRow<'a> {
    service: Service<'a>,
    owner: UpstreamOwner,
    of: String,
    stand: Stand,
    scopes: String,
    /// Where it is connected, if that is for whoever looks.
    target: Option<String>,
    csrf: String,
    is_own: bool,
}

/// Ids of the page's own, which no row of a table has.
const IDS: [&str; 5] = ["main", "accounts", "accounts-of-others", "applications", "others"];

impl AccountRow<'_> {
    fn shown(&self) -> ShownAccount<'_> {
        let Self { service, owner, of, stand, scopes, target, csrf, is_own } = self;
        let disconnect = stand.is_there().then_some(&**csrf);
        let shown = stand.shown(*service, owner, of, scopes, target.clone(), disconnect);
        let anchor = Some(service.server).filter(|name| *is_own && !IDS.contains(name));
        ShownAccount { anchor, ..shown }
    }
}

/// Those of whoever is signed in.
async fn own_accounts<'a>(browser: &Browser<'a>, login: &PageLogin) -> Result<Vec<AccountRow<'a>>, Error> {
    let mut rows = Vec::new();
    for account in Account::all(browser, login) {
        let stand = account.stand().await?;
        rows.push(AccountRow {
            service: account.service(),
            of: String::new(),
            scopes: stand.scopes(),
            stand,
            target: Some(account.target()),
            csrf: disconnect_csrf(browser, login, account.name(), &account.owner)?,
            owner: account.owner,
            is_own: true,
        });
    }
    Ok(rows)
}

/// What others have connected, for those who may see it. Never a value, nor how it ends.
async fn accounts_of_others<'a>(
    browser: &Browser<'a>,
    login: &PageLogin,
) -> Result<Vec<AccountRow<'a>>, Error> {
    let request = browser.request;
    let Some(upstreams) = request.shared.logins.upstream() else { return Ok(Vec::new()) };
    let kept = upstreams.all(MOST_OF_OTHERS).await.map_err(|_| Error::logins_not_kept())?;
    let mut rows = Vec::new();
    for kept in kept {
        let UpstreamOwner::Principal(principal) = &kept.owner else { continue };
        let entry = request.live.entries.get(&*kept.server);
        let Some((entry, credentials)) = entry.and_then(|entry| Some((entry, entry.credentials.as_ref()?)))
        else {
            continue;
        };
        if *principal == login.principal {
            continue;
        }
        rows.push(AccountRow {
            service: service(entry, credentials),
            of: browser.account_name(principal),
            scopes: String::new(),
            stand: Stand::of_row(&kept),
            target: None,
            csrf: disconnect_csrf(browser, login, &kept.server, &kept.owner)?,
            owner: kept.owner.clone(),
            is_own: false,
        });
    }
    Ok(rows)
}

fn disconnect_csrf(
    browser: &Browser<'_>,
    login: &PageLogin,
    server: &str,
    owner: &UpstreamOwner,
) -> Result<String, Error> {
    browser.csrf_field(Purpose::Disconnect, Some(login), Some(&object(server, &owner.to_string())))
}

/// Grants of clients, with the forms that revoke them.
fn rows(
    browser: &Browser<'_>,
    login: &PageLogin,
    grants: impl IntoIterator<Item = (Principal, GrantSummary)>,
) -> Result<Vec<Row>, Error> {
    let row = |(principal, summary): (Principal, GrantSummary)| {
        let object = object(&summary.shown_id, &principal.to_string());
        let csrf = browser.csrf_field(Purpose::Revoke, Some(login), Some(&object))?;
        let account = browser.account_name(&principal);
        Ok(Row { principal, summary, account, csrf })
    };
    grants.into_iter().map(row).collect()
}

impl Row {
    fn shown(&self) -> Option<ShownGrant<'_>> {
        let client: &ClientGrant = self.summary.kind.client()?;
        Some(ShownGrant {
            id: &self.summary.shown_id,
            csrf: &self.csrf,
            owner: self.principal.to_string(),
            account: Shown::name(&self.account),
            client: Shown::name(&client.client_name),
            redirect_target: Shown::text(&client.redirect_host),
            scope: Shown::text(&client.scope),
            resource: Shown::text(&client.resource),
            last_used: Moment(self.summary.used),
            ends: Moment(self.summary.ends),
        })
    }
}

/// What a field is made for: the grant or the server, and whose it is.
fn object(id: &str, account: &str) -> String {
    format!("{id} {account}")
}

fn not_good(browser: &Browser<'_>) -> Response<Payload> {
    browser.trouble("This form is not good any more.", None, WayOn::Connections)
}
