//! The task that keeps one process: its standard error, its end, its burial.

use std::{borrow::Cow, sync::Arc, time::Instant};

use rustix::process::Signal;
use tokio::{
    net::unix::pipe,
    sync::{oneshot, watch},
    time::sleep,
};

use super::{
    CommandState, EndReason, Orders, OutputSeen, Running,
    backoff::ProcessTimeouts,
    process::{ExitWatch, Process},
    stderr::Stderr,
};
use crate::config::Level;

/// A process and what is known of it.
pub(super) struct Keeper {
    pub(super) process: Process,
    pub(super) watch: ExitWatch,
    pub(super) number: u64,
    pub(super) running: Running,
    pub(super) born: Instant,
    /// It wrote something.
    pub(super) spoke: Arc<OutputSeen>,
}

impl Keeper {
    /// Keeps the process until it is gone. `asked` asks to end it, or is closed when the process is not needed any more; `ended`
    /// is notified as soon as it has ended.
    pub(super) async fn keep(
        mut self,
        stderr: pipe::Receiver,
        asked: oneshot::Receiver<EndReason>,
        ended: oneshot::Sender<Cow<'static, str>>,
    ) {
        let supervisor = Arc::clone(&self.running.supervisor);
        let CommandState { name, observer, patience, .. } = &*supervisor.command;
        let mut stderr = Stderr::new(stderr, Arc::clone(name), Arc::clone(observer));
        let orders = supervisor.orders.subscribe();
        let failed = tokio::select! {
            failed = self.live_and_end(asked, orders, patience) => failed,
            never = stderr.copy() => match never {},
        };
        let how = match self.process.reap() {
            Ok(status) => Cow::Owned(format!("the process ended: {status}")),
            Err(_) => Cow::Borrowed("the process is lost"),
        };
        let owner = self.running.share.owner().name();
        supervisor.ended(owner, self.born, self.spoke.has(), failed, &how);
        stderr.finish();
        let (level, msg) = if failed {
            (Level::Warn, "Server process failed")
        } else {
            (Level::Info, "Server process ended")
        };
        let line = observer.log.line(level, msg).str("server", name);
        let line = line.int("pid", self.process.id()).str("cause", &how);
        line.millis("lived_ms", self.born.elapsed()).send();
        let Self { process, running, .. } = self;
        drop(running);
        // Fails if its user is gone.
        let _ = ended.send(how);
        process.reap_inherited().await;
    }

    /// Returns when the process has ended, whether it was its own fault.
    async fn live_and_end(
        &self,
        asked: oneshot::Receiver<EndReason>,
        mut orders: watch::Receiver<Orders>,
        patience: &ProcessTimeouts,
    ) -> bool {
        let killed = async {
            // Fails only without a supervisor, which this task holds.
            let _ = orders.wait_for(|orders| orders.kill_below > self.number).await;
        };
        tokio::pin!(killed);
        let why = tokio::select! {
            biased;
            () = &mut killed => None,
            why = asked => Some(why.unwrap_or(EndReason::Unneeded)),
            () = self.watch.ended() => return !self.spoke.is_let_go(),
        };
        if why.is_some() {
            let patiently = async {
                sleep(patience.after_stdin).await;
                self.process.signal(Signal::TERM);
                sleep(patience.after_sigterm).await;
            };
            tokio::select! {
                () = patiently => {}
                () = killed => {}
                () = self.watch.ended() => {}
            }
        }
        // Of the process that takes its time, and of those that it leaves.
        self.process.signal(Signal::KILL);
        self.watch.ended().await;
        why == Some(EndReason::Broken)
    }
}
