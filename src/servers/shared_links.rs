//! Conversations that callers share.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;

use crate::{
    identity::{AdmittedParty, credential_key::CredentialKey},
    ledger::{Limit, Owner, OwnerName, Resource},
    link::shared::{Lease, SharedLink},
    mcp::modern::ToolHeaders,
    servers::Quarantine,
};

/// Conversations with one server that several callers share (MCP 2026-07-28): one for a server, and for all servers as one
/// one for each set of them that somebody sees.
#[derive(Default)]
pub struct SharedLinks {
    links: Mutex<Links>,
    quarantine: Quarantine,
}

/// Who shares a conversation, and with which credential the server is called in it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SharedKey {
    /// Every caller for whom the server is called with this credential.
    Everyone(CredentialKey),
    /// The callers of one owner.
    Owner(OwnerName, CredentialKey),
    /// Who sees the same of all servers as one by the same token. Without a token, callers from elsewhere are others: what a
    /// view holds is counted for one owner.
    View {
        /// Whose grants are asked.
        to: AdmittedParty,
        /// For whom it is counted.
        owner: OwnerName,
        /// The servers that are seen.
        members: Arc<[MemberKey]>,
    },
}

/// Name of a server among all servers as one, and which credential it is called with.
pub type MemberKey = (Arc<str>, CredentialKey);

#[derive(Default)]
struct Links {
    by_key: HashMap<SharedKey, Arc<SharedConversation>>,
    /// How often one was asked for.
    uses: u64,
}

impl Links {
    fn note_use(&mut self, conversation: &SharedConversation) {
        self.uses += 1;
        conversation.used.store(self.uses, Relaxed);
    }
}

/// A conversation that callers share, and what all of them need to know of the server.
pub struct SharedConversation {
    /// The conversation.
    pub link: SharedLink,
    /// Whose turn it is to list its tools.
    pub listing: AsyncMutex<()>,
    tools: Mutex<KnownTools>,
    lease: Lease,
    /// When it was used last, on the count of all conversations.
    used: AtomicU64,
}

/// What is remembered of a server's tools.
#[derive(Default)]
struct KnownTools {
    listed: Option<ListedTools>,
    /// How often it was forgotten.
    generation: u64,
}

/// What is known of a server's tools.
#[derive(Debug, Clone)]
pub struct ListedTools {
    /// Which of their arguments are repeated in header fields.
    pub headers: Arc<ToolHeaders>,
    /// When it was asked.
    pub asked: Instant,
    /// Whether all tools are among them that there are.
    pub is_complete: bool,
}

impl SharedConversation {
    /// A conversation that `lease` pays for.
    pub fn new(link: SharedLink, lease: Lease) -> Self {
        Self {
            link,
            listing: AsyncMutex::default(),
            tools: Mutex::default(),
            lease,
            used: AtomicU64::default(),
        }
    }

    /// What is known of the server's tools, and in which generation of that knowledge: a reload begins another.
    pub fn tools(&self) -> (Option<ListedTools>, u64) {
        let known = self.tools.lock();
        (known.listed.clone(), known.generation)
    }

    /// Notes what is known of the server's tools, unless it is of a generation that has passed.
    pub fn set_tools(&self, tools: ListedTools, generation: u64) {
        let mut known = self.tools.lock();
        if known.generation == generation {
            known.listed = Some(tools);
        }
    }

    fn forget_tools(&self) {
        let mut known = self.tools.lock();
        *known = KnownTools { listed: None, generation: known.generation + 1 };
    }
}

impl SharedLinks {
    /// The conversation of this key, which is begun with `start` if there is none any more. It is paid for by `owner`, if it is
    /// one owner's; then, without room for another, the oldest that nobody uses goes.
    pub fn get(
        &self,
        key: SharedKey,
        owner: Option<&Arc<Owner>>,
        start: impl FnOnce(Lease) -> SharedLink,
    ) -> Result<Arc<SharedConversation>, Limit> {
        let mut links = self.links.lock();
        if let Some(conversation) =
            links.by_key.get(&key).filter(|conversation| !conversation.link.is_over()).cloned()
        {
            links.note_use(&conversation);
            return Ok(conversation);
        }
        links.by_key.retain(|_, conversation| !conversation.link.is_over());
        let lease = match owner {
            None => Lease::default(),
            Some(owner) => loop {
                match owner.take(Resource::Sessions) {
                    Ok(share) => break Lease::new(share),
                    Err(limit) if end_oldest_unused(&mut links, owner, limit) => {}
                    Err(limit) => return Err(limit),
                }
            },
        };
        let conversation = Arc::new(SharedConversation::new(start(lease.clone()), lease));
        links.note_use(&conversation);
        links.by_key.insert(key, Arc::clone(&conversation));
        Ok(conversation)
    }

    /// Ends the oldest conversation that nobody uses, so that there is room for a session of `owner`, who was refused one for
    /// `limit`. Returns whether there was one.
    pub fn make_room(&self, owner: &Arc<Owner>, limit: Limit) -> bool {
        end_oldest_unused(&mut self.links.lock(), owner, limit)
    }

    /// Whether nobody uses the conversation of this key.
    pub fn is_unused(&self, key: &SharedKey) -> bool {
        self.links
            .lock()
            .by_key
            .get(key)
            .is_none_or(|conversation| conversation.link.is_over() || conversation.link.is_unused())
    }

    /// Callers that get conversations of their own for a while.
    pub fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    /// Ends those that `stay` does not name, once those who are attached have left. They cost their owners nothing from now on.
    /// What is known of the tools of the others is forgotten.
    pub fn retain(&self, stay: impl Fn(&SharedKey) -> bool) {
        self.links.lock().by_key.retain(|key, conversation| {
            let stays = stay(key);
            match stays {
                true => conversation.forget_tools(),
                false => conversation.lease.end(),
            }
            stays
        });
    }

    /// Ends those for which the server is called with this credential, once those who are attached have left.
    pub fn end_of(&self, credential: CredentialKey) {
        self.links.lock().by_key.retain(|key, conversation| {
            let (SharedKey::Everyone(of) | SharedKey::Owner(_, of)) = key else { return true };
            if *of == credential {
                conversation.lease.end();
            }
            *of != credential
        });
    }

    /// The same of all.
    pub fn clear(&self) {
        self.retain(|_| false);
    }
}

/// Where the owner's own limit is reached, one of its own goes.
fn end_oldest_unused(links: &mut Links, owner: &Arc<Owner>, limit: Limit) -> bool {
    let may_go = |conversation: &SharedConversation| {
        let payer = conversation.lease.owner();
        conversation.link.is_unused()
            && payer.is_some_and(|payer| limit == Limit::Gateway || Arc::ptr_eq(&payer, owner))
    };
    let unused = links.by_key.iter().filter(|(_, conversation)| may_go(conversation));
    let oldest = unused.min_by_key(|(_, conversation)| conversation.used.load(Relaxed));
    let Some(key) = oldest.map(|(key, _)| key.clone()) else { return false };
    if let Some(conversation) = links.by_key.remove(&key) {
        conversation.lease.end();
    }
    true
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        error::ErrorKind,
        identity::Identity,
        ledger::{Capacity, Ledger},
        link::shared::SharedLinkSettings,
    };

    const IDLE: Duration = Duration::from_secs(60);

    fn everyone(credential: CredentialKey) -> SharedKey {
        SharedKey::Everyone(credential)
    }

    fn own(name: &str) -> SharedKey {
        SharedKey::Owner(OwnerName::Token(name.into()), CredentialKey::STATIC)
    }

    fn closed(lease: Lease) -> SharedLink {
        let never = || std::future::ready(Err(ErrorKind::UpstreamUnreachable.into()));
        SharedLink::start(never, SharedLinkSettings { lease, ..SharedLinkSettings::new(IDLE) })
    }

    fn on_worker(is_paused: bool, test: impl Future<Output = ()>) {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(is_paused);
        builder.build_local(tokio::runtime::LocalOptions::default()).unwrap().block_on(test);
    }

    #[test]
    fn a_conversation_whose_thread_is_gone_is_begun_anew() {
        let links = SharedLinks::default();
        let (mut joints, mut begun) = (Vec::new(), 0);
        for _ in 0..2 {
            on_worker(false, async {
                for _ in 0..2 {
                    let conversation = links.get(everyone(CredentialKey::STATIC), None, |lease| {
                        begun += 1;
                        closed(lease)
                    });
                    joints.push(conversation.unwrap());
                }
            });
        }
        assert_eq!(begun, 2);
        assert!(Arc::ptr_eq(&joints[0], &joints[1]) && Arc::ptr_eq(&joints[2], &joints[3]));
    }

    #[test]
    fn callers_with_different_credentials_share_no_conversation() {
        on_worker(false, async {
            let credentials =
                [CredentialKey::STATIC, CredentialKey::of_caller([1; 16]), CredentialKey::of_caller([2; 16])];
            let view = |credential| SharedKey::View {
                to: AdmittedParty::Credential(Arc::new(Identity::NOBODY)),
                owner: OwnerName::Token("dev".into()),
                members: [("db".into(), CredentialKey::STATIC), ("files".into(), credential)].into(),
            };
            let owned = |credential| SharedKey::Owner(OwnerName::Token("dev".into()), credential);
            let links = SharedLinks::default();
            let kinds: [&dyn Fn(CredentialKey) -> SharedKey; 3] = [&everyone, &owned, &view];
            let mut begun: Vec<Arc<SharedConversation>> = Vec::new();
            for key in kinds.iter().flat_map(|kind| credentials.map(kind)) {
                let conversation = links.get(key.clone(), None, closed).unwrap();
                assert!(!begun.iter().any(|other| Arc::ptr_eq(other, &conversation)), "{key:?}");
                assert!(Arc::ptr_eq(&links.get(key, None, closed).unwrap(), &conversation), "its own is");
                begun.push(conversation);
            }
        });
    }

    #[test]
    fn what_callers_share_with_a_credential_ends_with_it() {
        on_worker(false, async {
            let [first, second] = [1, 2].map(|id| CredentialKey::of_caller([id; 16]));
            let links = SharedLinks::default();
            let get = |key| links.get(everyone(key), None, closed).unwrap();
            let (of_first, of_second) = (get(first), get(second));
            links.end_of(first);
            assert!(!Arc::ptr_eq(&of_first, &get(first)) && Arc::ptr_eq(&of_second, &get(second)));
        });
    }

    #[test]
    fn a_list_that_a_reload_overtook_is_not_remembered() {
        on_worker(false, async {
            let links = SharedLinks::default();
            let conversation = links.get(own("view"), None, closed).unwrap();
            let listed = || ListedTools { headers: Arc::default(), asked: Instant::now(), is_complete: true };
            let (_, before) = conversation.tools();
            links.retain(|_| true);
            conversation.set_tools(listed(), before);
            let (known, now) = conversation.tools();
            assert!(known.is_none());
            conversation.set_tools(listed(), now);
            assert!(conversation.tools().0.is_some());
        });
    }

    #[test]
    fn without_room_the_oldest_view_that_nobody_uses_goes_and_no_other() {
        on_worker(false, async {
            let ledger = Ledger::new(|_| Capacity { total: 3, per_owner: 0 });
            let owner = ledger.owner(OwnerName::Token("dev".into()));
            let links = SharedLinks::default();
            let view = |key| links.get(own(key), Some(&owner), closed);
            let first = view("first").unwrap();
            let attached = first.link.attach(&owner);
            view("second").unwrap();
            view("third").unwrap();
            view("second").unwrap();
            view("fourth").unwrap();
            let left = |key: &str| links.links.lock().by_key.contains_key(&own(key));
            assert!(left("first") && left("second") && !left("third") && left("fourth"));
            assert_eq!(owner.used(Resource::Sessions), 3);
            let (_second, _fourth) =
                (view("second").unwrap().link.attach(&owner), view("fourth").unwrap().link.attach(&owner));
            assert_eq!(view("fifth").err(), Some(Limit::Gateway), "all are used");
            drop(attached);
        });
    }

    #[test]
    fn a_view_that_nobody_uses_costs_nothing_after_a_while() {
        on_worker(true, async {
            let ledger = Ledger::new(|_| Capacity { total: 3, per_owner: 0 });
            let owner = ledger.owner(OwnerName::Token("dev".into()));
            let links = SharedLinks::default();
            let conversation = links.get(own("view"), Some(&owner), closed).unwrap();
            tokio::time::sleep(IDLE / 2).await;
            assert_eq!(owner.used(Resource::Sessions), 1);
            tokio::time::sleep(IDLE).await;
            assert_eq!((owner.used(Resource::Sessions), conversation.link.is_over()), (0, true));
            assert!(!Arc::ptr_eq(&conversation, &links.get(own("view"), Some(&owner), closed).unwrap()));
        });
    }
}
