//! The requests that a server has not answered, and what its messages have to do with them.
//!
//! A server may name a request by another spelling of its id: a language without integers writes `7.0`, one that keeps ids
//! as strings `"7"`. Here, next to the server, each name becomes the one that the request came with, so that nobody further
//! on has to compare but by equality. What cannot be read is found its request here, too.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{
    error::{Error, Kind},
    ledger::{Limit, Resource},
    link::FromServer,
    mcp::{
        message::{self, Id, Malformed, Message, Part},
        oversize::Answers,
    },
    observe::{Observer, Topic},
};

/// Requests that were given up lately, whose answers may come all the same and are no news.
const GIVEN_UP: usize = 64;

/// Learns of what went amiss between the gate and a server.
pub type Report = Arc<dyn Fn(Oddity) + Send + Sync>;

/// What a server wrote amiss, or was not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    /// A message that cannot be read.
    Unreadable(Malformed),
    /// An answer that nobody waits for.
    Unasked,
    /// What has no answer found no free connection.
    Untold(Limit),
}

/// Has the log say what goes amiss with `server`, and nothing of what it wrote.
pub fn to_log(observer: Arc<Observer>, server: Arc<str>) -> Report {
    Arc::new(move |oddity| {
        let (topic, why) = match oddity {
            Oddity::Unreadable(why) => (Topic::Unreadable, Some(why.to_string())),
            Oddity::Unasked => (Topic::Unasked, None),
            Oddity::Untold(limit) => {
                (Topic::Untold, Error::out_of(Resource::ServerNotices, limit).cause.map(Into::into))
            }
        };
        if let Some(line) = observer.recurring(topic) {
            let line = line.str("server", &server);
            match why {
                Some(why) => line.text("cause", &why).send(),
                None => line.send(),
            }
        }
    })
}

/// That a message cannot be read which may be an answer.
pub fn unreadable(why: Malformed) -> Error {
    Kind::UpstreamUnreachable.because(format!("the server sent something that is no message: {why}"))
}

/// Requests that wait for their answers. How many they may be is for whoever sends them to say.
pub struct Awaited {
    /// With their progress tokens.
    requests: HashMap<Id, Option<Id>>,
    given_up: VecDeque<Id>,
    report: Report,
}

impl Awaited {
    /// None yet.
    pub fn new(report: Report) -> Self {
        Self { requests: HashMap::new(), given_up: VecDeque::new(), report }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.requests.len()
    }

    /// From now on it is waited for, if it is a request.
    pub fn begin(&mut self, message: &Message) {
        if let (message::Kind::Request, Some(id)) = (message.kind(), message.id()) {
            self.requests.insert(id.clone(), message.progress_token().cloned());
        }
    }

    /// It is not waited for any more; `false` if it was not.
    pub fn end(&mut self, id: &Id) -> bool {
        self.requests.remove(id).is_some()
    }

    /// The same, and its answer may come all the same.
    pub fn give_up(&mut self, id: &Id) -> bool {
        let was_awaited = self.end(id);
        if was_awaited {
            if self.given_up.len() == GIVEN_UP {
                self.given_up.pop_front();
            }
            self.given_up.push_back(id.clone());
        }
        was_awaited
    }

    /// All of them, which will not be answered.
    pub fn take(&mut self) -> Vec<Id> {
        std::mem::take(&mut self.requests).into_keys().collect()
    }

    /// A server's message as the client is to see it; `None` if it answers what nobody asked.
    pub fn message(&mut self, message: Message) -> Option<Message> {
        match message.kind() {
            message::Kind::Request => Some(message),
            message::Kind::Notification => Some(self.renamed(message)),
            message::Kind::Response => self.answer(message),
        }
    }

    fn answer(&mut self, answer: Message) -> Option<Message> {
        let named = answer.id();
        if named.is_some_and(|id| self.end(id)) {
            return Some(answer);
        }
        let Some(id) = named.and_then(|named| self.like(named)) else {
            let is_late = named.is_some_and(|named| self.given_up.iter().any(|id| id.is_like(named)));
            if !is_late {
                (self.report)(Oddity::Unasked);
            }
            return None;
        };
        self.end(&id);
        answer.with(&[(Part::Id, id.to_string().into())]).ok()
    }

    /// A notification with the request that it names, or the token, as they were sent.
    fn renamed(&self, message: Message) -> Message {
        let renamed = match message.method() {
            "notifications/progress" => message.progress_token().and_then(|named| {
                let mut tokens = self.requests.values().flatten();
                let is_known = tokens.clone().any(|token| token == named);
                let like = if is_known { None } else { only(tokens.by_ref().filter(|it| it.is_like(named))) };
                Some((Part::ProgressToken, like?))
            }),
            "notifications/cancelled" => message.request_id().and_then(|named| {
                let is_known = self.requests.contains_key(named);
                let like =
                    if is_known { None } else { only(self.requests.keys().filter(|it| it.is_like(named))) };
                Some((Part::RequestId, like?))
            }),
            _ => None,
        };
        let Some((part, name)) = renamed else { return message };
        message.with(&[(part, Cow::Owned(name.to_string()))]).unwrap_or(message)
    }

    /// The request that an id names in another spelling, if there is one and no other.
    fn like(&self, named: &Id) -> Option<Id> {
        only(self.requests.keys().filter(|id| id.is_like(named))).cloned()
    }

    /// A message of the server's could not be read, and says this of whose answer it is. What says nothing can only be the
    /// answer to the one request that there is. Gives the request that has failed.
    pub fn lost(&mut self, answers: &Answers) -> Option<Id> {
        let id = match answers {
            Answers::Nobody => None,
            Answers::Unknown => only(self.requests.keys()).cloned(),
            Answers::Request(id) if self.requests.contains_key(id) => Some(id.clone()),
            Answers::Request(id) => self.like(id),
        }?;
        self.end(&id);
        Some(id)
    }

    /// What could not be read, for its client and for the log.
    pub fn unreadable(&mut self, answers: &Answers, why: Malformed) -> Option<FromServer> {
        (self.report)(Oddity::Unreadable(why));
        let id = self.lost(answers)?;
        Some(FromServer::Failed { id, error: unreadable(why) })
    }
}

/// The only one, if there is one and no other.
fn only<T>(mut all: impl Iterator<Item = T>) -> Option<T> {
    all.next().filter(|_| all.next().is_none())
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};

    use super::*;

    fn message(text: &str) -> Message {
        Message::from_server(text.to_owned().into()).unwrap()
    }

    /// With requests of these ids, whose tokens are the same.
    fn awaited(ids: &[&str]) -> (Awaited, Arc<Mutex<Vec<Oddity>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let of_report = Arc::clone(&seen);
        let mut awaited = Awaited::new(Arc::new(move |oddity| {
            of_report.lock().unwrap_or_else(PoisonError::into_inner).push(oddity);
        }));
        for id in ids {
            awaited.begin(&message(&format!(
                r#"{{"id":{id},"method":"m","params":{{"_meta":{{"progressToken":{id}}}}}}}"#
            )));
        }
        (awaited, seen)
    }

    #[test]
    fn an_answer_in_another_spelling_is_that_of_its_request() {
        for (asked, answered) in
            [("7", "\"7\""), ("7", "7.0"), ("7", "7e0"), ("\"7\"", "7"), ("\"a\"", "\"\\u0061\"")]
        {
            let (mut awaited, seen) = awaited(&["1", asked]);
            let progress = message(&format!(
                r#"{{"method":"notifications/progress","params":{{"progressToken":{answered}}}}}"#
            ));
            let progress = awaited.message(progress).unwrap();
            let cancelled =
                format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{answered}}}}}"#);
            let cancelled = awaited.message(message(&cancelled)).unwrap();
            let answer = awaited.message(message(&format!(r#"{{"id":{answered},"result":[]}}"#))).unwrap();
            let asked = message(&format!(r#"{{"id":{asked},"result":0}}"#)).id().unwrap().clone();
            assert_eq!(progress.progress_token(), Some(&asked));
            assert_eq!(cancelled.request_id(), Some(&asked));
            assert_eq!((answer.id(), answer.part(Part::Result)), (Some(&asked), Some("[]")));
            assert_eq!((awaited.count(), seen.lock().unwrap().len()), (1, 0));
        }
    }

    #[test]
    fn an_answer_that_two_may_have_asked_for_or_nobody_is_nobodys_and_is_told_of() {
        let (mut awaited, seen) = awaited(&["7", "\"7\""]);
        for nobodys in ["7.0", "8", "null"] {
            assert!(awaited.message(message(&format!(r#"{{"id":{nobodys},"error":{{}}}}"#))).is_none());
        }
        assert_eq!(*seen.lock().unwrap(), [Oddity::Unasked; 3]);
        assert_eq!(
            awaited.message(message(r#"{"id":"7","result":1}"#)).unwrap().text(),
            r#"{"id":"7","result":1}"#
        );
        assert_eq!(
            awaited.message(message(r#"{"id":7.0,"result":1}"#)).unwrap().text(),
            r#"{"id":7,"result":1}"#
        );
    }

    #[test]
    fn an_answer_to_what_was_given_up_is_no_news() {
        let (mut awaited, seen) = awaited(&["7"]);
        assert!(awaited.give_up(&Id::number(7)) && !awaited.give_up(&Id::number(7)));
        assert!(awaited.message(message(r#"{"id":"7","result":1}"#)).is_none());
        assert!(seen.lock().unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_read_fails_its_own_request_or_the_only_one() {
        let (mut awaited, seen) = awaited(&["7", "8"]);
        let lost = |awaited: &mut Awaited, answers| match awaited.unreadable(&answers, Malformed::Json) {
            Some(FromServer::Failed { id, .. }) => Some(id.to_string()),
            _ => None,
        };
        assert_eq!(lost(&mut awaited, Answers::Nobody), None);
        assert_eq!(lost(&mut awaited, Answers::Unknown), None);
        assert_eq!(lost(&mut awaited, Answers::Request(Id::number(9))), None);
        assert_eq!(lost(&mut awaited, Answers::Request(Id::String("7".into()))).as_deref(), Some("7"));
        assert_eq!(lost(&mut awaited, Answers::Unknown).as_deref(), Some("8"));
        assert_eq!(seen.lock().unwrap().len(), 5);
    }
}
