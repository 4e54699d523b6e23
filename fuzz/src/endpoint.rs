//! The `endpoint` event of HTTP+SSE: one is rewritten, no other passes, and nothing else changes.

use std::sync::LazyLock;

use bytes::Bytes;
use sluicegate::mcp::sse::{
    endpoint::{EndpointError, EndpointRewriter, resolve},
    endpoint_guard::EndpointGuard,
};
use url::Url;

use super::event_reference::{self, Event};

static UPSTREAM: LazyLock<Url> =
    LazyLock::new(|| "http://tools.internal:3000/v1/sse?key=1".parse().expect("a URL"));
/// What no stream has by chance.
const SEAL: &str = "/sealed~";

/// The first byte says where the stream is cut.
pub fn run(input: &[u8]) {
    let Some((&at, stream)) = input.split_first() else { return };
    if stream.windows(SEAL.len()).any(|part| part == SEAL.as_bytes()) {
        return;
    }
    let [whole, bytewise, halves] = super::cuts(stream, at).map(|pieces| rewritten(&pieces));
    assert_eq!(whole, bytewise, "{}", stream.escape_ascii());
    assert_eq!(whole, halves, "{}", stream.escape_ascii());
    if let Ok(out) = &whole {
        passes(stream, out);
    }
    let [whole, bytewise, halves] = super::cuts(stream, at).map(|pieces| {
        let mut guard = EndpointGuard::default();
        pieces.iter().try_for_each(|piece| guard.look(piece))
    });
    assert_eq!(whole, bytewise, "{}", stream.escape_ascii());
    assert_eq!(whole, halves, "{}", stream.escape_ascii());
    if whole.is_ok() {
        assert!(names(stream).is_empty(), "{}", stream.escape_ascii());
    }
    if let Ok((path, query)) = resolve(&UPSTREAM, stream) {
        leads_there(&UPSTREAM, stream, &path, query.as_deref());
    }
}

fn rewritten(pieces: &[&[u8]]) -> Result<Vec<u8>, EndpointError> {
    let seal = |path: &str, query: Option<&str>| match query {
        Some(query) => format!("{SEAL}{path}?{query}"),
        None => format!("{SEAL}{path}"),
    };
    let mut rewriter = EndpointRewriter::new(UPSTREAM.clone(), seal);
    let mut out = Vec::new();
    for piece in pieces {
        out.extend(rewriter.push(Bytes::copy_from_slice(piece))?);
    }
    out.extend(rewriter.finish());
    Ok(out)
}

/// Names of events that begin as the `endpoint` event's does, to whichever client.
fn names(stream: &[u8]) -> Vec<String> {
    let names = event_reference::names_to_anybody(stream);
    names.into_iter().filter(|name| name.starts_with("endpoint")).collect()
}

fn passes(stream: &[u8], out: &[u8]) {
    let (before, after) = (event_reference::read(stream).events, event_reference::read(out).events);
    assert_eq!(before.len(), after.len(), "{}", stream.escape_ascii());
    let mut sealed = 0;
    for (before, after) in before.iter().zip(&after) {
        if before.name == b"endpoint" {
            assert!(after.data.starts_with(SEAL.as_bytes()), "{}", out.escape_ascii());
            assert_eq!(after.name, before.name);
            sealed += 1;
        } else {
            assert_eq!(before, after);
        }
    }
    assert!(sealed <= 1, "{}", out.escape_ascii());
    let by_lf: Vec<Event> = event_reference::read_by_lf(out).events;
    let named = by_lf.iter().filter(|event| event.name.starts_with(b"endpoint"));
    assert!(named.clone().count() <= 1);
    assert!(named.clone().all(|event| event.data.starts_with(SEAL.as_bytes())), "{}", out.escape_ascii());
    for data in event_reference::endpoints_to_the_lenient(out) {
        assert!(data.starts_with(SEAL), "{}", out.escape_ascii());
    }
    // One name is written once and for all; a cut-off event may have been named again and again, and nobody takes it.
    if sealed == 1 {
        let end = out.windows(SEAL.len()).position(|part| part == SEAL.as_bytes()).expect("is there");
        let behind = out[end..].windows(2).position(|two| matches!(two, b"\n\n" | b"\r\r" | b"\n\r"));
        let behind = behind.map_or(&[][..], |at| &out[end + at + 2..]);
        assert!(names(behind).is_empty(), "{}", out.escape_ascii());
    }
}

/// Whether the parts of a URL lead where the reference led, at the same origin, and can be written into a request line.
fn leads_there(upstream: &Url, reference: &[u8], path: &str, query: Option<&str>) {
    let reference = std::str::from_utf8(reference).expect("was read").trim_matches(' ');
    let there = upstream.join(reference).expect("was read");
    assert_eq!(there.origin(), upstream.origin());
    assert_eq!(there.path(), path);
    assert!(path.starts_with('/'));
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    assert!(target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'), "{target:?}");
    let again = upstream.join(&format!("http://tools.internal:3000{target}")).expect("a URL");
    assert_eq!((again.path(), again.query()), (there.path(), there.query()));
}
