//! From a path to what is served there, for paths as clients and as scanners send them.
//!
//! Every request comes by here before its token is known, so a stranger decides how often and with what. It is worth
//! watching because both steps look at each byte of the path: their time must follow its length and nothing else, and
//! stay within tens of nanoseconds for the short paths of MCP.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sluicegate::{downstream::path::is_canonical, endpoints::table};

fn routing(criterion: &mut Criterion) {
    let long = format!("/{}", "a/%20".repeat(1_600));
    let paths = [
        ("server", "/database/mcp"),
        ("health", "/health/ready"),
        ("unknown", "/wp-admin/setup-config.php"),
        ("not canonical", "/database/%2e%2e/mcp"),
        ("8 KB of escapes", &long),
    ];
    let mut group = criterion.benchmark_group("routing");
    for (name, path) in paths {
        group.throughput(Throughput::Bytes(path.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                let path = black_box(path);
                is_canonical(path).then(|| black_box(table::find(path)));
            });
        });
    }
    group.finish();
}

criterion_group!(benches, routing);
criterion_main!(benches);
