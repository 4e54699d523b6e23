//! Reading the files a config is made of, none of which may hang or flood the reader.

use std::{
    fmt,
    fs::{Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use zeroize::Zeroizing;

use crate::config::read::reserve::{self, OpenedFile};

/// Most bytes any of these files may have. A config of a thousand servers is a tenth of it.
pub(crate) const MAX_BYTES: u64 = 1 << 20;

/// What most of these files have at most: secrets, keys, certificates.
const USUAL_BYTES: usize = 16 * 1024;

/// Reads that may differ from the one before, until the file counts as unreadable.
const MOST_READS: usize = 5;

/// A file that was read.
#[derive(Clone)]
pub(crate) struct FileContents {
    /// Often a secret or a key, and so wiped when it is dropped, each copy of it.
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    /// Whether every account on the machine may read it.
    pub(crate) world_readable: bool,
}

/// Opens a regular file; links are followed. What is looked at is what was opened, so that nothing can be swapped in
/// between; and opening never waits: a FIFO without a writer is open at once, and refused.
pub(crate) fn open(path: &Path) -> Result<(OpenedFile, Metadata), Unreadable> {
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(flags);
    let file = reserve::open(|| options.open(path)).map_err(Unreadable::of)?;
    let metadata = file.metadata().map_err(Unreadable::of)?;
    match metadata.file_type() {
        kind if kind.is_file() => Ok((file, metadata)),
        kind if kind.is_dir() => Err(Unreadable::Directory),
        _ => Err(Unreadable::NoFile),
    }
}

/// Why a file cannot be read. Shown, it is a sentence without the path.
#[derive(Debug)]
pub(crate) enum Unreadable {
    Failed(io::Error),
    Directory,
    /// A FIFO, a socket, a device.
    NoFile,
    TooLarge,
    /// It is written to all the while.
    Changing,
    /// Its file system does not answer.
    Hangs,
}

/// Reads a regular file of at most 1 MiB; links are followed.
///
/// It is read until two reads agree. Somebody may be writing it, and of half a token or half a certificate nothing else
/// tells that it is not all.
pub(crate) fn read_patiently(path: &Path) -> Result<FileContents, Unreadable> {
    let mut contents = read_once(path)?;
    for _ in 0..MOST_READS {
        let again = read_once(path)?;
        if again.bytes == contents.bytes {
            return Ok(again);
        }
        contents = again;
    }
    Err(Unreadable::Changing)
}

fn read_once(path: &Path) -> Result<FileContents, Unreadable> {
    let (file, metadata) = open(path)?;
    Ok(FileContents { bytes: read_all(&*file)?, world_readable: metadata.permissions().mode() & 0o004 != 0 })
}

/// The path that means standard input, where a config is read.
pub(crate) const STANDARD_INPUT: &str = "-";

/// Reads a config, which may come from standard input. While it hangs, there is nothing to do but to wait.
pub(crate) fn read_config(path: &Path) -> Result<FileContents, Unreadable> {
    match path.as_os_str() == STANDARD_INPUT {
        true => Ok(FileContents { bytes: read_all(io::stdin().lock())?, world_readable: false }),
        false => read_patiently(path),
    }
}

fn read_all(from: impl Read) -> Result<Zeroizing<Vec<u8>>, Unreadable> {
    // Of most files all, so that no part of one stays behind where it was before there was more room.
    let mut bytes = Zeroizing::new(Vec::with_capacity(USUAL_BYTES));
    // One byte more than allowed shows a file that is too long, whatever size its metadata gives.
    from.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(Unreadable::of)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Unreadable::TooLarge);
    }
    Ok(bytes)
}

impl Unreadable {
    /// A file system that a network is behind may give up where another one hangs (`soft` in nfs(5)). Either says nothing of
    /// the file.
    pub(crate) fn of(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(
                libc::EIO
                | libc::ESTALE
                | libc::ETIMEDOUT
                | libc::ENOTCONN
                | libc::ECONNABORTED
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH,
            ) => Self::Hangs,
            _ => Self::Failed(error),
        }
    }

    /// Whether it says nothing of the file.
    pub(crate) fn is_no_answer(&self) -> bool {
        matches!(self, Self::Hangs) || self.is_lack()
    }

    /// Whether no descriptor is left to open it with, not even a reserved one.
    pub(crate) fn is_lack(&self) -> bool {
        matches!(self, Self::Failed(error) if reserve::is_lack(error))
    }

    /// What to do about a config that cannot be read for this reason.
    pub(crate) fn way_out(&self) -> &'static str {
        match self {
            Self::TooLarge => "is it the right file? Servers of one gateway fit into a tenth of that",
            Self::Directory => "name the file in it",
            _ if self.is_no_file() => "name a file, or `-` for standard input",
            Self::Failed(error) if error.kind() == io::ErrorKind::NotFound => {
                "correct the path, or write one with `sluicegate init`"
            }
            _ => "check the path and its permissions",
        }
    }

    fn is_no_file(&self) -> bool {
        match self {
            Self::NoFile => true,
            // What opening a socket comes to.
            Self::Failed(error) => error.raw_os_error() == Some(libc::ENXIO),
            _ => false,
        }
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory => f.write_str("is a directory"),
            Self::NoFile => f.write_str("is not a regular file"),
            Self::Failed(_) if self.is_no_file() => f.write_str("is not a regular file"),
            Self::TooLarge => write!(f, "is larger than {} KiB", MAX_BYTES >> 10),
            Self::Changing => f.write_str("is written again and again while it is read"),
            Self::Hangs => f.write_str("cannot be read at present (its file system does not answer)"),
            _ if self.is_lack() => {
                f.write_str("cannot be read at present (the process has too many open files)")
            }
            Self::Failed(error) => match error.kind() {
                io::ErrorKind::NotFound => f.write_str("does not exist"),
                io::ErrorKind::PermissionDenied => f.write_str("may not be read by this user"),
                _ => write!(f, "cannot be read ({error})"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicBool, Ordering},
            mpsc,
        },
        thread,
        time::Duration,
    };

    use super::*;

    /// Whoever may write the directory can put a FIFO in place of a file at any moment.
    #[test]
    fn a_fifo_that_is_swapped_in_at_any_moment_holds_up_nobody() {
        let directory = tempfile::TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("file"), "contents").unwrap();
        assert!(std::process::Command::new("mkfifo").arg(path("fifo")).status().unwrap().success());
        let is_over = AtomicBool::new(false);
        let (tell, told) = mpsc::channel();
        let reads = thread::spawn({
            let path = path("config");
            move || {
                let (mut files, mut fifos) = (0, 0);
                while files < 500 || fifos < 500 {
                    match read_patiently(&path) {
                        Ok(contents) => {
                            assert_eq!(*contents.bytes, b"contents");
                            files += 1;
                        }
                        Err(why) if why.is_no_file() => fifos += 1,
                        Err(why) => assert_eq!(why.to_string(), "does not exist"),
                    }
                }
                tell.send(()).unwrap();
            }
        });
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    for name in ["file", "fifo"] {
                        std::fs::hard_link(path(name), path("next")).unwrap();
                        std::fs::rename(path("next"), path("config")).unwrap();
                        // To rename a link to what it links to already leaves it where it is.
                        let _ = std::fs::remove_file(path("next"));
                    }
                }
            });
            let told = told.recv_timeout(Duration::from_secs(20));
            is_over.store(true, Ordering::Relaxed);
            assert!(told.is_ok(), "a read waits for a writer, or failed");
        });
        reads.join().unwrap();
    }
}
