//! A worker: one thread with a runtime, connections and watchdog of its own.
//!
//! Both sockets of a stream live on one thread, so an event costs no hop between threads, and nothing that requests
//! touch on the byte path is locked.

use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tokio::{
    net::TcpStream,
    runtime,
    sync::{Notify, mpsc, oneshot, watch},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    bridge,
    child::Supervisor,
    downstream::{
        connection::{self, Connection, ListenerKind, TakeoverSlot},
        forwarded::proxy_header,
        incoming::Incoming,
        rejection::Rejection,
        slots::{ConnectionId, ConnectionSlot},
    },
    identity::{Subject, Visitor, Waits},
    ledger::Resource,
    service,
    state::{Evictable, GatewayState, Worker},
    watchdog::{Signal, TICK, Watched},
};

/// A client connection on its way to a worker.
pub struct Arrival {
    /// The socket, registered with no runtime.
    pub stream: std::net::TcpStream,
    /// Address of the client.
    pub peer: SocketAddr,
    /// Listener it came in by.
    pub listener_kind: ListenerKind,
    /// Its place among the connections.
    pub connection_slot: ConnectionSlot,
}

/// What a worker is asked for.
pub enum WorkerCommand {
    /// End a connection, if it has not ended and none of its requests was admitted.
    Evict(ConnectionId),
    /// Start a command before anybody needs it.
    Warm(Arc<Supervisor>),
    /// Finish what runs, take nothing new on any connection.
    Drain,
    /// Nobody waits for an answer any more: end the streams that only listen.
    EndListening,
    /// End everything now.
    Cut,
    /// See [`WorkerHandle::hand_over`].
    Serve(Arrival),
    /// See [`WorkerHandle::cut_requests`].
    CutRequests(oneshot::Sender<()>),
}

/// A running worker, from outside.
pub struct WorkerHandle {
    // Unbounded, and bounded all the same: every arrival is one of the connections, of which there is a limit, each
    // eviction comes with an arrival, and the other commands are a few per reload.
    commands: mpsc::UnboundedSender<WorkerCommand>,
    load: Arc<Load>,
    applied: watch::Receiver<u64>,
}

/// What the end of the gateway waits for in a worker.
struct Load {
    /// Client connections.
    open: AtomicUsize,
    /// What requests and sessions wait for, as of the last look. Unknown counts as everything.
    unfinished: AtomicU8,
    /// Notified when there is less. It is that of all workers.
    less: Arc<Notify>,
}

impl Load {
    fn close_one(&self) {
        if self.open.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.less.notify_waiters();
        }
    }

    fn set_unfinished(&self, waits: Waits) {
        if self.unfinished.swap(waits as u8, Ordering::Relaxed) != waits as u8 {
            self.less.notify_waiters();
        }
    }
}

impl WorkerHandle {
    /// Starts worker number `index` of so many. `acceptor` terminates TLS on the public listener. `less` is notified when the end
    /// of the gateway has less to wait for.
    pub fn start(
        index: usize,
        workers: usize,
        shared: Arc<GatewayState>,
        acceptor: Option<TlsAcceptor>,
        less: Arc<Notify>,
    ) -> io::Result<Self> {
        let (commands, inbox) = mpsc::unbounded_channel();
        let (applies, applied) = watch::channel(0);
        let load = Arc::new(Load { open: AtomicUsize::new(0), unfinished: AtomicU8::new(u8::MAX), less });
        let of_thread = Arc::clone(&load);
        let (started, outcome) = std::sync::mpsc::sync_channel(1);
        // The thread ends when this handle is gone and its connections are.
        thread::Builder::new().name(format!("worker-{index}")).spawn(move || {
            let runtime = runtime::Builder::new_current_thread()
                .enable_all()
                .build_local(runtime::LocalOptions::default());
            match runtime {
                Err(e) => drop(started.send(Err(e))),
                Ok(runtime) => {
                    drop(started.send(Ok(())));
                    runtime.block_on(run(Worker::new(shared, workers), acceptor, inbox, of_thread, applies));
                }
            }
        })?;
        outcome.recv().map_err(io::Error::other)??;
        Ok(Self { commands, load, applied })
    }

    /// Client connections that this worker has.
    pub fn open(&self) -> usize {
        self.load.open.load(Ordering::Relaxed)
    }

    /// Whether somebody here waits for at least this much, or may. For the end of the gateway: it is looked at from then on.
    pub fn waits(&self, for_what: Waits) -> bool {
        self.load.unfinished.load(Ordering::Relaxed) >= for_what as u8
    }

    /// Hands over a connection.
    pub fn hand_over(&self, arrival: Arrival) {
        self.load.open.fetch_add(1, Ordering::Relaxed);
        self.send(WorkerCommand::Serve(arrival));
    }

    /// Resolves once the worker has ended what is not admitted since the change of this generation, or is gone.
    pub async fn wait_applied(&self, generation: u64) {
        let mut applied = self.applied.clone();
        let _ = applied.wait_for(|applied| *applied >= generation).await;
    }

    /// End all requests now. Resolves once each of them has the signal, or the worker is gone.
    pub fn cut_requests(&self) -> impl Future<Output = ()> + use<> {
        let (acknowledge, acknowledged) = oneshot::channel();
        self.send(WorkerCommand::CutRequests(acknowledge));
        async move { drop(acknowledged.await) }
    }

    /// Has the worker do something.
    pub fn send(&self, command: WorkerCommand) {
        // Fails only when the worker ended, and then there is nothing left to do.
        let _ = self.commands.send(command);
    }
}

async fn run(
    worker: Worker,
    acceptor: Option<TlsAcceptor>,
    mut inbox: mpsc::UnboundedReceiver<WorkerCommand>,
    load: Arc<Load>,
    applied: watch::Sender<u64>,
) {
    let worker = Rc::new(worker);
    // In a task of its own, so that connections that arrive do not pay for the wait.
    drop(tokio::task::spawn_local(apply_changes(Rc::clone(&worker), applied)));
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ended = false;
    loop {
        tokio::select! {
            command = inbox.recv(), if !ended => match command {
                Some(WorkerCommand::Serve(arrival)) => serve(&worker, arrival, acceptor.clone(), Arc::clone(&load)),
                Some(WorkerCommand::Evict(id)) => worker.evict(id),
                Some(WorkerCommand::Warm(supervisor)) => {
                    drop(tokio::task::spawn_local(bridge::warm(Arc::clone(&worker.shared), supervisor)));
                }
                Some(WorkerCommand::Drain) => {
                    worker.of_connections.signal(|_| Some(Signal::Drain));
                    worker.update_unfinished(&load).await;
                }
                Some(WorkerCommand::EndListening) => worker.end_listening(),
                Some(WorkerCommand::CutRequests(acknowledge)) => {
                    worker.cut_requests();
                    // Nobody may wait for it any more.
                    let _ = acknowledge.send(());
                }
                Some(WorkerCommand::Cut) => worker.cut().await,
                None => ended = true,
            },
            _ = ticks.tick() => {
                worker.tick();
                if !worker.shared.is_ready() {
                    worker.update_unfinished(&load).await;
                }
            }
        }
        if ended && load.open.load(Ordering::Relaxed) == 0 {
            return;
        }
    }
}

/// Ends what a change does not admit, each time that there was one, and publishes the generation up to which that is done.
async fn apply_changes(worker: Rc<Worker>, applied: watch::Sender<u64>) {
    let mut changes = worker.shared.changes();
    loop {
        let generation = *changes.borrow_and_update();
        worker.apply_change();
        applied.send_replace(generation);
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Counts a connection for as long as it is open, however it ends.
struct Open {
    of_worker: Arc<Load>,
    /// Those of the admin listener are not among the client connections.
    of_gateway: Option<prometheus::IntGauge>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.of_worker.close_one();
        self.of_gateway.iter().for_each(prometheus::IntGauge::dec);
    }
}

fn serve(worker: &Rc<Worker>, arrival: Arrival, acceptor: Option<TlsAcceptor>, load: Arc<Load>) {
    let Arrival { stream, peer, listener_kind, connection_slot } = arrival;
    let of_gateway = (listener_kind == ListenerKind::Public)
        .then(|| worker.shared.observer.metrics.connections_open.clone());
    of_gateway.iter().for_each(prometheus::IntGauge::inc);
    let open = Open { of_worker: load, of_gateway };
    let Ok(stream) = TcpStream::from_std(stream) else { return };
    let acceptor = acceptor.filter(|_| listener_kind == ListenerKind::Public);
    // Before a task begins, so that the worker's next command reaches this connection, too.
    let watched = worker.of_connections.watch(Visitor::default());
    let evictable = worker.evictable(connection_slot.id(), &watched);
    // As it was when the connection was counted: a reload may have come since.
    let is_balancer = connection_slot.is_of_balancer();
    let accepted =
        Accepted { stream, peer, listener_kind, connection_slot, acceptor, watched, evictable, open };
    // A task keeps the size of the largest thing that it did. So what few connections begin with has a task of its own.
    if is_balancer {
        drop(tokio::task::spawn_local(serve_balancer(Rc::clone(worker), accepted)));
    } else {
        accepted.serve(worker, None, false);
    }
}

/// A connection that was accepted, and is not served yet.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    listener_kind: ListenerKind,
    connection_slot: ConnectionSlot,
    acceptor: Option<TlsAcceptor>,
    watched: Watched<Visitor>,
    evictable: Evictable,
    open: Open,
}

/// What a connection that is served has until it ends.
struct Served {
    connection: Rc<Connection>,
    evictable: Evictable,
    _open: Open,
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(rejection) = self.connection.take_rejection() {
            self.evictable.worker().shared.observer.rejected(rejection, &self.connection.peer);
        }
    }
}

impl Accepted {
    /// Serves it in a task of its own. `client` is the one that a balancer forwards for.
    fn serve(self, worker: &Rc<Worker>, client: Option<SocketAddr>, is_balancer: bool) {
        let Self { stream, peer, listener_kind, mut connection_slot, acceptor, watched, evictable, open } =
            self;
        if let Some(client) = client {
            connection_slot.speaks_for(client.ip().into());
        }
        let limits = worker.shared.live().limits.clone();
        let connection =
            Rc::new(Connection::new(client.unwrap_or(peer), listener_kind, connection_slot, limits, watched));
        // The connections of a balancer are those of its clients, who are counted by request.
        if is_balancer && client.is_none() {
            let _ = connection.admit(worker.shared.ledger.gateway());
        }
        let served = Served { connection, evictable, _open: open };
        drop(tokio::task::spawn_local(task(Rc::clone(worker), stream, acceptor, served)));
    }
}

/// All that a connection does.
fn task(
    worker: Rc<Worker>,
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    served: Served,
) -> impl Future<Output = ()> {
    let (connection, slot) = (Rc::clone(&served.connection), TakeoverSlot::default());
    let (of_connection, of_slot) = (Rc::clone(&connection), Rc::clone(&slot));
    let handle = move |request: http::Request<Incoming>| {
        service::handle(Rc::clone(&worker), Rc::clone(&of_connection), Rc::clone(&of_slot), request)
    };
    connection::serve(stream, acceptor, connection, slot, handle, served)
}

/// Serves a connection of a balancer, which may name the client that it forwards for.
async fn serve_balancer(worker: Rc<Worker>, mut accepted: Accepted) {
    let Accepted { stream, watched, .. } = &mut accepted;
    let client = tokio::select! {
        client = client_of(&worker, stream) => client,
        // It makes room for another, or there is no request yet that could be finished.
        _ = watched.raised() => return,
    };
    match client {
        Ok(client) => accepted.serve(&worker, client, true),
        Err(Some(rejection)) => {
            let peer = accepted.peer.ip().to_canonical().to_string();
            worker.shared.observer.rejected(rejection, &peer);
        }
        Err(None) => {}
    }
}

/// Whom the PROXY header names that a balancer may have put in front, which is read off the stream; or why it is broken, unless
/// nothing came, or the balancer went away.
async fn client_of(worker: &Worker, stream: &mut TcpStream) -> Result<Option<SocketAddr>, Option<Rejection>> {
    let timeout = worker.shared.live().limits.header_timeout;
    match tokio::time::timeout(timeout, proxy_header(stream)).await {
        Ok(Ok(client)) => Ok(client),
        Ok(Err(error)) => {
            let is_broken = matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
            Err(is_broken.then_some(Rejection::ProxyHeader))
        }
        Err(_) => Err(None),
    }
}

impl Worker {
    fn tick(&self) {
        let now = Instant::now();
        self.watchdog.tick(now);
        self.of_connections.tick(now);
        self.shared.observer.tick();
        if let Some(audit) = &self.shared.live().audit {
            audit.tick();
        }
        self.shared.connections.tick();
        let (_, requests) = self.shared.ledger.usage(Resource::Requests);
        self.shared.memory.tick(now, requests + self.shared.connections.open() as u64);
        let live = self.shared.live();
        self.pool.sweep(now, |origin| live.uses(origin));
        // Connections that wait for a request have no share of the descriptors but that of requests.
        let most = live.limits.max_requests.saturating_sub(requests) / self.workers as u64;
        self.pool.keep_most(usize::try_from(most).unwrap_or(usize::MAX));
        // Nothing but time says that a credential expires.
        if live.has_expiry() {
            drop(live);
            self.revoke();
        }
    }

    fn apply_change(&self) {
        self.revoke();
        let live = self.shared.live();
        live.servers.iter().for_each(|entry| entry.end_lost_credentials());
        self.pool.sweep(Instant::now(), |origin| live.uses(origin));
    }

    /// Ends what the config of this moment does not admit.
    fn revoke(&self) {
        let live = self.shared.live();
        let lost = |subject: &Subject| {
            let admission = subject.admission();
            live.keep_asking(admission);
            let loss = live.loss(admission).map(Signal::Revoked);
            loss.or_else(|| live.was_stopped_since(admission).then_some(Signal::Cut))
        };
        let is_revoked = |subject: &Subject, signal| {
            matches!((subject, signal), (Subject::Request(..), Signal::Revoked(_)))
        };
        let revoked = self.watchdog.signal_counting(lost, is_revoked);
        self.shared.count_revoked(revoked);
    }

    /// Learns from sessions and requests what their clients wait for.
    async fn update_unfinished(&self, load: &Load) {
        let is_session = |subject: &Subject| matches!(subject, Subject::Session(..));
        self.watchdog.signal(|subject| is_session(subject).then_some(Signal::Drain));
        // Sessions answer when they are polled; one that is not by then still counts as it did.
        tokio::task::yield_now().await;
        load.set_unfinished(self.watchdog.max(Subject::waits).unwrap_or(Waits::Listens));
    }

    fn end_listening(&self) {
        let listens = |subject: &Subject| matches!(subject, Subject::Request(_, Waits::Listens));
        self.watchdog.signal(|subject| listens(subject).then_some(Signal::Cut));
    }

    fn cut_requests(&self) {
        let is_request = |subject: &Subject| matches!(subject, Subject::Request(..));
        self.watchdog.signal(|subject| is_request(subject).then_some(Signal::Cut));
    }

    /// Requests first, so that they record why they end; then whatever is left of their connections.
    async fn cut(&self) {
        self.watchdog.signal(|_| Some(Signal::Cut));
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.of_connections.signal(|_| Some(Signal::Cut));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{observe::Record, proxy::relay::Relay};

    fn size_of_future<A, B, C, D, F: Future>(_: fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// Most of what an idle stream holds, beside two sockets. Whoever makes it larger looks for what only few need: that goes
    /// behind a box, and what a stream no longer needs is dropped.
    #[test]
    fn an_idle_stream_holds_little() {
        // With what tokio adds, a task takes a multiple of 128 bytes: this is 384.
        assert!(size_of_future(task) <= 280, "a task: {}", size_of_future(task));
        let sizes = [
            ("connection", size_of::<Connection>(), 312),
            ("relay", size_of::<Relay>(), 504),
            ("record, which is a part of it", size_of::<Record>(), 216),
        ];
        for (what, size, most) in sizes {
            assert!(size <= most, "{what}: {size}");
        }
    }
}
