//! What the timing tests share: guesses that differ from something good in its last byte or in all that proves it, and how they are
//! timed, at a function and at a gateway that is asked over loopback.

#![allow(dead_code, reason = "each of the benches takes what it needs")]
#![allow(unreachable_pub, reason = "a bench has no outside; pub says what it shares")]

use std::{
    cell::RefCell,
    hint::black_box,
    io::{self, Read as _, Write as _},
    net::TcpStream,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use dudect_bencher::{
    BenchRng, Class, CtRunner,
    ctbench::{BenchMetadata, BenchName, BenchOpts, run_benches_console},
    rand::{Rng, RngExt},
};
use sluicegate::secret::Secret;
use test_support::bench::Gate;

pub const ROUNDS: usize = 500;
const SAMPLES_PER_ROUND: usize = 20_000;
/// Good ones in each round.
pub const TOKENS: usize = 16;
/// Rounds at the endpoints, each with a gateway of its own, which has seen nobody yet.
pub const GATES: usize = 13;
/// Requests of each kind.
pub const USERS: usize = 512;
/// Attempts by each: with more at a name, it would be slowed.
pub const ATTEMPTS: usize = 8;

/// One of the tests.
pub type Timed = fn(&mut CtRunner, &mut BenchRng);

/// Runs those that the command line asks for.
pub fn run(all: Vec<(&'static str, Timed)>) -> io::Result<()> {
    // cargo adds `--bench`, which the tool's own command line would refuse.
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let bench = |(name, benchfn)| BenchMetadata { name: BenchName(name), seed: None, benchfn };
    run_benches_console(BenchOpts { filter, ..BenchOpts::default() }, all.into_iter().map(bench).collect())
}

/// `good` with another last byte, and with all of its last `proof` bytes drawn anew.
pub fn guesses(good: &Secret, proof: usize, rng: &mut BenchRng) -> [String; 2] {
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

pub fn compare(
    runner: &mut CtRunner,
    rng: &mut BenchRng,
    guesses: &[[String; 2]],
    check: impl Fn(&str) -> bool,
) {
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

/// A connection to a gateway.
pub struct Wire {
    stream: TcpStream,
    answer: RefCell<Vec<u8>>,
}

impl Wire {
    pub fn open(gate: &Gate) -> io::Result<Self> {
        let stream = TcpStream::connect(gate.addr())?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: RefCell::default() })
    }

    /// Sends a request and awaits all of its answer.
    pub fn exchange(&self, request: &[u8]) {
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

    /// All of the last answer.
    pub fn answer(&self) -> String {
        String::from_utf8_lossy(&self.answer.borrow()).into_owned()
    }

    /// The body of the last answer.
    pub fn body(&self) -> String {
        let answer = self.answer();
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }
}

fn is_complete(answer: &[u8]) -> bool {
    let text = std::str::from_utf8(answer).unwrap_or_default().to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.and_then(|length| length.parse().ok()).is_none_or(|length: usize| body.len() >= length)
}

/// Times the two kinds of requests in turns that nobody could foresee, each request of each kind as often as the others. All of them
/// are refused.
pub fn ask(
    runner: &mut CtRunner,
    rng: &mut BenchRng,
    wire: &Wire,
    kinds: &[Vec<String>; 2],
    is_refused: impl Fn(&str) -> bool,
) {
    let mut order: Vec<_> = (0..USERS * ATTEMPTS).flat_map(|number| [(0, number), (1, number)]).collect();
    for at in (1..order.len()).rev() {
        order.swap(at, rng.random_range(0..=at));
    }
    let mut request = Vec::with_capacity(4096);
    for (kind, number) in order {
        request.clear();
        request.extend_from_slice(kinds[kind][number % kinds[kind].len()].as_bytes());
        runner.run_one([Class::Left, Class::Right][kind], || wire.exchange(black_box(&request)));
        let answer = wire.answer();
        assert!(is_refused(&answer), "{answer}");
    }
}
