//! Which files a database has open, and whether they are still the ones that others find.
//!
//! SQLite goes on with a file that was moved or removed: what is written then is acknowledged, and lost. So whoever writes looks
//! before and after. Only names are looked at: to open a file of SQLite's and to close it takes SQLite's locks away.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Where a file is, and which one it was.
type Known = (PathBuf, (u64, u64));

/// The files of a database, as they were when it was opened.
pub(super) struct Files(Vec<Known>);

impl Files {
    /// Those that are there now.
    pub(super) fn of(paths: impl IntoIterator<Item = PathBuf>) -> io::Result<Self> {
        let known = |path: PathBuf| identity(&path).map(|identity| (path, identity));
        paths.into_iter().map(known).collect::<io::Result<_>>().map(Self)
    }

    /// Whether each of them is where it was; or what has become of one.
    pub(super) fn are_in_place(&self) -> Result<(), String> {
        for (path, known) in &self.0 {
            let became = match identity(path) {
                Ok(now) if now == *known => continue,
                Ok(_) => "another file was put in its place".to_owned(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => "it was moved or removed".to_owned(),
                Err(error) => error.to_string(),
            };
            return Err(format!(
                "{}: {became} while the gateway had it open; put it back as it was, or restart the gateway",
                path.display()
            ));
        }
        Ok(())
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}
