//! What keeps the gate from its own children: they run as its user, and what one user's processes may see of each other is
//! nearly everything.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

use super::sys;

/// Shuts this process against others of its user, before it has a secret. From then on they cannot read its environment,
/// its memory or its descriptors (`/proc/PID/environ`, `mem`, `fd`, `pidfd_getfd`), nor trace it; and it leaves no core,
/// neither as a file nor to the program that `kernel.core_pattern` names, which a limit does not keep from being run
/// (core(5), prctl(2)). What it reads of itself stays readable. A program that it runs is a new one, and as open as any.
///
/// Root may read everything all the same: see [`commands_can_see_everything`].
pub fn raise() -> io::Result<()> {
    // What it was started with, before anything of its own is open; what it opens itself is closed on exec anyway.
    let marked = sys::close_inherited_on_exec();
    let core = Rlimit { current: Some(0), maximum: getrlimit(Resource::Core).maximum };
    let no_core = setrlimit(Resource::Core, core);
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    no_core?;
    marked
}

/// Whether this process runs as root, and so do its children, to whom nothing on the machine is shut.
pub fn commands_can_see_everything() -> bool {
    rustix::process::geteuid().is_root()
}
