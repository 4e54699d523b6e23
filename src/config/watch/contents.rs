//! A fingerprint of a file, by which a watcher compares one state of it with another.

use std::{
    io::{self, Read},
    path::Path,
};

use sha2::{Digest, Sha256};

use crate::config::read::files::{self, MAX_BYTES, Unreadable};

#[derive(Clone, PartialEq, Eq)]
pub(super) enum FileFingerprint {
    /// Not looked at: equal to nothing that a look can find.
    Unread,
    /// There is no file, or a link that leads to none.
    Missing,
    /// It may not be read, or is a directory, a FIFO, a device.
    Unusable,
    Empty,
    /// Digest of contents and length. The contents are often secrets and not worth keeping.
    Digest([u8; 32]),
}

impl FileFingerprint {
    /// Fails if nothing can be seen of the file at present.
    pub(super) fn of(path: &Path) -> Result<Self, Unreadable> {
        match digest(path) {
            Err(why) if why.is_no_answer() => Err(why),
            Err(Unreadable::Failed(error)) if error.kind() == io::ErrorKind::NotFound => Ok(Self::Missing),
            Err(_) => Ok(Self::Unusable),
            Ok(contents) => Ok(contents),
        }
    }

    /// What a look finds where a read found `bytes`.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self::digest(bytes, bytes.len() as u64)
    }

    fn digest(bytes: &[u8], length: u64) -> Self {
        if bytes.is_empty() {
            return Self::Empty;
        }
        Self::Digest(Sha256::new().chain_update(bytes).chain_update(length.to_le_bytes()).finalize().into())
    }

    /// Whether this is what the middle of a save looks like: removed or truncated, and not yet written.
    pub(super) fn is_doubtful(&self) -> bool {
        matches!(self, Self::Missing | Self::Empty)
    }
}

fn digest(path: &Path) -> Result<FileFingerprint, Unreadable> {
    let (file, metadata) = files::open(path)?;
    let mut bytes = Vec::new();
    // No config loads more than this of a file, so what is beyond it is compared by length alone.
    (&*file).take(MAX_BYTES).read_to_end(&mut bytes).map_err(Unreadable::of)?;
    Ok(FileFingerprint::digest(&bytes, metadata.len()))
}
