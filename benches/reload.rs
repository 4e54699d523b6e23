//! How long a changed config takes to be in force with 10,000 tokens.
//!
//! A reload runs beside the requests of a gateway that is under load, and whoever revokes a token waits for it. It is worth
//! watching because it is the one thing that grows with the size of a config: a check per pair of tokens somewhere would
//! stay unseen with ten of them and take minutes with ten thousand. Reading and the whole are apart, so that one knows
//! where to look.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Map, json};
use sha2::{Digest, Sha256};
use test_support::bench::{Gate, TOKEN};

const TOKENS: usize = 10_000;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn reload(criterion: &mut Criterion) {
    let entry = |i: usize| {
        let digest = hex(&Sha256::digest(format!("{TOKEN}{i}")));
        (format!("client-{i}"), json!({ "sha256": digest }))
    };
    let tokens: Map<_, _> = (0..TOKENS).map(entry).collect();
    let servers = json!({ "db": { "url": "http://127.0.0.1:9/mcp" } });
    let mut gate = Gate::start(servers, tokens.into());

    let mut group = criterion.benchmark_group("reload");
    group.sample_size(20);
    group.bench_function("read 10,000 tokens", |bencher| {
        bencher.iter(|| black_box(test_support::bench::load(&gate.config)));
    });
    group.bench_function("read and take 10,000 tokens", |bencher| bencher.iter(|| gate.reload()));
    group.finish();
}

criterion_group!(benches, reload);
criterion_main!(benches);
