//! Requests of users who log in: they present no token, so they count for their addresses.

use std::{
    cell::OnceCell,
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::{Response, header};
use hyper::body::Body as _;

use crate::{
    body::Payload,
    endpoints::{
        login::{LoginAnswer, LoginRequest},
        table::LoginEndpoint,
    },
    error::{Error, ErrorKind},
    identity::{Caller, presented::Presented},
    ledger::Resource,
    request::{Request, rates},
    state::Live,
};

/// Most bytes of a body.
const MOST: usize = 8 * 1024;
/// How long a body may take, if the config does not say less: it is a packet or two.
const PATIENCE: Duration = Duration::from_secs(5);

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
    let body = read(request).await?;
    if !is_json && !body.is_empty() {
        return Err(ErrorKind::NotJson.into());
    }
    // A body may take its time. What is in it is judged by the config of the moment in which it is looked at.
    let live = worker.shared.live().clone();
    if !live.has_logins() {
        return Err(ErrorKind::Unavailable.with_cause("the config changed while the body came"));
    }
    // From here on it is the gateway's turn. Before, there is nothing of it that others may need.
    let share = request.address_owner().take(Resource::Requests);
    let _share = share.map_err(|limit| Error::out_of(Resource::Requests, limit))?;
    let asked = &*request;
    let replayed = OnceCell::new();
    let login = LoginRequest {
        shared: &worker.shared,
        live: &live,
        address: client.unwrap_or(connection.address).into(),
        presented,
        body: &body,
        on_decoy: &|caller| report_decoy(asked, &live, caller),
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
        audited.set_replay(identity);
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

/// The body as a whole. It is small, and has little time; less, if many others come.
async fn read(request: &mut Request<'_>) -> Result<Bytes, Error> {
    let address = request.client.unwrap_or(request.connection.address).into();
    let Some(body) = &mut request.body else { return Ok(Bytes::new()) };
    if body.size_hint().lower() > MOST as u64 {
        return Err(ErrorKind::BodyTooLarge.into());
    }
    let mut read = Vec::new();
    let reading = async {
        while let Some(data) = poll_fn(|cx| body.poll_data(cx)).await.transpose()? {
            if read.len() + data.len() > MOST {
                return Err(Error::from(ErrorKind::BodyTooLarge));
            }
            read.extend_from_slice(&data);
        }
        Ok(())
    };
    let within = request.live.limits.small_body_timeout.min(PATIENCE);
    let mut reading = pin!(tokio::time::timeout(within, reading));
    // What is here already needs no place, and drives out nobody.
    let read_in_time = match poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await {
        Poll::Ready(read) => read,
        Poll::Pending => {
            let place = request.worker.shared.logins.pending.begin(address);
            place.during(reading).await.ok_or_else(Error::gave_way)?
        }
    };
    read_in_time.map_err(|_| ErrorKind::BodyTimeout)??;
    request.body = None;
    request.record.received(read.len() as u64);
    Ok(read.into())
}
