//! Options of TCP sockets, towards clients and towards servers.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};

/// Silence after which the peer's system is asked whether it is still there (`TCP_KEEPIDLE`).
const KEEPALIVE_AFTER: Duration = Duration::from_secs(30);
/// Time between two such questions (`TCP_KEEPINTVL`).
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// How many may go unanswered (`TCP_KEEPCNT`).
const KEEPALIVE_TRIES: u32 = 3;
/// How long sent bytes may stay unacknowledged before the kernel gives the connection up, in place of a quarter of an hour.
/// It also ends a keep-alive that is not answered. A comment in a silent stream, after 15 s of `keepAlive`, begins this time
/// anew. It counts for a client that takes nothing, too, so it bounds `slowReaderTimeout`.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(50);
/// Bytes that the kernel may take from us before they are sent. Bounds what a client that reads slowly costs in kernel
/// memory (up to 4 MiB by default) to some 20 KiB, and keeps back-pressure close to it.
#[cfg(target_os = "linux")]
const NOTSENT_LOWAT: u32 = 16 * 1024;

/// Sets what every connection has. On Linux, connections that are accepted have what their listener has, so it costs them no
/// call of their own.
///
/// A peer that vanished without a FIN, its power gone or a middle box in between, is noticed within 75 s: whether it owes
/// an acknowledgment or both sides are silent, as an event stream may be for hours.
pub fn tune(socket: SockRef<'_>) -> io::Result<()> {
    // Each event is written whole; waiting to fill a segment would only delay it.
    socket.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_TRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    Ok(())
}

/// Sets what a listener has beyond that, for the connections of clients.
pub fn tune_listener(socket: SockRef<'_>) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(NOTSENT_LOWAT)?;
    tune(socket)
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    fn is_tuned(socket: SockRef<'_>) {
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_EVERY);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_TRIES);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
    }

    #[tokio::test]
    async fn who_is_accepted_has_what_the_listener_has() {
        let listener = crate::downstream::listener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let accepted = listener.accept().await.unwrap().0;
        let socket = SockRef::from(&accepted);
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), NOTSENT_LOWAT);
        is_tuned(socket);
    }

    #[test]
    fn so_has_who_connects() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        tune(SockRef::from(&socket)).unwrap();
        is_tuned(SockRef::from(&socket));
    }
}
