//! `sluicegate token` changes the config of a gateway that runs.

use std::process::Command;

use serde_json::json;

use crate::{
    harness::{CI, DEV, Upstream, open_stream, passes, soon},
    process::{Process, program},
};

fn token(gate: &Process, arguments: &[&str]) -> String {
    let output =
        Command::new(program()).arg("token").args(arguments).arg("-c").arg(&gate.path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn a_rotated_token_opens_at_once_and_a_revoked_one_nothing_and_others_lose_no_byte() {
    let server = Upstream::bind().await;
    let gate = Process::start(json!({
        "proxy": { "auth": { "kind": "bearer_token", "tokens": {
            "dev": DEV,
            "ci": { "value": CI, "roles": ["metrics"] },
        } } },
        "mcpServers": { "db": { "url": server.url("/mcp"), "authTokens": ["dev", "ci"] } },
    }))
    .await;
    let (mut of_dev, mut behind_dev) = open_stream(gate.addr, &server, DEV).await;
    let (mut of_old, mut behind_old) = open_stream(gate.addr, &server, CI).await;

    let new = token(&gate, &["rotate", "ci", "--grace", "1h"]);
    gate.answers("/metrics", new.trim(), 200).await;
    assert_eq!(gate.get("/metrics", CI).await.0, 200, "the grace has begun");
    passes(&mut behind_old, &mut of_old, "data: in the grace\n\n").await;
    let (mut of_new, behind_new) = open_stream(gate.addr, &server, new.trim()).await;

    let newest = token(&gate, &["rotate", "ci", "--grace", "0s"]);
    gate.answers("/metrics", CI, 401).await;
    assert_eq!(gate.get("/metrics", new.trim()).await.0, 401);
    soon("the end of the old one's stream", of_old.rest()).await;
    soon("the end of the new one's stream", of_new.rest()).await;
    drop((behind_old, behind_new));

    let (mut of_newest, _behind) = open_stream(gate.addr, &server, newest.trim()).await;
    assert_eq!(
        token(&gate, &["revoke", "ci"]),
        "ci: 1 credential removed, which opened db. The token opens nothing any more\n"
    );
    soon("the end of the stream", of_newest.rest()).await;
    assert_eq!(gate.get("/metrics", newest.trim()).await.0, 401);
    assert_eq!(gate.get("/db", "").await.0, 401, "revoking opens the server to nobody");
    passes(&mut behind_dev, &mut of_dev, "data: of another\n\n").await;
}

/// Whoever rotates at the same time waits for the others, and the gateway follows them all; also where the file has to be
/// written in place.
#[tokio::test]
async fn tokens_that_are_rotated_at_once_all_open() {
    const AT_ONCE: usize = 12;
    let tokens: serde_json::Map<String, serde_json::Value> = (0..AT_ONCE)
        .map(|number| {
            (
                format!("t{number}"),
                json!({ "value": format!("a-token-of-many-{number:08}"), "roles": ["metrics"] }),
            )
        })
        .collect();
    let gate = Process::start(json!({ "proxy": { "auth": { "tokens": tokens } }, "mcpServers": {} })).await;
    for round in 0..2 {
        let new: Vec<String> = std::thread::scope(|scope| {
            let rotate = |number| {
                let gate = &gate;
                scope.spawn(move || token(gate, &["rotate", &format!("t{number}"), "--grace", "0s"]))
            };
            let all: Vec<_> = (0..AT_ONCE).map(rotate).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        for token in &new {
            gate.answers("/metrics", token.trim(), 200).await;
        }
        if round == 0 {
            std::fs::hard_link(&gate.path, gate.path.with_extension("second")).unwrap();
        }
    }
    gate.answers("/metrics", "a-token-of-many-00000000", 401).await;
}
