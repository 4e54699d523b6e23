//! What is reported about a config: problems, excerpts, hints, the schema.

pub(crate) mod excerpt;
pub(crate) mod foreign;
pub(crate) mod hint;
pub(crate) mod mistaken;
pub mod problem;
pub(crate) mod redacted;
pub mod schema;
#[cfg(test)]
pub(crate) mod schema_tests;
pub(crate) mod shown;
