//! `sluicegate token list | rotate | revoke | expire` and `sluicegate user`: what becomes of the config, and of nothing else in
//! its file.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod ends;
mod files;
mod layouts;
mod lists;
mod refusals;
mod users;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use jsonc_parser::ast::Value as Ast;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use sluicegate::config::read::parse::parse;
use tempfile::TempDir;

const OLD: &str = "an-old-token-0123456789";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn command(config: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluicegate"));
    command.arg("token").args(arguments).arg("-c").arg(config).env("CI_TOKEN", "a-token-of-the-environment");
    command
}

fn run(config: &Path, arguments: &[&str]) -> Output {
    command(config, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs what has to end well, and returns what it writes to standard output.
fn done(config: &Path, arguments: &[&str]) -> String {
    let output = run(config, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Runs what has to be refused, and returns what it says.
fn refused(config: &Path, arguments: &[&str], code: i32) -> String {
    let before = fs::read(config).ok();
    let output = run(config, arguments);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    assert_eq!(fs::read(config).ok(), before);
    said
}

fn sha256(token: &str) -> String {
    Sha256::digest(token.trim()).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn rfc3339(moment: SystemTime) -> String {
    humantime::format_rfc3339_seconds(moment).to_string()
}

struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A config with these tokens, and with servers that name some of them.
    fn config(&self, tokens: &str) -> PathBuf {
        let path = self.path("gate.json");
        let config = format!(
            r#"{{
  "proxy": {{ "addr": ":8080", "auth": {{ "tokens": {tokens} }} }},
  "mcpServers": {{
    "db": {{ "url": "http://127.0.0.1:1/mcp", "authTokens": ["ci"] }},
    "all": {{ "url": "http://127.0.0.1:1/mcp" }},
    "staff": {{ "url": "http://127.0.0.1:1/mcp", "roles": ["admin"] }},
    "open": {{ "url": "http://127.0.0.1:1/mcp", "public": true }},
  }},
}}"#
        );
        fs::write(&path, config).unwrap();
        path
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn to_json(value: &Ast<'_>) -> Value {
    match value {
        Ast::Object(object) => {
            let entries = object.properties.iter();
            entries
                .map(|entry| (entry.name.as_str().to_owned(), to_json(&entry.value)))
                .collect::<Map<_, _>>()
                .into()
        }
        Ast::Array(list) => list.elements.iter().map(to_json).collect(),
        Ast::StringLit(text) => text.value.as_ref().into(),
        Ast::NumberLit(number) => serde_json::from_str(number.value).unwrap(),
        Ast::BooleanLit(literal) => literal.value.into(),
        Ast::NullKeyword(_) => Value::Null,
    }
}

fn tree(text: &str) -> Value {
    to_json(&parse(text.trim_start_matches('\u{feff}')).unwrap().0)
}

fn token(path: &Path, name: &str) -> Value {
    tree(&fs::read_to_string(path).unwrap())["proxy"]["auth"]["tokens"][name].clone()
}

/// Two servers, and what else `proxy` has.
fn two_servers(files: &Files, proxy: &str, servers: [&str; 2]) -> PathBuf {
    let path = files.path("gate.json");
    let [a, b] = servers;
    let config = format!(
        r#"{{ "proxy": {{ {proxy} }}, "mcpServers": {{ "a": {{ "url": "http://127.0.0.1:1"{a} }}, "b": {{ "url": "http://127.0.0.1:1"{b} }} }} }}"#
    );
    fs::write(&path, config).unwrap();
    path
}
