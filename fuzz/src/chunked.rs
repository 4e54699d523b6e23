//! The decoder of chunked bodies, against one that reads line by line and is not in a hurry.

use std::ops::Range;

use sluicegate::upstream::codec::Chunked;

/// What came of a body.
#[derive(Debug, PartialEq)]
pub struct Decoded {
    pub payload: Vec<u8>,
    /// How many bytes belong to it, if its end is there.
    pub end: Option<usize>,
    /// It has an extension, a trailer, or a size with zeros that it does not need.
    pub is_odd: bool,
}

/// The first byte says where the others are cut.
pub fn run(input: &[u8]) {
    let Some((&at, body)) = input.split_first() else { return };
    let wanted = reference(body);
    for pieces in super::cuts(body, at) {
        assert_eq!(decode(&pieces), wanted, "{}", body.escape_ascii());
    }
}

fn decode(pieces: &[&[u8]]) -> Option<Decoded> {
    let mut chunked = Chunked::default();
    let (mut payload, mut before, mut is_odd) = (Vec::new(), 0, false);
    for piece in pieces {
        let mut at = 0;
        let mut ranges: Vec<Range<usize>> = Vec::new();
        let here = chunked.decode(
            piece,
            |range| {
                assert!(at <= range.start && range.start <= range.end && range.end <= piece.len());
                at = range.end;
                payload.extend_from_slice(&piece[range.clone()]);
            },
            |range| ranges.push(range),
        );
        let here = here.ok()?;
        assert!(ranges.iter().all(|range| range.start < range.end && range.end <= here));
        assert!(ranges.windows(2).all(|two| two[0].end <= two[1].start));
        is_odd |= !ranges.is_empty();
        before += here;
        if chunked.is_done() {
            return Some(Decoded { payload, end: Some(before), is_odd });
        }
        assert_eq!(here, piece.len());
    }
    Some(Decoded { payload, end: None, is_odd })
}

/// Reads a body by RFC 9112, section 7.1, with the gateway's bounds; `None` if it is malformed.
pub fn reference(input: &[u8]) -> Option<Decoded> {
    let mut decoded = Decoded { payload: Vec::new(), end: None, is_odd: false };
    let mut rest = input;
    loop {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let text = std::str::from_utf8(&rest[..digits]).ok()?;
        if digits > 16 || digits == 0 && !rest.is_empty() {
            return None;
        }
        let size = if digits == 0 { 0 } else { i64::from_str_radix(text, 16).ok()? as usize };
        decoded.is_odd |= digits > 1 && text.starts_with("00");
        rest = &rest[digits..];
        let line = line(rest);
        match line.first() {
            None => {}
            Some(b';') => {
                decoded.is_odd = true;
                if line.len() > 1 + 1024 || !line.iter().all(is_text) {
                    return None;
                }
            }
            Some(_) => return None,
        }
        rest = &rest[line.len()..];
        let Some(behind) = skip(rest, b"\r\n")? else { return Some(decoded) };
        rest = behind;
        if size == 0 {
            break;
        }
        let here = size.min(rest.len());
        decoded.payload.extend_from_slice(&rest[..here]);
        rest = &rest[here..];
        if here < size {
            return Some(decoded);
        }
        let Some(behind) = skip(rest, b"\r\n")? else { return Some(decoded) };
        rest = behind;
    }
    let mut trailers = 0;
    loop {
        let line = line(rest);
        trailers += line.len();
        decoded.is_odd |= !line.is_empty();
        if trailers > 16 * 1024 || !line.iter().all(is_text) {
            return None;
        }
        rest = &rest[line.len()..];
        let Some(behind) = skip(rest, b"\r\n")? else { return Some(decoded) };
        rest = behind;
        if line.is_empty() {
            decoded.end = Some(input.len() - rest.len());
            return Some(decoded);
        }
    }
}

/// What stands before the next CR.
fn line(text: &[u8]) -> &[u8] {
    &text[..text.iter().position(|byte| *byte == b'\r').unwrap_or(text.len())]
}

fn is_text(byte: &u8) -> bool {
    *byte == b'\t' || !byte.is_ascii_control()
}

/// What stands behind `wanted`: `Some(None)` if the text ends within it.
#[expect(clippy::option_option, reason = "malformed, not here yet, here")]
fn skip<'a>(text: &'a [u8], wanted: &[u8]) -> Option<Option<&'a [u8]>> {
    match text.strip_prefix(wanted) {
        Some(behind) => Some(Some(behind)),
        None => wanted.starts_with(text).then_some(None),
    }
}
