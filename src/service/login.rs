//! Requests of users who log in: they present no token, so they count for their addresses.

use std::{cell::OnceCell, pin::Pin};

use http::{Response, header};

use super::stranger::{self, Whole};
use crate::{
    body::Payload,
    endpoints::{
        login::{LoginAnswer, LoginRequest},
        table::LoginEndpoint,
    },
    error::{Error, ErrorKind},
    identity::{Caller, presented::Presented},
    observe::Replay,
    request::{Request, rates},
    state::Live,
};

/// Most bytes of a body.
const MOST: usize = 8 * 1024;

/// Answers one that presents this beside its body.
pub(super) async fn answer(
    request: &mut Request<'_>,
    endpoint: LoginEndpoint,
    presented: Option<Presented<'_>>,
    report_decoy: fn(&Request<'_>, &Live, &Caller),
) -> Result<Response<Payload>, Error> {
    let Request { worker, connection, client, .. } = *request;
    let ledger = &worker.shared.ledger;
    rates::check_address(request)?;
    // A page of another site can send no JSON without asking first (WHATWG Fetch §4.10). A logout may have no body, which is not
    // known before it has ended.
    let is_json = is_json(request);
    if !is_json && endpoint != LoginEndpoint::Logout {
        return Err(ErrorKind::NotJson.into());
    }
    let Whole { body, live, _share } = &stranger::whole(request, Some(MOST), Live::has_logins).await?;
    if !is_json && !body.is_empty() {
        return Err(ErrorKind::NotJson.into());
    }
    let asked = &*request;
    let replayed = OnceCell::new();
    let login = LoginRequest {
        shared: &worker.shared,
        live,
        address: client.unwrap_or(connection.address).into(),
        presented,
        body,
        on_decoy: &|caller| report_decoy(asked, live, caller),
        on_known: &|owner| rates::check_caller(asked, owner),
        replayed: &replayed,
    };
    let answering: Pin<Box<dyn Future<Output = _> + '_>> = Box::pin(login.answer(endpoint));
    let answered = answering.await.inspect_err(|error| {
        if error.kind == ErrorKind::InvalidCredentials {
            connection.refused(ledger);
        }
    });
    if let (Some(audited), Some(identity)) = (request.record.audited(), replayed.get()) {
        audited.set_replay(identity, Replay::SessionRefresh);
    }
    let LoginAnswer { response, identity } = match answered {
        Ok(answer) => answer,
        Err(error) if [ErrorKind::InvalidToken, ErrorKind::RateLimited].contains(&error.kind) => {
            return Err(rates::refusal_of(request, error));
        }
        Err(error) => return Err(error),
    };
    if let (Some(audited), Some(identity)) = (request.record.audited(), identity) {
        audited.set_login(&identity);
    }
    Ok(response)
}

fn is_json(request: &Request<'_>) -> bool {
    let content_type = request.head.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = content_type.and_then(|content_type| content_type.split(';').next());
    essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}
