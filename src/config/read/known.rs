//! What was read last of the files that the config names. It stays in force while a file system does not answer, and an
//! answer that comes too late for one load is there for the next.
//!
//! Nothing is kept of a file that could be looked at since and is gone or has changed, nor of one that the config does not
//! name any more: what was closed stays closed.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Instant,
};

use parking_lot::Mutex;

use crate::config::{
    hung::{self, Patience},
    read::files::{self, FileContents, Unreadable},
};

struct Known {
    /// The config that names it.
    config: PathBuf,
    contents: Option<FileContents>,
    /// When the look began that found this.
    as_of: Instant,
}

static KNOWN: Mutex<BTreeMap<PathBuf, Known>> = Mutex::new(BTreeMap::new());

/// Notes that `config` names these files: only of such ones anything is kept.
pub(crate) fn want<'a>(config: &Path, files: impl IntoIterator<Item = &'a PathBuf>) {
    let (mut known, now) = (KNOWN.lock(), Instant::now());
    for file in files {
        let unread = || Known { config: config.to_owned(), contents: None, as_of: now };
        known.entry(file.clone()).or_insert_with(unread);
    }
}

/// Forgets what `config` does not name any more.
pub(crate) fn keep_only(config: &Path, files: &[PathBuf]) {
    KNOWN.lock().retain(|path, known| known.config != config || files.contains(path));
}

/// Reads a file that the config names, without waiting for a file system that does not answer.
pub(crate) fn read(path: &Path, patience: Patience) -> Result<FileContents, Unreadable> {
    hung::look(path, patience, read_and_keep).unwrap_or(Err(Unreadable::Hangs))
}

/// Reads a file that the config names. What comes of it is there for the next load, however late.
pub(crate) fn read_and_keep(path: &Path) -> Result<FileContents, Unreadable> {
    let began = Instant::now();
    let result = files::read_patiently(path);
    was_read(path, began, &result);
    result
}

/// Takes what came of a read that began at `began`.
fn was_read(path: &Path, began: Instant, result: &Result<FileContents, Unreadable>) {
    if result.as_ref().is_err_and(Unreadable::is_no_answer) {
        return;
    }
    if let Some(known) = KNOWN.lock().get_mut(path).filter(|known| known.as_of <= began) {
        known.contents = result.as_ref().ok().cloned();
        known.as_of = began;
    }
}

/// Forgets the contents if they are not those that a look saw which began at `began`.
pub(crate) fn was_seen(path: &Path, began: Instant, is_same: impl FnOnce(&[u8]) -> bool) {
    if let Some(known) = KNOWN.lock().get_mut(path).filter(|known| known.as_of <= began)
        && !known.contents.as_ref().is_some_and(|contents| is_same(&contents.bytes))
    {
        known.contents = None;
        known.as_of = began;
    }
}

/// What was read last, if it may still be there.
pub(crate) fn of(path: &Path) -> Option<FileContents> {
    KNOWN.lock().get(path)?.contents.clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_still_be_there_is_kept() {
        let (config, file) = (Path::new("/of-known-test/config"), PathBuf::from("/of-known-test/file"));
        let contents =
            |text: &str| Ok(FileContents { bytes: text.as_bytes().to_vec().into(), world_readable: false });
        let kept = || of(&file).map(|contents| String::from_utf8(contents.bytes.to_vec()).unwrap());
        was_read(&file, Instant::now(), &contents("nobody wants it"));
        assert_eq!(kept(), None);

        want(config, [&file]);
        let early = Instant::now();
        was_read(&file, early, &contents("a"));
        want(config, [&file]);
        assert_eq!(kept().as_deref(), Some("a"));
        was_seen(&file, Instant::now(), |bytes| bytes == b"a");
        assert_eq!(kept().as_deref(), Some("a"));
        was_seen(&file, Instant::now(), |bytes| bytes == b"b");
        assert_eq!(kept(), None);
        // An answer that was late, and is older than what was seen.
        was_read(&file, early, &contents("a"));
        assert_eq!(kept(), None);
        was_read(&file, Instant::now(), &contents("b"));
        assert_eq!(kept().as_deref(), Some("b"));
        was_read(&file, Instant::now(), &Err(Unreadable::NoFile));
        assert_eq!(kept(), None);

        was_read(&file, Instant::now(), &contents("c"));
        keep_only(Path::new("/of-known-test/other"), &[]);
        assert_eq!(kept().as_deref(), Some("c"));
        keep_only(config, &[]);
        want(config, [&file]);
        assert_eq!(kept(), None);
    }
}
