//! `tls.selfSigned` in a process: a client that trusts the CA once is served by the gateway after a restart, too.

use std::{path::Path, sync::Arc};

use rustix::process::Signal;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use serde_json::{Value, json};
use sluicegate::net::crypto::provider;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    harness::{Client, soon},
    process::{Process, serve, text},
};

fn config() -> Value {
    json!({
        "proxy": { "tls": { "selfSigned": true }, "baseUrl": "https://localhost" },
        "mcpServers": { "db": { "url": "http://127.0.0.1:9/mcp" } },
    })
}

/// A gateway with the config of this directory, which writes its CA to `ca_out`.
async fn start(dir: TempDir, ca_out: &Path) -> Process {
    let path = dir.path().join("sluicegate.json");
    std::fs::write(&path, text(config())).unwrap();
    let mut command = serve(&path);
    command.arg("--ca-out").arg(ca_out);
    Process::run(command, dir, path).await
}

/// Whether the gateway answers a client that trusts this CA and no other.
async fn is_trusted(gate: &Process, ca: &str) -> bool {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let tcp = TcpStream::connect(gate.addr).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, tcp);
    let Ok(stream) = soon("the handshake", connecting).await else { return false };
    let mut client = Client::new(stream);
    client.send("GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    client.response().await.0 == 200
}

#[tokio::test]
async fn who_trusts_the_ca_once_is_served_after_a_restart_too() {
    let (outside, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (out, state) = (outside.path().join("ca.pem"), dir.path().join("state"));
    // What is left of a gateway when its process ends; here it moves on with the directory.
    let kept = outside.path().join("state");
    let mut gate = start(dir, &out).await;
    let ca = std::fs::read_to_string(&out).unwrap();
    assert!(is_trusted(&gate, &ca).await);
    let line = gate.log.line("The certificate is self-made; clients have to trust its CA", &[]).await;
    assert_eq!(line["ca"], json!(state.join("ca/root.pem")));
    assert_eq!(std::fs::read_to_string(state.join("ca/root.pem")).unwrap(), ca);
    gate.signal(Signal::TERM);
    assert_eq!(gate.exited().await, Some(0));
    std::fs::rename(&state, &kept).unwrap();
    drop(gate);

    let dir = TempDir::new().unwrap();
    std::fs::rename(&kept, dir.path().join("state")).unwrap();
    std::fs::remove_file(&out).unwrap();
    let gate = start(dir, &out).await;
    assert!(is_trusted(&gate, &ca).await);
    assert_eq!(std::fs::read_to_string(&out).unwrap(), ca);
    // And not by whom another gateway is trusted.
    let stranger = sluicegate::downstream::self_signed::self_signed(&["localhost".into()]).unwrap();
    assert!(!is_trusted(&gate, &stranger.ca).await);
}

#[tokio::test]
async fn a_gate_that_can_keep_nothing_starts_and_says_so() {
    let (outside, dir) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    std::fs::write(dir.path().join("state"), "a file, where a directory should be").unwrap();
    let out = outside.path().join("ca.pem");
    let gate = start(dir, &out).await;
    assert!(is_trusted(&gate, &std::fs::read_to_string(&out).unwrap()).await);
    let msg = "The certificate is self-made, and its CA cannot be kept: clients have to trust another at each start";
    let line = gate.log.line(msg, &[]).await;
    assert!(line["level"] == "WARN" && line["cause"].as_str().unwrap().contains("state/ca"), "{line}");
}

#[tokio::test]
async fn a_ca_is_asked_for_in_vain_where_the_certificate_is_another() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("sluicegate.json");
    std::fs::write(&path, text(json!({ "mcpServers": {} }))).unwrap();
    let output = serve(&path).arg("--ca-out").arg(dir.path().join("ca.pem")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("`--ca-out` needs `tls.selfSigned`"), "{said}");
}
