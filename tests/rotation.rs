//! Tokens rotate in the config file while streams run: what is touched ends soon, what is not loses nothing.
//!
//! Real time: these tests measure, and at full size they hold figures that the project promises.
//!
//! Small by default. The figures that the project promises come from the full size:
//!
//! ```text
//! SLUICEGATE_ROTATIONS=1000 SLUICEGATE_STREAMS=500 cargo test --release --test rotation -- --nocapture --test-threads=1
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
};

use test_support::{
    harness::{post, soon},
    numbered::{
        PACE, becomes, connect, count_events, from_env, percentile, raise_file_limit, server, status, stream,
    },
    process::{Process, text},
};

/// One of these tests at a time: each measures.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Token names that streams and requests use and no rotation touches, and such as are replaced in turn.
const NAMES: usize = 10;

fn rotations(default: usize) -> usize {
    from_env("SLUICEGATE_ROTATIONS", default)
}

/// Whether the promised figures are asserted, not only printed: a loaded machine cannot keep them.
fn full_size() -> bool {
    rotations(0) >= 1000
}

fn stays(n: usize) -> String {
    format!("stays-{}-0123456789abcdef", n % NAMES)
}

fn turns(n: usize, generation: usize) -> String {
    format!("turns-{}-generation-{generation}", n % NAMES)
}

/// The config behind `rotation` rotations, each of which replaced the token of the next name.
fn config(server: SocketAddr, rotation: usize) -> Value {
    let mut tokens = json!({});
    for name in 0..NAMES {
        tokens[format!("stays-{name}")] = json!(stays(name));
        tokens[format!("turns-{name}")] = json!(turns(name, generation(name, rotation)));
    }
    json!({
        "proxy": {
            "workers": 2,
            "auth": { "kind": "bearer_token", "tokens": tokens },
            "log": { "level": "warn" }
        },
        "mcpServers": { "db": { "url": format!("http://{server}/mcp") } }
    })
}

/// How often the token of `name` was replaced after `rotation` rotations.
fn generation(name: usize, rotation: usize) -> usize {
    (rotation + NAMES - 1 - name) / NAMES
}

async fn start(server: SocketAddr) -> Process {
    raise_file_limit();
    let mut first = config(server, 0);
    // The line that says where it listens is of level info; the first reload turns the rest off.
    first["proxy"]["log"] = json!({ "level": "info" });
    Process::start(first).await
}

/// Sends requests with valid tokens, on a connection that is kept and on new ones in turn, until `stop`; returns how
/// many there were and how many failed.
async fn requests(addr: SocketAddr, first: usize, stop: Arc<AtomicBool>) -> (usize, usize) {
    let (mut sent, mut failed) = (0, 0);
    let mut kept = connect(addr).await;
    while !stop.load(Ordering::Relaxed) {
        let request = post("/db", &stays(first + sent), "", "{}");
        let status = if sent % 2 == 0 {
            kept.send(request).await;
            kept.response().await.0
        } else {
            let mut fresh = connect(addr).await;
            fresh.send(request).await;
            fresh.response().await.0
        };
        sent += 1;
        failed += usize::from(status != 200);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (sent, failed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_requests_of_tokens_that_stay_notice_nothing_of_those_that_rotate() {
    let _alone = ALONE.lock().await;
    let (rotations, streams) = (rotations(30), from_env("SLUICEGATE_STREAMS", 40));
    let server = server().await;
    let gate = start(server).await;
    let addr = gate.addr;

    // Half of the streams run by tokens that stay, for the whole test.
    let mut untouched = JoinSet::new();
    let counts: Vec<Arc<AtomicU64>> = (0..streams.div_ceil(2)).map(|_| Arc::default()).collect();
    for (n, count) in counts.iter().enumerate() {
        let count = Arc::clone(count);
        let (status, mut client) = stream(addr, &stays(n)).await;
        assert_eq!(status, 200);
        untouched.spawn(async move { count_events(&mut client, &count).await });
    }
    // The other half by tokens that rotate: each is cut when its token goes, and begins again with the next one.
    let live = Arc::new(AtomicUsize::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let cuts = Arc::new(AtomicUsize::new(0));
    let mut touched = JoinSet::new();
    for n in 0..streams / 2 {
        let (live, stop, cuts) = (Arc::clone(&live), Arc::clone(&stop), Arc::clone(&cuts));
        touched.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let token = turns(n, generation(n % NAMES, live.load(Ordering::Relaxed)));
                let (status, mut client) = stream(addr, &token).await;
                // Its token may be replaced between the look and the request.
                if status == 200 {
                    count_events(&mut client, &AtomicU64::new(0)).await;
                    cuts.fetch_add(1, Ordering::Relaxed);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
    let mut callers = JoinSet::new();
    for n in 0..4 {
        callers.spawn(requests(addr, n, Arc::clone(&stop)));
    }

    let began = Instant::now();
    let mut client = connect(addr).await;
    for rotation in 1..=rotations {
        let name = (rotation - 1) % NAMES;
        let new = generation(name, rotation);
        gate.save(config(server, rotation));
        becomes(&mut client, &turns(name, new), 200).await;
        live.store(rotation, Ordering::Relaxed);
        assert_eq!(status(&mut client, &turns(name, new - 1)).await, 401, "the old token is still valid");
    }
    let took = began.elapsed();

    // Every stream that was not touched is alive: it brings one more event, in its turn.
    let before: Vec<u64> = counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
    soon("one more event on each stream", async {
        while counts.iter().zip(&before).any(|(count, before)| count.load(Ordering::Relaxed) <= *before) {
            tokio::time::sleep(PACE).await;
        }
    })
    .await;
    assert!(untouched.try_join_next().is_none(), "a stream of a token that stayed ended");
    stop.store(true, Ordering::Relaxed);
    let (mut sent, mut failed) = (0, 0);
    while let Some(caller) = callers.join_next().await {
        let (of_caller, failed_of_caller) = caller.unwrap();
        sent += of_caller;
        failed += failed_of_caller;
    }
    let events: u64 = counts.iter().map(|count| count.load(Ordering::Relaxed)).sum();
    println!(
        "{rotations} rotations in {:.1} s; {} untouched streams: {events} events, 0 lost, doubled or out of order; \
         {} streams cut with their token; {sent} requests with valid tokens, {failed} failed",
        took.as_secs_f32(),
        counts.len(),
        cuts.load(Ordering::Relaxed),
    );
    assert!(sent > rotations, "too few requests to say anything: {sent}");
    assert!(cuts.load(Ordering::Relaxed) > 0, "no stream was touched");
    assert_eq!(failed, 0, "requests with valid tokens failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_token_is_refused_and_its_streams_end_soon() {
    /// Streams by each token that is removed.
    const STREAMS: usize = 5;
    let _alone = ALONE.lock().await;
    let rotations = rotations(20).min(200);
    let server = server().await;
    let gate = start(server).await;
    let mut client = connect(gate.addr).await;
    let (mut refused, mut ended) = (Vec::new(), Vec::new());
    for rotation in 1..=rotations {
        let name = (rotation - 1) % NAMES;
        let old = turns(name, generation(name, rotation) - 1);
        let (tell, mut told) = mpsc::channel(STREAMS);
        for _ in 0..STREAMS {
            let (status, mut client) = stream(gate.addr, &old).await;
            assert_eq!(status, 200);
            let tell = tell.clone();
            tokio::spawn(async move {
                count_events(&mut client, &AtomicU64::new(0)).await;
                tell.send(Instant::now()).await.unwrap();
            });
        }
        let new = gate.path.with_extension("next");
        std::fs::write(&new, text(config(server, rotation))).unwrap();
        std::fs::rename(&new, &gate.path).unwrap();
        let renamed = Instant::now();
        becomes(&mut client, &old, 401).await;
        refused.push(renamed.elapsed());
        for _ in 0..STREAMS {
            let at = soon("the end of a stream", told.recv()).await.unwrap();
            ended.push(at - renamed);
        }
    }
    refused.sort_unstable();
    ended.sort_unstable();
    for (what, times) in [("first 401", &refused), ("end of stream", &ended)] {
        println!(
            "{rotations} removals, rename to {what}: p50 {:?}, p99 {:?}, longest {:?} ({} samples)",
            percentile(times, 50),
            percentile(times, 99),
            percentile(times, 100),
            times.len()
        );
    }
    if full_size() {
        assert!(percentile(&refused, 99) <= Duration::from_millis(250));
        assert!(percentile(&ended, 99) <= Duration::from_secs(1));
    }
}
