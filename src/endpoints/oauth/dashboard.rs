//! `/oauth`: what somebody let in, and the end of it.

use http::Response;

use super::browser::Browser;
use crate::{
    body::Payload,
    config::Level,
    error::{Error, ErrorKind},
    identity::{
        Principal,
        login::grants::{ClientGrant, GrantSummary, PageLogin},
    },
    pages::{self, Connections, Done, Moment, Shown, ShownGrant, WayOn, csrf::Purpose},
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
    let sign_out_csrf = browser.csrf_field(Purpose::SignOut, Some(&login), None)?;
    let account = browser.account_name(&login.principal);
    let own: Vec<_> = own.iter().filter_map(Row::shown).collect();
    let others: Option<Vec<_>> = others.as_ref().map(|others| others.iter().filter_map(Row::shown).collect());
    let did = request.asked().ok();
    let view = Connections {
        gateway: browser.gateway(),
        account: Shown::name(&account),
        sign_out_csrf: &sign_out_csrf,
        done: did.as_ref().and_then(|query| query.get("did")).and_then(Done::of),
        own_accounts: &[],
        accounts_of_others: None,
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

/// What a field is made for: the grant, and whose it is.
fn object(id: &str, account: &str) -> String {
    format!("{id} {account}")
}

fn not_good(browser: &Browser<'_>) -> Response<Payload> {
    browser.trouble("This form is not good any more.", None, WayOn::Connections)
}
