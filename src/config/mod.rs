//! From the file that people edit to an immutable [`Snapshot`].
//!
//! `parse` (text to tree) → `reader` and `fields` (a typed view that notes every problem and goes on) → `resolve` and the
//! parts it calls (`access`, `aggregate`, `bind`, `callers`, `command`, `inline`, `issuers`, `limits`, `oauth`, `programs`, `schemes`, `servers`,
//! `tenants`, `tls`, `tokens`, `users`) → `snapshot`. Outside the file, only the environment, the files that it names and the
//! clock are looked at.
//!
//! What is wrong is reported in file order, by `lines` (where), `excerpt` (the line, without what may be secret),
//! `syntax` (texts that are no JSON), `hint` and `foreign` (words that are no keys); `lexer` gives them tokens of any
//! text.
//!
//! `edit` changes a text and leaves all else of it as it is, and `rewrite` puts that into the file.
//!
//! `table` has one entry for each key, in the words of `key`. From it come the names, ranges, words and defaults that
//! `fields` goes by, the JSON Schema (`schema`) and `docs/config.md` (`page_tests`).

mod access;
pub(crate) mod edit;
mod hung;
mod idp;
mod issuers;
#[cfg(test)]
mod messages_tests;
mod names;
mod oauth;
#[cfg(test)]
mod page_tests;
pub mod read;
mod redirect;
pub mod report;
mod resolve;
pub(crate) mod rewrite;
mod roots;
mod rule_lines;
mod schemes;
mod scope_word;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod tool_rules;
mod upstream_auth;
pub mod watch;

use std::{
    cmp::Reverse,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};

pub use crate::config::{
    access::{ADMIN, Access, CallerLimits, Rule, RuleName, RuleSubject},
    idp::{IdpConfig, IdpProvider},
    issuers::{Assignment, Condition, Introspection, Issuer},
    names::{is_format, user_name_fault},
    oauth::{ClientKey, ClientProof, GrantTypes, OauthClient, OauthConfig, Registration, ScopeTags},
    read::{context::Unread, reference::Env},
    redirect::{LONGEST_REDIRECT_URI, RedirectFault, RedirectTarget, is_at, is_same_redirect},
    report::{
        problem::{Problem, Severity},
        schema::schema,
    },
    resolve::{
        STATE_DIRECTORY,
        remaining::{Remaining, RemainingAccess},
    },
    roots::SystemRoots,
    rule_lines::{RuleLine, RuleLines, RuleOf},
    schemes::Schemes,
    scope_word::ScopeWord,
    snapshot::*,
    table::INHERITED,
    tool_rules::{ToolAccess, ToolPattern, ToolRule, ToolRules},
    upstream_auth::*,
};
use crate::config::{
    read::{
        context::{Context, Finding},
        files::{self, FileContents, Unreadable},
        known,
        lines::LineIndex,
        named,
        parse::{self, SyntaxFault},
        reader::Node,
    },
    report::{excerpt::Excerpts, problem::Location, redacted::redacted},
};
pub(crate) use crate::config::{
    report::{
        hint::closest as closest_name,
        shown::{first_names, name as shown_name, path as shown_path, variable as shown_variable},
    },
    resolve::{oauth::is_loopback, tokens::in_utc},
};

/// Names that no server can have, since paths of the gateway's own begin with them.
#[cfg(test)]
pub(crate) fn reserved_names() -> &'static [&'static str] {
    table::SERVER_NAMES.reserved
}

/// Keys that take effect at the next start, as the log names them: `proxy.` left out, the part in brackets.
#[cfg(test)]
pub(crate) fn restart_keys() -> Vec<String> {
    let mut found = Vec::new();
    for (path, object) in table::key::objects(&table::ROOT) {
        let path = path.trim_start_matches("proxy").trim_start_matches('.').to_owned();
        for (key, part) in object.keys.iter().filter_map(|key| Some((key, key.restart?))) {
            let dot = if path.is_empty() { "" } else { "." };
            let part = if part.is_empty() { String::new() } else { format!(" ({part})") };
            found.push(format!("{path}{dot}{}{part}", key.name));
        }
    }
    found
}

/// Most problems that are reported; of the rest, their number is.
const MOST_PROBLEMS: usize = 100;

/// What came of reading a config.
#[derive(Debug)]
pub struct Loaded {
    /// The config, if none of the problems is an [error](Severity::Error).
    pub snapshot: Option<Snapshot>,
    /// What the file grants, if that can be known; also if there is no snapshot.
    pub remaining: Option<Remaining>,
    /// What was found, in file order: a hundred problems at most, and then one that says how many more
    /// there are. Beside an error, notices are left out.
    pub problems: Vec<Problem>,
    /// Every file that was looked at, the config first. They are here even if loading failed, because a change of
    /// any of them is a reason to try again.
    pub files: Vec<PathBuf>,
    /// Which of them were not read, and why.
    pub unread: Unread,
    /// Where the file says who may do what.
    pub rules: Arc<RuleLines>,
    /// Every credential of which the token is known, with the offset in the text at which it is; also if there is no
    /// snapshot.
    pub credentials: Vec<(usize, Credential)>,
    /// Every error, also of those that `problems` only counts.
    pub(crate) errors: Vec<Finding>,
}

/// Reads the config at `path`; `env` looks up the variables that it refers to.
///
/// Never fails early: all problems are returned together, and the caller decides what to do with them.
pub fn load(path: &Path, env: &Env<'_>) -> Loaded {
    load_at(path, env, SystemTime::now())
}

/// [`load`], as if `bytes` were in the file.
pub(crate) fn load_bytes(path: &Path, bytes: &[u8], env: &Env<'_>) -> Loaded {
    let cx = Context::new(path, env, SystemTime::now());
    if bytes.len() as u64 > files::MAX_BYTES {
        return unreadable(cx, &Unreadable::TooLarge);
    }
    let contents = FileContents { bytes: bytes.to_vec().into(), world_readable: false };
    load_contents(cx, &contents)
}

impl Loaded {
    /// Whether all of the config can be used, and all files that it names.
    pub fn is_whole(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity < Severity::Part)
    }
}

/// The keys that lead to the tokens, users, issuers and clients.
const AROUND_TOKENS: [&str; 8] = [
    "proxy",
    "proxy.auth",
    "proxy.auth.tokens",
    "proxy.auth.users",
    "proxy.auth.issuers",
    "proxy.auth.assign",
    "proxy.auth.clients",
    "proxy.auth.idJag",
];

/// The server of which something is there twice that says who may use it.
fn unclear_server(fault: &SyntaxFault) -> Option<Arc<str>> {
    let path = fault.at.path.strip_prefix("mcpServers.")?;
    let (name, key) = path.split_once('.').unwrap_or((path, ""));
    let keys =
        ["", "authTokens", "users", "roles", "tags", "public", "disabled", "options", "options.authTokens"];
    (keys.contains(&key) || key == "tools" || key.starts_with("tools.")).then(|| name.into())
}

/// [`load`] as of the moment `now`, which decides what has expired.
fn load_at(path: &Path, env: &Env<'_>, now: SystemTime) -> Loaded {
    let cx = Context::new(path, env, now);
    match files::read_config(path) {
        Ok(contents) => load_contents(cx, &contents),
        Err(reason) => unreadable(cx, &reason),
    }
}

fn unreadable(mut cx: Context<'_>, reason: &Unreadable) -> Loaded {
    cx.error(&Location::default(), format!("the config {reason}; {}", reason.way_out()));
    cx.unread.lacks_descriptors = reason.is_lack();
    finish(cx, None, "", &LineIndex::new(""), None)
}

fn load_contents(mut cx: Context<'_>, contents: &FileContents) -> Loaded {
    let path = cx.file;
    let root = Location::default();
    let text = match std::str::from_utf8(&contents.bytes) {
        Ok(text) => text,
        Err(error) => {
            // The text in front of the bad byte is text, so that its place can be computed.
            let good = std::str::from_utf8(&contents.bytes[..error.valid_up_to()]).unwrap_or_default();
            let is_utf16 =
                contents.bytes.starts_with(&[0xff, 0xfe]) || contents.bytes.starts_with(&[0xfe, 0xff]);
            let what = if is_utf16 { "is UTF-16" } else { "has a byte here that is not UTF-8 text" };
            cx.error(
                &Location { offset: good.len(), ..root },
                format!("the config {what}; save it as UTF-8"),
            );
            return finish(cx, None, good, &LineIndex::new(good), None);
        }
    };
    // Some editors on Windows start a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = LineIndex::new(text);
    let (document, faults) = match parse::parse_lines(text, &lines) {
        Ok(parsed) => parsed,
        Err(fault) => {
            cx.error(&fault.at, fault.message);
            return finish(cx, None, text, &lines, None);
        }
    };
    // Where the tokens are there twice, it cannot be known which are meant; nor of servers.
    let is_twice = |path: &str| faults.iter().any(|fault| !fault.is_control && fault.at.path == path);
    let is_clear = !AROUND_TOKENS.into_iter().any(is_twice);
    let are_servers_clear = !is_twice("mcpServers");
    let unclear: Vec<Arc<str>> =
        faults.iter().filter(|fault| !fault.is_control).filter_map(unclear_server).collect();
    for fault in faults {
        cx.error(&fault.at, fault.message);
        if fault.is_control {
            cx.broken_texts.insert(fault.at.path);
        }
    }
    cx.named = named::look(&cx, &document);
    let (mut snapshot, remaining) = resolve::resolve(&mut cx, &Node::root(&document));
    known::keep_only(path, &cx.files);
    if let Some(snapshot) = &mut snapshot {
        let [a, b, c, d, e, f, ..] = <[u8; 32]>::from(Sha256::digest(&contents.bytes));
        // As many as a double holds exactly, since that is what a metric is.
        snapshot.hash = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        snapshot.redacted = snapshot.debug.then(|| Arc::new(redacted(&Node::root(&document))));
    }
    let remaining = remaining.filter(|_| is_clear).map(|mut remaining| {
        remaining.servers = remaining.servers.filter(|_| are_servers_clear);
        for (name, grant) in remaining.servers.iter_mut().flatten() {
            if unclear.contains(name) {
                *grant = RemainingAccess::UNKNOWN;
            }
        }
        remaining
    });
    if contents.world_readable
        && let Some(secret) = cx.plain_secret.take()
    {
        let path = path.display();
        cx.warning(
            &secret,
            format!("every account on this machine may read this secret; run `chmod o-rwx {path}`"),
        );
    }
    if cx.failed() {
        // What has no effect matters once the rest is right; until then it hides the mistakes.
        cx.problems.retain(|problem| problem.severity != Severity::Notice);
    }
    let finish = finish(cx, snapshot, text, &lines, Some(&document));
    Loaded { remaining, ..finish }
}

/// Puts problems into the order of the file, each with its line: the first hundred, and how many more there are.
fn finish(
    cx: Context<'_>,
    snapshot: Option<Snapshot>,
    text: &str,
    lines: &LineIndex<'_>,
    document: Option<&jsonc_parser::ast::Value<'_>>,
) -> Loaded {
    let Context { file, problems: mut found, files, unread, rules, credentials, .. } = cx;
    let errors = found.iter().filter(|finding| finding.severity >= Severity::Part).cloned().collect();
    // What stops the config comes before what does not.
    found.sort_by_key(|finding| (Reverse(finding.severity), finding.offset));
    let left_out = found.split_off(MOST_PROBLEMS.min(found.len()));
    found.sort_by_key(|finding| finding.offset);
    if let Some(first) = left_out.first() {
        let count = left_out.len();
        let message = format!("and {count} more like these; mend those above first");
        found.push(Finding {
            severity: first.severity,
            offset: first.offset,
            key_path: String::new(),
            message,
            is_unset: false,
        });
    }
    let excerpts = (!found.is_empty()).then(|| Excerpts::new(text, document));
    let problem = |Finding { severity, offset, key_path, message, .. }: Finding| {
        let (line, column) = lines.position(offset);
        // A notice asks for nothing to be done, and a file that is none has no line.
        let excerpt = match &excerpts {
            Some(excerpts) if severity > Severity::Notice && !text.is_empty() => excerpts.show(lines, offset),
            _ => String::new(),
        };
        Problem { severity, file: file.to_owned(), line, column, key_path, message, excerpt }
    };
    let problems = found.into_iter().map(problem).collect();
    let rules = Arc::new(RuleLines::new(rules, lines));
    let snapshot = snapshot.map(|snapshot| Snapshot { rules: Arc::clone(&rules), ..snapshot });
    Loaded { snapshot, remaining: None, problems, files, unread, rules, credentials, errors }
}
