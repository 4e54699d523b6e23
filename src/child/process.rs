//! One process and its group, from start to burial.

use std::{
    env, io,
    os::{fd::OwnedFd, unix::process::CommandExt},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};
use tokio::{io::unix::AsyncFd, net::unix::pipe};

use super::{reaper, sys};
use crate::{config::StdioTarget, observe::Observer, secret::Secret};

/// How often, and how many times, to look for members of a group that the gateway inherited.
const REAP_INHERITED: (Duration, u32) = (Duration::from_millis(50), 40);

/// A process that leads a group of its own. It is buried whatever happens: dropping it kills the group.
///
/// The group is only ever signalled while its leader is not reaped: until then the kernel gives the number to nobody
/// else, even if everyone in the group has ended.
pub(super) struct Process {
    child: Child,
    group: Pid,
    reaped: bool,
    _entry: reaper::Entry,
}

/// What a process finds at its standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// What the gateway writes: see [`Process::stdin`].
    Pipe,
    /// Its end.
    Nothing,
}

/// Where the gateway reads what a process writes.
pub(super) struct Outputs {
    pub(super) stdout: pipe::Receiver,
    pub(super) stderr: pipe::Receiver,
}

/// Tells when a process has ended.
pub(super) struct ExitWatch(AsyncFd<OwnedFd>);

impl Process {
    /// Starts the program. Fails when it cannot be run, or the gateway has no descriptors or processes left.
    pub(super) fn start(target: &StdioTarget, input: Input, observer: &Observer) -> io::Result<Self> {
        let mut command = Command::new(&target.command);
        command.args(target.args.iter().map(Secret::expose)).env_clear().process_group(0);
        command.stdin(match input {
            Input::Pipe => Stdio::piped(),
            Input::Nothing => Stdio::null(),
        });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.envs(target.inherit_env.iter().filter_map(|name| Some((name, env::var_os(name)?))));
        command.envs(target.env.iter().map(|(name, value)| (name, value.expose())));
        if let Some(cwd) = &target.cwd {
            command.current_dir(cwd);
        }
        let entry = reaper::enter(observer);
        let note_self = entry.note_self();
        let gate = rustix::process::getpid();
        sys::isolate(&mut command, move || {
            sys::die_with(gate)?;
            note_self()
        });
        let child = command.spawn()?;
        let group = Pid::from_child(&child);
        entry.is(group);
        Ok(Self { child, group, reaped: false, _entry: entry })
    }

    /// Its number.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the gateway writes, for a process with [`Input::Pipe`]; for once.
    pub(super) fn stdin(&mut self) -> io::Result<pipe::Sender> {
        pipe::Sender::from_owned_fd(self.child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?.into())
    }

    /// What the gateway reads and watches; for once.
    pub(super) fn attach(&mut self) -> io::Result<(Outputs, ExitWatch)> {
        let stdout = self.child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let stderr = self.child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let outputs = Outputs {
            stdout: pipe::Receiver::from_owned_fd(stdout.into())?,
            stderr: pipe::Receiver::from_owned_fd(stderr.into())?,
        };
        let pidfd = rustix::process::pidfd_open(self.group, PidfdFlags::empty())?;
        Ok((outputs, ExitWatch(sys::watch(pidfd)?)))
    }

    /// Sends a signal to everyone in the group.
    pub(super) fn signal(&self, signal: Signal) {
        if !self.reaped {
            // Fails when nobody is left who could take it.
            let _ = rustix::process::kill_process_group(self.group, signal);
        }
    }

    /// After the process has ended: kills what is left of its group, and reaps it.
    pub(super) fn reap(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::KILL);
        let status = self.child.wait()?;
        self.reaped = true;
        Ok(status)
    }

    /// Reaps what was left of the group, where that falls to the gateway: as the first process of a container it
    /// inherits every process whose parent ended. Elsewhere it returns at once.
    pub(super) async fn reap_inherited(&self) {
        let (pause, mut looks) = REAP_INHERITED;
        while looks > 0 {
            match rustix::process::waitpgid(self.group, WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => {
                    looks -= 1;
                    tokio::time::sleep(pause).await;
                }
                Err(_) => return,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        self.signal(Signal::KILL);
        let (id, group) = (self.child.id(), self.group);
        // Only when a runtime ends before its children, a start fails half-way, or its caller left meanwhile. Waiting takes as long as the kernel
        // takes to kill, which is no business of a thread that serves. If there is no thread to be had, the zombie stays
        // until the gateway ends.
        let _ = thread::Builder::new().name(format!("reap-{id}")).spawn(move || {
            let _ = rustix::process::waitpid(Some(group), WaitOptions::empty());
        });
    }
}

impl ExitWatch {
    /// Resolves once the process has ended, as often as it is asked. It is still to be reaped then.
    pub(super) async fn ended(&self) {
        if self.0.readable().await.is_err() {
            // The runtime is ending, and this task with it.
            std::future::pending::<()>().await;
        }
    }
}
