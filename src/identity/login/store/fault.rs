//! Why logins cannot be kept.

use std::{fmt, path::Path, sync::Arc};

/// Why logins cannot be kept, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreFault(Arc<str>);

impl StoreFault {
    /// What is the matter with `path`.
    pub fn of(path: &Path, why: impl fmt::Display) -> Self {
        Self(format!("{}: {why}", path.display()).into())
    }

    /// For this reason.
    pub fn new(why: &str) -> Self {
        Self(why.into())
    }
}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreFault {}
