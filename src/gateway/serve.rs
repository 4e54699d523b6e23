//! `sluicegate serve`: a gate that is a process, which signals and its config file drive.

use std::{
    collections::BTreeSet,
    io,
    os::fd::AsFd as _,
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Gateway, StartError, exposed};
use crate::{
    child::shield,
    config::{Level, Loaded, Problem, Server, Severity, Snapshot, Target, watch::Watcher},
    observe::{Log, Metrics, Observer},
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
        let (Loaded { snapshot, problems, files }, variables) = exposed::load(path);
        let Some(snapshot) = snapshot else {
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
    let mut served = Served { path, gateway, watcher, grace: snapshot.shutdown_grace };
    loop {
        tokio::select! {
            _ = signals.term.recv() => break,
            _ = signals.int.recv() => break,
            _ = signals.hup.recv() => served.reload(),
            () = served.watcher.changed() => served.reload(),
        }
    }
    let (began, grace) = (Instant::now(), served.grace);
    observer.log.line(Level::Info, "Draining").millis("grace_ms", grace).send();
    served.gateway.drain();
    // What is revoked ends now, too, and not with the grace.
    let left = loop {
        tokio::select! {
            () = served.gateway.drained() => break grace.saturating_sub(began.elapsed()),
            () = tokio::time::sleep(grace.saturating_sub(began.elapsed())) => break Duration::ZERO,
            _ = signals.term.recv() => break Duration::ZERO,
            _ = signals.int.recv() => break Duration::ZERO,
            _ = signals.hup.recv() => served.reload(),
            () = served.watcher.changed() => served.reload(),
        }
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
    grace: Duration,
}

impl Served<'_> {
    /// Reads the config again. A bad one changes nothing, and everyone can see that.
    fn reload(&mut self) {
        let began = SystemTime::now();
        let (loaded, variables) = exposed::load(self.path);
        self.watcher.watch(loaded.files, began);
        let observer = Arc::clone(&self.gateway.shared.observer);
        report(&observer.log, &loaded.problems);
        let result = match &loaded.snapshot {
            None => Err("the file has errors".to_owned()),
            Some(snapshot) => self.gateway.reload(snapshot).map_err(|e| e.to_string()),
        };
        observer.metrics.reloaded(result.is_ok());
        match (result, loaded.snapshot) {
            (Ok(()), Some(snapshot)) => {
                warn_of_root(&observer.log, &snapshot);
                exposed::warn(&observer.log, &snapshot, variables);
                self.grace = snapshot.shutdown_grace;
                stamp_reload(&observer.metrics);
                observer
                    .log
                    .line(Level::Info, "Config reloaded")
                    .int("servers", snapshot.servers.len() as u64)
                    .send();
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
            Severity::Error => Level::Error,
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
