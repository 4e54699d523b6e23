//! One thing that is wrong with a config, where it is, and how to mend it.

use std::{fmt, path::PathBuf};

use crate::config::report::shown;

/// How bad a [`Problem`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Worth knowing: something in the file has no effect, or a default with consequences applies.
    Notice,
    /// Works, and is probably not what was meant or not safe.
    Warning,
    /// A file that the config names cannot be used: the certificate that was there before stays, or a credential is closed.
    /// Everything else is taken.
    Part,
    /// The config cannot be used.
    Error,
}

/// One finding about a config file.
///
/// Displayed as `file:line:column: key.path: message`, the form that editors and CI turn into a link; a
/// warning and a notice say so in front of their message. The message never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether the config can still be used.
    pub severity: Severity,
    /// The config file, as it was named to [`load`](crate::config::load).
    pub file: PathBuf,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Where in the document (`proxy.auth.tokens.ci[1].sha256`); empty if the document could not be parsed.
    pub key_path: String,
    /// What is wrong, and how to mend it.
    pub message: String,
    /// The line of the file with a mark below the place, or nothing. What may be a secret is left out of it.
    pub excerpt: String,
}

impl Problem {
    /// For people in front of a terminal: the problem on a line of its own, and below it where that is.
    pub fn with_excerpt(&self) -> String {
        format!("{self}\n{}", self.excerpt)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file.display(), self.line, self.column)?;
        if !self.key_path.is_empty() {
            write!(f, "{}: ", self.key_path)?;
        }
        f.write_str(match self.severity {
            Severity::Part | Severity::Error => "",
            Severity::Warning => "warning: ",
            Severity::Notice => "notice: ",
        })?;
        f.write_str(&self.message)
    }
}

/// A spot in the document that a problem can point to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Location {
    /// Byte offset in the text.
    pub(crate) offset: usize,
    /// Key path from the root, `""` for the root itself.
    pub(crate) path: String,
}

impl Location {
    pub(crate) fn key(&self, key: &str, offset: usize) -> Self {
        let is_plain = |key: &str| {
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '$');
            !key.is_empty() && key.chars().all(fits)
        };
        let path = match (self.path.as_str(), shown::name(key)) {
            ("", Some(key)) if is_plain(key) => key.to_owned(),
            (parent, Some(key)) if is_plain(key) => format!("{parent}.{key}"),
            (parent, Some(key)) => format!("{parent}[{key:?}]"),
            (parent, None) => format!("{parent}[{}]", shown::HIDDEN),
        };
        Self { offset, path }
    }

    pub(crate) fn index(&self, index: usize, offset: usize) -> Self {
        Self { offset, path: format!("{}[{index}]", self.path) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_one_line_that_an_editor_can_follow() {
        let mut problem = Problem {
            severity: Severity::Error,
            file: "gate.json".into(),
            line: 3,
            column: 14,
            key_path: "proxy.addr".into(),
            message: "has no port; write \":8443\"".into(),
            excerpt: String::new(),
        };
        assert_eq!(problem.to_string(), "gate.json:3:14: proxy.addr: has no port; write \":8443\"");
        problem.severity = Severity::Warning;
        assert_eq!(problem.to_string(), "gate.json:3:14: proxy.addr: warning: has no port; write \":8443\"");
    }

    #[test]
    fn key_paths_stay_readable_and_on_one_line_whatever_the_key() {
        let root = Location { offset: 0, path: String::new() };
        let tokens = root.key("proxy", 1).key("tokens", 2);
        assert_eq!(tokens.key("ci-1", 3).index(1, 4).path, "proxy.tokens.ci-1[1]");
        assert_eq!(tokens.key("a.b", 3).path, "proxy.tokens[\"a.b\"]");
        for odd in ["a.b\n", "sg_secret", &"long".repeat(11)] {
            assert_eq!(tokens.key(odd, 3).key("id", 4).path, "proxy.tokens[…].id");
        }
    }
}
