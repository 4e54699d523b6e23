//! Puts a changed config into its file: all of it or nothing, whoever else edits the file at the same time.
//!
//! A new file with the mode and the owner of the old one is renamed over it, so that no reader sees half of it and a crash
//! leaves the old one. Where that cannot be (a file that is a mount of its own, a directory or an owner that is not this
//! user's, a second name of the file), the file is written in place, with its space reserved before.

use std::{
    ffi::OsStr,
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    process::{Resource, getrlimit},
};
use zeroize::Zeroizing;

use crate::config::read::files;

/// How long another one that edits the file is waited for, and how often it is looked.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_LOOK: Duration = Duration::from_millis(10);

/// A config that is being edited. While it is there, the others that edit it by this program wait.
pub(crate) struct ConfigInEdit {
    /// As the user named it.
    path: PathBuf,
    /// The file itself: links are followed.
    target: PathBuf,
    /// Holds the lock.
    file: File,
    metadata: Metadata,
    bytes: Zeroizing<Vec<u8>>,
}

/// What is in a config, which may come from standard input; or why it cannot be read.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let contents = files::read_config(path);
    contents.map(|contents| contents.bytes).map_err(|reason| format!("{} {reason}", path.display()))
}

impl ConfigInEdit {
    /// Reads the config at `path`, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        if path.as_os_str() == files::STANDARD_INPUT {
            return Err("standard input cannot be edited; name the file".into());
        }
        let failed = |error: io::Error| format!("{shown} cannot be edited ({error})");
        let deadline = Instant::now() + LOCK_WAIT;
        loop {
            let target = fs::canonicalize(path).map_err(failed)?;
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
            let file = options.open(&target).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            if !metadata.is_file() {
                return Err(format!("{shown} is not a regular file, so it cannot be edited"));
            }
            while let Err(TryLockError::WouldBlock) = file.try_lock() {
                if Instant::now() > deadline {
                    return Err(format!(
                        "another program is editing {shown} (it has locked the file); try again"
                    ));
                }
                thread::sleep(LOCK_LOOK);
            }
            // Whoever had the lock has put another file in the place of this one.
            if fs::metadata(&target).is_ok_and(|now| is_same(&now, &metadata)) {
                let bytes = read(path)?;
                return Ok(Self { path: path.to_owned(), target, file, metadata, bytes });
            }
        }
    }

    pub(crate) fn bytes(&self) -> &Zeroizing<Vec<u8>> {
        &self.bytes
    }

    /// Puts `text` into the file, or leaves it as it is.
    pub(crate) fn replace(mut self, text: &str) -> Result<(), String> {
        let shown = self.path.display();
        // More than that would end the process by a signal.
        if let Some(limit) = getrlimit(Resource::Fsize).current.filter(|limit| text.len() as u64 > *limit) {
            return Err(format!(
                "{shown} stays as it is: this process may write files of {limit} bytes at most (`ulimit -f`)"
            ));
        }
        let failed = |error: io::Error| format!("{shown} cannot be written ({error}); it stays as it is");
        let next = self.next();
        let made = match self.metadata.nlink() {
            1 => self.make(&next, text),
            _ => Err(io::Error::from_raw_os_error(libc::EBUSY)),
        };
        let swapped = made.and_then(|()| {
            self.is_unchanged()?;
            fs::rename(&next, &self.target)
        });
        match swapped {
            Ok(()) => {
                // The file is in place whatever comes of this.
                let _ = next.parent().map(|directory| File::open(directory).and_then(|it| it.sync_all()));
                Ok(())
            }
            Err(error) => {
                // There may be none.
                let _ = fs::remove_file(&next);
                if !has_to_be_in_place(&error) {
                    return Err(failed(error));
                }
                self.is_unchanged().map_err(failed)?;
                let written = overwrite(&mut self.file, text.as_bytes());
                written.map_err(|error| {
                    let restored = overwrite(&mut self.file, &self.bytes).is_ok();
                    let state = if restored { "it stays as it is" } else { "it may be damaged: restore it" };
                    format!("{shown} cannot be written ({error}); {state}")
                })
            }
        }
    }

    /// The file that takes the place of the old one. One that is left of a process that was killed is replaced.
    fn next(&self) -> PathBuf {
        let name = self.target.file_name().unwrap_or(OsStr::new("config"));
        let mut next = std::ffi::OsString::from(".");
        next.push(name);
        next.push(".next");
        self.target.with_file_name(next)
    }

    fn make(&self, next: &Path, text: &str) -> io::Result<()> {
        match fs::remove_file(next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(next)?;
        let (old, new) = (&self.metadata, file.metadata()?);
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }

    /// Whether the file still is what was read: editors of other programs know no lock.
    fn is_unchanged(&self) -> io::Result<()> {
        let is_it = fs::canonicalize(&self.path).is_ok_and(|target| target == self.target)
            && fs::metadata(&self.target).is_ok_and(|now| is_same(&now, &self.metadata))
            && files::read_config(&self.path).is_ok_and(|now| now.bytes == self.bytes);
        match is_it {
            true => Ok(()),
            false => Err(io::Error::other("another program has changed it meanwhile; run the command again")),
        }
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Whether no file can take the place of this one, though it may be written.
fn has_to_be_in_place(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EXDEV | libc::EACCES | libc::EPERM | libc::EROFS))
}

fn overwrite(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    // Not all file systems can reserve space; those that cannot are written all the same.
    match fallocate(&*file, FallocateFlags::KEEP_SIZE, 0, bytes.len() as u64) {
        Err(error) if matches!(error.raw_os_error(), libc::ENOSPC | libc::EDQUOT | libc::EFBIG) => {
            return Err(error.into());
        }
        _ => {}
    }
    file.rewind()?;
    file.write_all(bytes)?;
    file.set_len(bytes.len() as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::symlink, sync::mpsc};

    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("config");
        fs::write(&path, text).unwrap();
        (directory, path)
    }

    #[test]
    fn what_another_program_wrote_meanwhile_stays() {
        let (directory, path) = file("old");
        let edit = ConfigInEdit::open(&path).unwrap();
        fs::write(&path, "of another").unwrap();
        let said = edit.replace("new").unwrap_err();
        assert!(said.contains("changed it meanwhile; run the command again"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), b"of another");

        // The same text in another file is another file.
        let edit = ConfigInEdit::open(&path).unwrap();
        let other = directory.path().join("other");
        fs::rename(&path, &other).unwrap();
        symlink(&other, &path).unwrap();
        assert!(edit.replace("new").is_err());
        assert_eq!(fs::read(&other).unwrap(), b"of another");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn whoever_comes_second_waits_and_edits_what_the_first_one_wrote() {
        let (_directory, path) = file("old");
        let first = ConfigInEdit::open(&path).unwrap();
        let (tell, told) = mpsc::channel();
        let second = thread::spawn({
            let path = path.clone();
            move || {
                let edit = ConfigInEdit::open(&path).unwrap();
                tell.send(()).unwrap();
                assert_eq!(**edit.bytes(), b"new");
                edit.replace("newest").unwrap();
            }
        });
        assert!(told.try_recv().is_err(), "it does not wait");
        first.replace("new").unwrap();
        second.join().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newest");
    }

    #[test]
    fn a_shorter_text_in_place_leaves_nothing_of_the_longer_one() {
        let (directory, path) = file("a long text");
        fs::hard_link(&path, directory.path().join("second name")).unwrap();
        ConfigInEdit::open(&path).unwrap().replace("short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
    }
}
