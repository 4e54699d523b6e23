//! What keeps the gateway from its own children: they run as its user, and what one user's processes may see of each
//! other is nearly everything.

use std::{collections::BTreeSet, fs, io};

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

/// A process that is as open to the commands as they are to each other, and that has secrets in its environment.
#[derive(Debug, PartialEq, Eq)]
pub struct ExposedProcess {
    /// Its number.
    pub pid: u32,
    /// What it calls itself.
    pub name: String,
    /// Those of the variables that it has.
    pub variables: Vec<String>,
}

/// The processes whose environment commands can read and which have one of `variables` in it: most often the one that
/// started this one, a shell or the init of a container. This process is no more open than they are to it: what is read
/// here, whoever runs as its user can read (proc_pid_environ(5)), and nothing else. What it started itself is left out: that
/// has what the config gives it.
pub fn open_to_commands(variables: &BTreeSet<String>) -> Vec<ExposedProcess> {
    let own = std::process::id();
    let Ok(all) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own && !ancestors(*pid).any(|ancestor| ancestor == own))
        .filter_map(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let names: BTreeSet<&[u8]> = environ
                .split(|byte| *byte == 0)
                .filter_map(|entry| Some(entry.split_at_checked(memchr::memchr(b'=', entry)?)?.0))
                .collect();
            let found: Vec<_> =
                variables.iter().filter(|name| names.contains(name.as_bytes())).cloned().collect();
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            (!found.is_empty()).then(|| ExposedProcess {
                pid,
                name: name.trim_end().to_owned(),
                variables: found,
            })
        })
        .collect()
}

fn ancestors(pid: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(parent(pid), |pid| parent(*pid))
}

fn parent(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

/// Whether this process runs as root, and so do its children, to whom nothing on the machine is shut.
pub fn commands_can_see_everything() -> bool {
    rustix::process::geteuid().is_root()
}
