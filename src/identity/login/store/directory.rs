//! Whether logins can be kept in a directory: nobody else may look into it, and no other machine may have it.

use std::path::Path;

use super::fault::StoreFault;
use crate::state_dir::{self, ANY_BY_OTHERS};

/// What is wrong with it, if something is.
pub(super) fn check_directory(directory: &Path) -> Result<(), StoreFault> {
    let opened = state_dir::open_directory(directory, ANY_BY_OTHERS);
    let opened = opened.map_err(|error| StoreFault::of(directory, error))?;
    let kind = rustix::fs::fstatfs(&opened).map_err(|error| StoreFault::of(directory, error))?.f_type;
    match foreign_file_system(kind) {
        Some(name) => Err(StoreFault::of(
            directory,
            format!(
                "is on {name}, where SQLite cannot lock files; name a `stateDir` on a disk of this machine, or set \
                 `\"storage\": \"memory\"`"
            ),
        )),
        None => Ok(()),
    }
}

/// The name of a file system that this machine does not have to itself (statfs(2)).
pub(super) fn foreign_file_system(kind: impl TryInto<i64>) -> Option<&'static str> {
    let kind = kind.try_into().ok()? & 0xffff_ffff;
    Some(match kind {
        0x6969 => "NFS",
        0x517b | 0xff53_4d42 | 0xfe53_4d42 => "SMB",
        0x6573_5546 => "a file system in user space (FUSE)",
        0x0102_1997 => "9P",
        0x00c3_6400 => "Ceph",
        0x7375_7245 => "Coda",
        0x5346_414f | 0x6b41_4653 => "AFS",
        0x0116_1970 => "GFS2",
        0x7461_636f => "OCFS2",
        0x0bd0_0bd0 => "Lustre",
        0x4750_4653 => "GPFS",
        0x1983_0326 => "BeeGFS",
        0x564c => "NCP",
        _ => return None,
    })
}
