//! The thread that follows the config: it looks at the files, loads them, and builds what they ask for.
//!
//! A file system may hang for minutes (a network goes away, a user-space file system stops), and thousands of servers
//! take their time to build. Neither may keep the gateway from accepting, from ending, or from closing tokens that
//! expire; so nothing waits for this thread, not even the end of the process, and that it still gets along is seen by
//! its beats.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    sync::{Notify, oneshot},
    time::{MissedTickBehavior, interval},
};

use crate::gateway::{Gateway, Prepared, StartError, change::ReloadChange, exposed};
use crate::{
    child::shield,
    clock::Clock,
    config::{
        Level, Loaded, LogFormat, Problem, Remaining, Server, Severity, Snapshot, Target,
        watch::{self, Watcher},
    },
    observe::{Log, Observer, Reload},
};

/// How often the thread shows that it gets along, and how often that is looked at.
const BEAT: Duration = Duration::from_secs(1);
/// Looks without a beat in between after which the config counts as unreadable: 5 s.
const MISSED: u32 = 5;
/// How long a file that hung must answer until that is logged.
const CALM: Duration = Duration::from_secs(5);
/// Loads that may fail in silence, because somebody saves all the while and half of a save may have been read: a second's.
const MOST_TORN: u32 = 20;

/// What the command line says of the log, which goes before the config.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogFlags {
    /// In place of `log.level`.
    pub level: Option<Level>,
    /// In place of `log.format`.
    pub format: Option<LogFormat>,
}

impl LogFlags {
    /// Puts the value of the command line in place of the value of `snapshot`.
    fn apply(self, snapshot: &mut Snapshot) {
        let log = &mut snapshot.log;
        log.level = self.level.unwrap_or(log.level);
        log.format = self.format.or(log.format);
    }
}

/// What the gateway starts with.
pub(super) struct Started {
    pub(super) prepared: Prepared,
    pub(super) problems: Vec<Problem>,
    pub(super) observer: Arc<Observer>,
    /// Why changes of files are polled, if they are.
    pub(super) polls: Option<String>,
    /// Takes the gateway, to reload it from then on.
    pub(super) give: oneshot::Sender<Arc<Gateway>>,
}

/// Why there is no gateway.
pub(super) enum StartRefusal {
    /// The config has errors.
    Config(Vec<Problem>),
    /// The system refuses something.
    Start(StartError),
}

/// What the thread and the one that accepts share.
#[derive(Default)]
struct ConfigThreadPulse {
    beats: AtomicU64,
    /// The missing beats were noticed and logged.
    is_missed: AtomicBool,
    /// Asks for a reload.
    asked: Notify,
    has_ended: AtomicBool,
}

/// A handle to the thread.
#[derive(Clone)]
pub(super) struct ConfigThread(Arc<ConfigThreadPulse>);

impl ConfigThread {
    /// Begins to follow the config at `path`.
    pub(super) fn start(
        path: &Path,
        flags: LogFlags,
    ) -> io::Result<(Self, oneshot::Receiver<Result<Started, StartRefusal>>)> {
        let pulse = Arc::new(ConfigThreadPulse::default());
        let (started, outcome) = oneshot::channel();
        let (of_thread, path) = (Arc::clone(&pulse), path.to_owned());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        thread::Builder::new().name("config".into()).spawn(move || {
            runtime.block_on(follow(path, flags, &of_thread, started));
        })?;
        Ok((Self(pulse), outcome))
    }

    /// Has the config applied again, also if it did not change. Asking often is asking once.
    pub(super) fn reload(&self) {
        self.0.asked.notify_one();
    }

    /// Nothing is applied from now on.
    pub(super) fn end(&self) {
        self.0.has_ended.store(true, Ordering::Relaxed);
    }

    /// Watches the thread for ever; `report` is called once each time that it is stuck.
    pub(super) async fn look_after(&self, report: impl Fn()) {
        let mut looks = interval(BEAT);
        // Whoever was stopped himself has missed nothing: looks are counted, not seconds.
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seen, mut missed) = (self.0.beats.load(Ordering::Relaxed), 0);
        loop {
            looks.tick().await;
            let beats = self.0.beats.load(Ordering::Relaxed);
            missed = if beats == seen { missed + 1 } else { 0 };
            seen = beats;
            // The first look is at the beginning of the first second.
            if missed == MISSED + 1 {
                self.0.is_missed.store(true, Ordering::Relaxed);
                report();
            }
        }
    }
}

/// Says that the thread is stuck, for which a gateway that runs has a log and metrics.
pub(super) fn report_stuck(observer: &Observer) {
    observer.metrics.reloaded(Reload::Nothing);
    let msg = "The config cannot be read at present: its file system does not answer; the last good one stays in force";
    observer.log.line(Level::Error, msg).send();
}

async fn follow(
    path: PathBuf,
    flags: LogFlags,
    pulse: &ConfigThreadPulse,
    outcome: oneshot::Sender<Result<Started, StartRefusal>>,
) {
    // The watcher comes before the load, so that a change in between is not missed.
    let mut watcher = Watcher::new(vec![path.clone()]);
    let (take, taken) = oneshot::channel();
    let (started, variables) = match start(&path, flags, &mut watcher, take) {
        Ok(started) => started,
        Err(refused) => {
            drop(outcome.send(Err(refused)));
            return;
        }
    };
    pulse.beats.fetch_add(1, Ordering::Relaxed);
    if outcome.send(Ok(started)).is_err() {
        return;
    }
    // Nobody has a gateway if it could not be opened.
    let Ok(gateway) = taken.await else { return };
    let snapshot = gateway.in_force();
    exposed::warn(&gateway.shared.observer.log, &snapshot, variables);
    let sees_everything = commands_see_everything(&snapshot);
    drop(snapshot);
    let mut followed = ConfigFollower {
        path,
        flags,
        gateway,
        watcher,
        last: Reload::Whole,
        refused_for: Vec::new(),
        sees_everything,
        torn: 0,
        is_starved: false,
        hung: BTreeMap::new(),
    };
    let mut beats = interval(BEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = beats.tick() => {
                pulse.beats.fetch_add(1, Ordering::Relaxed);
                if pulse.is_missed.swap(false, Ordering::Relaxed) {
                    followed.report_readable();
                }
                followed.report_hung();
            }
            () = pulse.asked.notified() => {
                followed.watcher.report_in_any_case();
                if let Some(audit) = &followed.gateway.shared.live().audit {
                    audit.reopen();
                }
            }
            change = followed.watcher.changed() => {
                if pulse.has_ended.load(Ordering::Relaxed) {
                    return;
                }
                followed.reload(change).await;
            }
        }
    }
}

fn start(
    path: &Path,
    flags: LogFlags,
    watcher: &mut Watcher,
    give: oneshot::Sender<Arc<Gateway>>,
) -> Result<(Started, BTreeSet<String>), StartRefusal> {
    let began = SystemTime::now();
    let (loaded, variables) = load(path, flags);
    // At the start there is no last good certificate, and somebody who can mend it is there.
    let is_whole = loaded.is_whole();
    let Loaded { snapshot, problems, files, .. } = loaded;
    let Some(snapshot) = snapshot.filter(|_| is_whole) else { return Err(StartRefusal::Config(problems)) };
    let of_system = |e| StartRefusal::Start(StartError::Io("log and metrics".to_owned(), e));
    let observer = Observer::of_process(&snapshot.log).map_err(of_system)?;
    watcher.watch(files, began);
    let prepared = Prepared::new(Arc::new(snapshot), Arc::clone(&observer), Clock::default());
    let prepared = prepared.map_err(StartRefusal::Start)?;
    let polls = watcher.problem().map(str::to_owned);
    Ok((Started { prepared, problems, observer, polls, give }, variables))
}

fn load(path: &Path, flags: LogFlags) -> (Loaded, BTreeSet<String>) {
    let (mut loaded, variables) = exposed::load(path);
    if let Some(snapshot) = &mut loaded.snapshot {
        flags.apply(snapshot);
    }
    (loaded, variables)
}

/// A gateway and the file that it follows.
struct ConfigFollower {
    path: PathBuf,
    flags: LogFlags,
    gateway: Arc<Gateway>,
    watcher: Watcher,
    /// What came of the last reload.
    last: Reload,
    /// What was logged about the last config, if it was refused.
    refused_for: Vec<Problem>,
    /// Whether the commands of the config in force see everything, which the log says when it begins.
    sees_everything: bool,
    /// Loads in a row that were no use, of files that go on changing.
    torn: u32,
    /// Whether the last load found no descriptor, which was logged.
    is_starved: bool,
    /// Files that hang, which was logged, and when each was last tried.
    hung: BTreeMap<PathBuf, Instant>,
}

impl ConfigFollower {
    /// Reads the config again. One that is refused closes the tokens that it does not have any more, and changes nothing
    /// else; everyone can see that.
    async fn reload(&mut self, change: watch::FileChange) {
        let began = SystemTime::now();
        let (loaded, variables) = load(&self.path, self.flags);
        if change == watch::FileChange::Fleeting && loaded.snapshot.is_none() && self.torn < MOST_TORN {
            self.torn += 1;
            self.watcher.retry();
            return;
        }
        self.torn = 0;
        // It says nothing of the files, so it is tried until they can be read, and logged once.
        let was_starved = std::mem::replace(&mut self.is_starved, loaded.unread.lacks_descriptors);
        if self.is_starved {
            self.watcher.report_in_any_case();
            if was_starved {
                return;
            }
        }
        let is_whole = loaded.is_whole();
        let observer = Arc::clone(&self.gateway.shared.observer);
        let is_refused = loaded.snapshot.is_none();
        // Who saves, and mends one thing after the other, does not get the same hundred problems each time.
        let is_reported = is_refused && loaded.problems == self.refused_for;
        if !is_reported {
            report(&observer.log, &loaded.problems);
        }
        self.refused_for = if is_refused { loaded.problems } else { Vec::new() };
        let result = match &loaded.snapshot {
            None if is_reported => Err(match self.refused_for.len() {
                1 => "the same problem as before".to_owned(),
                count => format!("the same {count} problems as before"),
            }),
            None => Err("the file has errors".to_owned()),
            Some(snapshot) => self.gateway.reload(snapshot).map_err(|e| e.to_string()),
        };
        let is_whole = is_whole && !result.as_ref().is_ok_and(|change| change.lacks_certificate);
        self.last = match (&result, is_whole) {
            (Ok(_), true) => Reload::Whole,
            (Ok(_), false) => Reload::Part,
            (Err(_), _) => Reload::Nothing,
        };
        observer.metrics.reloaded(self.last);
        match result {
            Ok(change) => {
                let change = self.gateway.count_ended(change).await;
                let snapshot = self.gateway.in_force();
                if !std::mem::replace(&mut self.sees_everything, commands_see_everything(&snapshot)) {
                    warn_of_root(&observer.log, &snapshot);
                }
                exposed::warn(&observer.log, &snapshot, variables);
                observer.metrics.config_loaded();
                let (level, msg) = match is_whole {
                    true => (Level::Info, "Config reloaded"),
                    false => (Level::Error, "Config reloaded, but for files that cannot be used"),
                };
                let line = observer.log.line(level, msg).int("servers", snapshot.servers.len());
                change.add_to(line).send();
            }
            Err(cause) => {
                let restricted = self.restrict(loaded.remaining.as_ref());
                let msg = match restricted {
                    None => "Config not reloaded; the last good one stays in force",
                    Some(_) => {
                        "Config not reloaded; the last good one stays in force, without what this one takes away"
                    }
                };
                let change = self.gateway.count_ended(restricted.unwrap_or_default()).await;
                let line = observer.log.line(Level::Error, msg).text("cause", &cause);
                change.add_to(line).send();
            }
        }
        // After what this load takes away is gone: a slow file system has its time here.
        self.watcher.watch(loaded.files, began);
        self.watcher.report_when_read(&loaded.unread.hung);
    }

    /// Takes away what a refused config does not have. A removal always applies; where it cannot, the log says so.
    fn restrict(&self, remaining: Option<&Remaining>) -> Option<ReloadChange> {
        self.gateway.restrict(remaining?).unwrap_or_else(|e| {
            let msg = "What the refused config takes away could not be put into force: it still applies";
            let log = &self.gateway.shared.observer.log;
            log.line(Level::Error, msg).text("cause", &e.to_string()).send();
            None
        })
    }

    /// Says which of the files that the config names hang now, or have not for a while: a slow one may hang each time that it is
    /// looked at. What was read of them last is in force.
    fn report_hung(&mut self) {
        let log = &self.gateway.shared.observer.log;
        let now = Instant::now();
        for path in self.watcher.hung() {
            if self.hung.insert(path.to_owned(), now).is_none() {
                let msg = "The file system of a file that the config names does not answer";
                log.line(Level::Error, msg).text("file", &path.display().to_string()).send();
            }
        }
        self.hung.retain(|path, last| {
            let is_hung = now.duration_since(*last) < CALM;
            if !is_hung && self.watcher.watches(path) {
                let msg = "A file that the config names can be read again";
                log.line(Level::Info, msg).text("file", &path.display().to_string()).send();
            }
            is_hung
        });
    }

    /// What was true before is true again; what changed meanwhile is reloaded as ever.
    fn report_readable(&self) {
        let observer = &self.gateway.shared.observer;
        observer.metrics.config_last_reload_successful.set(i64::from(self.last == Reload::Whole));
        observer.log.line(Level::Info, "The config can be read again").send();
    }
}

/// Whether the config has commands that no shield holds.
fn commands_see_everything(snapshot: &Snapshot) -> bool {
    let runs_commands = |server: &Server| !matches!(server.target, Target::Http(_));
    shield::commands_can_see_everything() && snapshot.servers.iter().any(runs_commands)
}

/// That there is no shield is logged where there is a process to be shielded.
pub(super) fn warn_of_root(log: &Log, snapshot: &Snapshot) {
    if commands_see_everything(snapshot) {
        let msg = "The gateway runs as root, and so do its commands, which can read its memory: give it a user of its own";
        log.line(Level::Warn, msg).send();
    }
}

/// Says what is wrong with the config, which is a hundred problems at most.
pub(super) fn report(log: &Log, problems: &[Problem]) {
    for problem in problems {
        let level = match problem.severity {
            Severity::Notice => Level::Info,
            Severity::Warning => Level::Warn,
            Severity::Part | Severity::Error => Level::Error,
        };
        log.line(level, "Config").text("problem", &problem.to_string()).send();
    }
}
