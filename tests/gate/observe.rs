//! What the log and the metrics say, and what a client cannot make them say.

use serde_json::{Value, json};

use crate::{
    harness::{CI, DEV, Gate, Upstream, get, post, until},
    recorder::Recorder,
};

fn keys(line: &Value) -> Vec<&str> {
    line.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn a_request_leaves_one_line_with_all_its_fields() {
    let server = Recorder::start().await;
    let gate =
        Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp"), "authTokens": ["dev"] } } }))
            .await;
    let mut client = gate.client().await;
    let peer = client.stream.local_addr().unwrap().to_string();
    client.send(post("/db/mcp?secret=1", DEV, "", r#"{"body":"secret"}"#)).await;
    client.response().await;
    let line = gate.log.line("Authenticated request", &[]).await;
    let text = gate.log.text();
    let order = [
        "time",
        "level",
        "msg",
        "token_name",
        "server",
        "method",
        "path",
        "status",
        "duration_ms",
        "bytes_out",
        "peer",
        "request_id",
    ];
    assert_eq!(keys(&line).len(), order.len(), "{line}");
    let mut at = 0;
    for key in order {
        let found =
            text[at..].find(&format!("\"{key}\":")).unwrap_or_else(|| panic!("{key} after {at}: {text}"));
        at += found;
    }
    let time = line["time"].as_str().unwrap();
    assert_eq!((time.len(), &time[10..11], &time[23..]), (24, "T", "Z"), "{time}");
    assert!(line["duration_ms"].as_f64().is_some_and(|ms| ms >= 0.0), "{line}");
    assert!(line["request_id"].as_str().is_some_and(|id| id.len() == 16), "{line}");
    for (key, value) in [
        ("level", json!("INFO")),
        ("token_name", json!("dev")),
        ("server", json!("db")),
        ("method", json!("POST")),
        ("path", json!("/db/mcp")),
        ("status", json!(200)),
        ("bytes_out", json!(2)),
        ("peer", json!(peer)),
    ] {
        assert_eq!(line[key], value, "{key}");
    }
    assert!(!text.contains("secret"), "neither query nor body: {text}");

    client.send(get("/db/mcp", CI, "")).await;
    client.response().await;
    let line = gate.log.line("Refused request", &[]).await;
    assert_eq!(
        (&line["reason"], &line["status"], &line["path"]),
        (&json!("insufficient_scope"), &json!(403), &json!("/db/mcp"))
    );

    // Refused after the token was accepted: it was the gateway that refused, not the server.
    client.send(get("/db/mcp", DEV, "Mcp-Session-Id: foreign\r\n")).await;
    client.response().await;
    let line = gate.log.line("Refused request", &[("reason", json!("session_not_found"))]).await;
    assert_eq!((&line["token_name"], &line["server"]), (&json!("dev"), &json!("db")));
    assert_eq!(gate.log.all().len(), 3);
}

#[tokio::test]
async fn an_event_stream_has_a_second_line_when_it_ends() {
    let server = Upstream::bind().await;
    let mut gate = Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp") } } })).await;
    for reason in ["upstream_end", "client_gone", "token_revoked"] {
        let mut client = gate.client().await;
        client.send(get("/db/mcp", DEV, "")).await;
        let mut behind = server.accept().await;
        behind.head().await;
        behind
            .send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n",
            )
            .await;
        client.head().await;
        client.chunk().await;
        until("the stream is counted", || {
            gate.metrics().contains("sluicegate_streams_open{server=\"db\"} 1")
        })
        .await;
        match reason {
            "upstream_end" => drop(behind),
            "client_gone" => drop(client),
            _ => {
                gate.reload(json!({
                    "proxy": { "auth": { "kind": "bearer_token", "tokens": { "ci": CI } } },
                    "mcpServers": { "db": { "url": server.url("/mcp") } },
                }));
                assert_eq!(client.rest().await, b"", "broken off without an end");
            }
        }
        let closed = gate.log.line("Stream closed", &[("reason", json!(reason))]).await;
        assert_eq!(
            (&closed["bytes_out"], &closed["token_name"], &closed["server"]),
            (&json!(9), &json!("dev"), &json!("db"))
        );
        assert!(closed["duration_ms"].is_number());
        let opened =
            gate.log.line("Authenticated request", &[("request_id", closed["request_id"].clone())]).await;
        assert_eq!(opened["status"], 200);
        until("the stream is gone", || gate.metrics().contains("sluicegate_streams_open{server=\"db\"} 0"))
            .await;
    }
}

#[tokio::test]
async fn the_metrics_of_the_contract_are_there() {
    let server = Recorder::start().await;
    let gate = Gate::start(json!({
        "proxy": { "auth": { "kind": "bearer_token", "tokens": {
            "alice": [
                { "id": "new", "value": "alice-new-0123456789abcdef" },
                { "id": "2026-01", "value": "alice-old-0123456789abcdef" },
            ],
            "dev": { "id": "dev.1", "value": DEV },
        } } },
        "mcpServers": { "db": { "url": server.url("/mcp") }, "down": { "url": Upstream::bind().await.url("/mcp") } },
    }))
    .await;
    for (path, token, status) in [
        ("/db/mcp", "alice-new-0123456789abcdef", 200),
        ("/db/mcp", "alice-old-0123456789abcdef", 200),
        ("/db/mcp", "alice-old-0123456789abcdef", 200),
        ("/down/mcp", DEV, 502),
        ("/db/mcp", "unknown", 401),
        ("/nope/mcp", DEV, 404),
    ] {
        assert_eq!(gate.ask(&post(path, token, "", "{}")).await.0, status, "{path}");
    }
    until("the last byte is counted", || {
        gate.metrics().contains("stream_bytes_total{direction=\"out\",server=\"db\"} 6")
    })
    .await;
    let metrics = gate.metrics();
    let wanted = [
        r#"requests_total{method="POST",server="db",status="200"} 3"#,
        r#"requests_total{method="POST",server="down",status="502"} 1"#,
        r#"requests_total{method="POST",server="other",status="401"} 1"#,
        r#"requests_total{method="POST",server="other",status="404"} 1"#,
        r#"request_duration_seconds_count 6"#,
        r#"request_duration_seconds_bucket{le="60"} 6"#,
        r#"streams_open{server="db"} 0"#,
        r#"stream_bytes_total{direction="in",server="db"} 6"#,
        r#"auth_refused_total{reason="invalid_token"} 1"#,
        r#"auth_refused_total{reason="not_found"} 1"#,
        r#"token_used_total{credential="new",token_name="alice"} 1"#,
        r#"token_used_total{credential="2026-01",token_name="alice"} 2"#,
        r#"token_used_total{credential="dev.1",token_name="dev"} 1"#,
        r#"config_reloads_total{result="success"} 0"#,
        r#"config_reloads_total{result="failure"} 0"#,
        "config_last_reload_successful ",
        "config_last_reload_timestamp_seconds ",
        r#"upstream_errors_total{kind="upstream_unreachable",server="down"} 1"#,
        "log_lines_dropped_total 0",
        "panics_total 0",
        // What has not happened is there all the same.
        r#"config_reloads_total{result="partial"} 0"#,
        r#"auth_refused_total{reason="forbidden_host"} 0"#,
        r#"stream_cut_total{reason="slow_reader"} 0"#,
        r#"http_rejected_total{reason="tls_handshake"} 0"#,
        r#"http_rejected_total{reason="tls_alert"} 0"#,
        r#"http_rejected_total{reason="framing"} 0"#,
        r#"http_rejected_total{reason="http2_flood"} 0"#,
        r#"upstream_errors_total{kind="upstream_timeout",server="db"} 0"#,
        r#"capacity_used{resource="sessions"} 0"#,
        r#"capacity_limit{resource="processes"} "#,
        r#"certificate_not_after_timestamp_seconds{name="proxy.tls"} 0"#,
        concat!(r#"build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        "config_hash ",
    ];
    for line in wanted {
        assert!(metrics.contains(&format!("\nsluicegate_{line}")), "{line}\n{metrics}");
    }
    // These have the names that every process has them by.
    #[cfg(target_os = "linux")]
    for line in ["process_cpu_seconds_total ", "process_resident_memory_bytes ", "process_open_fds "] {
        assert!(metrics.contains(&format!("\n{line}")), "{line}\n{metrics}");
    }
    for reset in ["alice-new", "alice-old", DEV, "127.0.0.1"] {
        assert!(!metrics.contains(reset), "{reset}\n{metrics}");
    }
}

#[tokio::test]
async fn a_status_that_a_server_makes_up_counts_for_its_class() {
    for (status, label) in [
        (200, "200"),
        (299, "2xx"),
        (304, "3xx"),
        (418, "4xx"),
        (404, "404"),
        (599, "5xx"),
        (600, "other"),
        (999, "other"),
    ] {
        let server =
            Recorder::answering(format!("HTTP/1.1 {status} Mine\r\nContent-Length: 0\r\n\r\n")).await;
        let gate = Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp") } } })).await;
        assert_eq!(gate.ask(&get("/db", DEV, "")).await.0, status);
        let line = gate.log.line("Authenticated request", &[]).await;
        assert_eq!(line["status"], status, "the log says which");
        let series = format!(r#"requests_total{{method="GET",server="db",status="{label}"}} 1"#);
        assert!(gate.metrics().contains(&series), "{series}");
    }
}

#[tokio::test]
async fn names_that_a_client_makes_up_make_no_series_and_no_lines_of_their_own() {
    let server = Recorder::start().await;
    let gate = Gate::start(json!({ "mcpServers": { "db": { "url": server.url("/mcp") } } })).await;
    let series = || gate.metrics().lines().filter(|line| !line.starts_with('#')).count();
    let ask = async |n: usize| {
        for request in [
            get(&format!("/server-{n}/mcp"), DEV, ""),
            get(&format!("/server-{n}/mcp"), "unknown", ""),
            get(&format!("/db/mcp/{n}"), &format!("token-{n}"), ""),
            get("/db/mcp", DEV, "").replacen("GET", &format!("METHOD{n}"), 1),
            get("/db/mcp", DEV, &format!("Mcp-Method: method-{n}\r\nMcp-Name: tool-{n}\r\n")),
            get("/db/mcp", DEV, "").replace("localhost", &format!("host-{n}.example")),
            get("/db/mcp", DEV, &format!("Origin: https://host-{n}.example\r\n")),
        ] {
            gate.ask(&request).await;
        }
    };
    ask(0).await;
    until("the first round is counted", || gate.log.all().len() == 7).await;
    let before = series();
    for n in 1..20 {
        ask(n).await;
    }
    until("every round is counted", || gate.log.all().len() == 140).await;
    assert_eq!(series(), before);
    assert!(gate.log.all().iter().all(|line| !line["method"].as_str().unwrap().starts_with("METHOD")));

    assert!(gate.log.all().iter().all(|line| !line["path"].as_str().unwrap().contains("server-")));

    // No byte that a client chooses is in a line.
    let long = format!("/{}", "a".repeat(4000));
    for (hostile, shown) in [
        ("/\",\"level\":\"ERROR", "/…"),
        ("/%22,%22level%22:%22ERROR%22", "/…"),
        ("/%0a%1b[31m/mcp", "/…/mcp"),
        (&long, "/…"),
    ] {
        let (_, _, body) = gate.ask(&get(hostile, DEV, "")).await;
        let id = serde_json::from_str::<Value>(&body).unwrap()["request_id"].clone();
        let line = gate.log.line("Refused request", &[("request_id", id)]).await;
        assert_eq!(line["path"], shown, "{hostile}");
    }
}

#[tokio::test]
async fn a_credential_keeps_its_counter_wherever_it_stands() {
    let server = Recorder::start().await;
    let config = |tokens: Value| {
        json!({
            "proxy": { "auth": { "kind": "bearer_token", "tokens": { "alice": tokens } } },
            "mcpServers": { "db": { "url": server.url("/mcp") } },
        })
    };
    let counters = |gate: &Gate| -> Vec<String> {
        let metrics = gate.metrics();
        metrics
            .lines()
            .filter(|line| line.starts_with("sluicegate_token_used_total"))
            .map(str::to_owned)
            .collect()
    };
    let mut gate = Gate::start(config(json!([DEV]))).await;
    for _ in 0..2 {
        assert_eq!(gate.ask(&post("/db/mcp", DEV, "", "{}")).await.0, 200);
    }
    let before = counters(&gate);
    assert!(matches!(&before[..], [one] if one.ends_with(" 2")), "{before:?}");
    // The new one is put in front of it.
    gate.reload(config(json!([{ "id": "next", "value": CI }, DEV])));
    assert_eq!(gate.ask(&post("/db/mcp", CI, "", "{}")).await.0, 200);
    let next = r#"sluicegate_token_used_total{credential="next",token_name="alice"} 1"#;
    let mut both = counters(&gate);
    both.sort();
    let mut wanted = vec![before[0].clone(), next.to_owned()];
    wanted.sort();
    assert_eq!(both, wanted);
    // Who is gone has no counter.
    gate.reload(config(json!([{ "id": "next", "value": CI }])));
    assert_eq!(counters(&gate), [next]);
}

#[tokio::test]
async fn what_will_expire_and_which_file_runs_can_be_watched() {
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(86_400);
    let later = humantime::format_rfc3339_seconds(later).to_string();
    let config = |old: &str| {
        json!({
            "proxy": { "admin": { "addr": "127.0.0.1:0" }, "auth": { "kind": "bearer_token", "tokens": {
                "ends": [{ "value": DEV, "expires": later }, { "value": "ends-old-0123456789", "expires": old }],
                "ended": { "value": "ended-0123456789abcdef", "expires": "2020-01-01T00:00:00Z" },
                "never": [CI, { "value": "never-old-0123456789", "expires": later }],
            } } },
            "mcpServers": {},
        })
    };
    let scrape = async |gate: &Gate| {
        let mut client = crate::harness::Client::new(
            tokio::net::TcpStream::connect(gate.gateway.admin_addr().unwrap()).await.unwrap(),
        );
        client.send("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        client.response().await.2
    };
    let value = |metrics: &str, name: &str| -> Option<f64> {
        metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.parse().ok()
    };
    let mut gate = Gate::start(config("2021-01-01T00:00:00Z")).await;
    let metrics = scrape(&gate).await;
    let left =
        |name: &str| value(&metrics, &format!("sluicegate_token_expires_seconds{{token_name=\"{name}\"}}"));
    assert!(left("ends").is_some_and(|left| left > 80_000.0 && left <= 86_400.0), "{metrics}");
    assert!(left("ended").is_some_and(|left| left < -86_400.0), "{metrics}");
    assert_eq!(left("never"), None);
    let hash = value(&metrics, "sluicegate_config_hash").unwrap();
    assert!(hash > 0.0 && hash < 2f64.powi(48));
    gate.reload(config("2021-01-02T00:00:00Z"));
    assert_ne!(value(&scrape(&gate).await, "sluicegate_config_hash"), Some(hash));
    gate.reload(config("2021-01-01T00:00:00Z"));
    assert_eq!(value(&scrape(&gate).await, "sluicegate_config_hash"), Some(hash));
}
