//! `proxy.auth.users`: people, who come in by a password.

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};

use crate::config::{
    access::Rule,
    names::user_name_fault,
    read::{context::Context, fields::Fields, reader::Node, reference::TextSource},
    report::problem::Location,
    resolve::callers::{KnownNames, caller_limits, words},
    rule_lines::RuleOf,
    snapshot::{LoginStorage, LoginStore, LoginTerms, User},
    table::USER,
};
use crate::secret::{Secret, SecretKey};

/// Most that a login may cost: memory in KiB, passes, lanes.
const MOST: [u32; 3] = [64 * 1024, 4, 4];
/// Least memory in KiB: with less, passwords can be tried fast by somebody who has the hash.
const LEAST_MEMORY: u32 = 7 * 1024;

/// Characters that `jwtSecret` must have: as many as the keys that are made of it have bytes.
const JWT_SECRET_LENGTH: usize = 32;

/// What `users` says.
#[derive(Debug, Default)]
pub(crate) struct ReadUsers {
    /// Every user of whom the hash is known.
    pub(crate) known: Vec<User>,
    /// Every name, whether its entry is good or not.
    pub(crate) names: KnownNames,
}

/// Reads the users. `servers`: the names of the servers; what tags leave to callers goes into `tag_limits`.
pub(super) fn read(
    cx: &mut Context<'_>,
    users: &Fields<'_>,
    servers: &[&str],
    tag_limits: &mut Vec<(Location, Vec<String>)>,
) -> ReadUsers {
    let mut known = Vec::new();
    let mut names: Vec<Arc<str>> = Vec::new();
    for (name, key, node) in users.entries() {
        let name: Arc<str> = name.into();
        names.push(Arc::clone(&name));
        if let Some(fault) = user_name_fault(&name) {
            cx.error(&key, fault);
        }
        if !node.is_object() {
            node.expected::<()>(cx, "an object with a `passwordHash`, which `sluicegate user hash` prints");
            continue;
        }
        let Some(fields) = node.object(cx, &USER) else { continue };
        let roles = words(cx, &fields, "roles").unwrap_or_default();
        let limits = caller_limits(cx, &fields, servers, tag_limits);
        let disabled = fields.bool(cx, "disabled");
        let at = |key| if fields.has(key) { fields.key(key) } else { node.at.clone() };
        let rules = [
            (Rule::OwnRoles, at("roles")),
            (Rule::OwnServers, at("servers")),
            (Rule::OwnTags, at("tags")),
            (Rule::Disabled, at("disabled")),
        ];
        cx.rules.extend(rules.map(|(rule, at)| (RuleOf::User(Arc::clone(&name)), rule, at)));
        let hash = match fields.get("passwordHash") {
            // What is wrong with a file closes this user, and nothing else.
            Some(hash) if hash.is_file() => cx.part(|cx| password_hash(cx, &hash)),
            Some(hash) => password_hash(cx, &hash),
            None => {
                if fields.lacks(&["passwordHash"]) {
                    cx.error(&node.at, "needs a `passwordHash`; `sluicegate user hash` prints one");
                }
                None
            }
        };
        let Some(password_hash) = hash else { continue };
        // One that cannot be read lets nobody in.
        let user = User { name, password_hash, roles, limits, disabled: disabled.unwrap_or(true) };
        known.push(user);
    }
    ReadUsers { known, names: KnownNames::of(names) }
}

/// `sessions`: how long logins last. What is not good is noted, and its value does not matter any more.
pub(super) fn login_terms(cx: &mut Context<'_>, fields: &Fields<'_>) -> LoginTerms {
    let default = LoginTerms::DEFAULT;
    LoginTerms {
        access_ttl: fields.duration(cx, "accessTtl").unwrap_or(default.access_ttl),
        refresh_ttl: fields.duration(cx, "refreshTtl").unwrap_or(default.refresh_ttl),
        max_age: fields.duration(cx, "maxAge").unwrap_or(default.max_age),
        per_user: fields.number(cx, "perUser").unwrap_or(default.per_user),
        reuse_grace: fields.duration(cx, "reuseGrace").unwrap_or(default.reuse_grace),
    }
}

/// `storage`, `jwtSecret` and `encryptionKey`. What is not good is noted, and its value does not matter any more.
/// `has_oauth`: whether others than users log in.
pub(super) fn login_store(cx: &mut Context<'_>, fields: &Fields<'_>, has_oauth: bool) -> LoginStore {
    let storage = match fields.word(cx, "storage") {
        Some("memory") => LoginStorage::Memory,
        _ => LoginStorage::File,
    };
    let store = LoginStore {
        storage,
        jwt_secrets: keys(cx, fields, "jwtSecret", jwt_secret),
        encryption_keys: keys(cx, fields, "encryptionKey", encryption_key),
    };
    for name in ["storage", "jwtSecret", "encryptionKey"].into_iter().filter(|name| fields.has(name)) {
        if !fields.has("users") && !has_oauth {
            cx.notice(
                &fields.key(name),
                "has no effect, because there are no `users` who could log in; add some, or remove it",
            );
        } else if storage == LoginStorage::Memory && name != "storage" {
            let message = "has no effect beside `\"storage\": \"memory\"`: logins end with the process, and so do their keys; \
                           remove it, or write \"file\"";
            cx.notice(&fields.key(name), message);
        }
    }
    store
}

/// One key or a list of them, the first of which makes things.
fn keys<T>(
    cx: &mut Context<'_>,
    fields: &Fields<'_>,
    name: &str,
    read: fn(&mut Context<'_>, &Node<'_>) -> Option<T>,
) -> Vec<T> {
    let Some(node) = fields.get(name) else { return Vec::new() };
    let nodes = node.elements();
    if nodes.as_ref().is_some_and(Vec::is_empty) {
        cx.warning(&node.at, "has no key, so that the gateway makes one; write one, or remove the list");
    }
    let nodes = nodes.unwrap_or_else(|| vec![node]);
    nodes.iter().filter_map(|node| node.part_of_file(cx, |cx| read(cx, node))).collect()
}

fn jwt_secret(cx: &mut Context<'_>, node: &Node<'_>) -> Option<Secret> {
    let text = node.secret(cx)?;
    if text.value.chars().count() < JWT_SECRET_LENGTH {
        return cx.refuse(
            &text.at,
            format!("must have at least {JWT_SECRET_LENGTH} characters; `openssl rand -base64 32` makes a good one"),
        );
    }
    if text.origin == TextSource::Literal {
        cx.plain_secret.get_or_insert(text.at.clone());
    }
    Some(Secret::new(text.value))
}

fn encryption_key(cx: &mut Context<'_>, node: &Node<'_>) -> Option<SecretKey> {
    let text = node.secret(cx)?;
    let key = SecretKey::parse(&text.value).or_else(|| {
        cx.refuse(
            &text.at,
            "must be exactly 32 bytes, or `base64:` and 32 bytes in base64; `echo base64:$(openssl rand -base64 32)` makes a \
             good one",
        )
    })?;
    if text.origin == TextSource::Literal {
        cx.plain_secret.get_or_insert(text.at.clone());
    }
    Some(key)
}

/// The hash of a password, checked for its form. It is never shown.
fn password_hash(cx: &mut Context<'_>, node: &Node<'_>) -> Option<Secret> {
    let text = node.verifier(cx)?;
    let Some([memory, passes, lanes]) = argon2id(&text.value) else {
        return cx.refuse(
            &text.at,
            "is no argon2id hash in PHC form, \"$argon2id$v=19$m=19456,t=2,p=1$SALT$HASH\"; the password itself and other \
             hashes cannot stand here; `sluicegate user hash` prints one",
        );
    };
    let is_fit = [memory, passes, lanes].iter().zip(MOST).all(|(cost, most)| (1..=most).contains(cost));
    if !is_fit || memory < 8 * lanes {
        let message = "costs more than a login may, or less than argon2id can; at most m=65536 (64 MiB), t=4, p=4, and \
                       m=19456,t=2,p=1 is a good choice";
        return cx.refuse(&text.at, message);
    }
    if memory < LEAST_MEMORY {
        cx.warning(
            &text.at,
            "costs so little that passwords can be tried fast by somebody who has it; m=19456,t=2,p=1 is a good choice",
        );
    }
    if text.origin == TextSource::Literal {
        cx.plain_secret.get_or_insert(text.at.clone());
    }
    Some(Secret::new(text.value))
}

/// Memory in KiB, passes and lanes of a hash in PHC form, if it is one of argon2id.
fn argon2id(text: &str) -> Option<[u32; 3]> {
    let mut parts = text.strip_prefix("$argon2id$v=19$")?.split('$');
    let (costs, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
    let is_long = |part: &str, least| {
        STANDARD_NO_PAD.decode(part).is_ok_and(|bytes| (least..=64).contains(&bytes.len()))
    };
    if parts.next().is_some() || !is_long(salt, 8) || !is_long(hash, 16) {
        return None;
    }
    let mut costs = costs.split(',');
    let mut cost = |name: &str| {
        let digits = costs.next()?.strip_prefix(name)?;
        digits.bytes().all(|digit| digit.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let found = [cost("m=")?, cost("t=")?, cost("p=")?];
    costs.next().is_none().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_one_of_argon2id_with_all_that_it_takes() {
        const GOOD: &str = "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA";
        assert_eq!(argon2id(GOOD), Some([19456, 2, 1]));
        for (from, to) in [
            ("argon2id", "argon2i"),
            ("v=19", "v=16"),
            ("$v=19", ""),
            ("m=19456,", ""),
            ("m=19456", "m=+19456"),
            ("m=19456", "m=99999999999"),
            ("p=1", "p=1,keyid=x"),
            ("t=2,p=1", "p=1,t=2"),
            ("c2FsdHNhbHQ", "c2FsdA"),
            ("c2FsdHNhbHQ", "c2FsdHNhbHQ="),
            ("aGFzaGhhc2hoYXNoaGFzaA", "aGFzaA"),
            ("aGFzaGhhc2hoYXNoaGFzaA", "aGFzaGhhc2hoYXNoaGFzaA$x"),
            ("$aGFzaGhhc2hoYXNoaGFzaA", ""),
        ] {
            let bad = GOOD.replace(from, to);
            assert_eq!(argon2id(&bad), None, "{bad}");
        }
        for bad in ["", "password", "$2b$12$abcdefghijklmnopqrstuv", "$argon2id$v=19$$$"] {
            assert_eq!(argon2id(bad), None, "{bad}");
        }
    }
}
