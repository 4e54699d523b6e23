//! Whether the time in which a token of the gateway's own is opened or compared says anything about it: Welch's t-test after
//! dudect, as in `dudect_token`.
//!
//! `cargo bench --bench dudect_login [-- FILTER]`. One class differs from a good token in its last byte, the other in all that
//! proves it; both are as long, and name the same key, or the same grant.

use std::{hint::black_box, io, time::SystemTime};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use dudect_bencher::{
    BenchRng, Class, CtRunner,
    ctbench::{BenchMetadata, BenchName, BenchOpts, run_benches_console},
    rand::{Rng, RngExt},
};
use sluicegate::{
    identity::login::{
        fingerprint::Fingerprint,
        grant_id::GrantId,
        keys::Keys,
        refresh_token::{GrantSecret, RefreshToken},
        session_token::{SessionClaims, TokenSealer},
    },
    secret::Secret,
};

const ROUNDS: usize = 500;
const SAMPLES_PER_ROUND: usize = 20_000;
const TOKENS: usize = 16;

/// `good` with another last byte, and with all of its last `proof` bytes drawn anew.
fn guesses(good: &Secret, proof: usize, rng: &mut BenchRng) -> [String; 2] {
    let (prefix, encoded) = good.expose().split_at(4);
    let Ok(bytes) = URL_SAFE_NO_PAD.decode(encoded) else { return Default::default() };
    let (mut near, mut far) = (bytes.clone(), bytes);
    if let Some(last) = near.last_mut() {
        *last ^= 1;
    }
    let begin = far.len() - proof;
    rng.fill_bytes(&mut far[begin..]);
    [near, far].map(|bytes| format!("{prefix}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

fn compare(runner: &mut CtRunner, rng: &mut BenchRng, guesses: &[[String; 2]], check: impl Fn(&str) -> bool) {
    for guess in guesses.as_flattened() {
        assert!(!black_box(check(guess)));
    }
    // To one place before the clock starts, so that neither class is nearer.
    let mut presented = String::with_capacity(1024);
    for _ in 0..SAMPLES_PER_ROUND {
        let side = usize::from(rng.random::<bool>());
        presented.clear();
        presented.push_str(&guesses[rng.random_range(0..guesses.len())][side]);
        runner.run_one([Class::Left, Class::Right][side], || check(black_box(&presented)));
    }
}

fn refresh_token(runner: &mut CtRunner, rng: &mut BenchRng) {
    for _ in 0..ROUNDS {
        let Ok(secret) = GrantSecret::random() else { return };
        let grant = GrantId::new(rng.random());
        let made: Vec<_> = (0..TOKENS as u32)
            .map(|generation| guesses(&RefreshToken::make(grant, generation, &secret), 32, rng))
            .collect();
        compare(runner, rng, &made, |text| {
            RefreshToken::parse(text).is_some_and(|token| token.is_of(&secret))
        });
    }
}

fn session_token(runner: &mut CtRunner, rng: &mut BenchRng) {
    for _ in 0..ROUNDS {
        let Ok(keys) = Keys::random() else { return };
        let (Ok(sealer), Ok(fingerprint)) = (TokenSealer::new(&keys), Fingerprint::of(&keys, "hash")) else {
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

fn main() -> io::Result<()> {
    let bench = |name, benchfn| BenchMetadata { name: BenchName(name), seed: None, benchfn };
    // cargo adds `--bench`, which the tool's own command line would refuse.
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    run_benches_console(
        BenchOpts { filter, ..BenchOpts::default() },
        vec![
            bench("refresh_token_near_or_far", refresh_token),
            bench("session_token_near_or_far", session_token),
        ],
    )
}
