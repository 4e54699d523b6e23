//! Processes of the gateway's, from start to burial: the commands behind stdio servers ([`Supervisor`]), and those that a
//! call runs ([`once`]).
//!
//! A child is alone with what it was given: a process group of its own, an environment of the listed variables and no
//! others, its three standard descriptors and no other. It goes when the gateway goes, however that goes ([`reaper`]), and
//! takes its own children along. One task keeps it (`keeper`, for what a supervisor starts): copies its standard error to
//! the log, ends it when it is no longer wanted, and reaps it.
//!
//! Only on Linux.

mod backoff;
mod keeper;
pub mod once;
mod process;
pub mod reaper;
mod scratch;
pub mod shield;
mod spawner;
mod stderr;
mod supervisors;
mod sys;

use std::{
    any::Any,
    borrow::Cow,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::{
    net::unix::pipe,
    sync::{Notify, oneshot, watch},
};

pub use backoff::ProcessTimeouts;
pub use scratch::read;
pub use supervisors::Supervisors;

use self::{
    backoff::Backoffs,
    keeper::Keeper,
    process::{Input, Process},
};
use crate::{
    config::{Level, StdioTarget},
    error::{Error, ErrorKind},
    ledger::{Owner, OwnerName, Resource, Share},
    observe::{Health, Observer},
    secret::Secret,
};

/// Starts the processes of one configured command and keeps their state. Outlives sessions, and reloads that leave
/// the command as it is.
pub struct Supervisor {
    command: Arc<CommandState>,
    /// What its processes have beside what the config says.
    given: Mutex<Given>,
    running: watch::Sender<usize>,
    history: Mutex<History>,
    orders: watch::Sender<Orders>,
}

/// A configured command, for all its supervisors.
struct CommandState {
    /// Name of the server.
    name: Arc<str>,
    target: StdioTarget,
    observer: Arc<Observer>,
    health: Arc<Health>,
    patience: ProcessTimeouts,
    restarts: IntCounter,
    starts: Starts,
}

/// What processes are given that the config does not say.
#[derive(Default)]
struct Given {
    env: Vec<(String, Secret)>,
    /// Kept as long as they may start.
    _holder: Option<Arc<dyn Any + Send + Sync>>,
}

/// What is known of how it starts.
#[derive(Default)]
struct Starts {
    /// Milliseconds that a start may take; none is waited for longer.
    longest: AtomicU64,
    /// Whether any process wrote something.
    succeeded: AtomicBool,
    /// Whether a process finishes its start although it is not needed any more.
    is_finishing: AtomicBool,
    /// Whether one was started before it was needed.
    warmed: AtomicBool,
}

#[derive(Default)]
struct History {
    backoffs: Backoffs,
    /// Processes that ended by themselves and were not replaced yet.
    missing: usize,
}

/// What its processes have to do. They are numbered, so that an order reaches those before it, and no one else, even when the
/// next order is given before they look.
#[derive(Default)]
struct Orders {
    next: u64,
    refuses: bool,
    end_below: u64,
    kill_below: u64,
}

impl Supervisor {
    /// For the server `name`, which runs `target`.
    pub fn new(
        name: Arc<str>,
        target: StdioTarget,
        observer: Arc<Observer>,
        health: Arc<Health>,
        patience: ProcessTimeouts,
    ) -> Arc<Self> {
        let (restarts, starts) = (observer.metrics.child_restarts(&name), Starts::default());
        let command = CommandState { name, target, observer, health, patience, restarts, starts };
        Self::of(Arc::new(command), Orders::default())
    }

    fn of(command: Arc<CommandState>, orders: Orders) -> Arc<Self> {
        let (running, history, given) = (watch::Sender::default(), Mutex::default(), Mutex::default());
        Arc::new(Self { command, given, running, history, orders: watch::Sender::new(orders) })
    }

    /// One for the same command, whose processes are its own: they start, end and fail apart from these. How the command
    /// starts holds for both.
    fn sibling(&self) -> Arc<Self> {
        let orders = Orders { refuses: self.is_stopped(), ..Orders::default() };
        Self::of(Arc::clone(&self.command), orders)
    }

    /// Whether the next failure may have to wait longer for those before it.
    fn has_failed_lately(&self) -> bool {
        self.history.lock().backoffs.is_any_left(Instant::now(), &self.command.patience)
    }

    /// Name of the server.
    pub fn name(&self) -> &Arc<str> {
        &self.command.name
    }

    /// Log and counters that its processes are seen in.
    pub fn observer(&self) -> &Arc<Observer> {
        &self.command.observer
    }

    /// Processes that were started and are not reaped yet.
    pub fn running(&self) -> usize {
        *self.running.borrow()
    }

    /// Resolves once there are none.
    pub async fn childless(&self) {
        let _ = self.running.subscribe().wait_for(|running| *running == 0).await;
    }

    /// How often a process was started again after one had ended by itself.
    pub fn restarts(&self) -> u64 {
        self.command.restarts.get()
    }

    /// How long the first start may take, even if no request waits for it any more.
    pub fn set_longest_start(&self, longest: Duration) {
        let longest = u64::try_from(longest.as_millis()).unwrap_or(u64::MAX);
        self.command.starts.longest.store(longest, Ordering::Relaxed);
    }

    /// Processes that start from now on have these variables, in place of those of the same name in the config. `holder` is kept.
    pub fn give(&self, env: Vec<(String, Secret)>, holder: Arc<dyn Any + Send + Sync>) {
        *self.given.lock() = Given { env, _holder: Some(holder) };
    }

    /// Whether it is to be started now, before it is needed: once.
    pub fn begins_warm(&self) -> bool {
        !self.command.starts.warmed.swap(true, Ordering::Relaxed)
    }

    /// Ends all its processes, patiently, and starts no more until [`Supervisor::allow`].
    pub fn stop(&self) {
        self.orders.send_modify(|orders| {
            orders.refuses = true;
            orders.end_below = orders.next;
        });
    }

    /// Starts processes again, without a pause for what failed before.
    pub fn allow(&self) {
        self.history.lock().backoffs.clear();
        self.orders.send_modify(|orders| orders.refuses = false);
    }

    /// Ends all its processes, patiently. Those that start from now on stay, as after [`Supervisor::allow`].
    pub fn renew(&self) {
        self.orders.send_modify(|orders| orders.end_below = orders.next);
        self.allow();
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.orders.borrow().refuses
    }

    /// Kills all its processes at once, and starts no more until [`Supervisor::allow`].
    pub fn kill_now(&self) {
        self.stop();
        self.orders.send_modify(|orders| orders.kill_below = orders.next);
    }

    /// Starts a process for `owner`, after the pause that is due if others of the same owner failed before it. The process
    /// lives no longer than the runtime of the caller: its keeper runs there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UpstreamUnreachable`] if the command cannot be run, or is stopped; [`Error::out_of`] processes.
    pub async fn start(self: &Arc<Self>, owner: &Arc<Owner>) -> Result<Child, Error> {
        let CommandState { name, target, health, patience, .. } = &*self.command;
        loop {
            let wait = self.history.lock().backoffs.wait(owner.name(), Instant::now(), patience);
            let Some(wait) = wait else { break };
            let mut orders = self.orders.subscribe();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = orders.wait_for(|orders| orders.refuses) => break,
            }
        }
        let share = owner.take(Resource::Processes);
        let share = share.map_err(|limit| Error::out_of(Resource::Processes, limit))?;
        let Some(number) = self.admit() else {
            return Err(ErrorKind::UpstreamUnreachable.with_cause(format!("server {name:?} is stopped")));
        };
        self.launch(number, share).await.map_err(|error| {
            let where_ = match &target.cwd {
                Some(cwd) if !cwd.is_dir() => " in its working directory",
                _ => "",
            };
            let command = &target.command;
            let cause = format!("cannot run {command:?} of server {name:?}{where_}: {error}");
            health.failed(&cause);
            ErrorKind::UpstreamUnreachable.with_cause(cause)
        })
    }

    /// The number of the next process, unless there is to be none.
    fn admit(&self) -> Option<u64> {
        let mut number = None;
        self.orders.send_if_modified(|orders| {
            if !orders.refuses {
                number = Some(orders.next);
                orders.next += 1;
            }
            // No task waits for a number.
            false
        });
        number
    }

    async fn launch(self: &Arc<Self>, number: u64, share: Share) -> io::Result<Child> {
        let running = Running::begin(self, share);
        let start = move || {
            let CommandState { target, observer, .. } = &*running.supervisor.command;
            let mut target = Cow::Borrowed(target);
            let env = running.supervisor.given.lock().env.clone();
            if !env.is_empty() {
                // The last of a name is what counts.
                target.to_mut().env.extend(env);
            }
            Ok((Process::start(&target, Input::Pipe, observer)?, running))
        };
        let (mut process, running) = spawner::run(start).await?;
        let stdin = process.stdin()?;
        let (outputs, watch) = process.attach()?;
        {
            let mut history = self.history.lock();
            if history.missing > 0 {
                history.missing -= 1;
                self.command.restarts.inc();
            }
        }
        let line = self.command.observer.log.line(Level::Info, "Server process started");
        line.str("server", &self.command.name).int("pid", process.id()).send();

        let (ending, asked) = oneshot::channel();
        let (ended, exit) = oneshot::channel();
        let owner = Arc::clone(running.share.owner());
        let (has, is_let_go, first) = (AtomicBool::new(false), AtomicBool::new(false), Notify::new());
        let spoke = Arc::new(OutputSeen { supervisor: Arc::clone(self), has, is_let_go, first });
        let of_keeper = Arc::clone(&spoke);
        let born = Instant::now();
        let keeper = Keeper { process, watch, number, running, born, spoke: of_keeper };
        tokio::spawn(keeper.keep(outputs.stderr, asked, ended));
        let orders = self.orders.subscribe();
        let life = Life { orders, number, exit, ending: Some(ending), owner, spoke, born };
        Ok(Child { stdin, stdout: outputs.stdout, life })
    }

    /// A process has ended, by itself if `failed`, and so.
    fn ended(&self, owner: &OwnerName, born: Instant, spoke: bool, failed: bool, how: &str) {
        if failed {
            self.command.health.failed(how);
        }
        let mut history = self.history.lock();
        // One that callers share and that worked was broken by one of them, and the others need not wait for that.
        let is_to_blame = failed && !(spoke && *owner == OwnerName::Gateway);
        history.backoffs.ended(owner, born, Instant::now(), is_to_blame, &self.command.patience);
        history.missing += usize::from(failed);
    }
}

/// One of the processes that are counted.
struct Running {
    supervisor: Arc<Supervisor>,
    share: Share,
}

impl Running {
    fn begin(supervisor: &Arc<Supervisor>, share: Share) -> Self {
        supervisor.running.send_modify(|running| *running += 1);
        Self { supervisor: Arc::clone(supervisor), share }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.supervisor.running.send_modify(|running| *running -= 1);
    }
}

/// A process that runs, for the session that uses it. Dropping it asks the process to end.
pub struct Child {
    /// Its standard input; dropping it is the polite way to say that nothing more comes.
    pub stdin: pipe::Sender,
    /// Its standard output.
    pub stdout: pipe::Receiver,
    /// Its end.
    pub life: Life,
}

/// How a process comes to its end. Dropping it asks for the end.
pub struct Life {
    orders: watch::Receiver<Orders>,
    number: u64,
    exit: oneshot::Receiver<Cow<'static, str>>,
    ending: Option<oneshot::Sender<EndReason>>,
    owner: Arc<Owner>,
    spoke: Arc<OutputSeen>,
    born: Instant,
}

/// Whether a process has written something, and so was able to start.
pub struct OutputSeen {
    supervisor: Arc<Supervisor>,
    has: AtomicBool,
    /// Its standard input was closed, while it may finish its start: if it ends by that, it was asked to.
    is_let_go: AtomicBool,
    /// Notified by its first output.
    first: Notify,
}

impl OutputSeen {
    /// It wrote something.
    pub fn note(&self) {
        self.supervisor.command.health.answered();
        if !self.has.load(Ordering::Relaxed) {
            self.has.store(true, Ordering::Relaxed);
            self.supervisor.command.starts.succeeded.store(true, Ordering::Relaxed);
            self.first.notify_one();
        }
    }

    fn has(&self) -> bool {
        self.has.load(Ordering::Relaxed)
    }

    fn is_let_go(&self) -> bool {
        self.is_let_go.load(Ordering::Relaxed)
    }
}

/// Why a process is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// It is not needed any more.
    Unneeded,
    /// It does not do what it is for. Counts as a failure, as if it had ended by itself.
    Broken,
}

/// What happens to a process.
#[derive(Debug, PartialEq, Eq)]
pub enum ProcessEvent {
    /// It has ended; how, for the log. It and its group are gone.
    Exited(Cow<'static, str>),
    /// The server is to be stopped: let go of its standard input.
    Stop,
}

/// A first start that goes on although the process is not needed any more. There is at most one of a server at a time.
pub struct FirstStart {
    spoke: Arc<OutputSeen>,
    until: Instant,
}

impl FirstStart {
    /// Waits until the process has written something, or has had the time that it may take.
    pub async fn over(&self) {
        tokio::select! {
            () = self.spoke.first.notified() => {}
            () = tokio::time::sleep_until(self.until.into()) => {}
        }
    }
}

impl Drop for FirstStart {
    fn drop(&mut self) {
        self.spoke.supervisor.command.starts.is_finishing.store(false, Ordering::Relaxed);
    }
}

impl Life {
    /// What is left of its start, if the process may finish that although it is not needed. The first start of a command may
    /// be what installs it (`npx`, `uvx`): broken off each time somebody has waited long enough, it would never complete.
    /// That its standard input is closed, which it is by then, ends those that have nothing else to do.
    pub fn first_start(&self) -> Option<FirstStart> {
        let starts = &self.spoke.supervisor.command.starts;
        let until = self.born.checked_add(Duration::from_millis(starts.longest.load(Ordering::Relaxed)))?;
        let may_finish = !starts.succeeded.load(Ordering::Relaxed)
            && Instant::now() < until
            && !starts.is_finishing.swap(true, Ordering::Relaxed);
        may_finish.then(|| {
            self.spoke.is_let_go.store(true, Ordering::Relaxed);
            FirstStart { spoke: Arc::clone(&self.spoke), until }
        })
    }

    /// Whose process it is.
    pub fn owner(&self) -> &Arc<Owner> {
        &self.owner
    }

    /// Gets what the process writes.
    pub fn spoke(&self) -> Arc<OutputSeen> {
        Arc::clone(&self.spoke)
    }

    /// What happens first.
    pub async fn event(&mut self) -> ProcessEvent {
        let number = self.number;
        tokio::select! {
            biased;
            how = exited(&mut self.exit) => ProcessEvent::Exited(how),
            _ = self.orders.wait_for(|orders| orders.end_below > number) => ProcessEvent::Stop,
        }
    }

    /// How it ended, once it has. Not to be asked again after that was returned, here or by [`Life::event`].
    pub async fn exited(&mut self) -> Cow<'static, str> {
        exited(&mut self.exit).await
    }

    /// Has it end: let go of its standard input too. It gets SIGTERM and SIGKILL if it takes its time.
    pub fn end(&mut self, why: EndReason) {
        if let Some(ending) = self.ending.take() {
            // Fails when it has ended already.
            let _ = ending.send(why);
        }
    }
}

async fn exited(exit: &mut oneshot::Receiver<Cow<'static, str>>) -> Cow<'static, str> {
    exit.await.unwrap_or(Cow::Borrowed("its keeper is gone"))
}

#[cfg(test)]
pub(crate) mod tests;
