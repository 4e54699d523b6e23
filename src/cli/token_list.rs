//! `sluicegate token list`: the tokens of a config, without anything that is secret.

use std::{path::Path, process::ExitCode, time::SystemTime};

use serde_json::{Value as Json, json};

use super::{
    common::{NONE, columns, listed, print_from_config, shown_role},
    token_places::{Held, Tokens, relative, rfc3339},
};
use crate::{
    config::{
        self, Loaded, Rule,
        edit::property,
        read::{reader::Node, reference::first_variable},
    },
    identity::Identity,
    policy::decide::{Ask, Policy, decide},
};

pub(super) fn run(path: &Path, as_json: bool) -> Result<ExitCode, String> {
    print_from_config(path, |document, text, loaded| {
        let tokens =
            Tokens::of(document, text, loaded).map_err(|message| format!("{}:{message}", path.display()))?;
        let now = SystemTime::now();
        let mut rows = Vec::new();
        for named in &tokens.names {
            let name = config::shown_name(named.name).unwrap_or("…");
            if named.held.is_empty() {
                rows.push(Row {
                    name,
                    credential: None,
                    kind: "none",
                    source: None,
                    is_decoy: false,
                    roles: vec![],
                    end: End::Never,
                    servers: Some(vec![]),
                });
            }
            for held in &named.held {
                let (kind, source) = kind(held);
                let roles = held.known.map_or(&[][..], |known| &known.roles);
                rows.push(Row {
                    name,
                    credential: Some(held.label()),
                    kind,
                    source,
                    is_decoy: held.is_decoy(),
                    roles: roles.iter().map(|role| shown_role(role)).collect(),
                    end: match held.end() {
                        Ok(end) => end.map_or(End::Never, End::At),
                        Err(_) => End::Unknown,
                    },
                    servers: opened(loaded, held, now),
                });
            }
        }
        Ok(match as_json {
            true => format!("{:#}\n", rows.iter().map(|row| row.json(now)).collect::<Json>()),
            false => table(&rows, now),
        })
    })
}

/// The servers that a credential opens, without those that are open to everybody. `None` if it cannot be known.
pub(super) fn opened<'a>(loaded: &'a Loaded, held: &Held<'_>, now: SystemTime) -> Option<Vec<&'a str>> {
    opened_by(loaded, &Identity::of(held.known?), now)
}

/// The same for whoever this is.
pub(super) fn opened_by<'a>(
    loaded: &'a Loaded,
    identity: &Identity,
    now: SystemTime,
) -> Option<Vec<&'a str>> {
    let snapshot = loaded.snapshot.as_ref()?;
    let policy = Policy { servers: snapshot, now: Some(now), admin_sees_all: snapshot.admin_sees_all };
    let opens = |name: &&str| {
        let decision = decide(&policy, identity, &Ask::Server(name));
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
    is_decoy: bool,
    roles: Vec<&'a str>,
    end: End,
    servers: Option<Vec<&'a str>>,
}

/// When a credential ends.
enum End {
    Never,
    At(SystemTime),
    Unknown,
}

impl Row<'_> {
    fn json(&self, now: SystemTime) -> Json {
        json!({
            "name": self.name,
            "credential": self.credential,
            "kind": self.kind,
            "source": self.source,
            "decoy": self.is_decoy,
            "roles": self.roles,
            "expires": self.moment().map(rfc3339),
            "expired": self.moment().is_some_and(|end| end <= now),
            "servers": self.servers,
        })
    }

    fn moment(&self) -> Option<SystemTime> {
        match self.end {
            End::At(moment) => Some(moment),
            End::Never | End::Unknown => None,
        }
    }

    fn cells(&self, now: SystemTime) -> [String; 6] {
        let end = |end| match end <= now {
            true => format!("{} (expired {})", rfc3339(end), relative(end, now)),
            false => format!("{} ({})", rfc3339(end), relative(end, now)),
        };
        let source = self.source.as_ref().map(|source| format!(" {}", source.escape_debug()));
        [
            self.name.to_owned(),
            self.credential.clone().unwrap_or_else(|| NONE.to_owned()),
            format!(
                "{}{}{}",
                self.kind,
                source.unwrap_or_default(),
                if self.is_decoy { " decoy" } else { "" }
            ),
            listed(&self.roles),
            match (&self.end, &self.credential) {
                (End::At(moment), _) => end(*moment),
                (End::Unknown, _) => "unknown".to_owned(),
                (End::Never, Some(_)) => "never".to_owned(),
                (End::Never, None) => NONE.to_owned(),
            },
            self.servers.as_ref().map_or_else(|| "unknown".to_owned(), |servers| listed(servers)),
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
        None => node.literal().and_then(first_variable),
    };
    match (text, reference) {
        (None, None) => ("literal", None),
        (name, _) => ("$env", Some(name.and_then(config::shown_variable).unwrap_or("…").to_owned())),
    }
}

fn table(rows: &[Row<'_>], now: SystemTime) -> String {
    let head = ["NAME", "CREDENTIAL", "KIND", "ROLES", "EXPIRES", "SERVERS"].map(str::to_owned);
    columns(&std::iter::once(head).chain(rows.iter().map(|row| row.cells(now))).collect::<Vec<_>>())
}
