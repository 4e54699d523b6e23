//! `proxy.stateDir`: what the gateway keeps on disk, in a directory and in files that nobody else may touch.

use std::{
    fs::{DirBuilder, File, Metadata, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Permissions that only the owner may have.
pub const WRITE_BY_OTHERS: u32 = 0o022;
/// Those, and to read.
pub const ANY_BY_OTHERS: u32 = 0o077;

/// Bytes of a file at most that is read whole.
const LONGEST: u64 = 1 << 20;

/// Makes a directory that nobody else may look into, and those above it, unless they are there.
pub fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)
}

/// Opens a directory that is no link, and for which others do not have the permissions `forbidden`.
pub fn open_directory(path: &Path, forbidden: u32) -> io::Result<File> {
    open_own(path, libc::O_DIRECTORY, forbidden).map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTDIR | libc::ELOOP) => io::Error::other(
            "is a symbolic link, or no directory; put the directory itself there, or name another `stateDir`",
        ),
        _ => error,
    })
}

/// Opens what is no link, belongs to the user of this process or to root, and has none of the permissions `forbidden`.
pub fn open_own(path: &Path, flags: i32, forbidden: u32) -> io::Result<File> {
    let flags = flags | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    judge(&file.metadata()?, forbidden)?;
    Ok(file)
}

/// Whether [`open_own`] would open it. It is not opened: to close a file that a database is in would take its locks away.
pub fn check_own(path: &Path, forbidden: u32) -> io::Result<()> {
    let metadata = path.symlink_metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("is a symbolic link, or no file; remove it"));
    }
    judge(&metadata, forbidden)
}

fn judge(metadata: &Metadata, forbidden: u32) -> io::Result<()> {
    let user = rustix::process::geteuid().as_raw();
    let refused = |why: String| Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    if metadata.uid() != user && metadata.uid() != 0 {
        return refused(format!(
            "belongs to user {}, who could have made it; look at it, and `chown {user}` it or remove it",
            metadata.uid()
        ));
    }
    if metadata.mode() & forbidden != 0 {
        return refused(match (forbidden, metadata.is_dir()) {
            (ANY_BY_OTHERS, true) => {
                "other users may look into it; `chmod 700` it (systemd: `StateDirectoryMode=0700`)".into()
            }
            (ANY_BY_OTHERS, false) => {
                "other users may read it; remove the directory if they could have, or `chmod 600` it".into()
            }
            _ => "other users may write there; remove the directory if they could have, or `chmod go-w` it"
                .into(),
        });
    }
    Ok(())
}

/// Reads a file of [`open_own`].
pub fn read_own(path: &Path, forbidden: u32) -> io::Result<String> {
    let mut text = String::new();
    open_own(path, 0, forbidden)?.take(LONGEST).read_to_string(&mut text)?;
    Ok(text)
}

/// Writes a new file, to the disk. Fails if there is one.
pub fn write_new(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// A name of its own for what is about to become `name`.
pub fn temporary(name: &str) -> io::Result<String> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(format!(".{name}-{:016x}", u64::from_ne_bytes(random)))
}
