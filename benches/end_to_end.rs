//! What passing the gateway costs, from one socket to the other, over loopback.
//!
//! This is the whole path that every call and every event takes: token, Host, route, server, log line, metrics. It is
//! worth watching because each of its parts can be fast while their sum is not. The figures hold the kernel's work and
//! the wake-ups of two threads, so the same exchange without a gateway is next to each: what counts is the difference.
//! Single events and bursts are apart, because a proxy that is good at one may still write sixteen times for the other.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use test_support::bench::{Gate, TOKEN};

const CALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{}}}"#;
const EVENT: &str = "data: 0123456789012345678901234567890123456789012345678901234567890123456789\n\n";
const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// One end of a connection.
struct Peer(TcpStream);

impl Peer {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("a socket");
        Self(stream)
    }

    fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).expect("the peer reads");
    }

    /// Reads until `end` has come `times` times.
    fn expect(&mut self, end: &str, times: usize) {
        let mut seen = String::new();
        let mut bytes = [0; 16 * 1024];
        while seen.matches(end).count() < times {
            let n = self.0.read(&mut bytes).expect("the peer writes");
            assert!(n > 0, "the peer closed after {seen:?}");
            seen.push_str(str::from_utf8(&bytes[..n]).expect("text"));
        }
    }
}

/// A client, and the server that its requests reach: both are played by the thread that measures.
fn pair(client_of: SocketAddr, server: &TcpListener, request: &str) -> (Peer, Peer) {
    let mut client = Peer::new(TcpStream::connect(client_of).expect("a listener"));
    client.send(request);
    let (behind, _) = server.accept().expect("a connection");
    (client, Peer::new(behind))
}

fn end_to_end(criterion: &mut Criterion) {
    let server = TcpListener::bind("127.0.0.1:0").expect("a port");
    let direct = server.local_addr().expect("an address");
    let servers = json!({ "db": { "url": format!("http://{direct}/db") } });
    let gate = Gate::start(servers, json!({ "bench": TOKEN }));

    let request = |method, body: &str| {
        let length = body.len();
        format!(
            "{method} /db HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
    };
    let call = request("POST", CALL);
    let reply = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1024\r\n\r\n{}}}",
        "r".repeat(1023)
    );

    let mut group = criterion.benchmark_group("end_to_end");
    for (way, addr) in [("direct", direct), ("gate", gate.addr())] {
        let (mut client, mut behind) = pair(addr, &server, &call);
        behind.expect(CALL, 1);
        behind.send(&reply);
        client.expect("r}", 1);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("call", way), |bencher| {
            bencher.iter(|| {
                client.send(&call);
                behind.expect(CALL, 1);
                behind.send(&reply);
                client.expect("r}", 1);
            });
        });
        drop((client, behind));

        for burst in [1, 16] {
            let (mut client, mut behind) = pair(addr, &server, &request("GET", ""));
            behind.expect("\r\n\r\n", 1);
            behind.send(STREAM_HEAD);
            client.expect("\r\n\r\n", 1);
            let chunks = format!("{:x}\r\n{EVENT}\r\n", EVENT.len()).repeat(burst);
            group.throughput(Throughput::Elements(burst as u64));
            group.bench_function(BenchmarkId::new(format!("{burst} events"), way), |bencher| {
                bencher.iter(|| {
                    behind.send(&chunks);
                    client.expect("\n\n\r\n", burst);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, end_to_end);
criterion_main!(benches);
