//! `sluicegate token`: makes tokens, and changes those of a config in place.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    path::Path,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};
use jsonc_parser::common::Ranged;
use sha2::{Digest, Sha256};

use super::{
    common::{BAD_USAGE, ConfigFile, FAILED, fail, print, print_problems},
    token_list::{self, opened},
    token_places::{Held, Named, Tokens, relative, rfc3339},
};
use crate::{
    config::{self, Loaded, Problem, Severity, edit::Editor, rewrite},
    secret::Secret,
};

#[derive(Subcommand)]
pub(super) enum Token {
    /// Print a new random token once, and the entry for proxy.auth.tokens
    #[command(after_help = "\
Standard output has two lines, the token and the entry. The config keeps only the token's hash.

Example:
  sluicegate token new ci")]
    New {
        /// Name of the token in logs, metrics and `authTokens`
        #[arg(default_value = "client")]
        name: String,
    },
    /// Show the tokens of a config: kind, roles, end, and the servers that each opens
    #[command(after_help = "\
Neither a token nor a hash is shown. CREDENTIAL is the `id`, or what metrics call the credential if `sessionKey` says
that, or @N for the Nth of its name.")]
    List {
        #[command(flatten)]
        file: ConfigFile,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Give a name a new token in the config, and let the old ones end after a while
    #[command(after_help = "\
Standard output has the new token, shown only now; the config gets its hash. A running gateway follows by itself. Sessions
go on: they belong to the name.

Examples:
  sluicegate token rotate ci
  sluicegate token rotate ci --grace 1h -c /etc/gate.json")]
    Rotate {
        /// Name of the token
        name: String,
        #[command(flatten)]
        edit: Edit,
        /// How long the old tokens still open, unless they end earlier anyway; 0s removes them
        #[arg(long, value_name = "TIME", default_value = "7d", value_parser = humantime::parse_duration)]
        grace: Duration,
    },
    /// Remove the credentials of a name from the config, so that its token opens nothing any more
    #[command(after_help = "\
The name stays in the config, without a credential: servers whose `authTokens` name it are opened to nobody else by this.
A running gateway follows by itself, and ends the streams of the token.")]
    Revoke {
        /// Name of the token
        name: String,
        #[command(flatten)]
        edit: Edit,
    },
    /// Say in the config when the credentials of a name end
    #[command(after_help = "\
Credentials that have expired stay so, unless --id names one or there is no other.

Examples:
  sluicegate token expire ci 2027-01-31
  sluicegate token expire ci 30d --id 2026
  sluicegate token expire ci never")]
    Expire {
        /// Name of the token
        name: String,
        /// A date, a date and time (RFC 3339), a time from now such as 7d, or `never`
        when: String,
        #[command(flatten)]
        edit: Edit,
    },
}

#[derive(Args)]
pub(super) struct Edit {
    #[command(flatten)]
    file: ConfigFile,
    /// Only the credential with this `id`, or the Nth as @N, as `token list` shows it
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Print the lines that would change, and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(token: Token) -> Result<ExitCode, String> {
    match token {
        Token::New { name } => Ok(with_token(|token| new(&name, token))),
        Token::List { file, json } => token_list::run(&file.path()?, json),
        Token::Rotate { name, edit, grace } => {
            let token = random()?;
            edit.run(&name, |change, editor| rotate(change, editor, &token, grace))
        }
        Token::Revoke { name, edit } => edit.run(&name, revoke),
        Token::Expire { name, when, edit } => {
            let end = moment(&when, SystemTime::now()).ok_or(
                "this is no moment; write a date (2027-01-31), a date and time (2027-01-31T00:00:00Z), a time from now \
                 (7d), or `never`",
            )?;
            edit.run(&name, |change, editor| expire(change, editor, end))
        }
    }
}

fn new(name: &str, token: &Secret) -> ExitCode {
    let name = serde_json::Value::from(name);
    let printed = print(&format!("{}\n{name}: {{ \"sha256\": \"{}\" }}\n", token.expose(), sha256(token)));
    let hint = "The first line is the token, shown only now: give it to the client.\n\
                The second goes into proxy.auth.tokens of the config.\n";
    // The hint is for people; a script that reads only standard output loses nothing.
    let _ = io::stderr().write_all(hint.as_bytes());
    printed
}

/// Does this with a new token.
pub(super) fn with_token(then: impl FnOnce(&Secret) -> ExitCode) -> ExitCode {
    random().map_or_else(|message| fail(FAILED, &message), |token| then(&token))
}

/// A new token: 256 random bits, so that a hash of it can be in a config that others read.
fn random() -> Result<Secret, String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| format!("the system gives no random numbers: {error}"))?;
    Ok(Secret::new(format!("sg_{}", URL_SAFE_NO_PAD.encode(bytes))))
}

pub(super) fn sha256(token: &Secret) -> String {
    hex::encode(Sha256::digest(token.expose()))
}

/// The last moment whose year has four digits.
fn latest() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799)
}

/// `Some(None)` is never.
#[allow(clippy::option_option, reason = "the outer one is whether it can be read")]
fn moment(when: &str, now: SystemTime) -> Option<Option<SystemTime>> {
    let rfc3339 = |text: &str| humantime::parse_rfc3339(text).ok();
    let end = match when {
        "never" => return Some(None),
        _ => humantime::parse_duration(when).ok().and_then(|left| whole_seconds(now, left)),
    };
    let end = end.or_else(|| rfc3339(when)).or_else(|| rfc3339(&format!("{when}T00:00:00Z")));
    let end = end.or_else(|| rfc3339(&config::in_utc(when)?.to_string()))?;
    (end < latest()).then_some(Some(end))
}

/// The moment that is `left` from now. Whole seconds are written, and none of the time is lost.
fn whole_seconds(now: SystemTime, left: Duration) -> Option<SystemTime> {
    let end = now.checked_add(left)?.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let seconds = end.as_secs() + u64::from(end.subsec_nanos() > 0);
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).filter(|end| *end < latest())
}

/// One change of a config: what there is, and what is to become of it.
struct Change<'a> {
    named: &'a Named<'a>,
    id: Option<&'a str>,
    loaded: &'a Loaded,
    now: SystemTime,
}

/// What is said about a change that was made.
#[derive(Default)]
struct Report {
    /// For standard output.
    result: String,
    /// For standard output of a dry run too, and for standard error else.
    hints: String,
}

impl Edit {
    /// Changes the token `name` in the config as `change` says, if the config is no worse afterwards.
    fn run(
        self,
        name: &str,
        change: impl FnOnce(&Change<'_>, &mut Editor<'_>) -> Result<Report, String>,
    ) -> Result<ExitCode, String> {
        let Self { file, id, dry_run } = self;
        let path = file.path()?;
        let (bytes, file) = match dry_run {
            true => (rewrite::read(&path)?, None),
            false => {
                let file = rewrite::ConfigInEdit::open(&path)?;
                (file.bytes().clone(), Some(file))
            }
        };
        let whole = String::from_utf8_lossy(&bytes);
        let text = whole.strip_prefix('\u{feff}').unwrap_or(&whole);
        let before = load(&path, text);
        let document = match config::read::parse::parse(text) {
            Ok((document, _)) if whole.as_bytes() == &**bytes => document,
            _ => {
                print_problems(&config::load(&path, &|name| std::env::var(name).ok()));
                return Ok(ExitCode::from(BAD_USAGE));
            }
        };
        let now = SystemTime::now();
        let planned = Tokens::of(&document, text, &before).and_then(|tokens| {
            let named = tokens.named(name)?;
            let mut editor = Editor::new(text);
            let asked = Change { named, id: id.as_deref(), loaded: &before, now };
            let report = change(&asked, &mut editor).map_err(|message| named.problem(&message))?;
            Ok((editor.finish(), report))
        });
        let (changed, report) = match planned {
            Ok(planned) => planned,
            Err(message) => {
                let _ = writeln!(io::stderr(), "{}:{message}", path.display());
                return Ok(ExitCode::from(BAD_USAGE));
            }
        };
        let worse = new_errors(&before, &load(&path, &changed));
        if !worse.is_empty() {
            let _ = io::stderr().write_all(worse.concat().as_bytes());
            return Err("nothing is written, because the config would have this mistake then".into());
        }
        let Some(file) = file else {
            return Ok(print(&config::report::excerpt::changed_lines(text, &changed)));
        };
        if changed != text {
            let whole = format!("{}{changed}", if text.len() < whole.len() { "\u{feff}" } else { "" });
            if let Err(message) = file.replace(&whole) {
                return Ok(fail(FAILED, &message));
            }
        }
        let printed = print(&report.result);
        let _ = io::stderr().write_all(report.hints.as_bytes());
        Ok(printed)
    }
}

fn load(path: &Path, text: &str) -> Loaded {
    config::load_text(path, text, &|name| std::env::var(name).ok())
}

/// The errors that were not there before. What is in a list may have another place in it, and another line.
fn new_errors(before: &Loaded, after: &Loaded) -> Vec<String> {
    let is_error = |problem: &&Problem| problem.severity >= Severity::Part;
    let words = |problem: &Problem| problem.message.replace(|c: char| c.is_ascii_digit(), "");
    let mut known: Vec<_> = before.problems.iter().filter(is_error).map(words).collect();
    let is_new = |problem: &&Problem| {
        let found = known.iter().position(|known| *known == words(problem));
        found.map(|index| known.swap_remove(index)).is_none()
    };
    after.problems.iter().filter(is_error).filter(is_new).map(Problem::with_excerpt).collect()
}

impl Change<'_> {
    /// The credential that `--id` names; without it those that have not expired.
    fn selected(&self) -> Result<Vec<&Held<'_>>, String> {
        let held = &self.named.held;
        match self.id {
            None => Ok(held.iter().filter(|held| !held.has_expired(self.now)).collect()),
            Some(id) => {
                let found = held.iter().find(|held| held.label() == id || held.place() == id);
                let found = found.ok_or_else(|| match held.is_empty() {
                    true => "has no credential".to_owned(),
                    false => format!("has no such credential; name one of {}", self.named.labels()),
                });
                Ok(vec![found?])
            }
        }
    }
}

/// Lets a credential end at `end`, or never.
fn set_end(editor: &mut Editor<'_>, named: &Named<'_>, held: &Held<'_>, end: Option<SystemTime>) {
    let range = held.value.range();
    match (held.object(), end) {
        (Some(object), Some(end)) => editor.set(object, "expires", &format!("\"{}\"", rfc3339(end))),
        (Some(object), None) => editor.unset(object, "expires"),
        (None, Some(end)) => {
            let value = &named.text[range.start..range.end];
            let object = format!("{{ \"value\": {value}, \"expires\": \"{}\" }}", rfc3339(end));
            editor.replace(range.start..range.end, object);
        }
        (None, None) => {}
    }
}

fn rotate(
    change: &Change<'_>,
    editor: &mut Editor<'_>,
    token: &Secret,
    grace: Duration,
) -> Result<Report, String> {
    let (named, now) = (change.named, change.now);
    let selected = change.selected()?;
    let sources = if selected.is_empty() { named.held.iter().collect() } else { selected };
    let Some(first) = sources.first() else {
        return Err(
            "has no credential that could be replaced: it was revoked; `sluicegate token new` makes one"
                .into(),
        );
    };
    if !sources.iter().all(|other| other.is_like(first)) {
        return Err(format!(
            "has credentials with different roles or other conditions; say by --id which one is replaced: {}",
            named.labels()
        ));
    }
    let has_id = sources.iter().any(|held| held.id().is_some());
    let id = if has_id { format!("\"id\": \"{}\", ", named.fresh_id(now)) } else { String::new() };
    let conditions = first.conditions_text();
    let entry = format!("{{ {id}\"sha256\": \"{}\"{conditions} }}", sha256(token));
    let end = whole_seconds(now, grace).filter(|_| !grace.is_zero());
    let gone: Vec<usize> = match change.id {
        None => (0..named.held.len()).collect(),
        Some(_) => sources.iter().map(|held| held.index).collect(),
    };
    let property_range = named.property.value.range();
    match (named.list(), end) {
        (None, None) => editor.replace(property_range.start..property_range.end, entry),
        (None, Some(end)) => {
            let mut inner = Editor::new(named.text);
            first.end_by(end, |end| set_end(&mut inner, named, first, Some(end)));
            let value = inner.within(property_range.start..property_range.end);
            editor.make_list(named.property, &entry, &value);
        }
        (Some(list), None) => {
            let replaced = named.held[gone[0]].value.range();
            editor.replace(replaced.start..replaced.end, entry);
            editor.remove_elements(list, |index| gone[1..].contains(&index));
        }
        (Some(list), Some(end)) => {
            editor.push_front(list, &entry);
            for held in sources {
                held.end_by(end, |end| set_end(editor, named, held, Some(end)));
            }
        }
    }
    let mut hints = String::from("The token on standard output is shown only now: give it to the client.\n");
    // Writing to a string does not fail.
    let _ = match end {
        Some(end) => writeln!(
            hints,
            "The config has its hash. The old tokens of the name still open until {} at most ({}).",
            rfc3339(end),
            relative(end, now)
        ),
        None => {
            writeln!(hints, "The config has its hash. The token that it replaces opens nothing any more.")
        }
    };
    Ok(Report { result: format!("{}\n", token.expose()), hints })
}

fn revoke(change: &Change<'_>, editor: &mut Editor<'_>) -> Result<Report, String> {
    let named = change.named;
    let gone: Vec<usize> = match change.id {
        None => (0..named.held.len()).collect(),
        Some(_) => change.selected()?.iter().map(|held| held.index).collect(),
    };
    match named.list() {
        Some(list) => editor.remove_elements(list, |index| gone.contains(&index)),
        None => {
            let range = named.property.value.range();
            editor.replace(range.start..range.end, "[]");
        }
    }
    let credentials = gone.iter().map(|index| &named.held[*index]);
    let mut servers: Vec<_> =
        credentials.flat_map(|held| opened(change.loaded, held, change.now).unwrap_or_default()).collect();
    servers.sort_unstable();
    servers.dedup();
    let name = config::shown_name(named.name).unwrap_or("…");
    let left = match named.held.len() - gone.len() {
        0 => "The token opens nothing any more".to_owned(),
        1 => "Another credential of the name stays".to_owned(),
        count => format!("{count} other credentials of the name stay"),
    };
    let removed = match gone.len() {
        1 => "1 credential removed".to_owned(),
        count => format!("{count} credentials removed"),
    };
    let opened = match (servers.is_empty(), change.loaded.snapshot.is_some()) {
        (true, true) => ", which opened no server",
        (true, false) => "",
        (false, _) => ", which opened ",
    };
    let result = match gone.is_empty() {
        true => format!("{name}: has no credential, so it opens nothing already\n"),
        false => format!("{name}: {removed}{opened}{}. {left}\n", servers.join(", ")),
    };
    Ok(Report { result, hints: String::new() })
}

fn expire(change: &Change<'_>, editor: &mut Editor<'_>, end: Option<SystemTime>) -> Result<Report, String> {
    let (named, now) = (change.named, change.now);
    let selected = change.selected()?;
    let selected: Vec<_> = match (selected.is_empty(), &*named.held) {
        (true, []) => return Err("has no credential that could expire: it was revoked".into()),
        (true, [only]) => vec![only],
        (true, _) => {
            return Err(format!(
                "has only credentials that have expired; say by --id which one is to open again: {}",
                named.labels()
            ));
        }
        (false, _) => selected,
    };
    let labels: Vec<_> = selected.iter().map(|held| held.label()).collect();
    for held in selected {
        set_end(editor, named, held, end);
    }
    let name = config::shown_name(named.name).unwrap_or("…");
    let what = match end {
        Some(end) if end <= now => format!("expired at {}", rfc3339(end)),
        Some(end) => format!("expires at {} ({})", rfc3339(end), relative(end, now)),
        None => "never expires".to_owned(),
    };
    Ok(Report { result: format!("{name} ({}): {what}\n", labels.join(", ")), hints: String::new() })
}
