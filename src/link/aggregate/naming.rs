//! What tools and prompts of several servers are called, and which server a name leads to.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    sync::Arc,
};

use super::lists::ListKind;
use crate::{
    config::{Collision, Naming},
    ledger::{Owner, Resource, Share},
};

/// A server and what it calls its things. A server that cannot be asked has no names, yet counts where prefixes are told
/// apart.
pub(super) struct ListedNames<'a> {
    pub(super) server: &'a str,
    pub(super) names: Vec<&'a str>,
}

/// One thing that clients see.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// Whose it is: an index of what was listed.
    pub(super) server: usize,
    /// Which of its things.
    pub(super) item: usize,
    /// What clients call it.
    pub(super) name: String,
}

/// A name that two servers would have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Clash {
    pub(super) name: String,
    pub(super) servers: [usize; 2],
}

/// The member that a name leads to, and that member's own name for the thing.
pub(super) type NameMap = HashMap<Box<str>, (usize, Box<str>)>;

/// What names mean that clients were given: of [`ListKind::Tools`], then of [`ListKind::Prompts`].
pub(super) struct OfferedNames([OfferedKind; 2]);

struct OfferedKind {
    /// In flat naming: where the names lead.
    names: NameMap,
    /// Counts them.
    held: Share,
    /// Names that are known to clash.
    clashes: Vec<Clash>,
}

impl OfferedNames {
    pub(super) fn new(owner: &Arc<Owner>) -> Self {
        Self([(); 2].map(|()| OfferedKind {
            names: NameMap::new(),
            held: owner.hold(Resource::Bytes, 0),
            clashes: Vec::new(),
        }))
    }

    /// Where a name leads in flat naming.
    pub(super) fn leads_to(&self, ask: ListKind, name: &str) -> Option<(usize, &str)> {
        let (member, own) = self.0[Self::slot(ask)].names.get(name)?;
        Some((*member, own))
    }

    /// This is what the names of one kind mean from now on.
    pub(super) fn set(&mut self, ask: ListKind, names: NameMap) {
        let kind = &mut self.0[Self::slot(ask)];
        let bytes: usize = names.iter().map(|(name, (_, own))| name.len() + own.len()).sum();
        kind.held.set(u64::try_from(bytes).unwrap_or(u64::MAX));
        kind.names = names;
    }

    /// These names clash now. Those that did not before.
    pub(super) fn note_clashes(&mut self, ask: ListKind, clashes: Vec<Clash>) -> Vec<Clash> {
        let known = std::mem::replace(&mut self.0[Self::slot(ask)].clashes, clashes.clone());
        clashes.into_iter().filter(|clash| !known.contains(clash)).collect()
    }

    fn slot(ask: ListKind) -> usize {
        usize::from(ask == ListKind::Prompts)
    }
}

/// What clients see of all that is listed, in that order, each name once.
pub(super) fn offers(naming: &Naming, listed: &[ListedNames<'_>]) -> (Vec<Offer>, Vec<Clash>) {
    let owners = owners(listed);
    let mut seen: HashMap<String, usize> = HashMap::new();
    let (mut offers, mut clashes) = (Vec::new(), Vec::new());
    for (server, of) in listed.iter().enumerate() {
        // A server that lists a name twice means the same thing by it: who calls it reaches the same.
        let mut own = HashSet::new();
        for (item, name) in of.names.iter().enumerate().filter(|(_, name)| own.insert(**name)) {
            let first = owners.get(name).copied().filter(|owners| owners.0 != owners.1);
            let name = match (naming, first) {
                (Naming::Prefixed { separator }, _) => {
                    let name = format!("{}{separator}{name}", of.server);
                    let servers = listed.iter().map(|of| of.server);
                    match split(servers, separator, &name) {
                        Some((reached, _)) if reached != server => {
                            clashes.push(Clash { name, servers: ordered(server, reached) });
                            continue;
                        }
                        _ => name,
                    }
                }
                (Naming::Flat { .. }, None) => (*name).to_owned(),
                (Naming::Flat { on_collision, separator }, Some((first, second))) => match on_collision {
                    Collision::Prefix => format!("{}{separator}{name}", of.server),
                    Collision::First if server == first => (*name).to_owned(),
                    Collision::Error if server == first => {
                        clashes.push(Clash { name: (*name).to_owned(), servers: [first, second] });
                        continue;
                    }
                    Collision::First | Collision::Error => continue,
                },
            };
            match seen.entry(name) {
                Entry::Occupied(taken) => {
                    clashes.push(Clash { name: taken.key().clone(), servers: ordered(*taken.get(), server) });
                }
                Entry::Vacant(free) => {
                    offers.push(Offer { server, item, name: free.key().clone() });
                    free.insert(server);
                }
            }
        }
    }
    (offers, clashes)
}

/// For each name the first server that has it, and the second, or the first again if there is no second.
fn owners<'a>(listed: &[ListedNames<'a>]) -> HashMap<&'a str, (usize, usize)> {
    let mut owners = HashMap::new();
    for (server, of) in listed.iter().enumerate() {
        for name in &of.names {
            let (first, second) = owners.entry(*name).or_insert((server, server));
            if first == second {
                *second = server;
            }
        }
    }
    owners
}

/// The server that a prefixed name leads to, and its own name for the thing. Where the name of one server begins like
/// that of another (`a` and `a__b`), the longer wins: whether a name can be reached then depends on which servers there
/// are, and not on what they list at the moment.
pub(super) fn split<'n, 's>(
    servers: impl Iterator<Item = &'s str>,
    separator: &str,
    name: &'n str,
) -> Option<(usize, &'n str)> {
    servers
        .enumerate()
        .filter_map(|(at, server)| {
            Some((server.len(), at, name.strip_prefix(server)?.strip_prefix(separator)?))
        })
        .max_by_key(|(length, ..)| *length)
        .map(|(_, at, own)| (at, own))
}

/// The server that a prefixed name leads to, by the same rule, where servers are easier asked for than listed.
pub fn server_of<'n>(separator: &str, name: &'n str, is_server: impl Fn(&str) -> bool) -> Option<&'n str> {
    let ends =
        (1..name.len()).rev().filter(|at| name.get(*at..).is_some_and(|rest| rest.starts_with(separator)));
    ends.map(|at| &name[..at]).find(|server| is_server(server))
}

fn ordered(one: usize, other: usize) -> [usize; 2] {
    [one.min(other), one.max(other)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(naming: &Naming, listed: &[(&str, &[&str])]) -> (Vec<String>, Vec<String>) {
        let listed: Vec<_> =
            listed.iter().map(|(server, names)| ListedNames { server, names: names.to_vec() }).collect();
        let (offers, clashes) = offers(naming, &listed);
        let names = offers.into_iter().map(|offer| {
            assert!(offer.name.ends_with(listed[offer.server].names[offer.item]));
            offer.name
        });
        (names.collect(), clashes.into_iter().map(|clash| clash.name).collect())
    }

    fn flat(on_collision: Collision) -> Naming {
        Naming::Flat { on_collision, separator: "_1mcp_".into() }
    }

    const TWO: &[(&str, &[&str])] = &[("a", &["x", "y"]), ("b", &["y", "z", "z"]), ("c", &["y"])];

    #[test]
    fn asking_for_servers_leads_where_listing_them_does() {
        let servers = ["a", "a__b", "a_", "c"];
        for name in
            ["a__x", "a__b__x", "a__b_", "a___x", "a____x", "c__", "c__é", "é__x", "d__x", "__x", "a", ""]
        {
            let listed = split(servers.into_iter(), "__", name).map(|(at, _)| servers[at]);
            assert_eq!(server_of("__", name, |server| servers.contains(&server)), listed, "{name}");
        }
    }

    #[test]
    fn prefixed_names_never_meet() {
        let naming = Naming::Prefixed { separator: ".".into() };
        assert_eq!(names(&naming, TWO), (["a.x", "a.y", "b.y", "b.z", "c.y"].map(Into::into).into(), vec![]));
    }

    #[test]
    fn where_one_server_is_called_like_the_prefix_of_another_the_list_offers_what_a_call_reaches() {
        let naming = Naming::Prefixed { separator: "__".into() };
        let listed: &[(&str, &[&str])] = &[("a", &["b__x", "y"]), ("a__b", &["x"])];
        assert_eq!(
            names(&naming, listed),
            (["a__y", "a__b__x"].map(Into::into).into(), vec!["a__b__x".into()])
        );
        let servers = || ["a", "a__b"].into_iter();
        assert_eq!(split(servers(), "__", "a__b__x"), Some((1, "x")));
        assert_eq!(split(servers(), "__", "a__y"), Some((0, "y")));
        assert_eq!(split(servers(), "__", "c__y"), None);
        assert_eq!(split(servers(), "__", "a"), None);
    }

    #[test]
    fn flat_names_that_two_servers_have_follow_the_declared_rule() {
        let strings = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(names(&flat(Collision::Error), TWO), (strings(&["x", "z"]), strings(&["y"])));
        assert_eq!(names(&flat(Collision::First), TWO), (strings(&["x", "y", "z"]), vec![]));
        assert_eq!(
            names(&flat(Collision::Prefix), TWO),
            (strings(&["x", "a_1mcp_y", "b_1mcp_y", "z", "c_1mcp_y"]), vec![])
        );
    }

    #[test]
    fn a_prefix_that_makes_another_servers_flat_name_gives_way() {
        let listed: &[(&str, &[&str])] = &[("a", &["y"]), ("b", &["y"]), ("c", &["b_1mcp_y"])];
        let (names, clashes) = names(&flat(Collision::Prefix), listed);
        assert_eq!(names, ["a_1mcp_y", "b_1mcp_y"]);
        assert_eq!(clashes, ["b_1mcp_y"]);
    }
}
