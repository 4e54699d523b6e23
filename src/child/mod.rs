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
};

/// How long the gateway waits for a command, and with starting it again.
#[derive(Debug, Clone)]
pub struct ProcessTimeouts {
    /// From the end of its standard input to SIGTERM. 5 s.
    pub after_stdin: Duration,
    /// From SIGTERM to SIGKILL. 5 s.
    pub after_sigterm: Duration,
    /// Before the start that follows one failure; doubles with each further one. 0.1 s.
    pub first_pause: Duration,
    /// The longest that it becomes. 30 s.
    pub longest_pause: Duration,
    /// How long a process has to live for the failures before it to be forgotten. 10 s.
    pub lived_well: Duration,
}

impl Default for ProcessTimeouts {
    fn default() -> Self {
        Self {
            after_stdin: Duration::from_secs(5),
            after_sigterm: Duration::from_secs(5),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_secs(30),
            lived_well: Duration::from_secs(10),
        }
    }
}

/// Starts the processes of one configured command and knows how they fare. Outlives sessions, and reloads that leave
/// the command as it is.
pub struct Supervisor {
    name: Arc<str>,
    target: StdioTarget,
    observer: Arc<Observer>,
    health: Arc<Health>,
    patience: ProcessTimeouts,
    restarts: IntCounter,
    running: watch::Sender<usize>,
    starts: Arc<Starts>,
    history: Mutex<History>,
    orders: watch::Sender<Orders>,
}

/// What is known of how it starts.
#[derive(Default)]
struct Starts {
    /// Milliseconds that a start may take; none is waited for longer.
    longest: AtomicU64,
    /// Whether any process wrote something.
    succeeded: AtomicBool,
    /// Whether a process starts that nobody needs any more.
    is_finishing: AtomicBool,
    /// Whether one was started before anybody needed it.
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
    ) -> Arc<Self> {
        Self::with_patience(name, target, observer, health, ProcessTimeouts::default())
    }

    /// The same, with other times.
    pub fn with_patience(
        name: Arc<str>,
        target: StdioTarget,
        observer: Arc<Observer>,
        health: Arc<Health>,
        patience: ProcessTimeouts,
    ) -> Arc<Self> {
        let restarts = observer.metrics.child_restarts(&name);
        Arc::new(Self {
            name,
            target,
            observer,
            health,
            patience,
            restarts,
            running: watch::Sender::default(),
            starts: Arc::default(),
            history: Mutex::default(),
            orders: watch::Sender::default(),
        })
    }

    /// One for the same command, whose processes are its own: they start, end and fail apart from these. How the command
    /// starts holds for both.
    fn sibling(&self) -> Arc<Self> {
        let orders = Orders { refuses: self.is_stopped(), ..Orders::default() };
        Arc::new(Self {
            name: Arc::clone(&self.name),
            target: self.target.clone(),
            observer: Arc::clone(&self.observer),
            health: Arc::clone(&self.health),
            patience: self.patience.clone(),
            restarts: self.restarts.clone(),
            running: watch::Sender::default(),
            starts: Arc::clone(&self.starts),
            history: Mutex::default(),
            orders: watch::Sender::new(orders),
        })
    }

    /// Whether the next failure may have to wait longer for those before it.
    fn has_failed_lately(&self) -> bool {
        self.history.lock().backoffs.is_any_left(Instant::now(), &self.patience)
    }

    /// Name of the server.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Log and counters that its processes are seen in.
    pub fn observer(&self) -> &Arc<Observer> {
        &self.observer
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
        self.restarts.get()
    }

    /// How long the first start may take, even if nobody waits for it any more.
    pub fn set_longest_start(&self, longest: Duration) {
        self.starts.longest.store(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Whether it is to be started now, before anybody needs it: once.
    pub fn begins_warm(&self) -> bool {
        !self.starts.warmed.swap(true, Ordering::Relaxed)
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
        self.history.lock().backoffs.clear();
        self.orders.send_modify(|orders| {
            orders.refuses = false;
            orders.end_below = orders.next;
        });
    }

    /// Whether it is stopped.
    pub fn is_stopped(&self) -> bool {
        self.orders.borrow().refuses
    }

    /// Kills all its processes at once, and starts no more until [`Supervisor::allow`].
    pub fn kill_now(&self) {
        self.orders.send_modify(|orders| {
            orders.refuses = true;
            orders.end_below = orders.next;
            orders.kill_below = orders.next;
        });
    }

    /// Starts a process for `owner`, after the pause that is due if others of the same owner failed before it. The process
    /// lives no longer than the runtime of the caller: its keeper runs there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::UpstreamUnreachable`] if the command cannot be run, or is stopped; [`Error::out_of`] processes.
    pub async fn start(self: &Arc<Self>, owner: &Arc<Owner>) -> Result<Child, Error> {
        loop {
            let wait = self.history.lock().backoffs.wait(owner.name(), Instant::now(), &self.patience);
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
            return Err(
                ErrorKind::UpstreamUnreachable.with_cause(format!("server {:?} is stopped", self.name))
            );
        };
        self.launch(number, share).await.map_err(|error| {
            let where_ = match &self.target.cwd {
                Some(cwd) if !cwd.is_dir() => " in its working directory",
                _ => "",
            };
            let (name, command) = (&self.name, &self.target.command);
            let cause = format!("cannot run {command:?} of server {name:?}{where_}: {error}");
            self.health.failed(&cause);
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
            // Nobody waits for a number.
            false
        });
        number
    }

    async fn launch(self: &Arc<Self>, number: u64, share: Share) -> io::Result<Child> {
        let running = Running::begin(self, share);
        let start = move || {
            let Supervisor { target, observer, .. } = &*running.supervisor;
            Ok((Process::start(target, Input::Pipe, observer)?, running))
        };
        let (mut process, running) = spawner::run(start).await?;
        let stdin = process.stdin()?;
        let (outputs, watch) = process.attach()?;
        {
            let mut history = self.history.lock();
            if history.missing > 0 {
                history.missing -= 1;
                self.restarts.inc();
            }
        }
        let line = self.observer.log.line(Level::Info, "Server process started");
        line.str("server", &self.name).int("pid", u64::from(process.id())).send();

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
            self.health.failed(how);
        }
        let mut history = self.history.lock();
        // One that callers share and that worked was broken by one of them, and the others need not wait for that.
        let is_to_blame = failed && !(spoke && *owner == OwnerName::Gate);
        history.backoffs.ended(owner, born, Instant::now(), is_to_blame, &self.patience);
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

/// A process that runs, for whoever talks to it. Dropping it asks the process to end.
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
    /// Of the first that it says.
    first: Notify,
}

impl OutputSeen {
    /// It wrote something.
    pub fn note(&self) {
        self.supervisor.health.answered();
        if !self.has.load(Ordering::Relaxed) {
            self.has.store(true, Ordering::Relaxed);
            self.supervisor.starts.succeeded.store(true, Ordering::Relaxed);
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
    /// Nobody needs it.
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

/// A first start that goes on although nobody needs the process any more. There is one of a server at a time.
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
        self.spoke.supervisor.starts.is_finishing.store(false, Ordering::Relaxed);
    }
}

impl Life {
    /// What is left of its start, if the process may finish that although nobody needs it. The first start of a command may
    /// be what installs it (`npx`, `uvx`): broken off each time somebody has waited long enough, it would never be through.
    /// That its standard input is closed, which it is by then, ends those that have nothing else to do.
    pub fn first_start(&self) -> Option<FirstStart> {
        let starts = &self.spoke.supervisor.starts;
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
