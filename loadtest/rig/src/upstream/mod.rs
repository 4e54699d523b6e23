//! A cheap HTTP/1.1 server: one thread, bare epoll. What it spends must not blur what a proxy in front of it spends.

mod connection;
mod events;

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io,
    net::{SocketAddrV4, TcpListener},
};

use slab::Slab;

use self::connection::{Connection, Step};
use crate::sys::{self, Epoll, EventFlags};

const LISTENER: u64 = u64::MAX;
/// Shortest sleep, nanoseconds: events that fall due closer together leave in one turn of the loop.
const TICK: u64 = 250_000;
/// How far a stream may fall behind, nanoseconds, before it gives up on the events it missed.
const FAR_BEHIND: u64 = 1_000_000_000;

struct Server {
    listener: TcpListener,
    epoll: Epoll,
    connections: Slab<Connection>,
    /// Paced streams: when the next write is due, of which connection, and the serial number that it must still have.
    due: BinaryHeap<Reverse<(u64, usize, u64)>>,
    /// Unpaced streams that may write.
    hot: Vec<usize>,
    accepted: u64,
}

/// Serves `addr`, forever.
pub fn run(addr: SocketAddrV4) -> io::Result<()> {
    let listener = sys::listen(addr)?;
    let epoll = Epoll::new()?;
    epoll.add(&listener, LISTENER, EventFlags::IN)?;
    let mut server = Server {
        listener,
        epoll,
        connections: Slab::new(),
        due: BinaryHeap::new(),
        hot: Vec::new(),
        accepted: 0,
    };
    let mut ready = Vec::new();
    let mut scratch = vec![0; 64 * 1024];
    loop {
        let timeout = if server.hot.is_empty() {
            server.due.peek().map(|Reverse((due, ..))| due.saturating_sub(sys::now()).max(TICK))
        } else {
            Some(0)
        };
        ready.extend(server.epoll.wait(timeout));
        for (token, flags) in ready.drain(..) {
            if token == LISTENER {
                server.accept()?;
            } else {
                server.on_ready(token as usize, flags, &mut scratch);
            }
        }
        server.write_unpaced();
        server.write_due();
    }
}

impl Server {
    fn accept(&mut self) -> io::Result<()> {
        while let Ok((stream, _)) = self.listener.accept() {
            sys::prepare(&stream)?;
            self.accepted += 1;
            let entry = self.connections.vacant_entry();
            let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            self.epoll.add(&stream, entry.key() as u64, interest)?;
            entry.insert(Connection::new(stream, self.accepted));
        }
        Ok(())
    }

    fn on_ready(&mut self, id: usize, flags: EventFlags, scratch: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let mut step = Ok(Step::Wait);
        if flags.contains(EventFlags::OUT) {
            step = connection.on_writable();
        }
        if step.is_ok()
            && flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR)
        {
            let wrote = step;
            step = connection.on_readable(scratch);
            if matches!(step, Ok(Step::Wait)) {
                step = wrote;
            }
        }
        match step {
            Ok(Step::Wait) => {}
            Ok(Step::Unpaced) => {
                if !self.hot.contains(&id) {
                    self.hot.push(id);
                }
            }
            Ok(Step::Paced { first }) => self.due.push(Reverse((first, id, connection.serial))),
            Err(_) => drop(self.connections.try_remove(id)),
        }
    }

    /// One write for each unpaced stream, so that none starves the others.
    fn write_unpaced(&mut self) {
        let mut at = 0;
        while let Some(&id) = self.hot.get(at) {
            let result = self.connections.get_mut(id).map(Connection::write_events);
            match result {
                Some(Ok(true)) => at += 1,
                Some(Err(_)) => {
                    self.connections.remove(id);
                    self.hot.swap_remove(at);
                }
                Some(Ok(false)) | None => drop(self.hot.swap_remove(at)),
            }
        }
    }

    fn write_due(&mut self) {
        if self.due.is_empty() {
            return;
        }
        let now = sys::now();
        while let Some(&Reverse((due, id, serial))) = self.due.peek() {
            if due > now {
                break;
            }
            self.due.pop();
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if connection.serial != serial {
                continue;
            }
            if connection.write_events().is_err() {
                self.connections.remove(id);
            } else if let Some(period) = connection.period() {
                let next = if due + period + FAR_BEHIND < now { now } else { due + period };
                self.due.push(Reverse((next, id, serial)));
            }
        }
    }
}
