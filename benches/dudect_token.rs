//! Whether the time of a token check says anything about the token: Welch's t-test after dudect.
//!
//! `cargo bench --bench dudect_token [-- FILTER]` prints one `max t` for each pair of classes. A value beyond ±4.5
//! is evidence of a leak; run it again before believing it, on an otherwise idle machine.
//!
//! The two classes differ in nothing but what the check makes of them. Each is drawn from a pool of as many
//! strings as the table has tokens, equally long, and copied to the same place before the clock starts.

use std::{hint::black_box, io};

use dudect_bencher::{
    BenchRng, Class, CtRunner,
    ctbench::{BenchMetadata, BenchName, BenchOpts, run_benches_console},
    rand::{Rng, RngExt},
};
use sha2::{Digest, Sha256};
use sluicegate::{auth::TokenTable, config::Credential};

const SAMPLES: usize = 2_000_000;

/// Length of 32 random bytes in base64url.
type Token = [u8; 43];

fn random_tokens(count: usize, rng: &mut BenchRng) -> Vec<Token> {
    (0..count)
        .map(|_| {
            let mut token = [0; 43];
            rng.fill_bytes(&mut token);
            token
        })
        .collect()
}

/// The last byte is wrong, and all before it is right.
fn near(known: &[Token]) -> Vec<Token> {
    let mut guesses = known.to_vec();
    for guess in &mut guesses {
        guess[42] ^= 1;
    }
    guesses
}

fn table(known: &[Token]) -> TokenTable {
    let credential = |token: &Token| Credential {
        token_name: "bench".into(),
        position: 1,
        digest: Sha256::digest(token).into(),
        expires: None,
        roles: vec![],
        tags: vec![],
    };
    TokenTable::build(&known.iter().map(credential).collect::<Vec<_>>())
}

fn compare(runner: &mut CtRunner, rng: &mut BenchRng, known: &[Token], left: &[Token], right: &[Token]) {
    assert_eq!(left.len(), right.len());
    let table = table(known);
    let pools = [left, right];
    let mut presented = [0; 43];
    for _ in 0..SAMPLES {
        let side = usize::from(rng.random::<bool>());
        presented = black_box(pools[side][rng.random_range(0..left.len())]);
        let class = [Class::Left, Class::Right][side];
        runner.run_one(class, || table.find(black_box(&presented)));
    }
    black_box(presented);
}

fn hit_or_miss<const TOKENS: usize>(runner: &mut CtRunner, rng: &mut BenchRng) {
    let known = random_tokens(TOKENS, rng);
    let unknown = random_tokens(TOKENS, rng);
    compare(runner, rng, &known, &known, &unknown);
}

fn near_or_far<const TOKENS: usize>(runner: &mut CtRunner, rng: &mut BenchRng) {
    let known = random_tokens(TOKENS, rng);
    let far = random_tokens(TOKENS, rng);
    compare(runner, rng, &known, &near(&known), &far);
}

fn main() -> io::Result<()> {
    let bench = |name, benchfn| BenchMetadata { name: BenchName(name), seed: None, benchfn };
    // cargo adds `--bench`, which the tool's own command line would refuse.
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    run_benches_console(
        BenchOpts { filter, ..BenchOpts::default() },
        vec![
            bench("hit_or_miss_1_token", hit_or_miss::<1>),
            bench("hit_or_miss_1000_tokens", hit_or_miss::<1000>),
            bench("near_or_far_1_token", near_or_far::<1>),
            bench("near_or_far_1000_tokens", near_or_far::<1000>),
        ],
    )
}
