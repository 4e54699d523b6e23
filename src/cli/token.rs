//! `sluicegate token`: makes tokens, and changes those of a config in place.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::{Duration, SystemTime},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clap::{Args, Subcommand};
use sha2::{Digest, Sha256};

use super::{
    common::{ConfigFile, FAILED, fail, print},
    edit::{Edited, Entry, Mistakes, edit},
    token_edit::{self, Change, Renewal, Report},
    token_list,
    token_places::Tokens,
};
use crate::{
    config::{self, edit::Editor},
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
go on: they belong to the name. The new token has the roles and the end of the old one.

Examples:
  sluicegate token rotate ci
  sluicegate token rotate ci --grace 1h -c /etc/gate.json
  sluicegate token rotate ci --expires 90d")]
    Rotate {
        /// Name of the token
        name: String,
        #[command(flatten)]
        edit: EditArgs,
        /// How long the old tokens still open, unless they end earlier anyway; 0s removes them
        #[arg(long, value_name = "TIME", default_value = "7d", value_parser = humantime::parse_duration)]
        grace: Duration,
        /// When the new token ends: as for `expire`; without it, when the old one would have
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
    },
    /// Remove the credentials of a name from the config, so that its token opens nothing any more
    #[command(after_help = "\
The name stays in the config, without a credential: servers whose `authTokens` name it are opened to nobody else by this.
A running gateway follows by itself, and ends the streams of the token. `sluicegate token new` makes another token.")]
    Revoke {
        /// Name of the token
        name: String,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Say in the config when the credentials of a name end
    #[command(after_help = "\
Where a name has several credentials, none of them gets a later end than it has, unless --id names it.

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
        edit: EditArgs,
    },
}

#[derive(Args)]
pub(super) struct EditArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Only this credential: what `token list` shows as CREDENTIAL, or @N for the Nth of the name
    #[arg(long, value_name = "ID", allow_hyphen_values = true)]
    id: Option<String>,
    /// Print the lines that would change, and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(token: Token) -> Result<ExitCode, String> {
    let moment = |when: &str| {
        moment(when, SystemTime::now()).ok_or(
            "this is no moment; write a date (2027-01-31), a date and time (2027-01-31T00:00:00Z), a time from now (7d), or \
             `never`",
        )
    };
    match token {
        Token::New { name } => Ok(with_token(|token| new(&name, token))),
        Token::List { file, json } => token_list::run(&file.path()?, json),
        Token::Rotate { name, edit, grace, expires } => {
            let until = whole_seconds(SystemTime::now(), grace);
            let until = until.ok_or("--grace ends after the year 9999; shorten it")?;
            let renewal = Renewal {
                old_until: (!grace.is_zero()).then_some(until),
                new_until: expires.as_deref().map(moment).transpose()?,
            };
            match random() {
                Ok(token) => edit.run(&name, Mistakes::Refused, Some(&token), |change, editor| {
                    token_edit::rotate(change, editor, &sha256(&token), &renewal)
                }),
                Err(message) => Ok(fail(FAILED, &message)),
            }
        }
        Token::Revoke { name, edit } => edit.run(&name, Mistakes::Kept, None, token_edit::revoke),
        Token::Expire { name, when, edit } => {
            let end = moment(&when)?;
            edit.run(&name, Mistakes::Refused, None, |change, editor| token_edit::expire(change, editor, end))
        }
    }
}

impl EditArgs {
    /// Changes the token `name` in the config as `plan` says.
    fn run(
        self,
        name: &str,
        mistakes: Mistakes,
        secret: Option<&Secret>,
        plan: impl FnOnce(&Change<'_>, &mut Editor<'_>) -> Result<Report, String>,
    ) -> Result<ExitCode, String> {
        let path = self.file.path()?;
        Ok(edit(&path, self.dry_run, mistakes, |source| {
            let tokens = Tokens::of(source.document, source.text, source.loaded)?;
            let named = tokens.named(name)?;
            let mut editor = Editor::new(source.text);
            let change = Change { named, id: self.id.as_deref(), loaded: source.loaded, now: source.now };
            let Report { result, hints } =
                plan(&change, &mut editor).map_err(|message| named.problem(&message))?;
            let place = ["proxy", "auth", "tokens", name].map(str::to_owned).to_vec();
            let entry = Entry::Stays;
            Ok(Edited { text: editor.finish(), place, entry, secret: secret.cloned(), result, hints })
        }))
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
