//! `sluicegate token list`: the tokens of a config, without anything that is secret.

use std::{path::Path, process::ExitCode, time::SystemTime};

use serde_json::{Value as Json, json};

use super::{
    common::{BAD_USAGE, print, print_problems},
    token_places::{Held, Tokens, relative, rfc3339},
};
use crate::{
    config::{self, Loaded, Rule, edit::property, read::reader::Node, rewrite},
    identity::Identity,
    mcp::seal::SessionKey,
    policy::decide::{Ask, Policy, decide},
};

/// What stands in a column without a value.
const NONE: &str = "-";

pub(super) fn run(path: &Path, as_json: bool) -> Result<ExitCode, String> {
    let bytes = rewrite::read(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let loaded = config::load_text(path, text, &|name| std::env::var(name).ok());
    let is_good = loaded.is_whole();
    if !is_good {
        print_problems(&loaded);
    }
    let Ok((document, _)) = config::read::parse::parse(text) else { return Ok(ExitCode::from(BAD_USAGE)) };
    let tokens =
        Tokens::of(&document, text, &loaded).map_err(|message| format!("{}:{message}", path.display()))?;
    let now = SystemTime::now();
    let key = loaded.snapshot.as_ref().and_then(|snapshot| snapshot.session_key.as_ref());
    let key = key.map(SessionKey::from_secret);
    let mut rows = Vec::new();
    for named in &tokens.names {
        let name = config::shown_name(named.name).unwrap_or("…");
        if named.held.is_empty() {
            rows.push(Row {
                name,
                credential: None,
                kind: "none",
                source: None,
                roles: vec![],
                end: None,
                servers: Some(vec![]),
            });
        }
        for held in &named.held {
            // As the gateway that has this key calls it in its metrics.
            let unnamed = held.known.filter(|known| known.id.is_none()).zip(key.as_ref());
            let of_metrics = unnamed.map(|(known, key)| key.name_of_credential(&known.digest));
            let (kind, source) = kind(held);
            rows.push(Row {
                name,
                credential: Some(of_metrics.unwrap_or_else(|| held.label())),
                kind,
                source,
                roles: held.known.map_or_else(Vec::new, |known| known.roles.clone()),
                end: held.expires(),
                servers: opened(&loaded, held, now),
            });
        }
    }
    let text = match as_json {
        true => format!("{:#}\n", rows.iter().map(|row| row.json(now)).collect::<Json>()),
        false => table(&rows, now),
    };
    let printed = print(&text);
    Ok(if is_good || printed != ExitCode::SUCCESS { printed } else { ExitCode::from(BAD_USAGE) })
}

/// The servers that a credential opens, without those that are open to everybody. `None` if it cannot be known.
pub(super) fn opened<'a>(loaded: &'a Loaded, held: &Held<'_>, now: SystemTime) -> Option<Vec<&'a str>> {
    let (snapshot, identity) = (loaded.snapshot.as_ref()?, Identity::of(held.known?));
    let policy = Policy { servers: snapshot, now: Some(now) };
    let opens = |name: &&str| {
        let decision = decide(&policy, &identity, &Ask::Server(name));
        decision.is_allow() && decision.rule() != Rule::Public
    };
    Some(snapshot.servers.iter().map(|server| &*server.name).filter(opens).collect())
}

struct Row<'a> {
    name: &'a str,
    credential: Option<String>,
    kind: &'static str,
    /// The variable or the file in which it is.
    source: Option<String>,
    roles: Vec<String>,
    end: Option<SystemTime>,
    servers: Option<Vec<&'a str>>,
}

impl Row<'_> {
    fn json(&self, now: SystemTime) -> Json {
        json!({
            "name": self.name,
            "credential": self.credential,
            "kind": self.kind,
            "source": self.source,
            "roles": self.roles,
            "expires": self.end.map(rfc3339),
            "expired": self.end.is_some_and(|end| end <= now),
            "servers": self.servers,
        })
    }

    fn cells(&self, now: SystemTime) -> [String; 6] {
        let list = |words: &[&str]| match words.is_empty() {
            true => NONE.to_owned(),
            false => words.iter().map(|word| word.escape_debug().to_string()).collect::<Vec<_>>().join(","),
        };
        let end = |end| match end <= now {
            true => format!("{} (expired {})", rfc3339(end), relative(end, now)),
            false => format!("{} ({})", rfc3339(end), relative(end, now)),
        };
        let source = self.source.as_ref().map(|source| format!(" {}", source.escape_debug()));
        [
            self.name.to_owned(),
            self.credential.clone().unwrap_or_else(|| NONE.to_owned()),
            format!("{}{}", self.kind, source.unwrap_or_default()),
            list(&self.roles.iter().map(String::as_str).collect::<Vec<_>>()),
            match (self.end, &self.credential) {
                (Some(moment), _) => end(moment),
                (None, Some(_)) => "never".to_owned(),
                (None, None) => NONE.to_owned(),
            },
            self.servers.as_ref().map_or_else(|| "unknown".to_owned(), |servers| list(servers)),
        ]
    }
}

/// What a credential is: a hash, a token as it is, a token in a variable or in a file. The second is which.
fn kind(held: &Held<'_>) -> (&'static str, Option<String>) {
    let secret = |key| held.object().and_then(|object| property(object, key)).map(|found| &found.value);
    if secret("sha256").is_some() {
        return ("sha256", None);
    }
    let node = Node::root(secret("value").unwrap_or(held.value));
    if node.is_file() {
        return ("$file", Some(node.file().and_then(config::shown_path).unwrap_or("…").to_owned()));
    }
    let reference = node.value.as_object().and_then(|object| property(object, "$env"));
    let text = match reference {
        Some(name) => name.value.as_string_lit().map(|literal| &*literal.value),
        None => node.literal().and_then(of_variable),
    };
    match (text, reference) {
        (None, None) => ("literal", None),
        (name, _) => ("$env", Some(name.and_then(config::shown_variable).unwrap_or("…").to_owned())),
    }
}

/// The first variable that a text refers to.
fn of_variable(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("$env:").or_else(|| text.strip_prefix("env:"));
    let rest = rest.or_else(|| text.split_once("${").map(|(_, rest)| rest))?;
    rest.split(['|', '}', ':']).next()
}

/// Columns of a width that fits.
fn table(rows: &[Row<'_>], now: SystemTime) -> String {
    let head = ["NAME", "CREDENTIAL", "KIND", "ROLES", "EXPIRES", "SERVERS"].map(str::to_owned);
    let lines: Vec<_> = std::iter::once(head).chain(rows.iter().map(|row| row.cells(now))).collect();
    let width = |column: usize| lines.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    let line = |cells: &[String; 6]| {
        let padded: Vec<_> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    lines.iter().map(line).collect()
}
