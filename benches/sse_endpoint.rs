//! Every HTTP+SSE session opens through the endpoint rewriter, the only place where the gate looks into a stream.
//! It is worth watching because a slip here is paid by each session twice: in the time to its first event, and, if
//! the rewriter failed to step aside afterwards, on every later byte. The last benchmark guards the second part: its
//! time must not depend on the size of the chunk.

#![allow(clippy::expect_used, reason = "a bench that cannot go on ends")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::{
    mcp::{endpoint::EndpointRewriter, session::SessionKey},
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
            key.seal_message("db", Some("dev"), path, query)
        })
    };
    let mut group = c.benchmark_group("sse_endpoint");

    group.bench_function("seal only", |b| {
        b.iter(|| {
            key.seal_message("db", Some("dev"), black_box("/messages/"), Some("session_id=0123456789abcdef"))
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
    group.finish();
}

criterion_group!(benches, sse_endpoint);
criterion_main!(benches);
