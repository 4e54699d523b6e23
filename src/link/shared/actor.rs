//! The task behind a shared server: between the one link to it and the many of its callers.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
};

use tokio::{sync::mpsc, time::Instant};

use super::{
    backlog::Backlog,
    caller::{AttachedCaller, Control, DeliveryRefusal},
    settings::SharedLinkSettings,
    table::{Inward, Outward, Table, out_of},
};
use crate::{
    error::{Error, ErrorKind},
    ledger::Resource,
    link::{FromServer, Link, Outbound, QUEUE, ToServer},
    mcp::message,
};

/// State of a shared server.
pub(super) struct Actor<O, F> {
    open: O,
    settings: SharedLinkSettings,
    control: mpsc::UnboundedReceiver<Control>,
    inbox: mpsc::Receiver<(u64, ToServer)>,
    callers: HashMap<u64, AttachedCaller>,
    table: Table,
    backlog: Backlog,
    /// What goes to the server before the backlog: cancellations, and refusals of its own requests.
    urgent: VecDeque<ToServer>,
    server: Server<F>,
    /// Since when nothing has been in flight.
    idle_since: Option<Instant>,
}

enum Server<F> {
    Closed,
    Opening(Pin<Box<F>>),
    Open(Link),
}

enum Event {
    Control(Option<Control>),
    Sent(u64, ToServer),
    Opened(Result<Link, Error>),
    Received(Option<FromServer>),
    /// The server takes messages again.
    Room,
    Idle,
}

impl<O, F> Actor<O, F>
where
    O: Fn() -> F,
    F: Future<Output = Result<Link, Error>>,
{
    pub(super) fn new(
        open: O,
        settings: SharedLinkSettings,
        control: mpsc::UnboundedReceiver<Control>,
        inbox: mpsc::Receiver<(u64, ToServer)>,
    ) -> Self {
        let table = Table::new(settings.requests);
        Self {
            open,
            settings,
            control,
            inbox,
            callers: HashMap::new(),
            table,
            backlog: Backlog::default(),
            urgent: VecDeque::new(),
            server: Server::Closed,
            idle_since: Some(Instant::now()),
        }
    }

    /// Runs until no caller is attached and none can attach any more, or until it is not worth its lease.
    pub(super) async fn run(mut self) {
        self.run_to_end().await;
        self.settings.lease.end();
    }

    async fn run_to_end(&mut self) {
        loop {
            match self.next().await {
                Event::Control(None) => return,
                Event::Control(Some(control)) => self.control_event(control),
                Event::Sent(caller, what) => self.take_from(caller, what),
                Event::Opened(Ok(link)) => self.server = Server::Open(link),
                Event::Opened(Err(error)) => self.not_opened(&error),
                Event::Received(Some(FromServer::Message { message, about })) => {
                    match self.table.inward(&message, about.as_ref()) {
                        Inward::Caller(caller, what) => self.deliver(caller, what),
                        Inward::Server(reply) => self.reply(reply.into()),
                        Inward::Nowhere => {}
                    }
                }
                Event::Received(Some(FromServer::Failed { id, error })) => {
                    if let Some((caller, id)) = self.table.failed(&id) {
                        self.deliver(caller, FromServer::Failed { id, error });
                    }
                }
                Event::Received(Some(FromServer::Ended { cause })) => self.ended(cause),
                Event::Received(None) => self.ended("the server is gone".into()),
                Event::Room => {}
                Event::Idle if self.callers.is_empty() && self.settings.lease.owner().is_some() => {
                    // Who attached at this very moment is served.
                    if self.control.is_empty() {
                        return;
                    }
                }
                Event::Idle => self.close(),
            }
            self.advance();
        }
    }

    async fn next(&mut self) -> Event {
        let is_idle = self.idle_since.map(|since| since + self.settings.idle);
        let has_outgoing = !self.urgent.is_empty() || self.has_next();
        let has_room = self.backlog.has_room();
        let is_leased = self.callers.is_empty() && self.settings.lease.owner().is_some();
        let Self { control, inbox, server, .. } = self;
        let from_callers = async {
            tokio::select! {
                biased;
                control = control.recv() => Event::Control(control),
                Some((caller, what)) = inbox.recv(), if has_room => Event::Sent(caller, what),
            }
        };
        match server {
            Server::Closed => tokio::select! {
                event = from_callers => event,
                () = until(is_idle), if is_idle.is_some() && is_leased => Event::Idle,
            },
            Server::Opening(opening) => tokio::select! {
                event = from_callers => event,
                outcome = opening => Event::Opened(outcome),
            },
            Server::Open(link) => tokio::select! {
                event = from_callers => event,
                received = link.from_server.recv() => Event::Received(received),
                // One that takes nothing any more may still have something to say.
                _ = link.to_server.reserve(), if has_outgoing && !link.to_server.is_closed() => Event::Room,
                () = until(is_idle), if is_idle.is_some() => Event::Idle,
            },
        }
    }

    /// Does what can be done without waiting.
    fn advance(&mut self) {
        if matches!(self.server, Server::Closed) && !self.backlog.is_empty() {
            self.server = Server::Opening(Box::pin((self.open)()));
        }
        self.flush();
        let is_idle = self.table.is_empty() && self.backlog.is_empty();
        self.idle_since = if is_idle { self.idle_since.or_else(|| Some(Instant::now())) } else { None };
    }

    fn flush(&mut self) {
        while let Server::Open(link) = &self.server
            && link.to_server.capacity() > 0
            && !link.to_server.is_closed()
        {
            let what = if let Some(urgent) = self.urgent.pop_front() {
                urgent
            } else {
                let table = &self.table;
                let next = self.backlog.pop(|owner| !table.crowds_out(owner));
                let Some((caller, outbound)) = next else { return };
                // What a caller sent goes when it leaves.
                let Some(owner) = self.callers.get(&caller).map(AttachedCaller::owner) else { continue };
                match self.table.outward(caller, owner, &outbound.message) {
                    Outward::Server(message) => ToServer::Message(Outbound { message, ..outbound }),
                    Outward::Abandon(id) => ToServer::Abandon(id),
                    Outward::Caller(what) => {
                        self.deliver(caller, what);
                        continue;
                    }
                    Outward::Nowhere => continue,
                }
            };
            if let Server::Open(link) = &self.server {
                // Nobody else sends, so the room is still there; if the link has just closed, its end is on the way.
                let _ = link.to_server.try_send(what);
            }
        }
    }

    /// Takes who has come or left already.
    fn take_control(&mut self) {
        while let Ok(control) = self.control.try_recv() {
            self.control_event(control);
        }
    }

    fn control_event(&mut self, control: Control) {
        match control {
            Control::Attached(number, caller) => {
                self.callers.insert(number, caller);
            }
            Control::Left(caller) => {
                self.callers.remove(&caller);
                self.forget(caller);
            }
        }
    }

    /// Whether something waits that may go to the server now.
    fn has_next(&self) -> bool {
        self.backlog.has_next(|owner| !self.table.crowds_out(owner))
    }

    fn take_from(&mut self, caller: u64, what: ToServer) {
        // On another thread it may have come after the last look at who comes.
        if !self.callers.contains_key(&caller) {
            self.take_control();
        }
        // Who was cut, or left with more on the way, waits for nothing.
        let Some(owner) = self.callers.get(&caller).map(|caller| Arc::clone(caller.owner())) else { return };
        let owner = &owner;
        match what {
            ToServer::Abandon(id) => {
                if !self.backlog.abandon(caller, &id)
                    && let Some(id) = self.table.abandon(caller, &id)
                {
                    self.urgent.push_back(ToServer::Abandon(id));
                }
            }
            ToServer::Message(outbound) => {
                let message = &outbound.message;
                if let Some(refusal) = self.table.refusal(owner, message) {
                    let about = message.id().cloned();
                    self.deliver(caller, FromServer::Message { message: refusal, about });
                } else if message.kind() == message::MessageKind::Request
                    || !matches!(self.server, Server::Closed)
                {
                    let id = message.id().cloned();
                    if let Err(limit) = self.backlog.push(caller, owner, outbound)
                        && let Some(id) = id
                    {
                        let error = out_of("requests that wait for a shared server", limit);
                        self.deliver(caller, FromServer::Failed { id, error });
                    }
                }
                // Else it is no reason to open a server, which could not know what it is about.
            }
        }
    }

    fn deliver(&mut self, caller: u64, what: FromServer) {
        let about = match &what {
            FromServer::Message { about, .. } => about.clone(),
            FromServer::Failed { .. } | FromServer::Ended { .. } => None,
        };
        match self.callers.get_mut(&caller).map(|caller| caller.push(what)) {
            None | Some(Ok(())) => {}
            Some(Err(DeliveryRefusal::NoRoom(limit))) => {
                let Some(id) = about else { return };
                // Else in its table no more: it was answered.
                self.urgent.extend(self.table.abandon(caller, &id).map(ToServer::Abandon));
                self.deliver(caller, FromServer::Failed { id, error: Error::out_of(Resource::Bytes, limit) });
            }
            Some(Err(DeliveryRefusal::Full)) => {
                if let Some(caller) = self.callers.remove(&caller) {
                    caller.cut("the caller does not keep up");
                }
                self.forget(caller);
            }
        }
    }

    /// Clears away what a caller waits for.
    fn forget(&mut self, caller: u64) {
        self.backlog.leave(caller);
        self.urgent.extend(self.table.leave(caller).into_iter().map(ToServer::Abandon));
    }

    /// Answers a request of the server's. One that asks on without listening goes without answers.
    fn reply(&mut self, reply: Outbound) {
        if self.urgent.len() < QUEUE {
            self.urgent.push_back(ToServer::Message(reply));
        }
    }

    fn not_opened(&mut self, error: &Error) {
        self.server = Server::Closed;
        while let Some((caller, Outbound { message, .. })) = self.backlog.pop(|_| true) {
            if let Some(id) = message.response_id().cloned() {
                self.deliver(caller, FromServer::Failed { id, error: error.clone() });
            }
        }
    }

    fn ended(&mut self, cause: Cow<'static, str>) {
        let quarantine = (self.settings.on_lost)(&self.table.suspects());
        self.close();
        for (caller, id) in self.table.take() {
            let error = ErrorKind::UpstreamUnreachable.with_cause(cause.clone());
            self.deliver(caller, FromServer::Failed { id, error });
        }
        if quarantine.is_empty() {
            return;
        }
        // What else they have here would end the next one.
        self.take_control();
        let is_apart = |caller: &AttachedCaller| quarantine.contains(caller.owner().name());
        let left: Vec<u64> = self.callers.iter().filter(|it| is_apart(it.1)).map(|it| *it.0).collect();
        for number in left {
            if let Some(caller) = self.callers.remove(&number) {
                caller.cut(cause.clone());
            }
            self.forget(number);
        }
    }

    fn close(&mut self) {
        self.server = Server::Closed;
        self.urgent.clear();
        self.table.closed();
    }
}

async fn until(moment: Option<Instant>) {
    if let Some(moment) = moment {
        tokio::time::sleep_until(moment).await;
    }
}
