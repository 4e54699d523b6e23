//! Where a config says what decides who may do what: for `sluicegate explain` and the audit. Nothing that runs depends on it,
//! so that a line that moves in the file changes nothing.

use std::{collections::HashMap, fmt, sync::Arc};

use crate::config::{access::Rule, read::lines::LineIndex, report::problem::Location};

/// The entry of a config that a rule belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RuleOf {
    /// The server of this name.
    Server(Arc<str>),
    /// The credential with this SHA-256.
    Credential([u8; 32]),
    /// The user of this name.
    User(Arc<str>),
    /// The client of this name.
    Client(Arc<str>),
    /// `proxy.auth` as a whole.
    Auth,
}

/// A line of a config file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleLine {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Where in the document: `mcpServers.db.authTokens`.
    pub key_path: String,
}

/// As editors follow it, behind the name of the file.
impl fmt::Display for RuleLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.key_path)
    }
}

/// The lines of all rules of a config.
#[derive(Debug, Default)]
pub struct RuleLines(HashMap<(RuleOf, Rule), RuleLine>);

impl RuleLines {
    /// The line of a rule.
    pub fn get(&self, of: RuleOf, rule: Rule) -> Option<&RuleLine> {
        self.0.get(&(of, rule))
    }

    /// Of two rules of one kind, the first counts.
    pub(super) fn new(found: Vec<(RuleOf, Rule, Location)>, lines: &LineIndex<'_>) -> Self {
        let mut all = HashMap::with_capacity(found.len());
        for (of, rule, Location { offset, path: key_path }) in found {
            let (line, column) = lines.position(offset);
            all.entry((of, rule)).or_insert(RuleLine { line, column, key_path });
        }
        Self(all)
    }
}
