//! Requests that come too often, and credentials that are guessed: `proxy.rateLimits`.

use std::sync::Arc;

use crate::{
    downstream::forwarded::is_trusted,
    error::{Error, ErrorKind},
    ledger::{Owner, Rate, RateKey, RateMeter},
    request::Request,
    servers::ServerEntry,
};

/// Counts a request for its address, its caller and its server. One that is refused does not count for those behind the limit
/// that refuses it.
pub fn check(request: &Request<'_>, owner: &Arc<Owner>, entry: Option<&ServerEntry>) -> Result<(), Error> {
    check_address(request)?;
    check_caller(request, owner)?;
    match (request.live.config.rate_limits.server, entry) {
        (Some(rate), Some(entry)) => take(request, RateKey::Server, rate, &entry.request_rate),
        _ => Ok(()),
    }
}

/// Counts a request for its address alone.
pub fn check_address(request: &Request<'_>) -> Result<(), Error> {
    match request.live.config.rate_limits.peer {
        Some(rate) if !is_exempt(request) => {
            take(request, RateKey::Peer, rate, &request.address_owner().request_rate)
        }
        _ => Ok(()),
    }
}

/// Counts a request for its caller alone.
pub fn check_caller(request: &Request<'_>, owner: &Owner) -> Result<(), Error> {
    match request.live.config.rate_limits.principal {
        Some(rate) if !owner.is_address() => take(request, RateKey::Principal, rate, &owner.request_rate),
        _ => Ok(()),
    }
}

/// The answer to a credential that is not good. Each is counted for its address. Where there are too many, only they are
/// answered otherwise: many share an address, and whose credential is good is let in.
pub fn refusal_of(request: &Request<'_>, error: Error) -> Error {
    match (error.kind, request.live.config.rate_limits.auth_failures) {
        // Without a token, nothing was tried: so clients ask where to log in.
        (kind, Some(rate))
            if (kind == ErrorKind::InvalidToken || error.counts_as_guess) && !is_exempt(request) =>
        {
            let taken = take(request, RateKey::AuthFailures, rate, &request.address_owner().failure_rate);
            taken.err().unwrap_or(error)
        }
        _ => {
            note_refused_login(request, &error);
            error
        }
    }
}

/// Counts a refusal of what comes too often for a login, as a password that was not compared.
pub fn note_refused_login(request: &Request<'_>, error: &Error) {
    if error.kind == ErrorKind::RateLimited && error.cause.as_deref() == Some(RateKey::Logins.name()) {
        request.worker.shared.observer.metrics.rate_limited(RateKey::Logins);
    }
}

/// Fails if the address has sent so many credentials that were not good that one more is refused, before anything is done to find
/// out whether it is.
pub fn check_guesses(request: &Request<'_>) -> Result<(), Error> {
    let Some(rate) = request.live.config.rate_limits.auth_failures.filter(|_| !is_exempt(request)) else {
        return Ok(());
    };
    let shared = &request.worker.shared;
    match request.address_owner().failure_rate.wait(rate, shared.ledger.now()) {
        None => Ok(()),
        Some(wait) => {
            shared.observer.metrics.rate_limited(RateKey::AuthFailures);
            Err(Error::too_often(RateKey::AuthFailures, wait))
        }
    }
}

fn take(request: &Request<'_>, limit: RateKey, rate: Rate, meter: &RateMeter) -> Result<(), Error> {
    let shared = &request.worker.shared;
    meter.take(rate, shared.ledger.now()).map_err(|wait| {
        shared.observer.metrics.rate_limited(limit);
        Error::too_often(limit, wait)
    })
}

fn is_exempt(request: &Request<'_>) -> bool {
    let allowed = &request.live.config.rate_limits.allow;
    is_trusted(allowed, request.client.unwrap_or(request.connection.address))
}
