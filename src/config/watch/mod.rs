//! Notices that someone saved a file, however they save: in place, by rename, slowly, through symbolic links.
//!
//! Notices from the operating system only say *when to look*. What counts is what is then read: a change is
//! reported when the contents differ from those last reported and have stopped changing. So a `chmod`, a `touch`,
//! and a save that changes nothing cost a look, and a lost or misread notice costs time, never a change.

mod contents;
mod notices;
mod trail;

#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use parking_lot::Mutex;

use crate::config::watch::{
    contents::FileFingerprint,
    notices::Notices,
    trail::{Identity, Trail},
};
use crate::config::{
    hung::{self, Patience},
    read::{files::Unreadable, known},
};

/// Time between two looks while something changes. Contents that are equal in two looks are taken as final,
/// so a save is reported about 100 ms after its end, and at most ten changes are reported a second.
const SETTLE: Duration = Duration::from_millis(50);

/// How long contents must stay equal that look like the middle of a save: the file is gone or empty, or notices
/// of writing go on. Together with [`SETTLE`] it keeps within the 500 ms that a save may take.
const DOUBTFUL_SETTLE: Duration = Duration::from_millis(350);

/// How long contents must stay equal while a process that wrote to the file still has it open. The save ends when
/// it closes the file; this is for one that never does.
const OPEN_SETTLE: Duration = Duration::from_secs(2);

/// How long it may go on that contents differ and never stay equal, as when a program saves over and over. Then what is
/// there at a look is reported, unless it looks like the middle of a save. With the time that a load takes it keeps
/// within the second in which the newest state has to be in force.
const STORM: Duration = Duration::from_millis(600);

/// Time between two looks while nothing changes. A network file system accepts a watch and then says nothing of
/// what others write, and no one can tell from the outside; a look at a few small files costs microseconds.
const POLL: Duration = Duration::from_secs(2);

/// The kernel stamps files with a clock that ticks only every 10 ms, at its slowest, and so may lag by that much.
const FILE_CLOCK_LAG: Duration = Duration::from_millis(10);

/// Watches the contents of a set of files. They need not exist.
///
/// To miss nothing, make it before the config file is first read, hand it the files that a loaded config names with
/// [`watch`](Self::watch), and load again whenever [`changed`](Self::changed) returns.
pub struct Watcher {
    files: Vec<File>,
    looks: Arc<Mutex<Looks>>,
    notices: Arc<Notices>,
    notifier: Option<RecommendedWatcher>,
    /// What the notifier watches at present: directories and files, none of them through a link.
    armed: HashMap<PathBuf, Identity>,
    problem: Option<String>,
    /// Whether something may be changing, and looks are therefore [`SETTLE`] apart.
    settling: bool,
    next_look: Instant,
    /// Since when some contents differ from what was reported.
    differs_since: Option<Instant>,
}

struct File {
    path: PathBuf,
    reported: FileFingerprint,
    seen: FileFingerprint,
    /// When a look last saw contents that differed from the look before.
    unchanged_since: Instant,
}

/// Looks at contents. A file may answer later than a round of looks ends: then it is judged in a later one.
#[derive(Default)]
struct Looks {
    /// Files that are being looked at.
    begun: HashSet<PathBuf>,
    /// What was found and not taken yet.
    found: HashMap<PathBuf, FileFingerprint>,
    /// Files whose file systems failed at the last look.
    failing: HashSet<PathBuf>,
}

/// Whether what was reported is known to be whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileChange {
    /// The contents have stopped changing.
    Final,
    /// They go on changing, so what is read next may be half of a save: see [`Watcher::retry`].
    Fleeting,
}

/// What `look` finds at each of `files`; `None` for those that hang. The config is waited for: without it there is nothing to do.
fn look_at_each<T: Send + 'static>(
    config: Option<&PathBuf>,
    mut files: Vec<PathBuf>,
    look: impl Fn(&Path) -> T + Send + Sync + 'static,
) -> Vec<Option<T>> {
    let mut found = Vec::with_capacity(files.len());
    if !files.is_empty() && files.first() == config {
        found.push(Some(look(&files.remove(0))));
    }
    // To wait for those that answer late would delay changes of other files.
    found.extend(hung::look_at_each(files, Patience::LOOK, look));
    found
}

/// The way to `files`, the config first. Of those that hang it is not known.
fn trail(files: &[PathBuf]) -> Trail {
    let trails = look_at_each(files.first(), files.to_vec(), |path| Trail::of([path]));
    trails.into_iter().flatten().collect()
}

/// The state of this file as of the last load that read it.
fn loaded(path: &Path) -> Option<FileFingerprint> {
    known::of(path).map(|known| FileFingerprint::of_bytes(&known.bytes))
}

impl File {
    fn unchanged_for(&self, now: Instant) -> Duration {
        now.duration_since(self.unchanged_since)
    }
}

impl Watcher {
    /// Watches `files`, from their contents now on. Never fails: what cannot be watched is polled every 2 s, and
    /// [`problem`](Self::problem) says why.
    pub fn new(files: Vec<PathBuf>) -> Self {
        let notices = Arc::new(Notices::default());
        let handler = Arc::clone(&notices);
        let notifier = notify::recommended_watcher(move |event| handler.take(event));
        Self::with_notifier(files, notices, notifier)
    }

    fn with_notifier(
        files: Vec<PathBuf>,
        notices: Arc<Notices>,
        notifier: notify::Result<RecommendedWatcher>,
    ) -> Self {
        let (notifier, problem) = match notifier {
            Ok(notifier) => (Some(notifier), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let now = Instant::now();
        let mut watcher = Self {
            files: vec![],
            looks: Arc::default(),
            notices,
            notifier,
            armed: HashMap::new(),
            problem,
            settling: false,
            next_look: now,
            differs_since: None,
        };
        watcher.replace(files, None);
        watcher
    }

    /// Watches `files` from now on, and only these.
    ///
    /// One that was watched before is still compared with what was last reported of it. One that is new counts as
    /// changed if anyone touched it since `loading_began`, when its reader may already have been past it: at worst
    /// this reports contents that are loaded already, once.
    pub fn watch(&mut self, files: Vec<PathBuf>, loading_began: SystemTime) {
        self.replace(files, Some(loading_began));
    }

    /// Has files reported that could not be read when they were loaded: once they can be, or if they are not what is known of
    /// them, which was loaded in their place.
    pub fn report_when_read(&mut self, unread: &[PathBuf]) {
        for file in self.files.iter_mut().filter(|file| unread.contains(&file.path)) {
            match loaded(&file.path) {
                Some(loaded) => {
                    file.reported = loaded;
                    if file.seen == FileFingerprint::Unread {
                        file.seen = file.reported.clone();
                    }
                }
                None => (file.reported, file.seen) = (FileFingerprint::Unread, FileFingerprint::Unread),
            }
        }
    }

    /// Those of the files whose file systems do not answer.
    pub fn hung(&self) -> impl Iterator<Item = &Path> {
        let failing = self.looks.lock().failing.clone();
        let is_hung = move |path: &&Path| failing.contains(*path) || hung::is_hung(path);
        self.files.iter().map(|file| &*file.path).filter(is_hung)
    }

    /// Whether this is one of the files.
    pub fn watches(&self, path: &Path) -> bool {
        self.files.iter().any(|file| file.path == path)
    }

    fn replace(&mut self, files: Vec<PathBuf>, loading_began: Option<SystemTime>) {
        // Notices first, contents second: what changes in between is noticed.
        self.arm(trail(&files));
        let now = Instant::now();
        let mut before: HashMap<_, _> = self.files.drain(..).map(|file| (file.path.clone(), file)).collect();
        let is_new = |path: &&PathBuf| !before.contains_key(*path);
        let new: Vec<PathBuf> = files.iter().filter(is_new).cloned().collect();
        let look = |path: &Path| (Some(FileFingerprint::of(path)), Trail::of([path]).touched);
        let mut new = look_at_each(files.first(), new, look).into_iter();
        for path in files {
            let file = before.remove(&path).unwrap_or_else(|| {
                let (seen, touched) = new.next().flatten().unwrap_or_default();
                let seen = seen
                    .and_then(Result::ok)
                    .unwrap_or_else(|| loaded(&path).unwrap_or(FileFingerprint::Unread));
                let late = loading_began.zip(touched).is_some_and(|(began, at)| at + FILE_CLOCK_LAG >= began);
                let reported = if late { FileFingerprint::Unread } else { seen.clone() };
                File { path, reported, seen, unchanged_since: now }
            });
            self.files.push(file);
        }
        // The next look says which of them still do.
        self.looks.lock().failing.clear();
        self.settle_from(Instant::now());
    }

    /// Why some changes may take 2 s to be noticed, if so: no notices from the system, or not for every file.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Waits until the contents of some file differ from what was last reported, and are final as far as one can
    /// tell. A file that disappears is a change too, unless it soon comes back.
    ///
    /// Two reports are at least 50 ms apart, whatever is done to the files.
    ///
    /// Cancel safe: a change that was not reported yet is reported by the next call.
    pub async fn changed(&mut self) -> FileChange {
        loop {
            let next_look = tokio::time::sleep_until(self.next_look.into());
            if self.settling {
                // Further notices would only repeat that something is changing.
                next_look.await;
            } else {
                tokio::select! {
                    () = self.notices.wait() => {
                        self.settle_from(Instant::now());
                        continue;
                    }
                    () = next_look => {}
                }
            }
            if let Some(change) = self.look() {
                return change;
            }
        }
    }

    /// Has the contents of this moment reported, once they are final, although they may be what was reported before.
    pub fn report_in_any_case(&mut self) {
        for file in &mut self.files {
            file.reported = FileFingerprint::Unread;
        }
        if !self.settling {
            self.settle_from(Instant::now());
        }
    }

    /// What was reported last turned out to be no use, and was not final: has the contents reported again, as soon as they
    /// may be whole.
    pub fn retry(&mut self) {
        self.report_in_any_case();
        self.differs_since = Instant::now().checked_sub(STORM);
    }

    fn settle_from(&mut self, now: Instant) {
        self.settling = true;
        self.next_look = now + SETTLE;
    }

    /// Reads every file, and returns what there is to report.
    fn look(&mut self) -> Option<FileChange> {
        let paths: Vec<PathBuf> = self.files.iter().map(|file| file.path.clone()).collect();
        let begun = self.looks.lock().begun.clone();
        let ready: Vec<PathBuf> = paths.iter().filter(|path| !begun.contains(*path)).cloned().collect();
        self.arm(trail(&ready));

        let mut found = self.look_at_contents(ready);
        let now = Instant::now();
        for file in &mut self.files {
            if let Some(contents) = found.remove(&file.path)
                && contents != file.seen
            {
                file.seen = contents;
                file.unchanged_since = now;
            }
        }

        let differing: Vec<_> = self.files.iter().filter(|file| file.seen != file.reported).collect();
        if differing.is_empty() {
            self.differs_since = None;
            match self.awaits_answers() {
                true => self.settle_from(now),
                false => self.rest_from(now),
            }
            return None;
        }
        let is_doubtful = |file: &&File| file.seen.is_doubtful();
        let differs_for = now.duration_since(*self.differs_since.get_or_insert(now));
        let change = if self.settled(differing.iter().any(is_doubtful), now) {
            FileChange::Final
        } else if differs_for >= STORM
            && !self.notices.being_written()
            && differing.iter().all(|file| !is_doubtful(file) || file.unchanged_for(now) >= DOUBTFUL_SETTLE)
        {
            FileChange::Fleeting
        } else {
            self.settle_from(now);
            return None;
        };
        for file in &mut self.files {
            file.reported = file.seen.clone();
        }
        self.differs_since = None;
        self.rest_from(now);
        Some(change)
    }

    /// What is known by now of what is in the files, by looks at `ready` or by some that began in a round before.
    fn look_at_contents(&self, ready: Vec<PathBuf>) -> HashMap<PathBuf, FileFingerprint> {
        let looks = Arc::clone(&self.looks);
        let config = self.files.first().map(|file| &file.path);
        look_at_each(config, ready, move |path| {
            looks.lock().begun.insert(path.to_owned());
            let began = Instant::now();
            let found = FileFingerprint::of(path);
            let mut looks = looks.lock();
            looks.begun.remove(path);
            looks.failing.remove(path);
            match found {
                Ok(found) => {
                    known::was_seen(path, began, |bytes| FileFingerprint::of_bytes(bytes) == found);
                    looks.found.insert(path.to_owned(), found);
                }
                Err(Unreadable::Hangs) => drop(looks.failing.insert(path.to_owned())),
                Err(_) => {}
            }
        });
        std::mem::take(&mut self.looks.lock().found)
    }

    /// Whether some files are being looked at that may still answer soon.
    fn awaits_answers(&self) -> bool {
        self.looks.lock().begun.iter().any(|path| !hung::is_hung(path))
    }

    fn rest_from(&mut self, now: Instant) {
        self.settling = false;
        self.next_look = now + POLL;
    }

    fn settled(&self, doubtful: bool, now: Instant) -> bool {
        let unchanged_for = self.files.iter().map(|file| file.unchanged_for(now)).min().unwrap_or_default();
        let quiet = self.notices.quiet_for(now).is_none_or(|quiet_for| quiet_for >= SETTLE);
        unchanged_for
            >= match self.notices.being_written() {
                true => OPEN_SETTLE,
                false if doubtful || !quiet => DOUBTFUL_SETTLE,
                false => SETTLE,
            }
    }

    /// Makes the notifier watch what the files lead through now, which any change may have changed.
    fn arm(&mut self, trail: Trail) {
        let lost = self.notices.expect(trail.names);
        let Some(notifier) = &mut self.notifier else { return };

        self.armed.retain(|path, identity| {
            let keep = trail.targets.get(path) == Some(identity) && !lost.contains(path);
            if !keep {
                // It fails for what is gone, and has then done what it should.
                let _ = notifier.unwatch(path);
            }
            keep
        });
        self.problem = None;
        for (path, identity) in trail.targets {
            if self.armed.contains_key(&path) {
                continue;
            }
            match notifier.watch(&path, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.armed.insert(path, identity);
                }
                // It went a moment ago; the next look finds out what is there instead.
                Err(notify::Error { kind: notify::ErrorKind::PathNotFound, .. }) => {}
                Err(error) => self.problem = Some(error.to_string()),
            }
        }
    }
}
