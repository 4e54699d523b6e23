//! What commands share: exit codes, the config file that they are for, and what they write.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use jsonc_parser::ast::Value;

use crate::config::{self, Loaded, Problem, rewrite};

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

/// Writes what must not be lost to standard output; or says why it would be.
pub(super) fn deliver(text: &str) -> Result<(), String> {
    let mut stdout = io::stdout().lock();
    let number = |file: &Path| fs::metadata(file).map(|metadata| metadata.rdev());
    let is_nowhere = File::from(stdout.as_fd().try_clone_to_owned().map_err(|error| error.to_string())?)
        .metadata()
        .is_ok_and(|metadata| {
            metadata.file_type().is_char_device()
                && number(Path::new("/dev/null")).is_ok_and(|null| null == metadata.rdev())
        });
    // A standard output that is closed is opened there as the process starts.
    if is_nowhere {
        return Err("standard output goes nowhere, and the token is shown only there".into());
    }
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|error| format!("cannot write to standard output: {error}"))
}

pub(super) fn fail(code: u8, message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "sluicegate: {message}");
    ExitCode::from(code)
}

/// The way out where a name is not known. The name itself is not repeated: it may be a token.
pub(super) fn proposed<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let shown: Vec<&str> = known.filter_map(config::shown_name).collect();
    match config::closest_name(name, shown.iter().copied()) {
        Some(near) => format!("did you mean {near:?}?"),
        None if shown.is_empty() => "it has none".into(),
        None => format!("name one of {}", config::first_names(&shown)),
    }
}

/// What stands in a column without a value.
pub(super) const NONE: &str = "-";

/// Words in one column.
pub(super) fn listed(words: &[&str]) -> String {
    match words.is_empty() {
        true => NONE.to_owned(),
        false => words.iter().map(|word| word.escape_debug().to_string()).collect::<Vec<_>>().join(","),
    }
}

/// A role, if none of its words looks like a secret.
pub(super) fn shown_role(role: &str) -> &str {
    let is_shown = |word: &str| word.is_empty() || config::shown_name(word).is_some();
    if role.split([':', ' ', ',']).all(is_shown) { role } else { "…" }
}

/// Lines in columns of a width that fits.
pub(super) fn columns<const N: usize>(lines: &[[String; N]]) -> String {
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |cells: &[String; N]| {
        let padded: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    lines.iter().map(line).collect()
}

/// Prints what `shown` makes of a config. One with problems is shown as far as it can be read, with its problems and another exit
/// code.
pub(super) fn print_from_config(
    path: &Path,
    shown: impl for<'t> FnOnce(&'t Value<'t>, &'t str, &'t Loaded) -> Result<String, String>,
) -> Result<ExitCode, String> {
    let bytes = rewrite::read(path)?;
    let loaded = config::load_bytes(path, &bytes, &|name| std::env::var(name).ok());
    let is_good = loaded.is_whole();
    if !is_good {
        print_problems(&loaded);
    }
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Ok((document, _)) = config::read::parse::parse(text) else { return Ok(ExitCode::from(BAD_USAGE)) };
    let printed = print(&shown(&document, text, &loaded)?);
    Ok(if is_good || printed != ExitCode::SUCCESS { printed } else { ExitCode::from(BAD_USAGE) })
}
