//! What a request pays for the credential that its server is called with, where each caller has one of their own.
//!
//! It is on the path of every request of such a server: one look-up (at most 300 ns), which must not grow with how many credentials
//! there are.
#![allow(missing_docs, reason = "criterion's macros make public items")]
#![allow(clippy::expect_used, reason = "what cannot be set up ends the benchmark")]

use std::{hint::black_box, io::Write as _, path::Path, sync::Arc, time::SystemTime};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use serde_json::json;
use sluicegate::{
    clock::Clock,
    config::{self, Level, LogFormat, LoginStorage, LoginStore},
    credentials::ServerCredentials,
    identity::{
        Principal,
        login::{Logins, store::Opening, upstream::UpstreamOwner},
    },
    ledger::{Capacity, Ledger},
    mcp::seal::SessionKey,
    observe::{Log, Metrics, Observer},
    state::Live,
};

/// The credentials of a server at which each caller enters a token.
fn credentials() -> Arc<ServerCredentials> {
    let config = json!({
        "proxy": { "baseUrl": "http://localhost", "auth": { "kind": "oauth", "tokens": { "dev": "dev-token-0123456789abcdef" } } },
        "mcpServers": { "db": { "url": "http://127.0.0.1:9/mcp", "upstreamAuth": { "kind": "user_token", "header": "Authorization" } } },
    });
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(config.to_string().as_bytes()).expect("written");
    let snapshot = config::load(file.path(), &|_| None).snapshot.expect("a config");
    let metrics = Metrics::new().expect("metrics");
    let dropped = metrics.log_lines_dropped.clone();
    let log = Log::start(Level::Error, LogFormat::Json, false, Box::new(std::io::sink()), dropped);
    let observer = Arc::new(Observer::new(log.expect("a log"), metrics));
    let ledger = Arc::new(Ledger::new(|_| Capacity { total: 1, per_owner: 0 }));
    let logins = Arc::new(Logins::new().expect("randomness"));
    let in_memory = LoginStore { storage: LoginStorage::Memory, ..LoginStore::default() };
    let opening = Opening { now: &SystemTime::now, is_wanted: &|| true };
    logins.keep_store(logins.open_store(&in_memory, Path::new(""), opening).expect("a store"));
    let key = SessionKey::random().expect("randomness");
    let of_process = (&Arc::new(Clock::default()), &logins);
    let live = Live::build(Arc::new(snapshot), None, &observer, &ledger, &key, of_process).expect("a config");
    live.entries["db"].credentials.clone().expect("credentials")
}

fn look_up(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("credential_look_up");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for count in [1, 100, 5_000] {
        let credentials = credentials();
        let callers: Vec<_> =
            (0..count).map(|number| Principal::User(format!("user-{number}").into())).collect();
        for caller in &callers {
            let owner = UpstreamOwner::Principal(caller.clone());
            runtime.block_on(credentials.set_token(&owner, "a-token-of-theirs")).expect("kept");
        }
        group.bench_function(BenchmarkId::new("ready", count), |bencher| {
            // Every caller in turn: one alone would be in the nearest cache each time.
            let mut turn = callers.iter().cycle();
            bencher.iter(|| {
                let caller = black_box(turn.next());
                caller.map(|caller| credentials.ready(caller).expect("it is ready"))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, look_up);
criterion_main!(benches);
