//! What a client gets instead of an answer of the server, while that waits for a credential of the caller; and a request that comes
//! back once somebody has connected.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use http::{Response, StatusCode};
use tokio::time::Instant;

use super::admitted::Admitted;
use crate::{
    body::{
        Payload,
        response::{empty, json},
    },
    credentials::{Asker, Missing, NotReady, ServerCredentials, notice},
    error::{Error, ErrorKind},
    link::awaiting::refusal,
    mcp::{
        connect::{self, ConnectNotice, OWN_STATE, StandIn},
        era::Era,
        message::Message,
        modern,
    },
    observe::Record,
    servers::ServerEntry,
    state::{GatewayState, Live},
};

/// How long a client has to come back after it was sent to connect.
const COMES_BACK_WITHIN: Duration = Duration::from_secs(10 * 60);

/// How long a request that comes back waits until somebody has connected: a client may say that the page was opened before anybody
/// has done what is there.
pub const WAITS: Duration = Duration::from_secs(20);

/// Bytes of a request that is asked for once more at most: those that come back are read as a whole, also where bytes pass.
const MOST_ASKED: usize = 32 * 1024;

/// Who gets a request.
pub enum Recipient {
    /// The server, as it came.
    Server,
    /// The server, without what was the gateway's in it.
    ServerWithout(Message),
    /// Nobody. This is the answer.
    Nobody(Response<Payload>),
}

/// What is told of the server of `entry` while this is missing.
pub fn notice_of(entry: &ServerEntry, live: &Live, missing: &Missing) -> Option<ConnectNotice> {
    let auth = entry.credentials.as_ref()?.config();
    Some(notice::notice(&entry.server.name, auth, live.config.base().as_deref(), missing))
}

/// The answer to a request in place of the server of `entry`, for which this is missing. Without a message that could be read, it is
/// refused.
pub fn answer(
    missing: &Missing,
    admitted: &Admitted<'_>,
    entry: &ServerEntry,
    message: Option<&Message>,
    record: &mut Record,
) -> Result<Response<Payload>, Error> {
    let live = &admitted.live;
    let refused = || Error::from(ErrorKind::UpstreamAuthorizationRequired);
    let notice = notice_of(entry, live, missing).ok_or_else(refused)?;
    let Some(message) = message else { return Err(refusal(&notice)) };
    if notice.may_elicit(message) && message.text().len() <= MOST_ASKED {
        let now = live.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let ends = (now + COMES_BACK_WITHIN).as_secs();
        let owner = admitted.caller.identity.principal.session_owner();
        let digest = connect::digest_of(message);
        let state = live.sessions.seal_request(&entry.server.name, owner, &digest, ends);
        if let Some(asked) = notice.elicitation(message, &format!("{OWN_STATE}{state}")) {
            return Ok(json(StatusCode::OK, asked.into_bytes()));
        }
    }
    match notice.answer(message) {
        StandIn::Answer(answer) => Ok(respond(message, answer, record)),
        StandIn::Refused => Err(refusal(&notice)),
        StandIn::Nothing => Ok(empty(StatusCode::ACCEPTED)),
    }
}

fn respond(message: &Message, answer: Message, record: &mut Record) -> Response<Payload> {
    record.answered(answer.error_code());
    let status = match Era::of(message) {
        Era::Legacy => StatusCode::OK,
        Era::Modern => modern::status(&answer),
    };
    json(status, answer.into_bytes())
}

/// Who gets a request to the server of `entry`: the server if there is a credential for it, after all that has to be done to get one.
/// `own_name`: what the server itself calls what is called.
pub async fn recipient(
    shared: &GatewayState,
    admitted: &Admitted<'_>,
    entry: &ServerEntry,
    asker: &Asker<'_>,
    message: &Message,
    record: &mut Record,
) -> Result<Recipient, Error> {
    let Some(credentials) = &entry.credentials else { return Ok(Recipient::Server) };
    let back = connect::came_back(&entry.server.name, message);
    if let Some(back) = &back {
        let now = admitted.live.clock.now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let owner = admitted.caller.identity.principal.session_owner();
        let sealed = back.state.strip_prefix(OWN_STATE).unwrap_or_default();
        let digest = connect::digest_of(message);
        if !admitted.live.sessions.opens_request(&entry.server.name, owner, &digest, now, sealed) {
            let wrong = connect::wrong_state(message).ok_or(ErrorKind::NotAMessage)?;
            record.answered(wrong.error_code());
            return Ok(Recipient::Nobody(json(StatusCode::BAD_REQUEST, wrong.into_bytes())));
        }
    }
    let patience = if back.as_ref().is_some_and(|back| back.has_accepted) { WAITS } else { Duration::ZERO };
    let missing = match obtain(shared, credentials, asker, patience).await {
        Ok(()) => {
            let name = notice::display_name(&entry.server.name, credentials.config());
            if let Some(told) = ConnectNotice::connected(&entry.server.name, name, message) {
                return Ok(Recipient::Nobody(respond(message, told, record)));
            }
            return Ok(back.map_or(Recipient::Server, |back| Recipient::ServerWithout(back.request)));
        }
        Err(NotReady::Missing(missing)) => missing,
        Err(NotReady::Unavailable(why)) => return Err(ErrorKind::UpstreamAuthUnavailable.with_cause(why)),
        Err(NotReady::Refused(why)) => return Err(ErrorKind::UpstreamUnauthorized.with_cause(why)),
    };
    if back.is_some_and(|back| !back.has_accepted)
        && let Some(notice) = notice_of(entry, &admitted.live, &missing)
        && let Some(declined) = notice.declined(message)
    {
        return Ok(Recipient::Nobody(respond(message, declined, record)));
    }
    answer(&missing, admitted, entry, Some(message), record).map(Recipient::Nobody)
}

/// Gets a credential, and waits so long for somebody to connect.
async fn obtain(
    shared: &GatewayState,
    credentials: &Arc<ServerCredentials>,
    asker: &Asker<'_>,
    patience: Duration,
) -> Result<(), NotReady> {
    if credentials.ready(asker.principal).is_some() {
        return Ok(());
    }
    let until = Instant::now() + patience;
    let mut changes = shared.changes();
    loop {
        changes.mark_unchanged();
        match credentials.obtain(asker).await {
            Err(NotReady::Missing(missing)) => {
                let changed = tokio::time::timeout_at(until, changes.changed()).await;
                if !matches!(changed, Ok(Ok(()))) {
                    return Err(NotReady::Missing(missing));
                }
            }
            obtained => return obtained.map(drop),
        }
    }
}
