//! Whether the program of a `command` is there: it is looked for as it will be when it is started.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use crate::config::{
    hung,
    read::{context::Context, fields::Fields, reader::ReadText},
    report::shown,
    table::COMMAND,
};
use crate::secret::Secret;

/// Where the C library looks if there is no `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A program as it is to be started.
pub(crate) struct Program<'a> {
    pub(crate) command: &'a str,
    pub(crate) env: &'a [(String, Secret)],
    /// Whether it gets the `PATH` of the gateway, unless `env` has another.
    pub(crate) inherits_path: bool,
    pub(crate) cwd: &'a Path,
}

/// Warns of a program that cannot be started. No error: it may be installed later, and other servers run without it.
pub(crate) fn warn(cx: &mut Context<'_>, fields: &Fields<'_>, program: Program<'_>) {
    if cx.is_full() {
        return;
    }
    let command = program.command;
    let message = if command.contains('/') {
        let path = program.cwd.join(command);
        // Of what hangs nothing is known.
        let found = hung::look(&path, cx.patience(), is_executable);
        cx.has_waited |= found.is_none();
        match found.unwrap_or(Ok(true)) {
            Ok(true) => return,
            Ok(false) => "is no program that may be run; `chmod +x` makes one of a script",
            Err(()) if command.starts_with("~/") => {
                "does not exist, because ~ stands for nothing here; write `${HOME}/…`"
            }
            Err(()) => "does not exist; correct the path, which is relative to `cwd`",
        }
    } else {
        let own =
            program.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.expose().to_owned());
        let lacks_path = own.is_none() && !program.inherits_path;
        let path = own.or_else(|| (cx.env)("PATH").filter(|_| program.inherits_path));
        let path = path.unwrap_or_else(|| DEFAULT_PATH.to_owned());
        let candidates = path.split(':').map(|directory| program.cwd.join(directory).join(command));
        let found = hung::look_at_each(candidates.collect(), cx.patience(), is_executable);
        cx.has_waited |= found.contains(&None);
        if found.iter().any(|found| matches!(found, None | Some(Ok(true)))) {
            return;
        }
        match found.contains(&Some(Ok(false))) {
            true => {
                "is found in the `PATH` that it gets, and may not be run; `chmod +x` makes a program of a script"
            }
            false if command.contains(' ') => {
                "is not found in the `PATH` that it gets; arguments stand in `args`"
            }
            false if lacks_path => {
                "is not found, because `inheritEnv` takes the place of its defaults and has no \"PATH\"; add it there"
            }
            false => {
                "is not found in the `PATH` that it gets; install it, write its whole path, or set `PATH` in `env`"
            }
        }
    };
    let at = fields.get(COMMAND).map_or_else(|| fields.key(COMMAND), |node| node.at);
    cx.warning(&at, message);
}

/// Programs that run a container, and give it the variables that `-e NAME` names.
const CONTAINERS: &[&str] = &["docker", "podman", "nerdctl"];

/// Warns of variables that such a program passes on, and does not have itself: from a client, it had the client's. `own`: the names
/// in its `env`.
pub(crate) fn warn_of_container(
    cx: &mut Context<'_>,
    command: &str,
    args: &[ReadText],
    own: &[&str],
    inherit_env: &[String],
) {
    if !CONTAINERS.iter().any(|program| command.rsplit('/').next() == Some(program)) {
        return;
    }
    let mut is_next = false;
    for arg in args {
        let text = arg.value.as_str();
        let after = ["--env=", "-e"].iter().find_map(|option| text.strip_prefix(option));
        let named = match is_next {
            true => Some(text),
            false => after.filter(|name| !name.is_empty()),
        };
        is_next = !is_next && matches!(text, "-e" | "--env");
        // With a value, it is another one.
        let Some(name) = named.filter(|name| !name.is_empty()).and_then(shown::variable) else { continue };
        if !own.contains(&name) && !inherit_env.iter().any(|own| own == name) {
            cx.warning(
                &arg.at,
                format!(
                    "passes on a variable that the command itself does not have; give it one: \"env\": {{ \"{name}\": \"${{{name}}}\" }}"
                ),
            );
        }
    }
}

/// Whether a file that is there can be run.
fn is_executable(path: &Path) -> Result<bool, ()> {
    let metadata = std::fs::metadata(path).map_err(|_| ())?;
    Ok(metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
