//! Looks at files that may be on a file system which does not answer: a network that went away, a user-space file system
//! that stopped. Nothing can be done about a call that hangs there, so it is made by a thread that can be left behind.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

/// How long a file is waited for, in slices: a process that was stopped meanwhile has missed one of them.
const SLICE: Duration = Duration::from_millis(100);
/// Slices for the first file of some that hangs, and for each one after it.
const PATIENCE: u32 = 20;
const NEXT_PATIENCE: u32 = 5;

/// Threads that may be left behind, in all and for the files of one directory. What would take one more counts as hung.
const MOST: usize = 64;
const MOST_OF_DIRECTORY: usize = 4;

/// Files for which a thread waits that was left behind.
static HUNG: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn hung() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    // Nothing that could panic runs under the lock.
    HUNG.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a file would hang too, by what is known.
fn hangs(hung: &BTreeSet<PathBuf>, path: &Path) -> bool {
    let beside = |other: &&PathBuf| other.parent() == path.parent();
    !hung.is_empty()
        && (hung.contains(path)
            || hung.len() >= MOST
            || hung.iter().filter(beside).count() >= MOST_OF_DIRECTORY)
}

/// Whether this file hung when it was looked at last, and does still.
pub(super) fn is_hung(path: &Path) -> bool {
    hangs(&hung(), path)
}

/// What `look` finds at this path; `None` if it hangs.
pub(super) fn look<T: Send + 'static>(
    path: &Path,
    look: impl Fn(&Path) -> T + Send + Sync + 'static,
) -> Option<T> {
    look_at_each(vec![path.to_owned()], look).pop().flatten()
}

/// What `look` finds at each of these paths; `None` for those that hang.
pub(super) fn look_at_each<T: Send + 'static>(
    paths: Vec<PathBuf>,
    look: impl Fn(&Path) -> T + Send + Sync + 'static,
) -> Vec<Option<T>> {
    let (paths, look): (Arc<[PathBuf]>, _) = (paths.into(), Arc::new(look));
    let mut found = Vec::with_capacity(paths.len());
    let mut patience = PATIENCE;
    while found.len() < paths.len() {
        let (tell, told) = mpsc::channel();
        let given_up = Arc::new(AtomicBool::new(false));
        let work = {
            let (paths, look, given_up) = (Arc::clone(&paths), Arc::clone(&look), Arc::clone(&given_up));
            let from = found.len();
            move || {
                for path in &paths[from..] {
                    let is_known = is_hung(path);
                    let result = (!is_known).then(|| look(path));
                    // Under the lock it was given up before, or is told in time.
                    let mut hung = hung();
                    if given_up.load(Ordering::Relaxed) {
                        hung.remove(path);
                        return;
                    }
                    if tell.send(result).is_err() {
                        return;
                    }
                }
            }
        };
        if thread::Builder::new().name("config-files".into()).spawn(work).is_err() {
            // To hang is worse than to fail, and both are better than to take a file for missing.
            found.extend(paths[found.len()..].iter().map(|path| Some(look(path))));
            break;
        }
        while let Some(path) = paths.get(found.len()) {
            let Some(result) = wait(&told, patience, path, &given_up) else {
                patience = NEXT_PATIENCE;
                found.push(None);
                break;
            };
            found.push(result);
        }
    }
    found
}

/// The next result. `None` if this thread tells no more; if it does not come, its path hangs until the thread comes back.
fn wait<T>(
    told: &mpsc::Receiver<Option<T>>,
    patience: u32,
    path: &Path,
    given_up: &AtomicBool,
) -> Option<Option<T>> {
    for _ in 0..patience {
        match told.recv_timeout(SLICE) {
            Ok(result) => return Some(result),
            Err(RecvTimeoutError::Timeout) => {}
            // The look panicked: there is nothing to wait for.
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    let mut hung = hung();
    if let Ok(result) = told.try_recv() {
        return Some(result);
    }
    given_up.store(true, Ordering::Relaxed);
    hung.insert(path.to_owned());
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;

    use super::*;

    /// Where nothing answers until it is told to.
    #[derive(Default)]
    struct Far {
        answers: Mutex<bool>,
        is_told: Condvar,
        asked: Mutex<Vec<PathBuf>>,
    }

    impl Far {
        fn look(&self, path: &Path) -> PathBuf {
            if path.starts_with("/far") {
                self.asked.lock().unwrap().push(path.to_owned());
                drop(self.is_told.wait_while(self.answers.lock().unwrap(), |answers| !*answers).unwrap());
            }
            path.to_owned()
        }

        fn answer(&self) {
            *self.answers.lock().unwrap() = true;
            self.is_told.notify_all();
        }
    }

    fn paths(names: impl IntoIterator<Item = String>) -> Vec<PathBuf> {
        names.into_iter().map(PathBuf::from).collect()
    }

    #[test]
    fn what_hangs_is_left_out_asked_for_once_and_there_again_when_it_answers() {
        let far = Arc::new(Far::default());
        let asked = |far: &Far| far.asked.lock().unwrap().len();
        let look = |wanted: &[PathBuf]| {
            let far = Arc::clone(&far);
            look_at_each(wanted.to_vec(), move |path| far.look(path))
        };
        let mut wanted = paths((0..20).map(|n| format!("/far/{n}")));
        wanted.insert(0, "/near/first".into());
        wanted.insert(2, "/near/second".into());
        wanted.push("/near/last".into());
        let expected: Vec<Option<PathBuf>> =
            wanted.iter().map(|path| path.starts_with("/near").then(|| path.clone())).collect();
        for _ in 0..3 {
            assert_eq!(look(&wanted), expected);
            assert_eq!(asked(&far), MOST_OF_DIRECTORY, "a thread for each file, or one more each time");
        }
        assert!(wanted.iter().all(|path| is_hung(path) == path.starts_with("/far")));

        far.answer();
        // The threads that were left behind come back, each in its time.
        while wanted.iter().any(|path| is_hung(path)) {
            thread::yield_now();
        }
        assert_eq!(look(&wanted), wanted.iter().cloned().map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn a_look_that_panics_is_no_look_and_keeps_nothing_from_the_others() {
        let wanted = paths(["/near/a", "/near/broken", "/near/b"].map(str::to_owned));
        let found = look_at_each(wanted, |path| {
            assert!(!path.ends_with("broken"));
            path.to_owned()
        });
        assert_eq!(found, [Some("/near/a".into()), None, Some("/near/b".into())]);
        assert!(!is_hung(Path::new("/near/broken")));
    }
}
