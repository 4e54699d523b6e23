//! Text of others as people may see it, and times.

use std::{
    fmt::{self, Write as _},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// A text that somebody else may have written, on one line: what is invisible, or turns the direction of what follows, shows as
/// its code, and what is too long is cut. A template escapes it besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown<'a> {
    text: &'a str,
    most: usize,
}

/// Characters of a name, of which there may be several in a sentence.
const LONGEST_NAME: usize = 80;
/// Characters of anything else. A host name has at most 253, and is never cut: what counts is its end.
const LONGEST: usize = 512;

/// The name that somebody has at an identity provider, with the provider behind it: they have chosen it, and are not to be taken for a user
/// of the config. It is short enough that it is not [`Shown`] without the provider.
pub fn name_by(name: &str, provider: &str) -> String {
    let by = format!(" ({provider})");
    let most = LONGEST_NAME.saturating_sub(by.chars().count()).max(LONGEST_NAME / 2);
    match name.char_indices().nth(most) {
        Some(_) => name.chars().take(most - 1).chain(['…']).chain(by.chars()).collect(),
        None => name.to_owned() + &by,
    }
}

impl<'a> Shown<'a> {
    /// How somebody or something is called.
    pub fn name(text: &'a str) -> Self {
        Self { text, most: LONGEST_NAME }
    }

    /// Something else: a host, a URL.
    pub fn text(text: &'a str) -> Self {
        Self { text, most: LONGEST }
    }
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.text.trim();
        if text.is_empty() {
            return f.write_str("(no name)");
        }
        for (at, c) in text.chars().enumerate() {
            if at == self.most {
                return f.write_char('…');
            }
            if is_odd(c) { write!(f, "⟨U+{:04X}⟩", u32::from(c))? } else { f.write_char(c)? }
        }
        Ok(())
    }
}

/// Whether `c` cannot be seen, or changes how others are seen: control characters, the `Bidi_Control` and most of the
/// `Default_Ignorable_Code_Point` of Unicode, separators of lines, blanks that are none of ASCII.
fn is_odd(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(
            c,
            '\u{ad}'
                | '\u{34f}'
                | '\u{61c}'
                | '\u{115f}'
                | '\u{1160}'
                | '\u{17b4}'
                | '\u{17b5}'
                | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}'
                | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{2800}'
                | '\u{3164}'
                | '\u{feff}'
                | '\u{ffa0}'
                | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// A time of day, as `2026-11-27 17:40 UTC`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(pub SystemTime);

impl Moment {
    /// As machines read it.
    pub fn machine(self) -> String {
        // What the formatter takes: from 1970 to the year 9999.
        let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
        humantime::format_rfc3339_seconds(self.0.clamp(UNIX_EPOCH, last)).to_string()
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.machine();
        let (day, time) = text.split_once('T').unwrap_or((&text, ""));
        write!(f, "{day} {} UTC", time.get(..5).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_shows_as_its_code() {
        for (text, wanted) in [
            ("Claude Code", "Claude Code"),
            ("  padded ", "padded"),
            ("a\u{202e}b\nc", "a⟨U+202E⟩b⟨U+000A⟩c"),
            ("\u{feff}\u{85}\u{200b}", "⟨U+FEFF⟩⟨U+0085⟩⟨U+200B⟩"),
            ("\u{e0041}\u{2028}\u{a0}x", "⟨U+E0041⟩⟨U+2028⟩⟨U+00A0⟩x"),
            ("שלום 你好 🦀 é", "שלום 你好 🦀 é"),
            ("", "(no name)"),
            (" \u{3000}\t", "(no name)"),
        ] {
            assert_eq!(Shown::name(text).to_string(), wanted, "{text:?}");
        }
    }

    #[test]
    fn a_long_name_is_cut_and_the_end_of_a_host_is_not() {
        assert_eq!(Shown::name(&"é".repeat(81)).to_string(), "é".repeat(80) + "…");
        let host = "a.".repeat(126) + "x";
        assert_eq!(Shown::text(&host).to_string(), host);
        assert_eq!(Shown::text(&"x".repeat(1 << 20)).to_string().chars().count(), LONGEST + 1);
    }

    #[test]
    fn who_is_of_the_identity_provider_is_marked_as_that_however_they_are_called() {
        let long = "a".repeat(500);
        for (name, by, wanted) in [
            ("alice@corp.example", "Google", "alice@corp.example (Google)"),
            ("user:root", "Google", "user:root (Google)"),
            ("root\u{202e}", "Google", "root⟨U+202E⟩ (Google)"),
            (&long, "Google", &*format!("{}… (Google)", "a".repeat(70))),
            (&long, &long, &format!("{}… ({}…", "a".repeat(39), "a".repeat(38))),
        ] {
            assert_eq!(Shown::name(&name_by(name, by)).to_string(), wanted);
        }
    }

    #[test]
    fn a_time_is_one_of_the_day_in_utc() {
        let moment = Moment(UNIX_EPOCH + Duration::from_secs(1_795_801_234));
        assert_eq!(moment.to_string(), "2026-11-27 17:40 UTC");
        assert_eq!(moment.machine(), "2026-11-27T17:40:34Z");
        let late = Moment(UNIX_EPOCH + Duration::from_secs(1 << 40));
        assert_eq!(late.to_string(), "9999-12-31 23:59 UTC");
    }
}
