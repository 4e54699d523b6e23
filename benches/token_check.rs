//! What one token check costs.
//!
//! It runs once for every request, before anything else is known about the caller, so it is the one piece of work
//! that a stranger can make the gateway do as often as he likes. It must stay far below the cost of reading the
//! request (at most 150 ns), must not grow with the number of tokens (10,000 within 1.2 times of one), and must
//! cost the same for a hit and a miss.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sha2::{Digest, Sha256};
use sluicegate::{
    config::{CallerLimits, Credential},
    identity::token_table::TokenTable,
};

/// As long as 32 random bytes in base64url, and as different from each other.
fn token(kind: &str, number: usize) -> String {
    format!("{kind}{number:043}")
}

fn credential(token: &str) -> Credential {
    Credential {
        token_name: "bench".into(),
        is_tenant: false,
        id: None,
        digest: Sha256::digest(token).into(),
        expires: None,
        roles: vec![],
        decoy: false,
        limits: CallerLimits::ALL,
    }
}

fn token_check(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("token_check");
    for count in [1, 100, 10_000] {
        let known: Vec<_> = (0..count).map(|i| token("k", i)).collect();
        let unknown: Vec<_> = (0..count).map(|i| token("u", i)).collect();
        let table = TokenTable::build(&known.iter().map(|token| credential(token)).collect::<Vec<_>>());
        for (outcome, presented) in [("hit", &known), ("miss", &unknown)] {
            group.bench_function(BenchmarkId::new(outcome, count), |bencher| {
                // Every token in turn: one alone would find its buckets in the nearest cache each time.
                let mut turn = presented.iter().cycle();
                bencher.iter(|| turn.next().map(|token| table.find(black_box(token.as_bytes()))));
            });
        }
    }
    group.finish();
}

criterion_group!(benches, token_check);
criterion_main!(benches);
