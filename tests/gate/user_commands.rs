//! `sluicegate user` changes the config of a gateway that runs.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    harness::{DEV, Upstream, open_stream, passes, pause, post, soon},
    process::{Process, program},
};

fn user(gate: &Process, arguments: &[&str], password: &str) {
    let mut command = Command::new(program());
    command.arg("user").args(arguments).arg("-c").arg(&gate.path);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(password.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn log_in(gate: &Process, name: &str, password: &str) -> (u16, Value) {
    let mut client = gate.client().await;
    let body = json!({ "username": name, "password": password }).to_string();
    client.send(post("/auth/login", "", "", &body).replace("Authorization: Bearer \r\n", "")).await;
    let (status, _, body) = client.response().await;
    (status, serde_json::from_str(&body).unwrap())
}

/// The session token of a login that is good once the gateway has followed the config.
async fn logged_in(gate: &Process, name: &str, password: &str) -> String {
    let trying = async {
        loop {
            match log_in(gate, name, password).await {
                (200, answer) => return answer["token"].as_str().unwrap().to_owned(),
                (status, answer) => assert!([401, 503].contains(&status), "{status} {answer}"),
            }
            pause().await;
        }
    };
    soon("a login", trying).await
}

#[tokio::test]
async fn a_user_who_is_added_logs_in_and_another_password_or_a_switch_ends_what_there_was() {
    let server = Upstream::bind().await;
    let gate = Process::start(json!({
        "proxy": { "auth": { "tokens": { "dev": DEV } } },
        "mcpServers": { "db": { "url": server.url("/mcp") } },
    }))
    .await;
    let (mut of_dev, mut behind_dev) = open_stream(gate.addr, &server, DEV).await;
    user(&gate, &["add", "alice", "--role", "metrics"], "first password\n");
    // Until then there is no login at all.
    gate.log.line("Config reloaded", &[]).await;
    let first = logged_in(&gate, "alice", "first password").await;
    assert_eq!(gate.get("/metrics", &first).await.0, 200);
    let (mut of_first, _behind) = open_stream(gate.addr, &server, &first).await;

    user(&gate, &["passwd", "alice"], "second password\n");
    gate.answers("/metrics", &first, 401).await;
    soon("the end of the stream of the old password", of_first.rest()).await;
    assert_eq!(log_in(&gate, "alice", "first password").await.0, 401);
    let second = logged_in(&gate, "alice", "second password").await;
    let (mut of_second, _behind) = open_stream(gate.addr, &server, &second).await;

    user(&gate, &["disable", "alice"], "");
    gate.answers("/metrics", &second, 401).await;
    soon("the end of the stream", of_second.rest()).await;
    assert_eq!(log_in(&gate, "alice", "second password").await.0, 401);

    user(&gate, &["enable", "alice"], "");
    let third = logged_in(&gate, "alice", "second password").await;
    assert_eq!(gate.get("/metrics", &second).await.0, 401, "what was ended does not come back");
    user(&gate, &["remove", "alice"], "");
    gate.answers("/metrics", &third, 401).await;
    passes(&mut behind_dev, &mut of_dev, "data: of another\n\n").await;
}
