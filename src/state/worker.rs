//! What the requests of one worker share, and which of its connections can be evicted.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    rc::{Rc, Weak},
    sync::Arc,
    task::{Poll, Waker},
};

use http::HeaderValue;

use super::Shared;
use crate::{
    identity::Subject,
    observe::{RequestId, RequestIds},
    server::{admission::ConnectionId, connection::Connection},
    upstream::Pool,
    watchdog::Watchdog,
};

/// What the requests of one worker share: one thread, so nothing of it is locked.
pub struct Worker {
    /// State of the gate.
    pub shared: Arc<Shared>,
    /// How many workers the gate has.
    pub workers: usize,
    /// Connections to servers that wait for a request.
    pub pool: Rc<Pool>,
    /// Deadlines and cuts of what runs here.
    pub watchdog: Rc<Watchdog<Subject>>,
    ids: RequestIds,
    /// Changes that this worker acted on.
    changes_seen: Cell<u64>,
    connections: RefCell<HashMap<ConnectionId, Serving>>,
}

/// How far a worker is with a connection.
enum Serving {
    /// It was handed over; who waits for its end is woken.
    Begins(Option<Waker>),
    /// The same, and it is to end.
    Evicted,
    Runs(Weak<Connection>),
}

/// As long as it lives, its connection can be evicted.
pub struct Evictable {
    worker: Rc<Worker>,
    id: ConnectionId,
}

impl Evictable {
    /// Waits until it has to end.
    pub async fn evicted(&self) {
        poll_fn(|cx| match self.worker.connections.borrow_mut().get_mut(&self.id) {
            Some(Serving::Begins(waker)) => {
                *waker = Some(cx.waker().clone());
                Poll::Pending
            }
            Some(Serving::Runs(_)) => Poll::Pending,
            Some(Serving::Evicted) | None => Poll::Ready(()),
        })
        .await;
    }

    /// From now on, `connection` is what is evicted.
    pub fn runs(&self, connection: &Rc<Connection>) {
        let runs = Serving::Runs(Rc::downgrade(connection));
        if let Some(Serving::Evicted) = self.worker.connections.borrow_mut().insert(self.id, runs) {
            connection.evict();
        }
    }
}

impl Drop for Evictable {
    fn drop(&mut self) {
        self.worker.connections.borrow_mut().remove(&self.id);
    }
}

impl Worker {
    /// One of so many workers of the gate whose state is `shared`.
    pub fn new(shared: Arc<Shared>, workers: usize) -> Self {
        Self {
            shared,
            workers,
            pool: Rc::default(),
            watchdog: Rc::default(),
            ids: RequestIds::default(),
            changes_seen: Cell::default(),
            connections: RefCell::default(),
        }
    }

    /// Lets a connection that was handed over be evicted in favour of another.
    pub fn evictable(self: &Rc<Self>, id: ConnectionId) -> Evictable {
        self.connections.borrow_mut().insert(id, Serving::Begins(None));
        Evictable { worker: Rc::clone(self), id }
    }

    /// Ends a connection, if it has not ended yet and none of its requests was admitted.
    pub fn evict(&self, id: ConnectionId) {
        match self.connections.borrow_mut().get_mut(&id) {
            Some(Serving::Runs(connection)) => {
                if let Some(connection) = connection.upgrade() {
                    connection.evict();
                }
            }
            Some(serving) => {
                if let Serving::Begins(Some(waker)) = std::mem::replace(serving, Serving::Evicted) {
                    waker.wake();
                }
            }
            None => {}
        }
    }

    /// Whether a change was noted since this was asked last.
    pub fn sees_change(&self) -> bool {
        let changes = *self.shared.changes.borrow();
        self.changes_seen.replace(changes) != changes
    }

    /// An id for the next request, and the same as a header field has it.
    pub fn next_request_id(&self) -> (RequestId, Option<HeaderValue>) {
        self.ids.next()
    }
}
