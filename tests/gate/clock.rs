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

/// Whoever reads the log learns in time that a token ends, and once.
#[tokio::test]
async fn the_log_says_in_time_that_a_credential_ends() {
    let began = SystemTime::now();
    let hour = Duration::from_secs(60 * 60);
    let expiring = |after: Duration| humantime::format_rfc3339_millis(began + after).to_string();
    let config = json!({
        "proxy": { "auth": { "kind": "bearer_token", "tokens": {
            "dev": { "id": "only", "value": DEV, "expires": expiring(8 * 24 * hour) },
            "ci": [{ "value": CI }, { "id": "old", "value": "an-old-token-0123456789", "expires": expiring(3 * 24 * hour) }],
            "gone": { "value": "a-token-that-is-over", "expires": expiring(hour) },
        } } },
        "mcpServers": {},
    });
    let ahead = Arc::new(AtomicU32::new(2));
    let of_clock = Arc::clone(&ahead);
    let clock = Clock::by(move || SystemTime::now() + of_clock.load(Ordering::Relaxed) * hour);
    let mut gate = Gate::start_by(config.clone(), Duration::ZERO, clock).await;
    let week = "A credential of a token expires within seven days";
    let day = "A credential of a token expires within a day";
    let over = "A credential of a token has expired";
    let of = |name: &str, id: &str| {
        [("level", json!("WARN")), ("token_name", json!(name)), ("credential", json!(id))]
    };
    let line = gate.log.line(week, &of("ci", "old")).await;
    assert!(line["hint"].as_str().unwrap().contains("other credential"), "{line}");
    assert!(gate.log.all().iter().all(|line| line["token_name"] != "dev"));

    // What was said is not said again for a config that leaves the credential as it is.
    gate.reload(config);
    ahead.store(2 * 24 + 12, Ordering::Relaxed);
    let line = gate.log.line(week, &of("dev", "only")).await;
    assert!(line["hint"].as_str().unwrap().contains("sluicegate token rotate"), "{line}");
    gate.log.line(day, &of("ci", "old")).await;
    ahead.store(9 * 24, Ordering::Relaxed);
    gate.log.line(over, &of("ci", "old")).await;
    gate.log.line(over, &of("dev", "only")).await;
    let said = |msg: &str| gate.log.all().iter().filter(|line| line["msg"] == msg).count();
    assert_eq!(
        (said(week), said(day), said(over)),
        (2, 1, 2),
        "of what is over from the start nothing is said"
    );
}

/// A thousand tokens that end at once are a few lines, at the start as well as later.
#[tokio::test]
async fn many_credentials_that_end_at_once_are_a_few_lines() {
    let began = SystemTime::now();
    let hour = Duration::from_secs(60 * 60);
    let tokens: serde_json::Map<String, serde_json::Value> = (0..1000_u64)
        .map(|number| {
            let days = if number < 600 { 6 } else { 9 };
            let end =
                humantime::format_rfc3339_millis(began + days * 24 * hour + Duration::from_millis(number));
            let token =
                json!({ "value": format!("a-token-of-many-{number:08}"), "expires": end.to_string() });
            (format!("t{number}"), token)
        })
        .collect();
    let config = json!({ "proxy": { "auth": { "tokens": tokens } }, "mcpServers": {} });
    let ahead = Arc::new(AtomicU32::new(0));
    let of_clock = Arc::clone(&ahead);
    let clock = Clock::by(move || SystemTime::now() + of_clock.load(Ordering::Relaxed) * hour);
    let gate = Gate::start_by(config, Duration::ZERO, clock).await;
    let more = "More credentials of tokens expire: `sluicegate token list` shows all";
    let week = "A credential of a token expires within seven days";
    gate.log.line(more, &[("within_seven_days", json!(592)), ("within_a_day", json!(0))]).await;
    ahead.store(3 * 24, Ordering::Relaxed);
    gate.log.line(more, &[("within_seven_days", json!(392)), ("expired", json!(0))]).await;
    ahead.store(10 * 24, Ordering::Relaxed);
    gate.log.line(more, &[("expired", json!(992))]).await;
    let lines = gate.log.all();
    let said = |msg: &str| lines.iter().filter(|line| line["msg"] == msg).count();
    assert_eq!((said(week), said(more)), (16, 3));
}
