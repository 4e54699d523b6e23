//! Comments in event streams that are silent, so that clients and middle boxes do not take them for dead: undici ends a body
//! that is silent for five minutes, balancers after one or two.

use std::time::Duration;

use crate::watchdog::{Moment, TICK, Watched};

/// What shows that a stream lives (WHATWG HTML, section 9.2.6: a line that begins with a colon means nothing).
pub const COMMENT: &[u8] = b":\n\n";

/// How long a stream has been silent. An event costs a store, and no timer is set anew for it.
pub struct Silence {
    /// Longest silence.
    most: Duration,
    since: Moment,
    /// When to look at it again.
    alarm: Moment,
}

impl Silence {
    /// A stream that begins now, and is to be silent for no longer than `most`; `None` if it may be for ever.
    pub fn begin<T>(watched: &Watched<T>, most: Duration) -> Option<Self> {
        if most.is_zero() {
            return None;
        }
        let since = watched.moment();
        let mut silence = Self { most, since, alarm: since };
        silence.arm(watched);
        Some(silence)
    }

    /// Something passed.
    pub fn broken<T>(&mut self, watched: &Watched<T>) {
        self.since = watched.moment();
    }

    /// Whether a comment is due. Asked when nothing else is to be done; the task is woken when it is time to ask again.
    pub fn is_due<T>(&mut self, watched: &Watched<T>) -> bool {
        let now = watched.moment();
        if now < self.alarm {
            return false;
        }
        let is_due = now >= self.end();
        if is_due {
            self.since = now;
        }
        self.arm(watched);
        is_due
    }

    /// The last tick may be a tick ago: never too early, then.
    fn end(&self) -> Moment {
        self.since + self.most + TICK
    }

    fn arm<T>(&mut self, watched: &Watched<T>) {
        self.alarm = self.end();
        watched.set_alarm(self.alarm);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        rc::Rc,
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        task::{Context, Wake, Waker},
        time::Instant,
    };

    use super::*;
    use crate::watchdog::Watchdog;

    #[test]
    fn a_comment_is_due_once_for_each_silence_and_events_put_it_off() {
        let dog = Rc::new(Watchdog::default());
        let watched = dog.watch(());
        assert!(watched.poll(&mut Context::from_waker(Waker::noop())).is_none());
        let began = Instant::now();
        let at = |seconds| dog.tick(began + Duration::from_secs(seconds));
        at(0);
        let mut silence = Silence::begin(&watched, Duration::from_secs(15)).unwrap();
        at(15);
        assert!(!silence.is_due(&watched), "a tick may be late, and a comment must not be early");
        at(16);
        assert!(silence.is_due(&watched) && !silence.is_due(&watched));
        at(30);
        silence.broken(&watched);
        at(32);
        assert!(!silence.is_due(&watched), "it spoke 2 s ago");
        at(45);
        assert!(!silence.is_due(&watched));
        at(46);
        assert!(silence.is_due(&watched));
    }

    #[test]
    fn a_stream_that_may_be_silent_for_ever_is_not_woken() {
        let dog = Rc::new(Watchdog::default());
        let watched = dog.watch(());
        let count = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&count));
        assert!(watched.poll(&mut Context::from_waker(&waker)).is_none());
        assert!(Silence::begin(&watched, Duration::ZERO).is_none());
        let began = Instant::now();
        for seconds in 0..10 {
            dog.tick(began + Duration::from_secs(seconds));
        }
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }

    #[derive(Default)]
    struct Wakes(AtomicU64);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}
