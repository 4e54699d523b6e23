//! Log lines about what may recur as often as a peer likes: one of a kind in ten seconds, with a count of those that were
//! left out.
//!
//! One connection can be refused 50,000 times a second. A line for each would fill a disk in hours and push everything
//! else out of the log, so each [`Topic`] has a slot that lets one line pass and counts the others. Counters stay
//! exact; they are what to look at in a flood.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::{
    config::Level,
    downstream::rejection::Rejection,
    error::{ErrorKind, Side},
};

/// Least time between two lines about one topic.
const PAUSE: Duration = Duration::from_secs(10);

/// What recurs: a closed set, of which a peer can choose none that is not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topic {
    /// The gateway refused a request with this error.
    Refused(ErrorKind),
    /// A connection ended before a request of it could be judged.
    Rejected(Rejection),
    /// There are as many connections as there may be.
    Full,
    /// All servers as one go without a server. One server seldom silences another: each is in one of these groups.
    LeftOut(Group),
    /// One of a server's lists fails, so that all servers as one go without it.
    ListFailed(Group),
    /// Somebody uses a decoy. One seldom silences another, as with servers.
    Decoy(Group),
    /// Somebody has no credential for a server. One server seldom silences another.
    MissingCredential(Group),
    /// Two servers offer the same name.
    Collision,
    /// A server lists more than is kept.
    TooMany,
    /// A list does not pass, because it cannot be read.
    Withheld,
    /// There was no room for a server's message.
    GaveUp,
    /// A server's message cannot be read.
    Unreadable,
    /// A server answers what nobody asked.
    Unasked,
    /// There was no connection for what a client tells a server.
    Untold,
}

/// One of a few groups of servers, or of decoys, by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group(u8);

impl Group {
    const COUNT: u8 = 16;

    /// The group of what has this name.
    pub fn of(name: &str) -> Self {
        // FNV-1a, folded: names come from the config, so nobody chooses ones that meet.
        let hash = name
            .bytes()
            .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let [a, b, c, d] = hash.to_le_bytes();
        Self((a ^ b ^ c ^ d) % Self::COUNT)
    }
}

impl Topic {
    /// Those that come alone.
    const PLAIN: [Self; 8] = [
        Self::Full,
        Self::Collision,
        Self::TooMany,
        Self::Withheld,
        Self::GaveUp,
        Self::Unreadable,
        Self::Unasked,
        Self::Untold,
    ];
    const OTHERS: usize = ErrorKind::ALL.len() + Rejection::ALL.len();
    const GROUPED: usize = Self::OTHERS + Self::PLAIN.len();
    const COUNT: usize = Self::GROUPED + 4 * Group::COUNT as usize;

    fn all() -> impl Iterator<Item = Self> {
        let groups = || (0..Group::COUNT).map(Group);
        let refused = ErrorKind::ALL.iter().copied().map(Self::Refused);
        let rejected = Rejection::ALL.iter().copied().map(Self::Rejected);
        let others = refused.chain(rejected).chain(Self::PLAIN);
        others
            .chain(groups().map(Self::LeftOut))
            .chain(groups().map(Self::ListFailed))
            .chain(groups().map(Self::Decoy))
            .chain(groups().map(Self::MissingCredential))
    }

    fn slot(self) -> usize {
        match self {
            Self::Refused(kind) => kind as usize,
            Self::Rejected(rejection) => ErrorKind::ALL.len() + rejection as usize,
            Self::LeftOut(group) => Self::GROUPED + usize::from(group.0),
            Self::ListFailed(group) => Self::GROUPED + usize::from(Group::COUNT + group.0),
            Self::Decoy(group) => Self::GROUPED + usize::from(2 * Group::COUNT + group.0),
            Self::MissingCredential(group) => Self::GROUPED + usize::from(3 * Group::COUNT + group.0),
            plain => Self::OTHERS + Self::PLAIN.iter().position(|topic| *topic == plain).unwrap_or_default(),
        }
    }

    /// Message of the lines about it.
    pub fn msg(self) -> &'static str {
        match self {
            Self::Refused(_) => "Refused request",
            Self::Rejected(_) => "Rejected connection",
            Self::Full => "Connection limit reached; those without an admitted request make room",
            Self::LeftOut(_) => "Server left out of all servers as one",
            Self::ListFailed(_) => "A server's list is missing from all servers as one",
            Self::Decoy(_) => "A decoy token is used",
            Self::MissingCredential(_) => "Upstream credential missing",
            Self::Collision => "Two servers offer the same name",
            Self::TooMany => "Server lists more than is kept; the rest is not offered",
            Self::Withheld => "A list of tools that cannot be read was withheld",
            Self::GaveUp => "A server's message was dropped: no room to hold it",
            Self::Unreadable => "Server sent a message that cannot be read",
            Self::Unasked => "Server answered what nobody asked",
            Self::Untold => "A client's message was dropped: no connection to its server is free",
        }
    }

    /// `reason` of the lines about it, where one message stands for several topics.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Refused(kind) => Some(kind.code()),
            Self::Rejected(rejection) => Some(rejection.reason()),
            _ => None,
        }
    }

    /// Severity of the lines about it: a warning if it is not the peer who has to act.
    pub fn level(self) -> Level {
        match self {
            Self::Refused(kind) if kind.side() != Side::Client => Level::Warn,
            Self::Refused(_) | Self::Rejected(_) | Self::MissingCredential(_) => Level::Info,
            _ => Level::Warn,
        }
    }
}

/// Which topics may have a line now. Nothing is locked: a slot is two numbers.
pub(super) struct Recurring {
    began: Instant,
    pause: Duration,
    slots: [Slot; Topic::COUNT],
}

#[derive(Default)]
struct Slot {
    /// When the next line is due, in milliseconds since `began`.
    due: AtomicU64,
    /// Lines that were left out since the last one.
    left_out: AtomicU64,
}

impl Default for Recurring {
    fn default() -> Self {
        Self::with_pause(PAUSE)
    }
}

impl Recurring {
    /// With another pause; without any, every line is written.
    pub(super) fn with_pause(pause: Duration) -> Self {
        Self { began: Instant::now(), pause, slots: std::array::from_fn(|_| Slot::default()) }
    }

    /// Another one with the same pause.
    pub(super) fn anew(&self) -> Self {
        Self::with_pause(self.pause)
    }

    /// Whether a line about `topic` may be written: `Some` with the number of those that were left out since the last one.
    /// Otherwise this one is counted as left out.
    pub(super) fn admit(&self, topic: Topic, now: Instant) -> Option<u64> {
        if self.pause.is_zero() {
            return Some(0);
        }
        let slot = &self.slots[topic.slot()];
        let left_out = self.take(slot, now);
        if left_out.is_none() {
            slot.left_out.fetch_add(1, Relaxed);
        }
        left_out
    }

    /// Topics whose lines were left out and whose pause is over, with their numbers: what was left out is reported even if
    /// the topic does not come again. `at_end` does not wait for the pause.
    pub(super) fn overdue(&self, now: Instant, at_end: bool) -> impl Iterator<Item = (Topic, u64)> {
        Topic::all().filter_map(move |topic| {
            let slot = &self.slots[topic.slot()];
            if slot.left_out.load(Relaxed) == 0 {
                return None;
            }
            let left_out = if at_end { Some(slot.left_out.swap(0, Relaxed)) } else { self.take(slot, now) };
            Some((topic, left_out.filter(|count| *count > 0)?))
        })
    }

    /// Takes the turn of a slot, if it is due, and what was left out. Of several threads one gets it.
    fn take(&self, slot: &Slot, now: Instant) -> Option<u64> {
        let now = millis(now.saturating_duration_since(self.began));
        let due = slot.due.load(Relaxed);
        let next = now.saturating_add(millis(self.pause));
        let is_ours = now >= due && slot.due.compare_exchange(due, next, Relaxed, Relaxed).is_ok();
        is_ours.then(|| slot.left_out.swap(0, Relaxed))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_FOUND: Topic = Topic::Refused(ErrorKind::NotFound);
    const UNAUTHORIZED: Topic = Topic::Refused(ErrorKind::Unauthorized);

    fn overdue(recurring: &Recurring, now: Instant) -> Vec<(Topic, u64)> {
        recurring.overdue(now, false).collect()
    }

    #[test]
    fn every_topic_has_a_slot_of_its_own() {
        let mut slots: Vec<_> = Topic::all().map(Topic::slot).collect();
        slots.sort_unstable();
        assert_eq!(slots, (0..Topic::COUNT).collect::<Vec<_>>());
    }

    #[test]
    fn one_line_of_a_kind_in_ten_seconds_says_how_many_were_left_out() {
        let recurring = Recurring::default();
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        assert_eq!(recurring.admit(NOT_FOUND, at(0)), Some(0));
        for millis in 0..100 {
            assert_eq!(recurring.admit(NOT_FOUND, at(millis * 99)), None);
        }
        assert_eq!(recurring.admit(UNAUTHORIZED, at(5_000)), Some(0), "another reason waits for nobody");
        assert_eq!(recurring.admit(NOT_FOUND, at(10_001)), Some(100));
        assert_eq!(recurring.admit(NOT_FOUND, at(20_000)), None);
        assert_eq!(recurring.admit(NOT_FOUND, at(20_002)), Some(1));
    }

    #[test]
    fn what_was_left_out_is_told_though_nothing_follows_and_once() {
        let recurring = Recurring::default();
        let began = Instant::now();
        let at = |millis| began + Duration::from_millis(millis);
        for _ in 0..4 {
            recurring.admit(NOT_FOUND, at(0));
        }
        recurring.admit(UNAUTHORIZED, at(0));
        assert_eq!(overdue(&recurring, at(9_000)), []);
        assert_eq!(overdue(&recurring, at(10_001)), [(NOT_FOUND, 3)]);
        assert_eq!(overdue(&recurring, at(20_002)), []);
        // That was a line too: the next one keeps its distance.
        assert_eq!(recurring.admit(NOT_FOUND, at(20_000)), None);
        let rest: Vec<_> = recurring.overdue(at(20_000), true).collect();
        assert_eq!(rest, [(NOT_FOUND, 1)], "the end of the gateway does not wait");
    }

    #[test]
    fn threads_that_meet_in_a_slot_lose_no_count() {
        // A turn every millisecond, each of which tells what was left out before.
        let recurring = Recurring::with_pause(Duration::from_millis(1));
        let told: u64 = std::thread::scope(|scope| {
            let flood = || {
                let lines = (0..10_000).filter_map(|_| recurring.admit(NOT_FOUND, Instant::now()));
                lines.map(|left_out| 1 + left_out).sum::<u64>()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(flood)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        let left_out: u64 = recurring.overdue(Instant::now(), true).map(|(_, count)| count).sum();
        assert_eq!(told + left_out, 40_000);
    }
}
