//! Deadlines and cuts of everything that a worker serves, in one list that it walks four times a second.
//!
//! A connection or request that may have to be ended from outside (time-out, revoked token, drain) holds a
//! [`Watched`]. Setting or clearing its deadline is a store into a cell, where a runtime timer would be
//! an insertion into a wheel for every request, and needs no look at the clock; in exchange a deadline fires up to two
//! [`TICK`]s late, which none of the time-outs minds. A worker is one thread, so nothing here is locked.

use std::{
    cell::{Cell, RefCell},
    rc::{Rc, Weak},
    task::{Context, Waker},
    time::{Duration, Instant},
};

use slab::Slab;

/// How often deadlines are looked at.
pub const TICK: Duration = Duration::from_millis(250);

/// Why something that is watched must end or change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Its deadline passed.
    Deadline,
    /// Finish what runs and take nothing new.
    Drain,
    /// The token that admitted it is gone, expired, or lost this server.
    Revoked,
    /// Drain took too long: end now.
    Cut,
}

/// The list. One per worker.
pub struct Watchdog<T> {
    entries: RefCell<Slab<Rc<Entry<T>>>>,
    /// The moment of the last tick.
    now: Cell<Instant>,
}

impl<T> Default for Watchdog<T> {
    fn default() -> Self {
        Self { entries: RefCell::default(), now: Cell::new(Instant::now()) }
    }
}

struct Entry<T> {
    subject: T,
    deadline: Cell<Option<Instant>>,
    signal: Cell<Option<Signal>>,
    waker: RefCell<Option<Waker>>,
}

/// A place in the list; dropping it leaves.
pub struct Watched<T> {
    dog: Rc<Watchdog<T>>,
    key: usize,
    entry: Rc<Entry<T>>,
}

/// A look at a place in the list, from beside whoever takes its signals.
#[derive(Clone)]
pub struct View<T>(Weak<Entry<T>>);

impl<T> View<T> {
    /// The signal that was raised and not taken; none once the place was left.
    pub fn signal(&self) -> Option<Signal> {
        self.0.upgrade()?.signal.get()
    }
}

impl<T> Watchdog<T> {
    /// Watches over `subject` from now on.
    pub fn watch(self: &Rc<Self>, subject: T) -> Watched<T> {
        let entry = Rc::new(Entry {
            subject,
            deadline: Cell::new(None),
            signal: Cell::new(None),
            waker: RefCell::new(None),
        });
        let key = self.entries.borrow_mut().insert(Rc::clone(&entry));
        Watched { dog: Rc::clone(self), key, entry }
    }

    /// Signals everything whose deadline is not after `now`.
    pub fn tick(&self, now: Instant) {
        self.now.set(now);
        for (_, entry) in self.entries.borrow().iter() {
            if entry.deadline.get().is_some_and(|deadline| deadline <= now) {
                entry.deadline.set(None);
                entry.raise(Signal::Deadline);
            }
        }
    }

    /// Asks `choose` about every subject and signals where it says so.
    pub fn signal(&self, mut choose: impl FnMut(&T) -> Option<Signal>) {
        for (_, entry) in self.entries.borrow().iter() {
            if let Some(signal) = choose(&entry.subject) {
                entry.raise(signal);
            }
        }
    }

    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.entries.borrow().is_empty()
    }
}

impl<T> Entry<T> {
    fn raise(&self, signal: Signal) {
        self.signal.set(Some(signal));
        // Waking only schedules a task, it never runs one here, so the list cannot change under the walk.
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl<T> Watched<T> {
    /// A look at this place for others.
    pub fn view(&self) -> View<T> {
        View(Rc::downgrade(&self.entry))
    }

    /// The signal that was raised and not taken.
    pub fn signal(&self) -> Option<Signal> {
        self.entry.signal.get()
    }

    /// Has [`Signal::Deadline`] raised `after` this time from now, or not at all.
    pub fn set_deadline(&self, after: Option<Duration>) {
        // The last tick may be a tick ago: never too early, then.
        self.entry.deadline.set(after.map(|after| self.dog.now.get() + TICK + after));
    }

    /// Takes the signal that was raised, if any, and otherwise has the task of `cx` woken by the next one.
    pub fn poll(&self, cx: &mut Context<'_>) -> Option<Signal> {
        let signal = self.entry.signal.take();
        if signal.is_none() {
            let mut waker = self.entry.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        signal
    }
}

impl<T> Drop for Watched<T> {
    fn drop(&mut self) {
        self.dog.entries.borrow_mut().remove(self.key);
    }
}

#[cfg(test)]
mod tests {
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
            (*name == "bob").then_some(Signal::Revoked)
        });
        assert_eq!(asked, ["alice", "bob"]);
        assert_eq!((polled(&alice), polled(&bob)), (None, Some(Signal::Revoked)));
        drop((alice, bob));
        assert!(dog.is_empty());
    }
}
