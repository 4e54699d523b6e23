//! From a file to typed values: texts, tokens, references.

pub(crate) mod context;
pub(crate) mod fields;
pub(crate) mod files;
pub(crate) mod known;
pub(crate) mod lexer;
pub(crate) mod lines;
pub(crate) mod named;
pub mod parse;
pub(crate) mod reader;
pub mod reference;
pub(crate) mod reserve;
pub(crate) mod syntax;
