//! What commands share: exit codes, the config file that they are for, and what they write.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;

use crate::config::{Loaded, Problem};

/// The command failed while it ran.
pub(super) const FAILED: u8 = 1;
/// The command was used wrongly, or its config is bad.
pub(super) const BAD_USAGE: u8 = 2;

pub(super) const DEFAULT_FILE: &str = "sluicegate.json";

#[derive(Args)]
pub(super) struct ConfigFile {
    /// Config file [default: ./sluicegate.json]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    /// The same
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
}

impl ConfigFile {
    /// The file that was named, or the default if it is there.
    pub(super) fn path(self) -> Result<PathBuf, String> {
        match self.config.or(self.file) {
            Some(path) => Ok(path),
            // A broken link counts as a file: loading it reports what is wrong.
            None if Path::new(DEFAULT_FILE).symlink_metadata().is_ok() => Ok(DEFAULT_FILE.into()),
            None => Err(format!(
                "there is no ./{DEFAULT_FILE}; name a config, write one with `sluicegate init`, \
                 or look around with `sluicegate demo`"
            )),
        }
    }
}

/// Writes every problem to standard error, with the place where it is.
pub(super) fn print_problems(loaded: &Loaded) {
    let lines: String = loaded.problems.iter().map(Problem::with_excerpt).collect();
    // A failure cannot be reported anywhere.
    let _ = io::stderr().write_all(lines.as_bytes());
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no failure.
pub(super) fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            fail(FAILED, &format!("cannot write to standard output: {error}"))
        }
        _ => ExitCode::SUCCESS,
    }
}

pub(super) fn fail(code: u8, message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "sluicegate: {message}");
    ExitCode::from(code)
}
