//! How long a changed config takes to be in force with 10,000 tokens, and with 1,000 rules: at most 50 ms.
//!
//! A reload runs beside the requests of a gateway that is under load, and whoever revokes a token waits for it. It is worth
//! watching because it is the one thing that grows with the size of a config: a check per pair of tokens somewhere would
//! stay unseen with ten of them and take minutes with ten thousand. Reading and the whole are apart, so that one knows
//! where to look.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use test_support::bench::{Gate, TOKEN};

const TOKENS: usize = 10_000;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A thousand rules for tools, a hundred of each server, none of which is another's twice.
fn tool_rules() -> Value {
    let rule = |server: usize, rule: usize| {
        let role = format!("role-{}", rule % 20);
        (
            format!("tool_{server}_{rule}_*"),
            json!({ "roles": [role, "admin"], "hide": rule.is_multiple_of(2) }),
        )
    };
    let server = |number: usize| {
        let tools: Map<_, _> = (0..100).map(|of_server| rule(number, of_server)).collect();
        (format!("s{number}"), json!({ "url": "http://127.0.0.1:9/mcp", "tools": tools }))
    };
    (0..10).map(server).collect::<Map<_, _>>().into()
}

/// A thousand servers, each with roles and tags.
fn roles_and_tags() -> Value {
    let server = |number: usize| {
        let (roles, tags) = (format!("role-{}", number % 20), format!("tag-{}", number % 30));
        let rule =
            json!({ "url": "http://127.0.0.1:9/mcp", "roles": [roles, "admin"], "tags": [tags, "all"] });
        (format!("s{number}"), rule)
    };
    (0..1_000).map(server).collect::<Map<_, _>>().into()
}

/// A hundred callers with roles and tags.
fn callers() -> Value {
    let entry = |number: usize| {
        let digest = hex(&Sha256::digest(format!("{TOKEN}{number}")));
        let (role, tag) = (format!("role-{}", number % 20), format!("tag-{}", number % 30));
        (format!("client-{number}"), json!({ "sha256": digest, "roles": [role], "tags": [tag, "all"] }))
    };
    (0..100).map(entry).collect::<Map<_, _>>().into()
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
    for (what, servers) in
        [("1,000 tool rules", tool_rules()), ("1,000 rules of roles and tags", roles_and_tags())]
    {
        let mut gate = Gate::start(servers, callers());
        group.bench_function(format!("read {what}"), |bencher| {
            bencher.iter(|| black_box(test_support::bench::load(&gate.config)));
        });
        group.bench_function(format!("read and take {what}"), |bencher| bencher.iter(|| gate.reload()));
    }
    group.finish();
}

criterion_group!(benches, reload);
criterion_main!(benches);
