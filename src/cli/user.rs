//! `sluicegate user`: hashes passwords, and changes the users of a config in place.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
};

use clap::{Args, Subcommand};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::Value as Json;

use super::{
    common::{BAD_USAGE, ConfigFile, FAILED, fail, print},
    edit::{Edited, Entry, Mistakes, Source, edit},
    user_list,
    user_places::{HashSource, User as Found, Users},
};
use crate::{
    config::{
        self,
        edit::Editor,
        read::{files::STANDARD_INPUT, parse::parse},
        rewrite,
    },
    identity::login::passwords,
    secret::Secret,
};

#[derive(Subcommand)]
pub(super) enum User {
    /// Print the hash of a password, for passwordHash of a user in proxy.auth.users
    #[command(after_help = "\
Asks for the password at a terminal, without showing it, or reads the first line of standard input. Standard output has the
hash alone: argon2id in PHC form.

Examples:
  sluicegate user hash
  pass show gate/alice | sluicegate user hash")]
    Hash,
    /// Show the users of a config: state, roles, tags, and the servers that each opens
    #[command(after_help = "Neither a password nor a hash is shown.")]
    List {
        #[command(flatten)]
        file: ConfigFile,
        /// Print JSON, for programs
        #[arg(long)]
        json: bool,
    },
    /// Put a user into the config, with a password
    #[command(after_help = "\
Asks for the password at a terminal, without showing it, or reads the first line of standard input. The config gets its
hash. A running gateway follows by itself.

Examples:
  sluicegate user add alice --role dev
  pass show gate/alice | sluicegate user add alice --role dev --tag web -c /etc/gate.json")]
    Add {
        /// Name of the user
        name: String,
        #[command(flatten)]
        edit: EditArgs,
        /// A role of the user; give it several times for several
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<String>,
        /// Limits the user to servers with one of these tags; give it several times for several
        #[arg(long = "tag", value_name = "TAG")]
        tags: Vec<String>,
        /// Limits the user to these servers; give it several times for several
        #[arg(long = "server", value_name = "SERVER")]
        servers: Vec<String>,
    },
    /// Give a user another password in the config
    #[command(after_help = "\
Asks for the password as `add` does. A running gateway follows by itself: it ends the logins and streams of the old password.
Where the hash is in a variable or a file, nothing is changed: `sluicegate user hash` prints what goes there.

Examples:
  sluicegate user passwd alice
  pass show gate/alice | sluicegate user passwd alice -c /etc/gate.json")]
    Passwd {
        /// Name of the user
        name: String,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Let a user in no more, and leave the entry in the config
    #[command(
        after_help = "A running gateway follows by itself, and ends the logins and streams of the user."
    )]
    Disable {
        /// Name of the user
        name: String,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Let a user in again who was disabled
    Enable {
        /// Name of the user
        name: String,
        #[command(flatten)]
        edit: EditArgs,
    },
    /// Take a user out of the config
    #[command(after_help = "\
A user that a server names in `users` is not taken out: the config would have a mistake. `sluicegate user disable` does not
need that.")]
    Remove {
        /// Name of the user
        name: String,
        #[command(flatten)]
        edit: EditArgs,
    },
}

#[derive(Args)]
pub(super) struct EditArgs {
    #[command(flatten)]
    file: ConfigFile,
    /// Print the lines that would change, and write nothing
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(command: User) -> Result<ExitCode, String> {
    match command {
        User::Hash => Ok(hashed().map_or_else(|code| code, |hash| print(&format!("{}\n", hash.expose())))),
        User::List { file, json } => user_list::run(&file.path()?, json),
        User::Add { name, edit, roles, tags, servers } => {
            let free = |users: &Users<'_>| users.is_free(&name);
            edit.run_with_password(&name, Entry::Appears, free, |users, editor, hash| {
                let mut entry = format!("{{ \"passwordHash\": {}", Json::from(hash.expose()));
                for (key, words) in [("roles", &roles), ("tags", &tags), ("servers", &servers)] {
                    if !words.is_empty() {
                        entry += &format!(", \"{key}\": {}", Json::from(&words[..]));
                    }
                }
                users.insert(editor, &name, &(entry + " }"));
                Ok("added")
            })
        }
        User::Passwd { name, edit } => {
            let changeable = |users: &Users<'_>| can_change_hash(&users.named(&name)?);
            edit.run_with_password(&name, Entry::Stays, changeable, |users, editor, hash| {
                let object = users.named(&name)?.object()?;
                editor.set(object, "passwordHash", &Json::from(hash.expose()).to_string());
                Ok("has another password; what came of the old one ends")
            })
        }
        User::Disable { name, edit } => edit.run(&name, Mistakes::Kept, Entry::Stays, |users, editor| {
            let user = users.named(&name)?;
            user.says_once("disabled")?;
            if user.says_disabled() == Some(true) {
                return Ok("is disabled already");
            }
            editor.set(user.object()?, "disabled", "true");
            Ok("disabled; what came of its logins ends")
        }),
        User::Enable { name, edit } => edit.run(&name, Mistakes::Refused, Entry::Stays, |users, editor| {
            let user = users.named(&name)?;
            user.says_once("disabled")?;
            if user.says_disabled() == Some(false) {
                return Ok("is not disabled");
            }
            editor.unset(user.object()?, "disabled");
            Ok("may log in again")
        }),
        User::Remove { name, edit } => edit.run(&name, Mistakes::Kept, Entry::Goes, |users, editor| {
            users.named(&name)?;
            users.remove(editor, &name);
            Ok("removed; what came of its logins ends")
        }),
    }
}

/// Whether the hash of a user is in the config; or the problem with that.
fn can_change_hash(user: &Found<'_>) -> Result<(), String> {
    user.says_once("passwordHash")?;
    let place = match user.hash_source() {
        None | Some(HashSource::Config) => return Ok(()),
        Some(HashSource::Variable(name)) => format!("the variable {}", name.as_deref().unwrap_or("…")),
        Some(HashSource::File(name)) => format!("the file {}", name.as_deref().unwrap_or("…")),
    };
    Err(user.problem(&format!(
        "has its `passwordHash` in {place}, which stays as it is; put there what `sluicegate user hash` prints"
    )))
}

impl EditArgs {
    /// Changes the users of the config as `plan` says, which also says what became of `name`.
    fn run(
        self,
        name: &str,
        mistakes: Mistakes,
        entry: Entry,
        plan: impl FnOnce(&Users<'_>, &mut Editor<'_>) -> Result<&'static str, String>,
    ) -> Result<ExitCode, String> {
        let path = self.file.path()?;
        Ok(edit(&path, self.dry_run, mistakes, |source| edited(source, name, entry, plan)))
    }

    /// The same with the hash of a new password, for which nobody is asked unless `is_possible`.
    fn run_with_password(
        self,
        name: &str,
        entry: Entry,
        is_possible: impl Fn(&Users<'_>) -> Result<(), String>,
        plan: impl FnOnce(&Users<'_>, &mut Editor<'_>, &Secret) -> Result<&'static str, String>,
    ) -> Result<ExitCode, String> {
        let path = self.file.path()?;
        if path.as_os_str() == STANDARD_INPUT {
            return Err("standard input has the password; name the file of the config".into());
        }
        let bytes = rewrite::read(&path)?;
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        // What cannot be read at all is reported below.
        if let Ok((document, _)) = parse(text)
            && let Err(message) = Users::of(&document, text).and_then(|users| is_possible(&users))
        {
            // A failure cannot be reported anywhere.
            let _ = writeln!(io::stderr(), "{}:{message}", path.display());
            return Ok(ExitCode::from(BAD_USAGE));
        }
        let hash = match hashed() {
            Ok(hash) => hash,
            Err(code) => return Ok(code),
        };
        Ok(edit(&path, self.dry_run, Mistakes::Refused, |source| {
            edited(source, name, entry, |users, editor| {
                is_possible(users)?;
                plan(users, editor, &hash)
            })
        }))
    }
}

fn edited(
    source: &Source<'_>,
    name: &str,
    entry: Entry,
    plan: impl FnOnce(&Users<'_>, &mut Editor<'_>) -> Result<&'static str, String>,
) -> Result<Edited, String> {
    let users = Users::of(source.document, source.text)?;
    let mut editor = Editor::new(source.text);
    let said = plan(&users, &mut editor)?;
    let place = ["proxy", "auth", "users", name].map(str::to_owned).to_vec();
    let result = format!("{}: {said}\n", config::shown_name(name).unwrap_or("…"));
    Ok(Edited { text: editor.finish(), place, entry, secret: None, result, hints: String::new() })
}

/// Longest password: what a login takes.
const LONGEST: usize = 1024;

/// The hash of a password that is asked for; or the exit code, if the reason why there is none was said.
fn hashed() -> Result<Secret, ExitCode> {
    let password = password().map_err(|unread| match unread {
        Unread::Io(error) => fail(FAILED, &format!("cannot read the password: {error}")),
        Unread::Differ => fail(BAD_USAGE, "the two passwords are not the same"),
    })?;
    if password.expose().is_empty() || password.expose().len() > LONGEST {
        return Err(fail(BAD_USAGE, &format!("a password has 1 to {LONGEST} bytes")));
    }
    passwords::hash(&password)
        .map_err(|passwords::NoHash| fail(FAILED, "the system gives no random numbers, or not enough memory"))
}

enum Unread {
    Io(io::Error),
    Differ,
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Twice at a terminal, where nobody sees what they type.
fn password() -> Result<Secret, Unread> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Ok(line()?);
    }
    let before = tcgetattr(&stdin).map_err(io::Error::from)?;
    let mut hidden = before.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    // The line break at the end is shown all the same.
    hidden.local_modes.insert(LocalModes::ECHONL);
    tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(io::Error::from)?;
    let both = asked("Password: ").and_then(|first| Ok((first, asked("Again: ")?)));
    // Nothing more can be done about a failure.
    let _ = tcsetattr(&stdin, OptionalActions::Flush, &before);
    let (first, second) = both?;
    if first == second { Ok(first) } else { Err(Unread::Differ) }
}

fn asked(prompt: &str) -> io::Result<Secret> {
    let mut stderr = io::stderr();
    write!(stderr, "{prompt}")?;
    stderr.flush()?;
    line()
}

/// The next line of standard input, without what ends it.
fn line() -> io::Result<Secret> {
    // As long as it ever gets, so that no copy is left behind when it grows.
    let mut line = String::with_capacity(4 * LONGEST);
    io::Read::take(io::stdin().lock(), 4 * LONGEST as u64).read_line(&mut line)?;
    let length = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(length);
    Ok(Secret::new(line))
}
