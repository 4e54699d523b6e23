//! Says in the log, in time, that credentials of tokens end.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use crate::{
    config::Level,
    identity::{Identity, Principal, Proof},
    observe::Log,
    state::Live,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Credentials that get a line of their own in one look; of the others, their number is logged.
const MOST_LINES: usize = 8;

/// The least time between two looks at one config.
const PAUSE: Duration = Duration::from_secs(60);

/// How much of its time a credential has left.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Enough,
    Week,
    Day,
    Nothing,
}

impl Left {
    /// What is left of `left`, and how long that stays so.
    fn of(left: Duration) -> (Self, Duration) {
        let stages = [(Self::Enough, 7 * DAY), (Self::Week, DAY), (Self::Day, Duration::ZERO)];
        let stage = stages.into_iter().find(|(_, least)| left > *least);
        stage.map_or((Self::Nothing, Duration::MAX), |(stage, least)| (stage, left - least))
    }
}

/// A credential that has reached the next stage.
struct Due<'a> {
    end: SystemTime,
    left: Left,
    identity: &'a Identity,
    id: &'a str,
}

/// How the credentials of a config come to their end.
#[derive(Default)]
pub(super) struct TokenExpiry {
    of: Weak<Live>,
    /// When there is next something to say, if no config comes before.
    next: Option<SystemTime>,
    /// What was said of each credential, and the end that it had then.
    said: HashMap<Proof, (SystemTime, Left)>,
}

impl TokenExpiry {
    /// Says once of each credential when a week is left, when a day is, and when it is over. A gateway that starts says where
    /// each one is; of one that was over when its config came, a warning about the config does.
    pub(super) fn look(&mut self, live: &Arc<Live>, log: &Log, now: SystemTime) {
        let is_known = Weak::as_ptr(&self.of) == Arc::as_ptr(live);
        if is_known && self.next.is_none_or(|next| now < next) {
            return;
        }
        (self.of, self.next) = (Arc::downgrade(live), None);
        let (mut said, mut due) = (HashMap::new(), Vec::new());
        for (identity, id, end) in live.ending() {
            let (left, stays) = Left::of(end.duration_since(now).unwrap_or_default());
            if let Some(next) = now.checked_add(stays.max(PAUSE)).filter(|_| left != Left::Nothing) {
                self.next = Some(self.next.map_or(next, |known| known.min(next)));
            }
            let before = self.said.get(&identity.proof).filter(|(known, _)| *known == end);
            let before = before.map(|(_, left)| *left);
            said.insert(identity.proof, (end, left));
            let is_new = before.map_or(left != Left::Nothing, |before| before < left);
            if is_new && left != Left::Enough {
                due.push(Due { end, left, identity, id });
            }
        }
        self.said = said;
        due.sort_by_key(|due| due.end);
        let others = due.split_off(MOST_LINES.min(due.len()));
        due.iter().for_each(|due| due.report(live, log));
        if !others.is_empty() {
            let msg = "More credentials of tokens expire: `sluicegate token list` shows all";
            let count = |left| others.iter().filter(|due| due.left == left).count();
            log.line(Level::Warn, msg)
                .int("expired", count(Left::Nothing))
                .int("within_a_day", count(Left::Day))
                .int("within_seven_days", count(Left::Week))
                .send();
        }
    }
}

impl Due<'_> {
    fn report(&self, live: &Live, log: &Log) {
        let msg = match self.left {
            Left::Nothing => "A credential of a token has expired",
            Left::Day => "A credential of a token expires within a day",
            Left::Week | Left::Enough => "A credential of a token expires within seven days",
        };
        let principal = &self.identity.principal;
        let hint = match (live.outlasts(principal, self.end), principal) {
            (true, _) => "clients have to change to the other credential of the token",
            (false, Principal::Tenant(_)) => "it is the last of the tenant: add another to `tenants`",
            (false, _) => "it is the last of the token: `sluicegate token rotate` replaces it",
        };
        let name = principal.token_name().map_or_else(|| principal.to_string(), ToString::to_string);
        log.line(Level::Warn, msg)
            .text("token_name", &name)
            .text("credential", self.id)
            .display("expires", humantime::format_rfc3339_seconds(self.end))
            .text("hint", hint)
            .send();
    }
}
