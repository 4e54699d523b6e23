//! `subscriptions/listen` (MCP 2026-07-28): one stream of notifications for the client, one from each member.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{json, lists::ListKind};
use crate::{
    ledger::Share,
    mcp::{
        codes::METHOD_NOT_FOUND,
        message::{Id, Malformed, Message, Part},
        method::LISTEN,
    },
};

/// Notifications that may come before every member has announced what it will send. What exceeds this is dropped: they
/// say that something has changed, and the client reads nothing before the acknowledgement.
const HELD: usize = 64;

/// How many times as large JSON is as a tree, as a rule.
const TREE: u64 = 8;

/// How a server says what it will send.
const ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";

/// Where a notification says which subscription it belongs to.
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// Subscriptions of the client's.
#[derive(Default)]
pub(super) struct Listens(Vec<Listen>);

/// One of them.
struct Listen {
    /// The core's own name for it.
    key: u64,
    /// The client's.
    id: Id,
    /// Counts what is kept of the request.
    _held: Share,
    /// `params.notifications`: what the client wants to hear of.
    wanted: Map<String, Value>,
    meta: Option<String>,
    /// Members that it is open at, by the number of the request, and whether they have acknowledged.
    open: HashMap<u64, (usize, bool)>,
    /// What they acknowledged.
    honoured: Map<String, Value>,
    /// Until when acknowledgements are waited for; `None` once the client has its own.
    until: Option<Instant>,
    held: Vec<Message>,
    refused: Option<Message>,
}

/// What the client is to get of a subscription.
pub(super) enum ForClient {
    /// This notification.
    Note(Id, Result<Message, Malformed>),
    /// This answer: the subscription is over.
    Answer(Id, Result<Message, Malformed>),
}

impl Listens {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// When a client gets its acknowledgement at the latest.
    pub(super) fn until(&self) -> Option<Instant> {
        self.0.iter().filter_map(|listen| listen.until).min()
    }

    /// The client's name for the subscription of this number.
    pub(super) fn id(&self, key: u64) -> Option<&Id> {
        self.0.iter().find(|listen| listen.key == key).map(|listen| &listen.id)
    }

    /// The numbers of all.
    pub(super) fn keys(&self) -> Vec<u64> {
        self.0.iter().map(|listen| listen.key).collect()
    }

    /// Begins one. `held` counts what is kept of it: see [`bytes`].
    pub(super) fn begin(&mut self, key: u64, id: Id, message: &Message, held: Share, until: Instant) {
        self.0.push(Listen {
            key,
            id,
            _held: held,
            wanted: wanted(message),
            meta: message.meta_without_token(),
            open: HashMap::new(),
            honoured: Map::new(),
            until: Some(until),
            held: Vec::new(),
            refused: None,
        });
    }

    /// The client does not want it any more.
    pub(super) fn abandon(&mut self, id: &Id) {
        self.0.retain(|listen| listen.id != *id);
    }

    /// The request that opens it at a member. `is_its` says which URIs are the member's.
    pub(super) fn open_at(
        &mut self,
        key: u64,
        member: usize,
        number: u64,
        is_its: impl Fn(&str) -> bool,
    ) -> Option<Result<Message, Malformed>> {
        let listen = self.0.iter_mut().find(|listen| listen.key == key)?;
        let mut wanted = listen.wanted.clone();
        let own: Vec<Value> = uris(&wanted).filter(|uri| is_its(uri)).map(Value::from).collect();
        if wanted.remove("resourceSubscriptions").is_some() && !own.is_empty() {
            wanted.insert("resourceSubscriptions".into(), own.into());
        }
        let wanted = Value::Object(wanted).to_string();
        let params = json::object(&[("notifications", Some(&wanted)), ("_meta", listen.meta.as_deref())]);
        listen.open.insert(number, (member, false));
        Some(Message::request(&Id::number(number), LISTEN, &params))
    }

    /// A member's notification that belongs to a subscription.
    pub(super) fn notes(&mut self, member: usize, number: u64, message: &Message) -> Option<ForClient> {
        let listen = self.0.iter_mut().find(|listen| listen.open.contains_key(&number))?;
        let (_, acknowledged) = listen.open.get_mut(&number).filter(|(of, _)| *of == member)?;
        if message.method() == ACKNOWLEDGED {
            // Once: repeated, it would only grow.
            if !std::mem::replace(acknowledged, true) {
                merge(&mut listen.honoured, self::wanted(message));
            }
        } else if listen.until.is_none() {
            return Some(passed(&listen.id, message));
        } else if listen.held.len() < HELD {
            listen.held.push(message.clone());
        }
        None
    }

    /// A member's stream is over: it ended it, refused it, or is gone.
    pub(super) fn ended(&mut self, member: usize, key: u64, answer: Option<Message>) {
        let Some(listen) = self.0.iter_mut().find(|listen| listen.key == key) else { return };
        listen.open.retain(|_, (of, _)| *of != member);
        if let Some(error) = answer.filter(|answer| answer.error_code().is_some()) {
            listen.refused.get_or_insert(error);
        }
    }

    /// Acknowledges what all have acknowledged, and ends what all have ended. `may_join` says whether a member may come yet
    /// that is waited for.
    pub(super) fn settle(&mut self, now: Instant, may_join: impl Fn() -> bool) -> Vec<ForClient> {
        let mut out = Vec::new();
        self.0.retain_mut(|listen| {
            let is_awaited = || listen.open.values().any(|(_, acknowledged)| !acknowledged) || may_join();
            if listen.until.is_some_and(|until| now < until) && is_awaited() {
                return true;
            }
            let id = &listen.id;
            let is_over = listen.open.is_empty();
            if listen.until.take().is_some() {
                if is_over {
                    let answer = match &listen.refused {
                        Some(error) => error.renamed(Part::Id, id),
                        None => Message::error_for(id, METHOD_NOT_FOUND, "Method not found"),
                    };
                    out.push(ForClient::Answer(id.clone(), answer));
                    return false;
                }
                let honoured = Value::Object(listen.honoured.clone()).to_string();
                let params = [("notifications", Some(&*honoured)), ("_meta", Some(&*subscription(id)))];
                let note = Message::notification(ACKNOWLEDGED, &json::object(&params));
                out.push(ForClient::Note(id.clone(), note));
                out.extend(listen.held.drain(..).map(|message| passed(id, &message)));
            }
            if is_over {
                let meta = subscription(id);
                let result = json::object(&[("resultType", Some("\"complete\"")), ("_meta", Some(&meta))]);
                out.push(ForClient::Answer(id.clone(), Message::result_for(id, &result)));
            }
            !is_over
        });
        out
    }

    /// Tells subscribers that a list is not what it was, if they asked for that.
    pub(super) fn changed(&self, ask: ListKind, method: &str) -> Vec<ForClient> {
        let key = match ask {
            ListKind::Tools => "toolsListChanged",
            ListKind::Prompts => "promptsListChanged",
            ListKind::Resources | ListKind::Templates => "resourcesListChanged",
            ListKind::Discover => return Vec::new(),
        };
        let wants = |listen: &&Listen| listen.until.is_none() && listen.wanted.get(key) == Some(&json!(true));
        let note = |listen: &Listen| {
            let params = json::object(&[("_meta", Some(&subscription(&listen.id)))]);
            ForClient::Note(listen.id.clone(), Message::notification(method, &params))
        };
        self.0.iter().filter(wants).map(note).collect()
    }
}

/// A member's notification, as the client gets it.
fn passed(id: &Id, message: &Message) -> ForClient {
    ForClient::Note(id.clone(), message.renamed(Part::SubscriptionId, id))
}

/// What is kept of a subscription as long as it is open, as a tree and as a text.
pub(super) fn bytes(message: &Message) -> u64 {
    let length = |part| message.part(part).map_or(0, str::len) as u64;
    TREE * length(Part::Filter) + length(Part::Meta)
}

/// Whether it is about URIs.
pub(super) fn names_uris(message: &Message) -> bool {
    uris(&wanted(message)).next().is_some()
}

fn subscription(id: &Id) -> String {
    json::object(&[(SUBSCRIPTION, Some(&id.to_string()))])
}

/// `params.notifications`
fn wanted(message: &Message) -> Map<String, Value> {
    match message.part(Part::Filter).map(serde_json::from_str) {
        Some(Ok(Value::Object(wanted))) => wanted,
        _ => Map::new(),
    }
}

fn uris(wanted: &Map<String, Value>) -> impl Iterator<Item = &str> {
    let uris = wanted.get("resourceSubscriptions").and_then(Value::as_array);
    uris.into_iter().flatten().filter_map(Value::as_str)
}

/// Adds what one more member acknowledges: lists grow, and what one says yes to is yes.
fn merge(honoured: &mut Map<String, Value>, more: Map<String, Value>) {
    for (key, value) in more {
        match (honoured.get_mut(&key), value) {
            (Some(Value::Array(known)), Value::Array(more)) => known.extend(more),
            (Some(Value::Bool(true)), _) => {}
            (_, value) => {
                honoured.insert(key, value);
            }
        }
    }
}
