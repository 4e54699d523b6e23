//! How a server fared when it was used last, whoever used it: what `/servers` shows, and what all servers as one need to
//! know of a member before they wait for it.

use std::{
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    time::{Duration, SystemTime},
};

use http::StatusCode;
use parking_lot::Mutex;

use super::log::cut;
use crate::error::{Error, Side};

/// Bytes of a cause that are kept.
const MOST_CAUSE: usize = 200;

/// How a server fared when it was used last. Every answer of the server is noted, so that costs a look at the clock and a
/// store; whatever costs more is done when something goes wrong, or is right again.
#[derive(Debug, Default)]
pub struct Health {
    /// When it answered last, in milliseconds of Unix time; 0 is never.
    answered: AtomicU64,
    /// Whether what came after that was a failure.
    is_failing: AtomicBool,
    /// Whether one of its lists fails.
    lacks_lists: AtomicBool,
    /// What it is slow with, a bit for each.
    slow: AtomicU8,
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    last: Option<ServerFailure>,
    /// Methods of the lists that fail, and why.
    lists: Vec<(&'static str, Box<str>)>,
}

/// Something that went wrong with a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFailure {
    /// When.
    pub at: SystemTime,
    /// Why, for who runs the gateway.
    pub cause: Box<str>,
}

impl Health {
    /// The server answered.
    pub fn answered(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        // Workers share this: what is so already is not written again.
        if self.answered.load(Relaxed) != now {
            self.answered.store(now, Relaxed);
        }
        if self.is_failing.load(Relaxed) {
            self.is_failing.store(false, Relaxed);
        }
    }

    /// The server answered with this status. What says that there is nothing behind it is a failure; that one request failed
    /// in it need not be one for others.
    pub fn answered_with(&self, status: StatusCode) {
        match status.as_u16() {
            502..=504 => self.failed(&format!("the server answered {}", status.as_u16())),
            code @ 500..=599 => {
                self.answered();
                self.note(&format!("the server answered {code}"));
            }
            _ => self.answered(),
        }
    }

    /// A request failed. Whether that was the server's doing, the error says.
    pub fn failed_by(&self, error: &Error) {
        if error.kind.side() == Side::Upstream {
            self.failed(error.cause.as_deref().unwrap_or_else(|| error.kind.code()));
        }
    }

    /// The server cannot be used, as far as this was a fair attempt.
    pub fn failed(&self, cause: &str) {
        self.note(cause);
        self.is_failing.store(true, Relaxed);
    }

    /// Something went wrong, and the server may serve others all the same.
    pub fn note(&self, cause: &str) {
        self.failures.lock().last =
            Some(ServerFailure { at: SystemTime::now(), cause: cut(cause, MOST_CAUSE).into() });
    }

    /// One of its lists fails, so that who sees all servers as one does without it. `method` is what it is asked for by.
    pub fn list_failed(&self, method: &'static str, cause: &str) {
        let cause: Box<str> = cut(cause, MOST_CAUSE).into();
        let mut failures = self.failures.lock();
        failures.last = Some(ServerFailure { at: SystemTime::now(), cause: cause.clone() });
        failures.lists.retain(|(of, _)| *of != method);
        failures.lists.push((method, cause));
        self.lacks_lists.store(true, Relaxed);
    }

    /// One of its lists came.
    pub fn listed(&self, method: &'static str) {
        if self.lacks_lists.load(Relaxed) {
            let mut failures = self.failures.lock();
            failures.lists.retain(|(of, _)| *of != method);
            self.lacks_lists.store(!failures.lists.is_empty(), Relaxed);
        }
    }

    /// What was wrong before is not known of what comes now.
    pub fn forget(&self) {
        let mut failures = self.failures.lock();
        failures.lists.clear();
        self.lacks_lists.store(false, Relaxed);
        self.is_failing.store(false, Relaxed);
        self.slow.store(0, Relaxed);
    }

    /// Whether it could not be used when it was tried last.
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Relaxed)
    }

    /// What is wrong with it now.
    pub fn problem(&self) -> Option<String> {
        if !self.is_failing() && !self.lacks_lists.load(Relaxed) {
            return None;
        }
        let failures = self.failures.lock();
        if self.is_failing() {
            return failures.last.as_ref().map(|last| last.cause.to_string());
        }
        failures.lists.first().map(|(method, cause)| format!("{method}: {cause}"))
    }

    /// When it answered last.
    pub fn last_answer(&self) -> Option<SystemTime> {
        match self.answered.load(Relaxed) {
            0 => None,
            millis => Some(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)),
        }
    }

    /// What went wrong last, if anything did.
    pub fn last_failure(&self) -> Option<ServerFailure> {
        self.failures.lock().last.clone()
    }

    /// Whether somebody waited in vain for what has this number, which is below 8, and it has not come in time since.
    pub fn is_slow(&self, what: u8) -> bool {
        self.slow.load(Relaxed) & (1 << what) != 0
    }

    /// Notes that somebody waited in vain for it, or that it came in time.
    pub fn set_slow(&self, what: u8, is_slow: bool) {
        if self.is_slow(what) == is_slow {
            return;
        }
        match is_slow {
            true => self.slow.fetch_or(1 << what, Relaxed),
            false => self.slow.fetch_and(!(1 << what), Relaxed),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn what_counts_is_how_it_fared_last_and_what_went_wrong_is_kept() {
        let health = Health::default();
        assert_eq!((health.problem(), health.last_answer(), health.last_failure()), (None, None, None));
        health.failed("connection refused");
        assert!(health.is_failing() && health.last_answer().is_none());
        assert_eq!(health.problem().as_deref(), Some("connection refused"));
        health.answered();
        assert!(!health.is_failing() && health.last_answer().is_some());
        assert_eq!(health.problem(), None);
        assert_eq!(&*health.last_failure().unwrap().cause, "connection refused");
        health.note(&"é".repeat(200));
        assert_eq!((health.problem(), health.last_failure().unwrap().cause.len()), (None, MOST_CAUSE));
    }

    #[test]
    fn a_server_behind_which_there_is_nothing_is_down_and_one_that_fails_once_is_not() {
        for (status, is_failing, is_noted) in [
            (200, false, false),
            (404, false, false),
            (500, false, true),
            (501, false, true),
            (502, true, true),
            (503, true, true),
        ] {
            let health = Health::default();
            health.answered_with(StatusCode::from_u16(status).unwrap());
            assert_eq!(
                (health.is_failing(), health.last_failure().is_some()),
                (is_failing, is_noted),
                "{status}"
            );
        }
        let health = Health::default();
        health.failed_by(&ErrorKind::CallerLimit.with_cause("too many"));
        assert_eq!(health.last_failure(), None, "that is the caller's doing");
        health.failed_by(&ErrorKind::UpstreamTimeout.into());
        assert_eq!(health.problem().as_deref(), Some("upstream_timeout"));
    }

    #[test]
    fn a_list_that_fails_is_a_problem_until_it_comes_whatever_else_the_server_answers() {
        let health = Health::default();
        health.list_failed("tools/list", "error -32603");
        health.list_failed("prompts/list", "error -1");
        health.answered();
        health.listed("resources/list");
        assert_eq!(health.problem().as_deref(), Some("tools/list: error -32603"));
        assert!(!health.is_failing(), "its calls pass");
        health.listed("tools/list");
        assert_eq!(health.problem().as_deref(), Some("prompts/list: error -1"));
        health.forget();
        assert_eq!(health.problem(), None);
    }

    #[test]
    fn a_server_may_be_slow_with_one_thing_and_not_with_another() {
        let health = Health::default();
        health.set_slow(3, true);
        health.set_slow(0, true);
        health.set_slow(0, false);
        assert_eq!([0, 1, 3].map(|what| health.is_slow(what)), [false, false, true]);
    }
}
