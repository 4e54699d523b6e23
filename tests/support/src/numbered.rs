//! Streams of numbered events, whose readers notice whatever is missing, doubled or out of order.
//!
//! Real time: the server keeps a pace, and whoever uses this measures.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::harness::{Client, PATIENCE, SSE, chunk, field, get, post};

/// Time between two events of a stream.
pub const PACE: Duration = Duration::from_millis(200);

/// A server that answers a GET with numbered events without end, and anything else with `{}`.
pub async fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(answer(Client::new(stream)));
        }
    });
    addr
}

async fn answer(mut client: Client<TcpStream>) {
    while let Some(head) = client.next_head().await {
        if head.starts_with("POST ") {
            let length = field(&head, "content-length").map_or(0, |length| length.parse().unwrap());
            client.exactly(length).await;
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
            if client.stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
            continue;
        }
        if client.stream.write_all(SSE.as_bytes()).await.is_err() {
            return;
        }
        let mut pace = tokio::time::interval(PACE);
        for n in 0_u64.. {
            let event = chunk(&format!("id: {n}\ndata: event {n}\n\n"));
            tokio::select! {
                _ = pace.tick() => if client.stream.write_all(event.as_bytes()).await.is_err() { return },
                // The gateway has nothing more to say on this connection than its end.
                _ = client.stream.read_u8() => return,
            }
        }
    }
}

/// Lets this process, and gateways that it starts, have as many descriptors as it may.
pub fn raise_file_limit() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

pub async fn connect(addr: SocketAddr) -> Client<TcpStream> {
    let stream = TcpStream::connect(addr).await.unwrap();
    stream.set_nodelay(true).unwrap();
    Client::new(stream)
}

/// Opens a stream of the server `db` and reads its head. The status is for the caller to judge.
pub async fn stream(addr: SocketAddr, token: &str) -> (u16, Client<TcpStream>) {
    let mut client = connect(addr).await;
    client.send(get("/db", token, "Accept: text/event-stream\r\n")).await;
    let head = client.head().await;
    (head[9..12].parse().unwrap(), client)
}

/// Reads a stream to its end and checks that its events are 0, 1, 2, … with none missing, double or out of order.
/// Tells how many there were; `count` follows while it runs.
pub async fn count_events(client: &mut Client<TcpStream>, count: &AtomicU64) -> u64 {
    let mut text = String::new();
    let mut bytes = vec![0; 4096];
    let mut next = 0;
    let mut raw = std::mem::take(&mut client.buffer);
    loop {
        // Chunk framing is the gateway's to choose: only lines that belong to events are looked at.
        text.push_str(std::str::from_utf8(&raw).unwrap());
        raw.clear();
        while let Some(end) = text.find("\n\n") {
            let event: String = text.drain(..end + 2).collect();
            let id = event.lines().find_map(|line| line.strip_prefix("id: ")).unwrap();
            assert_eq!(id.parse(), Ok(next), "an event was lost, doubled or overtaken");
            assert!(event.ends_with(&format!("data: event {next}\n\n")), "{event:?}");
            next += 1;
            count.store(next, Ordering::Relaxed);
        }
        match client.stream.read(&mut bytes).await {
            Ok(n @ 1..) => raw.extend_from_slice(&bytes[..n]),
            _ => return next,
        }
    }
}

/// Status of a request with `token` to the server `db`, on a connection that is kept.
pub async fn status(client: &mut Client<TcpStream>, token: &str) -> u16 {
    client.send(post("/db", token, "", "{}")).await;
    client.response().await.0
}

/// Asks until `token` gets `wanted`.
pub async fn becomes(client: &mut Client<TcpStream>, token: &str, wanted: u16) {
    let began = Instant::now();
    loop {
        let status = status(client, token).await;
        if status == wanted {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{token} stays {status} and does not become {wanted}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Of sorted times, the one that so many of a hundred are not above.
pub fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

/// A number from the environment, for tests that have a small and a full size.
pub fn from_env(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().unwrap())
}
