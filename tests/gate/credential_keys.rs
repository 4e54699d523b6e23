//! Processes that are started with different credentials are apart, and what ends a server ends all of them.

use std::sync::Arc;

use serde_json::{Value, json};
use sluicegate::{
    child::Supervisors,
    identity::credential_key::CredentialKey,
    ledger::Owner,
    link::{FromServer, Link, awaited::Callers, stdio},
    servers::Backend,
};

use crate::{
    harness::{DEV, Gate, get, post, soon},
    mcp::command,
};

const OPS: &str = "ops-token-0123456789abcdef";

/// The credential of the config, and those of two callers.
fn keys() -> [CredentialKey; 3] {
    [CredentialKey::STATIC, CredentialKey::of_caller([1; 16]), CredentialKey::of_caller([2; 16])]
}

/// A server that says nothing until its input ends.
fn config(setting: &str) -> Value {
    let tokens = json!({ "dev": DEV, "ops": { "value": OPS, "roles": ["admin"] } });
    json!({
        "proxy": { "auth": { "tokens": tokens } },
        "mcpServers": { "files": { "command": "cat", "env": { "SETTING": setting }, "inheritEnv": ["PATH"] } },
    })
}

fn supervisors(gate: &Gate, name: &str) -> Arc<Supervisors> {
    let live = gate.gateway.shared().live();
    let Backend::Stdio(supervisors) = &live.entry(name).unwrap().backend else { panic!("no command") };
    Arc::clone(supervisors)
}

/// A conversation with a process of each credential.
async fn open(supervisors: &Supervisors) -> Vec<Link> {
    let mut links = Vec::new();
    for key in keys() {
        let link = stdio::open(&supervisors.get(key), &Owner::unlimited(), Callers::One).await;
        links.push(link.unwrap());
    }
    links
}

async fn all_end(links: Vec<Link>) {
    for mut link in links {
        let ended = soon("the end", link.from_server.recv()).await;
        assert!(matches!(ended, Some(FromServer::Ended { .. })), "{ended:?}");
    }
}

async fn act(gate: &Gate, action: &str) -> Value {
    let (status, _, body) = gate.ask(&post(&format!("/servers/files/{action}"), OPS, "", "")).await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn a_process_has_one_credential_and_what_ends_a_server_ends_all_of_them() {
    let mut gate = Gate::start(config("one")).await;
    let commands = supervisors(&gate, "files");
    let [first, second, third] = keys().map(|key| commands.get(key));
    assert!(!Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&second, &third) && !Arc::ptr_eq(&first, &third));
    assert!(
        keys().iter().zip([&first, &second, &third]).all(|(key, one)| Arc::ptr_eq(&commands.get(*key), one))
    );

    let links = open(&commands).await;
    assert_eq!([first.running(), second.running(), third.running()], [1; 3]);
    let (_, _, body) = gate.ask(&get("/servers/files", OPS, "")).await;
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap()["processes"], 3);
    act(&gate, "restart").await;
    all_end(links).await;
    let links = open(&commands).await;
    act(&gate, "stop").await;
    all_end(links).await;
    soon("the last process to end", commands.childless()).await;
    let late = commands.get(CredentialKey::of_caller([3; 16]));
    for stopped in [&first, &second, &third, &late] {
        assert!(stopped.start(&Owner::unlimited()).await.is_err(), "also one that nobody had before");
    }
    act(&gate, "start").await;
    assert!(!late.is_stopped());
    let links = open(&commands).await;
    gate.reload(config("two"));
    all_end(links).await;
    assert!(!Arc::ptr_eq(&supervisors(&gate, "files"), &commands));
    assert!([first, second, third, late].iter().all(|old| old.is_stopped()));
}

#[tokio::test]
async fn a_command_that_was_made_warm_is_so_for_every_credential() {
    let mut server = command();
    server["warm"] = json!(true);
    let gate = Gate::start(json!({ "mcpServers": { "files": server } })).await;
    gate.log.line("Server is warm", &[]).await;
    let commands = supervisors(&gate, "files");
    assert!(keys().iter().all(|key| !commands.get(*key).begins_warm()));
}

#[tokio::test]
async fn credentials_that_nobody_uses_any_more_are_forgotten() {
    let gate = Gate::start(config("one")).await;
    let commands = supervisors(&gate, "files");
    for number in 0..100 {
        commands.get(CredentialKey::of_caller([number; 16]));
    }
    // The last is there until another comes.
    assert_eq!(commands.all().len(), 2);
}
