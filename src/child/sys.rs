//! The one module of the crate that needs `unsafe`, for two things.
//!
//! What a process does between fork and exec: a death signal and a sweep over inherited descriptors can only be set by the
//! new process itself. The standard library offers that moment as `pre_exec`, which is unsafe; the other way (a launcher
//! program that execs again) costs a second exec for each child.
//!
//! Waiting for a pidfd: the runtime registers descriptors of any type that has one, and cannot know that it keeps it.
#![allow(unsafe_code, reason = "pre_exec, and registration of a pidfd, have no safe form")]

use std::{
    io,
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
        close_others();
        and_then()
    };
    // SAFETY: the hook makes system calls and does nothing else: no allocation, no lock, no panic.
    unsafe { command.pre_exec(hook) };
}

/// What the gate opens is closed on exec anyway; this is for what it was started with.
fn close_others() {
    // SAFETY: takes numbers, and changes nothing but what happens to descriptors at exec. A kernel before 5.11 does not
    // know the flag; then what the gate itself inherited stays open, as with any other parent.
    unsafe {
        libc::syscall(libc::SYS_close_range, FIRST_OTHER, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
    }
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
