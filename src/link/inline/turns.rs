//! Whose command runs next, where only so many may run at a time.
//!
//! A turn that is free goes to the caller that has the fewest, and among those to the one that waits longest. One caller
//! alone has all turns; where others have been active lately, a part is kept for them as of everything else ([`Owner`]), so
//! that nobody waits for the end of what another runs.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::ledger::{Owner, OwnerName};

/// The turns of one server.
pub(super) struct Turns {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: usize,
    /// Those who run something or wait.
    callers: HashMap<OwnerName, Caller>,
    /// Of the next one who waits.
    next_number: u64,
}

struct Caller {
    owner: Arc<Owner>,
    running: usize,
    /// By number, the longest first.
    waiting: VecDeque<(u64, oneshot::Sender<Turn>)>,
}

/// A turn, until it is dropped.
pub(super) struct Turn {
    /// Absent once it is given back.
    turns: Option<Arc<Turns>>,
    of: OwnerName,
}

/// A place in the line, until it is dropped.
struct PlaceInLine<'a> {
    turns: &'a Turns,
    of: &'a OwnerName,
    number: u64,
}

impl Turns {
    /// So many may run at a time.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default() })
    }

    /// Waits for a turn of the caller `of`.
    pub(super) async fn take(self: &Arc<Self>, of: &Arc<Owner>) -> Option<Turn> {
        let (sender, turn) = oneshot::channel();
        let number = self.state.lock().wait(of, sender);
        // A caller that is cancelled leaves the line.
        let _waits = PlaceInLine { turns: self, of: of.name(), number };
        self.give();
        // The sender waits in the line until it is used.
        turn.await.ok()
    }

    /// Gives turns that are free to callers that wait.
    fn give(self: &Arc<Self>) {
        let mut state = self.state.lock();
        while state.running < self.most
            && let Some((of, waiting)) = state.next(self.most)
        {
            let turn = Turn { turns: Some(Arc::clone(self)), of };
            // A caller that leaves at this very moment gets none. It is given back here: dropped, it would come back to
            // this loop.
            if let Err(mut turn) = waiting.send(turn) {
                turn.turns = None;
                state.end(&turn.of);
            }
        }
    }
}

impl State {
    fn wait(&mut self, of: &Arc<Owner>, sender: oneshot::Sender<Turn>) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        let new = || Caller { owner: Arc::clone(of), running: 0, waiting: VecDeque::new() };
        self.callers.entry(of.name().clone()).or_insert_with(new).waiting.push_back((number, sender));
        number
    }

    fn leave(&mut self, of: &OwnerName, number: u64) {
        let Some(caller) = self.callers.get_mut(of) else { return };
        if let Ok(at) = caller.waiting.binary_search_by_key(&number, |(number, _)| *number) {
            caller.waiting.remove(at);
            self.forget_idle(of);
        }
    }

    /// The caller that has the next of `most` turns, which is counted for it.
    fn next(&mut self, most: usize) -> Option<(OwnerName, oneshot::Sender<Turn>)> {
        let running = self.running;
        let waiting = self.callers.iter_mut().filter(|(_, caller)| {
            !caller.waiting.is_empty() && caller.owner.may_have(most, running, caller.running).is_ok()
        });
        let (of, caller) = waiting
            .min_by_key(|(_, caller)| (caller.running, caller.waiting.front().map(|(number, _)| *number)))?;
        let (_, sender) = caller.waiting.pop_front()?;
        caller.running += 1;
        self.running += 1;
        Some((of.clone(), sender))
    }

    /// A turn ends.
    fn end(&mut self, of: &OwnerName) {
        if let Some(caller) = self.callers.get_mut(of) {
            caller.running -= 1;
            self.running -= 1;
            self.forget_idle(of);
        }
    }

    fn forget_idle(&mut self, of: &OwnerName) {
        if self.callers.get(of).is_some_and(|caller| caller.running == 0 && caller.waiting.is_empty()) {
            self.callers.remove(of);
        }
    }
}

impl Drop for PlaceInLine<'_> {
    fn drop(&mut self) {
        self.turns.state.lock().leave(self.of, self.number);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.turns.take() {
            turns.state.lock().end(&self.of);
            turns.give();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;
    use crate::ledger::{Capacity, Ledger};

    /// Owners of one ledger, of whom nobody was active lately.
    fn owners<const N: usize>(names: [&str; N]) -> [Arc<Owner>; N] {
        let ledger = Ledger::new(|_| Capacity { total: 100, per_owner: 0 });
        names.map(|name| ledger.owner(OwnerName::Token(name.into())))
    }

    #[tokio::test]
    async fn who_runs_many_leaves_a_part_to_others_that_are_there() {
        let [greedy, modest] = owners(["greedy", "modest"]);
        let turns = Turns::new(16);
        greedy.note_active();
        modest.note_active();
        let mut running = Vec::new();
        for _ in 0..12 {
            running.push(turns.take(&greedy).await);
        }
        let (more, of_more) = (Arc::clone(&turns), Arc::clone(&greedy));
        let more = tokio::spawn(async move { more.take(&of_more).await });
        yield_now().await;
        assert!(!more.is_finished());
        let mut of_modest = Vec::new();
        for _ in 0..4 {
            of_modest.push(turns.take(&modest).await);
        }
        drop(of_modest);
        assert!(!more.is_finished());
        drop(running.pop());
        assert!(more.await.unwrap().is_some());
    }

    #[tokio::test]
    async fn one_caller_alone_has_all_turns_and_a_second_waits_for_one() {
        let turns = Turns::new(3);
        let [of_greedy, of_modest] = owners(["greedy", "modest"]);
        let mut greedy = Vec::new();
        for _ in 0..3 {
            greedy.push(turns.take(&of_greedy).await.unwrap());
        }
        let more: Vec<_> = (0..10)
            .map(|_| {
                let (turns, of) = (Arc::clone(&turns), Arc::clone(&of_greedy));
                tokio::spawn(async move { turns.take(&of).await })
            })
            .collect();
        yield_now().await;
        let turns_of_modest = Arc::clone(&turns);
        let modest = tokio::spawn(async move { turns_of_modest.take(&of_modest).await });
        yield_now().await;
        assert_eq!(turns.state.lock().callers.values().map(|caller| caller.waiting.len()).sum::<usize>(), 11);
        drop(greedy.pop());
        assert!(modest.await.unwrap().is_some(), "although ten came before");
        drop(greedy);
        for more in more {
            assert!(more.await.unwrap().is_some());
        }
        assert!(turns.state.lock().callers.is_empty() && turns.state.lock().running == 0);
    }

    #[tokio::test]
    async fn who_does_not_wait_any_more_has_no_turn() {
        let turns = Turns::new(1);
        let [dev] = owners(["dev"]);
        let first = turns.take(&dev).await.unwrap();
        let (of_second, second) = (Arc::clone(&turns), Arc::clone(&dev));
        let second = tokio::spawn(async move { of_second.take(&second).await });
        yield_now().await;
        second.abort();
        assert!(second.await.is_err());
        drop(first);
        assert!(turns.take(&dev).await.is_some());
        assert!(turns.state.lock().callers.is_empty() && turns.state.lock().running == 0);
    }

    #[tokio::test]
    async fn any_number_of_callers_may_leave_the_line_at_once() {
        let turns = Turns::new(1);
        let [dev] = owners(["dev"]);
        let first = turns.take(&dev).await.unwrap();
        let waiting: Vec<_> = (0..50_000)
            .map(|_| {
                let (turns, dev) = (Arc::clone(&turns), Arc::clone(&dev));
                tokio::spawn(async move { turns.take(&dev).await })
            })
            .collect();
        yield_now().await;
        for waiting in waiting {
            waiting.abort();
            assert!(waiting.await.is_err());
        }
        drop(first);
        assert!(turns.state.lock().callers.is_empty() && turns.state.lock().running == 0);
    }
}
