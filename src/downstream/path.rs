//! Paths that all parsers read alike.

/// Whether two parsers agree on where `path` leads: no empty or dot segments, nothing encoded that would make one,
/// no backslash, control byte or byte beyond ASCII.
///
/// A stranger may send 8 KiB of path with every request, so each look at it is a loop without branches, which the compiler
/// makes vector instructions of: together they cost less than a tenth of the request.
pub fn is_canonical(path: &str) -> bool {
    const ODD: u8 = 1;
    const DOT: u8 = 2;
    const ESCAPE: u8 = 4;
    let bytes = path.as_bytes();
    // What most paths have none of is not looked at any closer. Nothing branches, so that a long path is no work.
    let has = bytes.iter().fold(0, |has, &c| {
        let is_odd = !(b'!'..=b'~').contains(&c)
            | (c == b'\\')
            | (c == b'#')
            | (c == b'"')
            | (c == b'<')
            | (c == b'>');
        has | (u8::from(is_odd) * ODD) | (u8::from(c == b'.') * DOT) | (u8::from(c == b'%') * ESCAPE)
    });
    bytes.first() == Some(&b'/')
        && has & ODD == 0
        && !any_window(bytes, |[a, b]| (a == b'/') & (b == b'/'))
        && (has & DOT == 0 || !has_dot_segment(bytes))
        && (has & ESCAPE == 0 || !has_odd_escape(bytes))
}

/// Whether a segment is dots.
fn has_dot_segment(path: &[u8]) -> bool {
    let (slash, dot) = (b'/', b'.');
    any_window(path, |[a, b, c]| (a == slash) & (b == dot) & (c == slash))
        || any_window(path, |[a, b, c, d]| (a == slash) & (b == dot) & (c == dot) & (d == slash))
        || path.ends_with(b"/.")
        || path.ends_with(b"/..")
}

/// Whether an escape is none, or stands for a control character or for one of `.`, `/`, `\` and `%`.
fn has_odd_escape(path: &[u8]) -> bool {
    let is_hex = |c: u8| (c.wrapping_sub(b'0') < 10) | ((c | 0x20).wrapping_sub(b'a') < 6);
    let end = &path[path.len().saturating_sub(2)..];
    end.contains(&b'%')
        || any_window(path, |[escape, high, low]| {
            // Digits have this bit; letters are made lower case by it.
            let low = low | 0x20;
            let is_control = (high == b'0') | (high == b'1') | (high == b'7') & (low == b'f');
            let is_odd = (high == b'2') & ((low == b'5') | (low == b'e') | (low == b'f'))
                | (high == b'5') & (low == b'c');
            (escape == b'%') & (!(is_hex(high) & is_hex(low)) | is_control | is_odd)
        })
}

/// Whether any `N` bytes in a row are such. `is_such` must not branch.
fn any_window<const N: usize>(bytes: &[u8], is_such: impl Fn([u8; N]) -> bool) -> bool {
    let windows = (bytes.len() + 1).saturating_sub(N);
    // Slices of one length, so that nothing is left to check in the loop.
    let shifted: [&[u8]; N] = std::array::from_fn(|by| bytes.get(by..by + windows).unwrap_or_default());
    (0..windows).fold(false, |found, at| found | is_such(std::array::from_fn(|by| shifted[by][at])))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [`is_canonical`] as one would write it who does not count instructions.
    fn is_canonical_by_the_letter(path: &str) -> bool {
        let segments: Vec<_> = path.split('/').skip(1).collect();
        let escapes_agree = path.match_indices('%').all(|(at, _)| {
            let hex = path.get(at + 1..at + 3).filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
            let code = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
            code.is_some_and(|code| !code.is_ascii_control() && !b"./\\%".contains(&code))
        });
        path.starts_with('/')
            && path.bytes().all(|b| b.is_ascii_graphic() && !b"\\#\"<>".contains(&b))
            && !segments.iter().any(|segment| [".", ".."].contains(segment))
            && segments.iter().rev().skip(1).all(|segment| !segment.is_empty())
            && escapes_agree
    }

    proptest::proptest! {
        #[test]
        fn what_is_canonical_does_not_depend_on_how_it_is_looked_at(
            path in proptest::string::string_regex("/?([/.%a-c0-9A-F\\\\#\"<> é\u{1}\u{7f}]|%[2-7][0-9a-fA-F]|/\\.{1,3}|/[a-z]{1,9}){0,12}").unwrap(),
        ) {
            proptest::prop_assert_eq!(is_canonical(&path), is_canonical_by_the_letter(&path), "{}", path);
        }
    }

    #[test]
    fn every_escape_is_what_it_stands_for() {
        for code in 0..=u8::MAX {
            for path in [format!("/%{code:02x}"), format!("/a%{code:02X}b/c")] {
                assert_eq!(is_canonical(&path), is_canonical_by_the_letter(&path), "{path}");
            }
        }
    }

    #[test]
    fn a_path_that_two_parsers_could_read_differently_is_not_canonical() {
        for good in ["/", "/db/mcp", "/db/mcp/", "/a%20b", "/a-b_c~d", "/.well-known/x", "/a..b", "/..."] {
            assert!(is_canonical(good), "{good}");
        }
        for bad in [
            "",
            "db",
            "*",
            "//db",
            "/db//mcp",
            "/./db",
            "/db/..",
            "/db/../x",
            "/db/.",
            "/%2e/db",
            "/%2E%2e/db",
            "/db%2fmcp",
            "/db%2Fmcp",
            "/db%5cmcp",
            "/db\\mcp",
            "/db%00",
            "/db%0a",
            "/db\u{7f}",
            "/dé",
            "/db%",
            "/db%2",
            "/db%zz",
            "/db%4g",
            "/db%4:",
            "/db%g4",
            "/db%+1",
            "/%252e",
            "/db#x",
            "/db mcp",
        ] {
            assert!(!is_canonical(bad), "{bad}");
        }
    }
}
