//! Where the crate needs `unsafe`, but for one call in [`crate::memory`]: for three things.
//!
//! What a process does between fork and exec: a death signal and a sweep over inherited descriptors can only be set by the
//! new process itself. The standard library offers that moment as `pre_exec`, which is unsafe; the other way (a launcher
//! program that execs again) costs a second exec for each child.
//!
//! What a program inherits that the gateway runs: descriptors are numbers there, and belong to nobody.
//!
//! Waiting for a pidfd: the runtime registers descriptors of any type that has one, and cannot know that it keeps it.
#![allow(
    unsafe_code,
    reason = "pre_exec, marking of descriptors, and registration of a pidfd have no safe form"
)]

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::Command,
};

use rustix::process::{Pid, Signal};
use tokio::io::{Interest, unix::AsyncFd};

/// Descriptors below this are standard input, output and error.
const FIRST_OTHER: libc::c_uint = 3;

/// Has `command` start without any descriptor but the three standard ones; `and_then` runs in the new process too.
///
/// `and_then` may do nothing but system calls: the new process is a copy of one thread, so that a lock that another held
/// stays held, that of the allocator included.
pub(super) fn isolate(
    command: &mut Command,
    mut and_then: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    let hook = move || {
        // Where it is not known, the gateway has done it before.
        close_others();
        and_then()
    };
    // SAFETY: the hook makes system calls and does nothing else: no allocation, no lock, no panic.
    unsafe { command.pre_exec(hook) };
}

/// Has every descriptor that is open now, but the three standard ones, closed when this process runs another program.
pub(super) fn close_inherited_on_exec() -> io::Result<()> {
    if close_others() { Ok(()) } else { close_listed() }
}

/// What the gateway opens is closed on exec anyway; this is for what it was started with. False on a kernel before 5.11,
/// which does not know the flag: there, what was open at the start of `serve` is marked one by one.
fn close_others() -> bool {
    // SAFETY: takes numbers, and changes nothing but what happens to descriptors at exec.
    let done = unsafe {
        libc::syscall(libc::SYS_close_range, FIRST_OTHER, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    done == 0
}

/// The same, one by one. Not for between fork and exec: it allocates.
fn close_listed() -> io::Result<()> {
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse::<libc::c_int>().ok());
        if let Some(fd) = number.filter(|fd| fd.unsigned_abs() >= FIRST_OTHER) {
            // SAFETY: as above. Fails for what was closed meanwhile: the listing itself.
            unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
        }
    }
    Ok(())
}

/// In the new process: be killed when the thread that started it ends, `gate` being the process of that thread.
pub(super) fn die_with(gate: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have ended before the line above.
    if rustix::process::getppid() != Some(gate) {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    Ok(())
}

/// Has the runtime watch a pidfd, which is readable once its process has ended.
pub(super) fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, the same one throughout, until it is dropped; here, with the `AsyncFd`.
    Ok(unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?)
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        os::fd::{AsRawFd, FromRawFd},
    };

    use super::*;

    /// What older kernels need. A descriptor that a program inherits is one that is not closed on exec.
    #[test]
    fn descriptors_that_are_marked_one_by_one_are_inherited_by_nobody() {
        let file = File::open("/dev/null").unwrap();
        // SAFETY: a new descriptor, which nobody else has.
        let inherited = unsafe { File::from_raw_fd(libc::dup(file.as_raw_fd())) };
        let seen = || {
            let path = format!("/proc/self/fd/{}", inherited.as_raw_fd());
            Command::new("test").args(["-e", &path]).status().unwrap().success()
        };
        assert!(seen());
        close_listed().unwrap();
        assert!(!seen());
    }
}
