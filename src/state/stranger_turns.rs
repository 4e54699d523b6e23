//! Turns of those who are not admitted.

use tokio::{sync::Mutex, task::yield_now};

/// Lets one at a time go on, and that once all that is ready on the worker has had its turn. So however many strangers come at once,
/// whoever is admitted waits for the answer to one of them. Their heads and tokens are looked at as they come.
#[derive(Debug, Default)]
pub struct StrangerTurns(Mutex<()>);

impl StrangerTurns {
    /// The turn of one. Who came first has the first.
    pub async fn next(&self) {
        let _turn = self.0.lock().await;
        yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use tokio::task::spawn_local;

    use super::*;

    #[tokio::test(flavor = "local")]
    async fn who_is_admitted_waits_for_one_stranger_and_not_for_all() {
        let (turns, order) = (Rc::new(StrangerTurns::default()), Rc::new(RefCell::new(Vec::new())));
        let strangers: Vec<_> = (0..10)
            .map(|n| {
                let (turns, order) = (Rc::clone(&turns), Rc::clone(&order));
                spawn_local(async move {
                    turns.next().await;
                    order.borrow_mut().push(format!("stranger {n}"));
                })
            })
            .collect();
        let admitted = {
            let order = Rc::clone(&order);
            spawn_local(async move {
                // Once to its server, and once back.
                for way in ["there", "back"] {
                    order.borrow_mut().push(way.to_owned());
                    yield_now().await;
                }
            })
        };
        admitted.await.unwrap();
        for stranger in strangers {
            stranger.await.unwrap();
        }
        let order = order.borrow();
        let at = |what: &str| order.iter().position(|it| it == what).unwrap();
        assert!(at("there") == 0 && at("back") <= 2, "{order:?}");
        let came: Vec<_> = order.iter().filter(|it| it.starts_with("stranger")).collect();
        assert_eq!(
            came,
            (0..10).map(|n| format!("stranger {n}")).collect::<Vec<_>>().iter().collect::<Vec<_>>()
        );
    }
}
