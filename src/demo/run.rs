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

use crate::{child::shield, downstream::self_signed as self_made, gateway, secret::Secret};

/// Where the demo listens, unless somebody else does.
const ADDR: (&str, u16) = ("127.0.0.1", 8443);

/// Makes certificate, token and config in a directory of its own, prints what to try, and runs the gateway in front of
/// the built-in server until a signal ends it.
pub fn run() -> ExitCode {
    // Before there is a token and a key. What goes wrong, `serve` says.
    let _ = shield::raise();
    match prepare() {
        Ok(demo) => {
            print!("{}", demo.guide());
            let code = gateway::serve(&demo.config(), None, gateway::LogFlags::default());
            // Best effort: the directory is in the temporary one and holds nothing that still opens anything.
            let _ = fs::remove_dir_all(&demo.dir);
            code
        }
        Err(e) => {
            eprintln!("sluicegate demo: {e}");
            ExitCode::FAILURE
        }
    }
}

struct Demo {
    dir: PathBuf,
    port: u16,
    token: Secret,
}

fn prepare() -> io::Result<Demo> {
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let token = Secret::new(format!("sg_{}", URL_SAFE_NO_PAD.encode(random)));
    let dir = std::env::temp_dir().join(format!("sluicegate-demo-{}", std::process::id()));
    fs::DirBuilder::new().mode(0o700).create(&dir)?;
    let port = free_port()?;
    let names = ["localhost", "127.0.0.1"].map(String::from);
    let made = self_made::self_signed(&names)?;
    write(&dir.join("ca.pem"), &made.ca)?;
    write(&dir.join("cert.pem"), &made.cert)?;
    write(&dir.join("key.pem"), made.key.expose())?;

    let server = TcpListener::bind("127.0.0.1:0")?;
    let config = config(port, server.local_addr()?.port(), &token);
    write(&dir.join("sluicegate.json"), &config)?;
    serve_mcp(server)?;
    Ok(Demo { dir, port, token })
}

/// The usual port, or any other if that one is taken.
fn free_port() -> io::Result<u16> {
    let listener = TcpListener::bind(ADDR).or_else(|_| TcpListener::bind((ADDR.0, 0)))?;
    Ok(listener.local_addr()?.port())
}

fn write(path: &Path, contents: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    io::Write::write_all(&mut file, contents.as_bytes())
}

/// Runs the built-in MCP server on a thread of its own, as a server behind the gateway is a process of its own.
fn serve_mcp(listener: TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("demo-mcp".into()).spawn(move || {
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            super::serve(listener, std::future::pending()).await
        })
    })?;
    Ok(())
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

impl Demo {
    fn config(&self) -> PathBuf {
        self.dir.join("sluicegate.json")
    }

    fn guide(&self) -> String {
        let (ca, token) = (self.dir.join("ca.pem"), self.token.expose());
        let (ca, config) = (ca.display(), self.config());
        let url = format!("https://127.0.0.1:{}/demo/mcp", self.port);
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
}
