//! Whether the time in which a token of the gateway's own is opened or compared says anything about it: Welch's t-test after
//! dudect, as in `dudect_token`.
//!
//! `cargo bench --bench dudect_login [-- FILTER]`. One class differs from a good token in its last byte, the other in all that
//! proves it; both are as long, and name the same key, or the same grant.
//!
//! The same of a gateway that is asked over loopback: a refresh token that is wrong in its last byte against one that no login
//! ever had, and a user's name against one that there is not.

use std::{
    cell::RefCell,
    hint::black_box,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    time::SystemTime,
};

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

/// Rounds at the endpoints, each with a gateway of its own, which has seen nobody yet.
const GATES: usize = 13;
const USERS: usize = 512;
/// Bytes of a refresh token: grant, generation, proof.
const WHOLE: usize = 16 + 4 + 32;
/// Attempts at one name: with more, it would be slowed.
const ATTEMPTS: usize = 8;

/// A connection to a gateway.
struct Wire {
    stream: TcpStream,
    answer: RefCell<Vec<u8>>,
}

impl Wire {
    fn open(gate: &Gate) -> io::Result<Self> {
        let stream = TcpStream::connect(gate.addr())?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: RefCell::default() })
    }

    /// Sends a request and awaits all of its answer.
    fn exchange(&self, request: &[u8]) {
        let mut answer = self.answer.borrow_mut();
        answer.clear();
        let mut stream = &self.stream;
        assert!(stream.write_all(request).is_ok());
        let mut piece = [0; 4096];
        while !is_complete(&answer) {
            let length = stream.read(&mut piece).unwrap_or_default();
            assert!(length > 0, "the gateway hung up");
            answer.extend_from_slice(&piece[..length]);
        }
    }

    fn body(&self) -> String {
        let answer = self.answer.borrow();
        String::from_utf8_lossy(&answer)
            .split_once("\r\n\r\n")
            .map(|(_, body)| body.to_owned())
            .unwrap_or_default()
    }
}

fn is_complete(answer: &[u8]) -> bool {
    let text = std::str::from_utf8(answer).unwrap_or_default().to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.and_then(|length| length.parse().ok()).is_none_or(|length: usize| body.len() >= length)
}

/// Times the two kinds of requests in turns that nobody could foresee, each request of each kind as often as the others.
fn ask(runner: &mut CtRunner, rng: &mut BenchRng, wire: &Wire, kinds: &[Vec<String>; 2]) {
    let mut order: Vec<_> = (0..USERS * ATTEMPTS).flat_map(|number| [(0, number), (1, number)]).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, rng.random_range(0..=at));
    }
    let mut request = Vec::with_capacity(4096);
    for (kind, number) in order {
        request.clear();
        request.extend_from_slice(kinds[kind][number % kinds[kind].len()].as_bytes());
        runner.run_one([Class::Left, Class::Right][kind], || wire.exchange(black_box(&request)));
        let body = wire.body();
        assert!(body.contains("\"invalid_"), "{body}");
    }
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
        ask(runner, rng, &wire, &kinds);
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
        ask(runner, rng, &wire, &kinds);
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
            bench("refresh_endpoint_near_or_unknown", refresh_endpoint),
            bench("login_endpoint_known_or_unknown", login_endpoint),
        ],
    )
}
