//! `sluicegate demo --oauth`: the gateway as an authorization server, one user, and a program that the user lets in.

use std::{io, path::Path, thread};

use super::program::{Account, Program};
use crate::{identity::login::passwords, secret::Secret};

/// Path of the server that the program uses.
const PLACE: &str = "/demo/mcp";
/// What a password is made of: 32 characters that nobody takes for another one.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// The user, with a password of 80 bits: others of this machine can reach the gateway, too.
pub(super) fn account() -> io::Result<Account> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let letters = random.map(|byte| char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
    let groups: Vec<String> = letters.chunks(4).map(|group| group.iter().collect()).collect();
    Ok(Account { user: "alice", password: Secret::new(groups.join("-")) })
}

fn base(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

pub(super) fn config(port: u16, server_port: u16, account: &Account) -> io::Result<String> {
    let hash = passwords::hash(&account.password);
    let hash =
        hash.map_err(|_| io::Error::other("there is no randomness, or no memory, to hash a password"))?;
    Ok(format!(
        r#"{{
  // Edit this file while the demo runs: a saved change is live at once.
  "proxy": {{
    "name": "Sluicegate demo",
    // Clients compare it byte by byte. For those that are not on this machine it is https, with "tls".
    "baseUrl": "{base}",
    "addr": "127.0.0.1:{port}",
    "auth": {{
      "kind": "oauth",
      // Logins are forgotten when the demo ends. Without this line they are kept in a file.
      "storage": "memory",
      "users": {{ "{user}": {{ "passwordHash": "{hash}" }} }}
    }},
    "shutdownGrace": "2s",
    "log": {{ "level": "info", "format": "text" }}
  }},
  "mcpServers": {{
    "demo": {{ "url": "http://127.0.0.1:{server_port}/mcp" }},
    "demo-sse": {{ "url": "http://127.0.0.1:{server_port}/sse" }}
  }}
}}
"#,
        base = base(port),
        user = account.user,
        hash = hash.expose(),
    ))
}

pub(super) fn guide(config: &Path, port: u16, account: &Account) -> String {
    format!(
        "Sluicegate demo: an MCP server behind logins (OAuth), until Ctrl-C.

  URL       {base}{PLACE}
  user      {user}
  password  {password}
  config    {config}   (edit it while this runs)

A program logs in first, by itself. Then it is your turn.

",
        base = base(port),
        user = account.user,
        password = account.password.expose(),
        config = config.display(),
    )
}

/// Runs the program on a thread of its own, as it is a process of its own elsewhere. It waits for the gateway, and is told of in one
/// piece, so that the log of the gateway does not stand in between.
pub(super) fn start_program(port: u16, account: Account) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("demo-program".into()).spawn(move || {
        let mut program = match Program::new(&base(port), PLACE) {
            Ok(program) => program,
            Err(fault) => return eprintln!("sluicegate demo: {fault}"),
        };
        let ran = runtime.block_on(program.run(&account));
        let told = program.told();
        match ran {
            Ok(()) => print!(
                "\nWhat the program did (> sent, < came back; of secrets, how they begin and end):\n\n{told}{}",
                your_turn(port)
            ),
            Err(fault) => eprintln!("\n{told}sluicegate demo: the program comes no further: {fault}"),
        }
    })?;
    Ok(())
}

fn your_turn(port: u16) -> String {
    let base = base(port);
    format!(
        "Your turn. In a browser, sign in and see what you let in:
  {base}/oauth

With Claude Code; then /mcp in it, and \"Authenticate\":
  claude mcp add --transport http demo {base}{PLACE}

With other MCP clients, which open the browser by themselves:
  {{\"mcpServers\":{{\"demo\":{{\"type\":\"http\",\"url\":\"{base}{PLACE}\"}}}}}}

"
    )
}
