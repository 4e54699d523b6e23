//! Deadlines and cuts of everything that a worker serves, in one list that it walks four times a second.
//!
//! A connection or request that may have to be ended from outside (time-out, revoked token, drain) holds a
//! [`Watched`]. Setting or clearing its deadline is a store into a cell, where a runtime timer would be
//! an insertion into a wheel for every request, and needs no look at the clock; in exchange a deadline fires up to two
//! [`TICK`]s late, which none of the time-outs minds. A worker is one thread, so nothing here is locked.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    num::NonZeroU64,
    ops::Add,
    ptr,
    rc::{Rc, Weak},
    task::{Context, Poll, RawWakerVTable, Waker},
    time::{Duration, Instant},
};

use slab::Slab;

/// How often deadlines are looked at.
pub const TICK: Duration = Duration::from_millis(250);

/// A moment as nanoseconds since a worker began. Entries and streams have several that may be unset, and this is half as large
/// as an [`Instant`] then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(NonZeroU64);

impl Moment {
    const FIRST: Self = Self(NonZeroU64::MIN);

    /// How long it is from `earlier` to this one; nothing, if that is later.
    pub fn saturating_duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.get().saturating_sub(earlier.0.get()))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        // Enough for 500 years.
        let nanos = duration.as_secs().saturating_mul(1_000_000_000);
        Self(self.0.saturating_add(nanos).saturating_add(duration.subsec_nanos().into()))
    }
}

/// Why something that is watched must end or change, the weakest reason first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Finish what runs and take nothing new.
    Drain,
    /// Its deadline passed.
    Deadline,
    /// Drain took too long, or the server was stopped: end now.
    Cut,
    /// What admitted it does so no more.
    Revoked(Revocation),
}

impl Signal {
    /// Why something must end by this signal, if it must.
    pub fn ending(self) -> Option<Ending> {
        match self {
            Self::Drain => None,
            Self::Deadline => Some(Ending::Deadline),
            Self::Cut => Some(Ending::Cut),
            Self::Revoked(revocation) => Some(Ending::Revoked(revocation)),
        }
    }
}

/// Why something that is watched must end: a [`Signal`] other than [`Signal::Drain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Its deadline passed. Only where one was set, and what that means is up to who set it.
    Deadline,
    /// Drain took too long, or the server was stopped.
    Cut,
    /// What admitted it does so no more.
    Revoked(Revocation),
}

/// What was lost by which something had been admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revocation {
    /// The server: it is not in the config any more.
    Server,
    /// The token's grant for this server.
    Grant,
    /// The caller's account at the server: it was disconnected, or another one was connected.
    Connection,
    /// The token: it is gone, or expired.
    Token,
}

/// The list. One per worker.
pub struct Watchdog<T> {
    entries: RefCell<Slab<Rc<Entry<T>>>>,
    /// How many signals were raised so far.
    raised: Cell<u64>,
    began: Instant,
    /// The moment of the last tick.
    moment: Cell<Moment>,
}

impl<T> Default for Watchdog<T> {
    fn default() -> Self {
        Self {
            entries: RefCell::default(),
            raised: Cell::new(0),
            began: Instant::now(),
            moment: Cell::new(Moment::FIRST),
        }
    }
}

struct Entry<T> {
    subject: T,
    deadline: Cell<Option<Moment>>,
    alarm: Cell<Option<Moment>>,
    signal: Cell<Option<Signal>>,
    waker: Cell<Option<Waker>>,
}

/// A place in the list; dropping it leaves.
pub struct Watched<T> {
    signal_cache: SignalCache<T>,
    key: usize,
    entry: Rc<Entry<T>>,
}

/// Remembers that a task asked for signals and there were none, so that asking again costs a look at one counter of the
/// worker's. An event that passes asks twice, for its request and its connection; with thousands of streams both
/// places have left the processor's caches by then, and two looks at them were a quarter of all that
/// an event cost outside of the kernel.
pub struct SignalCache<T> {
    dog: Rc<Watchdog<T>>,
    /// [`Watchdog::raised`] when the task asked.
    since: Cell<u64>,
    /// The waker it left, which stays alive as long as it is registered, so no other can be mistaken for it.
    waker: Cell<(*const (), *const RawWakerVTable)>,
}

impl<T> SignalCache<T> {
    fn new(dog: Rc<Watchdog<T>>) -> Self {
        Self { dog, since: Cell::new(u64::MAX), waker: Cell::new((ptr::null(), ptr::null())) }
    }

    /// The task of `cx` asked, left its waker, and there was no signal.
    pub fn begin(&self, cx: &Context<'_>) {
        self.since.set(self.dog.raised.get());
        self.waker.set(identity(cx.waker()));
    }

    /// Whether no signal at all was raised since the task of `cx` last asked.
    pub fn lasts(&self, cx: &Context<'_>) -> bool {
        self.since.get() == self.dog.raised.get() && self.waker.get() == identity(cx.waker())
    }
}

fn identity(waker: &Waker) -> (*const (), *const RawWakerVTable) {
    (waker.data(), waker.vtable())
}

/// A view of a place in the list, for others than the one that takes its signals.
#[derive(Clone)]
pub struct SignalView<T>(Weak<Entry<T>>);

impl<T> SignalView<T> {
    /// The signal that was raised and not taken; none once the place was left.
    pub fn signal(&self) -> Option<Signal> {
        self.0.upgrade()?.signal.get()
    }

    /// Whether the place was left.
    pub fn is_left(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl<T> Watchdog<T> {
    /// Watches over `subject` from now on.
    pub fn watch(self: &Rc<Self>, subject: T) -> Watched<T> {
        let entry = Rc::new(Entry {
            subject,
            deadline: Cell::new(None),
            alarm: Cell::new(None),
            signal: Cell::new(None),
            waker: Cell::default(),
        });
        let key = self.entries.borrow_mut().insert(Rc::clone(&entry));
        Watched { signal_cache: SignalCache::new(Rc::clone(self)), key, entry }
    }

    /// Signals everything whose deadline is not after `now`, and wakes everything whose alarm is not.
    pub fn tick(&self, now: Instant) {
        let now = Moment::FIRST + now.saturating_duration_since(self.began);
        self.moment.set(now);
        for (_, entry) in self.entries.borrow().iter() {
            if entry.alarm.get().is_some_and(|alarm| alarm <= now) {
                entry.alarm.set(None);
                // The waker stays: it is still the one that the next signal wakes.
                let waker = entry.waker.take();
                waker.iter().for_each(Waker::wake_by_ref);
                entry.waker.set(waker);
            }
            if entry.deadline.get().is_some_and(|deadline| deadline <= now) {
                entry.deadline.set(None);
                self.raise(entry, Signal::Deadline);
            }
        }
    }

    /// Asks `choose` about every subject and signals where it says so.
    pub fn signal(&self, choose: impl FnMut(&T) -> Option<Signal>) {
        self.signal_counting(choose, |_, _| false);
    }

    /// The same for one place, if it was not left.
    pub fn signal_one(&self, place: &SignalView<T>, choose: impl FnOnce(&T) -> Option<Signal>) {
        if let Some(entry) = place.0.upgrade()
            && let Some(signal) = choose(&entry.subject)
        {
            self.raise(&entry, signal);
        }
    }

    /// Like [`Watchdog::signal`], and says to how many, of those that count, the signal was news.
    pub fn signal_counting(
        &self,
        mut choose: impl FnMut(&T) -> Option<Signal>,
        counts: impl Fn(&T, Signal) -> bool,
    ) -> u64 {
        let mut news = 0;
        for (_, entry) in self.entries.borrow().iter() {
            if let Some(signal) = choose(&entry.subject) {
                let is_news = entry.signal.get() < Some(signal);
                news += u64::from(is_news && counts(&entry.subject, signal));
                self.raise(entry, signal);
            }
        }
        news
    }

    /// The largest value of all subjects.
    pub fn max<V: Ord>(&self, value: impl FnMut(&T) -> Option<V>) -> Option<V> {
        let entries = self.entries.borrow();
        entries.iter().map(|(_, entry)| &entry.subject).filter_map(value).max()
    }

    fn raise(&self, entry: &Entry<T>, signal: Signal) {
        self.raised.set(self.raised.get() + 1);
        // One that was not taken yet gives way to a stronger one only: a deadline must not hide a revocation.
        entry.signal.set(entry.signal.get().max(Some(signal)));
        // Waking only schedules a task, it never runs one here, so the list cannot change under the walk.
        if let Some(waker) = entry.waker.take() {
            waker.wake();
        }
    }

    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }
}

impl<T> Watched<T> {
    /// A look at this place for others.
    pub fn view(&self) -> SignalView<T> {
        SignalView(Rc::downgrade(&self.entry))
    }

    /// What is watched.
    pub fn subject(&self) -> &T {
        &self.entry.subject
    }

    /// The signal that was raised and not taken.
    pub fn signal(&self) -> Option<Signal> {
        self.entry.signal.get()
    }

    /// Raises a signal here, and nowhere else.
    pub fn raise(&self, signal: Signal) {
        self.signal_cache.dog.raise(&self.entry, signal);
    }

    /// Has [`Signal::Deadline`] raised `after` this time from now, or not at all.
    pub fn set_deadline(&self, after: Option<Duration>) {
        // The last tick may be a tick ago: never too early, then.
        self.entry.deadline.set(after.map(|after| self.signal_cache.dog.moment.get() + TICK + after));
    }

    /// The moment of the last tick: a look at the worker's memory, not at the clock.
    pub fn now(&self) -> Instant {
        self.signal_cache.dog.began + self.moment().saturating_duration_since(Moment::FIRST)
    }

    /// The same, to be kept.
    pub fn moment(&self) -> Moment {
        self.signal_cache.dog.moment.get()
    }

    /// Has the task that left its waker here woken by the first tick that is not before `at`. That is no signal: the task itself
    /// remembers what it is for. In exchange no [`SignalCache`] ends, so that thousands of alarms cost other tasks nothing.
    pub fn set_alarm(&self, at: Moment) {
        self.entry.alarm.set(Some(at));
    }

    /// A cache for a task that asks here so often that even the look at this place counts.
    pub fn signal_cache(&self) -> SignalCache<T> {
        SignalCache::new(Rc::clone(&self.signal_cache.dog))
    }

    /// Takes the signal that was raised, if any. Either way the next one wakes the task of `cx`.
    pub fn poll(&self, cx: &mut Context<'_>) -> Option<Signal> {
        if self.signal_cache.lasts(cx) {
            return None;
        }
        let signal = self.entry.signal.take();
        let waker = self.entry.waker.take().filter(|waker| waker.will_wake(cx.waker()));
        self.entry.waker.set(Some(waker.unwrap_or_else(|| cx.waker().clone())));
        self.signal_cache.begin(cx);
        signal
    }

    /// The same, for tasks that do nothing about [`Signal::Drain`].
    pub fn poll_ending(&self, cx: &mut Context<'_>) -> Option<Ending> {
        self.poll(cx)?.ending()
    }

    /// Waits for the next signal.
    pub async fn raised(&self) -> Signal {
        poll_fn(|cx| self.poll(cx).map_or(Poll::Pending, Poll::Ready)).await
    }
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.signal_cache.dog.entries.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
        task::Wake,
    };

    use super::*;

    fn polled<T>(watched: &Watched<T>) -> Option<Signal> {
        watched.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_deadline_fires_once_and_only_where_it_was_set() {
        let dog = Rc::new(Watchdog::default());
        let (patient, hasty) = (dog.watch("patient"), dog.watch("hasty"));
        let now = Instant::now();
        dog.tick(now);
        hasty.set_deadline(Some(Duration::from_secs(1)));
        dog.tick(now + Duration::from_secs(1));
        assert_eq!(polled(&hasty), None, "a tick may be late, and the deadline must not be early");
        dog.tick(now + Duration::from_secs(1) + TICK);
        assert_eq!((polled(&patient), polled(&hasty)), (None, Some(Signal::Deadline)));
        dog.tick(now + Duration::from_secs(9));
        assert_eq!(polled(&hasty), None);
    }

    #[test]
    fn a_signal_reaches_those_that_are_chosen_and_who_left_is_not_asked() {
        let dog = Rc::new(Watchdog::default());
        let (alice, bob) = (dog.watch("alice"), dog.watch("bob"));
        drop(dog.watch("carol"));
        let mut asked = Vec::new();
        dog.signal(|name| {
            asked.push(*name);
            (*name == "bob").then_some(Signal::Revoked(Revocation::Token))
        });
        assert_eq!(asked, ["alice", "bob"]);
        assert_eq!((polled(&alice), polled(&bob)), (None, Some(Signal::Revoked(Revocation::Token))));
        drop((alice, bob));
        assert!(dog.is_empty());
    }

    #[test]
    fn a_signal_that_waits_to_be_taken_gives_way_to_a_stronger_one_only() {
        let dog = Rc::new(Watchdog::default());
        let watched = dog.watch("alice");
        let now = Instant::now();
        watched.set_deadline(Some(Duration::ZERO));
        dog.signal(|_| Some(Signal::Revoked(Revocation::Token)));
        dog.tick(now + Duration::from_secs(9));
        dog.signal(|_| Some(Signal::Drain));
        assert_eq!(polled(&watched), Some(Signal::Revoked(Revocation::Token)));
        assert_eq!(polled(&watched), None, "the others are no news any more");
        dog.signal(|_| Some(Signal::Drain));
        dog.signal(|_| Some(Signal::Cut));
        assert_eq!(polled(&watched), Some(Signal::Cut));
    }

    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn an_alarm_wakes_its_task_once_raises_no_signal_and_ends_no_lull() {
        let dog = Rc::new(Watchdog::default());
        let (alice, bob) = (dog.watch("alice"), dog.watch("bob"));
        let task = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&task));
        let cx = &mut Context::from_waker(&waker);
        assert_eq!((alice.poll(cx), bob.poll(cx)), (None, None));
        let now = Instant::now();
        alice.set_alarm(alice.moment() + now.duration_since(alice.now()) + Duration::from_secs(1));
        let woken = || task.0.load(Ordering::Relaxed);
        dog.tick(now + Duration::from_millis(999));
        assert_eq!(woken(), 0);
        dog.tick(now + Duration::from_secs(1));
        assert_eq!((woken(), alice.now()), (1, now + Duration::from_secs(1)));
        assert!(alice.signal_cache.lasts(cx) && bob.signal_cache.lasts(cx));
        dog.tick(now + Duration::from_secs(9));
        assert_eq!(woken(), 1);
        dog.signal(|name| (*name == "alice").then_some(Signal::Cut));
        assert_eq!((woken(), alice.poll(cx)), (2, Some(Signal::Cut)), "its waker was still there");
    }

    #[test]
    fn asking_again_in_a_lull_misses_no_signal_and_no_task() {
        let dog = Rc::new(Watchdog::default());
        let (alice, bob) = (dog.watch("alice"), dog.watch("bob"));
        let (first, second) = (Arc::new(Task::default()), Arc::new(Task::default()));
        let (of_first, of_second) = (Waker::from(Arc::clone(&first)), Waker::from(Arc::clone(&second)));
        let poll = |watched: &Watched<_>, waker| watched.poll(&mut Context::from_waker(waker));
        for _ in 0..3 {
            assert_eq!(poll(&alice, &of_first), None);
        }
        // Another task takes over: it is the one to be woken, although nothing was raised in between.
        for _ in 0..3 {
            assert_eq!(poll(&alice, &of_second), None);
        }
        dog.signal(|name| (*name == "alice").then_some(Signal::Cut));
        assert_eq!((first.0.load(Ordering::Relaxed), second.0.load(Ordering::Relaxed)), (0, 1));
        assert_eq!(poll(&alice, &of_second), Some(Signal::Cut));
        assert_eq!((poll(&alice, &of_second), poll(&bob, &of_second)), (None, None));
        // A signal for another ends the lull of all, and finds nothing here.
        dog.signal(|name| (*name == "bob").then_some(Signal::Drain));
        assert_eq!((poll(&alice, &of_second), poll(&bob, &of_second)), (None, Some(Signal::Drain)));
    }

    #[test]
    fn a_task_that_took_a_signal_is_woken_by_the_next_one() {
        let dog = Rc::new(Watchdog::default());
        let watched = dog.watch(());
        let task = Arc::new(Task::default());
        let waker = Waker::from(Arc::clone(&task));
        let cx = &mut Context::from_waker(&waker);
        let ends = [
            (Signal::Drain, None),
            (Signal::Deadline, Some(Ending::Deadline)),
            (Signal::Drain, None),
            (Signal::Cut, Some(Ending::Cut)),
            (Signal::Revoked(Revocation::Grant), Some(Ending::Revoked(Revocation::Grant))),
        ];
        assert_eq!(watched.poll_ending(cx), None);
        for (woken, (signal, ending)) in (1..).zip(ends) {
            dog.signal(|()| Some(signal));
            assert_eq!((task.0.load(Ordering::Relaxed), watched.poll_ending(cx)), (woken, ending));
        }
    }
}
