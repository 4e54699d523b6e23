//! URIs that a member gave out beside its lists: resource links and embedded resources of results (MCP 2025-06-18, tools,
//! "Resource Links": they need not be on any list), and what tools are shown with (MCP Apps, `_meta.ui.resourceUri`).

use std::{
    borrow::Cow,
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::json;
use crate::ledger::Share;

/// URIs of one member that are remembered, and their bytes. Of more, those that came last.
const MOST: usize = 1_024;
const BYTES: usize = 256 << 10;

/// URIs that one member gave out.
#[derive(Default)]
pub(super) struct GivenUris {
    known: HashSet<Arc<str>>,
    /// The same, oldest first.
    order: VecDeque<Arc<str>>,
    bytes: usize,
    /// Counts them.
    held: Option<Share>,
}

impl GivenUris {
    pub(super) fn has(&self, uri: &str) -> bool {
        self.known.contains(uri)
    }

    /// Remembers these. `share` counts them, if nothing does yet.
    pub(super) fn note(&mut self, uris: Vec<Cow<'_, str>>, share: impl FnOnce() -> Share) {
        if uris.is_empty() {
            return;
        }
        for uri in uris {
            if uri.len() > BYTES / 16 || self.known.contains(&*uri) {
                continue;
            }
            let uri: Arc<str> = uri.into();
            self.bytes += uri.len();
            self.known.insert(Arc::clone(&uri));
            self.order.push_back(uri);
            while self.order.len() > MOST || self.bytes > BYTES {
                let Some(oldest) = self.order.pop_front() else { break };
                self.bytes -= oldest.len();
                self.known.remove(&oldest);
            }
        }
        let bytes = u64::try_from(self.bytes).unwrap_or(u64::MAX);
        self.held.get_or_insert_with(share).set(bytes);
    }
}

/// What the result of a call gives out. Most results hold nothing of the kind, and cost one search.
pub(super) fn of_result(result: &str) -> Vec<Cow<'_, str>> {
    let mut found = Vec::new();
    if memchr::memmem::find(result.as_bytes(), b"resource").is_none() {
        return found;
    }
    let Some([content, messages, meta]) = json::fields(result, ["content", "messages", "_meta"]) else {
        return found;
    };
    for item in content.map(items).unwrap_or_default() {
        of_content(item, &mut found);
    }
    for message in messages.map(items).unwrap_or_default() {
        if let Some([Some(content)]) = json::fields(message.get(), ["content"]) {
            of_content(content, &mut found);
        }
    }
    of_meta(meta, &mut found);
    found
}

/// What the tools of a list are shown with.
pub(super) fn of_tools(result: &str) -> Vec<Cow<'_, str>> {
    let mut found = Vec::new();
    if memchr::memmem::find(result.as_bytes(), b"resourceUri").is_some() {
        let tools = json::fields(result, ["tools"]).and_then(|[tools]| tools);
        for tool in tools.map(items).unwrap_or_default() {
            of_meta(json::fields(tool.get(), ["_meta"]).and_then(|[meta]| meta), &mut found);
        }
    }
    found
}

fn of_content<'a>(content: &'a RawValue, found: &mut Vec<Cow<'a, str>>) {
    let Some([kind, uri, resource]) = json::fields(content.get(), ["type", "uri", "resource"]) else {
        return;
    };
    let uri = match kind.and_then(text).as_deref() {
        Some("resource_link") => uri,
        Some("resource") => {
            resource.and_then(|resource| json::fields(resource.get(), ["uri"])).and_then(|[uri]| uri)
        }
        _ => None,
    };
    found.extend(uri.and_then(text));
}

/// `ui.resourceUri`, and `ui/resourceUri` as the first servers with it write it.
fn of_meta<'a>(meta: Option<&'a RawValue>, found: &mut Vec<Cow<'a, str>>) {
    let Some([ui, flat]) = meta.and_then(|meta| json::fields(meta.get(), ["ui", "ui/resourceUri"])) else {
        return;
    };
    let nested = ui.and_then(|ui| json::fields(ui.get(), ["resourceUri"])).and_then(|[uri]| uri);
    found.extend([nested, flat].into_iter().flatten().filter_map(text));
}

fn items(list: &RawValue) -> Vec<&RawValue> {
    serde_json::from_str(list.get()).unwrap_or_default()
}

fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(raw.get()).ok().map(|text| text.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Owner, Resource};

    #[test]
    fn links_and_embedded_resources_of_a_result_are_found_and_nothing_else() {
        for (result, wanted) in [
            (
                r#"{"content":[{"type":"resource_link","uri":"a:1"},7,{"type":"text","uri":"a:2"}]}"#,
                &["a:1"][..],
            ),
            (r#"{"content":[{"type":"resource","resource":{"uri":"a:\u0033"}}]}"#, &["a:3"]),
            (r#"{"messages":[{"content":{"type":"resource_link","uri":"a:4"}}]}"#, &["a:4"]),
            (r#"{"_meta":{"ui":{"resourceUri":"ui://5"},"ui/resourceUri":"ui://6"}}"#, &["ui://5", "ui://6"]),
            (r#"{"structuredContent":{"type":"resource_link","uri":"a:7"}}"#, &[]),
            (r#"{"contents":[{"type":"resource_link","uri":"a:8"}]}"#, &[]),
            (r#"{"content":[{"type":"resource_link","uri":9}]}"#, &[]),
            (r#""resource""#, &[]),
        ] {
            assert_eq!(of_result(result), wanted, "{result}");
        }
        let tools =
            r#"{"tools":[7,{"_meta":{"ui":{"resourceUri":"ui://1"}},"inputSchema":{"resourceUri":"x"}}]}"#;
        assert_eq!(of_tools(tools), ["ui://1"]);
    }

    #[test]
    fn a_member_that_gives_out_without_end_is_remembered_for_what_it_gave_out_last() {
        let (owner, mut given) = (Owner::unlimited(), GivenUris::default());
        for number in 0..=MOST {
            given.note(vec![format!("a:{number}").into()], || owner.hold(Resource::Bytes, 0));
        }
        assert!(!given.has("a:0") && given.has("a:1") && given.has(&format!("a:{MOST}")));
        for number in 0..100 {
            let long = format!("{number:010000}");
            given.note(vec![long.clone().into(), long.into()], || owner.hold(Resource::Bytes, 0));
        }
        assert!(given.bytes <= BYTES && owner.used(Resource::Bytes) == given.bytes as u64);
        given.note(vec!["x".repeat(BYTES).into()], || owner.hold(Resource::Bytes, 0));
        assert!(given.has(&format!("{:010000}", 99)), "one that is too long moves nothing");
    }
}
