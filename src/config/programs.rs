//! Whether the program of a `command` is there: it is looked for as it will be when it is started.

use std::{os::unix::fs::PermissionsExt as _, path::Path};

use super::{fields::Fields, hung, reader::Context, table::COMMAND};
use crate::secret::Secret;

/// Where the C library looks if there is no `PATH`.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A program as it is to be started.
pub(super) struct Program<'a> {
    pub(super) command: &'a str,
    pub(super) env: &'a [(String, Secret)],
    /// Whether it gets the `PATH` of the gate, unless `env` has another.
    pub(super) inherits_path: bool,
    /// Whether what it gets of the gate's environment is said by `inheritEnv`.
    pub(super) has_own_list: bool,
    pub(super) cwd: &'a Path,
}

/// Warns of a program that cannot be started. No error: it may be installed later, and other servers run without it.
pub(super) fn warn(cx: &mut Context<'_>, fields: &Fields<'_>, program: Program<'_>) {
    if cx.is_full() {
        return;
    }
    let command = program.command;
    let message = if command.contains('/') {
        let path = program.cwd.join(command);
        // Of what hangs nothing is known.
        match hung::look(&path, is_executable).unwrap_or(Ok(true)) {
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
        let lacks_path = own.is_none() && !program.inherits_path && program.has_own_list;
        let path = own.or_else(|| (cx.env)("PATH").filter(|_| program.inherits_path));
        let path = path.unwrap_or_else(|| DEFAULT_PATH.to_owned());
        let candidates = path.split(':').map(|directory| program.cwd.join(directory).join(command));
        let found = hung::look_at_each(candidates.collect(), is_executable);
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

/// Whether a file that is there can be run.
fn is_executable(path: &Path) -> Result<bool, ()> {
    let metadata = std::fs::metadata(path).map_err(|_| ())?;
    Ok(metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
