//! `/authorize`: a client sends its user here, and gets a code if the user lets it in (RFC 6749 §4.1, OAuth 2.1, RFC 9207).
//!
//! As long as it is not known who asks and where that one may be sent back to, nobody is sent anywhere: the user is told what is
//! wrong. What is wrong behind that is for the client.
//!
//! There is no POST, which is a choice (§3.1): only a page of the client could send one. What another page sends is not taken, and
//! comes without the cookies by which a browser is known.

use std::time::UNIX_EPOCH;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::Response;

use super::{
    OauthRequest,
    browser::{Authorization, Browser, Waiting, no_key},
    consent::decide,
    form::Form,
    places::{self, LONGEST_SCOPE},
    redirect::{Fault, Redirect, fault},
};
use crate::{
    body::Payload,
    error::Error,
    oauth::flow::{AuthorizationRequest, Awaiting, new_name},
    pages::WayOn,
};

/// Bytes of a `state` at most.
const LONGEST_STATE: usize = 1024;

/// Answers one.
pub(super) async fn answer(browser: &Browser<'_>) -> Result<Response<Payload>, Error> {
    let request = browser.request;
    let login = browser.login().await?;
    if login.is_none() {
        browser.note_stranger()?;
    }
    let form = match request.asked() {
        Ok(form) => form,
        Err(fault) => {
            return Ok(browser.trouble(
                "This request cannot be read.",
                Some(fault.sentence()),
                WayOn::AddAnew,
            ));
        }
    };
    let Some(id) = form.get("client_id") else {
        return Ok(browser.trouble(
            "This request does not say which program it is of.",
            None,
            WayOn::AddAnew,
        ));
    };
    let client = match browser.client(id, form.get("redirect_uri")).await? {
        Ok(client) => client,
        Err(page) => return Ok(page),
    };
    let redirect_uri = match (form.get("redirect_uri"), &client.redirect_uris[..]) {
        (Some(uri), _) => uri,
        // RFC 6749 §3.1.2.3
        (None, [only]) => only,
        (None, _) => {
            return Ok(browser.trouble(
                "This program does not say where it is to be answered.",
                None,
                WayOn::AddAnew,
            ));
        }
    };
    let Some(redirect_target) = client.redirect_target(redirect_uri, request.config) else {
        return Ok(browser.unknown_redirect(&client, redirect_uri));
    };
    let state = form.get("state").filter(|state| state.len() <= LONGEST_STATE);
    let redirect = Redirect { client: &client, redirect_target: &redirect_target, redirect_uri, state };
    if !client.grants.codes {
        let why = fault("unauthorized_client", "The config of the gateway gives this client no codes.");
        return redirect.refused(browser, why).await;
    }
    let asked = match checked(browser, &form, &client.id, redirect_uri)? {
        Ok(asked) => asked,
        Err(fault) => return redirect.refused(browser, fault).await,
    };
    let authorization = Authorization { client: &client, redirect_target: &redirect_target, asked: &asked };
    let login = match login {
        Some(login) if !has_prompt(&form, "login") => login,
        _ if has_prompt(&form, "none") => {
            return redirect.refused(browser, Fault::NOBODY).await;
        }
        _ => {
            let flow = browser.seal(&asked)?;
            let awaiting = Awaiting::Program(asked.into());
            let waiting = Waiting(Some((&flow, &awaiting)));
            return browser.sign_in(waiting, "", false, None).await;
        }
    };
    decide(browser, &authorization, &login, has_prompt(&form, "none")).await
}

fn has_prompt(form: &Form, word: &str) -> bool {
    form.get("prompt").is_some_and(|prompt| prompt.split(' ').any(|other| other == word))
}

/// What the client asks for, if that can be.
fn checked(
    browser: &Browser<'_>,
    form: &Form,
    client_id: &str,
    redirect_uri: &str,
) -> Result<Result<AuthorizationRequest, Fault>, Error> {
    let (challenge, resource) = match well_formed(browser.request, form) {
        Ok(checked) => checked,
        Err(fault) => return Ok(Err(fault)),
    };
    Ok(Ok(AuthorizationRequest {
        id: new_name().map_err(no_key)?,
        made: browser.now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        client_id: client_id.to_owned(),
        redirect_uri: redirect_uri.to_owned(),
        state: form.get("state").map(str::to_owned),
        challenge,
        resource,
        scope: form.get("scope").unwrap_or_default().to_owned(),
        must_ask: has_prompt(form, "consent"),
        allowed_by: None,
    }))
}

/// The challenge and the place of a request that has all that it needs. Nothing here depends on which servers there are.
fn well_formed(request: &OauthRequest<'_>, form: &Form) -> Result<([u8; 32], String), Fault> {
    match form.get("response_type") {
        Some("code") => {}
        None => return Err(fault("invalid_request", "response_type is missing.")),
        Some(_) => return Err(fault("unsupported_response_type", "response_type has to be code.")),
    }
    if form.get("response_mode").is_some_and(|mode| mode != "query") {
        return Err(fault("invalid_request", "response_mode has to be query."));
    }
    if form.get("request").is_some() {
        return Err(fault("request_not_supported", "Requests in a JWT are not taken."));
    }
    if form.get("request_uri").is_some() {
        return Err(fault("request_uri_not_supported", "Requests at a URI are not taken."));
    }
    if form.get("state").is_some_and(|state| state.len() > LONGEST_STATE) {
        return Err(fault("invalid_request", "state is longer than 1,024 bytes."));
    }
    // Without a method it would be "plain", by which whoever sees the request has what redeems the code.
    let challenge = match (form.get("code_challenge"), form.get("code_challenge_method")) {
        (Some(challenge), Some("S256")) => challenge,
        (None, _) => return Err(fault("invalid_request", "code_challenge is missing (PKCE).")),
        (Some(_), _) => return Err(fault("invalid_request", "code_challenge_method has to be S256.")),
    };
    let mut bytes = [0; 33];
    let decoded = URL_SAFE_NO_PAD.decode_slice(challenge, &mut bytes);
    let (32, Some(challenge)) = (decoded.unwrap_or_default(), bytes.first_chunk::<32>()) else {
        return Err(fault("invalid_request", "code_challenge is no SHA-256 in base64url."));
    };
    let resource = match form.get("resource") {
        None if request.config.require_resource => {
            return Err(fault("invalid_target", "resource is missing (RFC 8707)."));
        }
        asked => places::canonical(request, asked).ok_or_else(|| Fault::no_place(&request.config.base))?,
    };
    if form.get("scope").is_some_and(|scope| scope.len() > LONGEST_SCOPE) {
        return Err(fault("invalid_scope", "scope is longer than 1,024 bytes."));
    }
    Ok((*challenge, resource))
}
