//! A TCP relay and nothing else: what any proxy in user space must pay at least. It looks at no byte, checks no token
//! and writes no log.

use std::{
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddrV4, TcpStream},
};

use slab::Slab;

use crate::sys::{self, Epoll, EventFlags};

const LISTENER: u64 = u64::MAX;
/// As much as one read takes.
const SCRATCH: usize = 32 * 1024;

/// Two connections. Side 0 is the client, side 1 the upstream; a token is twice the pair's index plus the side.
struct Pair {
    sides: [TcpStream; 2],
    /// What side `i` sent and the other one did not take yet.
    waiting: [Vec<u8>; 2],
}

impl Pair {
    /// Moves what `from` has sent. Returns whether the pair is still of use.
    fn pump(&mut self, from: usize, scratch: &mut [u8]) -> io::Result<bool> {
        let [source, sink] = [&self.sides[from], &self.sides[1 - from]];
        let waiting = &mut self.waiting[from];
        loop {
            if !waiting.is_empty() {
                let Some(n) = sys::ready((&*sink).write(waiting))? else { return Ok(true) };
                waiting.drain(..n);
                continue;
            }
            let Some(n) = sys::ready((&*source).read(scratch))? else { return Ok(true) };
            if n == 0 {
                return Ok(false);
            }
            let sent = sys::ready((&*sink).write(&scratch[..n]))?.unwrap_or(0);
            waiting.extend_from_slice(&scratch[sent..n]);
            if n < scratch.len() && waiting.is_empty() {
                return Ok(true);
            }
        }
    }
}

/// Relays every connection to `listen` to `target`, forever.
pub fn run(listen: SocketAddrV4, target: SocketAddrV4) -> io::Result<()> {
    let listener = sys::listen(listen)?;
    let mut epoll = Epoll::new()?;
    epoll.add(&listener, LISTENER, EventFlags::IN)?;
    let mut pairs: Slab<Pair> = Slab::new();
    let mut scratch = vec![0; SCRATCH];
    let mut arrived = false;
    loop {
        let mut ended = Vec::new();
        for (token, _) in epoll.wait(None) {
            if token == LISTENER {
                arrived = true;
                continue;
            }
            let (index, side) = (token as usize / 2, token as usize % 2);
            let Some(pair) = pairs.get_mut(index) else { continue };
            // Either direction may wait for what happened.
            let alive = pair.pump(side, &mut scratch).unwrap_or(false)
                && (pair.waiting[1 - side].is_empty() || pair.pump(1 - side, &mut scratch).unwrap_or(false));
            if !alive {
                ended.push(index);
            }
        }
        for index in ended {
            if let Some(pair) = pairs.try_remove(index) {
                pair.sides.iter().for_each(|side| drop(side.shutdown(Shutdown::Both)));
            }
        }
        if std::mem::take(&mut arrived) {
            while let Ok((client, _)) = listener.accept() {
                sys::prepare(&client)?;
                let Ok(upstream) = sys::connect(target) else { continue };
                let entry = pairs.vacant_entry();
                let token = entry.key() as u64 * 2;
                let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
                epoll.add(&client, token, interest)?;
                epoll.add(&upstream, token + 1, interest)?;
                entry.insert(Pair { sides: [client, upstream], waiting: Default::default() });
            }
        }
    }
}
