//! `sluicegate user`: what users need.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    process::ExitCode,
};

use clap::Subcommand;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::common::{BAD_USAGE, FAILED, fail, print};
use crate::{identity::login::passwords, secret::Secret};

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
}

pub(super) fn run(command: User) -> ExitCode {
    match command {
        User::Hash => hash(),
    }
}

/// Longest password: what a login takes.
const LONGEST: usize = 1024;

fn hash() -> ExitCode {
    let password = match password() {
        Ok(password) => password,
        Err(Unread::Io(error)) => return fail(FAILED, &format!("cannot read the password: {error}")),
        Err(Unread::Differ) => return fail(BAD_USAGE, "the two passwords are not the same"),
    };
    if password.expose().is_empty() || password.expose().len() > LONGEST {
        return fail(BAD_USAGE, &format!("a password has 1 to {LONGEST} bytes"));
    }
    match passwords::hash(&password) {
        Ok(hash) => print(&format!("{}\n", hash.expose())),
        Err(passwords::NoHash) => fail(FAILED, "the system gives no random numbers, or not enough memory"),
    }
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
