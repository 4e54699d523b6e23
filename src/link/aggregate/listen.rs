//! `subscriptions/listen` (MCP 2026-07-28): one stream of notifications for the client, one from each member.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::link::aggregate::{
    core::{Core, RequestPurpose},
    json,
    lists::ListKind,
    member::LinkPhase,
    waiting::WaitFor,
};
use crate::{
    error::Error,
    ledger::{Resource, Share},
    mcp::{
        codes::{INVALID_PARAMS, METHOD_NOT_FOUND},
        message::{Id, Message, Part},
        modern::{LISTEN, too_many_wanted},
    },
};

/// Notifications that may come before every member has announced what it will send. What exceeds this is dropped: they
/// say that something has changed, and the client reads nothing before the acknowledgement.
const HELD: usize = 64;

/// How many times as large JSON is as a tree, as a rule.
const TREE: u64 = 8;

/// Where a notification says which subscription it belongs to.
const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// A subscription of the client's.
pub(super) struct Listen {
    /// The core's own name for it.
    pub(super) key: u64,
    /// The client's.
    pub(super) id: Id,
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

impl Listen {
    /// When the client gets its acknowledgement at the latest.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

impl Core {
    pub(super) fn start_listening(&mut self, now: Instant, id: Id, message: &Message) {
        if let Some(why) = too_many_wanted(message) {
            return self.refuse(&id, INVALID_PARAMS, why);
        }
        // Which member a URI belongs to is known by their lists.
        if uris(&wanted(message)).next().is_some() {
            self.wait(now, id, message, 0, WaitFor::Listen(message.clone()));
        } else {
            self.listen(now, id, message);
        }
    }

    pub(super) fn listen(&mut self, now: Instant, id: Id, message: &Message) {
        // What is kept of it as long as it is open, as a tree and as a text.
        let parts = [Part::Filter, Part::Meta].map(|part| message.part(part).map_or(0, str::len) as u64);
        let held = match self.settings.owner.take_some(Resource::Bytes, TREE * parts[0] + parts[1]) {
            Ok(held) => held,
            Err(limit) => return self.fail(id, Error::out_of(Resource::Bytes, limit)),
        };
        self.wake(now);
        let key = self.next();
        self.listens.push(Listen {
            key,
            id,
            _held: held,
            wanted: wanted(message),
            meta: message.meta_without_token(),
            open: HashMap::new(),
            honoured: Map::new(),
            until: Some(now + self.settings.discovery_timeout),
            held: Vec::new(),
            refused: None,
        });
        for member in self.granted().collect::<Vec<_>>() {
            if self.is_ready(member) {
                self.open_at(self.listens.len() - 1, member);
            }
        }
    }

    /// A member that joins gets the subscriptions of those that were there before.
    pub(super) fn listen_to(&mut self, member: usize) {
        for at in 0..self.listens.len() {
            self.open_at(at, member);
        }
    }

    fn open_at(&mut self, at: usize, member: usize) {
        let number = self.number();
        let listen = &self.listens[at];
        let mut wanted = listen.wanted.clone();
        let own: Vec<Value> =
            uris(&wanted).filter(|uri| self.owner_of(uri) == Ok(member)).map(Value::from).collect();
        if wanted.remove("resourceSubscriptions").is_some() && !own.is_empty() {
            wanted.insert("resourceSubscriptions".into(), own.into());
        }
        let wanted = Value::Object(wanted).to_string();
        let params = json::object(&[("notifications", Some(&wanted)), ("_meta", listen.meta.as_deref())]);
        let key = listen.key;
        self.listens[at].open.insert(number, (member, false));
        let request = Message::request(&Id::number(number), LISTEN, &params);
        self.send(member, number, RequestPurpose::Listen(key), request);
    }

    /// A member's notification that belongs to a subscription.
    pub(super) fn listen_notes(&mut self, member: usize, number: u64, message: &Message) {
        let Some(listen) = self.listens.iter_mut().find(|listen| listen.open.contains_key(&number)) else {
            return;
        };
        let Some((_, acknowledged)) = listen.open.get_mut(&number).filter(|(of, _)| *of == member) else {
            return;
        };
        if message.method() == "notifications/subscriptions/acknowledged" {
            // Once: a repeated announcement would only grow.
            if !std::mem::replace(acknowledged, true) {
                merge(&mut listen.honoured, self::wanted(message));
            }
        } else if listen.until.is_none() {
            let id = listen.id.clone();
            self.notify_client(message.with(&[(Part::SubscriptionId, id.to_string().into())]), Some(id));
        } else if listen.held.len() < HELD {
            listen.held.push(message.clone());
        }
    }

    /// A member's stream is over: it ended it, refused it, or is gone.
    pub(super) fn listen_ended(&mut self, member: usize, key: u64, answer: Option<Message>) {
        let Some(listen) = self.listens.iter_mut().find(|listen| listen.key == key) else { return };
        listen.open.retain(|_, (of, _)| *of != member);
        if let Some(error) = answer.filter(|answer| answer.error_code().is_some()) {
            listen.refused.get_or_insert(error);
        }
    }

    /// Acknowledges what all have acknowledged, and ends what all have ended.
    pub(super) fn settle_listens(&mut self, now: Instant) {
        for mut listen in std::mem::take(&mut self.listens) {
            let is_awaited = |core: &Self| {
                listen.open.values().any(|(_, acknowledged)| !acknowledged)
                    || core.granted().any(|member| {
                        matches!(core.members[member].phase, LinkPhase::Opening { late: false, .. })
                    })
            };
            let is_pending = listen.until.is_some_and(|until| now < until) && is_awaited(self);
            if is_pending {
                self.listens.push(listen);
                continue;
            }
            let id = listen.id.clone();
            if listen.until.is_some() && listen.open.is_empty() {
                match listen.refused {
                    Some(error) => self.answer(&id, error.with(&[(Part::Id, id.to_string().into())])),
                    None => self.refuse(&id, METHOD_NOT_FOUND, "Method not found"),
                }
                continue;
            }
            if listen.until.take().is_some() {
                let honoured = Value::Object(listen.honoured.clone()).to_string();
                let meta = subscription(&id);
                let params = json::object(&[("notifications", Some(&honoured)), ("_meta", Some(&meta))]);
                let method = "notifications/subscriptions/acknowledged";
                self.notify_client(Message::notification(method, &params), Some(id.clone()));
                for message in listen.held.drain(..) {
                    let message = message.with(&[(Part::SubscriptionId, id.to_string().into())]);
                    self.notify_client(message, Some(id.clone()));
                }
            }
            if listen.open.is_empty() {
                let meta = subscription(&id);
                let result = json::object(&[("resultType", Some("\"complete\"")), ("_meta", Some(&meta))]);
                self.answer(&id, Message::result_for(&id, &result));
            } else {
                self.listens.push(listen);
            }
        }
    }

    /// Tells subscribers that a list is not what it was, if they asked for that.
    pub(super) fn changed_for_listeners(&mut self, ask: ListKind, method: &str) {
        let key = match ask {
            ListKind::Tools => "toolsListChanged",
            ListKind::Prompts => "promptsListChanged",
            ListKind::Resources | ListKind::Templates => "resourcesListChanged",
            ListKind::Discover => return,
        };
        let listening: Vec<_> = self
            .listens
            .iter()
            .filter(|listen| listen.until.is_none() && listen.wanted.get(key) == Some(&json!(true)))
            .map(|listen| listen.id.clone())
            .collect();
        for id in listening {
            let params = json::object(&[("_meta", Some(&subscription(&id)))]);
            self.notify_client(Message::notification(method, &params), Some(id));
        }
    }
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
