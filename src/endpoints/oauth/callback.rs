//! Login by the identity provider: a browser goes there from the page at which people sign in, and comes back to `/oauth/callback`.
//!
//! It goes there by a form of that page, which says before who asks for what. What comes back is good for the browser that went, for ten
//! minutes and for one code; whoever is led here with the answer to somebody else's login, or to one at another provider, is nobody.

use std::time::UNIX_EPOCH;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Response, StatusCode};

use super::{
    browser::{Authorization, Browser, no_key, shown_idp},
    connect, signed_in,
};
use crate::{
    body::Payload,
    config::Level,
    error::{Error, ErrorKind},
    identity::{
        Principal,
        idp::{Idp, IdpError, KeptClaims, LoginSecrets},
        login::{
            account::{Account, KeptAccount},
            keys::NoKey,
            spent::{NotSpent, Spent},
        },
    },
    oauth::flow::{AuthorizationRequest, Awaiting, IdpFlow},
    pages::{self, Shown, ToIdp, Trouble, WayOn},
    secret::{Secret, SecretKey},
};

/// Bytes of a subject at most (OpenID Connect Core §2).
const LONGEST_SUBJECT: usize = 255;

/// Sends a browser to the identity provider.
pub(super) async fn begin(browser: &Browser<'_>, awaiting: Awaiting) -> Result<Response<Payload>, Error> {
    let request = browser.request;
    let Some(idp) = request.live.idp() else { return Ok(browser.over()) };
    let key = SecretKey::random().map_err(|_| no_key(NoKey))?;
    let made = browser.now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let provider = request.live.idp_fingerprint().ok_or_else(Error::logins_not_kept)?.bytes();
    let flow = IdpFlow { made, key: URL_SAFE_NO_PAD.encode(key.expose()), provider, awaiting };
    let Some(state) = browser.seal_for_idp(&flow)? else {
        let sentence = "This program asks in more words than can be taken through a login elsewhere.";
        return Ok(browser.trouble(sentence, None, WayOn::TellOperator));
    };
    let secrets = LoginSecrets { state: Secret::new(state), ..LoginSecrets::of(&key) };
    // It may have to be asked where that is.
    let place = request.shared.logins.pending.begin(request.address_block());
    match place.during(idp.begin(&secrets)).await.ok_or_else(Error::gave_way)? {
        Ok(target) => {
            let host = target.host_str().unwrap_or_default().to_owned();
            let view = ToIdp { gateway: browser.gateway(), host: Shown::text(&host), target: &target };
            Ok(browser.show(pages::to_idp(&view)))
        }
        Err(why) => Ok(failed(browser, idp, why, None)),
    }
}

/// Somebody does not want to sign in: a client that waits is told so.
pub(super) async fn cancel(
    browser: &Browser<'_>,
    asked: Option<&AuthorizationRequest>,
) -> Result<Response<Payload>, Error> {
    let Some(asked) = asked else { return Ok(browser.over()) };
    let (client, redirect_target) = match browser.still_asked(asked).await? {
        Ok(found) => found,
        Err(page) => return Ok(page),
    };
    let authorization = Authorization { client: &client, redirect_target: &redirect_target, asked };
    authorization.redirect().denied(browser).await
}

/// A browser comes back, from here or from the issuer of a server's accounts: the places at which they do are one.
pub(super) async fn answer(browser: &mut Browser<'_>) -> Result<Response<Payload>, Error> {
    let request = browser.request;
    let Ok(form) = request.asked() else { return Ok(browser.over()) };
    if connect::is_own_callback(request.path(), &form) {
        return connect::came_back(browser, &form).await;
    }
    let Some(idp) = request.live.idp() else { return Ok(browser.over()) };
    let Some(state) = form.get("state") else { return Ok(browser.over()) };
    // Only this browser has it, and only for a while.
    let Some(flow) = browser.open_of_idp(state)? else { return Ok(browser.over()) };
    let fingerprint = request.live.idp_fingerprint().ok_or_else(Error::logins_not_kept)?;
    let Some(key) = key_of(&flow).filter(|_| flow.provider == fingerprint.bytes()) else {
        return Ok(browser.over());
    };
    if let Some(error) = form.get("error") {
        let why = match error {
            "access_denied" => {
                IdpError::Refused("it says access_denied: they did not sign in there, or may not")
            }
            "login_required" | "interaction_required" | "consent_required" => {
                IdpError::Refused("it asks for what it did not ask them for")
            }
            "temporarily_unavailable" | "server_error" => IdpError::Unavailable("it says that it fails"),
            _ => IdpError::Broken("it answers with an error of its own: see what the gateway is there"),
        };
        return Ok(failed(browser, idp, why, None));
    }
    let Some(code) = form.get("code").map(|code| Secret::new(code.to_owned())) else {
        return Ok(browser.over());
    };
    // Whoever makes up codes does not have the provider asked as often as they like.
    if let Err(error) = (request.may_guess)() {
        return Ok(browser.failed(error));
    }
    // One code for each time that somebody went there: who makes up another begins anew.
    let spent = Spent::login(request.address_block(), &flow.key, flow.ends());
    match browser.grants()?.spend(spent, browser.now).await {
        Ok(()) => {}
        Err(NotSpent::Again | NotSpent::Forgotten) => return Ok(browser.over()),
        Err(NotSpent::Full) => {
            let cause = "as many logins at the identity provider come back from one network, or in all, as may be remembered";
            return Err(ErrorKind::Unavailable.with_cause(cause));
        }
        Err(NotSpent::Down) => return Err(Error::logins_not_kept()),
    }
    let secrets = LoginSecrets { state: Secret::new(state.to_owned()), ..LoginSecrets::of(&key) };
    let place = request.shared.logins.pending.begin(request.address_block());
    let finish = idp.finish(&code, form.get("iss"), &secrets, browser.now);
    let login = match place.during(finish).await.ok_or_else(Error::gave_way)? {
        Ok(login) => login,
        Err(why) => return Ok(failed(browser, idp, why, None)),
    };
    if !is_subject(&login.subject) {
        let why = IdpError::Broken("its subject is longer than 255 bytes, or not visible ASCII");
        return Ok(failed(browser, idp, why, None));
    }
    let config = idp.config();
    let principal = Principal::Idp(format!("{}:{}", config.provider.name(), login.subject).into());
    // What is kept is what they are let in by from here on.
    let assignments = &request.live.config.assignments;
    let kept = KeptClaims::of(&login.claims, config, assignments);
    if kept.loses_limit(assignments) {
        let why =
            IdpError::Refused("a limit of `assign` asks about more than is kept of somebody: 512 bytes");
        return Ok(failed(browser, idp, why, Some((&principal, &login.display))));
    }
    let KeptClaims { claims, known, .. } = kept;
    if let Err(why) = request.live.admitted(&principal, &claims) {
        return Ok(failed(browser, idp, IdpError::Refused(why), Some((&principal, &login.display))));
    }
    let account = Account {
        principal,
        fingerprint,
        display: login.display.into(),
        claims,
        known,
        checked: browser.now,
    };
    let begun = browser.grants()?.begin_page_as(KeptAccount::new(account, login.keep), browser.now).await;
    signed_in::go_on(browser, begun, flow.awaiting).await
}

fn key_of(flow: &IdpFlow) -> Option<SecretKey> {
    let key = URL_SAFE_NO_PAD.decode(&flow.key).ok()?;
    key.try_into().ok().map(SecretKey::new)
}

/// Whether it can be a part of a name: it stands in logs, tokens and the file of logins.
fn is_subject(subject: &str) -> bool {
    (1..=LONGEST_SUBJECT).contains(&subject.len())
        && subject.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte))
}

/// The page for somebody who did not log in. Nothing of it is the provider's; the log has the reason, and who it would have been.
fn failed(
    browser: &Browser<'_>,
    idp: &Idp,
    why: IdpError,
    who: Option<(&Principal, &str)>,
) -> Response<Payload> {
    let request = browser.request;
    let name = shown_idp(idp.config());
    let (status, level, sentence, way_on) = match why {
        IdpError::Refused(_) if who.is_some() => (
            StatusCode::FORBIDDEN,
            Level::Info,
            format!("Your account at {name} is not let in here."),
            WayOn::TellOperator,
        ),
        IdpError::Refused(_) => (
            StatusCode::FORBIDDEN,
            Level::Info,
            format!("You were not signed in: {name} said no, or your account there is not let in here."),
            WayOn::StartAgain,
        ),
        IdpError::Unavailable(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Level::Warn,
            format!("{name} does not answer at the moment."),
            WayOn::StartAgain,
        ),
        IdpError::Broken(_) => (
            StatusCode::BAD_GATEWAY,
            Level::Warn,
            format!("The gateway cannot use what {name} answers."),
            WayOn::AskOperator,
        ),
    };
    let error = match why {
        // Whoever makes up answers has the gateway ask the provider each time.
        IdpError::Refused(_) => {
            let counted = (request.on_failed)();
            match counted.kind {
                ErrorKind::RateLimited | ErrorKind::GuessLimited => counted,
                _ => ErrorKind::InvalidCredentials.with_cause(why.reason()),
            }
        }
        IdpError::Unavailable(_) | IdpError::Broken(_) => ErrorKind::Unavailable.with_cause(why.reason()),
    };
    request.note_refusal(error);
    let log = &request.shared.observer.log;
    let line = log.line(level, "Somebody did not log in by the identity provider");
    let line = line.plain("reason", why.reason());
    let line = match who {
        Some((principal, display)) => line.text("principal", &principal.to_string()).text("account", display),
        None => line,
    };
    line.plain("request_id", request.id.as_str()).send();
    let view = Trouble {
        gateway: browser.gateway(),
        status,
        sentence: &sentence,
        detail: who.map(|(_, display)| Shown::name(display)),
        way_on,
        request_id: request.id.as_str(),
    };
    browser.show(pages::trouble(&view))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_one_word_that_can_stand_anywhere() {
        for good in ["1", "110169484474386276334", "auth0|5f7c8ec7c33c6c004bbafe82", "a:b", "a/b=c@d"] {
            assert!(is_subject(good), "{good}");
        }
        for bad in ["", "a b", "a\n", "a\"", "a\\", "é", "a\u{0}"] {
            assert!(!is_subject(bad), "{bad:?}");
        }
        assert!(is_subject(&"x".repeat(255)) && !is_subject(&"x".repeat(256)));
    }
}
