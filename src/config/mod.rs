//! From the file that people edit to an immutable [`Snapshot`].
//!
//! `parse` (text to tree) → `reader` and `fields` (a typed view that notes every problem and goes on) → `resolve` and the
//! parts it calls (`bind`, `tls`, `tokens`, `limits`, `aggregate`, `servers`, `inline`) → `snapshot`. The only things looked at
//! outside the file are the environment, the files it names and the clock.
//!
//! `table` has one entry for each key, in the words of `key`. From it come the names, ranges, words and defaults that
//! `fields` goes by, the JSON Schema (`schema`) and `docs/config.md` (`page_tests`).

mod aggregate;
mod bind;
mod fields;
mod files;
mod hint;
mod inline;
mod key;
mod limits;
#[cfg(test)]
mod page_tests;
mod parse;
mod problem;
mod reader;
mod reference;
mod resolve;
mod schema;
#[cfg(test)]
mod schema_tests;
mod servers;
mod snapshot;
mod table;
#[cfg(test)]
mod tests;
mod tls;
mod tokens;
pub mod watch;

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};

use self::{
    problem::Place,
    reader::{Context, Node},
};
pub use self::{
    problem::{Problem, Severity},
    reference::Env,
    schema::schema,
    snapshot::*,
    table::INHERITED,
};

/// Keys that take effect at the next start, as the log names them: `proxy.` left out, the part in brackets.
#[cfg(test)]
pub(crate) fn restart_keys() -> Vec<String> {
    let mut found = Vec::new();
    for (path, object) in key::objects(&table::ROOT) {
        let path = path.trim_start_matches("proxy").trim_start_matches('.').to_owned();
        for (key, part) in object.keys.iter().filter_map(|key| Some((key, key.restart?))) {
            let dot = if path.is_empty() { "" } else { "." };
            let part = if part.is_empty() { String::new() } else { format!(" ({part})") };
            found.push(format!("{path}{dot}{}{part}", key.name));
        }
    }
    found
}

/// What came of reading a config.
#[derive(Debug)]
pub struct Loaded {
    /// The config, if none of the problems is an [error](Severity::Error).
    pub snapshot: Option<Snapshot>,
    /// Everything there is to say about it, in file order. Beside an error, notices are left out.
    pub problems: Vec<Problem>,
    /// Every file that was looked at, the config first. They are here even if loading failed, because a change of
    /// any of them is a reason to try again.
    pub files: Vec<PathBuf>,
}

/// Reads the config at `path`; `env` looks up the variables that it refers to.
///
/// Never fails early: all problems come out at once, and whoever calls decides what to do with them.
pub fn load(path: &Path, env: &Env<'_>) -> Loaded {
    load_at(path, env, SystemTime::now())
}

impl Loaded {
    /// Whether all of the config can be used, and all files that it names.
    pub fn is_whole(&self) -> bool {
        self.problems.iter().all(|problem| problem.severity < Severity::Part)
    }
}

/// [`load`] as of the moment `now`, which decides what has expired.
fn load_at(path: &Path, env: &Env<'_>, now: SystemTime) -> Loaded {
    let root = Place { offset: 0, path: String::new() };
    let context = |text| Context {
        file: path,
        text,
        env,
        now,
        problems: Vec::new(),
        files: vec![path.to_owned()],
        plain_secret: None,
        is_part: false,
    };
    let refused = |text, at: &Place, message: String| {
        let mut cx = context(text);
        cx.error(at, message);
        Loaded { snapshot: None, problems: cx.problems, files: cx.files }
    };

    let contents = match files::read(path) {
        Ok(contents) => contents,
        Err(reason) => {
            return refused("", &root, format!("the config {reason}; check the path and its permissions"));
        }
    };
    let Ok(text) = std::str::from_utf8(&contents.bytes) else {
        return refused("", &root, "the config is not UTF-8 text; save it as UTF-8".into());
    };
    // Some editors on Windows start a file with a byte order mark.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (document, faults) = match parse::parse(text) {
        Ok(parsed) => parsed,
        Err(fault) => return refused(text, &fault.at, fault.message),
    };

    let mut cx = context(text);
    for fault in faults {
        cx.error(&fault.at, fault.message);
    }
    let mut snapshot = resolve::resolve(&mut cx, &Node::root(&document));
    if let Some(snapshot) = &mut snapshot {
        let [a, b, c, d, e, f, ..] = <[u8; 32]>::from(Sha256::digest(&contents.bytes));
        // As many as a double holds exactly, since that is what a metric is.
        snapshot.hash = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
    }
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
    cx.problems.sort_by_key(|problem| (problem.line, problem.column));
    Loaded { snapshot, problems: cx.problems, files: cx.files }
}
