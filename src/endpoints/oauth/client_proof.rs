//! Which client asks, at `/token`, `/revoke` and `/oauth/introspect`: by `Basic` or in the form (RFC 6749 §2.3.1), by what it signs
//! (RFC 7523 §2.2), or by its name alone, if it has neither a secret nor keys.

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
    config::ClientProof,
    error::{Error, ErrorKind},
    identity::{
        foreign::{assertion::ClientAssertion, jwks::KeySet, jwt::NotTaken, keys::NotVerified},
        login::spent::{NotSpent, Spent},
    },
    oauth::{Client, ClientAuth, NotFound},
    secret::Secret,
};

/// What says that a client proves itself by what it signs.
const BY_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Which clients an endpoint hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LetIn {
    /// Those that the config in force lets come.
    Now,
    /// Also those that an earlier one did, to give back what they have.
    Ever,
}

/// A client that has proved that it is the one.
pub(super) struct Proved {
    /// The fields of its request.
    pub(super) form: Form,
    pub(super) client: Arc<Client>,
    /// By what of the config it did, if by anything there.
    pub(super) credential: Option<[u8; 32]>,
}

/// The fields of a request of a client, and the client, once it has proved that it is the one.
pub(super) async fn proved(
    request: &OauthRequest<'_>,
    let_in: LetIn,
) -> Result<Result<Proved, Refusal>, Error> {
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
    let Shown { id, proof, by_field } = shown;
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
    let secret = match &proof {
        ShownProof::Nothing => None,
        ShownProof::Secret(secret) => Some(secret),
        ShownProof::Assertion if client.auth == ClientAuth::Keys => {
            let assertion = form.get("client_assertion").unwrap_or_default();
            return match by_assertion(request, &client.id, assertion, let_in).await? {
                Ok(credential) => Ok(Ok(Proved { form, client, credential: Some(credential) })),
                Err(why) => failed(request, Refusal::client(false).because(why)).map(Err),
            };
        }
        ShownProof::Assertion => {
            let why = "the config has no keys of the client";
            return failed(request, Refusal::client(false).because(why)).map(Err);
        }
    };
    let credential = match client.auth {
        ClientAuth::Secret(digest) => Some(ClientProof::digest("secret", &digest)),
        ClientAuth::None | ClientAuth::Keys => None,
    };
    match client.is_proved_by(secret) {
        true => Ok(Ok(Proved { form, client, credential })),
        false => failed(request, Refusal::client(by_field)).map(Err),
    }
}

/// By what of the config this client has signed this; or why it has not, for the log.
async fn by_assertion(
    request: &OauthRequest<'_>,
    id: &str,
    text: &str,
    let_in: LetIn,
) -> Result<Result<[u8; 32], &'static str>, Error> {
    let OauthRequest { live, config, shared, .. } = *request;
    let now = live.clock.now();
    let Some(assertion) = ClientAssertion::parse(text) else { return Ok(Err("it is no JWT")) };
    let checked = assertion.check(id, &config.issuer, now);
    let once = match checked {
        Ok(once) => once,
        Err(why) => return Ok(Err(why.name())),
    };
    let signed = match config.client(id).map(|client| &client.proof) {
        Some(ClientProof::Keys(keys)) => {
            let all: Vec<_> = keys.iter().map(|key| &*key.json).collect();
            let set = format!("{{\"keys\":[{}]}}", all.join(","));
            let set = KeySet::parse(set.as_bytes());
            let set = set.map_err(|_| ErrorKind::Internal.with_cause("keys of a client cannot be read"))?;
            assertion.verify(&set).and_then(|id| {
                let key = keys.iter().find(|key| *key.id == *id);
                key.map(|key| key.credential).ok_or(NotTaken::UnknownKey)
            })
        }
        Some(ClientProof::KeysAt(url)) => {
            let Some((keys, kid)) = live.client_keys.get(id).zip(assertion.key_id()) else {
                return Ok(Err(NotTaken::UnknownKey.name()));
            };
            let fetched = keys.keys_with(kid).await;
            // They may have been waited for.
            shared.is_in_force(live)?;
            match fetched {
                Ok(keys) => {
                    let signed = assertion.verify(keys.set());
                    signed.map(|_| ClientProof::digest("url", url.as_str().as_bytes()))
                }
                Err(NotVerified::NotTaken(why)) => Err(why),
                Err(NotVerified::NoKeys) => {
                    let why = keys.status().failed.map_or("they are on their way", |why| why.name());
                    let cause = format!("the keys of the client {id} are not there: {why}");
                    return Err(ErrorKind::Unavailable.with_cause(cause));
                }
            }
        }
        _ => Err(NotTaken::UnknownKey),
    };
    match signed {
        Ok(credential) => {
            let spent = Spent::assertion(&format!("client {id}"), once.id.as_bytes(), once.until);
            let spent = match let_in {
                LetIn::Now => spent,
                LetIn::Ever => spent.to_give_back(),
            };
            Ok(used(request, spent).await?.map(|()| credential))
        }
        Err(why) => Ok(Err(why.name())),
    }
}

/// An assertion is used from now on; or why it cannot be, for the log.
pub(super) async fn used(
    request: &OauthRequest<'_>,
    spent: Spent,
) -> Result<Result<(), &'static str>, Error> {
    let grants = request.shared.logins.grants().ok_or_else(Error::logins_not_kept)?;
    let owner = spent.owner().clone();
    match grants.spend(spent, request.live.clock.now()).await {
        Ok(()) => Ok(Ok(())),
        Err(NotSpent::Again) => Ok(Err("its jti was used before")),
        Err(NotSpent::Forgotten) => Ok(Err(
            "it ends so early that nobody knows whether its jti was used: a clock of a gateway is wrong",
        )),
        Err(NotSpent::Full) => {
            let cause = format!("as many assertions of one signer ({owner}) are remembered as may be");
            Err(ErrorKind::Unavailable.with_cause(cause))
        }
        Err(NotSpent::Down) => Err(Error::logins_not_kept()),
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
    proof: ShownProof,
    by_field: bool,
}

/// By what it says that it proves itself.
enum ShownProof {
    Nothing,
    Secret(Secret),
    /// The field `client_assertion`.
    Assertion,
}

fn shown(request: &OauthRequest<'_>, form: &Form) -> Result<Shown, Refusal> {
    let in_form = (form.get("client_id"), form.get("client_secret"));
    let mut fields = request.head.headers.get_all(AUTHORIZATION).iter();
    let one_way = Refusal::request("The client has to prove itself in one way.");
    match (form.get("client_assertion_type"), form.get("client_assertion")) {
        (None, None) => {}
        (Some(BY_ASSERTION), Some(assertion)) => {
            if fields.next().is_some() || in_form.1.is_some() {
                return Err(one_way);
            }
            let signer = ClientAssertion::parse(assertion);
            let id = signer.as_ref().and_then(|of| of.client_id()).ok_or(Refusal::client(false))?;
            if in_form.0.is_some_and(|other| other != id) {
                return Err(Refusal::client(false).because("its iss is another client than client_id"));
            }
            return Ok(Shown { id: id.to_owned(), proof: ShownProof::Assertion, by_field: false });
        }
        _ => {
            let description = "client_assertion has to come with a client_assertion_type of \
                               urn:ietf:params:oauth:client-assertion-type:jwt-bearer.";
            return Err(Refusal { description, ..Refusal::client(false) });
        }
    }
    let Some(field) = fields.next() else {
        let id = in_form.0.ok_or(Refusal::client(false))?.to_owned();
        let secret = in_form.1.map(|secret| ShownProof::Secret(Secret::new(secret.to_owned())));
        return Ok(Shown { id, proof: secret.unwrap_or(ShownProof::Nothing), by_field: false });
    };
    let (id, secret) = basic(field.as_bytes()).ok_or(Refusal::client(true))?;
    if fields.next().is_some() || in_form.1.is_some() || in_form.0.is_some_and(|other| other != id) {
        return Err(one_way);
    }
    Ok(Shown { id, proof: ShownProof::Secret(secret), by_field: true })
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
