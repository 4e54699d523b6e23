//! Whose command runs next, where only so many may run at a time.
//!
//! A turn that is free goes to the caller that has the fewest, and among those to the one that waits longest. So one
//! caller alone has all turns, and one that asks for very many keeps another waiting for one command, not for all.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use crate::ledger::Name;

/// The turns of one server.
pub(super) struct Turns {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: HashMap<Name, usize>,
    waiting: VecDeque<(Name, oneshot::Sender<Turn>)>,
}

/// A turn, until it is dropped.
pub(super) struct Turn {
    turns: Arc<Turns>,
    of: Name,
}

impl Turns {
    /// So many may run at a time.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, state: Mutex::default() })
    }

    /// Waits for a turn of the caller `of`.
    pub(super) async fn take(self: &Arc<Self>, of: &Name) -> Option<Turn> {
        let (sender, turn) = oneshot::channel();
        {
            let mut state = self.state();
            // Those who were cancelled wait no more.
            state.waiting.retain(|(_, waiting)| !waiting.is_closed());
            state.waiting.push_back((of.clone(), sender));
        }
        self.give();
        // The sender waits in the list until it is used.
        turn.await.ok()
    }

    /// Gives turns that are free to callers that wait.
    fn give(self: &Arc<Self>) {
        loop {
            let Some((of, waiting)) = self.state().next(self.most) else { return };
            // Who was cancelled gives it back as it is dropped.
            drop(waiting.send(Turn { turns: Arc::clone(self), of }));
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Who has the next turn, which is counted for it.
    fn next(&mut self, most: usize) -> Option<(Name, oneshot::Sender<Turn>)> {
        if self.running.values().sum::<usize>() >= most {
            return None;
        }
        let has = |of: &Name| self.running.get(of).copied().unwrap_or(0);
        let (at, _) = self.waiting.iter().enumerate().min_by_key(|(_, (of, _))| has(of))?;
        let next = self.waiting.remove(at)?;
        *self.running.entry(next.0.clone()).or_default() += 1;
        Some(next)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut state = self.turns.state();
            if let Some(running) = state.running.get_mut(&self.of) {
                *running -= 1;
                if *running == 0 {
                    state.running.remove(&self.of);
                }
            }
        }
        self.turns.give();
    }
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;

    fn name(name: &str) -> Name {
        Name::Token(name.into())
    }

    #[tokio::test]
    async fn one_caller_alone_has_all_turns_and_a_second_waits_for_one() {
        let turns = Turns::new(3);
        let mut greedy = Vec::new();
        for _ in 0..3 {
            greedy.push(turns.take(&name("greedy")).await.unwrap());
        }
        let more: Vec<_> = (0..10)
            .map(|_| {
                let turns = Arc::clone(&turns);
                tokio::spawn(async move { turns.take(&name("greedy")).await })
            })
            .collect();
        yield_now().await;
        let of_modest = Arc::clone(&turns);
        let modest = tokio::spawn(async move { of_modest.take(&name("modest")).await });
        yield_now().await;
        assert_eq!(turns.state().waiting.len(), 11);
        drop(greedy.pop());
        assert!(modest.await.unwrap().is_some(), "although ten came before");
        drop(greedy);
        for more in more {
            assert!(more.await.unwrap().is_some());
        }
        assert!(turns.state().running.is_empty());
    }

    #[tokio::test]
    async fn who_does_not_wait_any_more_has_no_turn() {
        let turns = Turns::new(1);
        let first = turns.take(&name("dev")).await.unwrap();
        let of_second = Arc::clone(&turns);
        let second = tokio::spawn(async move { of_second.take(&name("dev")).await });
        yield_now().await;
        second.abort();
        assert!(second.await.is_err());
        drop(first);
        assert!(turns.take(&name("dev")).await.is_some());
        assert!(turns.state().running.is_empty() && turns.state().waiting.is_empty());
    }
}
