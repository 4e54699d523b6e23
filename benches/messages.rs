//! What it costs to read a message, and to give it the number that a shared server sees.
//!
//! Every message of a bridged call comes by here, some of them twice, so this is what a strict reading may not make dearer.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::unwrap_used, reason = "what the benchmark makes itself can be read")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::mcp::message::{Message, Part};

/// A call of MCP 2026-07-28 with these arguments.
fn call(arguments: &str) -> Bytes {
    format!(
        r#"{{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{{"name":"search_documents","arguments":{arguments},"_meta":{{"progressToken":17,"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{{}},"io.modelcontextprotocol/clientInfo":{{"name":"bench","version":"1.0"}}}}}}}}"#
    )
    .into()
}

fn messages(criterion: &mut Criterion) {
    let rows: Vec<_> = (0..1_000)
        .map(|n| format!(r#"{{"id":{n},"name":"row {n}","tags":["a","b"],"score":{n}.5,"ok":true}}"#))
        .collect();
    let calls = [
        ("call", call(r#"{"query":"quarterly report","limit":10}"#)),
        ("100 KB of text", call(&format!(r#"{{"text":"{}"}}"#, "All of it is text. ".repeat(5_200)))),
        ("100 KB of lines", call(&format!(r#"{{"text":"{}"}}"#, "All of it is text, with line breaks.\\n".repeat(2_650)))),
        ("70 KB of rows", call(&format!(r#"{{"rows":[{}]}}"#, rows.join(",")))),
        ("response", r#"{"jsonrpc":"2.0","id":17,"result":{"content":[{"type":"text","text":"42 documents were found."}],"isError":false,"resultType":"complete"}}"#.into()),
    ];
    let mut group = criterion.benchmark_group("messages");
    for (name, text) in calls {
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("read", name), |bencher| {
            bencher.iter(|| Message::parse(black_box(text.clone())).unwrap());
        });
        let message = Message::parse(text).unwrap();
        let parts = [(Part::Id, "70368744177663".into()), (Part::ProgressToken, "70368744177663".into())];
        group.bench_function(BenchmarkId::new("rename", name), |bencher| {
            bencher.iter(|| black_box(&message).with(&parts).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, messages);
criterion_main!(benches);
