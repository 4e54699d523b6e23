//! What the names of users may be. Logs and commands show them, and rules name them.

/// What is wrong with the name of a user, if something is.
pub fn user_name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() || name.len() > 128 || name.contains(|c: char| c.is_control() || c == ':') {
        return Some("a user needs a name of 1 to 128 characters on one line, without a colon; logs show it");
    }
    if name.contains(is_format) {
        return Some(
            "the name of a user has a character that nobody sees, or that changes what is shown of others; leave it out",
        );
    }
    if name.starts_with(char::is_whitespace) || name.ends_with(char::is_whitespace) {
        return Some("the name of a user begins or ends with a blank, which nobody sees; leave it out");
    }
    (name == "*").then_some(
        "a user cannot be called `*`, which looks like a rule for all of them; choose another name",
    )
}

/// Whether a character shows nothing of its own and may change what is shown of others, or end a line for some readers: those of the
/// Unicode categories Cf, Zl and Zp, as of Unicode 17.
pub fn is_format(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_what_people_see_of_it() {
        let most = "n".repeat(128);
        for good in ["alice", "Jörg", "alice@example.com", "Alice B.", "a*", "李", &most] {
            assert_eq!(user_name_fault(good), None, "{good}");
        }
        let too_long = "n".repeat(129);
        for (bad, words) in [
            ("", "1 to 128"),
            (&*too_long, "1 to 128"),
            ("a:b", "without a colon"),
            ("a\nb", "on one line"),
            ("a\u{7f}", "on one line"),
            ("a\u{202e}b", "nobody sees"),
            ("\u{feff}a", "nobody sees"),
            (" a", "with a blank"),
            ("a\u{a0}", "with a blank"),
            ("*", "cannot be called `*`"),
        ] {
            assert!(user_name_fault(bad).is_some_and(|fault| fault.contains(words)), "{bad:?}");
        }
    }
}
