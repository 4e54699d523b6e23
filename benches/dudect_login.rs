//! Whether the time in which a token of the gateway's own is opened or compared says anything about it: Welch's t-test after
//! dudect, as in `dudect_token`.
//!
//! `cargo bench --bench dudect_login [-- FILTER]`. One class differs from a good token in its last byte, the other in all that
//! proves it; both are as long, and name the same key, or the same grant.
//!
//! The same of a gateway that is asked over loopback: a refresh token that is wrong in its last byte against one that no login
//! ever had, and a user's name against one that there is not.

mod timing;

use std::{io, time::SystemTime};

use dudect_bencher::{BenchRng, CtRunner, rand::RngExt};
use sluicegate::{
    identity::login::{
        fingerprint::Fingerprint,
        grant_id::GrantId,
        grants::KindTag,
        keys::Keys,
        refresh_token::{GrantKey, RefreshToken},
        sealed_token::TokenSealer,
        session_token::SessionClaims,
    },
    secret::Secret,
};
use test_support::{
    bench::Gate,
    users::{CHEAP_HASHES, PASSWORD, bare, login},
};
use timing::{GATES, ROUNDS, TOKENS, USERS, Wire, ask, compare, guesses, run};

fn refresh_token(runner: &mut CtRunner, rng: &mut BenchRng) {
    for _ in 0..ROUNDS {
        let Ok(Ok(key)) = Keys::random().map(|keys| GrantKey::new(&keys)) else { return };
        let grant = GrantId::new(rng.random());
        let made: Vec<_> = (0..TOKENS as u32)
            .map(|generation| guesses(&key.make(KindTag::Session, grant, generation), 32, rng))
            .collect();
        compare(runner, rng, &made, |text| {
            RefreshToken::parse(text).is_some_and(|token| key.has_made(KindTag::Session, &token))
        });
    }
}

fn session_token(runner: &mut CtRunner, rng: &mut BenchRng) {
    for _ in 0..ROUNDS {
        let Ok(keys) = Keys::random() else { return };
        let (Ok(sealer), Ok(fingerprint)) =
            (TokenSealer::<SessionClaims>::new(&keys), Fingerprint::of(&keys, "hash"))
        else {
            return;
        };
        let now = SystemTime::now();
        let claims = SessionClaims {
            user: "alice".into(),
            grant: GrantId::new(rng.random()),
            fingerprint,
            issued: now,
            expires: now,
            grant_ends: now,
        };
        let made: Vec<_> = (0..TOKENS)
            .filter_map(|_| sealer.seal(&claims).ok())
            .map(|token| guesses(&token, 16, rng))
            .collect();
        compare(runner, rng, &made, |text| sealer.opened(text.as_bytes()).is_some());
    }
}

/// Bytes of a refresh token: grant, generation, proof.
const WHOLE: usize = 16 + 4 + 32;

/// Whether a request was refused for what it showed.
fn is_refused(answer: &str) -> bool {
    answer.contains("\"invalid_")
}

fn gate(names: &[String]) -> Gate {
    let user = |name: &String| (name.clone(), serde_json::json!({ "passwordHash": CHEAP_HASHES[0] }));
    let users: serde_json::Map<_, _> = names.iter().map(user).collect();
    Gate::start_with(serde_json::json!({}), serde_json::json!({ "users": users }))
}

fn names(rng: &mut BenchRng) -> Vec<String> {
    (0..USERS).map(|_| format!("user-{:016x}", rng.random::<u64>())).collect()
}

fn login_endpoint(runner: &mut CtRunner, rng: &mut BenchRng) {
    for _ in 0..GATES {
        let (known, unknown) = (names(rng), names(rng));
        let gate = gate(&known);
        let Ok(wire) = Wire::open(&gate) else { return };
        let kinds =
            [&known, &unknown].map(|names| names.iter().map(|name| login(name, "a wrong one")).collect());
        ask(runner, rng, &wire, &kinds, is_refused);
    }
}

fn refresh_endpoint(runner: &mut CtRunner, rng: &mut BenchRng) {
    for _ in 0..GATES {
        // Many: a token that was never made is refused before any login is looked for, so that it does not matter whether the
        // processor's caches have what there is of it.
        let known = &names(rng)[..];
        let gate = gate(known);
        let Ok(wire) = Wire::open(&gate) else { return };
        let mut kinds = [Vec::new(), Vec::new()];
        for name in known {
            wire.exchange(login(name, PASSWORD).as_bytes());
            let answer: serde_json::Value = serde_json::from_str(&wire.body()).unwrap_or_default();
            let good = Secret::new(answer["refreshToken"].as_str().unwrap_or_default().into());
            let [near, _] = guesses(&good, 32, rng);
            let [_, none] = guesses(&good, WHOLE, rng);
            for (kind, token) in kinds.iter_mut().zip([near, none]) {
                kind.push(bare("/auth/refresh", &serde_json::json!({ "refreshToken": token })));
            }
        }
        ask(runner, rng, &wire, &kinds, is_refused);
    }
}

fn main() -> io::Result<()> {
    run(vec![
        ("refresh_token_near_or_far", refresh_token),
        ("session_token_near_or_far", session_token),
        ("refresh_endpoint_near_or_unknown", refresh_endpoint),
        ("login_endpoint_known_or_unknown", login_endpoint),
    ])
}
