//! Which client asks, at `/token`, `/revoke` and `/oauth/introspect`: by `Basic` or in the form (RFC 6749 §2.3.1), or by its name
//! alone, if it has no secret.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::header::AUTHORIZATION;
use zeroize::Zeroizing;

use super::{
    browser::{find_client, registrar},
    form::Form,
    refusal::Refusal,
    request::OauthRequest,
};
use crate::{
    error::{Error, ErrorKind},
    oauth::{Client, NotFound},
    secret::Secret,
};

/// Which clients an endpoint hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LetIn {
    /// Those that the config in force lets come.
    Now,
    /// Also those that an earlier one did.
    Ever,
}

/// The fields of a request of a client, and the client, once it has proved that it is the one.
pub(super) async fn proved(
    request: &OauthRequest<'_>,
    let_in: LetIn,
) -> Result<Result<(Form, Arc<Client>), Refusal>, Error> {
    // What is in a query is in the logs of all whom it passes.
    if request.query().is_some_and(|query| !query.is_empty()) {
        return Ok(Err(Refusal::request("Parameters belong into the body, and not into the query.")));
    }
    let form = match request.form() {
        Ok(form) => form,
        Err(fault) => return Ok(Err(fault.into())),
    };
    let shown = match shown(request, &form) {
        Ok(shown) => shown,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let Shown { id, secret, by_field } = shown;
    let found = match let_in {
        LetIn::Now => find_client(request, &id).await?,
        LetIn::Ever => {
            let known = request.shared.clients.known(&id, request.config, &registrar(request)?);
            known.ok_or(NotFound::Unknown)
        }
    };
    let client = match found {
        Ok(client) => client,
        // Its host may answer in a moment. A client that is told that it is none throws away what it has.
        Err(NotFound::Document(why)) if why.is_for_now() => {
            let cause = format!("the metadata document of a client does not come: {}", why.name());
            return Err(ErrorKind::Unavailable.with_cause(cause));
        }
        Err(_) => return Ok(Err(Refusal::client(by_field))),
    };
    match client.is_proved_by(secret.as_ref()) {
        true => Ok(Ok((form, client))),
        false => failed(request, Refusal::client(by_field)).map(Err),
    }
}

/// One more secret of this address that is not good; the error is for an address that had too many.
pub(super) fn failed(request: &OauthRequest<'_>, refusal: Refusal) -> Result<Refusal, Error> {
    let error = (request.on_failed)();
    match error.kind {
        ErrorKind::GuessLimited | ErrorKind::RateLimited => Err(error),
        _ => Ok(refusal),
    }
}

/// What a client shows.
struct Shown {
    id: String,
    secret: Option<Secret>,
    by_field: bool,
}

fn shown(request: &OauthRequest<'_>, form: &Form) -> Result<Shown, Refusal> {
    if form.get("client_assertion").is_some() {
        let description = "Proofs by JWT are not taken: use client_secret_basic, or none.";
        return Err(Refusal { description, ..Refusal::client(false) });
    }
    let in_form = (form.get("client_id"), form.get("client_secret"));
    let mut fields = request.head.headers.get_all(AUTHORIZATION).iter();
    let Some(field) = fields.next() else {
        let id = in_form.0.ok_or(Refusal::client(false))?.to_owned();
        let secret = in_form.1.map(|secret| Secret::new(secret.to_owned()));
        return Ok(Shown { id, secret, by_field: false });
    };
    let (id, secret) = basic(field.as_bytes()).ok_or(Refusal::client(true))?;
    if fields.next().is_some() || in_form.1.is_some() || in_form.0.is_some_and(|other| other != id) {
        return Err(Refusal::request("The client has to prove itself in one way."));
    }
    Ok(Shown { id, secret: Some(secret), by_field: true })
}

/// Id and secret of `Basic`, each encoded as in a form.
fn basic(field: &[u8]) -> Option<(String, Secret)> {
    let (scheme, encoded) = field.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let decoded = Zeroizing::new(STANDARD.decode(encoded.trim_ascii()).ok()?);
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let id = Form::decoded(&decoded[..colon])?;
    let secret = Form::decoded(&decoded[colon + 1..])?;
    (!id.is_empty()).then(|| (id.to_string(), Secret::new(secret.to_string())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_and_secret_are_encoded_as_in_a_form() {
        let read = |text: &str| basic(format!("Basic {}", STANDARD.encode(text)).as_bytes());
        let of = |id: &str, secret: &str| Some((id.to_owned(), Secret::new(secret.to_owned())));
        assert_eq!(read("ops:a secret"), of("ops", "a secret"));
        assert_eq!(read("ops:a+secret%2B%3a:x"), of("ops", "a secret+::x"));
        assert_eq!(read("https%3A%2F%2Fclient.example%2Fm:"), of("https://client.example/m", ""));
        assert_eq!(basic(b"bAsIc b3BzOng="), of("ops", "x"));
        for bad in ["", "ops", ":x", "o%zzps:x", "ops:%ff"] {
            assert_eq!(read(bad), None, "{bad}");
        }
        for bad in [&b"Bearer b3BzOng="[..], b"Basic", b"Basic !", b"Basicb3BzOng="] {
            assert_eq!(basic(bad), None);
        }
    }
}
