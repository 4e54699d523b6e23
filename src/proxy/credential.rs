//! The credential that a request goes to its server with, where that is not the config's.

use std::{borrow::Cow, future::poll_fn, pin::pin, rc::Rc, sync::Arc, task::Poll};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, request::Parts};
use memchr::memmem;

use crate::{
    config::UpstreamAuth,
    credentials::{Asker, Missing, NotReady, ReadyCredential, ServerCredentials, oauth::Challenge},
    error::{Error, ErrorKind},
    identity::Subject,
    mcp::{connect, message::Message, seal::SessionKey},
    observe::Record,
    request::{
        Request,
        admitted::Admitted,
        missing::{self, Recipient},
    },
    secret::Secret,
    state::Worker,
    upstream::{Head, RequestBody},
    watchdog::Watched,
};

/// Bytes of a body that is kept to be sent once more, if the server refuses the credential.
const MOST_HELD: usize = 16 * 1024;

/// Why a request does not go to its server, or not with a credential that this takes.
pub(super) enum NotSent {
    Error(Error),
    /// Its caller has to act first. Its body, if it was read.
    Missing(Missing, Option<Bytes>),
}

impl From<Error> for NotSent {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// The credential that a request goes with.
pub(super) struct Sent<'a> {
    credentials: &'a Arc<ServerCredentials>,
    foreign_token: Option<Secret>,
    pub(super) ready: Arc<ReadyCredential>,
}

/// The credential for a request, if its server is called with one of its own.
pub(super) async fn of<'a>(
    admitted: &'a Admitted<'_>,
    head: &Parts,
    watched: &Watched<Subject>,
) -> Result<Option<Sent<'a>>, NotSent> {
    let Some(credentials) = &admitted.entry.credentials else { return Ok(None) };
    let ready = credentials.ready(&admitted.caller.identity.principal);
    let sent = match ready {
        Some(ready) => Sent { credentials, foreign_token: None, ready },
        // Boxed, so that it is no part of every request's task.
        None => Box::pin(obtained(credentials, admitted, head, watched)).await?,
    };
    if credentials.is_kept() {
        let _ = watched.subject().admission().credential.set(sent.ready.key);
    }
    Ok(Some(sent))
}

async fn obtained<'a>(
    credentials: &'a Arc<ServerCredentials>,
    admitted: &'a Admitted<'_>,
    head: &Parts,
    watched: &Watched<Subject>,
) -> Result<Sent<'a>, NotSent> {
    if let UpstreamAuth::Passthrough(passthrough) = &**credentials.config() {
        let given = head.headers.get_all(&passthrough.from);
        if given.iter().any(|value| is_the_gateways(admitted, value)) {
            const WHY: &str = "the field has a credential of the gateway's in it, which no server gets";
            return Err(NotSent::Missing(Missing::NoSubject(WHY), None));
        }
    }
    let foreign_token = admitted.foreign_token();
    let asker = asker(admitted, head, foreign_token.as_ref());
    let ready = unless_ended(watched, credentials.obtain(&asker)).await?;
    Ok(Sent { credentials, foreign_token, ready: ready.map_err(|why| NotSent::of(why, admitted))? })
}

impl Sent<'_> {
    /// What the server is to be asked with in place of this one, which it refuses by `head`; `None` if it refuses something else. The
    /// request is sent once more if all of it is held: what says 401 did nothing.
    pub(super) async fn another(
        &mut self,
        admitted: &Admitted<'_>,
        head: &Parts,
        answer: &Head,
        is_held: bool,
        watched: &Watched<Subject>,
    ) -> Result<(), NotSent> {
        let asker = asker(admitted, head, self.foreign_token.as_ref());
        let challenge = Challenge::of(&answer.headers);
        let wants_scopes = challenge.as_ref().is_some_and(Challenge::wants_scopes);
        if !is_held && !wants_scopes {
            self.credentials.note_refused(&asker, &self.ready);
            return Err(NotSent::Error(refused(answer.status)));
        }
        let another = self.credentials.refused(&asker, &self.ready, challenge.as_ref());
        let another = unless_ended(watched, another).await?.map_err(|why| NotSent::of(why, admitted))?;
        // Somebody has connected another account meanwhile, to which nothing of this request belongs.
        if another.key != self.ready.key {
            return Err(NotSent::Error(refused(answer.status)));
        }
        self.ready = another;
        Ok(())
    }

    /// Whether the server refuses the credential, and that is not the client's to know.
    pub(super) fn is_refused_by(&self, answer: &Head) -> bool {
        if self.credentials.is_the_clients() {
            return false;
        }
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED => true,
            StatusCode::FORBIDDEN => Challenge::of(&answer.headers).is_some_and(|it| it.wants_scopes()),
            _ => false,
        }
    }

    /// Whether the server itself says to the client whether it takes the credential.
    pub(super) fn is_the_clients(&self) -> bool {
        self.credentials.is_the_clients()
    }

    /// What is in the request in place of the client's, and which of its fields never pass.
    pub(super) fn fields(&self) -> (&[(HeaderName, HeaderValue)], &[HeaderName]) {
        (&self.ready.fields, self.credentials.replaced())
    }
}

/// Whether a body may be for the gateway, although its server has a credential: it comes back from a question of the gateway's own, or
/// calls the tool that there was before.
pub(super) fn is_for_gateway(here: &[u8], server: &str) -> bool {
    connect::may_come_back(here)
        || memmem::find_iter(here, b"\"connect_")
            .any(|at| here[at..].get(9..).is_some_and(|rest| rest.starts_with(server.as_bytes())))
}

/// Who gets a request whose body may be for the gateway; `None` if not all of it is here.
pub(super) async fn for_gateway(
    worker: &Rc<Worker>,
    admitted: &Admitted<'_>,
    head: &Parts,
    record: &mut Record,
    body: &RequestBody,
) -> Result<Option<Recipient>, Error> {
    let Some(body) = held(body).and_then(bytes_of) else { return Ok(None) };
    let Ok(message) = Message::parse(body) else { return Ok(None) };
    let foreign_token = admitted.foreign_token();
    let asker = asker(admitted, head, foreign_token.as_ref());
    missing::recipient(&worker.shared, admitted, &admitted.entry, &asker, &message, record).await.map(Some)
}

/// Who gets a request that comes back from a question of the gateway's own.
pub(super) async fn recipient(
    request: &mut Request<'_>,
    admitted: &Admitted<'_>,
    message: &Message,
) -> Result<Recipient, Error> {
    let foreign_token = admitted.foreign_token();
    let asker = asker(admitted, request.head, foreign_token.as_ref());
    let shared = &request.worker.shared;
    missing::recipient(shared, admitted, &admitted.entry, &asker, message, request.record).await
}

/// By which key session ids are sealed and opened: none that began with one credential goes on with another. It is made where there is
/// a session.
#[derive(Clone, Copy)]
pub(super) struct Sessions<'a> {
    key: &'a SessionKey,
    of: Option<[u8; 16]>,
}

impl<'a> Sessions<'a> {
    pub(super) fn of(admitted: &'a Admitted<'_>, sent: Option<&Sent<'_>>) -> Self {
        let sent = sent.filter(|sent| sent.credentials.is_kept());
        Self { key: &admitted.live.sessions, of: sent.and_then(|sent| sent.ready.key.id()).copied() }
    }

    pub(super) fn key(self) -> Cow<'a, SessionKey> {
        match self.of {
            Some(id) => Cow::Owned(self.key.of_credential(&id)),
            None => Cow::Borrowed(self.key),
        }
    }
}

/// A body to be sent once more, if all of it is here and it is small.
pub(super) fn held(body: &RequestBody) -> Option<RequestBody> {
    match body {
        RequestBody::Whole(bytes) if bytes.len() <= MOST_HELD => Some(RequestBody::Whole(bytes.clone())),
        RequestBody::Begun(bytes, None) if bytes.len() <= MOST_HELD => {
            Some(RequestBody::Begun(bytes.clone(), None))
        }
        _ => None,
    }
}

/// All of a body that is held.
pub(super) fn bytes_of(held: RequestBody) -> Option<Bytes> {
    match held {
        RequestBody::Whole(bytes) | RequestBody::Begun(bytes, _) => Some(bytes),
        RequestBody::Incoming(_) => None,
    }
}

impl NotSent {
    fn of(why: NotReady, admitted: &Admitted<'_>) -> Self {
        match why {
            NotReady::Missing(missing) => Self::Missing(missing, None),
            NotReady::Unavailable(why) => Self::Error(ErrorKind::UpstreamAuthUnavailable.with_cause(why)),
            NotReady::Refused(why) => {
                let server = &admitted.entry.server.name;
                Self::Error(ErrorKind::UpstreamUnauthorized.with_cause(format!("{server}: {why}")))
            }
        }
    }
}

fn refused(status: StatusCode) -> Error {
    ErrorKind::UpstreamUnauthorized.with_cause(format!("the server answered {}", status.as_u16()))
}

fn asker<'a>(admitted: &'a Admitted<'_>, head: &'a Parts, foreign_token: Option<&'a Secret>) -> Asker<'a> {
    let principal = &admitted.caller.identity.principal;
    Asker { principal, foreign_token, incoming: Some(&head.headers) }
}

/// Whether a value has a credential in it that the gateway issued or checked.
fn is_the_gateways(admitted: &Admitted<'_>, value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    let (scheme, rest) = match value.iter().position(|byte| *byte == b' ') {
        Some(at) => (&value[..at], value[at..].trim_ascii()),
        None => (&b""[..], value.trim_ascii()),
    };
    let mut texts = vec![value.to_vec(), rest.to_vec()];
    if scheme.eq_ignore_ascii_case(b"basic")
        && let Ok(pair) = STANDARD.decode(rest)
    {
        texts.extend(pair.splitn(2, |byte| *byte == b':').map(<[u8]>::to_vec));
    }
    // Of a public server, nothing was checked of what the request presents.
    let was_checked = !admitted.entry.is_public && admitted.presented.is_in(value);
    was_checked || texts.iter().any(|text| admitted.live.has_issued(text))
}

/// What `work` comes to, unless the request is ended from outside meanwhile.
async fn unless_ended<T>(watched: &Watched<Subject>, work: impl Future<Output = T>) -> Result<T, NotSent> {
    let mut work = pin!(work);
    poll_fn(|cx| match watched.poll_ending(cx) {
        Some(ending) => Poll::Ready(Err(NotSent::Error(ending.error()))),
        None => work.as_mut().poll(cx).map(Ok),
    })
    .await
}
