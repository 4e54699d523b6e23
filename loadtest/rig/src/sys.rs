//! Sockets, epoll and the clock. Linux only, loopback only.

use std::{
    io,
    net::{SocketAddrV4, TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    net::listen as set_backlog,
    time::{ClockId, clock_gettime},
};

pub use rustix::event::epoll::EventFlags;

/// Room for every client of the largest test to arrive at once.
const BACKLOG: i32 = 4096;

/// The monotonic clock in nanoseconds, which upstream and load generator share.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// An epoll instance and room for what it reports.
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<epoll::Event>,
}

impl Epoll {
    pub fn new() -> io::Result<Self> {
        Ok(Self { fd: epoll::create(epoll::CreateFlags::CLOEXEC)?, events: Vec::with_capacity(1024) })
    }

    pub fn add(&self, source: impl AsFd, token: u64, flags: EventFlags) -> io::Result<()> {
        Ok(epoll::add(&self.fd, source, epoll::EventData::new_u64(token), flags)?)
    }

    /// Waits with nanosecond resolution, without end on `None`. Reports each token with what happened.
    pub fn wait(&mut self, timeout: Option<u64>) -> impl Iterator<Item = (u64, EventFlags)> {
        let timeout = timeout.and_then(|nanos| Timespec::try_from(Duration::from_nanos(nanos)).ok());
        self.events.clear();
        // An interrupted wait is one that reports nothing.
        let _ = epoll::wait(&self.fd, spare_capacity(&mut self.events), timeout.as_ref());
        self.events.drain(..).map(|event| (event.data.u64(), event.flags))
    }
}

fn assert_loopback(addr: SocketAddrV4) {
    assert!(addr.ip().is_loopback(), "{addr}: loopback addresses only");
}

/// A listener that does not block.
pub fn listen(addr: SocketAddrV4) -> io::Result<TcpListener> {
    assert_loopback(addr);
    let listener = TcpListener::bind(addr)?;
    set_backlog(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A connection, made at once (the peer is this machine), that does not block from then on.
pub fn connect(addr: SocketAddrV4) -> io::Result<TcpStream> {
    assert_loopback(addr);
    let stream = TcpStream::connect(addr)?;
    prepare(&stream)?;
    Ok(stream)
}

/// Makes a connection send at once and never block.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)
}

/// `None` instead of an error when there is nothing to do right now.
pub fn ready(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(n) => Ok(Some(n)),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Segments with data that arrived. Over loopback, where a segment holds 64 KiB, that is how often the peer wrote.
#[allow(unsafe_code, reason = "no safe crate reads this far into struct tcp_info")]
pub fn data_segments_in(stream: &TcpStream) -> u64 {
    /// Offset of `tcpi_data_segs_in` in `struct tcp_info` (linux/tcp.h, an ABI).
    const DATA_SEGS_IN: usize = 152;
    let mut info = [0u8; 256];
    let mut length = info.len() as libc::socklen_t;
    // SAFETY: the pointer and the length describe `info`, which the kernel fills at most to its end.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result < 0 || (length as usize) < DATA_SEGS_IN + 4 {
        return 0;
    }
    let field = info[DATA_SEGS_IN..].first_chunk().copied().unwrap_or_default();
    u32::from_ne_bytes(field).into()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn each_write_of_the_peer_is_a_segment() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let std::net::SocketAddr::V4(addr) = listener.local_addr().unwrap() else { unreachable!() };
        let mut client = connect(addr).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.set_nonblocking(false).unwrap();
        for _ in 0..3 {
            server.write_all(b"x").unwrap();
            client.read_exact(&mut [0]).unwrap();
        }
        assert_eq!(data_segments_in(&client), 3);
    }

    #[test]
    #[should_panic(expected = "loopback addresses only")]
    fn other_machines_are_out_of_reach() {
        let _ = connect("192.0.2.1:80".parse().unwrap());
    }
}
