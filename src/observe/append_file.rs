//! A file that lines are appended to, and that can be opened again under its name, as programs that rotate logs need it.
//!
//! It is opened by whoever writes: a path whose file system hangs holds up that thread and no other.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::Log;
use crate::config::Level;

/// What a file has that is made here: it is for the gateway's own user.
const MODE: u32 = 0o600;

/// The file, open or not.
pub(super) struct AppendFile {
    path: PathBuf,
    file: Option<File>,
    reopens: Arc<AtomicBool>,
    /// Gets one line when the file cannot be written, and one when it can again.
    log: Log,
    is_lost: bool,
}

impl AppendFile {
    /// The file at `path`. It is opened again before the next write once `reopens` is true.
    pub(super) fn new(path: PathBuf, reopens: Arc<AtomicBool>, log: Log) -> Self {
        Self { path, file: None, reopens, log, is_lost: false }
    }

    fn open(&mut self) -> io::Result<&mut File> {
        if self.reopens.swap(false, Ordering::Relaxed) {
            self.file = None;
        }
        match &mut self.file {
            Some(file) => Ok(file),
            none => {
                let mut options = OpenOptions::new();
                Ok(none.insert(options.append(true).create(true).mode(MODE).open(&self.path)?))
            }
        }
    }

    fn report<T>(&mut self, done: io::Result<T>) -> io::Result<T> {
        let is_lost = done.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::Interrupted);
        if std::mem::replace(&mut self.is_lost, is_lost) != is_lost {
            let file = self.path.display().to_string();
            match &done {
                Err(error) => {
                    let msg = "The audit file cannot be written; its lines are dropped until it can";
                    let line = self.log.line(Level::Error, msg).text("file", &file);
                    line.text("cause", &error.to_string()).send();
                }
                Ok(_) => {
                    self.log.line(Level::Info, "The audit file is written again").text("file", &file).send()
                }
            }
        }
        done
    }
}

impl Write for AppendFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.open().and_then(|file| file.write(bytes));
        self.report(written)
    }

    /// Nothing waits here to be written; so this opens the file, if it is not open.
    fn flush(&mut self) -> io::Result<()> {
        let opened = self.open().map(|_| ());
        self.report(opened)
    }
}
