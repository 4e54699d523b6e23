//! Hidden tools: no list in an event or a body names one, and what lists none passes as it came.

use bytes::Bytes;
use serde_json::{Value, value::RawValue};
use sluicegate::mcp::{
    sse::tool_filter::ListEvents,
    tool_list::{body_without_hidden, may_list},
};

use super::{event_reference, json::Members};

fn passes(name: &str) -> bool {
    name.starts_with("ok")
}

/// The first byte says where the stream is cut.
pub fn run(input: &[u8]) {
    let Some((&at, stream)) = input.split_first() else { return };
    let [whole, bytewise, halves] = super::cuts(stream, at).map(|pieces| filtered(&pieces));
    assert_eq!(whole, bytewise, "{}", stream.escape_ascii());
    assert_eq!(whole, halves, "{}", stream.escape_ascii());
    if let Some(out) = whole {
        let (before, after) = (event_reference::read(stream).events, event_reference::read(&out).events);
        assert_eq!(before.len(), after.len(), "{}", stream.escape_ascii());
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.name, after.name);
            shows_nothing(&after.data);
            if is_plain(&before.data) {
                assert_eq!(before.data, after.data);
            }
        }
        for event in event_reference::read_by_lf(&out).events {
            shows_nothing(&event.data);
        }
    }
    if let Ok(body) = body_without_hidden(Bytes::copy_from_slice(stream), &passes) {
        shows_nothing(&body);
        if is_plain(stream) {
            assert_eq!(body, stream);
        }
    }
    if let Ok(method) = std::str::from_utf8(stream) {
        assert!(may_list(method) || method != "tools/list");
    }
}

fn filtered(pieces: &[&[u8]]) -> Option<Vec<u8>> {
    let mut events = ListEvents::new(passes);
    let mut out = Vec::new();
    for piece in pieces {
        out.extend(events.push(piece).ok()?);
    }
    Some(out)
}

/// Whether it is JSON without a list of tools at any place.
fn is_plain(data: &[u8]) -> bool {
    serde_json::from_slice::<Value>(data).is_ok()
        && !data.windows(5).any(|part| part == b"tools")
        && !data.contains(&b'\\')
}

/// Whether no reader finds a hidden tool, whichever of two equal keys it takes.
fn shows_nothing(data: &[u8]) {
    let Ok(text) = serde_json::from_slice::<&RawValue>(data) else { return };
    let messages = serde_json::from_str::<Vec<&RawValue>>(text.get()).unwrap_or_else(|_| vec![text]);
    for message in messages {
        for result in values(message, "result") {
            for tools in values(result, "tools") {
                let tools: Vec<&RawValue> = serde_json::from_str(tools.get()).unwrap_or_default();
                for name in tools.into_iter().flat_map(|tool| values(tool, "name")) {
                    let name: String = serde_json::from_str(name.get()).unwrap_or_default();
                    assert!(passes(&name), "{}", data.escape_ascii());
                }
            }
        }
    }
}

/// All values that an object has under this key, in whichever letters.
fn values<'a>(object: &'a RawValue, name: &str) -> Vec<&'a RawValue> {
    let members =
        serde_json::from_str::<Members<'a>>(object.get()).map_or_else(|_| Vec::new(), |members| members.0);
    let is_it = |key: &RawValue| {
        serde_json::from_str::<String>(key.get()).is_ok_and(|key| key.to_lowercase() == name)
    };
    members.into_iter().filter(|(key, _)| is_it(key)).map(|(_, value)| value).collect()
}
