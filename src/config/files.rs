//! Reading the files a config is made of, none of which may hang or flood the reader.

use std::{fs::File, io::Read, path::Path};

/// Most bytes any of these files may have. A config of a thousand servers is a tenth of it.
const MAX_BYTES: u64 = 1 << 20;

/// A file that was read.
pub(super) struct Contents {
    pub(super) bytes: Vec<u8>,
    /// Whether every account on the machine may read it.
    pub(super) world_readable: bool,
}

/// Reads a regular file of at most 1 MiB; links are followed. The error is a sentence without the path.
pub(super) fn read(path: &Path) -> Result<Contents, String> {
    // Before opening: opening a FIFO waits for a writer, and opening some devices does something.
    ensure_regular(&path.metadata().map_err(reason)?)?;
    let file = File::open(path).map_err(reason)?;
    let metadata = file.metadata().map_err(reason)?;
    ensure_regular(&metadata)?;

    let mut bytes = Vec::new();
    // One byte more than allowed shows a file that is too long, whatever its metadata says.
    file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(reason)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("is larger than {} KiB", MAX_BYTES >> 10));
    }
    Ok(Contents { bytes, world_readable: world_readable(&metadata) })
}

fn ensure_regular(metadata: &std::fs::Metadata) -> Result<(), String> {
    match metadata.is_file() {
        true => Ok(()),
        false if metadata.is_dir() => Err("is a directory".into()),
        false => Err("is not a regular file".into()),
    }
}

fn reason(error: std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "does not exist".into(),
        std::io::ErrorKind::PermissionDenied => "may not be read by this user".into(),
        _ => format!("cannot be read ({error})"),
    }
}

#[cfg(unix)]
fn world_readable(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o004 != 0
}

#[cfg(not(unix))]
fn world_readable(_: &std::fs::Metadata) -> bool {
    false
}
