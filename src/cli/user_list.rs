//! `sluicegate user list`: the users of a config, without anything that is secret.

use std::{path::Path, process::ExitCode, time::SystemTime};

use serde_json::{Value as Json, json};

use super::{
    common::{columns, listed, print_from_config, shown_role},
    token_list::opened_by,
    user_places::{HashSource, User, Users},
};
use crate::{
    config::{self, Loaded},
    identity::{Identity, Proof},
};

pub(super) fn run(path: &Path, as_json: bool) -> Result<ExitCode, String> {
    print_from_config(path, |document, text, loaded| {
        let users = Users::of(document, text).map_err(|message| format!("{}:{message}", path.display()))?;
        let rows: Vec<_> = users.all().map(|user| Row::of(&user, loaded)).collect();
        Ok(match as_json {
            true => format!("{:#}\n", rows.iter().map(Row::json).collect::<Json>()),
            false => {
                let head = ["NAME", "STATE", "PASSWORD", "ROLES", "TAGS", "SERVERS"].map(str::to_owned);
                columns(&std::iter::once(head).chain(rows.iter().map(Row::cells)).collect::<Vec<_>>())
            }
        })
    })
}

struct Row<'a> {
    name: &'a str,
    is_disabled: Option<bool>,
    source: Option<HashSource>,
    roles: Vec<&'a str>,
    tags: Option<Vec<&'a str>>,
    /// The servers that the user opens, without those that are open to everybody. `None` if it cannot be known.
    servers: Option<Vec<&'a str>>,
}

impl<'a> Row<'a> {
    fn of(user: &User<'a>, loaded: &'a Loaded) -> Self {
        let users = loaded.snapshot.iter().flat_map(|snapshot| snapshot.users.iter());
        let known = users.into_iter().find(|known| *known.name == *user.name);
        let identity = known.map(|known| Identity::of_user(known, Proof::Nothing));
        let shown = |words: &'a [String]| words.iter().map(|word| shown_role(word)).collect();
        Self {
            name: config::shown_name(user.name).unwrap_or("…"),
            is_disabled: known.map(|known| known.disabled).or_else(|| user.says_disabled()),
            source: user.hash_source(),
            roles: known.map(|known| shown(&known.roles)).unwrap_or_default(),
            tags: known.and_then(|known| known.limits.tags.as_deref()).map(shown),
            servers: identity.and_then(|identity| opened_by(loaded, &identity, SystemTime::now())),
        }
    }

    fn json(&self) -> Json {
        let (kind, source) = self.kind();
        json!({
            "name": self.name,
            "disabled": self.is_disabled,
            "password": kind,
            "source": source,
            "roles": self.roles,
            "tags": self.tags,
            "servers": self.servers,
        })
    }

    fn kind(&self) -> (&'static str, Option<&str>) {
        match &self.source {
            None => ("none", None),
            Some(HashSource::Config) => ("hash", None),
            Some(HashSource::Variable(name)) => ("$env", Some(name.as_deref().unwrap_or("…"))),
            Some(HashSource::File(name)) => ("$file", Some(name.as_deref().unwrap_or("…"))),
        }
    }

    fn cells(&self) -> [String; 6] {
        let (kind, source) = self.kind();
        let source = source.map(|source| format!(" {}", source.escape_debug())).unwrap_or_default();
        let unknown = || "unknown".to_owned();
        [
            self.name.to_owned(),
            match self.is_disabled {
                Some(true) => "disabled".to_owned(),
                Some(false) => "active".to_owned(),
                None => unknown(),
            },
            format!("{kind}{source}"),
            listed(&self.roles),
            self.tags.as_ref().map_or_else(|| listed(&[]), |tags| listed(tags)),
            self.servers.as_ref().map_or_else(unknown, |servers| listed(servers)),
        ]
    }
}
