//! `sluicegate serve`: a gateway that is a process, which signals and its config file drive.

use std::{
    io::{self, IsTerminal as _},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::gateway::{
    Gateway, StartError,
    config_thread::{ConfigThread, LogFlags, StartRefusal, Started, report, report_stuck, warn_of_root},
};
use crate::{
    child::shield,
    config::{Level, Problem},
    downstream::self_signed::{SelfMade, write_ca as write_ca_over_certificate},
    observe::Log,
};

/// Runs the gateway with the config at `path` until a signal ends it.
///
/// This thread accepts and takes signals, and does nothing else that could keep it: see `gateway::config_thread`.
///
/// With `ca_out`, the CA of a self-made certificate is written there once the gateway listens.
pub fn serve(path: &Path, ca_out: Option<&Path>, flags: LogFlags) -> ExitCode {
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
    match runtime.block_on(run(path, ca_out, flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(StartRefusal::Config(problems)) => {
            problems.iter().for_each(|problem| eprint!("{}", problem.with_excerpt()));
            ExitCode::from(2)
        }
        Err(StartRefusal::Start(e)) => {
            eprintln!("sluicegate: {e}");
            ExitCode::FAILURE
        }
    }
}

/// The end of `shutdownDelay`, in which nothing is accepted any more, but still served.
const LAST_OF_DELAY: Duration = Duration::from_secs(1);

/// Commands to the process from outside.
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

    /// The process is to end. Reloads that are asked for until then are passed on.
    async fn end(&mut self, follower: &ConfigThread) {
        loop {
            tokio::select! {
                _ = self.term.recv() => return,
                _ = self.int.recv() => return,
                _ = self.hup.recv() => follower.reload(),
            }
        }
    }

    /// What comes of `future`, unless the process is to end before.
    async fn unless<T>(&mut self, follower: &ConfigThread, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            output = future => Some(output),
            () = self.end(follower) => None,
        }
    }
}

async fn run(path: &Path, ca_out: Option<&Path>, flags: LogFlags) -> Result<(), StartRefusal> {
    let of_system = |what: &str| {
        let what = what.to_owned();
        move |e| StartRefusal::Start(StartError::Io(what, e))
    };
    let mut signals = Signals::listen().map_err(of_system("signals"))?;
    let (follower, started) = ConfigThread::start(path, flags).map_err(of_system("thread for the config"))?;
    let say = || {
        eprintln!(
            "sluicegate: the start waits for a file system that does not answer: that of {} or of a file that it names, or \
             of `stateDir`, where another program may have the store of logins locked",
            path.display()
        )
    };
    let started = tokio::select! {
        started = started => match started {
            Ok(started) => started?,
            // It ended without a word, which only a panic can do, and that was logged.
            Err(_) => return Err(of_system("config")(io::Error::other("its thread ended"))),
        },
        () = signals.end(&follower) => return Ok(()),
        () = follower.look_after(say) => return Ok(()),
    };
    let observer = Arc::clone(&started.observer);
    let served = serve_until_signal(&mut signals, &follower, started, ca_out).await;
    observer.close();
    served.map_err(StartRefusal::Start)
}

async fn serve_until_signal(
    signals: &mut Signals,
    follower: &ConfigThread,
    Started { prepared, problems, observer, polls, give }: Started,
    ca_out: Option<&Path>,
) -> Result<(), StartError> {
    let gateway = Arc::new(prepared.open()?);
    if let Some(to) = ca_out {
        write_ca(&gateway, to)
            .map_err(|e| StartError::Io(format!("cannot write the CA to {}", to.display()), e))?;
    }
    report_start(&gateway, &problems, polls.as_deref());
    // It ends only with this process.
    let _ = give.send(Arc::clone(&gateway));
    let (looking, of_looking) = (follower.clone(), Arc::clone(&observer));
    tokio::spawn(async move { looking.look_after(|| report_stuck(&of_looking)).await });
    signals.end(follower).await;
    if io::stderr().is_terminal() {
        eprintln!("sluicegate: finishing what runs; Ctrl-C again ends it now");
    }
    // The config is followed all the while: what is revoked ends now, too, and not with the grace.
    let snapshot = gateway.in_force();
    let (delay, mut left) = (snapshot.shutdown_delay, snapshot.shutdown_grace);
    if !delay.is_zero() {
        gateway.leave();
        observer
            .log
            .line(Level::Info, "Leaving: not ready, and still serving")
            .millis("delay_ms", delay)
            .send();
        let last = delay.min(LAST_OF_DELAY);
        let leaving = async {
            tokio::time::sleep(delay - last).await;
            // What a balancer sent just before it noticed is still served.
            gateway.stop_accepting();
            tokio::time::sleep(last).await;
        };
        if signals.unless(follower, leaving).await.is_none() {
            left = Duration::ZERO;
        }
    }
    let began = Instant::now();
    gateway.drain();
    observer.log.line(Level::Info, "Draining").millis("grace_ms", left).send();
    let drained = tokio::time::timeout(left, gateway.drained());
    left = match signals.unless(follower, drained).await {
        Some(Ok(())) => left.saturating_sub(began.elapsed()),
        Some(Err(_)) | None => Duration::ZERO,
    };
    follower.end();
    gateway.stop(left, signals.end(follower)).await;
    observer.log.line(Level::Info, "Stopped").send();
    Ok(())
}

/// Puts the CA's certificate where the user wants it, in place of one that is there.
fn write_ca(gateway: &Gateway, to: &Path) -> io::Result<()> {
    let none = || io::Error::other("the certificate is not self-made; `--ca-out` needs `tls.selfSigned`");
    let ca = gateway.self_made().ok_or_else(none)?.ca();
    write_ca_over_certificate(to, ca)
}

/// Nobody is to take a self-made certificate for one of an authority.
fn report_self_made(log: &Log, made: &SelfMade) {
    let (level, msg) = match made.kept() {
        Ok(_) => (Level::Info, "The certificate is self-made; clients have to trust its CA"),
        Err(_) => (
            Level::Warn,
            "The certificate is self-made, and its CA cannot be kept: clients have to trust another at each start",
        ),
    };
    let line = log.line(level, msg);
    match made.kept() {
        Ok(path) => line.text("ca", &path.display().to_string()).send(),
        Err(cause) => line.text("cause", cause).send(),
    }
}

fn report_start(gateway: &Gateway, problems: &[Problem], polls: Option<&str>) {
    let snapshot = gateway.in_force();
    let observer = &gateway.shared.observer;
    let log = &observer.log;
    report(log, problems);
    warn_of_root(log, &snapshot);
    if let Some(problem) = polls {
        log.line(Level::Warn, "Changes of files are polled every 2 s").text("cause", problem).send();
    }
    if let Some(made) = gateway.self_made() {
        report_self_made(log, made);
    }
    let scheme = if snapshot.tls.is_some() { "https" } else { "http" };
    let url = |addr| match &snapshot.base_url {
        Some(base) => base.to_string(),
        None => format!("{scheme}://{addr}"),
    };
    for addr in gateway.addrs() {
        log.line(Level::Info, "Listening")
            .str("name", &snapshot.name)
            .display("url", url(addr))
            .display("addr", addr)
            .int("workers", snapshot.workers)
            .int("servers", snapshot.servers.len())
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
    observer.metrics.config_loaded();
}

/// As many files as the system grants, of which the config shares out.
fn raise_limits() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let files = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum });
}
