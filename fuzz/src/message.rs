//! Messages: read as a whole and while they stream by, by the gateway and by serde; and put together anew.

use std::borrow::Cow;

use bytes::Bytes;
use serde_json::value::RawValue;
use sluicegate::mcp::{
    incoming::ServerOutput,
    message::{Id, Message, MessageKind, Part},
    oversize::{Answers, Oversize},
    scan::{Scan, ScannedName},
};

use super::json::Members;

/// The first byte says where the text is cut, the second which parts are replaced.
pub fn run(input: &[u8]) {
    let &[at, parts, ref text @ ..] = input else { return };
    let client = Message::parse(Bytes::copy_from_slice(text)).ok();
    for pieces in super::cuts(text, at) {
        scanned(&pieces, client.as_ref());
    }
    let server = Message::from_server(Bytes::copy_from_slice(text)).ok();
    if let Some(client) = &client {
        by_serde(client);
        let server = server.as_ref().expect("what a client may say, a server may say");
        assert_eq!((server.kind(), server.method()), (client.kind(), client.method()));
    }
    for message in client.iter().chain(&server) {
        on_one_line(message);
        replaced(message, parts);
        without_token(message);
    }
    if let Some(server) = server.filter(|server| !server.is_ambiguous()) {
        passing(&server, at);
    }
    incoming(ServerOutput::read(Bytes::copy_from_slice(text)), text.len());
}

fn scanned(pieces: &[&[u8]], wanted: Option<&Message>) {
    let mut scan = Scan::default();
    let read = pieces.iter().try_for_each(|piece| scan.push(piece)).and_then(|()| scan.finish());
    assert_eq!(read.is_ok(), wanted.is_some(), "{}", pieces.concat().escape_ascii());
    let Some(wanted) = wanted else { return };
    assert_eq!(scan.method().unwrap_or_default(), wanted.method());
    assert_eq!(scan.id().as_ref(), wanted.id());
    if wanted.method() == "tools/call" {
        let name = match scan.name() {
            ScannedName::Text(name) => Some(name),
            ScannedName::Absent => None,
            ScannedName::Unreadable => panic!("a name that no reader can read is refused"),
        };
        assert_eq!(name, wanted.name());
    }
}

fn members(text: &str) -> Vec<(String, &RawValue)> {
    let members: Members<'_> = serde_json::from_str(text).expect("an object");
    let key = |key: &RawValue| serde_json::from_str(key.get()).unwrap_or_default();
    members.0.into_iter().map(|(name, value)| (key(name), value)).collect()
}

/// The one member with this name. That there is one, in whichever letters, is what the gateway has seen to.
fn only<'a>(members: &[(String, &'a RawValue)], name: &str) -> Option<&'a RawValue> {
    let mut alike = members.iter().filter(|(key, _)| key.to_lowercase() == name.to_lowercase());
    let found = alike.next()?;
    assert!(found.0 == name && alike.next().is_none(), "{name} can be read in two ways");
    Some(found.1)
}

fn id(value: &RawValue) -> Option<Id> {
    match value.get().as_bytes()[0] {
        b'"' => serde_json::from_str::<String>(value.get()).ok().map(|text| Id::String(text.into())),
        b'-' | b'0'..=b'9' => Some(Id::Number(value.get().into())),
        _ => None,
    }
}

/// A client's message, as serde reads it.
fn by_serde(message: &Message) {
    let text = std::str::from_utf8(message.text()).expect("was read");
    let top = members(text);
    let method =
        only(&top, "method").map(|method| serde_json::from_str::<String>(method.get()).expect("text"));
    assert_eq!(method.unwrap_or_default(), message.method());
    assert_eq!(only(&top, "id").and_then(id).as_ref(), message.id());
    let Some(params) = only(&top, "params").filter(|params| params.get().starts_with('{')) else { return };
    let params = members(params.get());
    let name = match message.method() {
        "tools/call" | "prompts/get" => only(&params, "name"),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => only(&params, "uri"),
        _ => return,
    };
    let name = name.map(|name| serde_json::from_str::<String>(name.get()).expect("text"));
    assert_eq!(name.as_deref(), message.name());
    if let Some(meta) = only(&params, "_meta").filter(|meta| meta.get().starts_with('{')) {
        let token = only(&members(meta.get()), "progressToken").and_then(id);
        assert_eq!(token.as_ref(), message.progress_token());
    }
}

/// What is read of a message.
#[derive(Debug, PartialEq)]
struct Seen<'a> {
    kind: MessageKind,
    method: &'a str,
    ids: [Option<&'a Id>; 4],
    texts: [Option<&'a str>; 3],
    parts: [Option<&'a str>; 10],
    flags: [bool; 6],
    code: Option<i64>,
}

fn seen(message: &Message) -> Seen<'_> {
    Seen {
        kind: message.kind(),
        method: message.method(),
        ids: [message.id(), message.progress_token(), message.request_id(), message.subscription_id()],
        texts: [message.name(), message.version(), message.task_id()],
        parts: Part::ALL.map(|part| message.part(part)),
        flags: [
            message.is_ambiguous(),
            message.names_version(),
            message.names_capabilities(),
            message.sets_log_level(),
            message.has_cursor(),
            message.names_related_task(),
        ],
        code: message.error_code(),
    }
}

fn on_one_line(message: &Message) {
    let line = message.line();
    let text = std::str::from_utf8(&line).expect("was read");
    assert!(!text.contains(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']), "{text:?}");
    let again = Message::from_server(line.clone()).expect("the same message");
    let (again, message) = (seen(&again), Message::from_server(message.text().clone()).expect("was read"));
    assert_eq!((again.ids, again.texts), (seen(&message).ids, seen(&message).texts), "{text}");
}

/// What was put together is what would be read.
fn replaced(message: &Message, parts: u8) {
    let new = |part: Part| match part {
        Part::Id | Part::RequestId | Part::SubscriptionId => "4711",
        Part::Name => "\"\\u0061nother\"",
        Part::ProgressToken => "\"a token\"",
        Part::Params | Part::Meta | Part::Filter => r#"{"x":[]}"#,
        Part::Arguments | Part::Result => "{}",
    };
    let chosen = Part::ALL.iter().enumerate().filter(|(bit, _)| *bit < 8 && parts & 1 << bit != 0);
    let mut replacements: Vec<(Part, Cow<'_, str>)> = Vec::new();
    for (_, part) in chosen {
        let Some(old) = message.part(*part) else { continue };
        let start = old.as_ptr().addr();
        let overlaps = replacements.iter().any(|(other, _)| {
            let other = message.part(*other).expect("was chosen");
            let begins = other.as_ptr().addr();
            start < begins + other.len() && begins < start + old.len()
        });
        if !overlaps {
            replacements.push((*part, new(*part).into()));
        }
    }
    let Ok(with) = message.with(&replacements) else { return };
    let text = with.text().escape_ascii();
    for (part, new) in &replacements {
        assert_eq!(with.part(*part), Some(&**new), "{text}");
    }
    let again = Message::from_server(with.text().clone()).expect("is a message");
    let mut wanted = seen(&again);
    // Which of two is meant was not asked for anew.
    wanted.flags[0] = with.is_ambiguous();
    let is_strict = Message::parse(message.text().clone()).is_ok();
    if is_strict {
        let strict = Message::parse(with.text().clone()).expect("is as good as before");
        assert!(seen(&strict) == seen(&with) || seen(&with) == wanted, "{text}");
    } else {
        assert_eq!(seen(&with), wanted, "{text}");
    }
}

fn without_token(message: &Message) {
    let Some(meta) = message.meta_without_token() else { return };
    let left = members(&meta);
    if !message.is_ambiguous() && message.kind() == MessageKind::Request {
        assert!(left.iter().all(|(key, _)| key != "progressToken"), "{meta}");
        let before = members(message.part(Part::Meta).expect("is there"));
        assert_eq!(left.len(), before.iter().filter(|(key, _)| key != "progressToken").count());
    }
}

/// A message that passes unread is an answer to the same request.
fn passing(message: &Message, at: u8) {
    let [whole, bytewise, halves] = super::cuts(message.text(), at).map(|pieces| {
        let mut oversize = Oversize::default();
        pieces.iter().for_each(|piece| oversize.push(piece));
        assert_eq!(oversize.length(), message.text().len() as u64);
        (oversize.is_message(), oversize.end())
    });
    assert_eq!(whole, bytewise);
    assert_eq!(whole, halves);
    let (_, answers) = whole;
    match (message.kind(), message.id()) {
        (MessageKind::Response, Some(id)) if message.part(Part::Id).is_some_and(|id| id.len() < 128) => {
            assert!(answers.names(id), "{} {answers:?}", message.text().escape_ascii());
        }
        (MessageKind::Response, _) => {}
        _ => assert_eq!(answers, Answers::Nobody, "{}", message.text().escape_ascii()),
    }
}

fn incoming(incoming: ServerOutput, length: usize) {
    if let ServerOutput::Batch(batch) = incoming {
        // Each element takes a byte at least.
        assert!(batch.count() <= length);
    }
}
