use std::{io::Write as _, path::Path};

use proptest::{collection::vec, option, prelude::*, sample::subsequence};
use serde_json::{Value, json};

use super::*;
use crate::{
    config::{self, LogFormat, LoginStorage, LoginStore},
    identity::login::{access_token::AccessClaims, session_token::SessionClaims, store::Opening},
    ledger::Capacity,
    observe::{Log, Metrics},
    policy::decide::DenyKind,
    secret::Secret,
    watchdog::Revocation,
};

const TOKENS: [&str; 2] = ["t0", "t1"];
const SERVERS: [&str; 3] = ["s0", "s1", "s2"];
const ROLES: [&str; 3] = ["a", "b", "admin"];
const TAGS: [&str; 2] = ["x", "y"];
const USERS: [&str; 2] = ["u0", "t1"];
const HASH: &str = "$argon2id$v=19$m=8192,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaA";
const OTHER_HASH: &str = "$argon2id$v=19$m=8192,t=1,p=1$c2FsdHNhbHQ$b3RoZXJvdGhlcm90aGVybw";

/// What somebody has in a config: roles and limits. A limit can name only servers that are there.
fn any_grant() -> impl Strategy<Value = Value> {
    let limit = |names: &'static [&str]| option::weighted(0.3, subsequence(names, 0..=names.len()));
    (subsequence(ROLES.to_vec(), 0..=2), limit(&SERVERS), limit(&TAGS)).prop_map(|(roles, servers, tags)| {
        let mut grant = json!({ "roles": roles });
        servers.iter().for_each(|servers| grant["servers"] = json!(servers));
        tags.iter().for_each(|tags| grant["tags"] = json!(tags));
        grant
    })
}

/// What two tokens with two credentials each, two users, and three servers, may be in a config. Some of them are not there, and
/// the first credentials may be exchanged between the tokens.
fn any_config() -> impl Strategy<Value = Value> {
    let expires = || option::of(prop_oneof![Just("2020-01-01T00:00:00Z"), Just("2100-01-01T00:00:00Z")]);
    let credential = move || option::of((any_grant(), expires()));
    let user = || option::of((any_grant(), any::<bool>(), prop_oneof![Just(HASH), Just(OTHER_HASH)]));
    let rule = || {
        option::of((
            option::of(subsequence(TOKENS.to_vec(), 0..=2)),
            option::of(subsequence(USERS.to_vec(), 0..=2)),
            option::of(subsequence(ROLES.to_vec(), 0..=2)),
            subsequence(TAGS.to_vec(), 0..=2),
            any::<bool>(),
        ))
    };
    let all = (vec(vec(credential(), 2), 2), vec(user(), 2), vec(rule(), 3), any::<bool>(), any::<bool>());
    all.prop_map(|(tokens, users, rules, is_exchanged, admin_sees_all)| {
        let (mut proxy, mut servers) = (json!({}), json!({}));
        proxy["auth"]["adminSeesAll"] = json!(admin_sees_all);
        let is_there: Vec<_> =
            SERVERS.iter().zip(&rules).filter(|(_, rule)| rule.is_some()).map(|(name, _)| *name).collect();
        let fitted = |mut grant: Value| {
            if let Some(named) = grant.get_mut("servers").and_then(Value::as_array_mut) {
                named.retain(|name| is_there.iter().any(|there| name == there));
            }
            grant
        };
        let there: Vec<_> =
            USERS.iter().zip(&users).filter(|(_, user)| user.is_some()).map(|(name, _)| *name).collect();
        for (name, user) in USERS.into_iter().zip(users) {
            let Some((grant, disabled, hash)) = user else { continue };
            let mut user = fitted(grant);
            user["passwordHash"] = json!(hash);
            user["disabled"] = json!(disabled);
            proxy["auth"]["users"][name] = user;
        }
        for (name, credentials) in TOKENS.into_iter().zip(tokens) {
            let made = credentials.into_iter().enumerate().filter_map(|(index, credential)| {
                let (grant, expires) = credential?;
                let of = if is_exchanged && index == 0 && name == TOKENS[0] { TOKENS[1] } else { name };
                let of = if is_exchanged && index == 0 && name == TOKENS[1] { TOKENS[0] } else { of };
                let mut made = fitted(grant);
                made["value"] = json!(format!("{of}-{index}-0123456789abcdef"));
                expires.iter().for_each(|end| made["expires"] = json!(end));
                Some(made)
            });
            proxy["auth"]["tokens"][name] = made.collect();
        }
        for (name, rule) in SERVERS.into_iter().zip(rules) {
            let Some((tokens, users, roles, tags, is_public)) = rule else { continue };
            let users =
                users.map(|users| users.into_iter().filter(|name| there.contains(name)).collect::<Vec<_>>());
            let mut server = json!({ "url": "http://127.0.0.1:1/mcp", "tags": tags });
            if is_public && tokens.is_none() && users.is_none() && roles.is_none() {
                server["public"] = json!(true);
            }
            tokens.iter().for_each(|tokens| server["authTokens"] = json!(tokens));
            users.iter().for_each(|users| server["users"] = json!(users));
            roles.iter().for_each(|roles| server["roles"] = json!(roles));
            servers[name] = server;
        }
        json!({ "proxy": proxy, "mcpServers": servers })
    })
}

fn live(config: &Value) -> Live {
    live_with(config, &Arc::new(Logins::new().unwrap()))
}

fn live_with(config: &Value, logins: &Arc<Logins>) -> Live {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(config.to_string().as_bytes()).unwrap();
    let loaded = config::load(file.path(), &|_| None);
    let snapshot = loaded.snapshot.unwrap_or_else(|| panic!("{:?}", loaded.problems));
    let metrics = Metrics::new().unwrap();
    let out = Box::new(std::io::sink());
    let log =
        Log::start(config::Level::Error, LogFormat::Json, false, out, metrics.log_lines_dropped.clone());
    let observer = Arc::new(Observer::new(log.unwrap(), metrics));
    let ledger = Arc::new(Ledger::new(|_| Capacity { total: 1, per_owner: 0 }));
    let key = SessionKey::random().unwrap();
    let in_memory = LoginStore { storage: LoginStorage::Memory, ..LoginStore::default() };
    let opening = Opening { now: &SystemTime::now, is_wanted: &|| true };
    if !logins.is_open() {
        logins.keep_store(logins.open_store(&in_memory, Path::new(""), opening).unwrap());
    }
    Live::build(Arc::new(snapshot), None, &observer, &ledger, &key, (&Arc::new(Clock::default()), logins))
        .unwrap()
}

/// What is lost by a decision about the only credential that is left.
fn lost(decision: Decision) -> Option<Revocation> {
    let Decision::Deny { kind, .. } = decision else { return None };
    Some(match kind {
        DenyKind::NotFound => Revocation::Server,
        DenyKind::Unauthenticated | DenyKind::InvalidToken => Revocation::Token,
        DenyKind::Forbidden | DenyKind::Hidden | DenyKind::ToolForbidden | DenyKind::OutOfScope => {
            Revocation::Grant
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// What is kept of decisions, and what is asked of what runs after a reload, are what is decided.
    #[test]
    fn what_runs_goes_on_if_it_would_be_let_in_now(before in any_config(), after in any_config()) {
        let logins = Arc::new(Logins::new().unwrap());
        let (before, after) = (live_with(&before, &logins), live_with(&after, &logins));
        for name in SERVERS {
            let ask = Ask::Server(name);
            let is_there = after.entry(name).is_some();
            for (slot, entry) in before.callers.iter().enumerate() {
                let of_slot = before.decide(&Identity { not_after: None, ..(*entry.identity).clone() }, &ask);
                let kept = before.entry(name).is_some_and(|server| server.admits(&before.caller(Some(slot))));
                prop_assert_eq!(kept, of_slot.is_allow());

                // With a request goes the credential that it came by.
                let caller = before.caller(Some(slot));
                let request = Admission::new(caller.as_credential(), name.into(), 0);
                let is_same = |other: &&CallerEntry| match entry.identity.proof {
                    Proof::Nothing => false,
                    // Two users may have one password.
                    Proof::Password(_) => (&other.identity.principal, other.identity.proof) == (&entry.identity.principal, entry.identity.proof),
                    _ => other.identity.proof == entry.identity.proof,
                };
                let same = after.callers.iter().find(is_same);
                let decided = match same {
                    Some(same) if same.identity.principal == entry.identity.principal => {
                        lost(after.decide(&same.identity, &ask))
                    }
                    // It is another's now.
                    Some(same) => lost(after.decide(&Identity::NOBODY, &ask)).map(|_| {
                        match same.identity.is_valid_at(after.clock.now()) {
                            true => Revocation::Grant,
                            false => Revocation::Token,
                        }
                    }),
                    None if is_there => lost(after.decide(&Identity::NOBODY, &ask)),
                    None => Some(Revocation::Server),
                };
                let decided = if is_there { decided } else { Some(Revocation::Server) };
                prop_assert_eq!(after.loss(&request), decided);

                // With a session, any credential of its principal.
                let session = Admission::new(caller.as_principal(), name.into(), 0);
                let of_name = after.callers.iter().filter(|other| other.identity.principal == entry.identity.principal);
                let all: Vec<_> = of_name.map(|other| lost(after.decide(&other.identity, &ask))).collect();
                let nobody = lost(after.decide(&Identity::NOBODY, &ask));
                let decided = match () {
                    () if !is_there => Some(Revocation::Server),
                    () if all.contains(&None) || nobody.is_none() => None,
                    () if all.contains(&Some(Revocation::Grant)) => Some(Revocation::Grant),
                    () => Some(Revocation::Token),
                };
                prop_assert_eq!(after.loss(&session), decided);
            }
            let nobody = after.caller(None);
            let decided = after.decide(&Identity::NOBODY, &ask);
            prop_assert_eq!(after.entry(name).is_some_and(|entry| entry.admits(&nobody)), decided.is_allow());
            for to in [nobody.as_credential(), nobody.as_principal()] {
                let loss = after.loss(&Admission::new(to, name.into(), 0));
                prop_assert_eq!(loss, if is_there { lost(decided.clone()) } else { Some(Revocation::Server) });
            }
        }
    }
}

#[tokio::test]
async fn a_session_token_opens_as_long_as_its_user_has_the_same_password_and_its_grant_is_not_over() {
    let live = live(&json!({
        "proxy": { "auth": { "users": {
            "u0": { "passwordHash": HASH, "roles": ["a"] },
            "t1": { "passwordHash": HASH, "disabled": true },
        } } },
        "mcpServers": { "s0": { "url": "http://127.0.0.1:1/" } },
    }));
    let now = live.clock.now();
    let user = live.user("u0").unwrap();
    let grants = live.logins.grants().unwrap();
    let fingerprint = live.fingerprint(user.slot).unwrap();
    let begun = grants.begin(&"u0".into(), fingerprint, &live.config.login_terms, now).await;
    let (issued, _) = begun.unwrap();
    let good = SessionClaims {
        user: "u0".into(),
        grant: issued.grant,
        fingerprint,
        issued: now,
        expires: issued.expires,
        grant_ends: issued.grant_ends,
    };
    let (address, opened) = (std::net::IpAddr::from([192, 0, 2, 1]).into(), RefCell::default());
    let found_by = |token: &Secret| {
        let presented = Ok(Presented::bare(token.expose().as_bytes()));
        match live.identify(&presented, address, &opened, &|| Ok(())) {
            Identified::Ready(found) => found.ok(),
            Identified::Later(_) => panic!("it is known at once"),
        }
    };
    let found = |claims: &SessionClaims| found_by(&live.logins.seal(claims).unwrap());
    let often = live.logins.seal(&good).unwrap();
    assert!(found_by(&often).is_some() && found_by(&often).is_some());
    let caller = found(&good).unwrap();
    assert_eq!(caller.identity.principal, Principal::User("u0".into()));
    assert!(caller.identity.has_role("a") && caller.identity.not_after.is_some());
    let admission = Admission::new(caller.as_credential(), "s0".into(), 0);
    assert_eq!(live.loss(&admission), None);

    let other = live.logins.fingerprint(&Secret::new("another hash".into())).unwrap();
    for bad in [
        SessionClaims { fingerprint: other, ..good.clone() },
        SessionClaims { user: "t1".into(), ..good.clone() },
        SessionClaims { user: "nobody".into(), ..good.clone() },
        SessionClaims { expires: now, ..good.clone() },
        SessionClaims { grant_ends: now, ..good.clone() },
    ] {
        assert!(found(&bad).is_none(), "{bad:?}");
    }
    grants.withdraw(issued.grant);
    assert!(found(&good).is_none() && found_by(&often).is_none());
    assert_eq!(live.loss(&admission), Some(Revocation::Token));
}

#[tokio::test]
async fn an_access_token_opens_its_place_and_what_it_began_goes_on_until_its_grant_is_over() {
    let config = |more: Value| {
        let mut config = json!({
            "proxy": {
                "baseUrl": "https://gate.example",
                "auth": {
                    "kind": "oauth",
                    "users": { "u0": { "passwordHash": HASH } },
                    "tokens": { "t0": "token-of-t0-that-is-long", "t1": { "value": "token-of-t1-that-is-long", "decoy": true } },
                    "clients": { "ops": {} },
                },
            },
            "mcpServers": { "s0": { "url": "http://127.0.0.1:1/", "tags": ["a"] }, "s1": { "url": "http://127.0.0.1:1/" } },
        });
        for (key, value) in more.as_object().unwrap() {
            config["proxy"]["auth"][key] = value.clone();
        }
        config
    };
    let logins = Arc::new(Logins::new().unwrap());
    let live = live_with(&config(json!({})), &logins);
    let now = live.clock.now();
    let user = live.user("u0").unwrap();
    let grants = live.logins.grants().unwrap();
    let fingerprint = live.fingerprint(user.slot).unwrap();
    let (issued, _) = grants.begin(&"u0".into(), fingerprint, &live.config.login_terms, now).await.unwrap();
    let good = AccessClaims {
        vouched: None,
        principal: Principal::User("u0".into()),
        grant: issued.grant,
        fingerprint,
        client_id: "ops".into(),
        resource: "https://gate.example/s0/mcp".into(),
        scope: "tag:a tag:b server:s0".into(),
        issued: now,
        expires: issued.expires,
        grant_ends: issued.grant_ends,
    };
    let address: AddressBlock = std::net::IpAddr::from([127, 0, 0, 1]).into();
    let found_in = |live: &Live, claims: &AccessClaims| {
        let token = live.logins.seal_access(claims).unwrap();
        let presented = Ok(Presented::bare(token.expose().as_bytes()));
        // Twice: opened, and known.
        let opened = RefCell::default();
        let [one, other] = [(), ()].map(|()| match live.identify(&presented, address, &opened, &|| Ok(())) {
            Identified::Ready(found) => found.ok(),
            Identified::Later(_) => panic!("it is known at once"),
        });
        let identity = |caller: &Option<Caller>| caller.as_ref().map(|caller| Arc::clone(&caller.identity));
        assert_eq!(identity(&one), identity(&other));
        one
    };
    let caller = found_in(&live, &good).unwrap();
    assert_eq!(caller.identity.principal, Principal::User("u0".into()));
    let may = |name: &str| live.entry(name).unwrap().admits(&caller);
    assert!(may("s0") && !may("s1") && !may(Server::ALL));

    let slot = |name: &str| live.slots_of(&Principal::Token(name.into()))[0];
    let of_token = |name: &str| AccessClaims {
        vouched: None,
        principal: Principal::Token(name.into()),
        fingerprint: live.fingerprint(slot(name)).unwrap(),
        ..good.clone()
    };
    assert!(found_in(&live, &of_token("t0")).is_some());
    for bad in [
        of_token("t1"),
        AccessClaims { principal: Principal::Token("t0".into()), ..good.clone() },
        AccessClaims { principal: Principal::User("none".into()), ..good.clone() },
        AccessClaims { principal: Principal::Nobody, ..good.clone() },
        AccessClaims { client_id: "gone".into(), ..good.clone() },
        AccessClaims { resource: "https://other.example/s0/mcp".into(), ..good.clone() },
        AccessClaims { expires: now, ..good.clone() },
        AccessClaims { grant_ends: now, ..good.clone() },
    ] {
        assert!(found_in(&live, &bad).is_none(), "{bad:?}");
    }

    // What it began does not ask when the token ends. Only the grant, the config and the scope count.
    let admission = Admission::new(caller.as_credential(), "s0".into(), 0);
    assert_eq!(live.loss(&admission), None);
    let other_tags = AccessClaims { scope: "tag:a tag:b".into(), ..good.clone() };
    let any = live_with(&config(json!({ "scopeTags": "any" })), &logins);
    let by_one_tag = Admission::new(found_in(&any, &other_tags).unwrap().as_credential(), "s0".into(), 0);
    assert_eq!(any.loss(&by_one_tag), None);
    assert_eq!(live.loss(&by_one_tag), Some(Revocation::Grant), "now it takes all of them");
    let without = live_with(&config(json!({ "clients": {} })), &logins);
    assert_eq!(without.loss(&admission), Some(Revocation::Token), "the client is gone");
    let off = live_with(&config(json!({ "kind": "bearer_token" })), &logins);
    assert!(found_in(&off, &good).is_none());
    assert_eq!(off.loss(&admission), Some(Revocation::Token), "nobody acts for others any more");
}

#[test]
fn a_name_counts_as_its_tokens_do_and_not_as_a_decoy_among_them() {
    let decoy = |value: &str| json!({ "value": value, "decoy": true });
    let live = live(&json!({
        "proxy": { "auth": { "tokens": {
            "ci": [decoy("a-decoy-that-is-long-enough"), "the-token-of-ci-that-is-long"],
            "bait": decoy("another-decoy-that-is-long"),
        } } },
        "mcpServers": { "s0": { "url": "http://127.0.0.1:1/" } },
    }));
    let ci = Principal::Token("ci".into());
    let (identity, owner) = (live.identity_named(&ci).unwrap(), live.owner_of(&ci).unwrap());
    let [of_decoy, of_token] = live.slots_of(&ci) else { panic!("two of one name") };
    assert!(live.callers[*of_decoy].identity.is_decoy && !identity.is_decoy);
    assert!(Arc::ptr_eq(&owner, &live.callers[*of_token].owner));
    let bait = Principal::Token("bait".into());
    assert!(live.identity_named(&bait).is_none() && live.owner_of(&bait).is_none());
}
