//! Paths that all parsers read alike: by the letter of the rule, and by a parser of URLs.

use sluicegate::downstream::path::is_canonical;
use url::Url;

/// The whole input is a path.
pub fn run(input: &[u8]) {
    let Ok(path) = std::str::from_utf8(input) else { return };
    let is = is_canonical(path);
    assert_eq!(is, reference(path), "{path:?}");
    if !is {
        return;
    }
    // Browsers and servers that go by the URL standard leave it as it is, but for characters that they escape.
    let escaped = |c: char| matches!(c, '?' | '^' | '`' | '{' | '}' | '|');
    if !path.contains(escaped) {
        let url = Url::parse(&format!("http://host{path}")).expect("a URL");
        assert_eq!(url.path(), path);
    }
    // Nor does it change its place where its escapes are taken off first.
    let plain = percent_encoding::percent_decode_str(path).collect::<Vec<u8>>();
    let slashes = |path: &[u8]| path.iter().filter(|byte| **byte == b'/').count();
    assert_eq!(slashes(&plain), slashes(path.as_bytes()));
    assert!(!plain.contains(&b'%') && !plain.contains(&b'\\') && !plain.iter().any(u8::is_ascii_control));
}

fn reference(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let segments: Vec<_> = rest.split('/').collect();
    let (last, before) = segments.split_last().expect("there is one");
    before.iter().all(|segment| !segment.is_empty() && is_plain(segment)) && is_plain(last)
}

/// Whether a segment is no dots, and has only what stands for itself, or escapes of what has to be escaped.
fn is_plain(segment: &str) -> bool {
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()].map(|digit| {
                    digit
                        .and_then(|digit| char::from(digit).to_digit(16))
                        .and_then(|it| u8::try_from(it).ok())
                });
                let [Some(high), Some(low)] = digits else { return false };
                let meant = high << 4 | low;
                if meant < 0x20 || matches!(meant, 0x7f | b'%' | b'.' | b'/' | b'\\') {
                    return false;
                }
            }
            b'\\' | b'#' | b'"' | b'<' | b'>' => return false,
            0x21..=0x7e => {}
            _ => return false,
        }
    }
    segment != "." && segment != ".."
}
