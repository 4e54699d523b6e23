//! The clock of the machine is set while the gateway runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU32, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use proptest::{prelude::*, sample::select, strategy::ValueTree, test_runner::TestRunner};
use serde_json::{Value, json};
use sluicegate::clock::Clock;

use crate::{
    harness::{CI, DEV, Gate, Upstream, get, open_stream, passes, post, soon},
    numbered::from_env,
    recorder::Recorder,
    users::{CHEAP_HASHES, Tokens, bare, log_in},
};

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

const DAY: i64 = 86_400;

/// Where the clock is set to: somewhere within 400 days, or about where something ends.
fn any_moment() -> impl Strategy<Value = i64> {
    let ends = select(vec![0, 900, 3_600, 5 * DAY, 400 * DAY, -400 * DAY]);
    prop_oneof![-400 * DAY..=400 * DAY, (ends, -2..=2_i64).prop_map(|(end, near)| end + near), 0..=1_800_i64]
}

/// A login's tokens, and when they were made.
struct Made {
    tokens: Tokens,
    at: i64,
    login_at: i64,
}

/// A clock that is set anywhere within 400 days, again and again: no token is good beyond its time, as the gateway has seen it,
/// and each is good within it.
#[tokio::test]
async fn no_login_is_good_beyond_its_time_wherever_the_clock_is_set() {
    let server = Recorder::start().await;
    let mut runner = TestRunner::default();
    let began = 1_800_000_000;
    let (mut good, mut refused) = (0, 0);
    for round in 0..from_env("SLUICEGATE_CLOCKS", 40) {
        let offset = Arc::new(AtomicI64::new(0));
        let of_clock = Arc::clone(&offset);
        let clock = Clock::by(move || {
            UNIX_EPOCH + Duration::from_secs((began + of_clock.load(Ordering::Relaxed)).unsigned_abs())
        });
        let moments = prop::collection::vec(any_moment(), 12).new_tree(&mut runner).unwrap().current();
        // Half of the clocks go forward as clocks do, by leaps.
        let mut moments = moments;
        if round % 2 == 0 {
            moments.sort_unstable();
        }
        offset.store(moments[0], Ordering::Relaxed);
        let config = json!({
            "proxy": { "auth": {
                "users": { "alice": { "passwordHash": CHEAP_HASHES[0] } },
                "sessions": { "accessTtl": "15m", "refreshTtl": "1h", "maxAge": "5days" },
            } },
            "mcpServers": { "db": { "url": server.url("/mcp") } },
        });
        let gate = Gate::start_by(config, Duration::ZERO, clock).await;
        let mut latest = i64::MIN;
        let mut made: Vec<Made> = Vec::new();
        for (step, moment) in moments.iter().copied().enumerate() {
            offset.store(moment, Ordering::Relaxed);
            // It goes on and never back: what was over at any time that was seen stays over.
            latest = latest.max(moment);
            let now = latest;
            for made in &made {
                let is_in_time = now < made.at + 900 && now < made.login_at + 5 * DAY;
                let (status, _, _) = gate.ask(&post("/db", &made.tokens.session, "", "{}")).await;
                let what = format!("session token of {} at {now}, {moments:?}", made.at);
                assert_eq!(status, if is_in_time { 200 } else { 401 }, "{what}");
                *if is_in_time { &mut good } else { &mut refused } += 1;
            }
            let mut next = Vec::new();
            for made in made.drain(..) {
                let is_in_time = now < made.at + 3_600 && now < made.login_at + 5 * DAY;
                let body = bare("/auth/refresh", &json!({ "refreshToken": made.tokens.refresh }));
                let (status, _, body) = gate.ask(&body).await;
                let what = format!("refresh token of {} at {now}, {moments:?}", made.at);
                assert_eq!(status, if is_in_time { 200 } else { 401 }, "{what}");
                *if is_in_time { &mut good } else { &mut refused } += 1;
                if let (true, Ok(answer)) = (is_in_time, serde_json::from_str::<Value>(&body)) {
                    let text = |key: &str| answer[key].as_str().unwrap().to_owned();
                    let tokens = Tokens { session: text("token"), refresh: text("refreshToken") };
                    next.push(Made { tokens, at: now, login_at: made.login_at });
                }
            }
            made = next;
            if step % 2 == 0 {
                let tokens = log_in(&mut gate.client().await, "alice").await;
                made.push(Made { tokens, at: now, login_at: now });
            }
        }
    }
    println!("{good} good in their time, {refused} refused beyond it");
    assert!(good > 20 && refused > 20, "{good} {refused}");
}
