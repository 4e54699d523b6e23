//! A process that outlives the gateway, if only by a moment: it kills what a gateway that was killed leaves behind.
//!
//! A gateway that is killed by `kill -9` cannot clean up. The kernel then kills its direct children (`PR_SET_PDEATHSIG`), and
//! nothing kills theirs: the `node` behind an `npx`. So the gateway runs itself once more, as a subcommand that does nothing but
//! read a pipe. Every child writes its process group into it before it becomes the configured program; the gateway crosses the
//! group out when it is empty. When the last writer is gone, whatever the reason, so are the groups that are left.
//!
//! A note is two native-endian 32-bit integers, a number that stands for one start, and the group, 0 to cross it out. The
//! number is the gateway's choice: so it can cross out a start whose exec failed and whose group it never learned. Notes are
//! shorter than `PIPE_BUF`: the kernel does not mix them.
//!
//! What leaves its process group (`setsid`, a daemon) is beyond reach here, as it is for `kill`.

use std::{
    collections::HashMap,
    io::{self, Read},
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::PathBuf,
    process::{self, Command, Stdio},
    sync::Arc,
};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal};

use super::sys;
use crate::{config::Level, observe::Observer};

/// The subcommand that runs [`run`].
pub const SUBCOMMAND: &str = "reap-children";

type Note = [u8; 8];

static REAPER: Mutex<Option<Reaper>> = Mutex::new(None);

#[derive(Default)]
struct Reaper {
    executable: PathBuf,
    process: Option<(process::Child, Arc<OwnedFd>)>,
    /// What a new process would have to get, should the old one be killed.
    groups: HashMap<u32, i32>,
    next: u32,
    complained: bool,
}

/// From the next child on, `executable` is run as a reaper; it must be a build of this crate's command, or one that
/// answers [`SUBCOMMAND`] with [`run`]. Without a call of this, only direct children of a killed gateway are killed.
pub fn enable(executable: impl Into<PathBuf>) {
    let reaper = Reaper { executable: executable.into(), ..Reaper::default() };
    REAPER.lock().get_or_insert(reaper);
}

/// The life of the reaper: notes until the pipe ends, then the end of every group that is noted.
pub fn run() {
    // Away from the terminal of the gateway, whose Ctrl-C is not meant for the reaper. Fails for a group leader: one that a
    // shell started by hand.
    let _ = rustix::process::setsid();
    let mut groups = HashMap::new();
    let mut notes = io::stdin().lock();
    let mut note = Note::default();
    while notes.read_exact(&mut note).is_ok() {
        match read(note) {
            (start, 0) => groups.remove(&start),
            (start, group) => groups.insert(start, group),
        };
    }
    for group in groups.into_values() {
        kill(group);
    }
}

fn kill(group: i32) {
    // Group 1 would be everyone.
    if let Some(group) = Pid::from_raw(group).filter(|_| group > 1) {
        // Fails when the group is empty.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
    }
}

/// A start that the reaper knows of; dropping it crosses it out.
pub(super) struct Entry {
    start: u32,
    pipe: Option<Arc<OwnedFd>>,
}

/// Begins an entry, with a reaper that lives.
pub(super) fn enter(observer: &Observer) -> Entry {
    let mut slot = REAPER.lock();
    let Some(reaper) = slot.as_mut() else { return Entry { start: 0, pipe: None } };
    let pipe = reaper.living().inspect_err(|error| {
        if !std::mem::replace(&mut reaper.complained, true) {
            let line = observer.log.line(Level::Warn, "Cannot run the reaper");
            line.str("cause", &error.to_string())
                .str("effect", "if this gateway is killed, its servers' own children stay")
                .send();
        }
    });
    reaper.next = reaper.next.wrapping_add(1);
    Entry { start: reaper.next, pipe: pipe.ok() }
}

impl Entry {
    /// For the new process: notes the group that it leads. Makes system calls, and does nothing else.
    pub(super) fn note_self(&self) -> impl Fn() -> io::Result<()> + Send + Sync + 'static {
        let (start, pipe) = (self.start, self.pipe.clone());
        move || match &pipe {
            Some(pipe) => {
                let group = rustix::process::getpid().as_raw_nonzero().get();
                Ok(rustix::io::write(pipe, &written(start, group)).map(drop)?)
            }
            None => Ok(()),
        }
    }

    /// The group that was noted, in case the reaper has to be replaced.
    pub(super) fn is(&self, group: Pid) {
        if let Some(reaper) = REAPER.lock().as_mut() {
            reaper.groups.insert(self.start, group.as_raw_nonzero().get());
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(reaper) = REAPER.lock().as_mut() {
            reaper.groups.remove(&self.start);
            reaper.note(self.start, 0);
        }
    }
}

impl Reaper {
    /// The pipe of a reaper that lives: the one that runs, or a new one.
    fn living(&mut self) -> io::Result<Arc<OwnedFd>> {
        if let Some((process, pipe)) = &mut self.process
            && process.try_wait()?.is_none()
        {
            return Ok(Arc::clone(pipe));
        }
        self.process = None;
        let mut command = Command::new(&self.executable);
        command.arg0("sluicegate").arg(SUBCOMMAND).env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        sys::isolate(&mut command, || Ok(()));
        let mut process = command.spawn()?;
        let pipe = process.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let pipe = Arc::new(OwnedFd::from(pipe));
        // A reaper that was stopped must not block the gateway.
        rustix::io::ioctl_fionbio(&*pipe, true)?;
        self.process = Some((process, Arc::clone(&pipe)));
        for (start, group) in &self.groups {
            self.note(*start, *group);
        }
        Ok(pipe)
    }

    fn note(&self, start: u32, group: i32) {
        if let Some((_, pipe)) = &self.process {
            // Fails when the reaper was killed: the next entry starts another, which gets everything.
            let _ = rustix::io::write(pipe, &written(start, group));
        }
    }
}

fn written(start: u32, group: i32) -> Note {
    let [a, b, c, d] = start.to_ne_bytes();
    let [e, f, g, h] = group.to_ne_bytes();
    [a, b, c, d, e, f, g, h]
}

fn read([a, b, c, d, e, f, g, h]: Note) -> (u32, i32) {
    (u32::from_ne_bytes([a, b, c, d]), i32::from_ne_bytes([e, f, g, h]))
}
