//! `sluicegate serve`: a gate that is a process, which signals and its config file drive.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal as _},
    os::fd::AsFd as _,
    path::Path,
    pin::pin,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Gateway, StartError, exposed};
use crate::{
    child::shield,
    config::{Level, Loaded, Problem, Server, Severity, Snapshot, Target, watch::Watcher},
    observe::{Log, Metrics, Observer, Reload},
};

/// Runs the gate with the config at `path` until a signal ends it.
pub fn serve(path: &Path) -> ExitCode {
    // Before anything secret is read.
    if let Err(e) = shield::raise() {
        eprintln!("sluicegate: other processes of this user may see into this one: {e}");
    }
    raise_limits();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("sluicegate: runtime: {e}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        // A signal that comes while the gate starts waits until it has.
        let signals = Signals::listen();
        // The watcher comes before the load, so that a change in between is not missed.
        let watcher = Watcher::new(vec![path.to_owned()]);
        let began = SystemTime::now();
        let (loaded, variables) = exposed::load(path);
        // At the start there is no last good certificate, and somebody who can mend it is there.
        let is_whole = loaded.is_whole();
        let Loaded { snapshot, problems, files } = loaded;
        let Some(snapshot) = snapshot.filter(|_| is_whole) else {
            problems.iter().for_each(|problem| eprintln!("{problem}"));
            return ExitCode::from(2);
        };
        let served = async {
            let signals = signals.map_err(|e| StartError::Io("signals".to_owned(), e))?;
            let observer = observe(&snapshot).map_err(|e| StartError::Io("log and metrics".to_owned(), e))?;
            let mut watcher = watcher;
            watcher.watch(files, began);
            let start = Start { snapshot: &snapshot, problems: &problems, variables };
            let served = run(path, signals, watcher, start, &observer).await;
            observer.close();
            served
        };
        match served.await {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => {
                eprintln!("sluicegate: {e}");
                ExitCode::FAILURE
            }
        }
    })
}

/// The end of `shutdownDelay`, in which nothing is accepted any more, but still served.
const LAST_OF_DELAY: Duration = Duration::from_secs(1);

/// What the process is told from outside.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    /// The process is to end.
    async fn end(&mut self) {
        tokio::select! { _ = self.term.recv() => {}, _ = self.int.recv() => {} }
    }
}

/// What a gate starts with.
struct Start<'a> {
    snapshot: &'a Snapshot,
    problems: &'a [Problem],
    /// Variables of the environment that the config asked for.
    variables: BTreeSet<String>,
}

async fn run(
    path: &Path,
    mut signals: Signals,
    watcher: Watcher,
    Start { snapshot, problems, variables }: Start<'_>,
    observer: &Arc<Observer>,
) -> Result<(), StartError> {
    let gateway = Gateway::start(snapshot, Arc::clone(observer)).await?;
    report_start(&gateway, snapshot, problems, &watcher);
    exposed::warn(&observer.log, snapshot, variables);
    let (delay, grace) = (snapshot.shutdown_delay, snapshot.shutdown_grace);
    let mut served = Served { path, gateway, watcher, delay, grace };
    let _ = served.until(std::future::pending::<()>(), &mut signals).await;
    if io::stderr().is_terminal() {
        eprintln!("sluicegate: finishing what runs; Ctrl-C again ends it now");
    }
    let (delay, grace) = (served.delay, served.grace);
    let mut left = grace;
    if !delay.is_zero() {
        served.gateway.leave();
        observer
            .log
            .line(Level::Info, "Leaving: not ready, and still serving")
            .millis("delay_ms", delay)
            .send();
        let last = delay.min(LAST_OF_DELAY);
        let mut left_in_time = served.until(tokio::time::sleep(delay - last), &mut signals).await.is_ok();
        if left_in_time {
            // What a balancer sent just before it noticed is still served.
            served.gateway.stop_accepting();
            left_in_time = served.until(tokio::time::sleep(last), &mut signals).await.is_ok();
        }
        if !left_in_time {
            left = Duration::ZERO;
        }
    }
    let began = Instant::now();
    observer.log.line(Level::Info, "Draining").millis("grace_ms", left).send();
    served.gateway.drain();
    let drained = tokio::time::timeout(left, served.gateway.drained());
    left = match served.until(drained, &mut signals).await {
        Ok(Ok(())) => left.saturating_sub(began.elapsed()),
        Ok(Err(_)) | Err(Hurry) => Duration::ZERO,
    };
    served.gateway.stop(left, signals.end()).await;
    observer.log.line(Level::Info, "Stopped").send();
    Ok(())
}

/// A gate and the file that it follows.
struct Served<'a> {
    path: &'a Path,
    gateway: Gateway,
    watcher: Watcher,
    delay: Duration,
    grace: Duration,
}

/// A signal to end came.
struct Hurry;

impl Served<'_> {
    /// Follows the config until `end`, or until a signal to end comes.
    async fn until<T>(&mut self, end: impl Future<Output = T>, signals: &mut Signals) -> Result<T, Hurry> {
        let mut end = pin!(end);
        loop {
            tokio::select! {
                ended = &mut end => return Ok(ended),
                _ = signals.term.recv() => return Err(Hurry),
                _ = signals.int.recv() => return Err(Hurry),
                _ = signals.hup.recv() => self.reload(),
                () = self.watcher.changed() => self.reload(),
            }
        }
    }

    /// Reads the config again. A bad one changes nothing, and everyone can see that.
    fn reload(&mut self) {
        let began = SystemTime::now();
        let (loaded, variables) = exposed::load(self.path);
        let is_whole = loaded.is_whole();
        self.watcher.watch(loaded.files, began);
        let observer = Arc::clone(&self.gateway.shared.observer);
        report(&observer.log, &loaded.problems);
        let result = match &loaded.snapshot {
            None => Err("the file has errors".to_owned()),
            Some(snapshot) => self.gateway.reload(snapshot).map_err(|e| e.to_string()),
        };
        observer.metrics.reloaded(match (&result, is_whole) {
            (Ok(()), true) => Reload::Whole,
            (Ok(()), false) => Reload::Part,
            (Err(_), _) => Reload::Nothing,
        });
        match (result, loaded.snapshot) {
            (Ok(()), Some(snapshot)) => {
                warn_of_root(&observer.log, &snapshot);
                exposed::warn(&observer.log, &snapshot, variables);
                (self.delay, self.grace) = (snapshot.shutdown_delay, snapshot.shutdown_grace);
                stamp_reload(&observer.metrics);
                let (level, msg) = match is_whole {
                    true => (Level::Info, "Config reloaded"),
                    false => (Level::Error, "Config reloaded, but for files that cannot be used"),
                };
                observer.log.line(level, msg).int("servers", snapshot.servers.len() as u64).send();
            }
            (result, _) => {
                let cause = result.err().unwrap_or_default();
                observer
                    .log
                    .line(Level::Error, "Config not reloaded; the last good one stays in force")
                    .text("cause", &cause)
                    .send();
            }
        }
    }
}

/// Log and metrics for a gate that runs as a process of its own: lines go to standard output.
pub fn observe(snapshot: &Snapshot) -> io::Result<Arc<Observer>> {
    let metrics = Metrics::new().map_err(io::Error::other)?;
    let (level, format) = (snapshot.log.level, snapshot.log.format);
    // Past the buffer of the standard library: of a write that fails, it would keep a part for later.
    let out = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let log = Log::start(level, format, Box::new(out), metrics.log_lines_dropped.clone())?;
    let observer = Arc::new(Observer::new(log, metrics));
    count_panics(&observer);
    Ok(observer)
}

/// A panic ends the task that it happens in; it must not go unseen. Its message stays out of the log, since it may quote
/// what a peer sent.
fn count_panics(observer: &Arc<Observer>) {
    let observer = Arc::clone(observer);
    std::panic::set_hook(Box::new(move |info| {
        observer.metrics.panics.inc();
        let at = info.location().map(ToString::to_string);
        observer
            .log
            .line(Level::Error, "A task panicked; this is a defect, please report it")
            .opt("at", at.as_deref())
            .send();
    }));
}

fn report_start(gateway: &Gateway, snapshot: &Snapshot, problems: &[Problem], watcher: &Watcher) {
    let observer = &gateway.shared.observer;
    let log = &observer.log;
    report(log, problems);
    warn_of_root(log, snapshot);
    if let Some(problem) = watcher.problem() {
        log.line(Level::Warn, "Changes of files are polled every 2 s").text("cause", problem).send();
    }
    let scheme = if snapshot.tls.is_some() { "https" } else { "http" };
    for addr in gateway.addrs() {
        log.line(Level::Info, "Listening")
            .str("name", &snapshot.name)
            .display("url", format_args!("{scheme}://{addr}"))
            .int("workers", snapshot.workers as u64)
            .int("servers", snapshot.servers.len() as u64)
            .send();
    }
    if snapshot.tls.is_none() && !gateway.addrs().iter().all(|addr| addr.ip().is_loopback()) {
        log.line(
            Level::Warn,
            "Plain HTTP: tokens cross the network unencrypted unless something in front adds TLS",
        )
        .send();
    }
    if let Some(addr) = gateway.admin_addr() {
        log.line(Level::Info, "Listening for administration")
            .display("url", format_args!("http://{addr}"))
            .send();
    }
    observer.metrics.config_last_reload_successful.set(1);
    stamp_reload(&observer.metrics);
}

/// Whom no shield holds is said where there is somebody to be held.
fn warn_of_root(log: &Log, snapshot: &Snapshot) {
    let runs_commands = |server: &Server| !matches!(server.target, Target::Http(_));
    if shield::commands_can_see_everything() && snapshot.servers.iter().any(runs_commands) {
        let msg = "The gate runs as root, and so do its commands, which can read its memory: give it a user of its own";
        log.line(Level::Warn, msg).send();
    }
}

fn report(log: &Log, problems: &[Problem]) {
    for problem in problems {
        let level = match problem.severity {
            Severity::Notice => Level::Info,
            Severity::Warning => Level::Warn,
            Severity::Part | Severity::Error => Level::Error,
        };
        log.line(level, "Config").text("problem", &problem.to_string()).send();
    }
}

fn stamp_reload(metrics: &Metrics) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    metrics.config_last_reload_timestamp.set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
}

/// As many files as the system grants, of which the config shares out.
fn raise_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
}
