//! What the requests of one worker share, and which of its connections can be evicted.

use std::{cell::RefCell, collections::HashMap, rc::Rc, sync::Arc};

use http::HeaderValue;

use super::{GatewayState, stranger_turns::StrangerTurns};
use crate::{
    downstream::slots::ConnectionId,
    identity::{Subject, Visitor, opened_tokens::OpenedTokens},
    observe::{RequestId, RequestIds},
    upstream::Pool,
    watchdog::{Signal, SignalView, Watchdog, Watched},
};

/// What the requests of one worker share: one thread, so nothing of it is locked.
pub struct Worker {
    /// State of the gateway.
    pub shared: Arc<GatewayState>,
    /// How many workers the gateway has.
    pub workers: usize,
    /// Connections to servers that wait for a request.
    pub pool: Rc<Pool>,
    /// Deadlines and cuts of what runs here: of requests and sessions.
    pub watchdog: Rc<Watchdog<Subject>>,
    /// The same of client connections: little has to be known of them, and so an entry is small.
    pub of_connections: Rc<Watchdog<Visitor>>,
    /// Tokens of the gateway's own, and of issuers, that came here.
    pub opened_tokens: RefCell<OpenedTokens>,
    /// For requests that are not admitted, or not yet.
    pub stranger_turns: StrangerTurns,
    ids: RequestIds,
    connections: RefCell<HashMap<ConnectionId, SignalView<Visitor>>>,
}

/// As long as it lives, its connection can be evicted.
pub struct Evictable {
    worker: Rc<Worker>,
    id: ConnectionId,
}

impl Evictable {
    /// The worker that serves it.
    pub fn worker(&self) -> &Worker {
        &self.worker
    }
}

impl Drop for Evictable {
    fn drop(&mut self) {
        self.worker.connections.borrow_mut().remove(&self.id);
    }
}

impl Worker {
    /// One of so many workers of the gateway whose state is `shared`.
    pub fn new(shared: Arc<GatewayState>, workers: usize) -> Self {
        Self {
            shared,
            workers,
            pool: Rc::default(),
            watchdog: Rc::default(),
            of_connections: Rc::default(),
            opened_tokens: RefCell::default(),
            stranger_turns: StrangerTurns::default(),
            ids: RequestIds::default(),
            connections: RefCell::default(),
        }
    }

    /// Lets a connection that was handed over be evicted in favour of another.
    pub fn evictable(self: &Rc<Self>, id: ConnectionId, watched: &Watched<Visitor>) -> Evictable {
        self.connections.borrow_mut().insert(id, watched.view());
        Evictable { worker: Rc::clone(self), id }
    }

    /// Ends a connection, if it has not ended yet and none of its requests was admitted.
    pub fn evict(&self, id: ConnectionId) {
        if let Some(place) = self.connections.borrow().get(&id) {
            let is_stranger = |visitor: &Visitor| !visitor.is_admitted.get();
            self.of_connections.signal_one(place, |visitor| is_stranger(visitor).then_some(Signal::Cut));
        }
    }

    /// An id for the next request, and the same as a header field has it.
    pub fn next_request_id(&self) -> (RequestId, Option<HeaderValue>) {
        self.ids.next()
    }
}
