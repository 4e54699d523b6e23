//! A link to a server that waits for a credential of its caller: until that is there, the gateway answers in its place
//! ([`ConnectNotice`]).
//!
//! A session goes on with the server itself once the credential is there: the server gets the `initialize` that the client sent, and
//! the client learns that there are other tools. If the server agrees to another version than the client was told, the
//! session ends, and the client begins another.

use std::{
    borrow::Cow,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};

use crate::{
    error::{Error, ErrorKind},
    identity::credential_key::CredentialKey,
    link::{FromServer, Link, Outbound, ServerEnd, ToServer},
    mcp::{
        connect::{self, ConnectNotice, StandIn},
        era::Era,
        message::{Id, Message, MessageKind, Part},
        method::TOOLS_CALL,
        version::negotiate,
    },
};

/// Elicitations of one session that are told when they are done with; a client that asks on knows by then.
const MOST_ELICITATIONS: usize = 16;

/// How long the server may take to begin the session.
const HANDSHAKE: Duration = Duration::from_secs(60);

/// The id of the gateway's own `initialize`. It is the first request that the server gets, and has its answer before any other.
const OWN_ID: &str = "sluicegate-initialize";

/// A server that waits.
pub struct AwaitingServer {
    /// What it waits for.
    pub notice: ConnectNotice,
    /// Which credential the server would be called with now. Another one than at the beginning: somebody has connected.
    pub key: Box<dyn Fn() -> CredentialKey>,
    /// Changes when that may be another.
    pub changes: watch::Receiver<u64>,
    /// Says whether it waits still, for those who need to know.
    pub waits: Waits,
    /// Opens a link to the server itself, with which the conversation goes on. `None` if its user opens another then.
    pub open: Option<OpenServer>,
}

/// Opens a link to a server for which there may be a credential by now, and says which that is. `None`: there is none still.
pub type OpenServer = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Option<Opened>, Error>>>>>;

/// A link, and the credential that its server is called with.
pub type Opened = (Link, CredentialKey);

/// Whether the gateway answers in the place of a server.
#[derive(Debug, Clone, Default)]
pub struct Waits(Arc<AtomicBool>);

impl Waits {
    /// Whether it does.
    pub fn get(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// It does, or does not, from now on.
    pub fn set(&self, waits: bool) {
        self.0.store(waits, Relaxed);
    }
}

/// Opens a link. Call it on the worker whose server it is.
pub fn open(server: AwaitingServer) -> Link {
    server.waits.set(true);
    let (link, server_end) = Link::pair();
    tokio::task::spawn_local(run(server, server_end));
    link
}

async fn run(server: AwaitingServer, mut end: ServerEnd) {
    let AwaitingServer { notice, key, mut changes, waits, open } = server;
    let mut asked_with = key();
    let mut talk = Talk { notice: &notice, began: None, can_be_elicited: false, elicitations: Vec::new() };
    loop {
        tokio::select! {
            next = end.from_client.recv() => {
                let Some(next) = next else { return };
                if let Some(back) = talk.take(next)
                    && end.to_client.send(back).await.is_err()
                {
                    return;
                }
            }
            // The sender of changes outlives every conversation.
            Ok(()) = changes.changed() => {
                if key() == asked_with {
                    continue;
                }
                asked_with = key();
                let opened = match &open {
                    Some(open) => match open().await {
                        Ok(Some(opened)) => Some(opened),
                        Ok(None) => continue,
                        Err(error) => return over(&end.to_client, error.to_string()).await,
                    },
                    None => None,
                };
                for elicitation in talk.elicitations.drain(..) {
                    if let Ok(complete) = connect::elicitation_complete(&elicitation) {
                        // A client that is gone is noticed below.
                        let _ = end.to_client.send(said(complete)).await;
                    }
                }
                let Some(opened) = opened else { continue };
                let began = talk.began.take();
                waits.set(false);
                return go_on(&notice, opened, began, end, (&*key, changes)).await;
            }
        }
    }
}

fn said(message: Message) -> FromServer {
    FromServer::Message { message, about: None }
}

async fn over(to_client: &mpsc::Sender<FromServer>, cause: impl Into<Cow<'static, str>>) {
    // Fails if its user is gone.
    let _ = to_client.send(FromServer::Ended { cause: cause.into() }).await;
}

/// What the gateway says in the place of the server.
struct Talk<'a> {
    notice: &'a ConnectNotice,
    /// The client's `initialize`.
    began: Option<Outbound>,
    can_be_elicited: bool,
    /// Of those that the client was sent to.
    elicitations: Vec<String>,
}

impl Talk<'_> {
    fn take(&mut self, next: ToServer) -> Option<FromServer> {
        let ToServer::Message(outbound) = next else { return None };
        let message = &outbound.message;
        let is_legacy = Era::of(message) == Era::Legacy;
        if is_legacy
            && self.can_be_elicited
            && let Some(elicitation) = new_id()
            && let Some(asked) = self.notice.elicitation_error(message, &elicitation)
        {
            if self.elicitations.len() == MOST_ELICITATIONS {
                self.elicitations.remove(0);
            }
            self.elicitations.push(elicitation);
            return Some(said(asked));
        }
        match self.notice.answer(message) {
            StandIn::Answer(answer) => {
                if is_legacy && message.method() == "initialize" {
                    self.can_be_elicited = connect::can_be_elicited(message);
                    self.began = Some(outbound);
                }
                Some(said(answer))
            }
            StandIn::Refused => {
                let id = message.response_id()?.clone();
                Some(FromServer::Failed { id, error: refusal(self.notice) })
            }
            StandIn::Nothing => None,
        }
    }
}

/// That a request needs a credential which is not there, and nothing else can be said to it.
pub fn refusal(notice: &ConnectNotice) -> Error {
    Error {
        connect_url: notice.url.clone(),
        requirement: notice.url.is_none().then(|| notice.sentence().into()),
        ..ErrorKind::UpstreamAuthorizationRequired.with_cause("the credential for the server is missing")
    }
}

fn new_id() -> Option<String> {
    let mut id = [0; 16];
    getrandom::fill(&mut id).ok()?;
    Some(URL_SAFE_NO_PAD.encode(id))
}

/// Carries messages between the client and the server itself, until either is gone or the credential is another.
async fn go_on(
    notice: &ConnectNotice,
    (link, its_key): Opened,
    began: Option<Outbound>,
    end: ServerEnd,
    (key, mut changes): (&dyn Fn() -> CredentialKey, watch::Receiver<u64>),
) {
    let Link { to_server, mut from_server } = link;
    let ServerEnd { to_client, mut from_client } = end;
    if let Some(began) = began {
        let begun = tokio::time::timeout(HANDSHAKE, begin(&to_server, &mut from_server, &began)).await;
        match begun.unwrap_or_else(|_| Err("no answer to initialize in time".into())) {
            Ok(()) => {}
            Err(cause) => return over(&to_client, cause).await,
        }
        if let Ok(changed) = Message::notification("notifications/tools/list_changed", "{}") {
            // A client that is gone is noticed below.
            let _ = to_client.send(said(changed)).await;
        }
    }
    let to_client = Rc::new(to_client);
    let outward = async {
        while let Some(next) = from_client.recv().await {
            if let ToServer::Message(Outbound { message, .. }) = &next
                && message.method() == TOOLS_CALL
                && let Some(answer) = ConnectNotice::connected(&notice.server, &notice.display_name, message)
            {
                if to_client.send(said(answer)).await.is_err() {
                    return;
                }
            } else if to_server.send(next).await.is_err() {
                // Why, it says itself.
                std::future::pending::<()>().await;
            }
        }
    };
    let inward = async {
        while let Some(came) = from_server.recv().await {
            if to_client.send(came).await.is_err() {
                return;
            }
        }
    };
    let of_another = async {
        while key() == its_key {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = of_another => over(&to_client, "the server was connected anew, or disconnected").await,
        () = outward => {}
        () = inward => {}
    }
}

/// Begins the session with the server as the client began it.
async fn begin(
    to_server: &mpsc::Sender<ToServer>,
    from_server: &mut mpsc::Receiver<FromServer>,
    began: &Outbound,
) -> Result<(), Cow<'static, str>> {
    let id = Id::String(OWN_ID.into());
    let malformed = |why: crate::mcp::message::Malformed| Cow::Owned(why.to_string());
    let message = began.message.renamed(Part::Id, &id).map_err(malformed)?;
    let initialize = Outbound { message, ..began.clone() };
    let ended = || Cow::Borrowed("the conversation with the server is over");
    to_server.send(ToServer::Message(initialize)).await.map_err(|_| ended())?;
    let answer = loop {
        match from_server.recv().await {
            Some(FromServer::Message { message, .. })
                if message.kind() == MessageKind::Response && message.id() == Some(&id) =>
            {
                break message;
            }
            // Nobody was there to hear it.
            Some(FromServer::Message { .. }) => {}
            Some(FromServer::Failed { error, .. }) => return Err(error.to_string().into()),
            Some(FromServer::Ended { cause }) => return Err(cause),
            None => return Err(ended()),
        }
    };
    let version = |part| {
        let text = if part == Part::Params { began.message.part(part) } else { answer.part(part) };
        text.and_then(|text| serde_json::from_str::<Versioned<'_>>(text).ok()).map(|it| it.protocol_version)
    };
    if version(Part::Result).as_deref() != Some(negotiate(version(Part::Params).as_deref())) {
        return Err("the server agrees to another version than the client was told".into());
    }
    let initialized = Message::notification("notifications/initialized", "{}").map_err(malformed)?;
    to_server.send(ToServer::Message(initialized.into())).await.map_err(|_| ended())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Versioned<'a> {
    #[serde(borrow)]
    protocol_version: Cow<'a, str>,
}

#[cfg(test)]
#[path = "awaiting_tests.rs"]
mod tests;
