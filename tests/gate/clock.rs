//! The clock of the machine is set while the gateway runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde_json::json;
use sluicegate::clock::Clock;

use crate::harness::{CI, DEV, Gate, Upstream, get, open_stream, passes, soon};

/// A machine whose clock is set back, or that is put back to a state of before.
#[tokio::test]
async fn a_clock_that_goes_back_revives_no_token() {
    let server = Upstream::bind().await;
    let began = SystemTime::now();
    let hour = Duration::from_secs(60 * 60);
    let expiring = |after: Duration| humantime::format_rfc3339_millis(began + after).to_string();
    let config = json!({
        "proxy": { "auth": { "kind": "bearer_token", "tokens": {
            "dev": { "value": DEV, "expires": expiring(hour) },
            "ci": { "value": CI, "expires": expiring(3 * hour) },
        } } },
        "mcpServers": { "db": { "url": server.url("/mcp") } },
    });
    // Hours that the clock is ahead.
    let ahead = Arc::new(AtomicU32::new(0));
    let of_clock = Arc::clone(&ahead);
    let clock = Clock::by(move || SystemTime::now() + of_clock.load(Ordering::Relaxed) * hour);
    let mut gate = Gate::start_by(config.clone(), Duration::ZERO, clock).await;
    let (mut cut, _behind_cut) = open_stream(gate.addr, &server, DEV).await;
    let (mut kept, mut behind_kept) = open_stream(gate.addr, &server, CI).await;

    // Nobody asks while it has expired: the stream ends, and that is all.
    ahead.store(2, Ordering::Relaxed);
    soon("the cut", cut.rest()).await;
    ahead.store(0, Ordering::Relaxed);
    let line =
        "The clock went back: tokens expire by the latest time that it showed; if that was wrong, restart";
    gate.log.line(line, &[("level", json!("WARN"))]).await;
    for reloads in 0..2 {
        assert_eq!(gate.ask(&get("/db", DEV, "")).await.0, 401, "revived after {reloads} reloads");
        passes(&mut behind_kept, &mut kept, "data: 1\n\n").await;
        gate.reload(config.clone());
    }
}

/// What Prometheus warns by is what the gateway closes tokens by.
#[tokio::test]
async fn when_a_token_expires_is_told_by_the_clock_that_it_expires_by() {
    let began = SystemTime::now();
    let hour = Duration::from_secs(60 * 60);
    let expires = humantime::format_rfc3339_millis(began + hour).to_string();
    let config = json!({
        "proxy": { "auth": { "kind": "bearer_token", "tokens": {
            "dev": { "value": DEV, "expires": expires },
            "ci": { "value": CI, "roles": ["metrics"] },
        } } },
        "mcpServers": {},
    });
    let clock = Clock::by(move || SystemTime::now() + 2 * hour);
    let gate = Gate::start_by(config, Duration::ZERO, clock).await;
    let (status, _, metrics) = gate.ask(&get("/metrics", CI, "")).await;
    assert_eq!(status, 200);
    let line = metrics.lines().find(|line| line.starts_with("sluicegate_token_expires_seconds{")).unwrap();
    assert!(line.contains(r#""dev""#) && line.contains("} -"), "{line}");
}
