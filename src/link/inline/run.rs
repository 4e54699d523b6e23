//! Runs one command to its end, and nothing of it any longer than that.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Command, ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Child,
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use crate::{
    child::{self, Tie},
    config::{INHERITED, InlineTool},
    observe::Observer,
};

/// Bytes of standard output that a caller gets at most; the rest is read and dropped, so that the command can end.
pub(super) const MOST_OUTPUT: usize = 1 << 20;
/// Bytes of standard error, of which a caller needs the reason and no more.
const MOST_ERRORS: usize = 64 << 10;
/// How long output may come after the command's own end. All of its group is killed then, so only a process that left the
/// group can still hold the pipes.
const LINGER: Duration = Duration::from_secs(1);

/// How a command ended, and what it said.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) stdout: Captured,
    pub(super) stderr: Captured,
    /// `None`: it took too long and was killed.
    pub(super) status: Option<ExitStatus>,
}

/// The first bytes of a stream.
#[derive(Debug, Default)]
pub(super) struct Captured {
    pub(super) bytes: Vec<u8>,
    /// More came.
    pub(super) is_cut: bool,
}

/// Runs `tool` with these arguments. An error says that it could not be started. Dropping this kills the command and all
/// of its process group.
pub(super) async fn run(
    tool: &InlineTool,
    arguments: &[String],
    observer: &Arc<Observer>,
) -> io::Result<Finished> {
    let (command, observer, runtime) = (command(tool, arguments), Arc::clone(observer), Handle::current());
    let mut running = child::on_spawner(move || {
        let _of_the_caller = runtime.enter();
        Running::start(command, &observer)
    })
    .await?;
    let (mut stdout, mut stderr) = (Captured::default(), Captured::default());
    let ended = {
        let (out, err) = (running.child.stdout.take(), running.child.stderr.take());
        let reading = async {
            tokio::join!(stdout.fill(out, MOST_OUTPUT), stderr.fill(err, MOST_ERRORS));
        };
        tokio::pin!(reading);
        timeout(tool.timeout, async {
            tokio::select! {
                () = running.ended() => drop(timeout(LINGER, reading).await),
                () = &mut reading => running.ended().await,
            }
        })
        .await
    };
    running.kill();
    let status = running.child.wait().await?;
    Ok(Finished { stdout, stderr, status: ended.is_ok().then_some(status) })
}

/// A command whose process group goes when this does.
struct Running {
    child: Child,
    /// Tells that some child ended.
    some_end: tokio::signal::unix::Signal,
    /// After the child, whose group is killed before.
    _tie: Tie,
}

fn command(tool: &InlineTool, arguments: &[String]) -> Command {
    let mut command = Command::new(&tool.command);
    command.args(arguments).env_clear().process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.envs(INHERITED.iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
    command.envs(tool.env.iter().map(|(name, value)| (name, value.expose())));
    command
}

impl Running {
    fn start(mut command: Command, observer: &Observer) -> io::Result<Self> {
        let tie = child::tie(&mut command, observer);
        // Before the command starts, so that its end cannot be missed.
        let some_end = signal(SignalKind::child())?;
        let child = tokio::process::Command::from(command).kill_on_drop(true).spawn()?;
        if let Some(group) = pid(&child) {
            tie.is(group);
        }
        Ok(Self { child, some_end, _tie: tie })
    }

    /// Waits until the command itself has ended, and kills what it leaves in its group. Not `Child::wait`: that frees the
    /// command's number, which names the group, for others to take.
    async fn ended(&mut self) {
        while let Some(pid) = pid(&self.child) {
            let only_look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
            // An error says that there is no such child.
            if !matches!(waitid(WaitId::Pid(pid), only_look), Ok(None)) {
                break;
            }
            self.some_end.recv().await;
        }
        self.kill();
    }

    fn kill(&self) {
        // Not there any more is what is wanted.
        let _ = pid(&self.child).map(|group| kill_process_group(group, Signal::KILL));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The command's number, which is also its group's; `None` once it is reaped and may be somebody else's.
fn pid(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}

impl Captured {
    /// Reads to the end, and keeps the first `most` bytes.
    async fn fill(&mut self, from: Option<impl AsyncRead + Unpin>, most: usize) {
        let Some(mut from) = from else { return };
        let mut chunk = vec![0; 8 << 10];
        // A pipe that fails has nothing more to say.
        while let Ok(read @ 1..) = from.read(&mut chunk).await {
            let kept = read.min(most - self.bytes.len());
            self.bytes.extend_from_slice(&chunk[..kept]);
            self.is_cut |= kept < read;
        }
    }
}
