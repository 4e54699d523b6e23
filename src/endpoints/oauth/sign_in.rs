//! `/oauth/login`: users log in with their password, and named tokens with themselves.

use std::time::Instant;

use http::Response;

use super::{
    OauthRequest,
    browser::{Browser, Waiting},
    callback,
    form::Form,
    signed_in,
};
use crate::{
    body::Payload,
    error::{Error, ErrorKind},
    identity::{Principal, login::fingerprint::Fingerprint},
    ledger::RateKey,
    pages::{NotSignedIn, csrf::Purpose},
    secret::Secret,
};

/// Answers one.
pub(super) async fn answer(browser: &mut Browser<'_>) -> Result<Response<Payload>, Error> {
    let request = browser.request;
    if !request.is_post() {
        return match browser.login().await? {
            Some(_) => browser.lead_to("/oauth"),
            None => browser.sign_in(Waiting(None), "", false, None).await,
        };
    }
    let Ok(form) = request.form() else { return Ok(browser.over()) };
    let flow = form.get("flow");
    // A page of another site has no such field, so nobody is logged in as somebody else without noticing.
    if !browser.is_own_form(Purpose::SignIn, None, flow, form.get("csrf"))? {
        return Ok(browser.over());
    }
    let Some(awaiting) = browser.awaited(flow)? else { return Ok(browser.over()) };
    match form.get("idp") {
        Some("cancel") => return callback::cancel(browser, awaiting.program()).await,
        Some(_) => return callback::begin(browser, awaiting).await,
        None => {}
    }
    let is_by_token = form.get("token").is_some();
    let (principal, fingerprint) = match proved(request, &form).await? {
        Ok(proved) => proved,
        Err(failure) => {
            let name = form.get("username").unwrap_or_default();
            let waiting = Waiting(flow.map(|flow| (flow, &awaiting)));
            return browser.sign_in(waiting, name, is_by_token, Some(failure)).await;
        }
    };
    let grants = browser.grants()?;
    let begun = grants.begin_page(&principal, fingerprint, browser.now).await;
    signed_in::go_on(browser, begun, awaiting).await
}

/// Who has the password, or the token, of a form.
async fn proved(
    request: &OauthRequest<'_>,
    form: &Form,
) -> Result<Result<(Principal, Fingerprint), NotSignedIn>, Error> {
    let failed = |error: Error| {
        let (failure, error) = match error.kind {
            ErrorKind::InvalidCredentials | ErrorKind::InvalidToken => {
                let counted = (request.on_failed)();
                match counted.kind {
                    ErrorKind::RateLimited | ErrorKind::GuessLimited => (NotSignedIn::TooOften, counted),
                    _ => (NotSignedIn::Wrong, error),
                }
            }
            ErrorKind::RateLimited => (NotSignedIn::TooOften, error),
            ErrorKind::Unavailable if request.shared.logins.is_open() => (NotSignedIn::Busy, error),
            _ => return Err(error),
        };
        request.note_refusal(error);
        Ok(failure)
    };
    let live = request.live;
    let found = match (form.get("token"), form.get("username"), form.get("password")) {
        (Some(token), None, None) => {
            let attempts = &request.shared.logins.attempts;
            // Good or not, as those of a user are.
            match attempts.note_token(request.address_block(), Instant::now()) {
                Ok(()) => by_token(request, token).ok_or(ErrorKind::InvalidToken.into()),
                Err(wait) => Err(Error::too_often(RateKey::Logins, wait)),
            }
        }
        (None, Some(name), Some(password)) if live.has_logins() => {
            let password = Secret::new(password.to_owned());
            let address = request.address_block();
            let user = live.user_by_password(name, password, address, ErrorKind::InvalidCredentials).await;
            user.and_then(|user| {
                let fingerprint = live.fingerprint(user.slot).ok_or_else(Error::logins_not_kept)?;
                Ok((user.identity.principal.clone(), fingerprint))
            })
        }
        _ => Err(ErrorKind::InvalidCredentials.into()),
    };
    match found {
        Ok(found) => Ok(Ok(found)),
        Err(error) => failed(error).map(Err),
    }
}

/// The named token that this is, if it may be used.
fn by_token(request: &OauthRequest<'_>, token: &str) -> Option<(Principal, Fingerprint)> {
    let live = request.live;
    let slot = live.tokens.find(token.as_bytes())?;
    let caller = live.caller(Some(slot));
    if caller.identity.is_decoy {
        (request.on_decoy)(&caller);
    }
    let principal = &caller.identity.principal;
    let fingerprint = live.fingerprint(slot)?;
    let is_good = matches!(principal, Principal::Token(_)) && live.has_principal(principal, fingerprint);
    is_good.then(|| (principal.clone(), fingerprint))
}
