//! Puts a changed config into its file: all of it or nothing, whoever else edits the file at the same time.
//!
//! A new file with the mode, the owner and the attributes (access lists among them) of the old one is renamed over it, so
//! that no reader sees half of it and a crash leaves the old one. Where that cannot be (a file that is a mount of its own, a
//! directory or an owner that is not this user's, a second name of the file, an attribute that cannot be copied), the file is
//! written in place, with its space reserved before.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FallocateFlags, XattrFlags, fallocate, fgetxattr, flistxattr, fremovexattr, fsetxattr},
    io::Errno,
    process::{Resource, getrlimit},
};
use zeroize::Zeroizing;

use crate::config::read::files;

/// How long another one that edits the file is waited for, and how often it is looked.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_LOOK: Duration = Duration::from_millis(10);

/// Most bytes of one attribute, and of the names of all (`xattr(7)`).
const MOST_ATTRIBUTE_BYTES: usize = 64 << 10;

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
    let shown = path.display();
    let contents = files::read_config(path);
    contents
        .map(|contents| contents.bytes)
        .map_err(|reason| format!("{shown} {reason}; {}", reason.way_out()))
}

impl ConfigInEdit {
    /// Reads the config at `path`, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, String> {
        Self::open_within(path, LOCK_WAIT)
    }

    fn open_within(path: &Path, wait: Duration) -> Result<Self, String> {
        let shown = path.display();
        let failed = |error: io::Error| format!("{shown} cannot be edited ({error})");
        let deadline = Instant::now() + wait;
        loop {
            let target = fs::canonicalize(path).map_err(failed)?;
            let mut options = OpenOptions::new();
            options.read(true).write(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
            let file = options.open(&target).map_err(failed)?;
            let metadata = file.metadata().map_err(failed)?;
            if !metadata.is_file() {
                return Err(format!("{shown} is not a regular file, so it cannot be edited"));
            }
            // File systems without locks are edited all the same: whether the file is unchanged is looked at again.
            while let Err(TryLockError::WouldBlock) = file.try_lock() {
                if Instant::now() > deadline {
                    return Err(format!(
                        "another program has locked {shown} (`fuser {shown}` shows which) and is waited for no longer; \
                         nothing is written"
                    ));
                }
                thread::sleep(LOCK_LOOK);
            }
            // Else whoever had the lock has put another file in the place of this one.
            if fs::metadata(&target).is_ok_and(|now| is_same(&now, &metadata)) {
                let bytes = read(path)?;
                return Ok(Self { path: path.to_owned(), target, file, metadata, bytes });
            }
            if Instant::now() > deadline {
                return Err(format!("{shown} is replaced again and again; nothing is written"));
            }
        }
    }

    pub(crate) fn bytes(&self) -> &Zeroizing<Vec<u8>> {
        &self.bytes
    }

    /// Puts `text` into the file, or leaves it as it is. `announce` runs when all is prepared; if it fails, nothing is
    /// written.
    pub(crate) fn replace(
        mut self,
        text: &str,
        announce: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), String> {
        let shown = self.path.display().to_string();
        // More than that would end the process by a signal.
        if let Some(limit) = getrlimit(Resource::Fsize).current.filter(|limit| text.len() as u64 > *limit) {
            return Err(format!(
                "{shown} stays as it is: this process may write files of {limit} bytes at most (`ulimit -f`)"
            ));
        }
        let failed = |error: io::Error| format!("{shown} cannot be written ({error}); it stays as it is");
        let next = match self.next(text) {
            Err(error) if !has_to_be_in_place(&error) => return Err(failed(error)),
            made => made.ok(),
        };
        self.is_unchanged().map_err(failed)?;
        if next.is_none() {
            reserve(&self.file, text.len()).map_err(failed)?;
        }
        announce()?;
        self.is_unchanged().map_err(failed)?;
        if let Some(next) = next {
            match next.rename_to(&self.target) {
                Ok(()) => return Ok(()),
                Err(error) if !has_to_be_in_place(&error) => return Err(failed(error)),
                // A mount of a single file.
                Err(_) => reserve(&self.file, text.len()).map_err(failed)?,
            }
        }
        overwrite(&mut self.file, text.as_bytes()).map_err(|error| {
            let restored = overwrite(&mut self.file, &self.bytes).is_ok();
            let state = if restored { "it stays as it is" } else { "it may be damaged: restore it" };
            format!("{shown} cannot be written ({error}); {state}")
        })
    }

    /// A file that can take the place of the old one, which nothing distinguishes from it but what is in it.
    fn next(&self, text: &str) -> io::Result<NextFile> {
        let in_place = || io::Error::from_raw_os_error(libc::EBUSY);
        let old = &self.metadata;
        if old.nlink() != 1 {
            return Err(in_place());
        }
        let (next, mut file) = NextFile::beside(&self.target)?;
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(&file, Some(old.uid()), Some(old.gid()))?;
        }
        file.set_permissions(fs::Permissions::from_mode(old.mode() & 0o7777))?;
        copy_attributes(&self.file, &file).map_err(|_| in_place())?;
        let new = file.metadata()?;
        let is_alike = (new.uid(), new.gid(), new.mode()) == (old.uid(), old.gid(), old.mode());
        if !is_alike || attributes(&file)? != attributes(&self.file)? {
            return Err(in_place());
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        Ok(next)
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

/// A file under a name of its own, removed unless it is renamed. One that a killed process leaves behind is in nobody's way.
struct NextFile(Option<PathBuf>);

impl NextFile {
    fn beside(target: &Path) -> io::Result<(Self, File)> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let mut name = std::ffi::OsString::from(".");
        name.push(target.file_name().unwrap_or(OsStr::new("config")));
        name.push(format!(".{}.next", hex::encode(random)));
        let path = target.with_file_name(name);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok((Self(Some(path)), file))
    }

    fn rename_to(mut self, target: &Path) -> io::Result<()> {
        if let Some(path) = &self.0 {
            fs::rename(path, target)?;
            // The file is in place whatever comes of this.
            let _ = target.parent().map(|directory| File::open(directory).and_then(|it| it.sync_all()));
        }
        self.0 = None;
        Ok(())
    }
}

impl Drop for NextFile {
    fn drop(&mut self) {
        // Nothing can be done about one that stays.
        let _ = self.0.take().map(fs::remove_file);
    }
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

/// Whether no file can take the place of this one, though it may be written.
fn has_to_be_in_place(error: &io::Error) -> bool {
    // The last one: the name leaves no room for a longer one.
    let in_place = [libc::EBUSY, libc::EXDEV, libc::EACCES, libc::EPERM, libc::EROFS, libc::ENAMETOOLONG];
    error.raw_os_error().is_some_and(|error| in_place.contains(&error))
}

/// The extended attributes of a file: access lists, labels, those of users.
fn attributes(file: &File) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; MOST_ATTRIBUTE_BYTES];
    let length = match flistxattr(file, &mut *names) {
        Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(BTreeMap::new()),
        listed => listed?,
    };
    let mut found = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; MOST_ATTRIBUTE_BYTES];
        let length = fgetxattr(file, name, &mut *value)?;
        value.truncate(length);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}

fn copy_attributes(from: &File, to: &File) -> io::Result<()> {
    let (wanted, there) = (attributes(from)?, attributes(to)?);
    // A directory may give its files an access list.
    for name in there.keys().filter(|name| !wanted.contains_key(*name)) {
        fremovexattr(to, &**name)?;
    }
    for (name, value) in wanted.iter().filter(|(name, value)| there.get(*name) != Some(value)) {
        fsetxattr(to, &**name, value, XattrFlags::empty())?;
    }
    Ok(())
}

/// Makes sure that there is space for so many bytes.
fn reserve(file: &File, length: usize) -> io::Result<()> {
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, length as u64) {
        Err(error) if matches!(error, Errno::NOSPC | Errno::DQUOT | Errno::FBIG) => Err(error.into()),
        // Not all file systems can reserve space; those that cannot are written all the same.
        _ => Ok(()),
    }
}

fn overwrite(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    // Blanks take the place of what a longer text had: a process that is killed before it shortens the file leaves none of it.
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0).min(files::MAX_BYTES as usize);
    let mut padded = Zeroizing::new(vec![b' '; bytes.len().max(length)]);
    padded[..bytes.len()].copy_from_slice(bytes);
    file.rewind()?;
    file.write_all(&padded)?;
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
        let said = edit.replace("new", || Ok(())).unwrap_err();
        assert!(said.contains("changed it meanwhile; run the command again"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), b"of another");

        // The same text in another file is another file.
        let edit = ConfigInEdit::open(&path).unwrap();
        let other = directory.path().join("other");
        fs::rename(&path, &other).unwrap();
        symlink(&other, &path).unwrap();
        assert!(edit.replace("new", || Ok(())).is_err());
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
                edit.replace("newest", || Ok(())).unwrap();
            }
        });
        assert!(told.try_recv().is_err(), "it does not wait");
        first.replace("new", || Ok(())).unwrap();
        second.join().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"newest");
    }

    #[test]
    fn a_shorter_text_in_place_leaves_nothing_of_the_longer_one() {
        let (directory, path) = file("a long text");
        fs::hard_link(&path, directory.path().join("second name")).unwrap();
        ConfigInEdit::open(&path).unwrap().replace("short", || Ok(())).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
    }

    #[test]
    fn a_text_that_cannot_be_announced_is_not_written() {
        let (directory, path) = file("old");
        for links in [1, 2] {
            let edit = ConfigInEdit::open(&path).unwrap();
            assert_eq!(edit.replace("new", || Err("no".into())).unwrap_err(), "no");
            assert_eq!(fs::read(&path).unwrap(), b"old");
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), links);
            let _ = fs::hard_link(&path, directory.path().join("second name"));
        }
    }

    /// Whoever may read the file may lock it.
    #[test]
    fn a_lock_of_another_program_is_not_waited_for_for_ever() {
        let (_directory, path) = file("old");
        let other = File::open(&path).unwrap();
        other.lock_shared().unwrap();
        let said = ConfigInEdit::open_within(&path, Duration::from_millis(50)).err().unwrap();
        assert!(said.contains("has locked") && said.contains("fuser"), "{said}");
    }

    #[test]
    fn attributes_and_access_lists_stay() {
        let (directory, path) = file("old");
        let old = File::open(&path).unwrap();
        if fsetxattr(&old, "user.of", b"somebody", XattrFlags::empty()).is_err() {
            return; // The file system has none.
        }
        // `user::rw- user:65534:r-- group::--- mask::r-- other::---`, as the kernel keeps it.
        let entry = |tag: u16, may: u16, id: u32| {
            [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        let nobody = u32::MAX;
        let list = [
            2_u32.to_le_bytes().to_vec(),
            entry(1, 6, nobody),
            entry(2, 4, 65_534),
            entry(4, 0, nobody),
            entry(0x10, 4, nobody),
            entry(0x20, 0, nobody),
        ]
        .concat();
        let has_list = fsetxattr(&old, "system.posix_acl_access", &list, XattrFlags::empty()).is_ok();
        let (before, of_file) = (attributes(&old).unwrap(), old.metadata().unwrap());
        assert_eq!(before.contains_key(&b"system.posix_acl_access"[..]), has_list);
        ConfigInEdit::open(&path).unwrap().replace("new", || Ok(())).unwrap();
        let new = File::open(&path).unwrap();
        assert_eq!((fs::read(&path).unwrap(), attributes(&new).unwrap()), (b"new".to_vec(), before));
        assert_eq!(new.metadata().unwrap().mode(), of_file.mode());
        assert_ne!(new.metadata().unwrap().ino(), of_file.ino(), "it was written in place");

        // What a directory gives its files is not given to one that did not have it.
        let _ = fsetxattr(
            File::open(directory.path()).unwrap(),
            "system.posix_acl_default",
            &list,
            XattrFlags::empty(),
        );
        let path = directory.path().join("plain");
        fs::write(&path, "old").unwrap();
        let _ = fremovexattr(File::open(&path).unwrap(), "system.posix_acl_access");
        ConfigInEdit::open(&path).unwrap().replace("new", || Ok(())).unwrap();
        assert!(attributes(&File::open(&path).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn a_name_that_leaves_no_room_is_no_obstacle() {
        let (directory, path) = file("old");
        let long = directory.path().join("n".repeat(250));
        fs::rename(&path, &long).unwrap();
        ConfigInEdit::open(&long).unwrap().replace("new", || Ok(())).unwrap();
        assert_eq!(fs::read(&long).unwrap(), b"new");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_of_others_are_not_touched() {
        let (directory, path) = file("old");
        let next = directory.path().join(".config.next");
        fs::write(&next, "of somebody").unwrap();
        ConfigInEdit::open(&path).unwrap().replace("new", || Ok(())).unwrap();
        assert_eq!(
            (fs::read(&path).unwrap(), fs::read(&next).unwrap()),
            (b"new".to_vec(), b"of somebody".to_vec())
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
