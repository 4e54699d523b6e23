//! Whether the time of a token check says anything about the token: Welch's t-test after dudect.
//!
//! `cargo bench --bench dudect_token [-- FILTER]` prints one `max t` for each pair of classes. A value beyond ±4.5
//! is evidence of a leak; run it again before believing it, on an otherwise idle machine. The control is a check
//! that does leak: a value near zero there means that the machine is too noisy to tell.
//!
//! The two classes differ in nothing but what the check makes of them. Both are drawn from as many strings as the
//! table has tokens, equally long, laid out alike in memory, and copied to the same place before the clock starts.
//! Where a string's buckets lie makes its check a little faster or slower than another's, under a key that nobody
//! knows. So that this luck of the draw is not taken for a difference between classes, tokens and key change often.

use std::{hint::black_box, io};

use dudect_bencher::{
    BenchRng, Class, CtRunner,
    ctbench::{BenchMetadata, BenchName, BenchOpts, run_benches_console},
    rand::{Rng, RngExt},
};
use sha2::{Digest, Sha256};
use sluicegate::{
    config::{CallerLimits, Credential},
    identity::token_table::TokenTable,
};

const ROUNDS: usize = 500;
const SAMPLES_PER_ROUND: usize = 4_000;

/// Length of 32 random bytes in base64url.
const LENGTH: usize = 43;
type Token = [u8; LENGTH];

/// Each has a cache line to itself: packed, those of one class may straddle two, which shows as a difference in time
/// even between two kinds of misses, in every sixth process or so.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Guess(Token);

fn random_token(rng: &mut BenchRng) -> Token {
    let mut token = [0; LENGTH];
    rng.fill_bytes(&mut token);
    token
}

/// The last byte is wrong, and all before it is right.
fn near(known: &Token) -> Token {
    let mut guess = *known;
    guess[LENGTH - 1] ^= 1;
    guess
}

fn table(known: &[Token]) -> TokenTable {
    let credential = |token: &Token| Credential {
        token_name: "bench".into(),
        is_tenant: false,
        id: None,
        digest: Sha256::digest(token).into(),
        expires: None,
        roles: vec![],
        decoy: false,
        limits: CallerLimits::ALL,
    };
    TokenTable::build(&known.iter().map(credential).collect::<Vec<_>>())
}

/// Times `check`, made anew for each round's tokens, on strings that `left` derives from the tokens and on random ones.
fn compare<Check: Fn(&[u8]) -> Option<usize>>(
    runner: &mut CtRunner,
    rng: &mut BenchRng,
    tokens: usize,
    left: fn(&Token) -> Token,
    check: fn(Vec<Token>) -> Check,
) {
    for _ in 0..ROUNDS {
        let known: Vec<_> = (0..tokens).map(|_| random_token(rng)).collect();
        let guesses: Vec<_> =
            known.iter().map(|token| [Guess(left(token)), Guess(random_token(rng))]).collect();
        let check = check(known);
        // Building the table left the buckets of the known tokens in the cache, and few others.
        for guess in guesses.as_flattened() {
            black_box(check(&guess.0));
        }
        for _ in 0..SAMPLES_PER_ROUND {
            let side = usize::from(rng.random::<bool>());
            let class = [Class::Left, Class::Right][side];
            let presented = black_box(guesses[rng.random_range(0..tokens)][side]);
            runner.run_one(class, || check(black_box(&presented.0)));
        }
    }
}

fn check(known: Vec<Token>) -> impl Fn(&[u8]) -> Option<usize> {
    let table = table(&known);
    move |presented| table.find(presented)
}

fn leaking_check(known: Vec<Token>) -> impl Fn(&[u8]) -> Option<usize> {
    move |presented| known.iter().position(|token| token.iter().eq(presented))
}

fn hit_or_miss<const TOKENS: usize>(runner: &mut CtRunner, rng: &mut BenchRng) {
    compare(runner, rng, TOKENS, |token| *token, check);
}

fn near_or_far<const TOKENS: usize>(runner: &mut CtRunner, rng: &mut BenchRng) {
    compare(runner, rng, TOKENS, near, check);
}

fn control(runner: &mut CtRunner, rng: &mut BenchRng) {
    compare(runner, rng, 1, near, leaking_check);
}

fn main() -> io::Result<()> {
    let bench = |name, benchfn| BenchMetadata { name: BenchName(name), seed: None, benchfn };
    // cargo adds `--bench`, which the tool's own command line would refuse.
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    run_benches_console(
        BenchOpts { filter, ..BenchOpts::default() },
        vec![
            bench("control_that_leaks", control),
            bench("hit_or_miss_1_token", hit_or_miss::<1>),
            bench("hit_or_miss_1000_tokens", hit_or_miss::<1000>),
            bench("near_or_far_1_token", near_or_far::<1>),
            bench("near_or_far_1000_tokens", near_or_far::<1000>),
        ],
    )
}
