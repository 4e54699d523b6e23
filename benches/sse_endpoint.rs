//! Every HTTP+SSE session opens through the endpoint rewriter, and every stream that answers a GET is searched for another
//! endpoint event. It is worth watching because a slip here is paid twice: in the time to the first event of a session, and
//! on every later byte. The last benchmarks guard the second part: they must cost some 20 ns an event and 20 GiB/s, which is
//! next to nothing beside the 5 µs that an event takes through the sockets.

#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::{
    mcp::{
        seal::{SessionKey, SessionOwner},
        sse::{endpoint::EndpointRewriter, endpoint_guard::EndpointGuard},
    },
    secret::Secret,
};
use url::Url;

const ENDPOINT: &[u8] =
    b"event: endpoint\r\ndata: /messages/?session_id=0123456789abcdef0123456789abcdef\r\n\r\n";

fn sse_endpoint(c: &mut Criterion) {
    let upstream: Url = "http://127.0.0.1:3000/sse".parse().expect("a URL");
    let key = SessionKey::from_secret(&Secret::new("bench".into()));
    let rewriter = || {
        EndpointRewriter::new(upstream.clone(), |path: &str, query: Option<&str>| {
            key.seal_message("db", SessionOwner::Token("dev"), path, query)
        })
    };
    let mut group = c.benchmark_group("sse_endpoint");

    group.bench_function("seal only", |b| {
        b.iter(|| {
            key.seal_message(
                "db",
                SessionOwner::Token("dev"),
                black_box("/messages/"),
                Some("session_id=0123456789abcdef"),
            )
        });
    });
    group.bench_function("one chunk", |b| {
        b.iter_batched_ref(
            rewriter,
            |r| r.push(Bytes::from_static(black_box(ENDPOINT))),
            BatchSize::SmallInput,
        );
    });
    group.bench_function("byte by byte", |b| {
        b.iter_batched_ref(
            rewriter,
            |r| ENDPOINT.chunks(1).for_each(|byte| drop(black_box(r.push(Bytes::from_static(byte))))),
            BatchSize::SmallInput,
        );
    });
    let pings = Bytes::from(": ping - 2026-11-21 10:30:00\r\n\r\n".repeat(256));
    group.throughput(Throughput::Bytes(pings.len() as u64));
    group.bench_function("8 KiB of comments before it", |b| {
        b.iter_batched_ref(rewriter, |r| r.push(pings.clone()), BatchSize::SmallInput);
    });
    group.bench_function("8 KiB after it", |b| {
        let mut done = rewriter();
        done.push(Bytes::from_static(ENDPOINT)).expect("the endpoint event is good");
        b.iter(|| done.push(black_box(pings.clone())));
    });
    let text = Bytes::from(format!("event: message\ndata: {{\"text\":\"{}\"}}\n\n", "a text ".repeat(1170)));
    let event = "event: message\nid: 7\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{\"progressToken\":1,\"progress\":50}}\n\n";
    for (name, bytes) in [("guard, 8 KiB of text", &text[..]), ("guard, an event", event.as_bytes())] {
        let mut guard = EndpointGuard::default();
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| b.iter(|| guard.look(black_box(bytes))));
    }
    group.finish();
}

criterion_group!(benches, sse_endpoint);
criterion_main!(benches);
