//! `sluicegate demo`: a gateway to play with, complete in one command.

use std::{
    fs, io,
    net::TcpListener,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use super::with_oauth;
use crate::{child::shield, downstream::self_signed as self_made, gateway, secret::Secret};

/// Where the demo listens, unless somebody else does.
const ADDR: &str = "127.0.0.1";
/// The port with TLS, and without it.
const PORTS: (u16, u16) = (8443, 8080);

/// Makes a config and what it needs in a directory of its own, prints what to try, and runs the gateway in front of the built-in
/// server until a signal ends it. With `oauth`, a program logs in by itself meanwhile.
pub fn run(oauth: bool) -> ExitCode {
    // Before there is a token and a key. What goes wrong, `serve` says.
    let _ = shield::raise();
    let prepared = if oauth { prepare_oauth() } else { prepare() };
    match prepared {
        Ok(Demo { dir, guide }) => {
            print!("{guide}");
            let code = gateway::serve(&dir.join(CONFIG), None, gateway::LogFlags::default());
            // Best effort: the directory is in the temporary one and holds nothing that still opens anything.
            let _ = fs::remove_dir_all(&dir);
            code
        }
        Err(e) => {
            eprintln!("sluicegate demo: {e}");
            ExitCode::FAILURE
        }
    }
}

/// The config, in the directory of a demo.
const CONFIG: &str = "sluicegate.json";

/// What is made before the gateway runs.
struct Demo {
    dir: PathBuf,
    guide: String,
}

fn prepare() -> io::Result<Demo> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let token = Secret::new(format!("sg_{}", URL_SAFE_NO_PAD.encode(random)));
    let dir = own_dir()?;
    let port = free_port(PORTS.0)?;
    let names = ["localhost", ADDR].map(String::from);
    let made = self_made::self_signed(&names)?;
    write(&dir.join("ca.pem"), &made.ca)?;
    write(&dir.join("cert.pem"), &made.cert)?;
    write(&dir.join("key.pem"), made.key.expose())?;
    write(&dir.join(CONFIG), &config(port, serve_mcp()?, &token))?;
    let guide = guide(&dir, port, &token);
    Ok(Demo { dir, guide })
}

/// By plain HTTP: a browser would warn of a certificate that was made on the spot, and this machine is not left.
fn prepare_oauth() -> io::Result<Demo> {
    let dir = own_dir()?;
    let port = free_port(PORTS.1)?;
    let account = with_oauth::account()?;
    write(&dir.join(CONFIG), &with_oauth::config(port, serve_mcp()?, &account)?)?;
    let guide = with_oauth::guide(&dir.join(CONFIG), port, &account);
    with_oauth::start_program(port, account)?;
    Ok(Demo { dir, guide })
}

fn own_dir() -> io::Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("sluicegate-demo-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&dir)?;
    Ok(dir)
}

/// The usual port, or any other if that one is taken.
fn free_port(usual: u16) -> io::Result<u16> {
    let listener = TcpListener::bind((ADDR, usual)).or_else(|_| TcpListener::bind((ADDR, 0)))?;
    Ok(listener.local_addr()?.port())
}

fn write(path: &Path, contents: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, contents.as_bytes())
}

/// Runs the built-in MCP server on a thread of its own, as a server behind the gateway is a process of its own. Returns its port.
fn serve_mcp() -> io::Result<u16> {
    let listener = TcpListener::bind((ADDR, 0))?;
    let port = listener.local_addr()?.port();
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("demo-mcp".into()).spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            super::serve(listener, std::future::pending()).await
        })
    })?;
    Ok(port)
}

fn config(port: u16, server_port: u16, token: &Secret) -> String {
    format!(
        r#"{{
  // Edit this file while the demo runs: a saved change is live at once.
  "proxy": {{
    "name": "Sluicegate demo",
    "baseUrl": "https://127.0.0.1:{port}",
    "addr": "127.0.0.1:{port}",
    "tls": {{ "cert": "cert.pem", "key": "key.pem" }},
    "auth": {{
      "kind": "bearer_token",
      "tokens": {{ "demo": "{}" }}
    }},
    "shutdownGrace": "2s",
    "log": {{ "level": "info", "format": "text" }}
  }},
  "mcpServers": {{
    "demo": {{ "url": "http://127.0.0.1:{server_port}/mcp", "authTokens": ["demo"] }},
    "demo-sse": {{ "url": "http://127.0.0.1:{server_port}/sse", "authTokens": ["demo"] }}
  }}
}}
"#,
        token.expose()
    )
}

fn guide(dir: &Path, port: u16, token: &Secret) -> String {
    let (ca, token) = (dir.join("ca.pem"), token.expose());
    let (ca, config) = (ca.display(), dir.join(CONFIG));
    let url = format!("https://127.0.0.1:{port}/demo/mcp");
    let call = |flags: &str, params: &str| {
        format!(
            "curl {flags}--cacert {ca} {url} -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' \
             -H 'Accept: application/json, text/event-stream' -d '{params}'"
        )
    };
    let tool = |name: &str, arguments: &str| {
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{name}","arguments":{arguments}}}}}"#
        )
    };
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    format!(
        "Sluicegate demo: an MCP server behind HTTPS and a token, until Ctrl-C.

  URL      {url}
  token    {token}
  CA file  {ca}
  config   {config}   (edit it while this runs)

List the tools:
  {list_call}

Call one:
  {echo_call}

Watch a stream, event by event:
  {stream_call}

The same without the token is refused with 401:
  curl -i --cacert {ca} {url} -H 'Content-Type: application/json' -d '{list}'

For an MCP client (set NODE_EXTRA_CA_CERTS={ca} for those that run on Node):
  {{\"mcpServers\":{{\"demo\":{{\"type\":\"http\",\"url\":\"{url}\",\"headers\":{{\"Authorization\":\"Bearer {token}\"}}}}}}}}

",
        config = config.display(),
        list_call = call("", list),
        echo_call = call("", &tool("echo", r#"{"text":"hello"}"#)),
        stream_call = call("-N ", &tool("countdown", r#"{"n":10,"interval_ms":500}"#)),
    )
}
