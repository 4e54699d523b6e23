//! What each fuzz target does with one input, and what must hold then.
//!
//! libFuzzer calls these functions from `fuzz_targets/`; `cargo test` calls them with the committed corpora, from
//! `tests/fuzz_corpus.rs`. Each has an oracle: a slow reference, another parser, or the same input cut elsewhere.

pub mod accept;
pub mod challenge;
pub mod chunked;
pub mod config_load;
pub mod config_parse;
pub mod endpoint;
pub mod event_reference;
pub mod foreign_token;
pub mod json;
pub mod message;
pub mod oauth_client;
pub mod path;
pub mod relay;
pub mod session;
pub mod sse;
pub mod tool_filter;

/// A function that panics if something is wrong.
pub type Target = fn(&[u8]);

/// All targets, by their names.
pub const TARGETS: &[(&str, Target)] = &[
    ("accept", accept::run),
    ("challenge", challenge::run),
    ("chunked", chunked::run),
    ("config_load", config_load::run),
    ("config_parse", config_parse::run),
    ("endpoint", endpoint::run),
    ("foreign_token", foreign_token::run),
    ("json", json::run),
    ("message", message::run),
    ("oauth_client", oauth_client::run),
    ("path", path::run),
    ("relay", relay::run),
    ("session", session::run),
    ("sse", sse::run),
    ("tool_filter", tool_filter::run),
];

/// The ways in which an input is cut into pieces: not at all, behind each byte, and in two. Where those two meet, the
/// fuzzer chooses.
pub fn cuts(input: &[u8], at: u8) -> [Vec<&[u8]>; 3] {
    let (front, back) = input.split_at(usize::from(at) % (input.len() + 1));
    [vec![input], input.chunks(1).collect(), vec![front, back]]
}
