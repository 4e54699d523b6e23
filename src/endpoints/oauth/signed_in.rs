//! Where somebody is led who has logged in at the pages, whatever they proved themselves by.

use http::Response;

use super::{
    browser::{Authorization, Browser, no_key},
    consent::decide,
};
use crate::{
    body::Payload,
    config::Level,
    error::{Error, ErrorKind},
    identity::login::{
        grants::{NotBegun, PageLogin},
        keys::NoKey,
    },
    oauth::flow::Awaiting,
    secret::Secret,
};

/// What somebody sees next whose login at the pages has begun.
pub(super) async fn go_on(
    browser: &mut Browser<'_>,
    begun: Result<(Secret, PageLogin, bool), NotBegun>,
    awaiting: Awaiting,
) -> Result<Response<Payload>, Error> {
    let request = browser.request;
    let (cookie, login, has_ended_another) = begun.map_err(|why| match why {
        NotBegun::Full => ErrorKind::Unavailable.with_cause("there are as many logins as may be"),
        NotBegun::TooLong => ErrorKind::Internal.with_cause("what is to be kept of a login is too long"),
        NotBegun::NoRandomness => no_key(NoKey),
        NotBegun::Down => Error::logins_not_kept(),
    })?;
    let PageLogin { principal, fingerprint, .. } = &login;
    if !request.shared.keeps_begun(login.grant, principal, *fingerprint, has_ended_another) {
        return Err(ErrorKind::Unavailable.with_cause("the account changed while it was checked"));
    }
    // A new login has a new cookie, and what the old one began is over.
    if let Some(old) = browser.login_cookie() {
        let _ = browser.grants()?.end_page(old).await;
    }
    let log = &request.shared.observer.log;
    log.line(Level::Info, "Somebody signed in at the pages").display("principal", principal).send();
    browser.note(&login);
    browser.sign_in_with(cookie.expose());
    let asked = match awaiting {
        Awaiting::Nothing => return browser.lead_to("/oauth"),
        Awaiting::Page(path) => return browser.lead_to(&path),
        Awaiting::Program(asked) => *asked,
    };
    let (client, redirect_target) = match browser.still_asked(&asked).await? {
        Ok(found) => found,
        Err(page) => return Ok(page),
    };
    let authorization = Authorization { client: &client, redirect_target: &redirect_target, asked: &asked };
    decide(browser, &authorization, &login, false).await
}
