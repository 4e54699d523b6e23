//! A command that is run once: nothing to read, what it says is kept up to a limit, and it has so long and no longer.

use std::{io, process::ExitStatus, sync::Arc, time::Duration};

use rustix::process::Signal;
use tokio::{net::unix::pipe, sync::oneshot, time::timeout};

use super::{
    process::{ExitWatch, Input, Outputs, Process},
    scratch, spawner,
};
use crate::{config::StdioTarget, ledger::Share, observe::Observer};

/// How long output may come after the command's own end. All of its group is killed then, so only a process that left the
/// group can still hold the pipes.
const LINGER: Duration = Duration::from_secs(1);

/// How much a command may take.
#[derive(Debug, Clone, Copy)]
pub struct RunLimits {
    /// From its start to its end.
    pub time: Duration,
    /// Bytes of standard output that are kept; the rest is read and dropped, so that the command can end.
    pub stdout: usize,
    /// The same for standard error.
    pub stderr: usize,
}

/// How a command ended, and what it wrote.
#[derive(Debug)]
pub struct Finished {
    /// Its standard output.
    pub stdout: Captured,
    /// Its standard error.
    pub stderr: Captured,
    /// `None`: it took too long and was killed.
    pub status: Option<ExitStatus>,
}

/// The first bytes of a stream.
#[derive(Debug, Default)]
pub struct Captured {
    /// They.
    pub bytes: Vec<u8>,
    /// More came.
    pub is_cut: bool,
}

/// Runs `target` to its end, and nothing that it started in its process group any longer than that. Dropping this kills
/// the command and its group. `share` counts the process, until it is gone.
///
/// # Errors
///
/// The command cannot be run, or the gateway has no descriptors or processes left.
pub async fn run(
    target: StdioTarget,
    limits: RunLimits,
    share: Share,
    observer: &Arc<Observer>,
) -> io::Result<Finished> {
    let observer = Arc::clone(observer);
    let mut process = spawner::run(move || Process::start(&target, Input::Nothing, &observer)).await?;
    let (outputs, watch) = process.attach()?;
    let (done, finished) = oneshot::channel();
    // A task of its own, because the burial goes on when the caller is dropped.
    tokio::spawn(async move {
        keep(process, outputs, watch, limits, done).await;
        drop(share);
    });
    finished.await.map_err(io::Error::other)?
}

/// Keeps the process until it is gone: because it has ended, takes too long, or nobody waits for it.
async fn keep(
    mut process: Process,
    Outputs { stdout: mut out, stderr: mut err }: Outputs,
    watch: ExitWatch,
    limits: RunLimits,
    mut done: oneshot::Sender<io::Result<Finished>>,
) {
    let (mut stdout, mut stderr) = (Captured::default(), Captured::default());
    let in_time = {
        let reading = async {
            tokio::join!(stdout.fill(&mut out, limits.stdout), stderr.fill(&mut err, limits.stderr));
        };
        tokio::pin!(reading);
        let life = timeout(limits.time, async {
            tokio::select! {
                () = watch.ended() => {
                    process.signal(Signal::KILL);
                    // Over or not: what came is what there is.
                    let _ = timeout(LINGER, reading).await;
                }
                () = &mut reading => watch.ended().await,
            }
        });
        tokio::select! {
            ended = life => ended.is_ok(),
            () = done.closed() => false,
        }
    };
    process.signal(Signal::KILL);
    watch.ended().await;
    let status = process.reap();
    // Fails when nobody waits.
    let _ = done.send(status.map(|status| Finished { stdout, stderr, status: in_time.then_some(status) }));
    process.reap_inherited().await;
}

impl Captured {
    /// Reads to the end, and keeps the first `most` bytes.
    async fn fill(&mut self, from: &mut pipe::Receiver, most: usize) {
        let mut take = |bytes: &[u8]| {
            let kept = bytes.len().min(most - self.bytes.len());
            self.bytes.extend_from_slice(&bytes[..kept]);
            self.is_cut |= kept < bytes.len();
            bytes.len()
        };
        // A pipe that fails has nothing more to say.
        while let Ok(1..) = scratch::read(from, &mut take).await {}
    }
}
