//! A body that passes with its framing: what goes on is the same body, however it is cut, and with comments put in between its
//! events also the same events.

use sluicegate::{
    mcp::sse::endpoint_guard::EndpointGuard,
    upstream::{RawFraming, codec::Framing},
};

use super::{chunked, event_reference};

/// A comment as the relay puts it in.
const COMMENT: &[u8] = b"3\r\n:\n\n\r\n";

/// The first byte says how the body is framed and whether there are comments, the second where it is cut.
pub fn run(input: &[u8]) {
    let &[mode, at, ref body @ ..] = input else { return };
    match mode % 4 {
        0 => by_length(body, usize::from(mode / 4), at),
        1 => by_chunks(body, at, false),
        2 => by_chunks(body, at, true),
        _ => with_comments(body, at),
    }
}

/// What passes of a body, and whether it is at its end; `None` if it is broken off.
fn pass(
    framing: Framing,
    guard: Option<EndpointGuard>,
    pieces: &[&[u8]],
    comments: bool,
) -> Option<(Vec<u8>, usize, bool)> {
    let mut raw = RawFraming::new(framing, guard);
    let (mut out, mut payload) = (Vec::new(), 0);
    for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
        if raw.is_end() {
            break;
        }
        if comments && raw.is_between_events() {
            raw.comment();
            out.extend_from_slice(COMMENT);
            payload += 3;
        }
        let passed = raw.push(piece).ok()?;
        assert!(passed.here == piece.len() || raw.is_end());
        payload += passed.payload;
        match passed.instead {
            Some(instead) => out.extend_from_slice(&instead),
            None => out.extend_from_slice(&piece[..passed.here]),
        }
    }
    Some((out, payload, raw.is_end()))
}

fn by_length(body: &[u8], length: usize, at: u8) {
    let whole = &body[..length.min(body.len())];
    for pieces in super::cuts(body, at) {
        let passed = pass(Framing::Length(length as u64), None, &pieces, false);
        assert_eq!(passed, Some((whole.to_vec(), whole.len(), whole.len() == length)));
    }
}

fn by_chunks(body: &[u8], at: u8, guarded: bool) {
    let read = chunked::reference(body);
    let is_stray = |payload: &[u8]| guarded && EndpointGuard::default().look(payload).is_err();
    let wanted = read.filter(|read| !is_stray(&read.payload));
    for pieces in super::cuts(body, at) {
        let guard = guarded.then(EndpointGuard::default);
        let passed = pass(Framing::Chunked, guard, &pieces, false);
        assert_eq!(passed.is_some(), wanted.is_some(), "{}", body.escape_ascii());
        let (Some((out, payload, is_end)), Some(wanted)) = (passed, &wanted) else { continue };
        assert_eq!((payload, is_end), (wanted.payload.len(), wanted.end.is_some()));
        is_plain(&out, &wanted.payload, is_end);
    }
}

/// Whether what passed decodes to this payload, and has nothing that needs not be there.
fn is_plain(out: &[u8], payload: &[u8], is_end: bool) {
    let read = chunked::reference(out).expect("what passes is well-formed");
    assert_eq!(read.payload, payload, "{}", out.escape_ascii());
    assert_eq!(read.end.is_some(), is_end);
    assert!(read.end.is_none_or(|end| end == out.len()));
    assert!(!read.is_odd, "{}", out.escape_ascii());
}

fn with_comments(body: &[u8], at: u8) {
    let Some(wanted) = chunked::reference(body) else { return };
    for pieces in super::cuts(body, at) {
        // A byte order mark in parts behind a comment is refused; no other stream is.
        let Some((out, payload, is_end)) = pass(Framing::Chunked, None, &pieces, true) else {
            assert!(wanted.payload.starts_with(b"\xEF"), "{}", body.escape_ascii());
            continue;
        };
        let read = chunked::reference(&out).expect("what passes is well-formed");
        assert_eq!((read.payload.len(), read.end.is_some()), (payload, is_end));
        assert_eq!(
            event_reference::read(&read.payload),
            event_reference::read(&wanted.payload),
            "{}",
            out.escape_ascii()
        );
        if !wanted.payload.contains(&b'\r') {
            let by_lf = event_reference::read_by_lf(&read.payload);
            assert_eq!(by_lf, event_reference::read_by_lf(&wanted.payload), "{}", out.escape_ascii());
        }
    }
}
