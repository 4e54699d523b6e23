//! Whose task is which, on a server that callers share.
//!
//! A task outlives the call that made it (SEP-2663, and MCP 2025-11-25), and whoever says its id may ask for it, go on with it
//! and end it. A server on a pipe has one client, so it cannot distinguish owners. Here the answer of a call is what binds a
//! task to the owner of the call. A request with an id that is not bound to its owner does not reach the server, and is answered
//! as if there were no such task: trying ids shows nothing.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    ledger::{Owner, OwnerName, Resource, Share},
    mcp::{
        codes::{INVALID_PARAMS, METHOD_NOT_FOUND},
        message::{Message, Part},
        method::LISTEN,
        modern::too_many_wanted,
    },
};

/// Tasks of one owner that are known. Beyond that the oldest is forgotten.
const PER_OWNER: usize = 1024;

/// What an entry costs beside the id, which is there twice.
const ENTRY: usize = 128;

/// What counts in `params._meta`.
#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "io.modelcontextprotocol/related-task")]
    related: Option<Related<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Related<'a> {
    #[serde(borrow)]
    task_id: Option<Cow<'a, str>>,
}

/// Tasks and their owners.
#[derive(Default)]
pub(super) struct Tasks {
    /// The share counts the entry for the owner, and says who that is.
    bound: HashMap<Box<str>, Share>,
    of_owner: HashMap<OwnerName, VecDeque<Box<str>>>,
    /// There was one, whether or not it is here still.
    were_any: bool,
}

impl Tasks {
    /// A call of `owner` made this task. What is bound stays so: who answers with an id has not made it for that.
    pub(super) fn bind(&mut self, id: &str, owner: &Arc<Owner>) {
        self.were_any = true;
        if self.bound.contains_key(id) {
            return;
        }
        let bytes = u64::try_from(2 * id.len() + ENTRY).unwrap_or(u64::MAX);
        let Ok(share) = owner.take_some(Resource::Bytes, bytes) else { return };
        self.bound.insert(id.into(), share);
        let ids = self.of_owner.entry(owner.name().clone()).or_default();
        ids.push_back(id.into());
        if ids.len() > PER_OWNER
            && let Some(oldest) = ids.pop_front()
        {
            self.bound.remove(&oldest);
        }
    }

    /// The server is gone, and its tasks with it.
    pub(super) fn clear(&mut self) {
        self.bound.clear();
        self.of_owner.clear();
    }

    fn is_of(&self, id: &str, owner: &Owner) -> bool {
        self.bound.get(id).is_some_and(|share| share.owner().name() == owner.name())
    }

    /// The answer to a request of `owner` that is about a task that is not its own. As long as the server has made none, and
    /// nothing runs that could make one (`may_be_made`), it says itself what it thinks of tasks.
    pub(super) fn refusal(
        &self,
        owner: &Owner,
        message: &Message,
        may_be_made: impl FnOnce() -> bool,
    ) -> Option<Message> {
        let id = message.id()?;
        let is_about_tasks = message.method().starts_with("tasks/");
        let are_none = is_about_tasks && !self.were_any && !may_be_made();
        let is_its_own = |task: Option<&str>| are_none || task.is_some_and(|task| self.is_of(task, owner));
        let is_allowed = match message.method() {
            "tasks/get" | "tasks/update" | "tasks/cancel" | "tasks/result" => is_its_own(message.name()),
            // All tasks of the session, which are those of all callers; and methods that are not known yet.
            _ if is_about_tasks => {
                let why = "this server is shared and has no sessions";
                return Message::error_for(id, METHOD_NOT_FOUND, why).ok();
            }
            LISTEN => {
                if let Some(why) = too_many_wanted(message) {
                    return Message::error_for(id, INVALID_PARAMS, why).ok();
                }
                self.hears_of_its_own(owner, message)
            }
            _ => true,
        };
        if !is_allowed {
            return Message::error_for(id, INVALID_PARAMS, "Unknown task").ok();
        }
        // Some servers (the TypeScript SDK) put what they answer where the task's owner finds it.
        if message.names_related_task() {
            let meta = message.part(Part::Meta).and_then(|meta| serde_json::from_str::<Meta<'_>>(meta).ok());
            let task = meta.and_then(|meta| meta.related).and_then(|related| related.task_id);
            if !is_its_own(task.as_deref()) {
                return Message::error_for(id, INVALID_PARAMS, "Unknown task").ok();
            }
        }
        None
    }

    /// Whether all tasks that a subscription names are the owner's. Whatever a filter that speaks of tasks has is taken for
    /// the id of one.
    fn hears_of_its_own(&self, owner: &Owner, message: &Message) -> bool {
        let Some(filter) = message.part(Part::Filter) else { return true };
        let Ok(filter) = serde_json::from_str::<Map<String, Value>>(filter) else { return true };
        filter.iter().filter(|(key, _)| key.to_ascii_lowercase().contains("task")).all(|(_, named)| {
            match named {
                Value::Array(named) => {
                    named.iter().all(|task| task.as_str().is_some_and(|task| self.is_of(task, owner)))
                }
                Value::Null | Value::Bool(false) => true,
                // Those of everybody.
                _ => false,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Capacity, Ledger};

    fn request(text: &str) -> Message {
        Message::parse(format!(r#"{{"id":1,{text}}}"#).into()).unwrap()
    }

    #[test]
    fn a_task_is_its_owners_and_to_others_it_is_not_there() {
        let ledger = Ledger::new(|_| Capacity { total: 100_000, per_owner: 0 });
        let [dev, ops] = ["dev", "ops"].map(|name| ledger.owner(OwnerName::Token(name.into())));
        let mut tasks = Tasks::default();
        tasks.bind("t", &dev);
        tasks.bind("t", &ops);
        tasks.bind("o", &ops);
        let refused = |tasks: &Tasks, owner: &Owner, text: &str| {
            tasks.refusal(owner, &request(text), || true).map(|answer| answer.error_code().unwrap())
        };
        for method in ["get", "update", "cancel", "result"] {
            let of = |id: &str| format!(r#""method":"tasks/{method}","params":{{"taskId":"{id}"}}"#);
            assert_eq!(refused(&tasks, &dev, &of("t")), None);
            assert_eq!(refused(&tasks, &ops, &of("t")), Some(INVALID_PARAMS));
            assert_eq!(refused(&tasks, &ops, &of("never")), Some(INVALID_PARAMS));
            assert_eq!(refused(&tasks, &dev, &format!(r#""method":"tasks/{method}""#)), Some(INVALID_PARAMS));
        }
        for method in ["list", "new"] {
            let text = format!(r#""method":"tasks/{method}","params":{{"taskId":"t"}}"#);
            assert_eq!(refused(&tasks, &dev, &text), Some(METHOD_NOT_FOUND));
        }
        for (filter, is_refused) in [
            (r#"{}"#, false),
            (r#"{"toolsListChanged":true}"#, false),
            (r#"{"taskIds":["t"]}"#, false),
            (r#"{"taskIds":[]}"#, false),
            (r#"{"taskIds":["t","o"]}"#, true),
            (r#"{"taskStatus":["never"]}"#, true),
            (r#"{"tasks":true}"#, true),
        ] {
            let listen = format!(r#""method":"{LISTEN}","params":{{"notifications":{filter}}}"#);
            assert_eq!(refused(&tasks, &dev, &listen).is_some(), is_refused, "{filter}");
        }
        for (task, is_refused) in
            [(r#"{"taskId":"t"}"#, false), (r#"{"taskId":"o"}"#, true), ("{}", true), ("7", true)]
        {
            let call = format!(
                r#""method":"tools/call","params":{{"_meta":{{"io.modelcontextprotocol/related-task":{task}}}}}"#
            );
            assert_eq!(refused(&tasks, &dev, &call).is_some(), is_refused, "{task}");
        }
        tasks.clear();
        assert!(refused(&tasks, &dev, r#""method":"tasks/get","params":{"taskId":"t"}"#).is_some());
        assert_eq!((dev.used(Resource::Bytes), ops.used(Resource::Bytes)), (0, 0));
    }

    #[test]
    fn an_owner_has_only_so_many_and_they_are_counted_for_it() {
        let ledger = Ledger::new(|_| Capacity { total: 10_000_000, per_owner: 0 });
        let [dev, ops] = ["dev", "ops"].map(|name| ledger.owner(OwnerName::Token(name.into())));
        let mut tasks = Tasks::default();
        tasks.bind("of ops", &ops);
        for n in 0..=PER_OWNER {
            tasks.bind(&n.to_string(), &dev);
        }
        assert!(!tasks.is_of("0", &dev) && tasks.is_of("1", &dev) && tasks.is_of("of ops", &ops));
        assert_eq!(tasks.bound.len(), PER_OWNER + 1);
        assert!(dev.used(Resource::Bytes) > 100 * 1024);
        let full = ops.hold(Resource::Bytes, 10_000_000);
        tasks.bind("one more", &ops);
        assert!(!tasks.is_of("one more", &ops));
        drop(full);
    }

    #[test]
    fn a_server_without_tasks_says_so_itself_unless_a_call_may_make_one() {
        let owner = Owner::unlimited();
        let mut tasks = Tasks::default();
        let get = request(r#""method":"tasks/get","params":{"taskId":"x"}"#);
        assert!(tasks.refusal(&owner, &get, || false).is_none());
        assert!(tasks.refusal(&owner, &get, || true).is_some());
        tasks.bind("another", &owner);
        assert!(tasks.refusal(&owner, &get, || false).is_some());
    }
}
