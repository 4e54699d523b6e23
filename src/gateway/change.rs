//! What a reload changed, for its line in the log.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    config::{Credential, Issuer, Server, Snapshot, User},
    observe::LogLine,
};

/// Names that a field of the line has at most.
const MOST_NAMES: usize = 8;

/// What a reload changed.
#[derive(Default)]
pub struct ReloadChange {
    servers: Difference,
    tokens: Difference,
    tenants: Difference,
    users: Difference,
    issuers: Difference,
    pub(super) ended: Option<Ended>,
    /// The new certificate is none that clients take now, and the last one stays.
    pub(super) lacks_certificate: bool,
    /// Requests that lost what had admitted them, streams among them.
    pub(super) cut: u64,
}

/// Names that only the one has, only the other, or both with another meaning.
#[derive(Debug, Default, PartialEq, Eq)]
struct Difference {
    added: Vec<Arc<str>>,
    removed: Vec<Arc<str>>,
    changed: Vec<Arc<str>>,
}

/// By what the requests are counted that a reload ends.
pub(super) struct Ended {
    /// The change after which workers end them.
    pub(super) generation: u64,
    /// Requests that were ended before.
    pub(super) revoked_before: u64,
}

impl ReloadChange {
    pub(super) fn between(old: &Snapshot, new: &Snapshot) -> Self {
        fn servers(of: &Snapshot) -> BTreeMap<&Arc<str>, &Server> {
            of.servers.iter().map(|server| (&server.name, server)).collect()
        }
        fn tokens(of: &Snapshot, are_tenants: bool) -> BTreeMap<&Arc<str>, Vec<&Credential>> {
            let mut tokens = BTreeMap::<_, Vec<_>>::new();
            let those = of.credentials.iter().filter(|it| it.is_tenant == are_tenants);
            those.for_each(|it| tokens.entry(&it.token_name).or_default().push(it));
            tokens
        }
        fn users(of: &Snapshot) -> BTreeMap<&Arc<str>, &User> {
            of.users.iter().map(|user| (&user.name, user)).collect()
        }
        fn issuers(of: &Snapshot) -> BTreeMap<&Arc<str>, &Issuer> {
            of.issuers.iter().map(|issuer| (&issuer.name, &**issuer)).collect()
        }
        Self {
            servers: Difference::between(&servers(old), &servers(new)),
            users: Difference::between(&users(old), &users(new)),
            issuers: Difference::between(&issuers(old), &issuers(new)),
            tokens: Difference::between(&tokens(old, false), &tokens(new, false)),
            tenants: Difference::between(&tokens(old, true), &tokens(new, true)),
            ended: None,
            lacks_certificate: false,
            cut: 0,
        }
    }

    /// Adds what changed to a line. Names are the config's.
    pub(super) fn add_to<'a>(&self, line: LogLine<'a>) -> LogLine<'a> {
        let line = self.servers.add_to(line, ["servers_added", "servers_removed", "servers_changed"]);
        let line = self.tokens.add_to(line, ["tokens_added", "tokens_removed", "tokens_changed"]);
        let line = self.tenants.add_to(line, ["tenants_added", "tenants_removed", "tenants_changed"]);
        let line = self.users.add_to(line, ["users_added", "users_removed", "users_changed"]);
        let line = self.issuers.add_to(line, ["issuers_added", "issuers_removed", "issuers_changed"]);
        line.int("streams_cut", self.cut)
    }
}

impl Difference {
    fn between<V: PartialEq>(old: &BTreeMap<&Arc<str>, V>, new: &BTreeMap<&Arc<str>, V>) -> Self {
        let names = |of: &BTreeMap<&Arc<str>, V>, is_one: &dyn Fn(&Arc<str>, &V) -> bool| {
            of.iter().filter(|(name, value)| is_one(name, value)).map(|(&name, _)| Arc::clone(name)).collect()
        };
        Self {
            added: names(new, &|name, _| !old.contains_key(name)),
            removed: names(old, &|name, _| !new.contains_key(name)),
            changed: names(new, &|name, value| old.get(name).is_some_and(|before| before != value)),
        }
    }

    fn add_to<'a>(&self, line: LogLine<'a>, keys: [&str; 3]) -> LogLine<'a> {
        let lists = [&self.added, &self.removed, &self.changed];
        keys.iter()
            .zip(lists)
            .filter(|(_, names)| !names.is_empty())
            .fold(line, |line, (key, names)| line.text(key, &listed(names)))
    }
}

fn listed(names: &[Arc<str>]) -> String {
    let mut listed = names.iter().take(MOST_NAMES).map(|name| &**name).collect::<Vec<_>>().join(", ");
    if names.len() > MOST_NAMES {
        listed.push_str(&format!(" and {} more", names.len() - MOST_NAMES));
    }
    listed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_by_what_became_of_them_and_not_all_of_many() {
        let names: Vec<Arc<str>> = (0..20).map(|n| format!("{n:02}").into()).collect();
        let (old, new) = ([(0, 'a'), (1, 'a'), (2, 'a')], [(1, 'a'), (2, 'b'), (3, 'a')]);
        let map = |of: [(usize, char); 3]| of.map(|(name, value)| (&names[name], value)).into();
        let difference = Difference::between(&map(old), &map(new));
        let one = |name: usize| vec![Arc::clone(&names[name])];
        assert_eq!(difference, Difference { added: one(3), removed: one(0), changed: one(2) });
        assert_eq!(listed(&names[..2]), "00, 01");
        assert_eq!(listed(&names), "00, 01, 02, 03, 04, 05, 06, 07 and 12 more");
    }
}
