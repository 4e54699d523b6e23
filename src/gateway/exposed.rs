//! Secrets in the environment of another process than the gateway: of the shell or the init that started it.
//!
//! The gateway shuts itself against its commands ([`shield`]), and that is no use if whoever started it has the same
//! variables and is open to them. It cannot shut others, so it says so.

use std::{cell::RefCell, collections::BTreeSet, path::Path};

use crate::{
    child::shield::{self, ExposedProcess},
    config::{self, INHERITED, Level, Loaded, STATE_DIRECTORY, Server, Snapshot, Target},
    observe::Log,
};

/// Loads the config at `path`, and says which variables of the environment it refers to.
pub fn load(path: &Path) -> (Loaded, BTreeSet<String>) {
    let asked = RefCell::default();
    let loaded = config::load(path, &|name| {
        let value = std::env::var(name).ok();
        if value.is_some() {
            RefCell::<BTreeSet<String>>::borrow_mut(&asked).insert(name.to_owned());
        }
        value
    });
    (loaded, asked.into_inner())
}

/// The processes whose environment has some of `variables` that commands are not given anyway, and is open to the commands
/// of this config. To those of a gateway of root's everything is.
pub fn open_to_commands(snapshot: &Snapshot, mut variables: BTreeSet<String>) -> Vec<ExposedProcess> {
    // Nor is the name of a directory a secret.
    variables.retain(|name| !INHERITED.contains(&name.as_str()) && name != STATE_DIRECTORY);
    let runs_commands = |server: &Server| !matches!(server.target, Target::Http(_));
    let is_of_use = !variables.is_empty()
        && !shield::commands_can_see_everything()
        && snapshot.servers.iter().any(runs_commands);
    if is_of_use { shield::open_to_commands(&variables) } else { Vec::new() }
}

/// What to log about them, if there are any.
pub const WARNING: &str = "Commands can read variables of the gateway in the environment of another process of its user: \
    start the gateway by exec, without a shell or init of that user, or from a service manager of another one";

/// Says it in the log: one line, with the process that began first.
pub(super) fn warn(log: &Log, snapshot: &Snapshot, variables: BTreeSet<String>) {
    let open = open_to_commands(snapshot, variables);
    let Some(ExposedProcess { pid, name, variables }) = open.iter().min_by_key(|open| open.pid) else {
        return;
    };
    log.line(Level::Warn, WARNING)
        .int("pid", *pid)
        .text("process", name)
        .text("variables", &variables.join(", "))
        .int("processes", open.len())
        .send();
}
