//! Looks at files that may be on a file system which does not answer: a network that went away, a user-space file system
//! that stopped. Nothing can be done about a call that hangs there, so it is made by a thread that can be left behind.
//!
//! Each file is judged by its own look and by nothing else: what is beside one that hangs is often on another file system.

use std::{
    collections::BTreeMap,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Files are waited for in slices: a process that was stopped meanwhile has missed one of them.
const SLICE: Duration = Duration::from_millis(20);

/// Slices in which all files of some are waited for.
#[derive(Clone, Copy)]
pub(crate) struct Patience(u32);

impl Patience {
    /// For what is to be put into force: 2 s.
    pub(super) const LOAD: Self = Self(100);
    /// For what can be taken later: 0.2 s.
    pub(super) const LOOK: Self = Self(10);
}

/// A look that takes so long hangs. Less than [`Patience::LOAD`], so that what was waited for that long is known to.
const HANGS: Duration = Duration::from_millis(1500);

/// Most threads that look at files, those that were left behind included; and how many there may be if some round of looks
/// would have none otherwise. What would take one more is not looked at.
const MOST: usize = 512;
const MOST_IN_NEED: usize = 1024;

/// Looks that were begun and have not ended.
static BEGUN: Mutex<Begun> = Mutex::new(Begun { next: 0, looks: BTreeMap::new() });
static THREADS: AtomicUsize = AtomicUsize::new(0);

struct Begun {
    next: u64,
    looks: BTreeMap<u64, (PathBuf, Instant)>,
}

impl Begun {
    fn begin(&mut self, path: &Path) -> u64 {
        self.next += 1;
        self.looks.insert(self.next, (path.to_owned(), Instant::now()));
        self.next
    }
}

/// Whether some look at this file hangs at present.
pub(super) fn is_hung(path: &Path) -> bool {
    BEGUN.lock().looks.values().any(|(begun, since)| begun == path && since.elapsed() >= HANGS)
}

/// What `look` finds at this path; `None` if it hangs.
pub(super) fn look<T: Send + 'static>(
    path: &Path,
    patience: Patience,
    look: impl Fn(&Path) -> T + Send + Sync + 'static,
) -> Option<T> {
    look_at_each(vec![path.to_owned()], patience, look).pop().flatten()
}

/// What `look` finds at each of these paths, for which all together are waited for once; `None` for those of which nothing
/// is known by then. A `look` that was begun goes to its end, and may report what it finds in another way.
pub(super) fn look_at_each<T: Send + 'static>(
    paths: Vec<PathBuf>,
    patience: Patience,
    look: impl Fn(&Path) -> T + Send + Sync + 'static,
) -> Vec<Option<T>> {
    let mut found: Vec<Option<T>> = paths.iter().map(|_| None).collect();
    // A path that hangs is not asked for again, or each round would leave a thread behind.
    let wanted = paths.into_iter().enumerate().filter(|(_, path)| !is_hung(path)).collect();
    let looks = Arc::new(Looks { wanted, next: AtomicUsize::new(0), look, is_over: AtomicBool::new(false) });
    let (tell, told) = mpsc::channel();
    let (mut missing, mut slices, mut threads, mut more) = (looks.wanted.len(), 0, 0, 1);
    while missing > 0 && slices < patience.0 {
        for _ in 0..more {
            let most = if threads == 0 { MOST_IN_NEED } else { MOST };
            threads += usize::from(looks.start(&tell, most));
        }
        more = 0;
        if threads == 0 {
            // There is no thread to be had, and a look on this one might never return.
            break;
        }
        match told.recv_timeout(SLICE) {
            Ok((index, result)) => {
                found[index] = result;
                missing -= 1;
            }
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                slices += 1;
                // All that there are may hang: twice as many get at the others, if there are so many.
                more = looks.waiting().min(threads);
            }
        }
    }
    looks.is_over.store(true, Ordering::Relaxed);
    for (index, result) in told.try_iter() {
        found[index] = result;
    }
    found
}

/// Looks that are shared by threads.
struct Looks<F> {
    wanted: Vec<(usize, PathBuf)>,
    /// The first that no thread has taken.
    next: AtomicUsize,
    look: F,
    /// No caller waits any more.
    is_over: AtomicBool,
}

impl<F> Looks<F> {
    fn waiting(&self) -> usize {
        self.wanted.len().saturating_sub(self.next.load(Ordering::Relaxed))
    }

    /// Starts one more thread, if there are less than `most`.
    fn start<T: Send + 'static>(
        self: &Arc<Self>,
        tell: &mpsc::Sender<(usize, Option<T>)>,
        most: usize,
    ) -> bool
    where
        F: Fn(&Path) -> T + Send + Sync + 'static,
    {
        if THREADS.fetch_add(1, Ordering::Relaxed) >= most {
            THREADS.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let (looks, tell) = (Arc::clone(self), tell.clone());
        let work = move || {
            looks.work(&tell);
            THREADS.fetch_sub(1, Ordering::Relaxed);
        };
        let is_started = thread::Builder::new().name("config-files".into()).spawn(work).is_ok();
        if !is_started {
            THREADS.fetch_sub(1, Ordering::Relaxed);
        }
        is_started
    }

    fn work<T>(&self, tell: &mpsc::Sender<(usize, Option<T>)>)
    where
        F: Fn(&Path) -> T,
    {
        while !self.is_over.load(Ordering::Relaxed)
            && let Some((index, path)) = self.wanted.get(self.next.fetch_add(1, Ordering::Relaxed))
        {
            let id = BEGUN.lock().begin(path);
            // One that panics is no look, and keeps nothing from the others.
            let result = panic::catch_unwind(AssertUnwindSafe(|| (self.look)(path))).ok();
            BEGUN.lock().looks.remove(&id);
            if tell.send((*index, result)).is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Condvar;

    use super::*;

    /// Where nothing answers until a signal.
    #[derive(Default)]
    struct Far {
        answers: Mutex<bool>,
        is_told: Condvar,
        asked: Mutex<Vec<PathBuf>>,
    }

    impl Far {
        fn look(&self, path: &Path) -> PathBuf {
            if path.ends_with("far") {
                self.asked.lock().push(path.to_owned());
                self.is_told.wait_while(&mut self.answers.lock(), |answers| !*answers);
            }
            path.to_owned()
        }

        fn answer(&self) {
            *self.answers.lock() = true;
            self.is_told.notify_all();
        }
    }

    #[test]
    fn what_hangs_is_left_out_asked_for_once_and_there_again_when_it_answers() {
        let far = Arc::new(Far::default());
        let asked = |far: &Far| far.asked.lock().len();
        let look = |wanted: &[PathBuf]| {
            let far = Arc::clone(&far);
            look_at_each(wanted.to_vec(), Patience::LOAD, move |path| far.look(path))
        };
        // Those that answer are in the same directory, and behind the others.
        let name = |n| PathBuf::from(format!("/of-hung-test/{n}/{}", if n < 80 { "far" } else { "near" }));
        let wanted: Vec<PathBuf> = (0..100).map(name).collect();
        let expected: Vec<Option<PathBuf>> =
            wanted.iter().map(|path| path.ends_with("near").then(|| path.clone())).collect();
        for _ in 0..3 {
            assert_eq!(look(&wanted), expected);
            assert_eq!(asked(&far), 80, "each once");
        }
        assert!(wanted.iter().all(|path| is_hung(path) == path.ends_with("far")));

        far.answer();
        // The threads that were left behind come back, each in its time.
        while wanted.iter().any(|path| is_hung(path)) {
            thread::yield_now();
        }
        assert_eq!(look(&wanted), wanted.iter().cloned().map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn a_look_that_panics_is_no_look_and_keeps_nothing_from_the_others() {
        let wanted = ["/near/a", "/near/broken", "/near/b"].map(PathBuf::from).to_vec();
        let found = look_at_each(wanted, Patience::LOAD, |path| {
            assert!(!path.ends_with("broken"));
            path.to_owned()
        });
        assert_eq!(found, [Some("/near/a".into()), None, Some("/near/b".into())]);
        assert!(!is_hung(Path::new("/near/broken")));
    }
}
