//! Descriptors that are kept for reading the config: it has to be read above all when a client has taken all others, since
//! how to stop them is to take away their token.

use std::{fs::File, io, ops::Deref};

use parking_lot::Mutex;

/// How many: one is needed at a time, and others may be quicker to take one that was given back for it.
const DESCRIPTORS: usize = 8;

/// Of the process, as its limit is.
static RESERVE: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A file that may have been opened by means of the reserve, which is filled up when it is closed.
#[derive(Debug)]
pub(crate) struct OpenedFile {
    // Closed first: fields are dropped in their order.
    file: File,
    _refill: Refill,
}

#[derive(Debug)]
struct Refill;

/// What `open` opens, if need be with a descriptor of the reserve.
pub(crate) fn open(open: impl Fn() -> io::Result<File>) -> io::Result<OpenedFile> {
    loop {
        match open() {
            Ok(file) => return Ok(OpenedFile { file, _refill: Refill }),
            Err(error) if is_lack(&error) => {
                if RESERVE.lock().pop().is_none() {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether there is no descriptor, neither for the process nor on the machine: nothing is known of the file.
pub(crate) fn is_lack(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

impl Drop for Refill {
    fn drop(&mut self) {
        let mut reserve = RESERVE.lock();
        while reserve.len() < DESCRIPTORS
            && let Ok(file) = File::open("/dev/null")
        {
            reserve.push(file);
        }
    }
}

impl Deref for OpenedFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}
