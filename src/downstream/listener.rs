//! Listening sockets, and the loop that accepts and does nothing else.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::{downstream::slots::Connections, net::tcp};

/// Connections that the kernel may hold ready while the loop is elsewhere.
const BACKLOG: i32 = 1024;
/// Pause after a failure to accept: without it, running out of file descriptors would spin a core and flood the log.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Time between two log lines about failures to accept.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// Binds `addr`. IPv6 sockets take IPv6 only, so that an address means what it says on every system.
pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart need not wait for connections of the last run to leave TIME_WAIT.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    // Best effort: a socket without these options works, less well.
    let _ = tcp::tune_listener((&socket).into());
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts until `stop` resolves, as long as there is room among `connections`. Whoever has connected by then is taken.
pub async fn accept(
    listener: TcpListener,
    connections: &Connections,
    mut on_accept: impl FnMut(TcpStream, SocketAddr),
    mut on_error: impl FnMut(&io::Error, bool),
    stop: impl Future<Output = ()>,
) {
    let mut stop = std::pin::pin!(stop);
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = async {
            connections.room().await;
            listener.accept().await
        };
        let accepted = tokio::select! {
            // Nothing is taken after the stop: that connection would not learn of it.
            biased;
            () = &mut stop => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, peer)) => on_accept(stream, peer),
            // The client went away before we took its connection.
            Err(e) if e.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(e) => {
                let complain = complained.is_none_or(|last| last.elapsed() >= COMPLAIN_EVERY);
                if complain {
                    complained = Some(Instant::now());
                }
                on_error(&e, complain);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // To close the socket resets those that the kernel holds ready, with the request that they may have sent. With a backlog of
    // none, those that come now are not among them: they try again in a second, and are refused.
    let Ok(listener) = listener.into_std() else { return };
    let _ = SockRef::from(&listener).listen(0);
    for _ in 0..2 * BACKLOG {
        let Ok((stream, peer)) = listener.accept() else { return };
        if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
            on_accept(stream, peer);
        }
    }
}
