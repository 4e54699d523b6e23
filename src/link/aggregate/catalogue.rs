//! What clients see of the lists of all members.

use std::collections::HashMap;

use crate::link::aggregate::{
    core::Core,
    json,
    lists::{ListKind, ListState},
    naming::{self, ListedNames, Offer},
    settings::MemberReport,
};
use crate::{
    config::Naming,
    mcp::message::{Id, Message, Part},
};

impl Core {
    /// What clients see of all tools or prompts; in flat naming, this is from now on what their names mean. `server` is a
    /// member.
    pub(super) fn catalogue(&mut self, ask: ListKind) -> Vec<Offer> {
        let granted: Vec<_> = self.granted().collect();
        let listed: Vec<_> = granted
            .iter()
            .map(|member| {
                let peer = &self.members[*member];
                ListedNames { server: &peer.name, names: peer.list(ask).names().collect() }
            })
            .collect();
        let (mut offers, mut clashes) = naming::offers(&self.settings.naming, &listed);
        offers.iter_mut().for_each(|offer| offer.server = granted[offer.server]);
        clashes.iter_mut().for_each(|clash| clash.servers = clash.servers.map(|server| granted[server]));
        for clash in self.offered.note_clashes(ask, clashes) {
            let servers = clash.servers.map(|server| &*self.members[server].name);
            (self.settings.report)(MemberReport::Collision { name: &clash.name, servers });
        }
        if let Naming::Flat { .. } = self.settings.naming {
            let names = offers.iter().map(|offer| {
                let own = &self.members[offer.server].list(ask).items()[offer.item].name;
                (offer.name.as_str().into(), (offer.server, own.clone()))
            });
            self.offered.set(ask, names.collect());
        }
        offers
    }

    pub(super) fn answer_list(&mut self, id: &Id, ask: ListKind, modern: bool) {
        let granted: Vec<_> = self.granted().collect();
        let states = || granted.iter().map(|member| &self.members[*member].list(ask).state);
        let is_known = states().any(|state| matches!(state, ListState::Known(_)));
        // If all have nothing but an error, the client has to see it: it may be about the request itself.
        let refused = states().find_map(|state| match state {
            ListState::Refused(Some(error)) if !is_known => Some(error.clone()),
            _ => None,
        });
        if let Some(error) = refused {
            self.answer(id, error.renamed(Part::Id, id));
            return;
        }
        let ttl = states()
            .filter_map(|state| if let ListState::Known(known) = state { known.ttl_ms } else { None })
            .min()
            .unwrap_or(0);
        let items: Vec<String> = match ask {
            ListKind::Tools | ListKind::Prompts => self
                .catalogue(ask)
                .iter()
                .filter_map(|offer| {
                    self.members[offer.server].list(ask).items()[offer.item].named(&offer.name)
                })
                .collect(),
            ListKind::Resources | ListKind::Templates | ListKind::Discover => self.distinct(&granted, ask),
        };
        let items = format!("[{}]", items.join(","));
        let ttl = ttl.to_string();
        let result = json::object(&[
            (ask.key(), Some(&items)),
            ("resultType", modern.then_some("\"complete\"")),
            ("ttlMs", modern.then_some(&ttl)),
            ("cacheScope", modern.then_some("\"private\"")),
        ]);
        self.answer(id, Message::result_for(id, &result));
    }

    /// Resources or templates, each URI once: the server that comes first has it, on lists as on reads.
    fn distinct(&self, granted: &[usize], ask: ListKind) -> Vec<String> {
        let mut owners: HashMap<&str, usize> = HashMap::new();
        let mut texts = Vec::new();
        for member in granted {
            let peer = &self.members[*member];
            for item in peer.list(ask).items() {
                let owner = *owners.entry(&item.name).or_insert(*member);
                if owner == *member {
                    texts.extend(item.text.as_deref().map(str::to_owned));
                } else {
                    let servers = [&*self.members[owner].name, &*peer.name];
                    (self.settings.report)(MemberReport::Collision { name: &item.name, servers });
                }
            }
        }
        texts
    }
}
