//! The state of one load: the outside world on one side, the problems on the other.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    time::SystemTime,
};

use crate::config::{
    access::Rule,
    hung::{self, Patience},
    read::{
        files::{FileContents, Unreadable},
        known,
        reference::Env,
    },
    report::{
        hint,
        problem::{Location, Severity},
        shown,
    },
    roots::SystemRoots,
    rule_lines::RuleOf,
    snapshot::Credential,
    table::key::Object,
};

/// What is true for the whole of one load: the outside world on one side, the findings on the other.
pub(crate) struct Context<'a> {
    pub(crate) file: &'a Path,
    pub(crate) env: &'a Env<'a>,
    pub(crate) now: SystemTime,
    pub(crate) problems: Vec<Finding>,
    pub(crate) files: Vec<PathBuf>,
    pub(crate) unread: Unread,
    /// The places of the rules about who may do what.
    pub(crate) rules: Vec<(RuleOf, Rule, Location)>,
    /// Every credential of which the token is known, and where it is.
    pub(crate) credentials: Vec<(usize, Credential)>,
    /// A wait for something that is not in `unread` timed out.
    pub(crate) has_waited: bool,
    /// What looks at these files found.
    pub(crate) named: NamedFiles,
    /// The files, to look them up.
    known_files: HashSet<PathBuf>,
    /// Kinds of objects whose keys were listed already.
    listed: HashSet<&'static str>,
    /// Texts with a control character in them, which is to blame for what else is wrong with them.
    pub(crate) broken_texts: HashSet<String>,
    /// What the system trusts.
    pub(crate) system_roots: SystemRoots,
    /// The first secret that is in the config file itself.
    pub(crate) plain_secret: Option<Location>,
    /// What is read is no more than a part, without which the rest is good.
    pub(crate) is_part: bool,
    /// What is read is a part, as far as it is in files.
    pub(crate) are_files_parts: bool,
}

/// Files of which nothing is known at present: that they could not be read does not mean that they are gone or wrong.
#[derive(Debug, Default)]
pub struct Unread {
    /// The process has no descriptor left.
    pub lacks_descriptors: bool,
    /// Their file systems do not answer.
    pub hung: Vec<PathBuf>,
}

/// What looks found, each for the first that asks.
#[derive(Default)]
pub(crate) struct NamedFiles {
    pub(crate) files: HashMap<PathBuf, Result<FileContents, Unreadable>>,
    pub(crate) directories: HashMap<PathBuf, Option<bool>>,
}

/// Something that is wrong, before it is known whether it is shown.
#[derive(Debug, Clone)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) offset: usize,
    pub(crate) key_path: String,
    pub(crate) message: String,
    /// Whether it is that a variable has no value here, which it may have where the gateway runs.
    pub(crate) is_unset: bool,
}

/// With more problems than this, hints are left out: they would only take time.
const ENOUGH: usize = 1000;

impl<'a> Context<'a> {
    pub(crate) fn new(file: &'a Path, env: &'a Env<'a>, now: SystemTime) -> Self {
        Self {
            file,
            env,
            now,
            problems: Vec::new(),
            files: vec![file.to_owned()],
            unread: Unread::default(),
            rules: Vec::new(),
            credentials: Vec::new(),
            has_waited: false,
            named: NamedFiles::default(),
            known_files: HashSet::from([file.to_owned()]),
            listed: HashSet::new(),
            broken_texts: HashSet::new(),
            system_roots: SystemRoots::default(),
            plain_secret: None,
            is_part: false,
            are_files_parts: false,
        }
    }

    /// Notes a key that an object of this kind does not have. Which of its keys is meant, if one is.
    pub(crate) fn unknown(&mut self, at: &Location, name: &str, kind: &Object) -> Option<&'static str> {
        let (message, meant) = match self.is_full() {
            true => (Some("unknown key".into()), None),
            false => hint::unknown(name, kind),
        };
        let message = message.unwrap_or_else(|| match self.listed.insert(kind.name) {
            true => format!("unknown key; known here: {}", kind.names().join(", ")),
            false => "unknown key; those known here are listed at the first one".into(),
        });
        self.error(at, message);
        meant
    }

    /// Whether there are so many problems that hints are left out.
    pub(crate) fn is_full(&self) -> bool {
        self.problems.len() >= ENOUGH
    }

    pub(crate) fn error(&mut self, at: &Location, message: impl Into<String>) {
        self.note(self.of_error(), at, message.into(), false);
    }

    /// Notes that a variable has no value.
    pub(crate) fn unset(&mut self, at: &Location, message: String) {
        self.note(self.of_error(), at, message, true);
    }

    fn of_error(&self) -> Severity {
        if self.is_part { Severity::Part } else { Severity::Error }
    }

    /// Notes an error of something that has no value then.
    pub(crate) fn refuse<T>(&mut self, at: &Location, message: impl Into<String>) -> Option<T> {
        self.error(at, message);
        None
    }

    /// Reads something of which an error does not stop the rest.
    pub(crate) fn part<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.is_part, true);
        let read = read(self);
        self.is_part = before;
        read
    }

    /// What is read, if nothing is wrong with it.
    pub(crate) fn whole<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        let before = self.problems.len();
        let read = read(self);
        let is_whole = self.problems[before..].iter().all(|problem| problem.severity < Severity::Part);
        read.filter(|_| is_whole)
    }

    /// Reads something of which a bad file does not stop the rest, and returns whether there was none.
    pub(crate) fn with_files_as_parts<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> (T, bool) {
        let before = std::mem::replace(&mut self.are_files_parts, true);
        let parts = self.count(Severity::Part);
        let read = read(self);
        self.are_files_parts = before;
        (read, self.count(Severity::Part) == parts)
    }

    pub(crate) fn warning(&mut self, at: &Location, message: impl Into<String>) {
        self.note(Severity::Warning, at, message.into(), false);
    }

    pub(crate) fn notice(&mut self, at: &Location, message: impl Into<String>) {
        self.note(Severity::Notice, at, message.into(), false);
    }

    fn note(&mut self, severity: Severity, at: &Location, message: String, is_unset: bool) {
        if !self.broken_texts.contains(&at.path) {
            let (offset, key_path) = (at.offset, at.path.clone());
            self.problems.push(Finding { severity, offset, key_path, message, is_unset });
        }
    }

    pub(crate) fn failed(&self) -> bool {
        self.count(Severity::Error) > 0
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems.iter().filter(|problem| problem.severity == severity).count()
    }

    /// Paths in a config are relative to it, wherever the gateway was started.
    pub(crate) fn beside_config(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// Reads a file that the config names, and remembers that it did.
    pub(crate) fn read(&mut self, path: &str, at: &Location) -> Option<FileContents> {
        // A path of several lines is the content of a file by mistake, possibly of a key file: never shown.
        if path.is_empty() || path.contains(char::is_control) {
            return self.refuse(at, "is not a path; give the path of the file, not what stands in it");
        }
        let (written, path) = (path, self.beside_config(path));
        known::want(self.file, [&path]);
        let contents = match self.named.files.remove(&path) {
            Some(contents) => contents,
            None => known::read(&path, self.patience()),
        };
        self.looked_at(&path);
        if matches!(contents, Err(Unreadable::Hangs)) {
            self.unread.hung.push(path.clone());
            if let Some(contents) = known::of(&path) {
                self.warning(
                    at,
                    "cannot be read at present (its file system does not answer); what was read of it last stays in force",
                );
                return Some(contents);
            }
        }
        contents
            .map_err(|reason| {
                self.unread.lacks_descriptors |= reason.is_lack();
                let message = match shown::path(written) {
                    Some(_) => format!("{} {reason}; check the path and its permissions", path.display()),
                    None => {
                        format!("the file {reason}; give its path, as in \"./token\", not what stands in it")
                    }
                };
                self.error(at, message);
            })
            .ok()
    }

    /// How long one more file is waited for: a load waits once for all that hang.
    pub(crate) fn patience(&self) -> Patience {
        if self.has_waited || !self.unread.hung.is_empty() { Patience::LOOK } else { Patience::LOAD }
    }

    fn looked_at(&mut self, path: &Path) {
        if self.known_files.insert(path.to_owned()) {
            self.files.push(path.to_owned());
        }
    }

    /// Checks that there is a directory.
    pub(crate) fn directory(&mut self, path: &str, at: &Location) -> Option<PathBuf> {
        let path = self.beside_config(path);
        let is_there = match self.named.directories.remove(&path) {
            Some(is_there) => is_there,
            None => hung::look(&path, self.patience(), Path::is_dir),
        };
        let message = match is_there {
            Some(true) => return Some(path),
            Some(false) => "is no directory that can be entered; create it, or correct the path",
            None => {
                // It is looked at until it is known.
                self.looked_at(&path);
                self.unread.hung.push(path);
                "cannot be looked at at present (its file system does not answer); check the path"
            }
        };
        self.part(|cx| cx.error(at, message));
        None
    }

    /// Like [`Context::read`], for a file that only its owner should be able to read.
    pub(crate) fn read_secret(&mut self, path: &str, at: &Location) -> Option<FileContents> {
        let contents = self.read(path, at)?;
        if contents.world_readable {
            let path = self.beside_config(path);
            let path = path.display();
            self.warning(
                at,
                format!("every account on this machine may read {path}; run `chmod o-rwx {path}`"),
            );
        }
        Some(contents)
    }
}
