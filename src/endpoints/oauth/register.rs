//! `/register`: a client says who it is, and gets an id (RFC 7591). Nothing is kept.

use std::time::{Instant, UNIX_EPOCH};

use http::{Response, StatusCode};
use serde_json::json;

use super::{OauthRequest, browser::registrar};
use crate::{
    body::{Payload, response::uncached},
    config::Registration,
    error::{Error, ErrorKind},
    identity::login::attempts,
    ledger::RateKey,
};

/// Answers one.
pub(super) fn answer(request: &OauthRequest<'_>) -> Result<Response<Payload>, Error> {
    let OauthRequest { shared, config, live, body, .. } = *request;
    if config.registration == Registration::Off {
        return Err(ErrorKind::NotFound.into());
    }
    let often =
        shared.clients.registrations.note_address(request.address_block(), attempts::RATE, Instant::now());
    often.map_err(|wait| Error::too_often(RateKey::Logins, wait))?;
    let now = live.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (status, body) = match registrar(request)?.register(body, config, now) {
        Ok(registered) => (StatusCode::CREATED, serde_json::to_string(&registered)),
        Err(why) => {
            let body = json!({ "error": why.error, "error_description": why.description });
            (StatusCode::BAD_REQUEST, Ok(body.to_string()))
        }
    };
    let body = body.map_err(|_| ErrorKind::Internal.with_cause("an answer is no JSON"))?;
    Ok(uncached(status, "application/json", body))
}
