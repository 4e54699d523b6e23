//! What commands that edit the config share: it is read, changed, judged, and written only if nothing is opened by it that
//! was not asked for.
//!
//! A file with a mistake is not loaded, whatever it would open. So an edit that takes a mistake away can open more than any
//! command says: a file must have the same mistakes afterwards.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    time::SystemTime,
};

use jsonc_parser::ast::Value;
use serde_json::Value as Json;

use super::common::{BAD_USAGE, FAILED, deliver, fail, print, print_problems};
use crate::{
    config::{
        self, Loaded, Severity,
        read::{context::Finding, files::STANDARD_INPUT, parse::parse, reader::to_json},
        report::excerpt::changed_lines,
        rewrite::{self, ConfigInEdit},
    },
    secret::Secret,
};

/// A config that is to be edited.
pub(super) struct Source<'a> {
    /// Without a byte order mark.
    pub(super) text: &'a str,
    pub(super) document: &'a Value<'a>,
    pub(super) loaded: &'a Loaded,
    pub(super) now: SystemTime,
}

/// What is to become of it.
pub(super) struct Edited {
    pub(super) text: String,
    /// The keys from the root to the value that differs; no other does.
    pub(super) place: Vec<String>,
    /// What becomes of that place.
    pub(super) entry: Entry,
    /// What the user has to have before the config is written.
    pub(super) secret: Option<Secret>,
    /// For standard output.
    pub(super) result: String,
    /// For standard error.
    pub(super) hints: String,
}

/// What becomes of the place that an edit is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It has another value, or the same.
    Stays,
    /// It was not there, and perhaps the objects around it were not.
    Appears,
    /// It is there no more.
    Goes,
}

/// Whether a config with mistakes is edited.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Mistakes {
    /// It has to be mended first.
    Refused,
    /// It is, if a gateway that runs goes by what is taken away.
    Kept,
}

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Changes the config at `path` as `plan` says; or prints the lines that would change.
pub(super) fn edit(
    path: &Path,
    is_dry_run: bool,
    mistakes: Mistakes,
    plan: impl FnOnce(&Source<'_>) -> Result<Edited, String>,
) -> ExitCode {
    if path.as_os_str() == STANDARD_INPUT && !is_dry_run {
        return fail(BAD_USAGE, "standard input cannot be edited; name the file");
    }
    let (bytes, file) = match (rewrite::read(path), is_dry_run) {
        (Err(message), _) => return fail(BAD_USAGE, &message),
        (Ok(bytes), true) => (bytes, None),
        (Ok(_), false) => match ConfigInEdit::open(path) {
            Ok(file) => (file.bytes().clone(), Some(file)),
            Err(message) => return fail(FAILED, &message),
        },
    };
    let before = load(path, &bytes);
    let whole = std::str::from_utf8(&bytes).unwrap_or_default();
    let text = whole.strip_prefix(BYTE_ORDER_MARK).unwrap_or(whole);
    let Ok((document, _)) = parse(text) else {
        print_problems(&before);
        return ExitCode::from(BAD_USAGE);
    };
    if mistakes == Mistakes::Refused && before.errors.iter().any(is_mistake) {
        print_problems(&before);
        return fail(BAD_USAGE, "nothing is written: no gateway loads this config; mend it first");
    }
    let source = Source { text, document: &document, loaded: &before, now: SystemTime::now() };
    let edited = match plan(&source) {
        Ok(edited) => edited,
        Err(message) => {
            // A failure cannot be reported anywhere.
            let _ = writeln!(io::stderr(), "{}:{message}", path.display());
            return ExitCode::from(BAD_USAGE);
        }
    };
    let mark = if text.len() < whole.len() { BYTE_ORDER_MARK } else { "" };
    let new = format!("{mark}{}", edited.text);
    let after = load(path, new.as_bytes());
    if !changes_only(&document, &edited) {
        return fail(FAILED, "nothing is written: the edit would change more than it should; this is a bug");
    }
    if let Err(reason) = compare(&before, &after) {
        return fail(BAD_USAGE, &reason);
    }
    let is_loaded = !after.errors.iter().any(is_mistake);
    if !is_loaded && after.remaining.is_none() {
        print_problems(&after);
        let reason =
            "nothing is written: by these mistakes a gateway cannot know what is taken away; mend them first";
        return fail(BAD_USAGE, reason);
    }
    let Some(file) = file else { return print(&changed_lines(text, &edited.text)) };
    if edited.text != text {
        let announce = || edited.secret.as_ref().map_or(Ok(()), announce);
        if let Err(message) = file.replace(&new, announce) {
            return fail(FAILED, &message);
        }
    }
    let printed = print(&edited.result);
    let mut hints = edited.hints;
    if let Some(gone) = lacks(&after.errors, &before.errors, |error| error.is_unset) {
        // Writing to a string does not fail.
        let _ = writeln!(
            hints,
            "Note: {gone}. A gateway that refused this config because of what that holds, or does not hold, loads the whole of it now."
        );
    }
    let _ = io::stderr().write_all(hints.as_bytes());
    if !is_loaded {
        print_problems(&after);
        let hint = "\
The config has the mistakes above, as before, so no gateway loads it. One that runs takes away what it lacks all the same.
";
        let _ = io::stderr().write_all(hint.as_bytes());
    }
    printed
}

/// Hands a secret over while it can still be taken back.
fn announce(secret: &Secret) -> Result<(), String> {
    deliver(&format!("{}\n", secret.expose())).map_err(|reason| format!("nothing is written: {reason}"))
}

fn load(path: &Path, bytes: &[u8]) -> Loaded {
    config::load_bytes(path, bytes, &|name| std::env::var(name).ok())
}

/// Whether no gateway loads a config with this. What variables are here says nothing of those of the gateway.
fn is_mistake(error: &Finding) -> bool {
    error.severity == Severity::Error && !error.is_unset
}

/// Whether nothing differs but the value at its place.
fn changes_only(before: &Value<'_>, edited: &Edited) -> bool {
    let Ok((after, _)) = parse(&edited.text) else { return false };
    let mut trees = [to_json(before), to_json(&after)];
    let had = trees.each_mut().map(|tree| take_out(tree, &edited.place));
    let should_have = match edited.entry {
        Entry::Stays => [true, true],
        Entry::Appears => [false, true],
        Entry::Goes => [true, false],
    };
    had == should_have && trees[0] == trees[1]
}

/// Takes the value at `place` out of `tree`, with the objects around it that have nothing else. Whether it was there.
fn take_out(tree: &mut Json, place: &[String]) -> bool {
    let (Some((key, rest)), Json::Object(object)) = (place.split_first(), tree) else { return false };
    let Some(inner) = object.get_mut(key) else { return false };
    let was_there = rest.is_empty() || take_out(inner, rest);
    if rest.is_empty() || inner.as_object().is_some_and(serde_json::Map::is_empty) {
        object.remove(key);
    }
    was_there
}

/// Whether the same is wrong with both; of files that cannot be read, less may be.
fn compare(before: &Loaded, after: &Loaded) -> Result<(), String> {
    let counts = |error: &Finding| is_mistake(error) || error.severity == Severity::Part;
    if let Some(new) = lacks(&before.errors, &after.errors, counts) {
        return Err(format!("nothing is written: the config would have this mistake then: {new}"));
    }
    match lacks(&after.errors, &before.errors, is_mistake) {
        None => Ok(()),
        Some(gone) => Err(format!(
            "nothing is written: this mistake would be gone, and gateways would load the whole of the config that they refuse \
             because of it; mend it first: {gone}"
        )),
    }
}

/// The first of these errors that is not among the others, of those that count.
fn lacks(among: &[Finding], of: &[Finding], counts: fn(&Finding) -> bool) -> Option<String> {
    // What is in a list may have another place in it, and another line.
    let words = |error: &Finding| match error.is_unset {
        true => error.message.clone(),
        false => error.message.replace(|c: char| c.is_ascii_digit(), ""),
    };
    let mut known: Vec<_> = among.iter().filter(|error| counts(error)).map(words).collect();
    let is_new = |error: &&Finding| {
        let found = known.iter().position(|known| *known == words(error));
        found.map(|index| known.swap_remove(index)).is_none()
    };
    of.iter().filter(|error| counts(error)).find(is_new).map(shown)
}

fn shown(error: &Finding) -> String {
    match error.key_path.as_str() {
        "" => error.message.clone(),
        path => format!("{path}: {}", error.message),
    }
}
