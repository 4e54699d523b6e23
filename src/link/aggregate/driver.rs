//! The task behind the link: it carries events to the core, and out what the core decides.

use std::{
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::PollSender;

use crate::link::aggregate::{
    core::{Core, CoreAction, CoreEvent, IN_FLIGHT},
    member::MemberState,
    settings::{AggregateSettings, Member, OpenLink},
};
use crate::{
    error::Error,
    link::{FromServer, Link, ServerEnd, ToServer, filter::Filter},
    mcp::message::MAX_MESSAGE,
};

/// Bytes and messages that may wait for one side beside its link's own queue. Every request in flight may fail at once, and
/// there must be room for more than that, so that a client that sends before it reads is not waited for while it waits.
///
/// A member that leaves more lying is dropped: to wait for it would stop the others. From a client that does, nothing more
/// is taken. Members are not read while anything waits for the client: they wait for it, and for nothing else.
const BACKLOG: (usize, usize) = (MAX_MESSAGE, 2 * IN_FLIGHT);

/// Why a member is gone that takes no more messages.
const LINK_CLOSED: &str = "its link is closed";

/// Why a member is dropped that does not take them.
const NOT_READING: &str = "it does not take what it is sent";

/// Carries messages until the client is gone.
pub(super) async fn run(members: Vec<Member>, settings: AggregateSettings, server_end: ServerEnd) {
    let now = Instant::now();
    let members = members.into_iter().map(|member| MemberState::new(member, now));
    let (members, slots) = members
        .map(|(state, open)| {
            let filter = Rc::clone(&state.filter);
            (state, MemberSlot { open, filter, generation: 0, line: None })
        })
        .unzip();
    let mut changes = settings.changes.clone();
    let mut core = Core::new(members, settings);
    let mut lines = MemberChannels {
        from_client: server_end.from_client,
        to_client: OutQueue::new(server_end.to_client),
        slots,
        opening: JoinSet::new(),
        turn: 0,
    };
    // What comes of what happened: a member is dropped for what it left lying, or a call is answered in its place.
    let mut events = VecDeque::new();
    loop {
        let deadline = core.deadline();
        let event = tokio::select! {
            event = poll_fn(|cx| lines.poll(cx)) => event,
            () = async { sleep_until(deadline.unwrap_or_else(Instant::now)).await }, if deadline.is_some() => {
                Some(CoreEvent::Tick)
            }
            // The sender of changes outlives every conversation.
            Ok(()) = changes.changed() => Some(CoreEvent::Tick),
        };
        let Some(event) = event else { return };
        events.push_back(event);
        while let Some(event) = events.pop_front() {
            let actions = core.handle(Instant::now(), event);
            lines.carry_out(actions, &mut events);
        }
    }
}

/// Everything that messages come from and go to.
struct MemberChannels {
    from_client: mpsc::Receiver<ToServer>,
    to_client: OutQueue<FromServer>,
    slots: Vec<MemberSlot>,
    opening: JoinSet<(usize, u64, Result<Link, Error>)>,
    /// The source that is polled first: each in turn, so that one that always has something does not hold up the others.
    turn: usize,
}

/// Where a member's link is, if there is one.
struct MemberSlot {
    open: OpenLink,
    filter: Rc<Filter>,
    /// Of the link. One that is opened for an earlier one is dropped.
    generation: u64,
    line: Option<OpenChannel>,
}

struct OpenChannel {
    to_member: OutQueue<ToServer>,
    from_member: mpsc::Receiver<FromServer>,
}

impl MemberChannels {
    /// What happens next; `None` when the client is gone.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<CoreEvent>> {
        if let Poll::Ready(Err(ReceiverGone)) = self.to_client.poll_flush(cx) {
            return Poll::Ready(None);
        }
        while let Poll::Ready(Some(joined)) = self.opening.poll_join_next(cx) {
            // A task that was stopped, or that panicked, opened nothing; only the latter is missed, and shows as a
            // member that is late.
            let Ok((member, generation, opened)) = joined else { continue };
            let slot = &mut self.slots[member];
            if slot.generation == generation {
                let opened = opened.map(|link| {
                    let to_member = OutQueue::new(link.to_server);
                    slot.line = Some(OpenChannel { to_member, from_member: link.from_server });
                });
                return Poll::Ready(Some(CoreEvent::Opened(member, opened)));
            }
        }
        let sources = self.slots.len() + 1;
        for step in 0..sources {
            let source = (self.turn + step) % sources;
            if let Poll::Ready(event) = self.poll_source(cx, source) {
                self.turn = (source + 1) % sources;
                return Poll::Ready(event);
            }
        }
        Poll::Pending
    }

    /// Members by their number, then the client.
    fn poll_source(&mut self, cx: &mut Context<'_>, source: usize) -> Poll<Option<CoreEvent>> {
        let Some(slot) = self.slots.get_mut(source) else {
            if self.to_client.is_full(0) {
                return Poll::Pending;
            }
            return self.from_client.poll_recv(cx).map(|sent| sent.map(CoreEvent::Client));
        };
        let Some(line) = &mut slot.line else { return Poll::Pending };
        let ended = |cause: &'static str| FromServer::Ended { cause: cause.into() };
        loop {
            let sent = match line.to_member.poll_flush(cx) {
                Poll::Ready(Err(ReceiverGone)) => ended(LINK_CLOSED),
                _ if !self.to_client.waiting.is_empty() => return Poll::Pending,
                _ => ready!(line.from_member.poll_recv(cx)).unwrap_or_else(|| ended(LINK_CLOSED)),
            };
            if let Some(sent) = slot.filter.inward(sent) {
                return Poll::Ready(Some(CoreEvent::Member(source, sent)));
            }
        }
    }

    /// Does what the core decided. What it has to know of that is among `events` then: that the backlog of a member is full, and
    /// answers to what may not reach one. The rest is done all the same.
    fn carry_out(&mut self, actions: Vec<CoreAction>, events: &mut VecDeque<CoreEvent>) {
        let mut not_reading = None;
        for action in actions {
            match action {
                CoreAction::ToClient(sent) => {
                    let size = match &sent {
                        FromServer::Message { message, .. } => message.text().len(),
                        FromServer::Failed { .. } | FromServer::Ended { .. } => 0,
                    };
                    self.to_client.push(sent, size);
                }
                CoreAction::ToMember(member, sent) => {
                    let MemberSlot { line: Some(line), filter, .. } = &mut self.slots[member] else {
                        continue;
                    };
                    if let Err(answer) = filter.outward(&sent) {
                        events.extend(answer.map(|answer| CoreEvent::Member(member, answer)));
                        continue;
                    }
                    let size = match &sent {
                        ToServer::Message(outbound) => outbound.message.text().len(),
                        ToServer::Abandon(_) => 0,
                    };
                    if line.to_member.is_full(size) {
                        not_reading = Some(member);
                    } else {
                        line.to_member.push(sent, size);
                    }
                }
                CoreAction::Open(member) => {
                    let slot = &mut self.slots[member];
                    slot.generation += 1;
                    let (generation, opening) = (slot.generation, (slot.open)());
                    self.opening.spawn_local(async move { (member, generation, opening.await) });
                }
                CoreAction::Close(member) => {
                    let slot = &mut self.slots[member];
                    slot.generation += 1;
                    slot.line = None;
                }
            }
        }
        let ended = || FromServer::Ended { cause: NOT_READING.into() };
        events.extend(not_reading.map(|member| CoreEvent::Member(member, ended())));
    }
}

/// Nobody takes messages at the other end any more.
struct ReceiverGone;

/// A way out that never makes anyone wait: what does not fit waits here.
struct OutQueue<T> {
    sender: PollSender<T>,
    waiting: VecDeque<(T, usize)>,
    bytes: usize,
}

impl<T: Send + 'static> OutQueue<T> {
    fn new(sender: mpsc::Sender<T>) -> Self {
        Self { sender: PollSender::new(sender), waiting: VecDeque::new(), bytes: 0 }
    }

    /// A single message always fits, however large: it came through other bounds.
    fn is_full(&self, size: usize) -> bool {
        let (bytes, messages) = BACKLOG;
        !self.waiting.is_empty() && (self.bytes + size > bytes || self.waiting.len() >= messages)
    }

    fn push(&mut self, item: T, size: usize) {
        self.bytes += size;
        self.waiting.push_back((item, size));
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ReceiverGone>> {
        while !self.waiting.is_empty() {
            ready!(self.sender.poll_reserve(cx)).map_err(|_| ReceiverGone)?;
            if let Some((item, size)) = self.waiting.pop_front() {
                self.bytes -= size;
                self.sender.send_item(item).map_err(|_| ReceiverGone)?;
            }
        }
        Poll::Ready(Ok(()))
    }
}
