//! Whose credentials something was begun with at a server.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use crate::{
    identity::{Principal, credential_key::CredentialKey},
    secret::Secret,
};

/// Those who have a credential of their own at a server with which something was begun that goes on: so that it ends once they have
/// another, or none.
#[derive(Default)]
pub struct KeyHolders(Mutex<HashMap<CredentialKey, Weak<KeyHolder>>>);

/// Whose a credential is. Kept by whatever goes on with it.
pub struct KeyHolder {
    /// The owner.
    pub principal: Principal,
    /// The newest token that this one came by, of which a credential may be made.
    token: Mutex<Option<Secret>>,
}

impl KeyHolder {
    /// The newest token that this one came by, which was verified.
    pub fn token(&self) -> Option<Secret> {
        self.token.lock().clone()
    }
}

impl KeyHolders {
    /// The holder of `key`, who is `principal`.
    pub fn hold(&self, key: CredentialKey, principal: &Principal) -> Arc<KeyHolder> {
        let mut holders = self.0.lock();
        if let Some(holder) = holders.get(&key).and_then(Weak::upgrade) {
            return holder;
        }
        holders.retain(|_, holder| holder.strong_count() > 0);
        let holder = Arc::new(KeyHolder { principal: principal.clone(), token: Mutex::default() });
        holders.insert(key, Arc::downgrade(&holder));
        holder
    }

    /// Those whose owner has another credential by now, as `key_of` says. They are forgotten.
    pub fn take_lost(&self, key_of: impl Fn(&Principal) -> CredentialKey) -> Vec<CredentialKey> {
        let mut lost = Vec::new();
        self.0.lock().retain(|key, holder| {
            let Some(holder) = holder.upgrade() else { return false };
            let stays = key_of(&holder.principal) == *key;
            if !stays {
                lost.push(*key);
            }
            stays
        });
        lost
    }

    /// The holder of `key` came by this token.
    pub fn note_token(&self, key: CredentialKey, token: &Secret) {
        if let Some(holder) = self.0.lock().get(&key).and_then(Weak::upgrade) {
            *holder.token.lock() = Some(token.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_begun_with_a_credential_is_found_once_its_owner_has_another() {
        let holders = KeyHolders::default();
        let [alice, bob] = ["alice", "bob"].map(|name| Principal::User(name.into()));
        let [first, second, anew] = [1, 2, 3].map(|id| CredentialKey::of_caller([id; 16]));
        let of_alice = holders.hold(first, &alice);
        let of_bob = holders.hold(second, &bob);
        assert!(Arc::ptr_eq(&of_alice, &holders.hold(first, &alice)));
        let still = |principal: &Principal| if *principal == alice { first } else { second };
        assert!(holders.take_lost(still).is_empty());
        let now = |principal: &Principal| if *principal == alice { anew } else { second };
        assert_eq!(holders.take_lost(now), [first]);
        assert!(holders.take_lost(now).is_empty(), "once");
        drop(of_bob);
        assert!(holders.take_lost(|_| anew).is_empty(), "nothing of it goes on");
    }

    #[test]
    fn the_newest_token_of_a_holder_counts() {
        let holders = KeyHolders::default();
        let key = CredentialKey::of_caller([1; 16]);
        let token = |text: &str| Secret::new(text.into());
        holders.note_token(key, &token("nobody holds it"));
        let holder = holders.hold(key, &Principal::User("alice".into()));
        assert!(holder.token().is_none());
        holders.note_token(key, &token("one"));
        holders.note_token(key, &token("two"));
        assert!(holder.token().is_some_and(|token| token.expose() == "two"));
    }
}
