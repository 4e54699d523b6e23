//! The requests that a server has not answered, and what its messages have to do with them.
//!
//! A server may name a request by another spelling of its id: a language without integers writes `7.0`, one that keeps ids
//! as strings `"7"`. Here, next to the server, each name becomes the one that the request came with, so that nobody further
//! on has to compare but by equality. What cannot be read is found its request here, too.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use crate::{
    error::{Error, ErrorKind},
    ledger::{Limit, Resource},
    link::FromServer,
    mcp::{
        message::{self, Id, Malformed, Message, Part},
        oversize::{Answers, Oversize},
    },
    observe::{Observer, Topic},
};

/// Requests that were given up lately, whose answers may come all the same and are not reported.
const GIVEN_UP: usize = 64;

/// Whose requests wait for the answers of one conversation with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// One caller's alone.
    One,
    /// Those of many, or of a conversation with many servers: what one makes a server write must not harm another.
    Many,
}

/// Is called for what goes wrong between the gateway and a server.
pub type OddityReport = Arc<dyn Fn(Oddity) + Send + Sync>;

/// What a server wrote wrongly, or did not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Oddity {
    /// A message that cannot be read.
    Unreadable(Malformed),
    /// An answer to no request.
    Unasked,
    /// What has no answer found no free connection.
    Untold(Limit),
}

/// Logs what goes wrong with `server`, and nothing of what it wrote.
pub fn to_log(observer: Arc<Observer>, server: Arc<str>) -> OddityReport {
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
    ErrorKind::UpstreamUnreachable.with_cause(format!("the server sent something that is no message: {why}"))
}

/// Requests that wait for their answers. Their number is bounded by their sender.
pub struct Awaited {
    /// With their progress tokens.
    requests: HashMap<Id, Option<Id>>,
    given_up: VecDeque<Id>,
    callers: Callers,
    /// Whether no other request was under way at any time since the one that waits was sent, if one does.
    is_alone: bool,
    report: OddityReport,
}

impl Awaited {
    /// None yet.
    pub fn new(callers: Callers, report: OddityReport) -> Self {
        Self { requests: HashMap::new(), given_up: VecDeque::new(), callers, is_alone: false, report }
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.requests.len()
    }

    /// This message is sent. From now on its answer is awaited, if it is a request; if it is a cancellation, the answer to
    /// what it cancels is not.
    pub fn begin(&mut self, message: &Message) {
        if let Some(id) = message.response_id() {
            self.is_alone = self.requests.is_empty() && self.given_up.is_empty();
            self.requests.insert(id.clone(), message.progress_token().cloned());
        } else if let Some(id) = message.cancels() {
            self.give_up(id);
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

    /// A server's message as the client is to see it; `None` if it answers no request.
    pub fn message(&mut self, message: Message) -> Option<FromServer> {
        let message = match message.kind() {
            message::MessageKind::Request => message,
            message::MessageKind::Notification => self.renamed(message),
            message::MessageKind::Response => match contested(&message) {
                Some(answers) => return self.unreadable(&answers, Malformed::Ambiguous),
                None => self.answer(message)?,
            },
        };
        Some(FromServer::Message { message, about: None })
    }

    fn answer(&mut self, answer: Message) -> Option<Message> {
        let named = answer.id();
        if named.is_some_and(|id| self.end(id)) {
            return Some(answer);
        }
        let Some(id) = named.and_then(|named| self.named(named)) else {
            let late = named.and_then(|named| self.given_up.iter().position(|id| id.is_like(named)));
            match late {
                // No other comes.
                Some(late) => drop(self.given_up.remove(late)),
                None => (self.report)(Oddity::Unasked),
            }
            return None;
        };
        self.end(&id);
        answer.renamed(Part::Id, &id).ok()
    }

    /// A notification with the request that it names, or the token, as they were sent.
    fn renamed(&self, message: Message) -> Message {
        let (part, named, sent) = match message.method() {
            "notifications/progress" => {
                let token = message.progress_token();
                (Part::ProgressToken, token, token.and_then(|it| meant(self.requests.values().flatten(), it)))
            }
            "notifications/cancelled" => {
                let id = message.request_id();
                (Part::RequestId, id, id.and_then(|it| meant(self.requests.keys(), it)))
            }
            _ => return message,
        };
        match sent.filter(|_| sent != named) {
            Some(sent) => message.renamed(part, sent).unwrap_or(message),
            None => message,
        }
    }

    /// A message of the server's could not be read, and says this of whose answer it is. What says nothing is the answer to
    /// the one request that there is, but only where no other can be meant: it may be more of an answer that was
    /// given, or the one to what was given up. Gives the request that has failed.
    pub fn lost(&mut self, answers: &Answers) -> Option<Id> {
        let id = match answers {
            Answers::Nobody => None,
            Answers::Unknown if self.callers == Callers::One && self.is_alone => {
                only(self.requests.keys()).cloned()
            }
            Answers::Unknown => None,
            Answers::Request(id) => self.named(id),
            Answers::OneOf(ids) => {
                let mut named: Vec<Id> = ids.iter().filter_map(|id| self.named(id)).collect();
                named.dedup();
                only(named.into_iter())
            }
        }?;
        self.end(&id);
        Some(id)
    }

    /// The request that an id names, in whichever spelling.
    fn named(&self, id: &Id) -> Option<Id> {
        meant(self.requests.keys(), id).cloned()
    }

    /// What could not be read, for its client and for the log.
    pub fn unreadable(&mut self, answers: &Answers, why: Malformed) -> Option<FromServer> {
        (self.report)(Oddity::Unreadable(why));
        let id = self.lost(answers)?;
        Some(FromServer::Failed { id, error: unreadable(why) })
    }
}

/// Which requests a response may answer whose readers do not agree on its id: it has several, or one in another spelling of
/// the key. `None` of any other.
pub(super) fn contested(answer: &Message) -> Option<Answers> {
    if !answer.is_ambiguous() {
        return None;
    }
    let mut passing = Oversize::default();
    passing.push(answer.text());
    let found = passing.end();
    match (found.ids(), answer.id()) {
        ([], _) => None,
        ([id], Some(named)) if id == named => None,
        (ids, Some(named)) if !ids.contains(named) => {
            Some(Answers::OneOf([ids, std::slice::from_ref(named)].concat()))
        }
        _ => Some(found),
    }
}

/// Which of these `named` is: the same, or the only one that may be meant by another spelling.
fn meant<'a>(all: impl Iterator<Item = &'a Id> + Clone, named: &Id) -> Option<&'a Id> {
    all.clone().find(|id| *id == named).or_else(|| only(all.filter(|id| id.is_like(named))))
}

/// The only one, if there is one and no other.
pub(super) fn only<T>(mut all: impl Iterator<Item = T>) -> Option<T> {
    all.next().filter(|_| all.next().is_none())
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    fn message(text: &str) -> Message {
        Message::from_server(text.to_owned().into()).unwrap()
    }

    /// With requests of these ids, whose tokens are the same.
    fn awaited(ids: &[&str]) -> (Awaited, Arc<Mutex<Vec<Oddity>>>) {
        awaited_by(Callers::One, ids)
    }

    fn awaited_by(callers: Callers, ids: &[&str]) -> (Awaited, Arc<Mutex<Vec<Oddity>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let of_report = Arc::clone(&seen);
        let report = Arc::new(move |oddity| {
            of_report.lock().push(oddity);
        });
        let mut awaited = Awaited::new(callers, report);
        ids.iter().for_each(|id| awaited.begin(&request(id)));
        (awaited, seen)
    }

    fn request(id: &str) -> Message {
        message(&format!(r#"{{"id":{id},"method":"m","params":{{"_meta":{{"progressToken":{id}}}}}}}"#))
    }

    /// What passes of a message.
    fn passed(awaited: &mut Awaited, text: &str) -> Option<Message> {
        match awaited.message(message(text)) {
            Some(FromServer::Message { message, .. }) => Some(message),
            _ => None,
        }
    }

    /// The request that fails of what cannot be read.
    fn lost(awaited: &mut Awaited, answers: &Answers) -> Option<String> {
        match awaited.unreadable(answers, Malformed::Json) {
            Some(FromServer::Failed { id, .. }) => Some(id.to_string()),
            _ => None,
        }
    }

    #[test]
    fn an_answer_in_another_spelling_is_that_of_its_request() {
        for (asked, answered) in
            [("7", "\"7\""), ("7", "7.0"), ("7", "7e0"), ("\"7\"", "7"), ("\"a\"", "\"\\u0061\"")]
        {
            let (mut awaited, seen) = awaited(&["1", asked]);
            let progress =
                format!(r#"{{"method":"notifications/progress","params":{{"progressToken":{answered}}}}}"#);
            let progress = passed(&mut awaited, &progress).unwrap();
            let cancelled =
                format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{answered}}}}}"#);
            let cancelled = passed(&mut awaited, &cancelled).unwrap();
            let answer = passed(&mut awaited, &format!(r#"{{"id":{answered},"result":[]}}"#)).unwrap();
            let asked = message(&format!(r#"{{"id":{asked},"result":0}}"#)).id().unwrap().clone();
            assert_eq!(progress.progress_token(), Some(&asked));
            assert_eq!(cancelled.request_id(), Some(&asked));
            assert_eq!((answer.id(), answer.part(Part::Result)), (Some(&asked), Some("[]")));
            assert_eq!((awaited.count(), seen.lock().len()), (1, 0));
        }
    }

    #[test]
    fn an_answer_that_two_may_have_asked_for_or_nobody_is_nobodys_and_is_told_of() {
        let (mut awaited, seen) = awaited(&["7", "\"7\""]);
        for nobodys in ["7.0", "8", "null"] {
            assert!(awaited.message(message(&format!(r#"{{"id":{nobodys},"error":{{}}}}"#))).is_none());
        }
        assert_eq!(*seen.lock(), [Oddity::Unasked; 3]);
        assert_eq!(
            passed(&mut awaited, r#"{"id":"7","result":1}"#).unwrap().text(),
            r#"{"id":"7","result":1}"#
        );
        assert_eq!(
            passed(&mut awaited, r#"{"id":7.0,"result":1}"#).unwrap().text(),
            r#"{"id":7,"result":1}"#
        );
    }

    #[test]
    fn an_answer_to_what_was_given_up_is_no_news() {
        let (mut awaited, seen) = awaited(&["7"]);
        assert!(awaited.give_up(&Id::number(7)) && !awaited.give_up(&Id::number(7)));
        assert!(awaited.message(message(r#"{"id":"7","result":1}"#)).is_none());
        assert!(seen.lock().is_empty());
    }

    #[test]
    fn what_cannot_be_read_fails_its_own_request() {
        let (mut awaited, seen) = awaited(&["7", "8"]);
        assert_eq!(lost(&mut awaited, &Answers::Nobody), None);
        assert_eq!(lost(&mut awaited, &Answers::Unknown), None);
        assert_eq!(lost(&mut awaited, &Answers::Request(Id::number(9))), None);
        assert_eq!(lost(&mut awaited, &Answers::Request(Id::String("7".into()))).as_deref(), Some("7"));
        assert_eq!(seen.lock().len(), 4);
    }

    #[test]
    fn what_does_not_say_whose_it_is_fails_the_only_request_of_the_only_caller_and_no_other() {
        assert_eq!(lost(&mut awaited(&["7"]).0, &Answers::Unknown).as_deref(), Some("7"));
        assert_eq!(lost(&mut awaited_by(Callers::Many, &["7"]).0, &Answers::Unknown), None);

        // It may be more of the answer that was given meanwhile.
        let (mut beside, _) = awaited(&["7", "8"]);
        passed(&mut beside, r#"{"id":7,"result":0}"#).unwrap();
        assert_eq!(lost(&mut beside, &Answers::Unknown), None);
        passed(&mut beside, r#"{"id":8,"result":0}"#).unwrap();
        beside.begin(&request("9"));
        assert_eq!(lost(&mut beside, &Answers::Unknown).as_deref(), Some("9"));

        // Or the answer to what was given up, until that has come.
        for (first, second) in [("7", "8"), ("8", "7")] {
            let (mut given_up, _) = awaited(&[first]);
            if second == "8" {
                given_up.give_up(&Id::number(7));
            }
            given_up.begin(&request(second));
            given_up.give_up(&Id::number(7));
            assert_eq!(lost(&mut given_up, &Answers::Unknown), None);
            assert!(passed(&mut given_up, r#"{"id":7,"result":0}"#).is_none());
            passed(&mut given_up, r#"{"id":8,"result":0}"#).unwrap();
            given_up.begin(&request("9"));
            assert_eq!(lost(&mut given_up, &Answers::Unknown).as_deref(), Some("9"));
        }
    }

    #[test]
    fn an_answer_with_two_ids_fails_the_one_request_that_it_names() {
        for (answer, failed) in [
            (r#"{"id":7,"id":1,"result":0}"#, Some("7")),
            (r#"{"id":1,"result":0,"id":"7"}"#, Some("7")),
            (r#"{"id":7,"\u0069d":1,"result":0}"#, Some("7")),
            (r#"{"\u0069d":7,"id":1,"result":0}"#, Some("7")),
            (r#"{"ID":7,"result":0}"#, Some("7")),
            (r#"{"id":7,"id":8,"result":0}"#, None),
            (r#"{"id":1,"id":2,"result":0}"#, None),
        ] {
            let (mut awaited, seen) = awaited(&["7", "8"]);
            let id = match awaited.message(message(answer)) {
                Some(FromServer::Failed { id, .. }) => Some(id.to_string()),
                None => None,
                other => panic!("{answer}: {other:?}"),
            };
            assert_eq!(id.as_deref(), failed, "{answer}");
            assert_eq!(*seen.lock(), [Oddity::Unreadable(Malformed::Ambiguous)], "{answer}");
        }
        // The same twice is read alike by everybody who gets it.
        let (mut awaited, _) = awaited(&["7"]);
        assert!(passed(&mut awaited, r#"{"id":7,"id":7,"result":0}"#).unwrap().is_ambiguous());
    }
}
